// Echocore is the echo server of Python's asyncore documentation, without the conversation layer: a listener of package
// core, whose connections are channels of package buffered.
//
//	go run ./examples/echocore -listen 127.0.0.1:8080
//	nc 127.0.0.1 8080
//
// In Python's words: echoServer is the asyncore.dispatcher that listens, echoHandler an asyncore.dispatcher_with_send.
package main

import (
	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/examples/internal/cli"
)

// echoHandler sends back what it receives. It has no state, so all connections share one.
type echoHandler struct{}

// HandleRead is called when there is something to receive. There are no lines here: data is what one read gave, cut
// anywhere. For an echo that does not matter; examples/echo shows what it takes where it does.
//
// Send never falls short: what the socket does not take is queued, and while too much is queued the peer is not read from.
// The error of a Recv is handed back to the loop, which knows what to do about it: at the end of the input it has the
// queue sent and closes the channel.
func (echoHandler) HandleRead(d *buffered.Dispatcher) error {
	data, err := d.RecvShared()
	if err != nil {
		return err
	}
	_, err = d.Send(data)
	return err
}

// echoServer accepts connections.
type echoServer struct{}

// HandleAccepted is called with each new connection. An error closes that connection, never the listener.
func (echoServer) HandleAccepted(l *core.Listener, s core.Socket) error {
	l.Loop().Logger().Info("incoming connection", "from", s.RemoteAddr())
	_, err := buffered.Attach(l.Loop(), s, echoHandler{})
	return err
}

func main() {
	fs := cli.Flags(`echocore [flags]

Echoes whatever arrives, without a conversation layer. SIGINT and SIGTERM end it.`)
	listen := fs.String("listen", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	backend := fs.String("backend", "auto", "auto, select, poll, epoll or kqueue")
	cli.Parse(fs, 0)

	loop, err := cli.NewLoop(*backend)
	if err != nil {
		cli.Exit(err)
	}
	ln, err := core.Listen(loop, "tcp", *listen, echoServer{})
	if err != nil {
		cli.Exit(err)
	}
	cli.Listening(ln.Addr())
	cli.Exit(cli.Serve(loop))
}

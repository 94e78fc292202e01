package tlslayer_test

import (
	"crypto/tls"
	"fmt"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/core/tlslayer"
)

// greeter is a handler that wants to know when the connection is secured.
type greeter struct {
	chat.Buffer
	name string
}

func (g *greeter) HandleSecure(c *chat.Conn, state tls.ConnectionState) error {
	fmt.Printf("%s: %s, resumed: %t\n", g.name, tls.VersionName(state.Version), state.DidResume)
	return nil
}

func (g *greeter) FoundTerminator(c *chat.Conn) error {
	fmt.Printf("%s: %s\n", g.name, g.Take())
	c.CloseWhenDone()
	return nil
}

// Both ends in one loop, in a simulated network.
func Example() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	server, client := configs(tls.VersionTLS13)
	talk := func(name, text string) func(*chat.Conn) chat.Handler {
		return func(c *chat.Conn) chat.Handler {
			c.SetTerminator(chat.Line)
			_ = c.PushString(text) // waits for the handshake
			return &greeter{name: name}
		}
	}
	if _, err := chat.ListenTLS(loop, "tcp", "server:7", server, talk("server", "welcome\n")); err != nil {
		fmt.Println(err)
	}
	if _, err := chat.DialTLS(loop, "tcp", "server:7", client, talk("client", "hello\n")); err != nil {
		fmt.Println(err)
	}
	w.Settle()
	// Output:
	// client: TLS 1.3, resumed: false
	// server: TLS 1.3, resumed: false
	// client: welcome
	// server: hello
}

// A layer with settings of its own.
func ExampleLayer() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	server, _ := configs(tls.VersionTLS13)
	sock, peer := w.Pair()
	layer := tlslayer.Server(sock, server)
	layer.SetOffLoop(true) // public-key work on another goroutine
	_, err := core.Attach(loop, layer, &core.Funcs{
		Read:  func(d *core.Dispatcher) error { _, err := d.RecvShared(); return err },
		Close: func(_ *core.Dispatcher, cause error) { fmt.Println(cause) },
	})
	if err != nil {
		fmt.Println(err)
	}
	peer.Say("GET / HTTP/1.1\r\n\r\n")
	w.Settle()
	// Output: tlslayer: handshake failed: tls: first record does not look like a TLS handshake
}

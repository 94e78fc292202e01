package chat

import (
	"os"

	"github.com/parley-go/parley/core"
)

// StdioConn begins a conversation with whoever is on standard input and output: a terminal, a pipe, a file. See FilesConn.
func StdioConn(l *core.Loop, newHandler func(*Conn) Handler) (*Conn, error) {
	return FilesConn(l, os.Stdin, os.Stdout, newHandler)
}

// FilesConn begins a conversation whose input is one file and whose output is another. Both are duplicated, and put back
// into the mode that they were in when the conversation closes: see core.OpenFile.
func FilesConn(l *core.Loop, in, out *os.File, newHandler func(*Conn) Handler) (*Conn, error) {
	r, err := core.FileSocket(in)
	if err != nil {
		return nil, err
	}
	w, err := core.FileSocket(out)
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	s := &filesSocket{Socket: r, out: w}
	c, err := Attach(l, s, newHandler)
	if err != nil {
		_ = s.Close()
	}
	return c, err
}

// filesSocket is a socket of two descriptors: the poller knows the input as this channel's and the output as another
// one's, which has only write interest and passes readiness on.
type filesSocket struct {
	core.Socket // input
	out         core.Socket
	writer      *core.Dispatcher
}

// Attached gives the output a channel of its own.
func (s *filesSocket) Attached(d *core.Dispatcher) {
	w, err := core.Attach(d.Loop(), s.out, &core.Funcs{
		Write: func(w *core.Dispatcher) error {
			w.WantWrite(false)
			d.Requeue(core.Write)
			return nil
		},
		Shutdown: func(*core.Dispatcher) error { return nil }, // it closes with the conversation, which may have to flush
	})
	if err != nil {
		d.CloseWith(err)
		return
	}
	s.writer = w
}

func (s *filesSocket) Send(p []byte) (int, error) { return s.out.Send(p) }
func (s *filesSocket) CloseWrite() error          { return core.ErrUnsupported }

func (s *filesSocket) Close() error {
	if s.writer != nil {
		_ = s.writer.Close()
	} else {
		_ = s.out.Close()
	}
	return s.Socket.Close()
}

// Interest asks the output's channel for room.
func (s *filesSocket) Interest(want core.Interest) core.Interest {
	if s.writer != nil {
		s.writer.WantWrite(want&core.Write != 0)
	}
	return want &^ core.Write
}

func (s *filesSocket) Ready(got core.Interest) core.Interest { return got }
func (s *filesSocket) Pending() bool                         { return false }
func (s *filesSocket) Inner() core.Socket                    { return s.Socket }

package room

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// ErrServerClosed is what Client.Err returns when the server ended the conversation and nobody had asked for that.
var ErrServerClosed = errors.New("the server closed the connection")

// Client is a person's end: a conversation with a server and one with a terminal, on one loop. Lines that are typed go to the
// server, lines that come are shown, through Clean. When one side is slow to take them, the other one is not read from.
//
//	client := &room.Client{OpenTerminal: func(newHandler func(*chat.Conn) chat.Handler) (*chat.Conn, error) {
//		return chat.StdioConn(loop, newHandler)
//	}}
//	chat.Dial(loop, "tcp", "localhost:6667", client.Server)
//
// The end of the terminal's input ends our side of the connection; what the server has still to say is shown until it
// closes. The conversation is over when /quit was typed, when the input has ended, or when the loop shuts down, and the
// server has closed.
type Client struct {
	// Nick, if not "", is the first line that is sent.
	Nick string

	// OpenTerminal makes the terminal's conversation, with a handler of newHandler's. It is called when the connection is
	// there.
	OpenTerminal func(newHandler func(*chat.Conn) chat.Handler) (*chat.Conn, error)

	server, terminal *chat.Conn
	asked            bool // the end was
	err              error
}

// Server is a newHandler, for chat.Dial: it begins the conversation.
func (cl *Client) Server(c *chat.Conn) chat.Handler {
	cl.server = c
	c.SetTerminator(chat.Line)
	return &serverSide{Client: cl}
}

// Err returns why the conversation ended, once it has: nil if that was asked for; ErrServerClosed; why there is no
// connection, or no more.
func (cl *Client) Err() error { return cl.err }

// serverSide is the conversation with the server.
type serverSide struct {
	chat.Buffer
	*Client
	connected bool
}

func (s *serverSide) HandleConnect(c *chat.Conn) error {
	s.connected = true
	terminal, err := s.OpenTerminal(func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.Line)
		return &terminalSide{Client: s.Client}
	})
	if err != nil {
		return c.CloseWith(fmt.Errorf("no terminal: %w", err))
	}
	s.terminal = terminal
	if s.Nick != "" {
		return c.Printf("%s\r\n", s.Nick)
	}
	return nil
}

// FoundTerminator shows a line.
func (s *serverSide) FoundTerminator(*chat.Conn) error {
	s.show()
	return nil
}

// show shows what was collected. The terminal may be gone already; then nobody looks.
func (s *serverSide) show() {
	_ = s.terminal.PushString(Clean(string(s.Take())) + "\n")
}

// HandleTooLong shows the beginning of the line.
func (s *serverSide) HandleTooLong(c *chat.Conn) error {
	c.SkipToken()
	return nil
}

// HandleEOF: a last line may have no end.
func (s *serverSide) HandleEOF(c *chat.Conn) error {
	if len(s.Collected()) > 0 {
		s.show()
	}
	return c.CloseWith(io.EOF)
}

// HandleHigh: the server is slow.
func (s *serverSide) HandleHigh(*chat.Conn) error {
	s.terminal.Pause()
	return nil
}

func (s *serverSide) HandleLow(*chat.Conn) error {
	s.terminal.Resume()
	return nil
}

// HandleShutdown: whoever wants to go does not wait for the server.
func (s *serverSide) HandleShutdown(c *chat.Conn) error { return c.CloseWith(core.ErrShutdown) }

func (s *serverSide) HandleClose(_ *chat.Conn, cause error) {
	switch {
	case s.err != nil, cause == nil, errors.Is(cause, core.ErrShutdown):
	case errors.Is(cause, io.EOF):
		if !s.asked {
			s.err = ErrServerClosed
		}
	case !s.connected:
		s.err = cause
	default:
		s.err = fmt.Errorf("connection lost: %w", cause)
	}
	if s.terminal != nil {
		s.terminal.CloseWhenDone()
	}
}

// terminalSide is the conversation with the person.
type terminalSide struct {
	chat.Buffer
	*Client
}

// FoundTerminator sends a line.
func (t *terminalSide) FoundTerminator(*chat.Conn) error {
	line := string(t.Take())
	if command, _ := parse(strings.TrimSpace(line)); command == "quit" {
		t.asked = true
	}
	_ = t.server.PushString(line + "\r\n") // if it is gone, HandleClose is on its way
	return nil
}

// HandleTooLong sends the beginning of the line; the server has an opinion on it.
func (t *terminalSide) HandleTooLong(c *chat.Conn) error {
	c.SkipToken()
	return nil
}

// HandleEOF ends our side when everything that was typed is sent.
func (t *terminalSide) HandleEOF(c *chat.Conn) error {
	if line := t.Take(); len(line) > 0 { // what was typed last needs no end
		_ = t.server.PushString(string(line) + "\r\n")
	}
	t.asked = true
	_ = t.server.CloseWrite()
	return nil
}

// HandleHigh: the terminal is slow.
func (t *terminalSide) HandleHigh(*chat.Conn) error {
	t.server.Pause()
	return nil
}

func (t *terminalSide) HandleLow(*chat.Conn) error {
	t.server.Resume()
	return nil
}

func (t *terminalSide) HandleShutdown(c *chat.Conn) error {
	c.CloseWhenDoneWith(core.ErrShutdown)
	return nil
}

// HandleClose: without a terminal there is nobody to talk with.
func (t *terminalSide) HandleClose(_ *chat.Conn, cause error) {
	if cause != nil && !errors.Is(cause, core.ErrShutdown) && !t.server.Closed() {
		t.err = fmt.Errorf("terminal lost: %w", cause)
	}
	_ = t.server.Close()
}

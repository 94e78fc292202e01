// Package echo holds the smallest protocols there are.
package echo

import (
	"github.com/parley-go/parley/chat"
)

// Lines returns a newHandler, for chat.Listen, whose conversations echo each line that ends in "\n", byte for byte, a "\r"
// before it included. A line longer than limit ends the connection with core.ErrTooLong.
func Lines(limit int) func(*chat.Conn) chat.Handler {
	return func(c *chat.Conn) chat.Handler {
		c.SetLimit(limit)
		c.SetTerminator(newline)
		return chat.Lines(echoLine)
	}
}

var newline = chat.Literal("\n")

func echoLine(c *chat.Conn, line []byte) error {
	if err := c.Push(line); err != nil {
		return err
	}
	return c.PushString("\n")
}

// Stream is a newHandler, for chat.Listen, whose conversations send back whatever arrives: RFC 862.
func Stream(*chat.Conn) chat.Handler {
	return chat.Data(func(c *chat.Conn, p []byte) error { return c.Push(p) })
}

package echo

import (
	"github.com/parley-go/parley/chat"
)

// Lines returns a newHandler, for chat.Listen, whose conversations echo each line that ends in "\n", byte for byte, a "\r"
// before it included. A line longer than limit, in bytes without its "\n", ends the connection with core.ErrTooLong; a
// last one without "\n" is not echoed. It sets no idle timeout.
func Lines(limit int) func(*chat.Conn) chat.Handler {
	return func(c *chat.Conn) chat.Handler {
		c.SetLimit(limit)
		c.SetTerminator(newline)
		return chat.Lines(echoLine)
	}
}

// newline is not chat.Line, which takes "\r\n" for an end, too: the "\r" would not come back.
var newline = chat.Literal("\n")

func echoLine(c *chat.Conn, line []byte) error {
	if err := c.Push(line); err != nil {
		return err
	}
	return c.WriteByte('\n')
}

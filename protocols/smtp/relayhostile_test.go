package smtp_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// A server that says hello and goes away at once is left alone for a while, like one that cannot be reached, whenever it
// is that it goes.
func TestRelayServerThatLeaves(t *testing.T) {
	for name, goodbye := range map[string]string{"421": "250 next.example\r\n421 4.3.2 Too busy\r\n", "no word": "250 next.example\r\n"} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, sim.Config{}, &smtp.Relay{})
			conns := 0
			_, err := chat.Listen(o.loop, "tcp", nextAddress, func(c *chat.Conn) chat.Handler {
				conns++
				require.NoError(t, c.PushString("220 next.example ESMTP\r\n"))
				c.SetTerminator(chat.CRLF)
				return chat.Lines(func(c *chat.Conn, line []byte) error {
					require.True(t, strings.HasPrefix(string(line), "EHLO"))
					defer c.CloseWhenDone()
					return c.PushString(goodbye)
				})
			})
			require.NoError(t, err)
			o.submit("x\r\n", "pat")
			o.Advance(30 * time.Second)
			require.Equal(t, 1, conns)
			o.Advance(2 * time.Minute)
			require.Equal(t, 2, conns)
			require.Contains(t, o.reports[0], "deferred pat@example.org next:25 ")
		})
	}
}

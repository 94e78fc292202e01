//go:build !race && (darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package chat_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// endless is a connection whose peer sends the same lines for ever and takes everything: what is left is Parley's own
// work.
type endless struct {
	core.Socket
	lines string
}

func (s *endless) Recv(p []byte) (int, error) { return copy(p, s.lines), nil }
func (s *endless) Send(p []byte) (int, error) { return len(p), nil }

// BenchmarkLine is what a line costs from Recv to Send, by how many lines one read brings.
func BenchmarkLine(b *testing.B) {
	for _, x := range []struct {
		name, end  string
		newHandler func(*chat.Conn) chat.Handler
	}{
		{"lines", "\n", echoLines},
		{"handler", "\n", func(c *chat.Conn) chat.Handler {
			c.SetTerminator(chat.Literal("\n"))
			return &handlerEcho{}
		}},
		{"crlf", "\r\n", func(c *chat.Conn) chat.Handler {
			c.SetTerminator(chat.Line)
			return &handlerEcho{}
		}},
	} {
		for _, batch := range []int{1, 64} {
			b.Run(x.name+map[int]string{1: "/one", 64: "/64 in a read"}[batch], func(b *testing.B) {
				line := "0123456789abcdef0123456789abcdef"[:32-len(x.end)] + x.end
				drive(b, strings.Repeat(line, batch), x.newHandler, nil)
			})
		}
	}
}

// drive runs b.N lines through a few connections that are always readable.
func drive(b *testing.B, lines string, newHandler func(*chat.Conn) chat.Handler, prepare func(*core.Loop)) {
	l, err := core.NewLoop(core.Options{})
	require.NoError(b, err)
	defer l.Close()
	const conns = 32
	for range conns {
		s, fd := socketPair(b)
		_, err := syscall.Write(fd, []byte("x")) // never read
		require.NoError(b, err)
		_, err = chat.Attach(l, &endless{s, lines}, newHandler)
		require.NoError(b, err)
	}
	if prepare != nil {
		prepare(l)
	}
	b.ReportAllocs()
	perStep := conns * strings.Count(lines, "\n")
	b.ResetTimer()
	for n := 0; n < b.N; n += perStep {
		_, err := l.Step(0)
		require.NoError(b, err)
	}
}

// BenchmarkIdleTimeouts is what a line costs when every conversation has an idle timeout, which each line puts off, and 100,000
// more timeouts are pending on the loop: nothing that could be measured.
func BenchmarkIdleTimeouts(b *testing.B) {
	for _, batch := range []int{1, 64} {
		for _, timeouts := range []int{0, 100_000} {
			b.Run(fmt.Sprintf("%d in a read/%d timeouts", batch, timeouts), func(b *testing.B) {
				drive(b, strings.Repeat("0123456789abcdef0123456789abcde\n", batch), func(c *chat.Conn) chat.Handler {
					if timeouts > 0 {
						c.SetIdleTimeout(5 * time.Minute)
						c.SetWriteTimeout(5 * time.Minute)
					}
					return echoLines(c)
				}, func(l *core.Loop) {
					for i := range timeouts {
						l.AfterFunc(5*time.Minute+time.Duration(i)*time.Millisecond, func() {})
					}
				})
			})
		}
	}
}

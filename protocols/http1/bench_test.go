//go:build !race && (darwin || dragonfly || freebsd || linux || netbsd || openbsd)

// Without -race, whose sync.Pool drops at random.

package http1_test

import (
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/http1"
)

// endless is a connection whose client says the same over and over, and takes every answer: what is left is the server's own
// work.
type endless struct {
	core.Socket
	says string
	sent int
}

func (s *endless) Recv(p []byte) (int, error) { return copy(p, s.says), nil }

func (s *endless) Send(p []byte) (int, error) {
	s.sent += len(p)
	return len(p), nil
}

func (s *endless) RemoteAddr() net.Addr { return peerOfEndless }

var peerOfEndless = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 40000}

// alwaysReadable is a socket with something to read that nobody reads.
func alwaysReadable(t testing.TB) core.Socket {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { syscall.Close(fds[1]) })
	_, err = syscall.Write(fds[1], []byte("x"))
	require.NoError(t, err)
	f := os.NewFile(uintptr(fds[0]), "pair")
	defer f.Close()
	s, err := core.FileSocket(f)
	require.NoError(t, err)
	return s
}

// driven returns a loop with connections that always have something to say.
func driven(t testing.TB, srv *http1.Server, says string, conns int) (*core.Loop, *endless) {
	l, err := core.NewLoop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	var s *endless
	for range conns {
		s = &endless{Socket: alwaysReadable(t), says: says}
		_, err = srv.Serve(l, s)
		require.NoError(t, err)
	}
	for range 3 {
		_, err = l.Step(0)
		require.NoError(t, err)
	}
	return l, s
}

const (
	wrkRequest     = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
	browserRequest = "GET /wiki/Main_Page?x=1 HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\nCache-Control: max-age=0\r\n" +
		"Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 " +
		"Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n" +
		"Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n"
)

// A handler that writes a constant costs no allocation.
func TestNoAllocationPerRequest(t *testing.T) {
	for name, says := range map[string]string{
		"one":     wrkRequest,
		"16":      strings.Repeat(wrkRequest, 16),
		"browser": browserRequest,
		"http10":  "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"head":    "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l, s := driven(t, handle(hello), says, 1)
			before := s.sent
			require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = l.Step(0) }))
			require.Greater(t, s.sent-before, 100*100)
		})
	}
}

// A body that is streamed or dropped costs none either.
func TestNoAllocationPerBody(t *testing.T) {
	count := 0
	take := func(p []byte, _ bool) error { count += len(p); return nil }
	for name, says := range map[string]string{
		"length": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		"chunks": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		for _, wanted := range []bool{true, false} {
			srv := handle(func(w *http1.ResponseWriter, r *http1.Request) error {
				if wanted {
					return r.OnBody(take)
				}
				return hello(w, r)
			})
			l, _ := driven(t, srv, says, 1)
			count = 0
			require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = l.Step(0) }), name)
			require.Equal(t, wanted, count == 101*5, name)
		}
	}
}

// BenchmarkRequest is what a request costs from Recv to Send.
func BenchmarkRequest(b *testing.B) {
	for name, says := range map[string]string{
		"one":     wrkRequest,
		"16":      strings.Repeat(wrkRequest, 16),
		"browser": browserRequest,
		"varied":  strings.Repeat(browserRequest+strings.Replace(browserRequest, "Main", "Next", 1), 4),
		"post":    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		"chunked": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			const conns = 32
			l, _ := driven(b, handle(hello), says, conns)
			perStep := conns * strings.Count(says, " HTTP/1.1\r\n")
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += perStep {
				_, err := l.Step(0)
				require.NoError(b, err)
			}
		})
	}
}

package load

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// requests serves requests; f says what is answered to the n-th of a connection, from 0 on, given what is right; "": the
// server closes.
func requests(f func(n int, right string) string) func(net.Conn) {
	return func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for n := 0; ; n++ {
			for line := " "; line != "\r\n"; {
				var err error
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
			}
			date := time.Now().UTC().Format(http.TimeFormat)
			answer := f(n, strings.Replace(hello, "Sun, 06 Nov 1994 08:49:37 GMT", date, 1))
			if answer == "" {
				return
			}
			if _, err := fmt.Fprint(conn, answer); err != nil {
				return
			}
		}
	}
}

func webConfig(addr string) Config {
	return Config{
		Addr: addr, HTTP: true, Conns: 3, Depth: 4,
		Warmup: 5 * time.Millisecond, Interval: 50 * time.Millisecond, Patience: 10 * time.Second,
		PID: os.Getpid(),
	}
}

func TestRightServerHTTP(t *testing.T) {
	addr := serve(t, requests(func(_ int, right string) string { return right }))
	for _, depth := range []int{1, 4, 1000} {
		c := webConfig(addr)
		c.Depth = depth
		r, err := Run(c)
		require.NoError(t, err)
		require.NoError(t, r.Err())
		require.Positive(t, r.Lines)
		require.Positive(t, r.CPU)
	}
}

func TestWrongServersHTTP(t *testing.T) {
	at20 := func(f func(right string) string) func(net.Conn) {
		return requests(func(n int, right string) string {
			if n == 20 {
				return f(right)
			}
			return right
		})
	}
	replaces := func(old, new string) func(net.Conn) {
		return at20(func(right string) string { return strings.Replace(right, old, new, 1) })
	}
	for name, c := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"answers 503":   {replaces("200 OK", "503 No"), "wrong byte 0x35 instead of 0x32 at offset 9 of a response"},
		"adds a field":  {replaces("Server", "X: y\r\nServer"), "wrong byte"},
		"another body":  {replaces("World", "world"), "wrong byte"},
		"spoils a date": {replaces(" GMT", " UTC"), "wrong byte 0x55 in a date"},
		"closes":        {at20(func(string) string { return "" }), "closed by|connection reset|broken pipe"},
		"answers twice": {at20(func(right string) string { return right + right }), "wrong byte|more than|not sent"},
		"answers once":  {requests(func(n int, right string) string { return right[min(n, 1)*len(right):] }), "closed by"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := webConfig(serve(t, c.serve))
			cfg.Patience = time.Second
			r, err := Run(cfg)
			require.NoError(t, err)
			require.Error(t, r.Err())
			require.Regexp(t, c.want, r.First)
			require.NotContains(t, r.Err().Error(), "\n")
			require.Equal(t, cfg.Conns, r.Errors)
		})
	}
}

// A server whose first response is not what it was asked for is not measured.
func TestLearnFails(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"404": {requests(func(_ int, right string) string { return strings.Replace(right, "200 OK", "404 No", 1) }),
			"the first response: not 200"},
		"closes":        {requests(func(int, string) string { return "" }), "closed by the server after 0 bytes"},
		"is long":       {requests(func(int, string) string { return strings.Repeat("x", 5000) }), "longer than 4096 bytes"},
		"says nothing":  {func(conn net.Conn) { <-conn.(serverConn).end }, "no answer to the first request within 100ms"},
		"says too much": {requests(func(_ int, right string) string { return right + "x" }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := webConfig(serve(t, c.serve))
			cfg.Patience = 100 * time.Millisecond
			r, err := Run(cfg)
			if c.want == "" { // it may come in a read of its own
				if err == nil {
					err = r.Err()
				}
				require.Error(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
	c := webConfig("127.0.0.1:1")
	c.Length = 32
	_, err := Run(c)
	require.ErrorContains(t, err, "HTTP: no length")
}

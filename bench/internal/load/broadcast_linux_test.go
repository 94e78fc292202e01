package load

import (
	"bufio"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serveRoom serves members who all hear what one of them says; f says what the i-th of them, in the order of coming, hears
// of the n-th line; nil: nothing.
func serveRoom(t *testing.T, f func(n, i int, line []byte) []byte) (addr string) {
	var (
		mu      sync.Mutex
		members []net.Conn
		said    int
	)
	enter := func(conn net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		members = append(members, conn)
	}
	return serveInOrder(t, enter, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			mu.Lock()
			for i, m := range members {
				_, _ = m.Write(f(said, i, line))
			}
			said++
			mu.Unlock()
		}
	})
}

func hears(_, _ int, line []byte) []byte { return line }

func roomConfig(addr string) Config {
	c := config(addr)
	c.Conns, c.Depth, c.Length, c.Broadcast = 20, 1, 64, true
	return c
}

func TestBroadcast(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"as it is": func(*Config) {},
		"alone":    func(c *Config) { c.Conns = 1 },
		"at once":  func(c *Config) { c.Warmup, c.Interval = 0, 1 },
		"long":     func(c *Config) { c.Length = 300_000 },
	} {
		t.Run(name, func(t *testing.T) {
			c := roomConfig(serveRoom(t, hears))
			change(&c)
			r, err := Run(c)
			require.NoError(t, err)
			require.NoError(t, r.Err())
			require.Positive(t, r.Lines)
			require.Positive(t, r.CPU)
			require.Zero(t, int(r.Lines)%c.Conns, "whole broadcasts are counted")
			require.Equal(t, r.Lines, float64(int(r.Lines)))
		})
	}
}

func TestWrongRooms(t *testing.T) {
	flip := func(line []byte) []byte {
		line = append([]byte(nil), line...)
		line[7] ^= 1
		return line
	}
	for name, x := range map[string]struct {
		f    func(n, i int, line []byte) []byte
		want string
	}{
		"flips a bit": {func(n, i int, line []byte) []byte {
			if n == 2 && i == 13 {
				return flip(line)
			}
			return line
		}, `^connection \d+: wrong byte .* at offset 7 of 64$`},
		"leaves one out": {func(n, i int, line []byte) []byte {
			if n == 2 && i == 13 {
				return nil
			}
			return line
		}, `^connection \d+: no answer within .*: 0 of 64 bytes came back$`},
		"says it twice": {func(n, i int, line []byte) []byte {
			if n == 2 && i == 13 {
				return append(line[:len(line):len(line)], line...)
			}
			return line
		}, `^connection \d+: (64 bytes that were not sent|64 bytes more than were sent|wrong byte .*)$`},
	} {
		t.Run(name, func(t *testing.T) {
			c := roomConfig(serveRoom(t, x.f))
			c.Patience, c.Interval = 300*time.Millisecond, 300*time.Millisecond
			r, err := Run(c)
			require.NoError(t, err)
			require.Error(t, r.Err())
			require.Regexp(t, x.want, r.First)
		})
	}

	c := roomConfig(serve(t, lines(right))) // an echo is no room
	c.Patience = 300 * time.Millisecond
	_, err := Run(c)
	require.Regexp(t, `^connection 0, when 19 said something: no answer after 0 of 64 bytes$`, err.Error())

	c = roomConfig("127.0.0.1:1")
	c.Depth = 2
	_, err = Run(c)
	require.EqualError(t, err, "broadcast: depth 1, no rate, no idle connections, no HTTP")
}

package load

import (
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func callsConfig(addr string) Config {
	c := config(addr)
	c.Depth = 0 // each connection has one line
	return c
}

func TestCalls(t *testing.T) {
	var conns atomic.Int64
	serves := lines(right)
	addr := serve(t, func(conn net.Conn) { conns.Add(1); serves(conn) })
	r, err := RunCalls(callsConfig(addr))
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.Positive(t, r.Lines)
	require.Positive(t, r.CPU)
	require.GreaterOrEqual(t, r.Elapsed, 50*time.Millisecond)
	require.GreaterOrEqual(t, float64(conns.Load()), r.Lines, "a connection for each")
}

func TestWrongServersCalls(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"flips a bit":  {once(0, func(line []byte) []byte { line[3] ^= 1; return line }), "wrong byte .* at offset 3 of 32"},
		"says nothing": {lines(func(int, []byte) []byte { return []byte{} }), "no answer within"},
		"closes":       {lines(func(int, []byte) []byte { return nil }), "closed by the server|reset"},
		"says goodbye": {func(conn net.Conn) { lines(right)(conn); _, _ = conn.Write([]byte("bye\r\n")) },
			"5 bytes that were not sent"},
		"does not close": {func(conn net.Conn) { lines(right)(conn); <-conn.(serverConn).end }, "no answer within"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := callsConfig(serve(t, c.serve))
			cfg.Patience = 200 * time.Millisecond
			r, err := RunCalls(cfg)
			require.NoError(t, err)
			require.Regexp(t, c.want, r.First)
			require.Equal(t, cfg.Conns, r.Errors)
		})
	}
}

func TestFlood(t *testing.T) {
	c := Config{Addr: serve(t, lines(right)), Idle: 300, Length: 32, PID: os.Getpid()}
	f, err := MeasureFlood(c)
	require.NoError(t, err)
	require.Equal(t, 300, f.Conns)
	require.Positive(t, f.CPU)
	require.Positive(t, f.Slowest)
	require.GreaterOrEqual(t, f.Up, f.Slowest)

	c.Patience = 200 * time.Millisecond
	c.Addr = serve(t, lines(func(n int, line []byte) []byte { line[1] ^= 0x80; return line }))
	_, err = MeasureFlood(c)
	require.ErrorContains(t, err, "wrong byte")
	c.Addr = serve(t, lines(func(int, []byte) []byte { return []byte{} }))
	_, err = MeasureFlood(c)
	require.EqualError(t, err, "300 of 300 connections had no answer within 200ms")
	c.PID = 0
	_, err = MeasureFlood(c)
	require.ErrorContains(t, err, "the server's process")
}

// A connection whose SYN found no room shows: a listener that nobody accepts from, with room for one.
func TestFloodShowsWhatIsResent(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(fd, 1))
	file := os.NewFile(uintptr(fd), "listener")
	ln, err := net.FileListener(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	t.Cleanup(func() { _ = ln.Close() })
	time.AfterFunc(200*time.Millisecond, func() { // too late for the first SYN, and before the second
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go lines(right)(conn)
		}
	})
	f, err := MeasureFlood(Config{Addr: ln.Addr().String(), Idle: 10, Length: 32, PID: os.Getpid()})
	require.NoError(t, err)
	require.Positive(t, f.Resent)
	require.GreaterOrEqual(t, f.Slowest, 900*time.Millisecond, "RFC 6298: a second")
}

func TestCallsConfig(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.Rate = 1000 },
		func(c *Config) { c.HTTP, c.Length = true, 0 },
		func(c *Config) { c.TLS = 0x0304 },
		func(c *Config) { c.Length = 1 },
		func(c *Config) { c.Addr = "localhost" },
	} {
		c := callsConfig("127.0.0.1:1")
		change(&c)
		_, err := RunCalls(c)
		require.Error(t, err)
	}
}

func TestSource(t *testing.T) {
	seen := map[unix.SockaddrInet4]bool{}
	for n := range 1000 {
		sa, ok := source(netip.MustParseAddr("127.0.0.1"), n)
		require.True(t, ok)
		seen[*sa.(*unix.SockaddrInet4)] = true
	}
	require.Len(t, seen, 200)
	for _, other := range []string{"192.0.2.1", "::1", "2001:db8::1"} {
		_, ok := source(netip.MustParseAddr(other), 1)
		require.False(t, ok)
	}
}

package load

import (
	"bufio"
	"crypto/tls"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/bench/internal/settle"
	"github.com/parley-go/parley/core/tlslayer"
)

// serverConn is what a test server serves; end is closed when the test is over.
type serverConn struct {
	net.Conn
	end <-chan struct{}
}

// serve runs a server whose connections are served by f. It ends with the test, connections included.
func serve(t *testing.T, f func(net.Conn)) (addr string) {
	return serveInOrder(t, func(net.Conn) {}, f)
}

// serveInOrder is serve that calls accepted for each connection, one after the other, before f.
func serveInOrder(t *testing.T, accepted, f func(net.Conn)) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
		end   = make(chan struct{})
	)
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			accepted(conn)
			wg.Go(func() {
				defer conn.Close()
				f(serverConn{conn, end})
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		close(end)
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// lines serves lines; f says what is answered to the n-th line of a connection, from 0 on; nil: the server closes.
func lines(f func(n int, line []byte) []byte) func(net.Conn) {
	return func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for n := 0; ; n++ {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			answer := f(n, line)
			if answer == nil {
				return
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}
}

// once is lines, with f for the n-th line alone.
func once(n int, f func(line []byte) []byte) func(net.Conn) {
	return lines(func(i int, line []byte) []byte {
		if i == n {
			return f(line)
		}
		return line
	})
}

// secured serves f over TLS.
func secured(t *testing.T, f func(net.Conn)) func(net.Conn) {
	cert, err := tlslayer.SelfSigned("127.0.0.1")
	require.NoError(t, err)
	return func(conn net.Conn) {
		s := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
		defer s.Close()
		f(serverConn{s, conn.(serverConn).end})
	}
}

func right(_ int, line []byte) []byte { return line }

func config(addr string) Config {
	return Config{
		Addr: addr, Conns: 3, Depth: 4, Length: 32,
		Warmup: 5 * time.Millisecond, Interval: 50 * time.Millisecond, Patience: 10 * time.Second,
		PID: os.Getpid(),
	}
}

func TestRightServer(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"as it is":     func(*Config) {},
		"depth 1":      func(c *Config) { c.Depth = 1 },
		"many":         func(c *Config) { c.Conns, c.Depth = 200, 1 },
		"deep":         func(c *Config) { c.Depth = 3000 },
		"idle ones":    func(c *Config) { c.Idle = 20 },
		"long":         func(c *Config) { c.Length, c.Depth = 1_000_000, 2 },
		"shortest":     func(c *Config) { c.Length = 2 },
		"no process":   func(c *Config) { c.PID = 0 },
		"at once":      func(c *Config) { c.Warmup = 0 },
		"server's cut": func(c *Config) { c.Length, c.Depth = 70_000, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			c := config(serve(t, lines(right)))
			change(&c)
			r, err := Run(c)
			require.NoError(t, err)
			require.NoError(t, r.Err())
			require.Positive(t, r.Lines)
			require.GreaterOrEqual(t, r.Elapsed, c.Interval)
			if c.PID != 0 {
				require.Positive(t, r.CPU)
			}
		})
	}
}

// Whatever a server does wrong is noticed, and said in one line.
func TestWrongServers(t *testing.T) {
	var mu sync.Mutex
	last := []byte{}
	const lastOfBatch = 3
	for name, c := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"flips a bit":                   {once(1, func(line []byte) []byte { line[17] ^= 1; return line }), "wrong byte"},
		"drops a byte":                  {once(1, func(line []byte) []byte { return line[1:] }), "wrong byte"},
		"drops a byte at the end":       {once(lastOfBatch, func(line []byte) []byte { return line[:31] }), "no answer within"},
		"drops a line":                  {once(1, func(line []byte) []byte { return line[:0] }), "wrong byte"},
		"repeats a line":                {once(2, func(line []byte) []byte { return append(line, line...) }), "wrong byte"},
		"repeats a line behind a batch": {once(lastOfBatch, func(line []byte) []byte { return append(line, line...) }), "wrong byte|more than were sent|not sent"},
		"answers too early":             {once(0, func(line []byte) []byte { return append(line, make([]byte, 1000)...) }), "wrong byte|more than were sent"},
		"ends lines in its own way":     {lines(func(_ int, line []byte) []byte { return append(line[:31], "\r\n"...) }), "wrong byte"},
		"says nothing":                  {lines(func(int, []byte) []byte { return []byte{} }), "no answer within .* 0 of 128 bytes"},
		"closes":                        {once(1, func([]byte) []byte { return nil }), "closed by the server|read: connection reset|write: broken pipe"},
		"greets":                        {func(conn net.Conn) { _, _ = conn.Write([]byte("hello\r\n")); lines(right)(conn) }, "wrong byte|more than were sent"},
		"says goodbye":                  {func(conn net.Conn) { lines(right)(conn); _, _ = conn.Write([]byte("bye\r\n")) }, "5 bytes that were not sent"},
		"does not close after our end":  {func(conn net.Conn) { lines(right)(conn); <-conn.(serverConn).end }, "did not close within"},
		"answers another connection's": {lines(func(_ int, line []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			answer := last
			last = append([]byte(nil), line...)
			return answer
		}), "wrong byte"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(serve(t, c.serve))
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

func TestRightServerTLS(t *testing.T) {
	var mu sync.Mutex
	seen := map[uint16]int{}
	addr := serve(t, secured(t, func(conn net.Conn) {
		s := conn.(serverConn).Conn.(*tls.Conn)
		if s.Handshake() == nil {
			state := s.ConnectionState()
			mu.Lock()
			seen[state.Version]++
			mu.Unlock()
			if state.DidResume {
				return
			}
		}
		lines(right)(conn)
	}))
	for name, change := range map[string]func(*Config){
		"as it is":  func(*Config) {},
		"1.2":       func(c *Config) { c.TLS = tls.VersionTLS12 },
		"depth 1":   func(c *Config) { c.Depth = 1 },
		"many":      func(c *Config) { c.Conns, c.Depth = 100, 1 },
		"deep":      func(c *Config) { c.Depth = 3000 },
		"idle ones": func(c *Config) { c.Idle = 20 },
		"long":      func(c *Config) { c.Length, c.Depth = 1_000_000, 2 },
		"shortest":  func(c *Config) { c.Length = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			c := config(addr)
			c.TLS = tls.VersionTLS13
			change(&c)
			mu.Lock()
			before := seen[c.TLS]
			mu.Unlock()
			r, err := Run(c)
			require.NoError(t, err)
			require.NoError(t, r.Err())
			require.Positive(t, r.Lines)
			require.Positive(t, r.CPU)
			mu.Lock()
			defer mu.Unlock()
			require.GreaterOrEqual(t, seen[c.TLS]-before, c.Conns+c.Idle)
		})
	}
}

func TestWrongServersTLS(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"flips a bit":                   {secured(t, once(1, func(line []byte) []byte { line[17] ^= 1; return line })), "wrong byte"},
		"repeats a line behind a batch": {secured(t, once(3, func(line []byte) []byte { return append(line, line...) })), "wrong byte|more than were sent|not sent"},
		"says nothing":                  {secured(t, lines(func(int, []byte) []byte { return []byte{} })), "no answer within .* 0 of 128 bytes"},
		"closes":                        {secured(t, once(1, func([]byte) []byte { return nil })), "closed by the server|read: connection reset|write: broken pipe"},
		"says goodbye":                  {secured(t, func(conn net.Conn) { lines(right)(conn); _, _ = conn.Write([]byte("bye\r\n")) }), "5 bytes that were not sent"},
		"does not close after our end":  {secured(t, func(conn net.Conn) { lines(right)(conn); <-conn.(serverConn).end }), "did not close within"},
		"ends without close_notify": {secured(t, func(conn net.Conn) {
			lines(right)(conn)
			_ = conn.(serverConn).Conn.(*tls.Conn).NetConn().Close()
		}), "ended the stream without close_notify"},
		"leaves TLS": {secured(t, func(conn net.Conn) {
			inner := conn.(serverConn).Conn.(*tls.Conn)
			if inner.Handshake() == nil {
				_, _ = inner.NetConn().Write([]byte("in the clear, now\n"))
				lines(right)(conn)
			}
		}), "tls: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(serve(t, c.serve))
			cfg.TLS = tls.VersionTLS13
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

// A server that does not get through the handshake fails the run, in time.
func TestHandshakeFails(t *testing.T) {
	c := config(serve(t, lines(right)))
	c.TLS, c.Patience = tls.VersionTLS13, time.Second
	_, err := Run(c)
	require.ErrorContains(t, err, "connection 0: TLS handshake: ")

	c.Addr = serve(t, func(conn net.Conn) { <-conn.(serverConn).end })
	c.Patience = 50 * time.Millisecond
	_, err = Run(c)
	require.EqualError(t, err, "connection 0: TLS handshake: no answer within 50ms")
}

// A wrong byte on one connection does not stop the others, and is not forgotten.
func TestOneWrongByte(t *testing.T) {
	var conns atomic.Int64
	r, err := Run(config(serve(t, func(conn net.Conn) {
		if conns.Add(1) == 2 {
			once(0, func(line []byte) []byte { line[0]++; return line })(conn)
			return
		}
		lines(right)(conn)
	})))
	require.NoError(t, err)
	require.Equal(t, 1, r.Errors)
	require.Regexp(t, `^connection \d: wrong byte 0x.. instead of 0x.. at offset 0 of 128$`, r.First)
	require.Positive(t, r.Lines)
}

// A server that is late, but not too late, is counted for longer and not failed.
func TestLateServer(t *testing.T) {
	c := config("")
	c.Interval, c.Depth = time.Millisecond, 1
	began := make(chan struct{})
	begin := sync.OnceFunc(func() { time.AfterFunc(100*time.Millisecond, func() { close(began) }) })
	c.Addr = serve(t, func(conn net.Conn) {
		once(0, func(line []byte) []byte {
			begin()
			<-began
			return line
		})(conn)
	})
	r, err := Run(c)
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.Positive(t, r.Lines)
	require.Greater(t, r.Elapsed, 50*time.Millisecond)
}

func TestRunErrors(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := ln.Addr().String()
	require.NoError(t, ln.Close())
	_, err = Run(config(nobody))
	require.ErrorContains(t, err, "connection refused")

	_, err = Run(config("localhost"))
	require.ErrorContains(t, err, "localhost")

	c := config(serve(t, lines(right)))
	c.PID = 1 << 23 // above the largest there can be
	_, err = Run(c)
	require.ErrorContains(t, err, "process 8388608")

	c = config(serve(t, once(0, func(line []byte) []byte { line[3]++; return line })))
	c.Idle = 1
	_, err = Run(c)
	require.ErrorContains(t, err, "after 1 idle connections: wrong byte")
}

func TestMeasureMemory(t *testing.T) {
	c := Config{Addr: serve(t, lines(right)), Idle: 100, Length: 32, PID: os.Getpid()}
	m, err := MeasureMemory(c)
	require.NoError(t, err)
	require.Equal(t, 100, m.Conns)
	require.Positive(t, m.Base)
	require.Positive(t, m.Fresh)
	require.Positive(t, m.Spoke)

	require.Zero(t, m.Settled)

	settle.WhenAsked()
	c.Addr, c.TLS, c.Settle = serve(t, secured(t, lines(right))), tls.VersionTLS13, true
	m, err = MeasureMemory(c)
	require.NoError(t, err)
	require.Equal(t, 100, m.Conns)
	require.Positive(t, m.SettledBase)
	require.Greater(t, m.Settled, m.SettledBase)

	c.Idle = 0
	_, err = MeasureMemory(c)
	require.Error(t, err)

	wrong := func(n int, line []byte) []byte { line[1] ^= 0x80; return line }
	c = Config{Addr: serve(t, lines(wrong)), Idle: 100, Length: 32, PID: os.Getpid()}
	_, err = MeasureMemory(c)
	require.ErrorContains(t, err, "wrong byte")
}

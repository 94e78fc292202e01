//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/core"
)

// TestKernelListenUnixPath: the path of a unix listener is removed when it closes, but not if it is another socket's by then.
func TestKernelListenUnixPath(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		path := socketPath(t)
		first, err := core.Listen(k.loop, "unix", path, k.unexpected("listener"))
		require.NoError(t, err)
		require.Equal(t, path, first.Addr().String())
		_, err = core.Listen(k.loop, "unix", path, k.unexpected("listener"))
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.FileExists(t, path, "the attempt leaves the path alone")

		require.NoError(t, os.Remove(path))
		second, err := core.Listen(k.loop, "unix", path, attaching(func() any { return echoing() }))
		require.NoError(t, err)
		require.NoError(t, first.Close())
		addr := second.Addr()
		k.peer(func() error { return sayTo(addr, "the successor's path is there") }).wait()

		require.NoError(t, second.Close())
		_, err = os.Lstat(path)
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}

// TestKernelListenAddress: port 0 gives one that is free, and the address says which.
func TestKernelListenAddress(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		ln := k.listen(fam, attaching(func() any { return echoing() }))
		if a, ok := ln.Addr().(*net.TCPAddr); ok {
			require.NotZero(t, a.Port)
			require.True(t, a.IP.IsLoopback())
		}
		require.Equal(t, fam.network[:3] == "tcp", strings.HasPrefix(ln.Addr().Network(), "tcp"))
		addr := ln.Addr()
		k.peer(func() error { return sayTo(addr, "hello") }).wait()
	})
}

// TestKernelDualStack: a listener without a host hears both families; the addresses of IPv4 peers are IPv4 addresses.
func TestKernelDualStack(t *testing.T) {
	if !hasIPv6() {
		t.Skip("no IPv6 here")
	}
	eachBackend(t, func(t *testing.T, k *kernel) {
		var servers []*core.Dispatcher
		c := core.ListenConfig{Limit: core.Limit{PerAddr: 1}}
		ln, err := c.Listen(k.loop, "tcp", ":0", &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
			d, err := core.Attach(l.Loop(), s, echoing())
			servers = append(servers, d)
			return err
		}})
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(ln.Addr().String())
		require.NoError(t, err)
		for i, host := range []string{"127.0.0.1", "::1"} {
			for _, over := range []bool{false, true} {
				c, err := net.Dial("tcp", net.JoinHostPort(host, port))
				require.NoError(t, err)
				defer c.Close()
				require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
				if over {
					k.until("the refusal", func() bool { return k.loop.Stats().Refused == uint64(i+1) })
					_, err = c.Read(make([]byte, 1))
					require.Error(t, err)
					continue
				}
				k.until("it", func() bool { return len(servers) == i+1 })
				require.Equal(t, c.LocalAddr().String(), servers[i].RemoteAddr().String())
				require.Equal(t, c.RemoteAddr().String(), servers[i].LocalAddr().String())
			}
		}
	})
}

// TestKernelListenErrors: what cannot listen says so, and leaves nothing behind.
func TestKernelListenErrors(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		h := k.unexpected("listener")
		for _, at := range [][2]string{
			{"tcp", "127.0.0.1"}, {"tcp", "127.0.0.1:99999"}, {"udp", "127.0.0.1:0"}, {"tcp4", "[::1]:0"},
			{"unix", "/nonexistent/dir/socket"}, {"sctp", "127.0.0.1:0"},
		} {
			_, err := core.Listen(k.loop, at[0], at[1], h)
			require.Error(t, err, at)
			var op *net.OpError
			require.ErrorAs(t, err, &op, "%v: %v", at, err)
		}
		_, err := core.Listen(k.loop, "tcp", "127.0.0.1:0", &core.Funcs{Read: readAll})
		require.ErrorContains(t, err, "Accepted")
		require.Zero(t, k.loop.Stats().Channels)
	})
}

// TestKernelReusePort: with it, two listeners share an address.
func TestKernelReusePort(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		c := core.ListenConfig{ReusePort: true}
		first, err := c.Listen(k.loop, "tcp4", "127.0.0.1:0", attaching(func() any { return echoing() }))
		require.NoError(t, err)
		second, err := c.Listen(k.loop, "tcp4", first.Addr().String(), attaching(func() any { return echoing() }))
		require.NoError(t, err)
		require.Equal(t, first.Addr().String(), second.Addr().String())
		addr := first.Addr()
		k.peer(func() error {
			for range 10 {
				c, err := connectTo(addr)
				if err != nil {
					return err
				}
				defer c.Close()
				if err := say(c, "hello"); err != nil {
					return err
				}
			}
			return nil
		}).wait()
		require.Equal(t, uint64(10), k.loop.Stats().Accepted)
	})
}

// TestKernelAcceptedSocketOptions: an accepted connection, and one that dialled, does not delay and probes silent peers, unless
// that was switched off.
func TestKernelAcceptedSocketOptions(t *testing.T) {
	for _, off := range []bool{false, true} {
		t.Run(fmt.Sprintf("off=%v", off), func(t *testing.T) {
			eachBackend(t, func(t *testing.T, k *kernel) {
				var server *core.Dispatcher
				c := core.ListenConfig{Delay: off, NoKeepAlive: off}
				ln, err := c.Listen(k.loop, "tcp4", "127.0.0.1:0", &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) (err error) {
					server, err = core.Attach(l.Loop(), s, reading())
					return err
				}})
				require.NoError(t, err)
				d := new(core.Dispatcher)
				require.NoError(t, (&core.Dialer{Delay: off, NoKeepAlive: off}).Attach(d, k.loop, "tcp4", ln.Addr().String(), reading()))
				k.until("the connection", func() bool { return server != nil && !d.Connecting() })
				for who, d := range map[string]*core.Dispatcher{"server": server, "client": d} {
					fd := d.Socket().FD()
					noDelay, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
					require.NoError(t, err)
					keepAlive, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
					require.NoError(t, err)
					require.Equal(t, !off, noDelay != 0, "%s: TCP_NODELAY", who)
					if runtime.GOOS == "linux" || who == "client" { // not every system inherits it
						require.Equal(t, !off, keepAlive != 0, "%s: SO_KEEPALIVE", who)
					}
					if !off && runtime.GOOS == "linux" {
						checkKeepAliveTimes(t, fd)
					}
				}
			})
		})
	}
}

// TestKernelLimitTotal: at the bound the listener stops accepting, and its clients wait, until a connection is closed.
func TestKernelLimitTotal(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		var ds []*core.Dispatcher
		h := &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
			d, err := core.Attach(l.Loop(), s, echoing())
			ds = append(ds, d)
			return err
		}}
		c := core.ListenConfig{Limit: core.Limit{Total: 2}}
		ln, err := c.Listen(k.loop, "tcp4", "127.0.0.1:0", h)
		require.NoError(t, err)
		addr := ln.Addr()
		third := make(chan net.Conn, 1)
		k.peer(func() error {
			for i := range 3 {
				c, err := connectTo(addr) // the third connects too: it waits in the backlog
				if err != nil {
					return err
				}
				if i == 2 {
					third <- c
				} else {
					defer c.Close()
				}
			}
			return nil
		}).wait()
		waiting := <-third
		defer waiting.Close()
		k.until("two connections closed by their clients", func() bool { return len(ds) == 3 && ds[0].Closed() && ds[1].Closed() })
		require.Equal(t, 1, ln.Open())

		more, err := connectTo(addr)
		require.NoError(t, err)
		defer more.Close()
		last, err := connectTo(addr)
		require.NoError(t, err)
		defer last.Close()
		k.until("the fourth", func() bool { return len(ds) == 4 })
		require.Equal(t, 2, ln.Open())
		require.LessOrEqual(t, k.passesWithin(window), aFew, "a client that waits does not keep the loop awake")
		require.Len(t, ds, 4)
		require.Zero(t, k.loop.Stats().Refused)
		require.NoError(t, ds[2].Close())
		k.until("the fifth", func() bool { return len(ds) == 5 })
		k.peer(func() error { return say(last, "at last") }).wait()

		ln.SetLimit(core.Limit{Total: -1})
		for range 3 {
			c, err := connectTo(addr)
			require.NoError(t, err)
			defer c.Close()
		}
		k.until("all of them", func() bool { return len(ds) == 8 })
	})
}

// TestKernelLimitTotalBetweenRuns: a connection that is closed while the loop does not run makes room all the same.
func TestKernelLimitTotalBetweenRuns(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		var ds []*core.Dispatcher
		c := core.ListenConfig{Limit: core.Limit{Total: 1}}
		ln, err := c.Listen(k.loop, "tcp4", "127.0.0.1:0", &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
			d, err := core.Attach(l.Loop(), s, reading())
			ds = append(ds, d)
			l.Loop().Stop()
			return err
		}})
		require.NoError(t, err)
		for range 2 {
			c, err := connectTo(ln.Addr())
			require.NoError(t, err)
			defer c.Close()
		}
		require.NoError(t, k.run())
		require.Len(t, ds, 1)
		require.NoError(t, ds[0].Close())
		require.NoError(t, k.run())
		require.Len(t, ds, 2)
	})
}

// TestKernelLimitPerAddr: a connection too many from one address is closed at once; other addresses are not concerned, and
// there is room again when one is closed.
func TestKernelLimitPerAddr(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		c := core.ListenConfig{Limit: core.Limit{PerAddr: 2}}
		ln, err := c.Listen(k.loop, "tcp4", "127.0.0.1:0", attaching(func() any { return echoing() }))
		require.NoError(t, err)
		from := func(ip string) (net.Conn, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: patience}
			c, err := d.Dial("tcp4", ln.Addr().String())
			if err == nil {
				err = c.SetDeadline(time.Now().Add(patience))
			}
			return c, err
		}
		k.peer(func() error {
			var cs []net.Conn
			for range 3 {
				c, err := from("127.0.0.1")
				if err != nil {
					return err
				}
				defer c.Close()
				cs = append(cs, c)
			}
			if err := errors.Join(say(cs[0], "one"), say(cs[1], "two")); err != nil {
				return err
			}
			if n, err := cs[2].Read(make([]byte, 1)); n > 0 || err == nil || os.IsTimeout(err) {
				return fmt.Errorf("the third: %d, %v", n, err)
			}
			if runtime.GOOS == "linux" { // all of 127/8 is this machine
				other, err := from("127.0.0.2")
				if err != nil {
					return err
				}
				defer other.Close()
				if err := say(other, "three"); err != nil {
					return err
				}
			}
			return cs[0].Close()
		}).wait()
		require.Equal(t, uint64(1), k.loop.Stats().Refused)
		k.until("their ends", func() bool { return ln.Open() == 0 })
		k.peer(func() error {
			c, err := from("127.0.0.1")
			if err != nil {
				return err
			}
			defer c.Close()
			return say(c, "four")
		}).wait()
	})
}

// TestKernelRefusal: with a text, a connection over a bound is accepted, told and closed; the text arrives also if the client
// spoke first.
func TestKernelRefusal(t *testing.T) {
	const text = "421 too many\r\n"
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		c := core.ListenConfig{Limit: core.Limit{Total: 1, Refusal: text}}
		ln, err := c.Listen(k.loop, fam.network, fam.address(t), attaching(func() any { return echoing() }))
		require.NoError(t, err)
		first, err := connectTo(ln.Addr())
		require.NoError(t, err)
		defer first.Close()
		k.peer(func() error { return say(first, "served") }).wait()
		second, err := connectTo(ln.Addr())
		require.NoError(t, err)
		defer second.Close()
		_, err = second.Write([]byte("HELO\r\n"))
		require.NoError(t, err)
		k.peer(func() error {
			got, err := io.ReadAll(second)
			if err != nil || string(got) != text {
				return fmt.Errorf("%q, %w", got, err)
			}
			return nil
		}).wait()
		require.Equal(t, uint64(1), k.loop.Stats().Refused)
	})
}

// TestKernelAcceptBudget: a listener accepts so many in a pass and no more.
func TestKernelAcceptBudget(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		n := 0
		ln := k.listen(families[0], &core.Funcs{Accepted: func(_ *core.Listener, s core.Socket) error { n++; return s.Close() }})
		for range core.AcceptBudget + 10 {
			c, err := connectTo(ln.Addr())
			require.NoError(t, err)
			defer c.Close()
		}
		k.passes(1)
		require.Equal(t, core.AcceptBudget, n)
		k.passes(1)
		require.Equal(t, core.AcceptBudget+10, n)
		require.Zero(t, ln.Open())
	})
}

// TestKernelHandleAcceptedFails: an error or a panic of HandleAccepted closes that connection, whether it was attached already
// or not, and the listener goes on. (F8)
func TestKernelHandleAcceptedFails(t *testing.T) {
	failure := errors.New("not this one")
	eachBackend(t, func(t *testing.T, k *kernel) {
		n := 0
		var causes []error
		h := &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
			n++
			if n%2 == 0 { // attached before it goes wrong
				_, err := core.Attach(l.Loop(), s, &core.Funcs{
					Read:  readAll,
					Close: func(_ *core.Dispatcher, cause error) { causes = append(causes, cause) },
				})
				require.NoError(t, err)
			}
			switch n {
			case 1, 2:
				return failure
			case 3, 4:
				panic(failure)
			}
			_, err := core.Attach(l.Loop(), s, echoing())
			return err
		}}
		ln := k.listen(families[0], h)
		addr := ln.Addr()
		k.peer(func() error {
			for range 4 {
				c, err := connectTo(addr)
				if err != nil {
					return err
				}
				defer c.Close()
				if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || os.IsTimeout(err) {
					return fmt.Errorf("not closed: %d, %v", n, err)
				}
			}
			c, err := connectTo(addr)
			if err != nil {
				return err
			}
			defer c.Close()
			return say(c, "the fifth")
		}).wait()
		require.False(t, ln.Core().Closed())
		require.Len(t, causes, 2)
		require.Equal(t, failure, causes[0])
		require.ErrorIs(t, causes[1], failure)
		require.Equal(t, 4, strings.Count(k.logs.String(), "method=HandleAccepted"))
		k.until("its end", func() bool { return ln.Open() == 0 })
	})
}

// TestKernelHandleAcceptedClosesListener: a handler that closes the listener gets no further connection; the one that it fails
// on at the same time is closed nevertheless.
func TestKernelHandleAcceptedClosesListener(t *testing.T) {
	for name, end := range map[string]func(){
		"ok":    nil,
		"error": func() {},
		"panic": func() { panic("after Close") },
	} {
		t.Run(name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, k *kernel) {
				n := 0
				ln := k.listen(families[0], &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
					n++
					if err := l.Close(); err != nil {
						return err
					}
					if end == nil {
						return s.Close()
					}
					end()
					return io.ErrUnexpectedEOF
				}})
				var cs []net.Conn
				for range 3 {
					c, err := connectTo(ln.Addr())
					require.NoError(t, err)
					defer c.Close()
					cs = append(cs, c)
				}
				require.NoError(t, k.run(), "nothing is left")
				require.Equal(t, 1, n)
				for i, c := range cs {
					_, err := c.Read(make([]byte, 1))
					require.Error(t, err)
					require.False(t, os.IsTimeout(err), "client %d was not closed", i)
				}
				require.Zero(t, ln.Open())
			})
		})
	}
}

// TestKernelListenerLosesDescriptor: a listening socket that is none any more ends its listener and nothing else.
func TestKernelListenerLosesDescriptor(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		ln := k.listen(families[0], k.unexpected("listener"))
		other := k.listen(families[0], attaching(func() any { return echoing() }))
		k.passes(1)
		require.NoError(t, unix.Close(ln.Core().Socket().FD()))
		ln.Core().Requeue(core.Read)
		k.until("its end", func() bool { return ln.Core().Closed() })
		require.ErrorIs(t, ln.Core().Cause(), unix.EBADF)
		addr := other.Addr()
		k.peer(func() error { return sayTo(addr, "hello") }).wait()
	})
}

// refusing is a listening socket whose Accept fails, for as long as there are errors.
type refusing struct {
	core.Socket
	errs []error
}

func (r *refusing) Accept() (core.Socket, error) {
	if len(r.errs) > 0 {
		err := r.errs[0]
		r.errs = r.errs[1:]
		return nil, err
	}
	return r.Socket.Accept()
}

// TestKernelAcceptFails: the errors of one connection cost that connection: the next one is taken in the same pass, and
// nobody hears of it. Any other error makes the listener pause and say so; it stays.
func TestKernelAcceptFails(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		open := func(errs ...error) (*core.Listener, *int) {
			nl, err := net.Listen("tcp4", "127.0.0.1:0")
			require.NoError(t, err)
			s, err := core.AdoptListener(nl)
			require.NoError(t, err)
			n := 0
			ln, err := new(core.ListenConfig).ListenSocket(k.loop, &refusing{s, errs}, &core.Funcs{
				Accepted: func(_ *core.Listener, s core.Socket) error { n++; return s.Close() },
			})
			require.NoError(t, err)
			c, err := connectTo(ln.Addr())
			require.NoError(t, err)
			t.Cleanup(func() { _ = c.Close() })
			return ln, &n
		}
		ln, n := open(syscall.ECONNABORTED, syscall.EPROTO, syscall.ENETDOWN, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
			syscall.ETIMEDOUT, syscall.ECONNRESET, syscall.EPERM, syscall.EOPNOTSUPP)
		k.passes(1)
		require.Equal(t, 1, *n)
		require.False(t, ln.Core().Closed())
		require.Empty(t, k.logs.String())

		for _, err := range []error{syscall.ENOBUFS, syscall.ENOMEM, syscall.EIO} {
			k.logs.b.Reset()
			ln, n = open(err)
			k.passes(1)
			require.Zero(t, ln.Core().Interest(), "it pauses")
			require.False(t, ln.Core().Closed())
			require.Contains(t, k.logs.String(), err.Error())
			k.until("it is at work again", func() bool { return ln.Core().Interest() == core.Read })
			c, err := connectTo(ln.Addr())
			require.NoError(t, err)
			defer c.Close()
			k.until("a connection", func() bool { return *n > 0 })
		}
	})
}

// TestKernelThousandResets: a thousand clients connect and reset at once, many at a time. The listener and the loop go on, every
// channel that was made ends, once, and the next client is served.
func TestKernelThousandResets(t *testing.T) {
	const clients, atATime = 1000, 20
	eachBackend(t, func(t *testing.T, k *kernel) {
		opened, closed := 0, 0
		ln := k.listen(families[0], &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
			opened++
			h := echoing()
			h.Close = func(*core.Dispatcher, error) { closed++ }
			_, err := core.Attach(l.Loop(), s, h)
			return err
		}})
		addr := ln.Addr()
		k.peer(func() error {
			var all sync.WaitGroup
			errs := make(chan error, atATime)
			for range atATime {
				all.Go(func() {
					for i := range clients / atATime {
						c, err := connectTo(addr)
						if err == nil && i%2 == 0 {
							_, err = c.Write([]byte("x"))
						}
						if err == nil {
							err = resetConn(c)
						}
						if err != nil {
							errs <- err
							return
						}
					}
				})
			}
			all.Wait()
			close(errs)
			if err := <-errs; err != nil {
				return err
			}
			c, err := connectTo(addr)
			if err != nil {
				return err
			}
			defer c.Close()
			return say(c, "still there")
		}).wait()
		k.until("the end of all", func() bool { return ln.Open() == 0 })
		require.Equal(t, opened, closed)
		if runtime.GOOS == "linux" {
			require.Equal(t, clients+1, opened)
		}
		require.Equal(t, 1, k.loop.Stats().Channels)
		require.NotContains(t, k.logs.String(), "level=ERROR")
	}, func(o *core.Options) { o.Trace = nil })
}

// TestKernelOutOfDescriptors: a listener survives EMFILE. A child with few descriptors gets more clients than it has room for:
// each is served or closed, none is left to wait; the loop sleeps meanwhile; when there is room, clients are served
// again. (F8)
func TestKernelOutOfDescriptors(t *testing.T) {
	const clients = 12 // twice what there is room for; each one shed doubles the pause
	for _, backend := range core.Backends() {
		t.Run(backend, func(t *testing.T) {
			nothingLeft(t)
			child := startChild(t, "few descriptors", []string{"BACKEND=" + backend})
			addr, err := net.ResolveTCPAddr("tcp4", child.line())
			require.NoError(t, err)
			var served, shed []net.Conn
			defer func() {
				for _, c := range append(served, shed...) {
					_ = c.Close()
				}
			}()
			try := func() {
				c, err := connectTo(addr)
				require.NoError(t, err)
				if err := say(c, "hello"); err == nil {
					served = append(served, c)
				} else {
					require.False(t, os.IsTimeout(err), "left to wait")
					shed = append(shed, c)
				}
			}
			for range clients {
				try()
			}
			require.NotEmpty(t, served)
			require.NotEmpty(t, shed)
			for _, c := range served {
				require.NoError(t, say(c, "those who are in are served"))
			}
			n := len(served)
			for _, c := range served {
				require.NoError(t, c.Close())
			}
			for i := 0; len(served) == n && i < clients; i++ {
				try()
			}
			require.Greater(t, len(served), n, "there is room again")
			out := child.end()
			require.Equal(t, len(shed), number(t, out, "refused"))
			require.Equal(t, 1, number(t, out, "complaints"), "one line in the log for all of them")
			require.Less(t, number(t, out, "passes"), 20*clients, "the loop did not spin")
			require.Equal(t, 1, number(t, out, "listening"))
		})
	}
}

func init() {
	children["few descriptors"] = func(t *testing.T) {
		logs := new(logBuffer)
		l, err := core.NewLoop(core.Options{Backend: os.Getenv("BACKEND"), Logger: slog.New(slog.NewTextHandler(logs, nil))})
		require.NoError(t, err)
		untilStdin(t, l)
		c := core.ListenConfig{Limit: core.Limit{Total: -1}}
		ln, err := c.Listen(l, "tcp4", "127.0.0.1:0", attaching(func() any { return echoing() }))
		require.NoError(t, err)
		leaveDescriptors(t, 6)
		fmt.Println(ln.Addr())
		require.NoError(t, l.Run(t.Context()))
		fmt.Printf("passes=%d\nrefused=%d\ncomplaints=%d\n", l.Stats().Passes, l.Stats().Refused,
			strings.Count(logs.String(), "cannot accept"))
		if !ln.Core().Closed() {
			fmt.Println("listening=1")
		}
	}
}

// TestKernelNoDescriptorAtAll: not even the reserved descriptor can be had. The clients wait, and so does the listener: it
// tries again later and does not spin meanwhile.
func TestKernelNoDescriptorAtAll(t *testing.T) {
	for _, backend := range core.Backends() {
		t.Run(backend, func(t *testing.T) {
			nothingLeft(t)
			child := startChild(t, "no descriptors", []string{"BACKEND=" + backend})
			addr, err := net.ResolveTCPAddr("tcp4", child.line())
			require.NoError(t, err)
			var cs []net.Conn
			for range 3 {
				c, err := connectTo(addr)
				require.NoError(t, err)
				defer c.Close()
				cs = append(cs, c)
			}
			_, err = io.WriteString(child.stdin, "count\n")
			require.NoError(t, err)
			out := child.line()
			require.Less(t, number(t, out, "passes"), 2*aFew, "5, 10, 20, 40 ms")
			require.Equal(t, "", child.line())
			for _, c := range cs {
				require.NoError(t, say(c, "the limit was raised"))
			}
			out = child.end()
			require.Equal(t, 0, number(t, out, "refused"))
			require.Equal(t, 1, number(t, out, "complaints"))
		})
	}
}

func init() {
	children["no descriptors"] = func(t *testing.T) {
		logs := new(logBuffer)
		l, err := core.NewLoop(core.Options{Backend: os.Getenv("BACKEND"), Logger: slog.New(slog.NewTextHandler(logs, nil))})
		require.NoError(t, err)
		var before unix.Rlimit
		require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
		_, err = core.OpenFile(l, os.Stdin, &core.Funcs{
			Read: func(d *core.Dispatcher) error {
				if err := readAll(d); err != nil {
					return err
				}
				passes := l.Stats().Passes
				l.AfterFunc(2*window, func() {
					fmt.Printf("passes=%d\n\n", l.Stats().Passes-passes)
					require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before))
				})
				return nil
			},
			Close: func(*core.Dispatcher, error) { l.Stop() },
		})
		require.NoError(t, err)
		c := core.ListenConfig{Limit: core.Limit{Total: -1}}
		ln, err := c.Listen(l, "tcp4", "127.0.0.1:0", attaching(func() any { return echoing() }))
		require.NoError(t, err)
		limitDescriptors(t, 3)
		fmt.Println(ln.Addr())
		require.NoError(t, l.Run(t.Context()))
		fmt.Printf("refused=%d\ncomplaints=%d\n", l.Stats().Refused, strings.Count(logs.String(), "cannot accept"))
	}
}

// leaveDescriptors lowers this process's limit so that n more can be opened.
func leaveDescriptors(t *testing.T, n int) {
	t.Helper()
	highest := 0
	for fd := range 1024 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			highest = fd
		}
	}
	for { // the gaps below
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		require.NoError(t, err)
		if fd > highest {
			require.NoError(t, unix.Close(fd))
			break
		}
	}
	limitDescriptors(t, highest+1+n)
}

// limitDescriptors lowers this process's limit of open descriptors.
func limitDescriptors(t *testing.T, n int) {
	t.Helper()
	var r unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &r))
	set(&r.Cur, n)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &r))
}

// set: the type of a limit depends on the system.
func set[T int64 | uint64](limit *T, n int) { *limit = T(n) }

// TestKernelDefaultLimit: without a Total, what the limit of open files leaves room for is the bound.
func TestKernelDefaultLimit(t *testing.T) {
	nothingLeft(t)
	child := startChild(t, "default limit", nil)
	addr, err := net.ResolveTCPAddr("tcp4", child.line())
	require.NoError(t, err)
	var cs []net.Conn
	for range 30 {
		c, err := connectTo(addr)
		require.NoError(t, err)
		defer c.Close()
		cs = append(cs, c)
	}
	// 64 descriptors: 64 - 64/16 - 32 = 28 connections.
	for i, c := range cs[:28] {
		require.NoError(t, say(c, "hello"), "client %d", i)
	}
	for _, c := range cs[28:] {
		_, err := c.Write([]byte("x")) // whoever is in gets an echo
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(window)))
		_, err = c.Read(make([]byte, 1))
		require.True(t, os.IsTimeout(err), "it should wait: %v", err)
	}
	require.NoError(t, cs[0].Close())
	require.NoError(t, cs[28].SetReadDeadline(time.Now().Add(patience)))
	_, err = cs[28].Read(make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, say(cs[28], "in"))
	require.Equal(t, 0, number(t, child.end(), "refused"))
}

func init() {
	children["default limit"] = func(t *testing.T) {
		limitDescriptors(t, 64)
		l, err := core.NewLoop(core.Options{})
		require.NoError(t, err)
		untilStdin(t, l)
		ln, err := core.Listen(l, "tcp4", "127.0.0.1:0", attaching(func() any { return echoing() }))
		require.NoError(t, err)
		fmt.Println(ln.Addr())
		require.NoError(t, l.Run(t.Context()))
		fmt.Printf("refused=%d\n", l.Stats().Refused)
	}
}

// TestKernelFDSetSize: select says at registration that a descriptor is beyond what it has room for: an accepted connection
// costs that connection, a dialled one that Dial, a loop that cannot even be woken is refused. The other back ends know
// no such bound.
func TestKernelFDSetSize(t *testing.T) {
	for _, backend := range core.Backends() {
		t.Run(backend, func(t *testing.T) {
			nothingLeft(t)
			child := startChild(t, "high descriptors", []string{"BACKEND=" + backend})
			addr, err := net.ResolveTCPAddr("tcp4", child.line())
			require.NoError(t, err)
			for range 3 {
				c, err := connectTo(addr)
				require.NoError(t, err)
				defer c.Close()
				if backend != "select" {
					require.NoError(t, say(c, "hello"))
					continue
				}
				_, err = c.Read(make([]byte, 1))
				require.Error(t, err)
				require.False(t, os.IsTimeout(err), "left to wait")
			}
			out := child.end()
			refusals := 0
			if backend == "select" {
				refusals = 1
			}
			require.Equal(t, refusals, number(t, out, "loop"), out)
			require.Equal(t, refusals, number(t, out, "dial"), out)
			require.Equal(t, refusals, number(t, out, "predicates"), out)
			require.Equal(t, 3*refusals, number(t, out, "attach"), out)
			require.Equal(t, 1, number(t, out, "listening"), out)
		})
	}
}

func init() {
	children["high descriptors"] = func(t *testing.T) {
		l, err := core.NewLoop(core.Options{Backend: os.Getenv("BACKEND"), Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		untilStdin(t, l)
		counts := map[string]int{}
		note := func(what string, err error) {
			if err == nil {
				return
			}
			if !strings.Contains(err.Error(), "select has room for those below 1024") {
				t.Errorf("%s: %v", what, err)
			}
			counts[what]++
		}
		ln, err := core.Listen(l, "tcp4", "127.0.0.1:0", &core.Funcs{Accepted: func(ln *core.Listener, s core.Socket) error {
			_, err := core.Attach(l, s, echoing())
			note("attach", err)
			return err
		}})
		require.NoError(t, err)
		for {
			fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
			require.NoError(t, err)
			if fd >= unix.FD_SETSIZE {
				break
			}
		}
		l2, err := core.NewLoop(core.Options{Backend: os.Getenv("BACKEND")})
		note("loop", err)
		if err == nil {
			require.NoError(t, l2.Close())
		}

		// A handler with predicates, under a layer: refused, it must not be asked for anything again.
		h := &asking{writable: func() bool { return false }}
		asked := 0
		h.readable = func() bool { asked++; return true }
		near, _ := connPair(t, "unix")
		s, err := core.Adopt(near)
		require.NoError(t, err)
		channels := l.Stats().Channels
		d, err := core.Attach(l, core.Prefix(s, []byte("x"), nil), h)
		note("predicates", err)
		_, stepErr := l.Step(0)
		require.NoError(t, stepErr)
		if err != nil {
			require.Zero(t, asked)
			require.Empty(t, h.calls, "a channel that Attach refused")
			require.Equal(t, channels, l.Stats().Channels)
			require.NoError(t, s.Close(), "it is still the caller's")
		} else {
			require.NoError(t, d.Close())
		}

		fmt.Println(ln.Addr())
		target, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		_, err = core.Dial(l, "tcp4", target.Addr().String(), &core.Funcs{
			Read:    readAll,
			Connect: func(d *core.Dispatcher) error { return d.Close() },
			Close:   func(_ *core.Dispatcher, cause error) { note("dial", cause) },
		})
		require.NoError(t, err)
		require.NoError(t, l.Run(t.Context()))
		for _, what := range []string{"loop", "dial", "predicates", "attach"} {
			fmt.Printf("%s=%d\n", what, counts[what])
		}
		if !ln.Core().Closed() {
			fmt.Println("listening=1")
		}
	}
}

// TestKernelLimitAcrossLoops: connections may close on another loop than their listener's; the race detector looks on.
func TestKernelLimitAcrossLoops(t *testing.T) {
	const conns = 100
	k := newKernel(t, "")
	other, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	defer other.Close()
	other.AfterFunc(time.Hour, func() {}) // it runs until it is stopped
	n := 0
	c := core.ListenConfig{Limit: core.Limit{Total: 2}}
	ln, err := c.Listen(k.loop, "tcp4", "127.0.0.1:0", &core.Funcs{Accepted: func(_ *core.Listener, s core.Socket) error {
		n++
		if !other.Post(func() { _ = s.Close() }) {
			return s.Close()
		}
		return nil
	}})
	require.NoError(t, err)
	addr := ln.Addr()
	ended := make(chan error, 1)
	go func() { ended <- other.Run(context.Background()) }()
	k.peer(func() error {
		for range conns {
			c, err := connectTo(addr)
			if err != nil {
				return err
			}
			_, _ = c.Read(make([]byte, 1)) // its end
			_ = c.Close()
		}
		return nil
	}).wait()
	k.until("all of them", func() bool { return n == conns })
	// The last one is counted as closed after its peer has seen that, and nothing wakes this loop for it.
	require.Eventually(t, func() bool { return ln.Open() == 0 }, patience, time.Millisecond)
	other.Stop()
	require.NoError(t, <-ended)
	require.NoError(t, ln.Close())
}

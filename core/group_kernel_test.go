//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
)

// kernelGroup is a Group that runs; end ends it and returns what Run did.
func kernelGroup(t *testing.T, n int, prepare func(g *core.Group)) (g *core.Group, ended <-chan error) {
	t.Helper()
	nothingLeft(t)
	g, err := core.NewGroup(n, core.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	prepare(g)
	c := make(chan error, 1)
	go func() {
		defer close(c)
		c <- g.Run(context.Background())
	}()
	t.Cleanup(func() {
		g.Stop()
		select {
		case <-c:
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	return g, c
}

// ends waits for Run.
func ends(t *testing.T, c <-chan error) error {
	t.Helper()
	select {
	case err := <-c:
		return err
	case <-time.After(patience):
		require.Fail(t, "Run does not end")
		return nil
	}
}

// counting accepts connections that echo, and counts them by loop.
type counting struct{ on []atomic.Int64 }

func (c *counting) HandleAccepted(ln *core.Listener, s core.Socket) error {
	c.on[ln.Loop().Index()].Add(1)
	_, err := core.Attach(ln.Loop(), s, echoing())
	return err
}

// TestKernelGroupBalance: every loop gets its share, on every kind of socket and with every policy.
func TestKernelGroupBalance(t *testing.T) {
	for _, fam := range families {
		if fam.network == "tcp6" && !hasIPv6() {
			continue
		}
		for name, how := range map[string]core.Share{"balanced": core.ShareBalanced, "least": core.ShareLeast,
			"round robin": core.ShareRoundRobin} {
			t.Run(fam.name+"/"+name, func(t *testing.T) {
				const loops, conns = 2, 60
				count := counting{make([]atomic.Int64, loops)}
				var addr net.Addr
				var ln *core.Listener
				g, c := kernelGroup(t, loops, func(g *core.Group) {
					var err error
					lc := core.ListenConfig{Share: how}
					ln, err = lc.Listen(g, fam.network, fam.address(t), &count)
					require.NoError(t, err)
					addr = ln.Addr()
				})
				var open []net.Conn
				for range conns {
					c, err := connectTo(addr)
					require.NoError(t, err)
					defer c.Close()
					require.NoError(t, say(c, "hello")) // it has come to its loop
					open = append(open, c)
				}
				require.Equal(t, conns, ln.Open())
				for i := range count.on {
					if how == core.ShareBalanced {
						require.InDelta(t, conns/loops, count.on[i].Load(), conns/10)
					} else {
						require.EqualValues(t, conns/loops, count.on[i].Load())
					}
				}
				for _, c := range open {
					require.NoError(t, say(c, "again"))
				}
				g.Shutdown(patience)
				for _, c := range open {
					_, err := c.Read(make([]byte, 1))
					require.ErrorIs(t, err, io.EOF)
				}
				require.NoError(t, ends(t, c))
				require.Zero(t, ln.Open())
				s := g.Stats()
				require.EqualValues(t, conns, s.Accepted)
				require.EqualValues(t, 10*conns, s.BytesIn)
				require.Zero(t, s.Channels)
				if fam.network == "unix" {
					_, err := os.Lstat(addr.String())
					require.ErrorIs(t, err, os.ErrNotExist)
				}
			})
		}
	}
}

// TestKernelGroupLimit: loops that accept at the same time do not go over a limit together, nor does anybody wait in vain.
func TestKernelGroupLimit(t *testing.T) {
	const total, clients, rounds = 5, 20, 25
	for _, loops := range []int{2, 4} {
		var now, most atomic.Int64
		var addr net.Addr
		kernelGroup(t, loops, func(g *core.Group) {
			lc := core.ListenConfig{Limit: core.Limit{Total: total}}
			ln, err := lc.Listen(g, "tcp4", "127.0.0.1:0", &core.Funcs{Accepted: func(ln *core.Listener, s core.Socket) error {
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				h := echoing()
				h.Close = func(*core.Dispatcher, error) { now.Add(-1) } // before that, its descriptor closes
				_, err := core.Attach(ln.Loop(), s, h)
				return err
			}})
			require.NoError(t, err)
			addr = ln.Addr()
		})
		errs := make([]error, clients)
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				for range rounds {
					if errs[i] = sayTo(addr, "hello"); errs[i] != nil {
						return
					}
				}
			})
		}
		all.Wait()
		require.NoError(t, errors.Join(errs...))
		// A place is free as soon as the descriptor is closed, which is before HandleClose.
		require.LessOrEqual(t, most.Load(), int64(total+loops))
		require.GreaterOrEqual(t, most.Load(), int64(2))
	}
}

// TestKernelGroupAddress: port 0 is chosen once; nobody else gets in, not even a group of the same program.
func TestKernelGroupAddress(t *testing.T) {
	g, err := core.NewGroup(3, core.Options{})
	require.NoError(t, err)
	defer g.Close()
	other, err := core.NewGroup(2, core.Options{})
	require.NoError(t, err)
	defer other.Close()
	h := &core.Funcs{Accepted: func(_ *core.Listener, s core.Socket) error { return s.Close() }}
	ln, err := core.Listen(g, "tcp", "localhost:0", h)
	require.NoError(t, err)
	if runtime.GOOS != "freebsd" {
		_, err = core.Listen(other, ln.Addr().Network(), ln.Addr().String(), h)
		require.ErrorIs(t, err, syscall.EADDRINUSE)
	}
	if runtime.GOOS != "freebsd" {
		_, err = core.Listen(g, ln.Addr().Network(), ln.Addr().String(), h)
		require.ErrorIs(t, err, syscall.EADDRINUSE)
	}
	require.Equal(t, 3, g.Loop(0).Stats().Channels+g.Loop(1).Stats().Channels+g.Loop(2).Stats().Channels)
	require.NoError(t, ln.Close())
	again, err := core.Listen(other, ln.Addr().Network(), ln.Addr().String(), h)
	require.NoError(t, err, "all of it is closed")
	require.NoError(t, again.Close())

	_, err = core.Listen(g, "tcp", "localhost:0", new(core.Funcs))
	require.Error(t, err, "no Accepted")
	_, err = core.Listen(g, "unix", "/nonexistent/directory/s", h)
	require.Error(t, err)
	require.Zero(t, g.Loop(0).Stats().Channels)
}

// TestKernelGroupInherited: a socket that listens already is shared, too.
func TestKernelGroupInherited(t *testing.T) {
	std, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := std.Addr()
	count := counting{make([]atomic.Int64, 2)}
	kernelGroup(t, 2, func(g *core.Group) {
		s, err := core.AdoptListener(std)
		require.NoError(t, err)
		_, err = new(core.ListenConfig).ListenSocket(g, s, &count)
		require.NoError(t, err)
	})
	for range 6 {
		c, err := connectTo(addr)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, say(c, "hello"))
	}
	require.EqualValues(t, 3, count.on[0].Load())
	require.EqualValues(t, 3, count.on[1].Load())
}

// TestKernelGroupListenerClose: from the loop of a connection, on all loops.
func TestKernelGroupListenerClose(t *testing.T) {
	var ln *core.Listener
	_, c := kernelGroup(t, 3, func(g *core.Group) {
		var err error
		ln, err = core.Listen(g, "tcp4", "127.0.0.1:0", &core.Funcs{Accepted: func(ln *core.Listener, s core.Socket) error {
			if err := ln.Close(); err != nil { // the first one is enough
				return err
			}
			return s.Close()
		}})
		require.NoError(t, err)
	})
	conn, err := connectTo(ln.Addr())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, ends(t, c), "nothing is left on any loop")
	_, err = connectTo(ln.Addr())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

// TestKernelGroupEnds: the loops end together, when none has anything left.
func TestKernelGroupEnds(t *testing.T) {
	g, err := core.NewGroup(3, core.Options{})
	require.NoError(t, err)
	defer g.Close()
	require.NoError(t, g.Run(t.Context()), "nothing is registered")

	for round := range 50 {
		hops := 0
		var hop func(at int)
		hop = func(at int) {
			if hops++; hops < 30 {
				next := (at + 1) % 3
				if !g.Loop(at).PostTo(g.Loop(next), func() { hop(next) }) {
					hops = -1000
				}
			}
		}
		g.Loop(round%3).AfterFunc(0, func() { hop(round % 3) })
		require.NoError(t, g.Run(t.Context()))
		require.Equal(t, 30, hops)
		require.False(t, g.Loop(0).Post(func() {}))
	}

	cause := errors.New("cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	g.Loop(1).AfterFunc(time.Hour, func() {})
	g.Loop(2).AfterFunc(time.Millisecond, func() { cancel(cause) })
	require.ErrorIs(t, g.Run(ctx), cause)
	g.Loop(1).AfterFunc(time.Millisecond, g.Stop)
	require.NoError(t, g.Run(t.Context()))
	g.Loop(0).AfterFunc(time.Millisecond, func() {
		require.ErrorIs(t, g.Run(t.Context()), core.ErrRunning)
		require.ErrorIs(t, g.Close(), core.ErrRunning)
		g.Stop()
	})
	require.NoError(t, g.Run(t.Context()))
}

// TestKernelGroupPosts: posts between loops that all run come in order, and none is lost.
func TestKernelGroupPosts(t *testing.T) {
	const loops, posts = 3, 2000
	g, err := core.NewGroup(loops, core.Options{MaxPosts: loops * posts})
	require.NoError(t, err)
	defer g.Close()
	var got [loops][loops]int // at, from
	for from := range loops {
		l := g.Loop(from)
		n := 0
		var more func()
		more = func() {
			for range 100 {
				n++
				number := n
				for to := range loops {
					if !l.PostTo(g.Loop(to), func() {
						if got[to][from]++; got[to][from] != number {
							panic("out of order")
						}
					}) {
						panic("refused")
					}
				}
			}
			if n < posts {
				l.AfterFunc(0, more)
			}
		}
		l.AfterFunc(0, more)
	}
	require.NoError(t, g.Run(t.Context()))
	for to := range loops {
		for from := range loops {
			require.Equal(t, posts, got[to][from])
		}
	}
	require.Zero(t, g.Stats().Panics)
}

// TestKernelGroupStats: from any goroutine, while it runs.
func TestKernelGroupStats(t *testing.T) {
	var addr net.Addr
	g, _ := kernelGroup(t, 2, func(g *core.Group) {
		ln, err := core.Listen(g, "tcp4", "127.0.0.1:0", attaching(func() any { return echoing() }))
		require.NoError(t, err)
		addr = ln.Addr()
	})
	for range 10 {
		require.NoError(t, sayTo(addr, "hello"))
	}
	require.Eventually(t, func() bool {
		s := g.Stats()
		return s.Accepted == 10 && s.BytesIn == 50 && s.BytesOut == 50 && s.Channels == 2
	}, patience, time.Millisecond)
}

package core_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// place answers each read with the number of the loop that it came to.
func place(l *core.Listener, s core.Socket) error {
	_, err := core.Attach(l.Loop(), s, &core.Funcs{Read: func(d *core.Dispatcher) error {
		if _, err := d.RecvShared(); err != nil {
			return err
		}
		_, err := d.Send(fmt.Appendf(nil, "%d", d.Loop().Index()))
		return err
	}})
	return err
}

func places() core.AcceptedHandler { return &core.Funcs{Accepted: place} }

// where asks a connection for its loop.
func where(p *sim.Peer) string {
	p.Say("?")
	return p.Read()
}

func simGroup(t *testing.T, n int, c sim.Config, o core.Options) (*sim.World, *core.Group) {
	t.Helper()
	c.T = t
	w := sim.New(c)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return w, w.Group(n, o)
}

func TestGroupLeastConnections(t *testing.T) {
	w, g := simGroup(t, 3, sim.Config{Seed: 1, Latency: time.Millisecond}, core.Options{})
	ln, err := core.Listen(g, "tcp", "server:0", places())
	require.NoError(t, err)
	addr := ln.Addr().String()
	var peers []*sim.Peer
	for range 30 {
		peers = append(peers, w.Dial("tcp", addr))
	}
	w.Settle()
	on := make(map[string][]*sim.Peer)
	for _, p := range peers {
		at := where(p)
		on[at] = append(on[at], p)
	}
	for i := range 3 {
		require.Len(t, on[fmt.Sprint(i)], 10)
		require.EqualValues(t, 10, g.Loop(i).Stats().Accepted)
	}
	require.Equal(t, 30, ln.Open())

	for _, p := range on["1"] { // what comes next goes to where there is room
		p.Close()
	}
	w.Settle()
	require.Equal(t, 20, ln.Open())
	for range 10 {
		require.Equal(t, "1", where(w.Dial("tcp", addr)))
	}
	require.Equal(t, core.Stats{Accepted: 40, Channels: 33}, core.Stats{
		Accepted: g.Stats().Accepted, Channels: g.Stats().Channels}, "each loop has a listener, also who only gets connections")
}

func TestGroupRoundRobin(t *testing.T) {
	w, g := simGroup(t, 3, sim.Config{}, core.Options{})
	c := core.ListenConfig{Share: core.ShareRoundRobin}
	_, err := c.Listen(g, "unix", "/s", places())
	require.NoError(t, err)
	for i := range 9 {
		p := w.Dial("unix", "/s")
		require.Equal(t, fmt.Sprint(i%3), where(p))
		if i%2 == 0 {
			p.Close()
		}
	}
}

// The limits are those of all loops together.
func TestGroupLimits(t *testing.T) {
	w, g := simGroup(t, 2, sim.Config{}, core.Options{})
	c := core.ListenConfig{Limit: core.Limit{Total: 3}}
	ln, err := c.Listen(g, "tcp", "server:1", places())
	require.NoError(t, err)
	var peers []*sim.Peer
	for range 5 {
		peers = append(peers, w.Dial("tcp", "server:1"))
	}
	w.Settle()
	require.Equal(t, 3, ln.Open(), "two wait in the backlog")
	require.Empty(t, where(peers[3]))
	peers[0].Close()
	peers[1].Close()
	w.Settle()
	require.NotEmpty(t, peers[3].Read())
	require.NotEmpty(t, where(peers[4]))
	require.Equal(t, 3, ln.Open())

	ln.SetLimit(core.Limit{Total: 4, PerAddr: 4, Refusal: "full\n"})
	w.Settle()
	require.NotEmpty(t, where(w.Dial("tcp", "server:1")))
	w.Dial("tcp", "server:1").Want("full\n")
	ln.SetLimit(core.Limit{PerAddr: 1, Refusal: "too many\n"})
	a := w.DialFrom("tcp", "198.51.100.1:0", "server:1")
	require.NotEmpty(t, where(a))
	w.DialFrom("tcp", "198.51.100.1:0", "server:1").Want("too many\n")
	a.Close()
	w.Settle()
	require.NotEmpty(t, where(w.DialFrom("tcp", "198.51.100.1:0", "server:1")))
	require.EqualValues(t, 2, g.Stats().Refused)
}

// A handler that fails or panics on the loop that a connection was handed to costs that connection.
func TestGroupHandlersFailures(t *testing.T) {
	var log bytes.Buffer
	w, g := simGroup(t, 2, sim.Config{}, core.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	n := 0
	c := core.ListenConfig{Share: core.ShareRoundRobin}
	ln, err := c.Listen(g, "tcp", "server:1", &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
		switch n++; n {
		case 2:
			return io.ErrNoProgress
		case 4:
			panic("P")
		}
		return place(l, s)
	}})
	require.NoError(t, err)
	for i := range 6 {
		p := w.Dial("tcp", "server:1")
		w.Settle()
		if i == 1 || i == 3 {
			p.WantClosed()
			continue
		}
		require.Equal(t, fmt.Sprint(i%2), where(p))
	}
	require.Equal(t, 4, ln.Open())
	require.Contains(t, log.String(), io.ErrNoProgress.Error())
	require.Contains(t, log.String(), "handler panicked: P")
}

// Closing the listener closes what was accepted and has not reached its loop; what has stays.
func TestGroupListenerClose(t *testing.T) {
	onTheWay := 0
	for seed := range uint64(20) {
		w, g := simGroup(t, 3, sim.Config{Seed: seed}, core.Options{})
		files := w.Files()
		taken := 0
		c := core.ListenConfig{Share: core.ShareRoundRobin}
		ln, err := c.Listen(g, "tcp", "server:1", &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
			taken++
			return place(l, s)
		}})
		require.NoError(t, err)
		for range 12 {
			w.Dial("tcp", "server:1")
		}
		w.Until(func() bool { return taken >= int(seed)%12 && ln.Open() > 0 })
		onTheWay += ln.Open() - taken
		require.NoError(t, ln.Close())
		w.Settle()
		require.Equal(t, taken, ln.Open())
		require.Equal(t, files+taken+1, w.Files(), "and the reserved one")
		w.Dial("tcp", "server:1").WantReset()
		require.NoError(t, g.Close())
		require.Equal(t, files, w.Files())
		require.Zero(t, ln.Open())
	}
	require.NotZero(t, onTheWay, "else the test shows nothing")
}

// Run on the simulated network: it ends when nothing is left, by Shutdown, by an error, by the context.
func TestGroupRunSimulated(t *testing.T) {
	w, g := simGroup(t, 3, sim.Config{Seed: 7, Latency: time.Millisecond}, core.Options{})
	require.NoError(t, g.Run(t.Context()), "nothing is registered")

	ln, err := core.Listen(g, "tcp", "server:1", places())
	require.NoError(t, err)
	require.ErrorIs(t, g.Run(t.Context()), sim.ErrDeadlock, "nobody would ever come")

	peers := []*sim.Peer{w.Dial("tcp", "server:1"), w.Dial("tcp", "server:1"), w.Dial("tcp", "server:1")}
	said := 0
	g.Loop(2).AfterFunc(time.Minute, func() {
		for _, p := range peers {
			p.Say("?")
			said++
		}
		g.Shutdown(time.Second)
	})
	require.NoError(t, g.Run(t.Context()))
	require.Equal(t, 3, said)
	require.Zero(t, ln.Open())
	for _, p := range peers {
		p.WantClosed()
	}
	require.False(t, g.Loop(1).Post(func() {}), "it has ended")

	order := ""
	g.Loop(0).AfterFunc(time.Second, func() {
		g.Loop(0).PostTo(g.Loop(1), func() {
			order += "1"
			g.Loop(1).PostTo(g.Loop(2), func() { order += "2" })
		})
		order += "0"
	})
	require.NoError(t, g.Run(t.Context()), "a loop without anything waits for what others post")
	require.Equal(t, "012", order)

	_, err = core.Listen(g, "tcp", "server:2", places())
	require.NoError(t, err)
	g.Loop(1).AfterFunc(time.Second, g.Stop)
	require.NoError(t, g.Run(t.Context()))
	require.Equal(t, 3, g.Stats().Channels, "Stop leaves them open")
	cause := errors.New("cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	g.Loop(1).AfterFunc(time.Second, func() { cancel(cause) })
	require.ErrorIs(t, g.Run(ctx), cause)
	require.Zero(t, g.Stats().Channels)
	require.NoError(t, g.Close())
	require.ErrorIs(t, g.Run(t.Context()), core.ErrClosed)
}

func TestGroupExitNow(t *testing.T) {
	w, g := simGroup(t, 2, sim.Config{}, core.Options{})
	_, err := core.Listen(g, "tcp", "server:1", &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
		_, err := core.Attach(l.Loop(), s, &core.Funcs{Read: func(*core.Dispatcher) error { return core.ExitNow }})
		return err
	}})
	require.NoError(t, err)
	w.Dial("tcp", "server:1")
	w.Dial("tcp", "server:1").Say("exit")
	require.ErrorIs(t, g.Run(t.Context()), core.ExitNow)
	require.Equal(t, 4, g.Stats().Channels)
}

// The same seed gives the same run, another one another.
func TestGroupDeterminism(t *testing.T) {
	ladder := func(seed uint64) string {
		w, g := simGroup(t, 3, sim.Config{Seed: seed, Latency: time.Millisecond, Jitter: time.Millisecond, RandomCuts: true}, core.Options{})
		_, err := core.Listen(g, "tcp", "server:1", places())
		require.NoError(t, err)
		var peers []*sim.Peer
		for range 8 {
			peers = append(peers, w.Dial("tcp", "server:1"))
		}
		for range 5 {
			for _, p := range peers {
				p.Say("what is said")
			}
			w.Settle()
		}
		return w.Ladder()
	}
	first := ladder(1)
	require.Equal(t, first, ladder(1))
	require.NotEqual(t, first, ladder(2))
}

// The trace hook is told which loop an event is of.
func TestGroupTrace(t *testing.T) {
	opened := make(map[int]int)
	w, g := simGroup(t, 3, sim.Config{}, core.Options{Trace: func(e *core.Event) {
		if e.Kind == core.TraceOpen {
			require.Equal(t, e.Chan.Loop().Index(), e.Loop)
			opened[e.Loop]++
		}
	}})
	_, err := core.Listen(g, "tcp", "server:1", places())
	require.NoError(t, err)
	for range 6 {
		w.Dial("tcp", "server:1")
	}
	w.Settle()
	require.Equal(t, map[int]int{0: 3, 1: 2, 2: 2}, opened, "the first has the listening socket")
}

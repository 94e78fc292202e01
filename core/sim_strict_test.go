package core_test

import (
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/core/trace"
)

type misspelt1 struct{ logged }

func (*misspelt1) HandleTimeOut(*core.Dispatcher) error { return nil } // right but for case

type misspelt2 struct{ logged }

func (*misspelt2) HandleConect(*core.Dispatcher) error { return nil }

type misspelt3 struct{ logged }

func (*misspelt3) HandleEOF(*core.Dispatcher) {} // another signature

type foreign struct{ logged }

func (*foreign) HandleHead(string) error { return nil } // one edit from HandleRead

type harmless struct{ logged }

func (*harmless) HandleCommand(string) error { return nil }
func (*harmless) Close() error               { return nil }

func TestMisspeltHandlersOfCore(t *testing.T) {
	_, l := simLoop(t, sim.Config{}, core.Options{})
	w := sim.New(sim.Config{T: t})
	for _, x := range []struct {
		h    any
		want string
	}{
		{&misspelt1{}, "did you mean HandleTimeout?"},
		{&misspelt2{}, "did you mean HandleConnect?"},
		{&misspelt3{}, "HandleEOF is never called: its signature is not that of core.EOFHandler"},
		{&foreign{}, "did you mean HandleRead?"},
		{&harmless{}, ""},
	} {
		s, _ := w.Pair()
		_, err := core.Attach(l, s, x.h)
		if x.want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, x.want)
		}
	}
}

// Options.Strict does the same on a loop of the operating system.
func TestStrictIsAnOption(t *testing.T) {
	if len(core.Backends()) == 0 {
		t.Skip("no poller on this platform")
	}
	for _, strict := range []bool{true, false} {
		l, err := core.NewLoop(core.Options{Strict: strict})
		require.NoError(t, err)
		err = core.CheckHandler("core", &misspelt2{})
		require.Error(t, err)
		_, err = core.ListenPacket(l, "udp", "127.0.0.1:0", &misspelt2{})
		require.Equal(t, strict, err != nil)
		require.NoError(t, l.Close())
	}
}

// wrapper is a handler that wraps another one and adds something.
type wrapper struct{ inner any }

func (w *wrapper) Unwrap() any { return w.inner }

// Handlers below an Unwrap are found: the wrapper did not hide HandleClose and HandleRead.
func TestUnwrap(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	inner := &logged{}
	_, p := attach(t, w, l, &wrapper{inner: &wrapper{inner: inner}})
	p.Say("x")
	p.CloseWrite()
	w.Settle()
	require.Equal(t, []string{"read x", "close EOF"}, inner.log)
	_, ok := core.As[core.CloseHandler[*core.Dispatcher]](&wrapper{inner: inner})
	require.True(t, ok)
	_, ok = core.As[core.EOFHandler[*core.Dispatcher]](&wrapper{inner: inner})
	require.False(t, ok)
	_, ok = core.As[io.Reader](nil)
	require.False(t, ok)
}

func TestAttachNeedsAHandler(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	s, _ := w.Pair()
	_, err := core.Attach(l, s, struct{}{})
	require.ErrorContains(t, err, "has none of HandleRead")
	_, err = core.Attach(l, s, &core.Funcs{})
	require.Error(t, err)
	d, err := core.Attach(l, s, &core.Funcs{Write: func(d *core.Dispatcher) error { return nil }})
	require.NoError(t, err)
	require.Error(t, d.Attach(l, s, &logged{}), "a Dispatcher is attached once")
	require.Zero(t, d.Interest(), "no read interest without HandleRead")
}

func TestSetHandler(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	first, second := &logged{}, &asked{logged: &logged{}, readable: true}
	d, p := attach(t, w, l, first)
	p.Say("a")
	w.Settle()
	l.Post(func() { require.NoError(t, d.SetHandler(second)) })
	w.Settle()
	p.Say("b")
	w.Settle()
	require.Positive(t, second.n, "its predicates are asked")
	l.Post(func() { require.NoError(t, d.SetHandler(first)) })
	w.Settle()
	n := second.n
	p.Say("c")
	p.CloseWrite()
	w.Settle()
	require.Equal(t, n, second.n, "and not any more")
	require.Equal(t, []string{"read a", "read c", "close EOF"}, first.log)
	require.Equal(t, []string{"read b"}, second.log)
	require.ErrorIs(t, d.SetHandler(first), core.ErrClosed)
	require.Error(t, func() error { _, err := core.Attach(l, nil, struct{}{}); return err }())
}

// Layers of the loop itself: a tap and a throttle, on a plain Dispatcher, with a prefix.
func TestLayersOnADispatcher(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &logged{read: func(d *core.Dispatcher, p []byte) error {
		_, err := d.Send(p)
		return err
	}}
	s, p := w.Pair()
	var tapped string
	throttle := &sim.Throttle{Socket: core.Prefix(s, []byte("before "), nil), Rate: 1000}
	d, err := core.Attach(l, &sim.Tap{Socket: throttle, In: func(p []byte) { tapped += string(p) }}, h)
	require.NoError(t, err)
	p.Want("before ") // without any input from the peer: it is pending in a layer
	p.Say("after")
	p.Want("after")
	require.Equal(t, "before after", tapped)
	_, _, err = d.Detach()
	require.ErrorIs(t, err, core.ErrUnsupported)
}

// attachedLayer counts how often it is told its channel.
type attachedLayer struct {
	sim.Tap
	told int
}

func (a *attachedLayer) Attached(*core.Dispatcher) { a.told++ }

func TestAttachedIsCalledOnce(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	s, _ := w.Pair()
	first := &attachedLayer{Tap: sim.Tap{Socket: s}}
	d, err := core.Attach(l, first, &logged{})
	require.NoError(t, err)
	second := &attachedLayer{Tap: sim.Tap{Socket: first}}
	third := &attachedLayer{Tap: sim.Tap{Socket: second}}
	require.NoError(t, d.Upgrade(third))
	require.Equal(t, []int{1, 1, 1}, []int{first.told, second.told, third.told})
}

// The trace hook gets every kind of event of a small life, with what belongs to it.
func TestTraceEvents(t *testing.T) {
	rec := trace.NewRecorder(1000)
	w, l := simLoop(t, sim.Config{Latency: 5 * time.Millisecond}, core.Options{Trace: rec.Record})
	h := &logged{read: func(d *core.Dispatcher, p []byte) error { _, err := d.Send(p); return err }}
	d, p := attach(t, w, l, h)
	p.Say("ping")
	p.Want("ping")
	l.AfterFunc(time.Second, func() {})
	l.Post(func() {})
	w.Advance(2 * time.Second)
	p.CloseWrite()
	p.WantClosed()
	kinds := map[core.TraceKind]trace.Record{}
	for _, r := range rec.Records() {
		kinds[r.Kind] = r
	}
	for _, k := range []core.TraceKind{core.TracePass, core.TraceWait, core.TraceReady, core.TraceCall, core.TraceRecv, core.TraceSend,
		core.TraceInterest, core.TraceOpen, core.TraceClose, core.TraceTimer, core.TracePost} {
		require.Contains(t, kinds, k, k.String())
	}
	require.Equal(t, "ping", string(kinds[core.TraceRecv].Data))
	require.Equal(t, 4, kinds[core.TraceSend].N)
	require.Equal(t, d.ID(), kinds[core.TraceSend].Chan)
	require.Equal(t, io.EOF, kinds[core.TraceClose].Err)
	require.Equal(t, "HandleClose", kinds[core.TraceCall].Name)
	require.NotZero(t, kinds[core.TraceRecv].Pass)
	require.NotZero(t, kinds[core.TraceCall].Time)
}

// What the hook is told of a small life, event by event: what each kind fills in is what its comment says.
func TestTraceIsExact(t *testing.T) {
	var got []string
	w, l := simLoop(t, sim.Config{Latency: 5 * time.Millisecond}, core.Options{Trace: func(e *core.Event) {
		line := fmt.Sprintf("%v %v", e.Time.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), e.Kind)
		if e.Chan != nil {
			line += fmt.Sprintf(" ch%d", e.Chan.ID())
		}
		for _, part := range []struct {
			form  string
			value any
			shown bool
		}{
			{"%s", e.Name, e.Name != ""}, {"n=%d", e.N, e.N != 0}, {"%q", e.Data, e.Data != nil}, {"want=%v", e.Want, e.Want != 0},
			{"got=%v", e.Got, e.Got != 0}, {"dur=%v", e.Dur, e.Dur != 0}, {"err=%v", e.Err, e.Err != nil},
		} {
			if part.shown {
				line += " " + fmt.Sprintf(part.form, part.value)
			}
		}
		got = append(got, line)
	}})
	ln := w.Listen("tcp", "server:1")
	d, err := core.Dial(l, "tcp", "192.0.2.1:1", &core.Funcs{
		Connect: func(d *core.Dispatcher) error { w.Busy(time.Millisecond); return nil },
		Read: func(d *core.Dispatcher) error {
			p, err := d.RecvShared()
			if err != nil {
				return err
			}
			_, err = d.Send(p)
			d.WantWrite(true)
			return err
		},
		Write: func(d *core.Dispatcher) error { d.WantWrite(false); return nil },
	})
	require.NoError(t, err)
	p := ln.Accept()
	p.Say("ping")
	p.Want("ping")
	d.AfterFunc(time.Second, func() { w.Busy(time.Second) })
	l.AfterFunc(time.Minute, func() { l.Post(func() {}) })
	w.Advance(2 * time.Minute)
	p.CloseWrite()
	p.WantClosed()
	require.Equal(t, []string{
		"0s interest ch1 want=W",
		"10ms pass",
		"10ms wait sim n=1",
		"10ms ready ch1 want=W got=W",
		"10ms open ch1 ch1 *core.Funcs 192.0.2.1:1",
		"11ms call ch1 HandleConnect dur=1ms",
		"11ms interest ch1 want=R got=W",
		"11ms pass",
		"11ms wait sim n=1",
		"11ms ready ch1 want=R got=R",
		`11ms recv ch1 n=4 "ping"`,
		`11ms send ch1 n=4 "ping"`,
		"11ms call ch1 HandleRead",
		"11ms interest ch1 want=RW got=R",
		"11ms pass",
		"11ms wait sim n=1",
		"11ms ready ch1 want=RW got=W",
		"11ms call ch1 HandleWrite",
		"11ms interest ch1 want=R got=RW",
		"1.016s pass",
		"1.016s wait sim",
		"1.016s timer ch1 AfterFunc",
		"2.016s call ch1 AfterFunc dur=1s",
		"1m0.016s pass",
		"1m0.016s wait sim",
		"1m0.016s timer AfterFunc",
		"1m0.016s call AfterFunc",
		"1m0.016s pass",
		"1m0.016s wait sim",
		"1m0.016s post Post",
		"1m0.016s call Post",
		"2m0.021s pass",
		"2m0.021s wait sim n=1",
		"2m0.021s ready ch1 want=R got=R",
		"2m0.021s call ch1 HandleRead",
		"2m0.021s close ch1 err=EOF",
	}, got)
}

// Nobody looks: tracing costs nothing, not even an allocation.
func TestNoTraceNoCost(t *testing.T) {
	if len(core.Backends()) == 0 {
		t.Skip("no poller on this platform")
	}
	l, err := core.NewLoop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer l.Close()
	d, err := core.ListenPacket(l, "udp", "127.0.0.1:0", &packets{})
	require.NoError(t, err)
	require.False(t, d.Tracing())
	require.Zero(t, testing.AllocsPerRun(100, func() { l.Step(0) }))
}

// The loop's buffers for the length of an event: one large, further ones small, all given back.
func TestBorrow(t *testing.T) {
	_, l := simLoop(t, sim.Config{}, core.Options{})
	a, b, c := l.Borrow(10), l.Borrow(10), l.Borrow(core.SmallBuffer+1)
	require.Equal(t, []int{core.LargeBuffer, core.SmallBuffer, core.LargeBuffer}, []int{cap(a), cap(b), cap(c)})
	a = append(a, "text"...)
	l.GiveBack(a)
	require.Equal(t, byte(core.Poison), a[0], "what was lent and kept shows poison")
	l.GiveBack(b)
	l.GiveBack(c)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		x, y := l.Borrow(1), l.Borrow(1)
		l.GiveBack(x)
		l.GiveBack(y)
	}))
	require.Equal(t, 200_000, cap(l.Borrow(200_000)))
}

package core_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// The loop on the simulated network: what does not need a kernel.

func simLoop(t *testing.T, c sim.Config, o core.Options) (*sim.World, *core.Loop) {
	t.Helper()
	c.T = t
	w := sim.New(c)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := w.Loop(o)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return w, l
}

// logged is a handler that writes down what it is told.
type logged struct {
	log  []string
	read func(d *core.Dispatcher, p []byte) error
}

func (h *logged) add(format string, args ...any) { h.log = append(h.log, fmt.Sprintf(format, args...)) }

func (h *logged) HandleRead(d *core.Dispatcher) error {
	p, err := d.RecvShared()
	if err != nil {
		return err
	}
	h.add("read %s", p)
	if h.read != nil {
		return h.read(d, p)
	}
	return nil
}

func (h *logged) HandleClose(_ *core.Dispatcher, cause error) { h.add("close %v", cause) }

func attach(t *testing.T, w *sim.World, l *core.Loop, h any) (*core.Dispatcher, *sim.Peer) {
	t.Helper()
	s, p := w.Pair()
	d, err := core.Attach(l, s, h)
	require.NoError(t, err)
	return d, p
}

func TestRunEndsWhenNothingIsLeft(t *testing.T) {
	w, l := simLoop(t, sim.Config{Work: time.Second, Seed: 1}, core.Options{})
	require.NoError(t, l.Run(context.Background()), "nothing registered")
	require.Zero(t, w.Elapsed())

	var log []string
	l.AfterFunc(time.Hour, func() {
		log = append(log, "timer")
		l.Post(func() { log = append(log, "post") })
	})
	require.NoError(t, l.Run(context.Background()), "a pending timer keeps it going")
	require.Equal(t, []string{"timer", "post"}, log)
	require.Equal(t, time.Hour, w.Elapsed())

	h := &logged{}
	d, p := attach(t, w, l, h)
	core.Go(d, func(context.Context) (int, error) { return 7, nil }, func(n int, err error) error {
		log = append(log, fmt.Sprint("work ", n))
		return d.Close()
	})
	require.NoError(t, l.Run(context.Background()), "work that is out keeps it going")
	require.Equal(t, "work 7", log[2])
	p.WantClosed()
}

// Work that is out keeps Run going even when its channel is gone: its completion is still to come.
func TestRunWaitsForWork(t *testing.T) {
	w, l := simLoop(t, sim.Config{Work: time.Hour, Seed: 2}, core.Options{})
	d, _ := attach(t, w, l, &logged{})
	called := false
	core.Go(d, func(ctx context.Context) (int, error) { return 0, ctx.Err() }, func(int, error) error {
		called = true
		return nil
	})
	require.Equal(t, 1, l.Stats().Work)
	d.Close()
	require.NoError(t, l.Run(context.Background()))
	require.NotZero(t, w.Elapsed())
	require.False(t, called, "not for a closed channel")
	require.Zero(t, l.Stats().Work)
}

func TestDeadlockIsAnError(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	attach(t, w, l, &logged{})
	require.ErrorIs(t, l.Run(context.Background()), sim.ErrDeadlock)
}

func TestRunWithDoneContext(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &logged{}
	_, p := attach(t, w, l, h)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(io.ErrNoProgress)
	posted := false
	l.Post(func() { posted = true })
	require.ErrorIs(t, l.Run(ctx), io.ErrNoProgress)
	require.Equal(t, []string{"close " + io.ErrNoProgress.Error()}, h.log)
	require.True(t, posted, "a post that was accepted runs")
	require.False(t, l.Post(func() {}), "the loop has ended")
	p.WantClosed()
}

func TestStop(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &logged{read: func(d *core.Dispatcher, _ []byte) error { d.Loop().Stop(); return nil }}
	d, p := attach(t, w, l, h)
	p.Say("a")
	require.NoError(t, l.Run(context.Background()))
	require.False(t, d.Closed())
	require.False(t, l.Post(func() {}))
	p.Say("b")
	require.NoError(t, l.Run(context.Background()), "it may be called again")
	require.Equal(t, []string{"read a", "read b"}, h.log)
}

// A1, A2: the stop signal passes through, whichever handler returns it; the channel stays open.
func TestA1ExitNow(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &logged{read: func(*core.Dispatcher, []byte) error { return fmt.Errorf("wrapped: %w", core.ExitNow) }}
	d, p := attach(t, w, l, h)
	p.Say("a")
	ran := false
	l.AfterFunc(0, func() { ran = true })
	require.ErrorIs(t, l.Run(context.Background()), core.ExitNow)
	require.False(t, d.Closed())
	require.Equal(t, []string{"read a"}, h.log)
	h.read = func(d *core.Dispatcher, _ []byte) error { return d.Close() }
	p.Say("b")
	require.NoError(t, l.Run(context.Background()), "what the exit left undone is done later")
	require.True(t, ran)
}

// What an exit left unserved, and no poller would report again, comes in the next Run: channels that were queued, timers,
// posts.
func TestExitLeavesNothingOut(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	served := 0
	h := &core.Funcs{Read: func(*core.Dispatcher) error {
		if served++; served == 2 {
			return core.ExitNow
		}
		return nil // there is no input: it was the queue's doing
	}}
	for range 5 {
		d, _ := attach(t, w, l, h)
		d.Requeue(core.Read)
	}
	posted, fired := 0, 0
	l.Post(func() { posted++ })
	l.AfterFunc(0, func() { fired++ })
	require.ErrorIs(t, l.Run(context.Background()), core.ExitNow)
	require.Equal(t, []int{2, 0, 0}, []int{served, posted, fired})
	w.Settle()
	require.Equal(t, []int{5, 1, 1}, []int{served, posted, fired})
}

// What a post opens when the context of Run is done already is closed with the rest.
func TestCancelledRunClosesWhatAPostOpens(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &logged{}
	l.Post(func() { attach(t, w, l, h) })
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(io.ErrNoProgress)
	require.ErrorIs(t, l.Run(ctx), io.ErrNoProgress)
	require.Equal(t, []string{"close " + io.ErrNoProgress.Error()}, h.log)
	require.Zero(t, l.Stats().Channels)
}

// Step counts passes, as asyncore.loop(count=…) does, and does not wait when nothing is registered.
func TestStep(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	more, err := l.Step(time.Hour)
	require.NoError(t, err)
	require.False(t, more)
	require.Zero(t, w.Elapsed(), "nothing to wait for")
	require.Zero(t, l.Stats().Passes)

	_, p := attach(t, w, l, &logged{})
	more, err = l.Step(3 * time.Second)
	require.NoError(t, err)
	require.True(t, more)
	require.Equal(t, 3*time.Second, w.Elapsed())
	l.AfterFunc(time.Second, func() {})
	_, err = l.Step(time.Hour)
	require.NoError(t, err)
	require.Equal(t, 4*time.Second, w.Elapsed(), "not beyond the next timer")
	p.Close()
	_, err = l.Step(-1)
	require.NoError(t, err)
	more, err = l.Step(time.Hour)
	require.NoError(t, err)
	require.False(t, more)
}

func TestInterruptedWaitResumes(t *testing.T) {
	w, l := simLoop(t, sim.Config{Interrupt: 0.9, Seed: 4}, core.Options{})
	attach(t, w, l, &logged{})
	for range 20 {
		before := w.Now()
		_, err := l.Step(time.Second)
		require.NoError(t, err)
		require.Equal(t, time.Second, w.Now().Sub(before), "the time that is left, and no more")
	}
}

func TestTimers(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	var log []string
	say := func(s string) func() { return func() { log = append(log, fmt.Sprintf("%v %s", w.Elapsed(), s)) } }
	l.AfterFunc(3*time.Second, say("three"))
	one := l.AfterFunc(time.Second, say("one"))
	stopped := l.AfterFunc(2*time.Second, say("never"))
	again := l.AfterFunc(5*time.Second, say("reset"))
	l.AfterFunc(time.Second, func() {
		require.True(t, stopped.Stop())
		require.False(t, stopped.Stop())
		require.True(t, again.Reset(3*time.Second))
		l.AfterFunc(-time.Second, say("at once"))
	})
	for range 100 {
		l.AfterFunc(time.Minute, func() {}).Stop()
	}
	require.NoError(t, l.Run(context.Background()))
	require.Equal(t, []string{"1s one", "1s at once", "3s three", "4s reset"}, log)
	require.False(t, one.Reset(time.Second), "it was not pending")
	require.NoError(t, l.Run(context.Background()))
	require.Equal(t, "5s one", log[4])
}

// flusher sends something at the end of an event.
type flusher struct{ *logged }

func (flusher) HandleFlush(d *core.Dispatcher) error {
	_, err := d.Send([]byte("z"))
	return err
}

// What is sent puts the idle timeout off, as what is received does, also from outside of an event, when the last pass is
// long ago; what the peer does not take does not.
func TestIdleTimeoutHearsBothWays(t *testing.T) {
	w, l := simLoop(t, sim.Config{Window: 100}, core.Options{})
	d, p := attach(t, w, l, flusher{&logged{}})
	d.SetIdleTimeout(time.Minute)
	for i := range 20 {
		w.Advance(50 * time.Second)
		if i%2 == 0 {
			p.Say("x")
		} else {
			_, err := d.Send([]byte("y"))
			require.NoError(t, err)
		}
	}
	for range 10 {
		w.Advance(50 * time.Second)
		_, err := d.Send([]byte("y"))
		require.NoError(t, err)
	}
	for range 10 {
		w.Advance(50 * time.Second)
		d.RequestFlush()
	}
	require.False(t, d.Closed())
	w.Settle()
	p.Stall(true)
	_, err := d.Send(make([]byte, 200))
	require.NoError(t, err)
	w.Advance(50 * time.Second)
	_, err = d.Send([]byte("y"))
	require.ErrorIs(t, err, core.ErrWouldBlock)
	w.Advance(20 * time.Second)
	require.Equal(t, core.ErrTimeout, d.Cause())
}

func TestTimersInOrder(t *testing.T) {
	w, l := simLoop(t, sim.Config{Seed: 9}, core.Options{})
	var fired []time.Duration
	timers := map[int]*core.Timer{}
	for i := range 1000 {
		d := time.Duration(w.Rand().IntN(1000)) * time.Millisecond
		timers[i] = l.AfterFunc(d, func() { fired = append(fired, w.Elapsed()) })
	}
	stopped := 0
	for i := 0; i < 1000; i += 3 {
		timers[i].Stop()
		stopped++
	}
	require.NoError(t, l.Run(context.Background()))
	require.Len(t, fired, 1000-stopped)
	require.IsNonDecreasing(t, fired)
}

// A timer that sets itself anew at once does not keep the loop from its channels.
func TestTimerStormDoesNotStarve(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	var again func()
	n := 0
	again = func() {
		if n++; n < 10_000 {
			l.AfterFunc(0, again)
		}
	}
	again()
	served := -1
	h := &logged{read: func(d *core.Dispatcher, _ []byte) error { served = n; return d.Close() }}
	_, p := attach(t, w, l, h)
	p.Say("a")
	require.NoError(t, l.Run(context.Background()))
	require.Less(t, served, 100)
	require.Equal(t, 10_000, n)
}

func TestTimersOfAChannelDieWithIt(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	d, _ := attach(t, w, l, &logged{})
	ran := false
	timer := d.AfterFunc(time.Hour, func() { ran = true })
	d.AfterFunc(time.Second, func() { d.Close() })
	require.NoError(t, l.Run(context.Background()))
	require.Equal(t, time.Second, w.Elapsed())
	require.False(t, timer.Reset(time.Second), "and cannot be set again")
	require.NoError(t, l.Run(context.Background()))
	require.False(t, ran)
	require.Zero(t, l.Stats().Timers)
}

func TestPosts(t *testing.T) {
	_, l := simLoop(t, sim.Config{}, core.Options{MaxPosts: 3})
	var log []int
	for i := range 5 {
		require.Equal(t, i < 3, l.Post(func() { log = append(log, i) }), "MaxPosts")
	}
	require.Equal(t, 3, l.Stats().Posts)
	require.NoError(t, l.Run(context.Background()))
	require.Equal(t, []int{0, 1, 2}, log)
}

// A func of the loop's own that panics is logged and costs nothing else.
func TestPanicInPostAndTimer(t *testing.T) {
	var out bytes.Buffer
	w, l := simLoop(t, sim.Config{}, core.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	d, _ := attach(t, w, l, &logged{})
	ran := 0
	l.Post(func() { panic("post") })
	l.Post(func() { ran++ })
	l.AfterFunc(0, func() { panic("timer") })
	l.AfterFunc(0, func() { ran++ })
	w.Settle()
	require.Equal(t, 2, ran)
	require.False(t, d.Closed())
	require.EqualValues(t, 2, l.Stats().Panics)
	require.Contains(t, out.String(), "panic=post")
	require.Contains(t, out.String(), "panic=timer")
}

// A3, A4: close_all closes every channel of the loop and leaves none.
func TestA3CloseAll(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &logged{}
	for range 10 {
		attach(t, w, l, h)
	}
	_, err := core.Listen(l, "tcp", "server:1", &core.Funcs{Accepted: func(*core.Listener, core.Socket) error { return nil }})
	require.NoError(t, err)
	require.Equal(t, 11, l.Stats().Channels)
	require.NoError(t, l.CloseAll(io.ErrNoProgress))
	require.Zero(t, l.Stats().Channels)
	require.Len(t, h.log, 10, "every handler was told before it returned")
	for range l.All() {
		t.Fatal("a channel is left")
	}
}

// Channels that a HandleClose opens while CloseAll tells are refused, so that it ends.
func TestCloseAllRefusesNewChannels(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	var errs []error
	for range 3 {
		attach(t, w, l, &core.Funcs{
			Read: func(*core.Dispatcher) error { return nil },
			Close: func(*core.Dispatcher, error) {
				s, _ := w.Pair()
				_, err := core.Attach(l, s, &logged{})
				errs = append(errs, err)
			},
		})
	}
	l.CloseAll(io.ErrNoProgress)
	require.Equal(t, []error{io.ErrNoProgress, io.ErrNoProgress, io.ErrNoProgress}, errs)
	attach(t, w, l, &logged{}) // afterwards it is possible again
}

func TestClosedLoop(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &logged{}
	attach(t, w, l, h)
	l.AfterFunc(time.Hour, func() { t.Error("a timer of a closed loop") })
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	require.Zero(t, l.Stats().Timers)
	require.Equal(t, []string{"close parley: closed"}, h.log)
	require.ErrorIs(t, l.Run(context.Background()), core.ErrClosed)
	_, err := l.Step(0)
	require.ErrorIs(t, err, core.ErrClosed)
	require.False(t, l.Post(func() {}))
	s, _ := w.Pair()
	_, err = core.Attach(l, s, &logged{})
	require.ErrorIs(t, err, core.ErrClosed)
}

// Rule 4 for every way to end.
func TestHandleCloseComesOnce(t *testing.T) {
	for _, x := range []struct {
		name string
		end  func(w *sim.World, d *core.Dispatcher, p *sim.Peer)
		want string
	}{
		{"Close", func(_ *sim.World, d *core.Dispatcher, _ *sim.Peer) { d.Close(); d.Close() }, "<nil>"},
		{"CloseWith", func(_ *sim.World, d *core.Dispatcher, _ *sim.Peer) { d.CloseWith(io.ErrNoProgress) }, io.ErrNoProgress.Error()},
		{"Abort", func(_ *sim.World, d *core.Dispatcher, _ *sim.Peer) { d.Abort() }, "<nil>"},
		{"EOF", func(_ *sim.World, _ *core.Dispatcher, p *sim.Peer) { p.CloseWrite() }, "EOF"},
		{"reset", func(_ *sim.World, _ *core.Dispatcher, p *sim.Peer) { p.Reset() }, syscall.ECONNRESET.Error()},
		{"idle", func(w *sim.World, d *core.Dispatcher, _ *sim.Peer) {
			d.SetIdleTimeout(time.Second)
			w.Advance(2 * time.Second)
		},
			core.ErrTimeout.Error()},
		{"CloseAll", func(_ *sim.World, d *core.Dispatcher, _ *sim.Peer) { d.Loop().CloseAll(nil) }, "<nil>"},
		{"Shutdown", func(_ *sim.World, d *core.Dispatcher, _ *sim.Peer) { d.Loop().Shutdown(0) }, core.ErrShutdown.Error()},
	} {
		t.Run(x.name, func(t *testing.T) {
			w, l := simLoop(t, sim.Config{}, core.Options{})
			h := &logged{}
			d, p := attach(t, w, l, h)
			w.Settle()
			x.end(w, d, p)
			w.Settle()
			require.Equal(t, []string{"close " + x.want}, h.log)
			require.True(t, d.Closed())
			_, err := d.Send([]byte("x"))
			require.ErrorIs(t, err, core.ErrClosed)
			_, err = d.Recv(make([]byte, 1))
			require.ErrorIs(t, err, core.ErrClosed)
		})
	}
}

// Rule 3: an event that was fetched before a channel was closed by another one's handler does not reach it, nor the
// channel that has its place in the table now.
func TestStaleEventIsDropped(t *testing.T) {
	for seed := range uint64(20) { // either order
		w, l := simLoop(t, sim.Config{Seed: seed}, core.Options{})
		hs := [2]*logged{{}, {}}
		var ds [2]*core.Dispatcher
		late := &logged{}
		for i, h := range hs {
			var p *sim.Peer
			ds[i], p = attach(t, w, l, h)
			h.read = func(*core.Dispatcher, []byte) error {
				ds[1-i].Close()
				s, _ := w.Pair() // takes the slot of the other one
				_, err := core.Attach(l, s, late)
				return err
			}
			p.Say("x")
		}
		w.Settle()
		require.Len(t, append(hs[0].log, hs[1].log...), 2, "one read, one close")
		require.Empty(t, late.log)
	}
}

// Rule 2: what a handler does to another channel is told when its own event is over.
func TestNoHandlerInsideAHandler(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	inside := false
	other := &core.Funcs{
		Read:  func(*core.Dispatcher) error { return nil },
		Close: func(*core.Dispatcher, error) { require.False(t, inside) },
	}
	d, _ := attach(t, w, l, other)
	h := &logged{read: func(self *core.Dispatcher, _ []byte) error {
		inside = true
		d.Close()
		self.Send([]byte("x"))
		self.Close()
		inside = false
		return nil
	}}
	_, p := attach(t, w, l, h)
	p.Say("a")
	w.Settle()
	require.True(t, d.Closed())
	require.Equal(t, []string{"read a", "close <nil>"}, h.log)
}

func TestHandlerErrors(t *testing.T) {
	boom := errors.New("boom")
	var out bytes.Buffer
	w, l := simLoop(t, sim.Config{}, core.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	h := &logged{read: func(*core.Dispatcher, []byte) error { return boom }}
	other := &logged{}
	_, p := attach(t, w, l, h)
	_, q := attach(t, w, l, other)
	p.Say("a")
	q.Say("b")
	w.Settle()
	require.Equal(t, []string{"read a", "close boom"}, h.log)
	require.Equal(t, []string{"read b"}, other.log, "the others notice nothing")
	require.Contains(t, out.String(), "level=ERROR")
	require.Contains(t, out.String(), "method=HandleRead")
	require.Contains(t, out.String(), "err=boom")
}

// A26: an exception in a hook reaches the error hook, as a value; the channel stays open unless that closes it.
func TestA26HandleErrorGetsTheError(t *testing.T) {
	boom := errors.New("boom")
	w, l := simLoop(t, sim.Config{}, core.Options{})
	var got []error
	n := 0
	d, p := attach(t, w, l, &core.Funcs{
		Read: func(d *core.Dispatcher) error {
			d.RecvShared()
			if n++; n == 2 {
				panic(boom)
			}
			return boom
		},
		Error: func(_ *core.Dispatcher, err error) { got = append(got, err) },
	})
	p.Say("a")
	w.Settle()
	p.Say("b")
	w.Settle()
	require.Len(t, got, 2)
	require.Equal(t, boom, got[0])
	var pe *core.PanicError
	require.ErrorAs(t, got[1], &pe)
	require.ErrorIs(t, got[1], boom, "a panic with an error unwraps to it")
	require.Contains(t, string(pe.Stack), "sim_loop_test.go")
	require.False(t, d.Closed())
}

// Rule 8: a channel that always has input does not keep the others waiting, and gets what a pass may read.
func TestReadBudget(t *testing.T) {
	w, l := simLoop(t, sim.Config{Window: 1 << 20}, core.Options{})
	greedy := 0
	var perPass []int
	_, p := attach(t, w, l, &core.Funcs{Read: func(d *core.Dispatcher) error {
		n := 0
		buf := make([]byte, 1000)
		for {
			m, err := d.Recv(buf)
			n += m
			if err == core.ErrWouldBlock {
				break
			}
		}
		greedy += n
		perPass = append(perPass, n)
		return nil
	}})
	p.Say(strings.Repeat("x", 500_000))
	w.Settle()
	require.Equal(t, 500_000, greedy)
	for _, n := range perPass {
		require.LessOrEqual(t, n, core.ReadBudget)
	}
	require.GreaterOrEqual(t, len(perPass), 500_000/core.ReadBudget)
}

func TestRecvArguments(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	d, _ := attach(t, w, l, &logged{})
	_, err := d.Recv(nil)
	require.ErrorIs(t, err, io.ErrShortBuffer)
	n, err := d.Send(nil)
	require.NoError(t, err)
	require.Zero(t, n)
	_, err = d.SendFile(os.Stdin, 0, 1)
	require.ErrorIs(t, err, core.ErrUnsupported)
	require.False(t, d.SendsFiles())
}

// A handler with predicates is asked before every pass.
type asked struct {
	*logged
	readable, writable bool
	n                  int
}

func (a *asked) Readable() bool { a.n++; return a.readable }
func (a *asked) Writable() bool { return a.writable }
func (a *asked) HandleWrite(*core.Dispatcher) error {
	a.add("write")
	a.writable = false
	return nil
}

func TestPredicates(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	a := &asked{logged: &logged{}}
	_, p := attach(t, w, l, a)
	p.Say("x")
	w.Settle()
	require.Empty(t, a.log)
	a.readable, a.writable = true, true
	before := a.n
	l.Step(0)
	l.Step(0)
	require.Equal(t, before+2, a.n)
	require.Equal(t, []string{"read x", "write"}, a.log)
}

type panicky struct{ *logged }

func (panicky) Readable() bool { panic("predicate") }

func TestPanickingPredicateCostsItsChannelOnly(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	bad, good := panicky{&logged{}}, &logged{}
	attach(t, w, l, bad)
	_, p := attach(t, w, l, good)
	p.Say("x")
	w.Settle()
	require.Equal(t, []string{"read x"}, good.log)
	require.Equal(t, []string{"close parley: handler panicked: predicate"}, bad.log)
}

// An error hook is there for the predicate's panic, too, and the next pass asks again.
func TestHalfClose(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	var log []string
	d, p := attach(t, w, l, &core.Funcs{
		Read: func(d *core.Dispatcher) error { _, err := d.RecvShared(); return err },
		EOF: func(d *core.Dispatcher) error {
			log = append(log, "eof")
			d.Send([]byte("answer"))
			return d.CloseWrite()
		},
		Close: func(_ *core.Dispatcher, cause error) { log = append(log, fmt.Sprint("close ", cause)) },
	})
	p.Say("question")
	p.CloseWrite()
	p.Want("answer")
	p.WantClosed()
	require.Equal(t, []string{"eof"}, log, "both ends are closed; when the channel goes is its own decision")
	passes := l.Stats().Passes
	w.Advance(time.Hour)
	require.LessOrEqual(t, l.Stats().Passes, passes+1, "and it does not spin")
	d.Close()
	w.Settle()
	require.Equal(t, []string{"eof", "close <nil>"}, log)
}

func TestUrgentData(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &urgent{logged: &logged{}}
	_, p := attach(t, w, l, h)
	deaf := &logged{}
	_, q := attach(t, w, l, deaf)
	p.SayUrgent('!')
	q.SayUrgent('!')
	w.Settle()
	require.Equal(t, []string{"urgent !"}, h.log)
	require.Empty(t, deaf.log)
	require.Less(t, l.Stats().Passes, uint64(10), "unread urgent data makes nobody spin who did not ask")
}

type urgent struct{ *logged }

func (u *urgent) HandleExpt(d *core.Dispatcher) error {
	var b [1]byte
	n, err := d.RecvUrgent(b[:])
	u.add("urgent %s", b[:n])
	return err
}

// With a trace hook each call is timed; without one, passes are, and single calls only for a minute after a slow pass.
func TestSlowHandlerIsLogged(t *testing.T) {
	for _, untraced := range []bool{false, true} {
		t.Run(fmt.Sprintf("untraced=%v", untraced), func(t *testing.T) {
			var out bytes.Buffer
			w, l := simLoop(t, sim.Config{Untraced: untraced}, core.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
			slow := 200 * time.Millisecond
			h := &logged{}
			h.read = func(*core.Dispatcher, []byte) error { w.Busy(slow); return nil }
			_, p := attach(t, w, l, h)
			lines := func() int { return strings.Count(out.String(), "slow") }
			for range 10 {
				p.Say("x")
				w.Settle()
			}
			require.Equal(t, 1, strings.Count(out.String(), "slow handler"), out.String())
			require.Contains(t, out.String(), "handler=*core_test.logged method=HandleRead took=200ms")
			w.Advance(2 * time.Minute)
			p.Say("x")
			w.Settle()
			require.Equal(t, 2, strings.Count(out.String(), "slow handler"), "once per minute")
			n := lines()
			slow = 50 * time.Millisecond
			w.Advance(2 * time.Minute)
			p.Say("x")
			w.Settle()
			require.Equal(t, n, lines(), "100 ms is the default")

			// Each type of handler has its own line.
			another := &asked{logged: &logged{}, readable: true}
			another.read = func(*core.Dispatcher, []byte) error { w.Busy(time.Second); return nil }
			_, q := attach(t, w, l, another)
			slow = time.Second
			for range 3 {
				p.Say("x")
				w.Settle()
				q.Say("x")
				w.Settle()
			}
			require.Equal(t, 1, strings.Count(out.String(), "handler=*core_test.logged method=HandleRead took=1s"), out.String())
			require.Equal(t, 1, strings.Count(out.String(), "handler=*core_test.asked method=HandleRead took=1s"), out.String())
		})
	}
}

// Without a trace hook the clock is not read for each call: of a slow pass with several calls the log says that it was one,
// and for a minute from then on which handler it is that is slow.
func TestSlowPassIsLogged(t *testing.T) {
	var out bytes.Buffer
	w, l := simLoop(t, sim.Config{Untraced: true}, core.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	pause := 60 * time.Millisecond
	h := &logged{read: func(*core.Dispatcher, []byte) error { w.Busy(pause); return nil }}
	var peers []*sim.Peer
	for range 3 {
		_, p := attach(t, w, l, h)
		peers = append(peers, p)
	}
	together := func() string {
		out.Reset()
		for _, p := range peers {
			p.Say("x")
		}
		w.Settle()
		return out.String()
	}
	require.Contains(t, together(), "slow pass")
	require.NotContains(t, out.String(), "slow handler", "none of them was")
	require.Empty(t, together(), "and none is now that they are timed")
	pause = 150 * time.Millisecond
	require.Contains(t, together(), "slow handler")
	require.NotContains(t, out.String(), "slow pass")
	pause = 0
	w.Advance(3 * time.Minute)
	together() // ends the minute
	pause = 60 * time.Millisecond
	require.Contains(t, together(), "slow pass", "nothing is timed any more")

	w, l = simLoop(t, sim.Config{Untraced: true}, core.Options{SlowHandler: -1, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	_, p := attach(t, w, l, &logged{read: func(*core.Dispatcher, []byte) error { w.Busy(time.Hour); return nil }})
	out.Reset()
	p.Say("x")
	w.Settle()
	require.Empty(t, out.String(), "switched off")
}

// --- work off the loop

func TestGo(t *testing.T) {
	w, l := simLoop(t, sim.Config{Work: 100 * time.Millisecond, Seed: 3}, core.Options{MaxWorkers: 2, MaxPosts: 5})
	d, _ := attach(t, w, l, &logged{})
	var results []string
	running, most := 0, 0
	for i := range 10 {
		core.Go(d, func(ctx context.Context) (int, error) {
			running++
			most = max(most, running)
			running--
			if i == 3 {
				panic("work")
			}
			return i, nil
		}, func(n int, err error) error {
			results = append(results, fmt.Sprintf("%d %v", n, err))
			return nil
		})
	}
	w.Settle()
	require.Len(t, results, 10)
	require.Contains(t, results, "0 parley: handler panicked: work")
	require.Contains(t, results, "0 parley: queue limit exceeded", "two run, five wait, the rest is refused")
	require.Contains(t, results, "6 <nil>")
	require.NotContains(t, results, "7 <nil>")
}

func TestGoErrorIsTheChannels(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &logged{}
	d, _ := attach(t, w, l, h)
	core.Go(d, func(context.Context) (int, error) { return 0, io.ErrNoProgress }, func(_ int, err error) error { return err })
	w.Settle()
	require.Equal(t, []string{"close " + io.ErrNoProgress.Error()}, h.log)
}

// --- dialling

func TestDial(t *testing.T) {
	w, l := simLoop(t, sim.Config{Latency: 10 * time.Millisecond, Work: time.Second, Seed: 5}, core.Options{})
	w.Host("many.example", "192.0.2.66", "2001:db8::1", "192.0.2.1")
	ln := w.Listen("tcp", "server:80")
	var log []string
	d, err := core.Dial(l, "tcp", "many.example:80", &core.Funcs{
		Connect: func(d *core.Dispatcher) error {
			log = append(log, "connect "+d.RemoteAddr().String())
			d.Send([]byte("hi"))
			return nil
		},
		Read:  func(d *core.Dispatcher) error { p, err := d.RecvShared(); log = append(log, string(p)); return err },
		Close: func(_ *core.Dispatcher, cause error) { log = append(log, fmt.Sprint("close ", cause)) },
	})
	require.NoError(t, err)
	require.True(t, d.Connecting())
	_, err = d.Send([]byte("too early"))
	require.ErrorIs(t, err, core.ErrWouldBlock)
	p := ln.Accept()
	p.Want("hi")
	p.Say("there")
	p.Close()
	w.Settle()
	require.Equal(t, []string{"connect 192.0.2.1:80", "there", "", "close EOF"}, log, "the third address answers")
}

func TestDialFails(t *testing.T) {
	for _, x := range []struct {
		name, network, addr string
		black               string
		want                error
		text                string
	}{
		{"refused", "tcp", "server:1", "", syscall.ECONNREFUSED, "dial tcp 192.0.2.1:1: connect: " + syscall.ECONNREFUSED.Error()},
		{"no such name", "tcp", "nowhere:1", "", nil, "dial tcp: lookup nowhere: no such host"},
		{"black hole", "tcp", "server:1", "192.0.2.1", core.ErrTimeout, "dial tcp 192.0.2.1:1: parley: timeout"},
		{"no such path", "unix", "/nowhere", "", syscall.ECONNREFUSED, ""},
		{"no such family", "tcp6", "server:1", "", nil, "no address for network tcp6"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w, l := simLoop(t, sim.Config{Latency: time.Millisecond}, core.Options{})
			if x.black != "" {
				w.BlackHole(x.black)
			}
			h := &logged{}
			d, err := core.Dial(l, x.network, x.addr, h)
			require.NoError(t, err)
			require.NoError(t, l.Run(context.Background()))
			require.Len(t, h.log, 1)
			require.Contains(t, h.log[0], x.text)
			var op *net.OpError
			require.ErrorAs(t, d.Cause(), &op)
			if x.want != nil {
				require.ErrorIs(t, d.Cause(), x.want)
			}
			if x.want == core.ErrTimeout {
				require.Equal(t, core.DefaultConnectTimeout, w.Elapsed())
				require.ErrorIs(t, d.Cause(), os.ErrDeadlineExceeded)
			}
		})
	}
}

func TestDialRefusesBadCalls(t *testing.T) {
	_, l := simLoop(t, sim.Config{}, core.Options{})
	for _, x := range [][2]string{
		{"tcp", "no port"}, {"tcp", "host:"}, {"tcp", "host:99999"}, {"tcp4", "[::1]:80"}, {"tcp6", "127.0.0.1:80"},
		{"unix", ""}, {"carrier pigeon", "x:1"},
	} {
		_, err := core.Dial(l, x[0], x[1], &logged{})
		var op *net.OpError
		require.ErrorAs(t, err, &op, "%v", x)
	}
	require.Zero(t, l.Stats().Channels)
	_, err := core.Dial(l, "tcp", "server:1", struct{}{})
	require.ErrorContains(t, err, "HandleRead")
}

// With several addresses, one that swallows everything leaves time for the next.
func TestDialLeavesTimeForTheNextAddress(t *testing.T) {
	w, l := simLoop(t, sim.Config{Latency: time.Millisecond}, core.Options{})
	w.Host("both.example", "192.0.2.66", "192.0.2.1")
	w.BlackHole("192.0.2.66")
	ln := w.Listen("tcp", "server:80")
	connected := false
	_, err := core.Dial(l, "tcp", "both.example:80", &core.Funcs{
		Connect: func(d *core.Dispatcher) error { connected = true; return d.Close() },
		Read:    func(d *core.Dispatcher) error { return nil },
	})
	require.NoError(t, err)
	require.NoError(t, l.Run(context.Background()))
	require.True(t, connected)
	require.Less(t, w.Elapsed(), core.DefaultConnectTimeout)
	ln.Accept().WantClosed()
}

// A negative timeout is none: only the peer, or Close, ends the wait.
func TestDialWithoutTimeout(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	w.Host("both.example", "192.0.2.66", "192.0.2.1")
	w.BlackHole("192.0.2.66")
	h := &logged{}
	d := new(core.Dispatcher)
	require.NoError(t, (&core.Dialer{Timeout: -1}).Attach(d, l, "tcp", "both.example:80", h))
	w.Advance(24 * time.Hour)
	require.True(t, d.Connecting())
	require.Zero(t, l.Stats().Timers)
	require.NoError(t, d.Close())
	w.Settle()
	require.Equal(t, []string{"close <nil>"}, h.log)
}

func TestDialCancelled(t *testing.T) {
	w, l := simLoop(t, sim.Config{Latency: time.Second, Work: time.Minute, Seed: 1}, core.Options{})
	w.Listen("tcp", "server:80")
	h := &logged{}
	d, err := core.Dial(l, "tcp", "server:80", h) // still resolving
	require.NoError(t, err)
	l.AfterFunc(time.Millisecond, func() { d.Close() })
	e, err := core.Dial(l, "tcp", "192.0.2.1:80", h) // the handshake is under way
	require.NoError(t, err)
	l.AfterFunc(time.Millisecond, func() { e.Close() })
	require.NoError(t, l.Run(context.Background()))
	require.Equal(t, []string{"close <nil>", "close <nil>"}, h.log)
}

// A unix listener whose backlog is full says EAGAIN: that is no connect in progress, the connect is repeated.
func TestUnixDialRetries(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	var accepted int
	h := &core.Funcs{Accepted: func(_ *core.Listener, s core.Socket) error { accepted++; return s.Close() }}
	config := core.ListenConfig{Backlog: 1}
	ln, err := config.Listen(l, "unix", "/sock", h)
	require.NoError(t, err)
	ln.Core().WantRead(false)
	first := w.Dial("unix", "/sock")
	c := &logged{}
	_, err = core.Dial(l, "unix", "/sock", c)
	require.NoError(t, err)
	w.Advance(time.Second)
	require.Empty(t, c.log)
	ln.Core().WantRead(true)
	w.Advance(time.Second)
	require.Equal(t, 2, accepted)
	require.Equal(t, []string{"close EOF"}, c.log)
	first.WantClosed()
}

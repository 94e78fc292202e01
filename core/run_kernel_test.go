//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
)

// What other goroutines may do to a loop that sleeps in a real wait, and how a run ends.

// onLoop runs the loop on a goroutine of its own, for a test that is itself the other goroutine, until the test is over.
func (k *kernel) onLoop() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	keep := k.loop.AfterFunc(time.Hour, func() {})
	go func() {
		defer close(done)
		_ = k.loop.Run(ctx)
		keep.Stop()
	}()
	k.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// within waits for a channel, but not for ever.
func within[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain: %s", what)
	}
	return v
}

// TestKernelPostWakes: no post waits for the next event that happens to come. The loop goes to sleep between one and the next,
// and every post finds it at another moment of that.
func TestKernelPostWakes(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		k.onLoop()
		ran := make(chan int, 1)
		for i := range 5000 {
			if !k.loop.Post(func() { ran <- i }) {
				t.Fatal("refused")
			}
			require.Equal(t, i, within(t, "a post", ran))
			for range i % 100 * 50 { // up to a few microseconds
				spin.Add(1)
			}
		}
	}, func(o *core.Options) { o.Trace = nil })
}

var spin atomic.Int64

// TestKernelPostFromManyGoroutines: every post runs once, and those of one goroutine in their order.
func TestKernelPostFromManyGoroutines(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		const goroutines, each = 16, 500
		var got [goroutines][]int
		left := goroutines * each
		keep := k.loop.AfterFunc(time.Hour, func() {})
		for g := range goroutines {
			go func() {
				for i := range each {
					if !k.loop.Post(func() {
						got[g] = append(got[g], i)
						if left--; left == 0 {
							keep.Stop()
						}
					}) {
						t.Errorf("post %d of goroutine %d was refused", i, g)
					}
				}
			}()
		}
		require.NoError(t, k.run())
		for g := range got {
			require.Len(t, got[g], each)
			for i, n := range got[g] {
				require.Equal(t, i, n)
			}
		}
	}, func(o *core.Options) { o.Trace = nil })
}

// TestKernelPostAfterEnd: Post is refused when Run has returned and after Close; what it accepted runs.
func TestKernelPostAfterEnd(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		ran := 0
		require.True(t, k.loop.Post(func() { ran++ }), "before Run")
		require.NoError(t, k.run())
		require.Equal(t, 1, ran)
		require.False(t, k.loop.Post(func() { ran++ }), "after Run")
		k.loop.AfterFunc(0, func() { require.True(t, k.loop.Post(func() { ran++ }), "from a func on the loop") })
		require.NoError(t, k.run(), "it may be run again")
		require.Equal(t, 2, ran)
		require.NoError(t, k.loop.Close())
		require.False(t, k.loop.Post(func() { ran++ }), "after Close")

		// While Run is about to end by itself, a post is either refused or run.
		for range 200 {
			l, err := core.NewLoop(core.Options{Backend: k.loop.Backend()})
			require.NoError(t, err)
			var ran, accepted atomic.Int64
			var posting sync.WaitGroup
			begin := make(chan struct{})
			posting.Go(func() {
				<-begin
				for l.Post(func() { ran.Add(1) }) {
					accepted.Add(1)
				}
			})
			l.AfterFunc(0, func() { close(begin) })
			require.NoError(t, l.Run(context.Background()))
			posting.Wait()
			require.Equal(t, accepted.Load(), ran.Load())
			require.NoError(t, l.Close())
		}
	})
}

// TestKernelMaxPosts: as many posts wait as the option says; the next one is refused, and taken when there is room again.
func TestKernelMaxPosts(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		ran := 0
		for range 3 {
			require.True(t, k.loop.Post(func() { ran++ }))
		}
		require.False(t, k.loop.Post(func() { ran++ }))
		require.Equal(t, 3, k.loop.Stats().Posts)
		k.passes(1)
		require.Equal(t, 3, ran)
		require.True(t, k.loop.Post(func() { ran++ }))
		k.passes(1)
		require.Equal(t, 4, ran)
	}, func(o *core.Options) { o.MaxPosts = 3 })
}

// TestKernelPostPanics: a post that panics is logged; the ones behind it run.
func TestKernelPostPanics(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		ran := false
		k.loop.Post(func() { panic("in a post") })
		k.loop.Post(func() { ran = true })
		require.NoError(t, k.run())
		require.True(t, ran)
		require.Contains(t, k.logs.String(), "in a post")
		require.Equal(t, uint64(1), k.loop.Stats().Panics)
	})
}

// TestKernelStop: from another goroutine, Stop ends a Run that sleeps. Channels stay open, and another Run goes on with them.
func TestKernelStop(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		served := make(chan struct{}, 1)
		d := k.attach(s, &core.Funcs{Read: func(d *core.Dispatcher) error {
			served <- struct{}{}
			return readAll(d)
		}})
		for range 50 {
			ended := make(chan error, 1)
			go func() { ended <- k.loop.Run(context.Background()) }()
			_, err := far.Write([]byte("x"))
			require.NoError(t, err)
			within(t, "HandleRead", served)
			k.loop.Stop()
			require.NoError(t, within(t, "the end of Run", ended))
		}
		require.False(t, d.Closed())

		k.loop.Stop()
		require.NoError(t, k.run(), "a Stop before Run is not forgotten")
		require.False(t, d.Closed())
	})
}

// TestKernelCancelledContext: Run closes everything with the context's cause and returns it, also when it sleeps; what was
// posted before runs.
func TestKernelCancelledContext(t *testing.T) {
	cause := errors.New("enough")
	eachBackend(t, func(t *testing.T, k *kernel) {
		for _, sleeping := range []bool{true, false} {
			k.passes(1) // has the loop take posts again
			var causes []error
			for range 3 {
				s, _ := k.pair("unix")
				k.attach(s, &core.Funcs{Read: readAll, Close: func(_ *core.Dispatcher, c error) { causes = append(causes, c) }})
			}
			ctx, cancel := context.WithCancelCause(context.Background())
			posted := false
			if sleeping {
				k.loop.AfterFunc(time.Millisecond, func() { go cancel(cause) })
			} else {
				cancel(cause)
			}
			require.True(t, k.loop.Post(func() { posted = true }))
			require.Equal(t, cause, k.loop.Run(ctx))
			require.Equal(t, []error{cause, cause, cause}, causes)
			require.Zero(t, k.loop.Stats().Channels)
			require.True(t, posted)
		}

		s, _ := k.pair("unix")
		k.attach(s, reading())
		require.LessOrEqual(t, k.passesWithin(window), aFew, "the old context has no say in later passes")
	})
}

// TestKernelDeadline: a deadline of Run's context is kept.
func TestKernelDeadline(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("unix")
		d := k.attach(s, reading())
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, k.loop.Run(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, d.Cause(), context.DeadlineExceeded)
	})
}

// TestKernelExitNow: the error of a handler that ends the loop; the channels stay, and what was ready besides is served by the
// next Run.
func TestKernelExitNow(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		var ds []*core.Dispatcher
		reads := 0
		for range 3 {
			s, far := k.pair("unix")
			_, err := far.Write([]byte("x"))
			require.NoError(t, err)
			ds = append(ds, k.attach(s, &core.Funcs{Read: func(d *core.Dispatcher) error {
				reads++
				if err := readAll(d); err != nil {
					return err
				}
				return core.ExitNow
			}}))
		}
		posts := 0
		k.loop.Post(func() { posts++ })
		for i := range 3 {
			require.ErrorIs(t, k.run(), core.ExitNow)
			require.Equal(t, i+1, reads)
		}
		for _, d := range ds {
			require.False(t, d.Closed())
			require.NoError(t, d.Close())
		}
		require.NoError(t, k.run())
		require.Equal(t, 1, posts, "put back by the exit, and not lost")
	})
}

// TestKernelShutdown: listeners close at once, channels are told, one that is done within the grace is not disturbed, and one
// that is not is closed at its end. Run returns nil.
func TestKernelShutdown(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		ln := k.listen(families[0], k.unexpected("listener"))
		addr := ln.Addr()
		const grace = 20 * time.Millisecond
		open := func(shutdown func(*core.Dispatcher) error) *core.Dispatcher {
			s, _ := k.pair("unix")
			return k.attach(s, &core.Funcs{Read: readAll, Shutdown: shutdown})
		}
		told := 0
		quick := open(func(d *core.Dispatcher) error { told++; return d.Close() })
		var lateErr error
		stubborn := open(func(d *core.Dispatcher) error {
			told++
			require.True(t, ln.Core().Closed(), "listeners first")
			_, lateErr = connectTo(addr)
			return nil
		})
		wrong := open(func(*core.Dispatcher) error { told++; panic("in HandleShutdown") })
		none := open(nil)
		var begun time.Time
		k.loop.AfterFunc(time.Millisecond, func() {
			go func() {
				begun = time.Now()
				k.loop.Shutdown(grace)
				k.loop.Shutdown(time.Hour) // the first one counts
			}()
		})
		require.NoError(t, k.run())
		require.GreaterOrEqual(t, time.Since(begun), grace)
		require.Less(t, time.Since(begun), patience)
		require.Equal(t, 3, told)
		require.Error(t, lateErr)
		require.NoError(t, quick.Cause())
		require.True(t, quick.Closed())
		require.Equal(t, core.ErrShutdown, stubborn.Cause())
		require.Equal(t, core.ErrShutdown, none.Cause())
		var p *core.PanicError
		require.ErrorAs(t, wrong.Cause(), &p)
		require.False(t, k.loop.Post(func() {}))

		s, _ := k.pair("unix")
		k.attach(s, reading())
		k.loop.AfterFunc(time.Millisecond, func() { k.loop.CloseAll(nil) })
		require.NoError(t, k.run(), "the loop may run again")
	})
}

// TestKernelShutdownEarly: when all are done before the grace is over, Run does not wait for the rest of it.
func TestKernelShutdownEarly(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("unix")
		k.attach(s, reading())
		k.loop.Shutdown(time.Hour)
		require.NoError(t, k.run())
		require.Zero(t, k.loop.Stats().Timers)
	})
}

// TestKernelCloseAllTellsAndRefuses: CloseAll tells every channel; what a handler opens in the middle of it is refused, with the
// same cause, and the sockets' errors are joined.
func TestKernelCloseAllTellsAndRefuses(t *testing.T) {
	cause := errors.New("all of you")
	eachBackend(t, func(t *testing.T, k *kernel) {
		told := 0
		var refusals []error
		h := func() *core.Funcs {
			return &core.Funcs{Read: readAll, Close: func(_ *core.Dispatcher, c error) {
				told++
				require.Equal(t, cause, c)
				s, _ := k.pair("unix")
				_, err := core.Attach(k.loop, s, reading())
				refusals = append(refusals, err)
			}}
		}
		var bad *core.Dispatcher
		for range 3 {
			s, _ := k.pair("unix")
			bad = k.attach(s, h())
		}
		require.NoError(t, syscall.Close(bad.Socket().FD()))
		require.ErrorIs(t, k.loop.CloseAll(cause), syscall.EBADF)
		require.Equal(t, 3, told)
		require.Equal(t, []error{cause, cause, cause}, refusals)
		require.Zero(t, k.loop.Stats().Channels)
		s, _ := k.pair("unix")
		k.attach(s, reading()) // over

		// From a handler: what follows comes when its event is over.
		s, far := k.pair("unix")
		order := []string{}
		k.attach(s, &core.Funcs{
			Read: func(*core.Dispatcher) error {
				require.NoError(t, k.loop.CloseAll(cause))
				order = append(order, "read")
				return nil
			},
			Close: func(*core.Dispatcher, error) { order = append(order, "close") },
		})
		_, err := far.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, k.run())
		require.Equal(t, []string{"read", "close"}, order)
	})
}

// TestKernelLoopClose: Close of a loop tells every channel ErrClosed.
func TestKernelLoopClose(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		h := &hooks{}
		k.attach(s, h)
		require.NoError(t, k.loop.Close())
		require.Equal(t, []string{"HandleClose"}, h.calls)
		require.Equal(t, core.ErrClosed, h.cause)
		_, err := far.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		s, _ = k.pair("unix")
		_, err = core.Attach(k.loop, s, reading())
		require.ErrorIs(t, err, core.ErrClosed)
	})
}

// TestKernelGo: work runs on another goroutine, what follows from it on the loop's; a channel that is closed is not told, and
// its work is cancelled.
func TestKernelGo(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("unix")
		h := &hooks{}
		d := k.attach(s, h)
		onLoop := false // guarded by the loop's goroutine; the race detector has an eye on it
		results := 0
		for i := range 10 {
			core.Go(d, func(context.Context) (int, error) { return i, nil }, func(n int, err error) error {
				onLoop = true
				results += n
				return err
			})
		}
		require.Equal(t, 10, k.loop.Stats().Work)
		k.until("all results", func() bool { return results == 45 })
		require.True(t, onLoop)
		require.Zero(t, k.loop.Stats().Work)

		failure := errors.New("of done")
		core.Go(d, func(context.Context) (int, error) { panic("in work") }, func(_ int, err error) error {
			var p *core.PanicError
			require.ErrorAs(t, err, &p)
			require.Equal(t, "in work", p.Value)
			return failure
		})
		k.until("its error", func() bool { return len(h.errs) == 1 })
		require.Equal(t, []error{failure}, h.errs)

		started, cancelled := make(chan struct{}), make(chan error, 1)
		core.Go(d, func(ctx context.Context) (int, error) {
			close(started)
			<-ctx.Done()
			cancelled <- context.Cause(ctx)
			return 0, ctx.Err()
		}, func(int, error) error { t.Error("told after Close"); return nil })
		<-started
		require.NoError(t, d.CloseWith(io.ErrUnexpectedEOF))
		require.Equal(t, io.ErrUnexpectedEOF, within(t, "the cancellation", cancelled))
		require.NoError(t, k.run(), "work that is out keeps Run going, and no longer")
		require.Zero(t, k.loop.Stats().Work)
	})
}

// TestKernelGoWaitsItsTurn: no more than MaxWorkers goroutines at a time; a busy loop lets them run although it makes its
// system calls behind the scheduler's back.
func TestKernelGoWaitsItsTurn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("unix")
		d := k.attach(s, &core.Funcs{Write: func(*core.Dispatcher) error { return nil }})
		d.WantWrite(true) // ready in every pass
		var running, most atomic.Int64
		done := 0
		for range 20 {
			core.Go(d, func(context.Context) (int, error) {
				n := running.Add(1)
				for {
					m := most.Load()
					if n <= m || most.CompareAndSwap(m, n) {
						break
					}
				}
				runtime.Gosched()
				running.Add(-1)
				return 0, nil
			}, func(int, error) error { done++; return nil })
		}
		k.until("all of it", func() bool { return done == 20 })
		require.LessOrEqual(t, most.Load(), int64(2))
		require.Less(t, k.loop.Stats().Passes, uint64(300))
	}, func(o *core.Options) { o.MaxWorkers = 2 })
}

// TestKernelGoBetweenRuns: work that finishes while the loop does not run is told in the next Run.
func TestKernelGoBetweenRuns(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("unix")
		d := k.attach(s, reading())
		hold := make(chan struct{})
		told := false
		core.Go(d, func(context.Context) (int, error) { <-hold; return 42, nil }, func(n int, err error) error {
			require.Equal(t, 42, n)
			told = true
			return errors.Join(err, d.Close())
		})
		k.loop.Stop()
		require.NoError(t, k.run())
		close(hold)
		for end := time.Now().Add(patience); k.loop.Stats().Posts == 0; runtime.Gosched() {
			require.True(t, time.Now().Before(end), "the work does not finish")
		}
		require.NoError(t, k.run())
		require.True(t, told)
		require.Zero(t, k.loop.Stats().Work)
	})
}

// TestKernelGoOverflow: work that finds no place is told so.
func TestKernelGoOverflow(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("unix")
		d := k.attach(s, reading())
		hold := make(chan struct{})
		var errs []error
		for range 4 { // one runs, two wait
			core.Go(d, func(context.Context) (int, error) { <-hold; return 0, nil }, func(_ int, err error) error {
				errs = append(errs, err)
				return nil
			})
		}
		k.until("the refusal", func() bool { return len(errs) > 0 })
		require.ErrorIs(t, errs[0], core.ErrOverflow)
		close(hold)
		k.until("the others", func() bool { return len(errs) == 4 })
		for _, err := range errs[1:] {
			require.NoError(t, err)
		}
	}, func(o *core.Options) { o.MaxWorkers = 1; o.MaxPosts = 2 })
}

// TestKernelTimers: in the order of their time, a stopped one not at all, and those of a channel die with it.
func TestKernelTimers(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		var order []int
		at := func(ms, n int) *core.Timer {
			return k.loop.AfterFunc(time.Duration(ms)*time.Millisecond, func() { order = append(order, n) })
		}
		at(6, 3)
		at(2, 1)
		at(4, 2)
		stopped := at(3, 99)
		again := at(1, 4)
		require.True(t, stopped.Stop())
		require.False(t, stopped.Stop())
		require.True(t, again.Reset(8*time.Millisecond))
		s, _ := k.pair("unix")
		d := k.attach(s, reading())
		d.AfterFunc(2*time.Millisecond, func() { t.Error("outlived its channel") })
		require.NoError(t, d.Close())
		require.NoError(t, k.run())
		require.Equal(t, []int{1, 2, 3, 4}, order)
	})
}

// TestKernelTimeouts: an idle channel closes with ErrTimeout, or is asked; traffic puts it off. A peer that takes nothing ends
// the write timeout.
func TestKernelTimeouts(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		const timeout = 15 * time.Millisecond
		s, far := k.pair("unix")
		last := k.loop.Now()
		var ended time.Time
		idle := k.attach(s, &core.Funcs{
			Read:  func(d *core.Dispatcher) error { last = k.loop.Now(); return readAll(d) },
			Close: func(*core.Dispatcher, error) { ended = k.loop.Now() },
		})
		idle.SetIdleTimeout(timeout)
		for i := range 3 {
			idle.AfterFunc(time.Duration(i+1)*timeout/3, func() {
				_, err := far.Write([]byte("x"))
				require.NoError(t, err)
			})
		}
		k.until("ErrTimeout", idle.Closed)
		require.Equal(t, core.ErrTimeout, idle.Cause())
		require.GreaterOrEqual(t, ended.Sub(last), timeout, "traffic puts it off")

		s, _ = k.pair("unix")
		asked := 0
		patient := k.attach(s, &core.Funcs{Read: readAll, Timeout: func(d *core.Dispatcher) error {
			if asked++; asked == 3 {
				return d.Close()
			}
			return nil
		}})
		patient.SetIdleTimeout(2 * time.Millisecond)
		k.until("three times", patient.Closed)
		require.NoError(t, patient.Cause())
	})
}

// TestKernelPeerThatNeverReads: its channel runs into the write timeout; meanwhile the others are served, and nobody spins.
func TestKernelPeerThatNeverReads(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("tcp4")
		block := make([]byte, 64<<10)
		writes := 0
		d := k.attach(s, &core.Funcs{
			Read: readAll,
			Write: func(d *core.Dispatcher) error {
				writes++
				_, err := d.Send(block)
				return err
			},
		})
		d.WantWrite(true)
		ln := k.listen(families[0], attaching(func() any { return echoing() }))
		addr := ln.Addr()
		other := k.peer(func() error {
			c, err := connectTo(addr)
			if err != nil {
				return err
			}
			defer c.Close()
			for range 50 {
				if err := say(c, "and me?"); err != nil {
					return err
				}
			}
			return nil
		})
		other.wait()
		require.False(t, d.Closed())
		d.SetWriteTimeout(20 * time.Millisecond)
		k.until("the timeout", d.Closed)
		require.Equal(t, core.ErrTimeout, d.Cause())
		require.Less(t, writes, 1000, "woken although the peer took nothing")
	})
}

// TestKernelWorkEndsItsGoroutine: work that calls runtime.Goexit (a test's FailNow) is over all the same: done is told, and
// the loop does not wait for it.
func TestKernelWorkEndsItsGoroutine(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("unix")
		d := k.attach(s, reading())
		var told error
		core.Go(d, func(context.Context) (int, error) {
			runtime.Goexit()
			return 0, nil
		}, func(_ int, err error) error {
			told = err
			return d.Close()
		})
		require.NoError(t, k.run())
		require.ErrorContains(t, told, "ended its goroutine")
	})
}

package core

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
)

// workers runs what must not run on the loop.
type workers struct {
	out     int      // not finished yet, or its completion has not run
	running int      // of these, on goroutines
	waiting []func() // of these, not started
}

// errGoexit is the error of work that called runtime.Goexit, as testing.T.FailNow does.
var errGoexit = errors.New("parley: the work ended its goroutine")

// Go runs work on another goroutine and then done on the loop's, with what it returned. The context is the channel's: it
// is cancelled when the channel closes, and then done is not called. An error of done is the channel's (rule 6); a panic
// of work reaches done as a *PanicError. At most Options.MaxWorkers run at a time; beyond Options.MaxPosts waiting ones,
// done gets ErrOverflow.
func Go[T any](c Channel, work func(ctx context.Context) (T, error), done func(T, error) error) {
	d := c.Core()
	if !d.alive() {
		return
	}
	ctx := d.Context()
	var (
		value T
		err   error
	)
	finish := func() {
		if d.alive() {
			d.call("Go", func(*Dispatcher) error { return done(value, err) })
		}
	}
	accepted := d.loop.work(func() {
		err = errGoexit
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
			}
		}()
		value, err = work(ctx)
	}, finish)
	if !accepted {
		err = ErrOverflow
		d.loop.box.put(d.loop, finish, true)
	}
}

// work runs f on a worker and then done on the loop. It answers false when too much work waits already.
func (l *Loop) work(f, done func()) bool {
	w := &l.pool
	if len(w.waiting) >= l.opts.MaxPosts {
		return false
	}
	w.out++
	job := func() {
		defer l.box.put(l, func() { l.workDone(); done() }, true) // also if f ends the goroutine
		f()
	}
	w.waiting = append(w.waiting, job)
	l.startWork()
	return true
}

func (l *Loop) workDone() {
	l.pool.out--
	l.pool.running--
	l.startWork()
}

// startWork puts waiting work on goroutines.
func (l *Loop) startWork() {
	w := &l.pool
	for len(w.waiting) > 0 && w.running < l.opts.MaxWorkers {
		next := w.waiting[0]
		w.waiting[0] = nil
		w.waiting = w.waiting[1:]
		w.running++
		l.sys.Go(next)
	}
}

// busy returns how much work is out.
func (w *workers) busy() int { return w.out }

// yield lets workers run: a loop that is never idle makes raw system calls, which Go's scheduler does not see.
func (w *workers) yield() {
	if w.out > 0 {
		runtime.Gosched()
	}
}

package smtp

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/parley-go/parley/core"
)

// later is the error of a hook that has not decided yet.
type later struct {
	s     *Session
	work  func(context.Context) error // nil: Deferred
	state atomic.Int32                // of the work
	then  func(*Session, error)
	used  bool // a hook returned it

	answered bool // Deferred: it was called
	result   error
}

// The states of work.
const (
	workWaits int32 = iota
	workRuns
	workOver
	workDropped // it is not to be started any more
)

// Error is never seen by a client.
func (*later) Error() string { return "smtp: the answer comes later" }

var errLater = errors.New("smtp: Later was returned twice, or by another session")

// Later lets a hook answer when work is done: the hook returns Later's error, work runs on another goroutine (core.Go), and
// its error is the hook's answer, as if the hook had returned it. Meanwhile the client is not read from, and others are
// served. The context is cancelled when the connection is closed, and then the answer is dropped; that the client went away
// may be seen only when it is read from again. work must not use the Session. It runs only if the hook returns the error,
// and once.
//
// At most core.Options.MaxWorkers run at a time; if more wait than core.Options.MaxPosts, the answer is 451.
func (s *Session) Later(work func(ctx context.Context) error) error { return &later{s: s, work: work} }

// Deferred is Later without work: the hook returns pending, and what answer is given is the hook's answer. answer is for
// the loop's goroutine (core.Loop.Post from others), may be called before the hook returns and from other hooks, and counts
// once; what follows from it comes in the loop's next pass. As long as it is not called the client waits: nothing else
// bounds that.
func (s *Session) Deferred() (answer func(error), pending error) {
	l := &later{s: s}
	answer = func(err error) {
		if l.answered {
			return
		}
		l.answered, l.result = true, err
		if s.waiting == l { // not from here: somebody else's hook may be what calls
			s.c.AfterFunc(0, func() { s.resume(l, err) })
		}
	}
	return answer, l
}

// settle has then called with a hook's answer: at once, or when it is there.
func (s *Session) settle(err error, then func(*Session, error)) {
	var l *later
	if err != nil {
		l = asLater(err)
	}
	switch {
	case l == nil:
		then(s, err)
	case l.s != s || l.used:
		then(s, errLater)
	case s.c.Closed():
		l.used, s.waiting = true, l // for abort
	case l.answered:
		l.used = true
		s.settle(l.result, then)
	default:
		l.used, l.then = true, then
		s.waiting, s.since = l, s.c.Loop().Now()
		s.c.Pause()
		if l.work != nil {
			core.Go(s.c, l.run, func(_ struct{}, err error) error {
				s.resume(l, err)
				return nil
			})
		}
	}
}

func asLater(err error) *later {
	switch e := err.(type) {
	case *Reply:
		return nil
	case *later:
		return e
	}
	var l *later
	errors.As(err, &l)
	return l
}

// run is the work, on its goroutine.
func (l *later) run(ctx context.Context) (struct{}, error) {
	if !l.state.CompareAndSwap(workWaits, workRuns) {
		return struct{}{}, context.Cause(ctx)
	}
	defer l.state.Store(workOver)
	return struct{}{}, l.work(ctx)
}

// drop keeps work from starting. It answers whether that came in time.
func (l *later) drop() bool { return l.state.CompareAndSwap(workWaits, workDropped) }

// lookAgain is how often it is looked whether work has ended that nobody waits for any more.
const lookAgain = 100 * time.Millisecond

// whenOver calls f when the work, which has begun, is not running any more. A post of the work's could be refused, or run
// when the loop does not: therefore the loop looks.
func (l *later) whenOver(f func()) {
	if l.state.Load() == workOver {
		f()
		return
	}
	l.s.c.Loop().AfterFunc(lookAgain, func() { l.whenOver(f) })
}

// resume goes on with the session when the answer is there.
func (s *Session) resume(l *later, err error) {
	if s.waiting != l || s.c.Closed() {
		return
	}
	s.waiting = nil
	paused := s.c.Loop().Now().Sub(s.since)
	if !s.until.IsZero() {
		s.until = s.until.Add(paused)
	}
	s.expect(s.srv.limits.IdleTimeout)
	s.c.Resume()
	if l.work != nil && errors.Is(err, core.ErrOverflow) && l.drop() && s.tx != nil && s.tx.committing {
		s.tx.given = nil // nobody has the message, whatever was said before
		s.tx.msg.Abort()
	}
	s.settle(err, l.then)
	if s.found && s.waiting == nil {
		s.found = false
		s.complete()
	}
	if s.waiting == nil && s.eof {
		_ = (*sessionHandler)(s).HandleEOF(s.c)
	}
	if s.leaving {
		s.leave()
	}
}

// delay calls then after some time, in which the client is not read from.
func (s *Session) delay(d time.Duration, then func(*Session, error)) {
	if d <= 0 {
		then(s, nil)
		return
	}
	l := &later{s: s}
	s.c.AfterFunc(d, func() { s.resume(l, nil) })
	s.settle(l, then)
}

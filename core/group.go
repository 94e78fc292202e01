package core

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Runner is what listens and serves: a *Loop or a *Group. Nothing else is one.
type Runner interface {
	Run(ctx context.Context) error
	Stop()
	Shutdown(grace time.Duration)
	Close() error

	// Loops returns its loops: of a Loop, itself.
	Loops() []*Loop

	group() *Group
}

// Group is several loops, each on a goroutine of its own, for more than one CPU. Listen and its kind take a Group where they
// take a Loop, and each connection belongs to one loop from its first event to its last.
//
// No handler needs a lock because of it. What one connection has, its handler and what hangs on that, is touched by the
// goroutine of its loop alone, as with a single Loop. What connections of several loops have in common belongs to one of
// these loops: the others ask it with Loop.PostTo (or Loop.Post), and it answers likewise. Only what every handler reads
// and none changes, and what has a lock or is atomic for its own reasons, may be shared.
//
// A handler finds its loop by the Loop method of its channel, and the number of that by Loop.Index.
//
// A program that has other goroutines, or timers of package time, should set runtime.GOMAXPROCS to one more than there are
// loops, on as many CPUs as there are loops, too. A busy loop makes system calls that Go's scheduler does not see, and lets go
// of its processor (P) every ten milliseconds; with as many loops as processors all others wait for that.
type Group struct {
	loops   []*Loop
	running atomic.Bool

	mu      sync.Mutex
	resting int   // loops that have nothing left, and wait for the others
	ended   bool  // all of them
	failure error // what the first loop to fail returned
}

// NewGroup returns n loops with nothing registered; below 1, as many as the program uses CPUs (runtime.GOMAXPROCS). The
// options are for each of them, but that Trace is called for one event at a time.
func NewGroup(n int, o Options) (*Group, error) {
	if n < 1 {
		n = runtime.GOMAXPROCS(0)
	}
	if hook := o.Trace; hook != nil {
		var mu sync.Mutex
		o.Trace = func(e *Event) {
			mu.Lock()
			defer mu.Unlock()
			hook(e)
		}
	}
	g := new(Group)
	for i := range n {
		l, err := NewLoop(o)
		if err != nil {
			return nil, errors.Join(err, g.Close())
		}
		l.of, l.index = g, i
		g.loops = append(g.loops, l)
	}
	return g, nil
}

// Loops returns the loops, by Loop.Index. They end with the Group: do not run, step, stop or close one by itself.
func (g *Group) Loops() []*Loop { return g.loops }

// Loop returns loop i.
func (g *Group) Loop(i int) *Loop { return g.loops[i] }

func (g *Group) group() *Group { return g }

// Loops returns the loop itself; it makes a Loop a Runner.
func (l *Loop) Loops() []*Loop { return []*Loop{l} }

func (l *Loop) group() *Group { return nil }

// Index is the loop's number in its Group: 0 for a loop by itself.
func (l *Loop) Index() int { return l.index }

// Run works like Loop.Run, on the goroutine that called it and one for each further loop: until nothing is registered,
// pending or out on any loop; until Stop, Shutdown or the end of ctx; until a handler returns ExitNow. When a loop fails
// the others stop as by Stop, their channels stay open until Close, and the error is returned: the first one.
func (g *Group) Run(ctx context.Context) error {
	if !g.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer g.running.Store(false)
	g.resting, g.ended, g.failure = 0, false, nil
	for _, l := range g.loops {
		l.resting = false
		if !l.box.start() { // one may post to another that has not begun
			return ErrClosed
		}
	}
	if s, ok := g.loops[0].sys.(stepping); ok {
		g.runStepped(ctx, s)
	} else {
		var all sync.WaitGroup
		for _, l := range g.loops[1:] {
			all.Go(func() { g.loopEnded(l.Run(ctx)) })
		}
		g.loopEnded(g.loops[0].Run(ctx))
		all.Wait()
	}
	for _, l := range g.loops {
		l.stop.Store(false)
		l.publish()
	}
	return g.failure
}

// loopEnded is called when one loop has ended: all do.
func (g *Group) loopEnded(err error) {
	g.mu.Lock()
	if g.failure == nil {
		g.failure = err
	}
	g.mu.Unlock()
	g.Stop()
}

// stepping is a System with one goroutine, which steps its loops by itself.
type stepping interface{ Until(cond func() bool) error }

// runStepped is Run where the system steps the loops.
func (g *Group) runStepped(ctx context.Context, s stepping) {
	stopped := false
	over := func() bool {
		done := true
		for _, l := range g.loops {
			stopped = stopped || l.stop.Load()
			done = done && l.done()
		}
		return done || stopped || g.failure != nil || ctx.Err() != nil
	}
	err := s.Until(over)
	if g.failure == nil {
		g.failure = err
	}
	for _, l := range g.loops {
		if err := ctx.Err(); err != nil && g.failure == nil && !stopped {
			l.cancel(context.Cause(ctx))
		}
	}
	if ctx.Err() != nil && g.failure == nil && !stopped {
		g.failure = context.Cause(ctx)
	}
	for _, l := range g.loops {
		l.end(true)
	}
}

// stepped is told what Step made of a loop.
func (g *Group) stepped(l *Loop, err error) {
	if g.failure == nil && g.running.Load() {
		g.failure = err
	}
	l.publish()
	if !l.ending || !l.done() {
		return
	}
	for _, o := range g.loops { // a shutdown is over when it is on all of them
		if !o.done() {
			return
		}
	}
	for _, o := range g.loops {
		o.end(false)
	}
}

// rest is called by a loop that has nothing left. It answers true when no loop has: then all of them end.
func (g *Group) rest(l *Loop) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return true
	}
	if !l.resting {
		l.resting = true
		g.resting++
	}
	if g.resting < len(g.loops) || !g.endPosts() {
		return false
	}
	g.ended = true
	for _, o := range g.loops {
		if o != l {
			_ = o.poller.Wake() // it looks at posts before it waits, but not at this
		}
	}
	return true
}

// endPosts refuses further posts to any loop, unless one waits somewhere.
func (g *Group) endPosts() bool {
	for _, l := range g.loops {
		l.box.mu.Lock()
		defer l.box.mu.Unlock()
		if len(l.box.queue) > 0 {
			return false
		}
	}
	for _, l := range g.loops {
		l.box.ended = true
	}
	return true
}

// awake is called by a loop that was at rest, before it does anything.
func (g *Group) awake(l *Loop) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l.resting = false
	g.resting--
}

// Stop makes Run return nil after the passes that are under way, as Loop.Stop does. From any goroutine.
func (g *Group) Stop() {
	for _, l := range g.loops {
		l.Stop()
	}
}

// Shutdown is Loop.Shutdown for all loops. Run returns nil when the channels of all of them are gone. From any goroutine.
func (g *Group) Shutdown(grace time.Duration) {
	for _, l := range g.loops {
		l.Shutdown(grace)
	}
}

// Close closes the loops, one after the other: every channel with ErrClosed, and the pollers. ErrRunning: the Group runs.
func (g *Group) Close() error {
	if !g.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer g.running.Store(false)
	var errs []error
	for i, l := range g.loops {
		if err := l.Close(); err != nil {
			errs = append(errs, fmt.Errorf("loop %d: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// Stats returns the sums of the loops' counters. From any goroutine: each loop's are those of when it last waited, but at
// most statsPeriod old while it is busy.
func (g *Group) Stats() Stats {
	var sum Stats
	for _, l := range g.loops {
		l.published.mu.Lock()
		s := l.published.stats
		l.published.mu.Unlock()
		s.Posts = l.box.len()
		sum.add(s)
	}
	return sum
}

// statsPeriod is how often a loop that does not wait publishes its counters.
const statsPeriod = int64(10 * time.Millisecond)

// published are a loop's counters for other goroutines.
type published struct {
	mu    sync.Mutex
	stats Stats
	at    int64
}

// publish is called on the loop's goroutine.
func (l *Loop) publish() {
	p := &l.published
	p.at = l.now
	p.mu.Lock()
	p.stats = l.stats
	p.stats.Channels, p.stats.Timers, p.stats.Work = l.open, len(l.timers.heap), l.pool.busy()
	p.mu.Unlock()
}

package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync/atomic"
	"syscall"
	"time"
)

// Loop is the reactor: it waits until channels are ready and calls their handlers, one after the other, on the goroutine
// that called Run or Step. Make one with NewLoop and Close it at the end.
type Loop struct {
	opts   Options
	sys    System
	poller Poller
	cheap  bool // the poller's zero wait costs next to nothing
	log    *slog.Logger
	epoch  time.Time
	now    int64 // nanoseconds since epoch, read once per pass

	slots  []*Dispatcher // by the low bits of a channel's id
	free   []uint32
	serial uint64
	open   int // channels in slots
	kinds  map[reflect.Type]handlerSet

	buf    []byte // the one read buffer; lent to handlers
	used   int    // of buf, since the last poisoning
	lent   lender
	timers timerHeap
	asked  []*Dispatcher // handlers with predicates
	stale  bool          // these may answer otherwise than they did
	again  []*Dispatcher // to be served without asking the poller

	// One pass. All of it lives here and not in locals, because a panic unwinds the frame that works on it.
	ready   []Ready
	next    int
	rerun   []*Dispatcher
	rerunAt int
	askAt   int
	posts   []func()
	postAt  int
	leaving []*Dispatcher // to be told of a shutdown
	leaveAt int
	dirty   []*Dispatcher // touched in this event
	dirtyAt int
	cur     *Dispatcher // whose handler runs or ran last, nil for the loop's own funcs
	method  string      // which one
	failing string      // the method whose error HandleError is told
	calls   int         // handler calls in this pass
	busy    bool        // inside try: handlers are on the stack
	fault   faultRecord

	sweeping error // CloseAll is telling; new channels are refused with it
	ending   bool  // Shutdown was seen
	deadline *Timer
	exit     error // ends Run: ExitNow, a failed poller, a failed audit
	fatal    error // the poller or the audit failed: the loop cannot go on
	box      postbox
	pool     workers
	reserve  reserve
	slow     slowWatch
	event    Event // what the trace hook is given
	stats    Stats

	of        *Group // nil: a loop by itself
	index     int    // in it
	resting   bool   // nothing is left here, but perhaps elsewhere in the Group
	wakes     []*Loop
	published published

	scratch any

	running   atomic.Bool
	asleep    atomic.Bool // in a wait that blocks, or about to be
	stop      atomic.Bool
	cancelled *atomic.Bool // of this Run's context; nil outside Run
	shutdown  atomic.Int64 // grace + 1
}

// NewLoop returns a loop with nothing registered. The errors are those of the back end.
func NewLoop(o Options) (*Loop, error) {
	if o.System == nil {
		o.System = operatingSystem
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.SlowHandler == 0 {
		o.SlowHandler = defaultSlow
	}
	if o.MaxPosts <= 0 {
		o.MaxPosts = defaultMaxPosts
	}
	if o.MaxWorkers <= 0 {
		o.MaxWorkers = defaultMaxWorkers
	}
	p, err := o.System.NewPoller(o.Backend)
	if err != nil {
		return nil, err
	}
	l := &Loop{
		opts: o, sys: o.System, poller: p, log: o.Logger, epoch: o.System.Now(),
		kinds: make(map[reflect.Type]handlerSet),
		buf:   make([]byte, ReadBudget),
		ready: make([]Ready, 0, readyBatch),
	}
	_, l.cheap = p.(cheapPoller)
	l.slow.init(o)
	return l, nil
}

// Run works until nothing is registered, no timer is pending and no work is out, and then returns nil; until Stop (nil);
// until a handler returns ExitNow (ExitNow); or until ctx is done: then every channel is closed with the context's
// cause, and Run returns that. After Shutdown it returns nil when the channels are gone. It may be called again.
// ErrRunning: the loop runs already. [asyncore.loop]
func (l *Loop) Run(ctx context.Context) error {
	if err := l.begin(); err != nil {
		return err
	}
	defer l.running.Store(false)
	cancelled := new(atomic.Bool) // one for each Run: the func below may come late for this one
	cancelled.Store(ctx.Err() != nil)
	l.cancelled = cancelled
	defer func() { l.cancelled = nil }()
	defer context.AfterFunc(ctx, func() {
		cancelled.Store(true)
		l.wake()
	})()
	for {
		switch {
		case l.exit != nil:
			err := l.exit
			l.exit = nil
			l.end(true)
			return err
		case l.stop.Load() && l.stop.Swap(false):
			l.end(true)
			return nil
		case cancelled.Load():
			l.cancel(context.Cause(ctx))
			l.end(true)
			return context.Cause(ctx)
		case l.done() && l.mayEnd():
			return nil
		}
		l.pass(-1)
	}
}

// cancel closes every channel, and those that posts open.
func (l *Loop) cancel(cause error) {
	l.CloseAll(cause)
	l.takePosts()
	l.protect((*Loop).runPosts)
	l.CloseAll(cause)
}

// Step makes one pass: it waits for at most timeout (negative: without end; 0: not at all), but not beyond the next
// timer, and calls the handlers of what is ready. When there is nothing to wait for it returns at once. more tells
// whether there is still something registered, pending or out; it is what asyncore's non-empty map is. ErrRunning: the
// loop runs already. [asyncore.loop(timeout, count=1)]
func (l *Loop) Step(timeout time.Duration) (more bool, err error) {
	if err := l.begin(); err != nil {
		return false, err
	}
	defer l.running.Store(false)
	if !l.done() {
		l.pass(timeout)
		l.slow.passEnded(l, l.clock())
	}
	more = !l.done()
	if !more && l.ending && l.of == nil {
		l.end(false)
	}
	err, l.exit = l.exit, nil
	if l.of != nil {
		l.of.stepped(l, err)
	}
	return more, err
}

func (l *Loop) begin() error {
	if !l.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	err := l.fatal
	if !l.box.start() {
		err = ErrClosed
	}
	if err != nil {
		l.running.Store(false)
		return err
	}
	l.now = l.clock() // there may have been a long time between two runs
	return nil
}

// done tells whether nothing is left that could ever make an event.
func (l *Loop) done() bool {
	switch {
	case l.open > 0 || len(l.dirty) > 0 || l.shutdown.Load() != 0 && !l.ending:
		return false
	case !l.ending && (len(l.timers.heap) > 0 || l.pool.busy() > 0):
		return false
	}
	return l.box.len() == 0
}

// mayEnd is end for a loop that has nothing left. One of a Group ends when no other has either.
func (l *Loop) mayEnd() bool {
	if l.of == nil || !l.of.running.Load() {
		return l.end(false)
	}
	return l.of.rest(l) && l.end(true)
}

// end marks the loop as ended, so that Post answers false from now on. Without force it refuses while posts wait.
func (l *Loop) end(force bool) bool {
	if !l.box.end(force) {
		return false
	}
	if l.ending {
		l.ending = false
		l.deadline.Stop()
		l.shutdown.Store(0)
	}
	return true
}

// Stop makes Run return nil after the pass that is under way. Channels stay open, posts stay queued for another Run.
// From any goroutine.
func (l *Loop) Stop() {
	l.stop.Store(true)
	l.wake()
}

// Shutdown begins an orderly end, from any goroutine, and returns at once: listeners close, each channel's
// HandleShutdown is called (see ShutdownHandler for the default), and after grace, on the loop's clock, what is left
// closes with ErrShutdown. Run then returns nil.
func (l *Loop) Shutdown(grace time.Duration) {
	l.shutdown.CompareAndSwap(0, max(int64(grace), 0)+1)
	l.wake()
}

func (l *Loop) beginShutdown(grace time.Duration) {
	l.ending = true
	l.deadline = l.AfterFunc(grace, func() { l.CloseAll(ErrShutdown) })
	for d := range l.All() {
		if _, ok := d.h.(accepting); ok {
			d.shut(ErrShutdown)
		} else {
			l.leaving = append(l.leaving, d)
		}
	}
	l.leaveAt = 0
	l.protect((*Loop).tellShutdown)
	l.leaving = nil
}

func (l *Loop) tellShutdown() {
	for l.leaveAt < len(l.leaving) {
		d := l.leaving[l.leaveAt]
		l.leaveAt++
		switch {
		case d.Closed():
		case d.has.has(hasShutdown):
			invoke(d, "HandleShutdown", ShutdownHandler[*Dispatcher].HandleShutdown)
		default:
			d.shut(ErrShutdown)
		}
		l.settle()
	}
	l.settle()
}

// Close closes every channel with ErrClosed, and the poller. Posts that wait are dropped. ErrRunning: the loop runs.
func (l *Loop) Close() error {
	if !l.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer l.running.Store(false)
	if !l.box.close() {
		return nil
	}
	err := l.CloseAll(ErrClosed)
	l.timers.drop()
	l.reserve.close()
	return errors.Join(err, l.poller.Close())
}

// Backend returns the poller's name.
func (l *Loop) Backend() string { return l.poller.Name() }

// Logger returns the loop's logger.
func (l *Loop) Logger() *slog.Logger { return l.log }

// Strict tells whether Options.Strict is on.
func (l *Loop) Strict() bool { return l.opts.Strict }

// Scratch is a place for the layer above, package chat, to keep what it needs for the length of an event: once for the loop,
// and not once for each conversation. The loop does not look at it.
func (l *Loop) Scratch() *any { return &l.scratch }

// Now returns the time: the machine's, or that of core/sim.
func (l *Loop) Now() time.Time { return l.sys.Now() }

// Lately returns how old the loop was when the pass began that is under way; between two passes, how old it is. Within a pass
// it costs nothing, unlike Now: for what happens many times a pass, or for deadlines that need not be exact.
func (l *Loop) Lately() time.Duration { return time.Duration(l.lately()) }

// clock reads the loop's clock.
func (l *Loop) clock() int64 {
	if l.sys == operatingSystem {
		return int64(time.Since(l.epoch)) // monotonic alone: half the price of time.Now
	}
	return int64(l.sys.Now().Sub(l.epoch))
}

// lately is the time of the pass that is under way, which costs nothing; between two it is the time.
func (l *Loop) lately() int64 {
	if !l.busy {
		l.now = l.clock()
	}
	return l.now
}

// pass is one turn of the loop: ask, wait, serve.
func (l *Loop) pass(timeout time.Duration) {
	l.stats.Passes++
	if l.opts.Trace != nil {
		l.trace(Event{Kind: TracePass})
	}
	if g := l.shutdown.Load(); g != 0 && !l.ending {
		l.beginShutdown(time.Duration(g - 1))
	}
	if len(l.asked) > 0 || len(l.dirty) > 0 || l.opts.Strict {
		l.askAt = 0
		l.protect((*Loop).ask)
	}
	if l.exit != nil || l.done() && !l.resting {
		return
	}
	err := l.wait(timeout)
	if l.resting {
		l.of.awake(l)
	}
	if err != nil {
		l.broken(fmt.Errorf("parley: %s: %w", l.poller.Name(), err))
		return
	}
	l.calls = 0
	l.next = 0
	l.rerunAt, l.rerun, l.again = 0, l.again, l.rerun[:0]
	l.takePosts()
	l.protect((*Loop).serve)
	l.stale = l.calls > 0 && len(l.asked) > 0
	clear(l.rerun)
	l.pool.yield()
	if l.of != nil && l.now-l.published.at >= statsPeriod {
		l.publish()
	}
}

// broken ends the loop for good.
func (l *Loop) broken(err error) {
	if l.fatal == nil {
		l.fatal, l.exit = err, err
	}
}

// wait asks the poller, first without blocking.
func (l *Loop) wait(timeout time.Duration) error {
	if len(l.again) > 0 || l.called() {
		timeout = 0
	}
	if !l.cheap {
		timeout = l.untilTimer(timeout)
	}
	l.ready = l.ready[:0]
	var err error
	if l.cheap || timeout == 0 {
		l.ready, err = l.poller.Wait(0, l.ready)
		if l.called() {
			timeout = 0 // that wait may have used up the wake-up
		}
		if len(l.ready) == 0 {
			timeout = l.untilTimer(timeout)
		}
	}
	for timeout != 0 && len(l.ready) == 0 && (err == nil || err == syscall.EINTR) {
		start := l.clock()
		l.slow.passEnded(l, start)
		if l.of != nil {
			l.publish()
		}
		l.asleep.Store(true) // before looking once more: whoever has something for the loop does it the other way round
		if l.called() {
			timeout = 0
		}
		l.ready, err = l.poller.Wait(timeout, l.ready)
		l.asleep.Store(false)
		l.now = l.clock()
		if err != syscall.EINTR {
			break
		}
		if timeout > 0 { // interrupted: go on with the time that is left
			timeout = max(timeout-time.Duration(l.now-start), 0)
		}
	}
	if err == syscall.EINTR {
		err = nil
	}
	l.now = l.clock()
	l.slow.passStarted(l)
	if l.opts.Trace != nil {
		l.trace(Event{Kind: TraceWait, Name: l.poller.Name(), N: len(l.ready)})
	}
	return err
}

// untilTimer is timeout, or less if a timer is due before.
func (l *Loop) untilTimer(timeout time.Duration) time.Duration {
	if when, ok := l.timers.next(); ok && timeout != 0 {
		until := time.Duration(max(when-l.clock(), 0))
		if timeout < 0 || until < timeout {
			return until
		}
	}
	return timeout
}

// serve calls the handlers: of what the poller reported, of what needs no poller, of timers, of posts.
func (l *Loop) serve() {
	l.settle()
	for l.next < len(l.ready) && l.exit == nil {
		r := l.ready[l.next]
		l.next++
		d := l.lookup(r.ID)
		switch {
		case d == nil:
		case !d.ordinary(r.Got) || l.opts.Trace != nil:
			l.deliver(d, r.Got)
		default: // nearly always: deliver does the same, but behind a system call each function on the way back costs
			l.stats.Events++
			start := l.enter(d, "HandleRead")
			err := d.stream.HandleRead(d)
			l.leave(start)
			if err != nil {
				d.Fail("HandleRead", err)
			}
			if len(l.dirty) > 0 || l.opts.Strict {
				l.settle()
			}
			if l.opts.Strict {
				d.audit()
			}
		}
	}
	for l.rerunAt < len(l.rerun) && l.exit == nil {
		d := l.rerun[l.rerunAt]
		l.rerunAt++
		d.state &^= stAgain
		if got := d.queued; got != 0 && d.alive() {
			l.deliver(d, got)
		}
	}
	for upTo := l.timers.seq; l.exit == nil && l.timers.due(l.now, upTo); {
		l.fire()
		l.settle()
	}
	l.runPosts()
	if l.exit != nil {
		l.salvage()
	}
}

// salvage keeps what an exit left unserved in this pass for the next one; the poller reports its part again.
func (l *Loop) salvage() {
	for _, d := range l.rerun[l.rerunAt:] {
		d.state &^= stAgain
		d.Requeue(d.queued)
	}
	l.box.putBack(l.posts[l.postAt:])
	l.rerunAt, l.postAt = len(l.rerun), len(l.posts)
}

func (l *Loop) takePosts() {
	l.postAt = 0
	l.posts = l.box.take(l.posts[:0])
}

func (l *Loop) runPosts() {
	for l.postAt < len(l.posts) && l.exit == nil {
		f := l.posts[l.postAt]
		l.posts[l.postAt] = nil
		l.postAt++
		l.run("Post", TracePost, f)
		l.settle()
	}
	l.settle()
}

// run calls one of the loop's own funcs: a post or a timer that belongs to no channel.
func (l *Loop) run(name string, kind TraceKind, f func()) {
	if l.opts.Trace != nil {
		l.trace(Event{Kind: kind, Name: name})
	}
	start := l.enter(nil, name)
	f()
	l.leave(start)
}

// ask has the handler's predicates set the interest.
func (d *Dispatcher) ask() {
	start := d.loop.enter(d, "Readable")
	if d.has.has(hasReadable) {
		d.WantRead(as[ReadPredicate](d.h).Readable())
	}
	if d.has.has(hasWritable) && d.alive() {
		d.WantWrite(as[WritePredicate](d.h).Writable())
	}
	d.loop.leave(start)
}

// ask settles what was done outside of the loop and asks the handlers that have predicates.
func (l *Loop) ask() {
	l.settle()
	if l.opts.Strict && l.open <= auditAll {
		for d := range l.All() {
			d.audit()
		}
	}
	if len(l.asked) == 0 {
		return
	}
	for l.askAt < len(l.asked) {
		d := l.asked[l.askAt]
		l.askAt++
		if d.alive() {
			d.ask()
			l.settle()
		}
	}
	kept := l.asked[:0]
	for _, d := range l.asked {
		if d.state&stClosed == 0 {
			kept = append(kept, d)
		}
	}
	clear(l.asked[len(kept):])
	l.asked, l.stale = kept, false
}

// Next tells when the loop has something to do even if no channel becomes ready: 0 now, otherwise at its next timer; ok
// is false if there is neither. It is for driving a loop by Step from another one.
func (l *Loop) Next() (wait time.Duration, ok bool) {
	if len(l.dirty) > 0 || l.open > 0 && (l.stale || len(l.again) > 0) || l.box.waiting.Load() || l.exit != nil ||
		l.shutdown.Load() != 0 && !l.ending {
		return 0, true
	}
	when, ok := l.timers.next()
	return time.Duration(max(when-l.clock(), 0)), ok
}

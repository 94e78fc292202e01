package core

import (
	"sync"
	"sync/atomic"
)

// postbox is what other goroutines may touch: funcs for the loop's goroutine.
type postbox struct {
	waiting atomic.Bool // the queue is not empty
	mu      sync.Mutex
	queue   []func()
	free    int  // completions of work in the queue, which MaxPosts does not count
	woken   bool // the poller was woken for it
	ended   bool
	closed  bool
}

// Post runs f on the loop's goroutine, in the order of the posts. It may be called from any goroutine, never blocks, and
// returns false if f will not run: the loop has ended (Run returned, or Close), or Options.MaxPosts wait already. A panic
// of f is logged.
func (l *Loop) Post(f func()) bool { return l.box.put(l, f, false) }

// PostTo is to.Post(f) for a func on l's goroutine, a handler say, that posts often: what it posts to one loop wakes that once,
// when the pass of l is over.
func (l *Loop) PostTo(to *Loop, f func()) bool { return l.postTo(to, f, false) }

func (l *Loop) postTo(to *Loop, f func(), completion bool) bool {
	ok, wake := to.box.add(to, f, completion, l.busy)
	switch {
	case !wake:
	case l.busy:
		l.wakeLater(to)
	default:
		to.wake()
	}
	return ok
}

func (l *Loop) wakeLater(to *Loop) {
	for _, o := range l.wakes {
		if o == to {
			return
		}
	}
	l.wakes = append(l.wakes, to)
}

// wakeOthers is called at the end of a pass.
func (l *Loop) wakeOthers() {
	for i, o := range l.wakes {
		if o.box.unwoken() {
			o.wake()
		}
		l.wakes[i] = nil
	}
	l.wakes = l.wakes[:0]
}

// put: a completion is taken also while the loop does not run; it waits for the next Run.
func (b *postbox) put(l *Loop, f func(), completion bool) bool {
	ok, wake := b.add(l, f, completion, false)
	if wake {
		l.wake()
	}
	return ok
}

// add is put without the wake-up, and tells whether that is due. With later the caller asks unwoken when it comes to it.
func (b *postbox) add(l *Loop, f func(), completion, later bool) (ok, wake bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || !completion && (b.ended || len(b.queue)-b.free >= l.opts.MaxPosts) {
		return false, false
	}
	b.queue = append(b.queue, f)
	if completion {
		b.free++
	}
	b.waiting.Store(true)
	wake = !b.woken
	b.woken = !later || b.woken
	return true, wake
}

// unwoken tells whether somebody has still to wake the loop for what waits, and counts on the caller for it.
func (b *postbox) unwoken() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	due := len(b.queue) > 0 && !b.woken
	b.woken = due || b.woken
	return due
}

// take moves what waits into the given slice.
func (b *postbox) take(into []func()) []func() {
	if !b.waiting.Load() {
		return into
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	into = append(into, b.queue...)
	clear(b.queue)
	b.queue, b.free = b.queue[:0], 0
	b.waiting.Store(false)
	b.woken = false
	return into
}

// putBack puts what was taken and did not run in front again.
func (b *postbox) putBack(rest []func()) {
	if len(rest) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(append([]func(){}, rest...), b.queue...)
	b.waiting.Store(true)
}

func (b *postbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

// start is the beginning of Run or Step; it answers false after close.
func (b *postbox) start() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = false
	return !b.closed
}

// end is the end of Run. Without force it refuses while something waits.
func (b *postbox) end(force bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !force && len(b.queue) > 0 {
		return false
	}
	b.ended = true
	return true
}

// close answers false if it was closed before.
func (b *postbox) close() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.closed
	b.closed, b.queue = true, nil
	return !was
}

func (b *postbox) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// wake ends a wait that blocks. A loop that does not wait looks by itself at what it was woken for.
func (l *Loop) wake() {
	if l.asleep.Load() {
		_ = l.poller.Wake()
	}
}

// called tells whether another goroutine has something for the loop. Each of these is set before wake is called.
func (l *Loop) called() bool {
	return l.box.waiting.Load() || l.stop.Load() || l.cancelled != nil && l.cancelled.Load() ||
		l.shutdown.Load() != 0 && !l.ending
}

package core

import (
	"context"
	"time"
)

// Timer is a func that runs later on the loop's goroutine. For that goroutine only.
type Timer struct {
	when  int64 // on the loop's clock
	seq   uint64
	f     func()
	loop  *Loop
	d     *Dispatcher // whose timer it is, or nil
	index int         // in the heap, -1 outside
	own   int         // in the channel's list
	kind  timerKind
}

type timerKind uint8

const (
	timerFunc timerKind = iota
	timerIdle
	timerWrite
	timerRate
)

// AfterFunc runs f once, d from now at the earliest. A pending timer keeps Run going.
func (l *Loop) AfterFunc(d time.Duration, f func()) *Timer {
	t := &Timer{f: f, loop: l, index: -1}
	t.start(d)
	return t
}

// AfterFunc is Loop.AfterFunc for a timer that dies with the channel. A panic of f is the channel's (rule 6).
func (d *Dispatcher) AfterFunc(after time.Duration, f func()) *Timer {
	t := &Timer{f: f, loop: d.loop, d: d, index: -1}
	if d.alive() {
		t.start(after)
	}
	return t
}

// Stop keeps the timer from running and tells whether it was going to.
func (t *Timer) Stop() bool {
	if t.index < 0 {
		return false
	}
	t.loop.timers.remove(t)
	t.disown()
	return true
}

// Reset has the timer run d from now, whether or not it was pending, and returns whether it was. Nothing happens when
// its channel is closed.
func (t *Timer) Reset(d time.Duration) bool {
	was := t.Stop()
	if t.d == nil || t.d.alive() {
		t.start(d)
	}
	return was
}

func (t *Timer) start(after time.Duration) { t.startAt(t.loop.clock() + int64(max(after, 0))) }

func (t *Timer) startAt(when int64) {
	l := t.loop
	l.timers.seq++
	t.when, t.seq = when, l.timers.seq
	l.timers.add(t)
	if t.d != nil {
		x := t.d.extend()
		t.own = len(x.timers)
		x.timers = append(x.timers, t)
	}
}

func (t *Timer) disown() {
	if t.d == nil || t.d.ext == nil {
		return
	}
	x := t.d.ext
	last := len(x.timers) - 1
	x.timers[t.own] = x.timers[last]
	x.timers[t.own].own = t.own
	x.timers[last] = nil
	x.timers = x.timers[:last]
}

// fire runs the first timer.
func (l *Loop) fire() {
	t := l.timers.heap[0]
	t.Stop()
	if t.d == nil {
		l.run("AfterFunc", TraceTimer, t.f)
		return
	}
	if l.opts.Trace != nil {
		l.trace(Event{Kind: TraceTimer, Chan: t.d, Name: "AfterFunc"})
	}
	start := l.enter(t.d, "AfterFunc")
	switch t.kind {
	case timerIdle:
		t.d.ext.idleDue(t.d)
	case timerWrite:
		t.d.ext.writeDue(t.d)
	case timerRate:
		t.d.ext.rateDue(t.d)
	default:
		t.f()
	}
	l.leave(start)
}

// timerHeap is a binary heap by time, then by age.
type timerHeap struct {
	heap []*Timer
	seq  uint64
}

func (h *timerHeap) next() (when int64, ok bool) {
	if len(h.heap) == 0 {
		return 0, false
	}
	return h.heap[0].when, true
}

// due tells whether the first timer should fire. One that was set during this pass waits for the next.
func (h *timerHeap) due(now int64, upTo uint64) bool {
	return len(h.heap) > 0 && h.heap[0].when <= now && h.heap[0].seq <= upTo
}

func (h *timerHeap) less(i, j int) bool {
	a, b := h.heap[i], h.heap[j]
	return a.when < b.when || a.when == b.when && a.seq < b.seq
}

func (h *timerHeap) swap(i, j int) {
	h.heap[i], h.heap[j] = h.heap[j], h.heap[i]
	h.heap[i].index, h.heap[j].index = i, j
}

func (h *timerHeap) add(t *Timer) {
	t.index = len(h.heap)
	h.heap = append(h.heap, t)
	h.up(t.index)
}

func (h *timerHeap) remove(t *Timer) {
	i, last := t.index, len(h.heap)-1
	if i != last {
		h.swap(i, last)
	}
	h.heap[last] = nil
	h.heap = h.heap[:last]
	if i != last {
		h.down(i)
		h.up(i)
	}
	t.index = -1
}

// drop forgets all timers; whoever still has one can stop it.
func (h *timerHeap) drop() {
	for _, t := range h.heap {
		t.index = -1
	}
	h.heap = nil
}

func (h *timerHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(i, parent) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *timerHeap) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h.heap); c++ {
			if h.less(c, least) {
				least = c
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}

// extension is what few channels need: timers, timeouts, a context, a dial.
type extension struct {
	timers   []*Timer
	idle     int64 // nanoseconds; 0: none
	write    int64
	rate     int64 // bytes a second; 0: any
	active   int64 // when something was received or sent last
	progress int64 // when something was sent last, or write interest came on
	sent     int64 // bytes
	idleT    *Timer
	writeT   *Timer
	pace     *pace // nil: write interest was not on yet
	ctx      context.Context
	cancel   context.CancelCauseFunc
	dial     *dialing
}

// pace is how fast the peer takes what waits for it.
type pace struct {
	taken int64 // bytes that it had taken when SetWriteTimeout's timer was looked at last
	from  int64 // when the period began
	begun int64 // bytes that it had taken then
	t     *Timer
}

func (d *Dispatcher) extend() *extension {
	if d.ext == nil {
		d.ext = new(extension)
	}
	return d.ext
}

// release lets go of everything when the channel closes.
func (x *extension) release(cause error) {
	for len(x.timers) > 0 {
		x.timers[len(x.timers)-1].Stop()
	}
	if x.cancel != nil {
		x.cancel(contextCause(cause))
	}
	x.dial = nil
}

func contextCause(cause error) error {
	if cause == nil {
		return ErrClosed
	}
	return cause
}

func (x *extension) context(d *Dispatcher) context.Context {
	if x.ctx == nil {
		x.ctx, x.cancel = context.WithCancelCause(context.Background())
		if !d.alive() {
			x.cancel(contextCause(d.cause))
		}
	}
	return x.ctx
}

// SetIdleTimeout closes the channel with ErrTimeout, or calls HandleTimeout, when nothing was received and nothing sent
// for t. 0 switches it off, as it is after Attach. Traffic costs nothing: the timer looks, when it fires, at when there
// was some.
func (d *Dispatcher) SetIdleTimeout(t time.Duration) {
	if !d.alive() {
		return
	}
	x := d.extend()
	x.idle, x.active = int64(max(t, 0)), d.loop.clock()
	x.idleT = d.rearm(x.idleT, timerIdle, x.idle, x.active)
}

// SetWriteTimeout closes the channel with ErrTimeout when there is something to write (write interest is on) and the
// peer took nothing for t. 0 switches it off, as it is after Attach. The peer gets a reset where the transport has one: what
// was to come is lost in any case, and the system need not hold what it has not taken either.
//
// Taken is what was sent; on Linux, over TCP, also what the peer acknowledges of it, since a socket is writable again only
// when a third of its buffer, which may be megabytes, is free. A peer that takes something between two sends and then
// nothing more closes after 2t at the latest.
func (d *Dispatcher) SetWriteTimeout(t time.Duration) {
	if !d.alive() {
		return
	}
	x := d.extend()
	x.write = int64(max(t, 0))
	if x.write == 0 || d.want&Write != 0 {
		x.progress = d.loop.clock()
		if x.write != 0 {
			x.keepPace().taken = d.taken()
		}
		x.writeT = d.rearm(x.writeT, timerWrite, x.write, x.progress)
	} else if x.writeT != nil {
		x.writeT.Stop() // it may be later than the new timeout; startWriting arms it again
	}
}

// WriteRatePeriod is the time over which SetWriteRate takes the average.
const WriteRatePeriod = time.Minute

// SetWriteRate closes the channel with ErrTimeout when the peer takes fewer bytes a second of what is written than least, on
// an average over each WriteRatePeriod in which something waits for it (write interest is on) all the time: SetWriteTimeout is
// content with a byte now and then. What a peer that keeps up has not been given yet is not counted, however slowly it is
// made. Taken, and the reset, are as of SetWriteTimeout. 0 switches it off, as it is after Attach.
func (d *Dispatcher) SetWriteRate(least int64) {
	if !d.alive() {
		return
	}
	x := d.extend()
	x.rate = max(least, 0)
	if x.rate > 0 && d.want&Write != 0 {
		d.WantWrite(false) // the period begins now
		d.WantWrite(true)
	}
}

// WriteTimeout returns what SetWriteTimeout was given last, 0 if there is none.
func (d *Dispatcher) WriteTimeout() time.Duration {
	if d.ext == nil {
		return 0
	}
	return time.Duration(d.ext.write)
}

// rearm starts one of the two timers anew, or stops it if the timeout is 0.
func (d *Dispatcher) rearm(t *Timer, kind timerKind, timeout, since int64) *Timer {
	if t != nil {
		t.Stop()
	}
	if timeout == 0 {
		return nil
	}
	if t == nil {
		t = &Timer{loop: d.loop, d: d, kind: kind, index: -1}
	}
	t.startAt(since + timeout)
	return t
}

func (x *extension) idleDue(d *Dispatcher) {
	if due := x.active + x.idle; due > d.loop.now {
		x.idleT.startAt(due)
		return
	}
	if d.Connecting() || d.has.has(hasTimeout) {
		x.active = d.loop.now
		x.idleT.startAt(x.active + x.idle)
	}
	switch {
	case d.Connecting(): // has a timeout of its own
	case d.has.has(hasTimeout):
		invoke(d, "HandleTimeout", TimeoutHandler[*Dispatcher].HandleTimeout)
	default:
		d.shut(ErrTimeout)
	}
}

// startWriting is called when write interest comes on.
func (x *extension) startWriting(d *Dispatcher) {
	if x.write == 0 && x.rate == 0 {
		return
	}
	now, taken := d.loop.lately(), d.taken()
	p := x.keepPace()
	x.progress, p.taken = now, taken
	if x.write != 0 && (x.writeT == nil || x.writeT.index < 0) {
		x.writeT = d.rearm(x.writeT, timerWrite, x.write, now)
	}
	p.from, p.begun = now, taken
	if x.rate != 0 && (p.t == nil || p.t.index < 0) {
		p.t = d.rearm(p.t, timerRate, int64(WriteRatePeriod), now)
	}
}

func (x *extension) keepPace() *pace {
	if x.pace == nil {
		x.pace = new(pace)
	}
	return x.pace
}

// taken is how many bytes the peer has taken, as far as one can know: less what layers and the system hold for it.
func (d *Dispatcher) taken() int64 {
	n := d.ext.sent
	if d.sock == nil {
		return n
	}
	if s, ok := base(d.sock).(unacked); ok {
		n -= int64(s.Unacked())
	}
	return n - int64(d.Unsent())
}

func (x *extension) writeDue(d *Dispatcher) {
	if !d.wants(Write) {
		return // startWriting arms it again
	}
	now := d.loop.now
	before := x.pace.taken
	x.pace.taken = d.taken()
	if x.progress+x.write <= now && x.pace.taken > before {
		x.progress = now
	}
	if due := x.progress + x.write; due > now {
		x.writeT.startAt(due)
		return
	}
	_ = d.abort(ErrTimeout)
}

func (x *extension) rateDue(d *Dispatcher) {
	if !d.wants(Write) || x.rate == 0 {
		return // startWriting arms it again
	}
	now, p := d.loop.now, x.pace
	if due := p.from + int64(WriteRatePeriod); due > now {
		p.t.startAt(due)
		return
	}
	taken := d.taken()
	if (taken-p.begun)/int64(WriteRatePeriod/time.Second) < x.rate {
		_ = d.abort(ErrTimeout)
		return
	}
	p.from, p.begun = now, taken
	p.t.startAt(now + int64(WriteRatePeriod))
}

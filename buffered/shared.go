package buffered

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/parley-go/parley/core"
)

// Shared is a message for many outputs, on any number of loops: it is made once, and each output that it is pushed to holds a
// reference instead of a copy until it is sent. It never changes.
//
//	m := buffered.NewShared(line)
//	for _, c := range members {
//		_ = c.PushShared(m)
//	}
//	m.Release()
type Shared struct {
	p    []byte
	refs atomic.Int32

	// What an output has that waits for nothing but this message. All of them have the same one, and none changes it.
	alone queue
	one   [1]segment
}

const (
	// SharedMin is how long a message has to be, in bytes, that a slow peer's output keeps by reference: a shorter one is
	// copied there, because the reference takes as much.
	SharedMin = 256

	// sharedMost bounds the references to short messages that one output gathers within an event.
	sharedMost = 64

	// gatherBelow is up to which length several messages are copied together for one send. Above it a copy costs more than
	// a system call saves.
	gatherBelow = 4 << 10

	keepShared = 64 << 10 // larger buffers are not used again
)

var sharedPool = sync.Pool{New: func() any {
	s := new(Shared)
	s.alone.shared = s
	s.alone.segments = s.one[:]
	s.one[0].shared = s
	return s
}}

// NewShared returns a message that is a copy of p, with one reference, the caller's.
func NewShared(p []byte) *Shared {
	s := sharedPool.Get().(*Shared)
	s.p = append(s.p[:0], p...)
	s.refs.Store(1)
	s.alone.bytes = len(s.p)
	s.one[0].block = s.p
	return s
}

// Bytes returns the message, which must not be changed. It is good as long as the caller has a reference.
func (s *Shared) Bytes() []byte { return s.p }

// Len returns its length.
func (s *Shared) Len() int { return len(s.p) }

// Retain adds a reference, for somebody else who will Release it. From any goroutine that has one.
func (s *Shared) Retain() {
	if s.refs.Add(1) <= 1 {
		panic("buffered: Shared used after its last Release")
	}
}

// Release gives a reference back; with the last one the memory is used for another message. From any goroutine. Who never
// calls it leaves the memory to the garbage collector.
func (s *Shared) Release() {
	switch n := s.refs.Add(-1); {
	case n < 0:
		panic("buffered: Shared released too often")
	case n == 0:
		if cap(s.p) > keepShared {
			s.p = nil
		}
		sharedPool.Put(s)
	}
}

// PushShared queues a message by reference, of which it takes one of its own. Errors as Push's.
func (o *Output) PushShared(t Transport, s *Shared) error {
	n := len(s.p)
	switch {
	case o.state&outShut != 0:
		return core.ErrClosed
	case n == 0:
		return nil
	case o.queue == nil && len(o.lent) == 0 && n <= o.bounds().Limit: // nearly always
		s.Retain()
		o.queue, o.room = &s.alone, 0
		return nil
	case n < SharedMin && (len(o.lent) > 0 || o.state&outBlocked != 0):
		return push(o, t, s.p)
	case o.Len()+n > o.bounds().Limit:
		if err := o.sendNow(t); err != nil { // what is there may be on its way out already
			return err
		}
		if o.Len()+n > o.bounds().Limit {
			return core.ErrOverflow
		}
	}
	o.spill(t, o.lent)
	o.lent, o.room = o.lent[:0], 0
	o.own()
	if o.queue != nil && n < SharedMin && o.queue.len() >= sharedMost {
		if err := o.sendNow(t); err != nil {
			return err
		}
		if o.queue != nil {
			return push(o, t, s.p)
		}
	}
	s.Retain()
	o.wait(s, s.p)
	return nil
}

// sendNow sends what this event queued, unless something older is in front of it.
func (o *Output) sendNow(t Transport) error {
	if o.queue != nil && o.queue.shared != nil {
		if err := o.flushAlone(t); err != nil {
			return err
		}
	}
	for o.queue != nil && o.queue.front().shared != nil && o.state&outBlocked == 0 {
		if _, err := o.flushShared(t, FlushBudget); err != nil {
			return err
		}
	}
	return o.sendLent(t)
}

// own gives the output a queue of its own, if it has that of a Shared.
func (o *Output) own() {
	if o.queue == nil || o.queue.shared == nil {
		return
	}
	s := o.queue.shared
	o.queue = nil
	o.wait(s, s.p)
}

// wait appends the rest of a message, with the reference to it, to the queue, which is nobody else's.
func (o *Output) wait(s *Shared, rest []byte) {
	if o.queue == nil {
		o.queue = newQueue()
	}
	o.queue.segments = append(o.queue.segments, segment{shared: s, block: rest})
	o.queue.bytes += len(rest)
}

// flushAlone sends the one message that waits, together with the bytes of this event. What the transport does not take gets
// a queue of its own.
func (o *Output) flushAlone(t Transport) error {
	s := o.queue.shared
	if len(o.lent) > 0 && len(s.p)+len(o.lent) <= gatherBelow {
		b := append(t.Borrow(gatherBelow), s.p...)
		defer t.GiveBack(b)
		b = append(b, o.lent...)
		n, err := o.send(t, b)
		if err != nil {
			return err // everything was dropped
		}
		o.queue, o.lent, o.room = nil, o.lent[:0], 0
		s.Release()
		o.spill(t, b[n:])
		return nil
	}
	n, err := o.send(t, s.p)
	if err != nil {
		return err
	}
	o.sentAlone(t, n)
	return nil
}

// sentAlone: n bytes of the one message that waits were sent.
func (o *Output) sentAlone(t Transport, n int) {
	s := o.queue.shared
	o.queue = nil
	switch rest := s.p[n:]; {
	case len(rest) == 0:
		s.Release()
	case len(rest) < SharedMin:
		o.spill(t, rest)
		s.Release()
	default:
		o.wait(s, rest)
	}
}

// flushShared makes one send of the messages in front of the queue, which are gathered if they are short.
func (o *Output) flushShared(t Transport, budget int) (int, error) {
	q := o.queue
	if q.len() > 1 && len(q.front().block) > gatherBelow {
		v := vectors.Get().(*vector)
		defer v.free()
		pieces := v.pieces[:0]
		for _, s := range q.segments[q.first:] {
			if s.shared == nil || len(pieces) == cap(pieces) || budget <= 0 {
				break
			}
			pieces = append(pieces, s.block[:min(len(s.block), budget)])
			budget -= len(s.block)
		}
		n, err := o.sendVector(t, pieces)
		if err == nil {
			o.sharedSent(n)
		}
		return n, err
	}
	p := q.front().block
	if q.len() > 1 {
		b := t.Borrow(core.LargeBuffer)
		defer t.GiveBack(b)
		for _, s := range q.segments[q.first:] {
			if s.shared == nil || len(s.block) > gatherBelow || len(b)+len(s.block) > core.LargeBuffer {
				break
			}
			b = append(b, s.block...)
		}
		p = b
	}
	n, err := o.send(t, p[:min(len(p), budget)])
	if err == nil { // else everything was dropped
		o.sharedSent(n)
	}
	return n, err
}

// sharedSent takes n bytes of messages out of the front of the queue.
func (o *Output) sharedSent(n int) {
	q := o.queue
	q.bytes -= n
	for left := n; left > 0; {
		s := q.front()
		m := min(left, len(s.block))
		s.block = s.block[m:]
		if left -= m; len(s.block) == 0 {
			s.shared.Release()
			q.pop()
		}
	}
	if q.len() == 0 {
		o.queue = nil
		q.free()
	}
}

// vector is room for the pieces of one send.
type vector struct{ pieces [core.MaxVector][]byte }

var vectors = sync.Pool{New: func() any { return new(vector) }}

func (v *vector) free() {
	clear(v.pieces[:])
	vectors.Put(v)
}

// sendVector is send for several pieces: of the first one alone if the transport cannot do it in one call.
func (o *Output) sendVector(t Transport, p [][]byte) (int, error) {
	if o.state&outBlocked != 0 {
		return 0, nil
	}
	n, err := t.SendVector(p)
	switch {
	case errors.Is(err, core.ErrUnsupported):
		return o.send(t, p[0])
	case err == core.ErrWouldBlock:
		n, err = 0, nil
	case err != nil:
		o.fail(t)
		return n, err
	}
	all := 0
	for _, piece := range p {
		all += len(piece)
	}
	if n < all {
		o.state |= outBlocked
	}
	return n, nil
}

var queues = sync.Pool{New: func() any { return new(queue) }}

func newQueue() *queue { return queues.Get().(*queue) }

// free takes an empty queue back.
func (q *queue) free() {
	if cap(q.segments) <= 2*sharedMost {
		q.segments, q.first, q.bytes = q.segments[:0], 0, 0
		queues.Put(q)
	}
}

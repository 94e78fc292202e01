package buffered

import (
	"errors"
	"io"
	"os"

	"github.com/parley-go/parley/core"
)

// Marks are the bounds of an Output, in bytes.
type Marks struct {
	// Low and High: when more than High is queued the peer is no longer read from, so that it cannot make the queue
	// longer, and HandleHigh is called; when it is down to Low again, reading goes on, and HandleLow is called. A producer
	// that waits behind another one counts as ProducerWeight bytes here, so that a peer that asks and does not read cannot
	// queue any number of them either.
	Low, High int

	// Limit is the most that is queued. A push beyond it is refused with ErrOverflow and closes the channel with it; so is
	// that of a producer behind so many that they count as more.
	Limit int
}

// DefaultMarks are those of an Output that was given none.
var DefaultMarks = Marks{Low: 16 << 10, High: 64 << 10, Limit: 4 << 20}

// ProducerWeight is what a producer that waits behind another one counts as, in bytes, for Marks.Low and Marks.High, and for
// Marks.Limit when one more is pushed.
const ProducerWeight = 4 << 10

// FlushBudget is the most that one flush sends; the rest has its turn in the next pass.
const FlushBudget = 256 << 10

// Transport is what an Output sends to: a channel of package core, or a test.
type Transport interface {
	// Send takes some of p: see core.Dispatcher.Send.
	Send(p []byte) (int, error)

	// SendFile: see core.Dispatcher.SendFile. ErrUnsupported is always a possible answer.
	SendFile(f *os.File, offset int64, n int) (int, error)

	// SendVector: see core.Dispatcher.SendVector. ErrUnsupported is always a possible answer.
	SendVector(p [][]byte) (int, error)

	// Borrow and GiveBack lend a buffer: see core.Loop.
	Borrow(n int) []byte
	GiveBack(p []byte)
}

// Output is a queue of bytes and producers on their way to a Transport. The zero value is ready for use. An idle one is
// a few words: bytes of the current event lie in a buffer that the transport lends, and a ring exists only while the
// peer is slow. [the output side of asynchat.async_chat]
type Output struct {
	lent  []byte // the newest bytes, of this event
	queue *queue // what is older; nil: nothing
	marks *Marks // nil: DefaultMarks
	state outState
	room  int32 // bytes that may be added to lent without looking at anything else; 0 where there is something to look at
}

type outState uint16

const (
	outBlocked outState = 1 << iota // the transport takes no more for now
	outWaiting                      // the producer in front has nothing yet
	outMore                         // the budget was used up: there is more to send at once
	outHigh                         // above the high mark, and not down to the low one since
	outClosing                      // nothing may be pushed any more
	outFailed                       // the transport failed: everything is dropped
	outEnding                       // the stream ends when everything is sent, and nothing may be pushed any more
	outEnded                        // it has
	outAsking                       // the producer in front is asked for a block
	outResumed                      // and Resume was called meanwhile

	outShut = outClosing | outFailed | outEnding | outEnded // a push is refused
)

// queue is what is older than the bytes of this event: segments of bytes, messages and producers, in order.
type queue struct {
	segments  []segment // from first on
	first     int
	bytes     int     // in all segments
	producers int     // among the segments
	shared    *Shared // whose queue it is: that of all outputs that wait for this message alone
}

// segment is a ring of bytes, a shared message or a producer.
type segment struct {
	ring     *ring
	shared   *Shared
	producer Producer
	block    []byte // of the message or the producer, not sent yet
	last     bool   // the producer has no more
}

func (q *queue) front() *segment { return &q.segments[q.first] }
func (q *queue) len() int        { return len(q.segments) - q.first }

// pop drops the front, which is released.
func (q *queue) pop() {
	q.segments[q.first] = segment{}
	q.first++
	if q.first*2 >= len(q.segments) { // so that a long queue is not moved for each of its segments
		n := copy(q.segments, q.segments[q.first:])
		clear(q.segments[n:])
		q.segments, q.first = q.segments[:n], 0
	}
}

// SetMarks replaces the marks; nil are the default. They may be shared by many outputs and must not change.
func (o *Output) SetMarks(m *Marks) { o.marks, o.room = m, 0 }

// Marks returns the marks in force.
func (o *Output) Marks() Marks {
	if o.marks == nil {
		return DefaultMarks
	}
	return *o.marks
}

func (o *Output) bounds() *Marks {
	if o.marks == nil {
		return &DefaultMarks
	}
	return o.marks
}

// Len returns how many bytes are queued, without those that producers have still to make.
func (o *Output) Len() int {
	n := len(o.lent)
	if o.queue != nil {
		n += o.queue.bytes
	}
	return n
}

// weight is Len, and what the producers behind the first one count as.
func (o *Output) weight() int {
	n := o.Len()
	if o.queue != nil && o.queue.producers > 1 {
		n += (o.queue.producers - 1) * ProducerWeight
	}
	return n
}

// Empty tells whether nothing is left to send, bytes or producer.
func (o *Output) Empty() bool { return len(o.lent) == 0 && o.queue == nil }

// Blocked tells whether something waits until the transport takes more: write interest.
func (o *Output) Blocked() bool { return o.state&outBlocked != 0 }

// Waiting tells whether the producer in front has nothing yet, and was not resumed since it said so.
func (o *Output) Waiting() bool { return o.state&outWaiting != 0 }

// More tells whether a flush stopped because of its budget: there is more to send at once.
func (o *Output) More() bool { return o.state&outMore != 0 }

// fresh tells whether nothing was pushed since the last flush, and nothing is out of the ordinary.
func (o *Output) fresh() bool {
	return o.lent == nil && o.queue == nil && o.marks == nil && o.state == 0
}

// begin gives a fresh Output the buffer for the bytes of this event.
func (o *Output) begin(lent []byte) { o.lent, o.room = lent, int32(cap(lent)) }

// took drops n bytes that were sent of this event's: the transport takes no more.
func (o *Output) took(n int) {
	o.lent = o.lent[:copy(o.lent, o.lent[n:])]
	o.state |= outBlocked
	o.room = 0
}

// octets is what can be pushed.
type octets interface{ ~[]byte | ~string }

// fits tells whether n bytes may be added: nearly always.
func (o *Output) fits(n int) bool { return n <= int(o.room) }

// add appends p, which fits.
func add[T octets](o *Output, p T) {
	n := len(o.lent)
	o.lent = o.lent[:n+len(p)] // unlike append, this writes the length alone
	copy(o.lent[n:], p)
	o.room -= int32(len(p))
}

// addByte is add for one byte.
func (o *Output) addByte(b byte) {
	n := len(o.lent)
	o.lent = o.lent[:n+1]
	o.lent[n] = b
	o.room--
}

// added sets room, after bytes were added in the long way.
func (o *Output) added() {
	o.room = 0
	if !o.Pressed() && o.state&outShut == 0 {
		o.room = int32(cap(o.lent) - len(o.lent))
	}
}

// Push queues a copy of p. When more than a lent buffer is gathered it is sent at once. Errors: ErrClosed after Close or
// a failure, ErrOverflow above Marks.Limit; nothing of p is queued then. [push]
func (o *Output) Push(t Transport, p []byte) error { return push(o, t, p) }

// PushString is Push for a string.
func (o *Output) PushString(t Transport, s string) error { return push(o, t, s) }

func push[T octets](o *Output, t Transport, p T) error {
	if o.state&outShut != 0 {
		return core.ErrClosed
	}
	if len(p) == 0 {
		return nil
	}
	if o.fits(len(p)) {
		add(o, p)
		return nil
	}
	if o.Len()+len(p) > o.bounds().Limit {
		// What is there may be on its way out already.
		if err := o.sendNow(t); err != nil {
			return err
		}
		if o.Len()+len(p) > o.bounds().Limit {
			return core.ErrOverflow
		}
	}
	if need := len(o.lent) + len(p); need <= core.LargeBuffer {
		o.grow(t, need)
		o.lent = append(o.lent, p...)
		o.added()
		return nil
	}
	if len(o.lent) > 0 && o.queue == nil && len(p) >= core.LargeBuffer {
		return o.sendBehind(t, []byte(p))
	}
	if err := o.sendNow(t); err != nil {
		return err
	}
	if len(p) < core.LargeBuffer {
		o.grow(t, len(p))
		o.lent = append(o.lent, p...)
		o.added()
		return nil
	}
	n, large := 0, []byte(p)
	if o.queue == nil {
		var err error
		if n, err = o.send(t, large); err != nil {
			return err
		}
	}
	o.spill(t, large[n:])
	return nil
}

// sendBehind sends the bytes of this event, and large bytes behind them: a head and a body, say, in one call.
func (o *Output) sendBehind(t Transport, large []byte) error {
	v := vectors.Get().(*vector)
	defer v.free()
	n, err := o.sendVector(t, append(v.pieces[:0], o.lent, large))
	if err != nil {
		return err
	}
	if m := len(o.lent); n < m {
		o.spill(t, o.lent[n:])
		n = 0
	} else {
		n -= m
	}
	o.lent, o.room = o.lent[:0], 0
	if n == 0 && o.queue == nil { // the transport has one piece at a time
		if n, err = o.send(t, large); err != nil {
			return err
		}
	}
	o.spill(t, large[n:])
	return nil
}

// grow gets a lent buffer, or a larger one.
func (o *Output) grow(t Transport, need int) {
	if cap(o.lent) >= need {
		return
	}
	b := append(t.Borrow(need), o.lent...)
	if o.lent != nil {
		t.GiveBack(o.lent)
	}
	o.lent = b
}

// send is one send, with what follows from its result. While the transport is known to be blocked it sends nothing.
func (o *Output) send(t Transport, p []byte) (int, error) {
	if o.state&outBlocked != 0 || len(p) == 0 {
		return 0, nil
	}
	n, err := t.Send(p)
	if err == core.ErrWouldBlock {
		n, err = 0, nil
	}
	if err != nil {
		o.fail(t)
		return n, err
	}
	if n < len(p) {
		o.state |= outBlocked
	}
	return n, nil
}

// sendLent empties the lent buffer: to the transport if nothing is in front of it, else into the queue.
func (o *Output) sendLent(t Transport) error {
	n := 0
	if o.queue == nil {
		var err error
		if n, err = o.send(t, o.lent); err != nil {
			return err
		}
	}
	o.spill(t, o.lent[n:])
	o.lent, o.room = o.lent[:0], 0
	return nil
}

// spill appends bytes to the queue.
func (o *Output) spill(t Transport, p []byte) {
	if len(p) == 0 {
		return
	}
	o.own()
	if o.queue == nil {
		o.queue = newQueue()
	}
	q := o.queue
	if n := len(q.segments); n == 0 || q.segments[n-1].ring == nil {
		q.segments = append(q.segments, segment{ring: newRing(len(p))})
	}
	s := &q.segments[len(q.segments)-1]
	s.ring = s.ring.grow(t, len(p))
	s.ring.write(p)
	q.bytes += len(p)
}

// PushProducer queues a producer behind what was pushed. It is asked for its first block when everything before it was
// sent, from a Flush and never from here. Errors: those of Push, ErrOverflow when what waits already counts as more than
// Marks.Limit; the producer is closed then. [push_with_producer]
func (o *Output) PushProducer(t Transport, p Producer) error {
	if o.state&outShut != 0 {
		closeProducer(p)
		return core.ErrClosed
	}
	if o.weight() > o.bounds().Limit {
		err := o.sendNow(t) // what is there may be on its way out already
		if err == nil && o.weight() > o.bounds().Limit {
			err = core.ErrOverflow
		}
		if err != nil {
			closeProducer(p)
			return err
		}
	}
	o.spill(t, o.lent)
	o.lent, o.room = o.lent[:0], 0
	o.own()
	if o.queue == nil {
		o.queue = newQueue()
	}
	o.queue.segments = append(o.queue.segments, segment{producer: p})
	o.queue.producers++
	return nil
}

// Writable is called when the transport takes output again.
func (o *Output) Writable() { o.state &^= outBlocked }

// Resume is called when a producer that had answered ErrWouldBlock, or is being asked and is about to, has something now.
func (o *Output) Resume() {
	o.state &^= outWaiting
	if o.state&outAsking != 0 {
		o.state |= outResumed
	}
}

// Flush sends what it can: until everything is gone, the transport takes no more, a producer has nothing yet, or the
// budget is used up. An error is the transport's or a producer's; the queue is dropped then.
func (o *Output) Flush(t Transport) error {
	o.state &^= outMore
	if o.queue != nil && o.queue.shared != nil {
		if err := o.flushAlone(t); err != nil {
			return err
		}
	}
	if o.queue == nil && o.state == 0 { // nearly always
		if len(o.lent) > 0 {
			if err := o.sendLent(t); err != nil {
				return err
			}
		}
		o.giveBack(t)
		return nil
	}
	if o.state&outFailed != 0 {
		return nil
	}
	budget := FlushBudget
	for o.queue != nil && o.state&(outBlocked|outWaiting) == 0 {
		if budget <= 0 {
			o.state |= outMore
			break
		}
		n, err := o.flushSegment(t, budget)
		if err != nil {
			o.fail(t)
			return err
		}
		budget -= n
	}
	if err := o.sendLent(t); err != nil {
		return err
	}
	o.giveBack(t)
	return nil
}

func (o *Output) giveBack(t Transport) {
	if o.lent != nil {
		t.GiveBack(o.lent)
		o.lent, o.room = nil, 0
	}
}

// flushSegment makes one send from the front of the queue and drops the front when it is used up.
func (o *Output) flushSegment(t Transport, budget int) (n int, err error) {
	q := o.queue
	done := false
	switch s := q.front(); {
	case s.shared != nil:
		return o.flushShared(t, budget)
	case s.ring != nil:
		n, err = o.flushRing(t, s.ring)
		done = s.ring.len() == 0
	default:
		done, n, err = o.flushProducer(t, budget)
	}
	if err != nil || !done {
		return n, err
	}
	used := *q.front()
	if used.producer != nil {
		q.producers--
	}
	q.pop()
	if q.len() == 0 {
		o.queue = nil
	}
	used.release() // last: a producer's Close may do what it likes with the queue
	return n, nil
}

func (o *Output) flushRing(t Transport, r *ring) (int, error) {
	b := t.Borrow(core.LargeBuffer)
	defer t.GiveBack(b)
	p := r.peek(b[:min(r.len(), core.LargeBuffer)])
	n, err := o.send(t, p)
	if err != nil {
		return n, err // everything was dropped
	}
	r.discard(p[:n])
	o.queue.bytes -= n
	return n, nil
}

// flushProducer makes one send of the producer in front; done tells whether that has no more.
func (o *Output) flushProducer(t Transport, budget int) (done bool, sent int, err error) {
	q := o.queue
	s := q.front()
	if len(s.block) == 0 {
		if f, ok := s.producer.(*fileProducer); ok {
			n, err := f.sendFile(t, budget)
			switch {
			case err == core.ErrWouldBlock:
				o.state |= outBlocked
				return false, 0, nil
			case err == io.EOF:
				return true, 0, nil
			case !errors.Is(err, core.ErrUnsupported):
				return false, n, err
			}
		}
		block, resumed, err := o.ask(t, s.producer, min(budget, core.LargeBuffer))
		if o.queue != q { // it dropped the queue, itself with it
			return false, 0, nil
		}
		s = q.front() // it may have pushed
		switch {
		case err == io.EOF || err == nil && len(block) == 0:
			s.last = true
		case err == core.ErrWouldBlock && len(block) == 0 && resumed:
			return false, budget, nil // it is asked again, but not at once
		case err == core.ErrWouldBlock && len(block) == 0:
			o.state |= outWaiting
		case err != nil && err != core.ErrWouldBlock:
			return false, 0, err
		}
		s.block = block
		o.queue.bytes += len(block)
	}
	n, err := o.send(t, s.block)
	if err != nil {
		return false, n, err // everything was dropped
	}
	s.block = s.block[n:]
	o.queue.bytes -= n
	return s.last && len(s.block) == 0, n, nil
}

// ask asks a producer for a block. One that panics has ended, and everything is dropped, as after its error: asked again
// it would panic again.
func (o *Output) ask(t Transport, p Producer, limit int) (block []byte, resumed bool, err error) {
	answered := false
	defer func() {
		if !answered {
			o.fail(t)
		}
	}()
	o.state |= outAsking
	block, err = p.More(limit)
	answered = true
	resumed = o.state&outResumed != 0
	o.state &^= outAsking | outResumed
	return block, resumed, err
}

func (s *segment) release() {
	switch {
	case s.ring != nil:
		s.ring.free()
	case s.shared != nil:
		s.shared.Release()
	default:
		closeProducer(s.producer)
	}
}

// Discard drops everything that was not sent, and takes a Close or End back. [discard_buffers]
func (o *Output) Discard(t Transport) {
	o.giveBack(t)
	if q := o.queue; q != nil {
		o.queue = nil
		for i := q.first; i < len(q.segments); i++ {
			q.segments[i].release()
		}
	}
	o.state &= outFailed | outHigh | outEnded
}

// Take takes out what is queued, to be sent in another way. false: a producer is among it, and everything stays.
func (o *Output) Take(t Transport) (p []byte, ok bool) {
	if o.queue != nil && o.queue.producers > 0 {
		return nil, false
	}
	if o.queue != nil {
		for _, s := range o.queue.segments[o.queue.first:] {
			p = append(p, s.block...)
			for s.ring != nil && s.ring.len() > 0 {
				n := len(p)
				p = append(p, make([]byte, s.ring.len())...)
				m, _ := s.ring.Read(p[n:])
				p = p[:n+m]
			}
			s.release()
		}
		o.queue = nil
	}
	p = append(p, o.lent...)
	o.giveBack(t)
	o.state &^= outBlocked
	return p, true
}

// fail drops everything, for good.
func (o *Output) fail(t Transport) {
	o.Discard(t)
	o.state |= outFailed
}

// Close ends the queue: a further push answers ErrClosed. What is queued is still sent.
func (o *Output) Close() {
	o.state |= outClosing
	o.room = 0
}

// End is for the end of our stream alone: a further push answers ErrClosed, and Ending holds until everything is sent and
// Ended was called.
func (o *Output) End() {
	if o.state&outEnded == 0 {
		o.state |= outEnding
	}
	o.room = 0
}

// Ending tells whether End was called and Ended not yet.
func (o *Output) Ending() bool { return o.state&outEnding != 0 }

// Ended is called when the end of the stream was sent.
func (o *Output) Ended() { o.state = o.state&^outEnding | outEnded }

// Closing tells whether Close was called, and not taken back by Discard.
func (o *Output) Closing() bool { return o.state&outClosing != 0 }

// Level is a crossing of a mark.
type Level int8

// The crossings.
const (
	Steady Level = iota
	Rose         // above Marks.High
	Fell         // down to Marks.Low after that
)

// Level tells whether a mark was crossed since it was last asked.
func (o *Output) Level() Level {
	if o.queue == nil && len(o.lent) == 0 && o.state&outHigh == 0 {
		return Steady
	}
	n, m := o.weight(), o.bounds()
	switch {
	case n > m.High && o.state&outHigh == 0:
		o.state |= outHigh
		return Rose
	case n <= m.Low && o.state&outHigh != 0:
		o.state &^= outHigh
		return Fell
	}
	return Steady
}

// High tells whether the queue rose above the high mark and has not fallen to the low one since.
func (o *Output) High() bool { return o.state&outHigh != 0 }

// Pressed tells, at no cost, whether it is worth asking Relieve: something older than this event waits, or the marks are
// not the default.
func (o *Output) Pressed() bool { return o.queue != nil || o.marks != nil }

// Relieve sends the bytes of this event if the queue is above the high mark, and tells whether it still is then.
func (o *Output) Relieve(t Transport) (over bool, err error) {
	high := o.bounds().High
	if o.weight() <= high {
		return false, nil
	}
	if err := o.sendNow(t); err != nil {
		return false, err
	}
	return o.weight() > high, nil
}

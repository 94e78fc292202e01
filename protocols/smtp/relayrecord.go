package smtp

import (
	"context"
	"errors"
	"runtime/debug"
)

// This file is what a Relay writes down of what became of messages, and whom it tells.

// settle notes that nothing more is to be done for recipients of a message.
func (r *Relay) settle(m *held, which []int) {
	for _, i := range which {
		if !m.done[i] {
			m.done[i] = true
			m.open--
		}
	}
	r.soil(m)
}

// soil has a message written down.
func (r *Relay) soil(m *held) {
	if !m.dirty {
		m.dirty = true
		r.dirty = append(r.dirty, m)
	}
	r.record()
}

// records are what is written down at a time: so syncs are shared.
type records struct {
	all    []*held
	gone   []*held // of these, those of which nothing is left to do
	remove []string
	notes  []note
}

type note struct {
	name string
	text []byte
}

// batch takes what is to be written down.
func (r *Relay) batch() *records {
	b := &records{all: r.dirty}
	for _, m := range b.all {
		m.dirty = false
		if m.open == 0 {
			b.gone, b.remove = append(b.gone, m), append(b.remove, m.name)
		} else {
			b.notes = append(b.notes, note{m.name, m.note()})
		}
	}
	r.dirty = nil
	return b
}

// write blocks.
func (b *records) write(q relayQueue) error {
	var failed []error
	if len(b.remove) > 0 {
		failed = append(failed, q.Remove(b.remove...))
	}
	for _, n := range b.notes {
		failed = append(failed, q.SetNote(n.name, n.text))
	}
	return errors.Join(failed...)
}

// record writes down what is to be, one batch at a time.
func (r *Relay) record() {
	if r.recording || len(r.dirty) == 0 {
		return
	}
	r.recording = true
	b := r.batch()
	r.work(func(context.Context) error { return b.write(r.q) }, func(err error) {
		r.recording = false
		r.recorded(b, err)
		r.record()
	})
}

// recorded: a batch is on the disk, or not. Until it is, this process knows all the same.
func (r *Relay) recorded(b *records, err error) {
	if err != nil {
		r.log.Error("smtp relay: what was delivered is not written down, and would be sent again after a restart", "error", err)
		if !r.stopping {
			r.ch.AfterFunc(relayPause, func() {
				for _, m := range b.all {
					r.soil(m)
				}
			})
		}
		return
	}
	for _, m := range b.gone {
		r.release(m)
	}
}

// report tells what became of recipients.
func (r *Relay) report(x *RelayReport) {
	n := int64(len(x.To))
	switch x.Event {
	case RelayDelivered:
		r.counts.delivered.Add(n)
	case RelayDeferred:
		r.counts.deferred.Add(n)
	default:
		r.counts.failed.Add(n)
	}
	if r.Report != nil {
		r.call("Report", func() { r.Report(x) })
		return
	}
	args := []any{
		"id", x.ID, "from", x.From.Address(), "to", x.To[0].Address(), "recipients", n, "hop", x.Hop, "reply", x.Reply.Error(),
	}
	if x.Event == RelayDeferred {
		args = append(args, "next", x.Next)
	}
	r.log.Info("smtp relay: "+x.Event.String(), args...)
}

// call calls a func of the caller's. One that panics must not keep the queue from going on.
func (r *Relay) call(name string, f func()) {
	defer func() {
		if v := recover(); v != nil {
			r.log.Error("smtp relay: a func of the caller's panicked", "func", name, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	f()
}

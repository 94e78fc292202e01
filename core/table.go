package core

import (
	"errors"
	"fmt"
	"iter"
)

// A channel's id is its serial number, which is never used again, above its slot.
const (
	slotBits = 24
	slotMask = 1<<slotBits - 1
)

// CloseAll closes every channel with the cause, on the loop's goroutine. Each HandleClose is called before it returns, or
// after the event if it is called by a handler; a channel attached meanwhile is refused. It returns what the sockets'
// Close answered, joined. [asyncore.close_all]
func (l *Loop) CloseAll(cause error) error {
	if cause == nil {
		l.sweeping = ErrClosed
	} else {
		l.sweeping = cause
	}
	var errs []error
	for d := range l.All() {
		if err := d.shut(cause); err != nil {
			errs = append(errs, fmt.Errorf("%v: %w", d, err))
		}
	}
	if !l.busy {
		l.protect((*Loop).settle)
	}
	return errors.Join(errs...)
}

// All yields the open channels: dispatchers, and listeners by their Dispatcher. Channels may be opened and closed
// meanwhile. [the socket map]
func (l *Loop) All() iter.Seq[*Dispatcher] {
	return func(yield func(*Dispatcher) bool) {
		for i := 0; i < len(l.slots); i++ {
			if d := l.slots[i]; d != nil && !yield(d) {
				return
			}
		}
	}
}

// lookup finds the channel that an id was given to, unless it is gone.
func (l *Loop) lookup(id uint64) *Dispatcher {
	if i := id & slotMask; i < uint64(len(l.slots)) {
		if d := l.slots[i]; d != nil && d.id == id {
			return d
		}
	}
	return nil
}

func (l *Loop) register(d *Dispatcher) error {
	switch {
	case l.sweeping != nil:
		return l.sweeping
	case l.ending && l.deadline.index < 0: // nothing would close it any more
		return ErrShutdown
	case l.box.isClosed():
		return ErrClosed
	case l.open >= slotMask:
		return fmt.Errorf("parley: %d channels: %w", l.open, ErrOverflow)
	}
	slot := uint32(len(l.slots))
	if n := len(l.free); n > 0 {
		slot, l.free = l.free[n-1], l.free[:n-1]
		l.slots[slot] = d
	} else {
		l.slots = append(l.slots, d)
	}
	l.serial++
	l.open++
	l.stats.Opened++
	d.id = l.serial<<slotBits | uint64(slot)
	d.loop = l
	return nil
}

func (l *Loop) unregister(d *Dispatcher) {
	slot := d.id & slotMask
	l.slots[slot] = nil
	l.free = append(l.free, uint32(slot))
	l.open--
}

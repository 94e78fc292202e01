package core

import (
	"errors"
	"io"
)

// deliver is one event, with what follows from it.
func (l *Loop) deliver(d *Dispatcher, got Interest) {
	l.stats.Events++
	d.event(got)
	l.settle()
	if l.opts.Strict {
		d.audit()
	}
}

// ordinary tells whether an event is what nearly all of them are: input, for a channel in no special state that wants it.
func (d *Dispatcher) ordinary(got Interest) bool {
	return got == Read && d.state == stPolled && d.want&Read != 0 && d.stream != nil
}

// event delivers readiness, in one order for all back ends: connect, urgent, read, write. What follows from each is
// settled before the next.
func (d *Dispatcher) event(got Interest) {
	l := d.loop
	got |= d.queued
	d.queued = 0
	if l.opts.Trace != nil {
		l.trace(Event{Kind: TraceReady, Chan: d, Got: got, Want: d.Interest()})
	}
	if d.state&stConnecting != 0 {
		if d.sock == nil || !d.connected() {
			return
		}
		l.settle()
	}
	if d.state&stLayered != 0 {
		got = readyUp(d.sock, got)
		d.touch() // what it waits for may have changed
		if d.state&(stSecured|stClosed) != 0 {
			l.settle()
		}
	}
	if d.state&stAlways != 0 {
		d.touch() // for the next pass
	}
	if got&(Hangup|Failed) != 0 {
		if d.effective()&(Read|Write) == 0 {
			d.disarm()
			d.state |= stParked
			return
		}
		got |= Read | Write // whichever is wanted finds out what it was
	}
	if got&Urgent != 0 && d.wants(Urgent) && d.has.has(hasExpt) {
		invoke(d, "HandleExpt", ExptHandler[*Dispatcher].HandleExpt)
		l.settle()
	}
	if got&Read != 0 && d.wants(Read) {
		if d.has.has(hasPacket | hasUnixPacket) {
			d.readPackets()
		} else if h, ok := d.h.(ReadHandler[*Dispatcher]); ok {
			d.call("HandleRead", h.HandleRead)
		} else {
			invoke(d, "HandleRead", ReadHandler[*Dispatcher].HandleRead) // wrapped
		}
	}
	if got&Write != 0 {
		l.settle()
		if d.wants(Write) && d.has.has(hasWrite) {
			invoke(d, "HandleWrite", WriteHandler[*Dispatcher].HandleWrite)
		}
	}
}

// settle does what follows from an event, for each channel that it touched: see Dispatcher.settle.
func (l *Loop) settle() {
	for l.dirtyAt < len(l.dirty) {
		d := l.dirty[l.dirtyAt]
		l.dirty[l.dirtyAt] = nil
		l.dirtyAt++
		d.state &^= stDirty
		if d.state&^stLayered == stPolled|stFlush && d.stream != nil { // nearly always
			start := l.enter(d, "HandleFlush")
			d.state &^= stFlush // before: what panics is not to be done again and again
			p := d.stream.FlushDue()
			if len(p) == 0 {
				d.state |= stFlush
			} else {
				n, err := d.sock.Send(p) // from here: see sys_linux.go
				if err == nil {
					l.stats.BytesOut += uint64(n)
					if d.watched() {
						d.noteSent(p[:n], n)
					}
				}
				if err == nil || d.sendFailed(err) == ErrWouldBlock {
					d.stream.FlushSent(n)
				}
				if n < len(p) || err != nil {
					d.state |= stFlush
				}
				l.leave(start)
				if d.state == stPolled && d.want == d.armed {
					continue
				}
			}
		}
		d.settle()
	}
	l.dirty, l.dirtyAt = l.dirty[:0], 0
	l.sweeping = nil
	if l.opts.Strict && l.used > 0 {
		l.poison()
	}
}

// settle does what follows from an event for this channel.
func (d *Dispatcher) settle() {
	for {
		switch s := d.state; {
		case s&stClosed != 0:
			if s&stTold == 0 {
				d.state |= stTold
				if d.has.has(hasClose) {
					d.call("HandleClose", func(*Dispatcher) error {
						as[CloseHandler[*Dispatcher]](d.h).HandleClose(d, d.cause)
						return nil
					})
				}
			}
			return
		case s&stFailed != 0:
			d.shut(d.cause)
		case s&stSecured != 0:
			d.state &^= stSecured
			if x, ok := layer[secure](d.sock); ok && d.has.has(hasSecure) {
				d.call("HandleSecure", func(*Dispatcher) error {
					return as[SecureHandler[*Dispatcher]](d.h).HandleSecure(d, x.ConnectionState())
				})
			}
		case s&(stEOF|stEOFTold) == stEOF:
			d.state |= stEOFTold
			if d.has.has(hasEOF) {
				invoke(d, "HandleEOF", EOFHandler[*Dispatcher].HandleEOF)
			} else {
				d.shut(io.EOF)
			}
		case s&stFlush != 0:
			d.state &^= stFlush
			if h, ok := d.h.(FlushHandler[*Dispatcher]); ok {
				d.call("HandleFlush", h.HandleFlush)
			} else if d.has.has(hasFlush) { // wrapped; it may have been replaced by one that has none
				invoke(d, "HandleFlush", FlushHandler[*Dispatcher].HandleFlush)
			}
		case d.sock == nil:
			return
		default:
			if err := d.arm(d.effective()); err != nil {
				d.broke(err)
				continue
			}
			if s&stLayered != 0 && pendingInput(d.sock, d.Interest()) {
				d.Requeue(Read)
			}
			return
		}
	}
}

// Fail is for a layer whose own handler calls further ones: it deals with the error of one of them (rule 6).
func (d *Dispatcher) Fail(method string, err error) {
	l := d.loop
	switch {
	case errors.Is(err, ErrWouldBlock):
	case errors.Is(err, ExitNow):
		l.exit = err
	case d.state&(stFailed|stWriteFailed) != 0 && errors.Is(err, d.cause), d.state&stEOF != 0 && errors.Is(err, io.EOF):
		// the connection's own failure, handed back: settle acts on it
	case d.Closed():
		l.logFailure(d, method, err)
		if a, ok := d.h.(accepting); ok {
			a.drop(err)
		}
	case d.has.has(hasError) && method != "HandleError":
		outer := l.method // a layer may go on after this
		l.failing = method
		l.enter(d, "HandleError")
		as[ErrorHandler[*Dispatcher]](d.h).HandleError(d, err)
		l.method = outer
	default:
		l.logFailure(d, method, err)
		d.shut(err)
	}
	d.touch()
}

// LogError logs the error that HandleError was called with, as the default does. For layers that hand errors on to a
// handler that may have no HandleError, and then close in their own way.
func (d *Dispatcher) LogError(err error) { d.loop.logFailure(d, d.loop.failing, err) }

// logFailure logs the error of a handler.
func (l *Loop) logFailure(d *Dispatcher, method string, err error) {
	args := []any{"channel", d.String(), "method", method, "err", err}
	var p *PanicError
	if errors.As(err, &p) {
		args = append(args, "stack", string(p.Stack))
	}
	l.log.Error("handler failed", args...)
}

// broke notes that the connection failed; it closes when the event is over.
func (d *Dispatcher) broke(err error) {
	if d.alive() && d.state&stFailed == 0 {
		if d.state&stWriteFailed == 0 {
			d.cause = err
		}
		d.state |= stFailed
		d.touch()
	}
}

package core

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// Dispatcher is a channel on a loop: a socket, a handler, and the interest in events. All methods are for the loop's
// goroutine; they report, they never call a handler. Make one with Attach, Dial, ListenPacket or OpenFile; a layer that
// embeds one by value calls its Attach. [asyncore.dispatcher]
type Dispatcher struct {
	loop   *Loop
	sock   Socket // nil while Dial has none yet
	h      any
	stream streamHandler // h, if it is one: found once, because a type assertion at each event shows
	cause  error         // why it closes, or closed
	ext    *extension    // what few channels need
	id     uint64
	left   int32  // of the read budget of a pass
	pass   uint32 // which one that is
	has    handlerSet
	state  state
	want   Interest // what the handler or its layer waits for
	armed  Interest // what the poller knows
	queued Interest // to be delivered in the next pass without asking the poller
	dirs   Interest // what the socket can do at all
}

type state uint16

const (
	stClosed state = 1 << iota
	stTold         // HandleClose was called
	stDirty        // in Loop.dirty
	stAgain        // in Loop.again
	stFlush        // RequestFlush
	stConnecting
	stEOF         // the end of the input was read
	stEOFTold     // and HandleEOF called
	stFailed      // closes with cause when the event is over
	stWriteFailed // nothing can be sent any more; closes with cause when the input is drained
	stPolled      // the poller has it
	stParked      // hung up while it wanted nothing: the poller has it not
	stAlways      // always ready: the poller cannot have it
	stLayered     // sock is Layered
	stSecured     // HandleSecure is due
)

// Core returns d; it makes a Dispatcher a Channel.
func (d *Dispatcher) Core() *Dispatcher { return d }

// Loop returns the channel's loop.
func (d *Dispatcher) Loop() *Loop { return d.loop }

// Handler returns what was attached.
func (d *Dispatcher) Handler() any { return d.h }

// Socket returns the channel's socket: the topmost layer; nil while Dial has none yet.
func (d *Dispatcher) Socket() Socket { return d.sock }

// ID is the channel's number: 1 for the first of the loop, and never used again.
func (d *Dispatcher) ID() uint64 { return d.id >> slotBits }

// Closed tells whether the channel is closed; Connecting whether a Dial is still under way.
func (d *Dispatcher) Closed() bool     { return d.state&stClosed != 0 }
func (d *Dispatcher) Connecting() bool { return d.state&stConnecting != 0 }

// Cause returns what HandleClose gets, or nil while the channel is open.
func (d *Dispatcher) Cause() error {
	if !d.Closed() {
		return nil
	}
	return d.cause
}

// LocalAddr returns the socket's own address, nil if it has none.
func (d *Dispatcher) LocalAddr() net.Addr {
	if d.sock == nil {
		return nil
	}
	return d.sock.LocalAddr()
}

// RemoteAddr returns the peer's address, nil if there is none. It stays known after the peer is gone.
func (d *Dispatcher) RemoteAddr() net.Addr {
	if d.sock == nil {
		return nil
	}
	return d.sock.RemoteAddr()
}

// String is for logs: number, handler, state, peer. [dispatcher.__repr__]
func (d *Dispatcher) String() string {
	s := fmt.Sprintf("ch%d %T", d.ID(), d.userHandler())
	switch {
	case d.loop == nil:
		return s + " unattached"
	case d.Closed():
		s += " closed"
	case d.Connecting():
		s += " connecting"
	}
	if d.sock == nil {
		return s
	}
	if a := d.sock.RemoteAddr(); a != nil {
		return s + " " + a.String()
	}
	if a := d.sock.LocalAddr(); a != nil {
		return s + " on " + a.String()
	}
	return s
}

// userHandler is the handler that its author knows: a layer's own handler names the one above it.
func (d *Dispatcher) userHandler() any {
	if u, ok := d.h.(interface{ UserHandler() any }); ok {
		return u.UserHandler()
	}
	return d.h
}

func (d *Dispatcher) alive() bool { return d.loop != nil && d.state&stClosed == 0 }

// touch has the channel looked at when this event is over.
func (d *Dispatcher) touch() {
	if d.state&stDirty == 0 {
		d.state |= stDirty
		d.loop.dirty = append(d.loop.dirty, d)
	}
}

// RequestFlush has HandleFlush called when this event is over, once however often it was asked for.
func (d *Dispatcher) RequestFlush() {
	if d.alive() && d.has.has(hasFlush) {
		d.state |= stFlush
		d.touch()
	}
}

// Requeue has got delivered in the next pass, as if the poller had reported it; what the channel does not want then is
// not delivered.
func (d *Dispatcher) Requeue(got Interest) {
	if !d.alive() || got == 0 {
		return
	}
	d.queued |= got
	if d.state&stAgain == 0 {
		d.state |= stAgain
		d.loop.again = append(d.loop.again, d)
	}
}

// Refresh has a Layered socket asked again what it waits for. A layer calls it when that changed by itself.
func (d *Dispatcher) Refresh() {
	if d.alive() {
		d.touch()
	}
}

// Secured is for a layer that secures the connection, when its handshake is over: HandleSecure follows, before input.
func (d *Dispatcher) Secured() {
	if d.alive() {
		d.state |= stSecured
		d.touch()
	}
}

// Unsent returns how many bytes of output layers hold that the socket below them has not taken yet.
func (d *Dispatcher) Unsent() int {
	if d.state&stLayered == 0 {
		return 0
	}
	return d.unsent()
}

func (d *Dispatcher) unsent() (n int) {
	d.holders(func(h holder) { n += h.Unsent() })
	return n
}

// Finish has layers make what ends their streams, such as the close_notify of TLS: for a layer above that closes the
// channel when Unsent is 0 again.
func (d *Dispatcher) Finish() { d.holders(holder.Finish) }

func (d *Dispatcher) holders(f func(holder)) {
	if d.state&stLayered == 0 {
		return
	}
	for s := d.sock; ; {
		if h, ok := s.(holder); ok {
			f(h)
		}
		l, ok := s.(Layered)
		if !ok {
			return
		}
		s = l.Inner()
	}
}

// WantRead sets read interest: on after Attach. Input waits in the kernel, and then at the peer, while it is off.
func (d *Dispatcher) WantRead(on bool) {
	if on != (d.want&Read != 0) {
		d.setWantRead(on)
	}
}

func (d *Dispatcher) setWantRead(on bool) { d.setWant(Read, on) }

// WantWrite sets write interest: off after Attach. HandleWrite is called in every pass while it is on and the socket
// takes output, so switch it off when there is nothing to send.
func (d *Dispatcher) WantWrite(on bool) {
	if on != (d.want&Write != 0) {
		d.setWantWrite(on)
	}
}

func (d *Dispatcher) setWantWrite(on bool) {
	if on && d.ext != nil && d.alive() {
		d.ext.startWriting(d)
	}
	d.setWant(Write, on)
}

// WantUrgent sets the interest in out-of-band data: on after Attach if the handler has HandleExpt.
func (d *Dispatcher) WantUrgent(on bool) { d.setWant(Urgent, on) }

func (d *Dispatcher) setWant(bit Interest, on bool) {
	want := d.want &^ bit
	if on {
		want |= bit
	}
	if d.sock != nil {
		want &= d.dirs
	}
	if want != d.want && d.alive() {
		d.want = want
		d.touch()
	}
}

// Interest returns what the channel waits for now: of what was asked, that which the connection can still deliver.
func (d *Dispatcher) Interest() Interest {
	switch {
	case d.state&stClosed != 0:
		return 0
	case d.state&stConnecting != 0:
		return Write
	}
	want := d.want
	if d.state&stEOF != 0 {
		want &^= Read | Urgent
	}
	if d.state&stWriteFailed != 0 {
		want &^= Write
	}
	return want
}

func (d *Dispatcher) wants(bit Interest) bool { return d.Interest()&bit != 0 }

// effective is what the innermost socket has to wait for.
func (d *Dispatcher) effective() Interest {
	if d.state&stLayered != 0 && d.state&stClosed == 0 {
		return interestDown(d.sock, d.Interest())
	}
	return d.Interest()
}

// arm tells the poller, which hears of changes only.
func (d *Dispatcher) arm(want Interest) (err error) {
	if want == d.armed && d.state&stPolled != 0 { // nearly always
		return nil
	}
	p, s := d.loop.poller, base(d.sock)
	switch {
	case d.state&stPolled != 0:
		err = p.Modify(s, d.id, want)
	case d.state&stAlways != 0:
		d.Requeue(want & (Read | Write))
		return nil
	case d.state&stParked != 0 && want == 0:
		return nil
	default:
		d.state &^= stParked
		err = p.Add(s, d.id, want)
		if errors.Is(err, ErrAlwaysReady) {
			d.state |= stAlways
			d.Requeue(want & (Read | Write))
			return nil
		}
		if err == nil {
			d.state |= stPolled
		}
	}
	if err == nil && d.loop.opts.Trace != nil {
		d.loop.trace(Event{Kind: TraceInterest, Chan: d, Want: want, Got: d.armed})
	}
	d.armed = want
	return err
}

// disarm takes the channel out of the poller.
func (d *Dispatcher) disarm() {
	if d.state&stPolled != 0 {
		d.state &^= stPolled
		d.armed = 0
		_ = d.loop.poller.Remove(base(d.sock), d.id)
	}
}

// Close closes the channel at once: queued output is dropped, HandleClose(nil) follows when the event is over. It
// returns what the socket's Close says, and nil for a channel that is closed already.
func (d *Dispatcher) Close() error { return d.shut(nil) }

// CloseWith is Close with a cause for HandleClose.
func (d *Dispatcher) CloseWith(cause error) error { return d.shut(cause) }

// Abort is Close, but the peer gets a reset where the transport has one, and unsent data is dropped.
func (d *Dispatcher) Abort() error { return d.abort(nil) }

func (d *Dispatcher) abort(cause error) error {
	if a, ok := base(d.sock).(aborter); ok && d.alive() {
		_ = a.Abort()
	}
	return d.shut(cause)
}

func (d *Dispatcher) shut(cause error) error {
	if !d.alive() {
		return nil
	}
	d.retire(cause)
	if d.sock == nil {
		return nil
	}
	return d.sock.Close()
}

// retire takes the channel off the loop; the socket is not closed yet.
func (d *Dispatcher) retire(cause error) {
	d.disarm()
	d.state |= stClosed
	d.cause = cause
	d.loop.unregister(d)
	if d.ext != nil {
		d.ext.release(cause)
	}
	if d.loop.opts.Trace != nil {
		d.loop.trace(Event{Kind: TraceClose, Chan: d, Err: cause})
	}
	d.touch()
}

// Context returns a context that is cancelled when the channel closes, with the cause as context.Cause (ErrClosed for
// nil).
func (d *Dispatcher) Context() context.Context { return d.extend().context(d) }

package core

import (
	"errors"
	"fmt"
	"net"
	"reflect"
)

// Attach makes a channel of a connected socket. The handler's methods are detected now; it needs at least one of
// HandleRead, HandleWrite, HandlePacket and HandleUnixPacket. Its first event comes in a later pass. On an error the
// socket is still the caller's. Errors: ErrShutdown or the cause of a CloseAll that is under way, ErrClosed, what the
// back end says (select refuses descriptors from FD_SETSIZE up), a misspelt method (Options.Strict).
func Attach(l *Loop, s Socket, h any) (*Dispatcher, error) {
	d := new(Dispatcher)
	if err := d.Attach(l, s, h); err != nil {
		return nil, err
	}
	return d, nil
}

// Attach is the func Attach for a Dispatcher that is part of another struct. It must be its zero value.
func (d *Dispatcher) Attach(l *Loop, s Socket, h any) error {
	if err := d.prepare(l, h); err != nil {
		return err
	}
	if err := d.setSocket(s); err != nil {
		if !d.Closed() { // else a layer's Attached closed it
			l.unregister(d)
			d.cause = err
			if d.ext != nil {
				d.ext.release(err)
			}
		}
		d.state |= stClosed | stTold // what was noted for it already comes to nothing
		return err
	}
	d.opened()
	return nil
}

// NewChannel makes a channel that has no socket: for what lives on a loop and is no connection, such as a queue that is
// worked on. It has what every channel has but events of a socket: Go, timers, Context, HandleShutdown, HandleError and
// HandleClose, and it keeps Run going until it is closed. None of these methods is needed. Send and Recv answer ErrClosed.
// Errors are those of Attach.
func NewChannel(l *Loop, h any) (*Dispatcher, error) {
	d := new(Dispatcher)
	has, err := l.look(h)
	if err == nil {
		err = d.join(l, h, has)
	}
	if err != nil {
		return nil, err
	}
	d.want = 0
	d.state |= stWriteFailed // so that Send says it
	d.cause = ErrClosed
	d.opened()
	return d, nil
}

// prepare registers the channel without a socket.
func (d *Dispatcher) prepare(l *Loop, h any) error {
	if d.loop != nil {
		return errors.New("parley: the dispatcher is attached already")
	}
	has, err := l.detect(h)
	if err != nil {
		return err
	}
	return d.join(l, h, has)
}

func (d *Dispatcher) join(l *Loop, h any, has handlerSet) error {
	if err := l.register(d); err != nil {
		return err
	}
	d.setHandler(h, has)
	return nil
}

// detect is look for a handler of a socket's events.
func (l *Loop) detect(h any) (handlerSet, error) {
	has, err := l.look(h)
	if err == nil && has&(hasRead|hasWrite|hasPacket|hasUnixPacket) == 0 {
		return 0, fmt.Errorf("parley: handler %T has none of HandleRead, HandleWrite, HandlePacket, HandleUnixPacket", h)
	}
	return has, err
}

// look remembers what it found of a handler's type.
func (l *Loop) look(h any) (handlerSet, error) {
	t := reflect.TypeOf(h)
	has, known := l.kinds[t]
	if !known {
		has = detect(h)
		_, funcs := h.(*Funcs)
		_, wraps := h.(interface{ Unwrap() any })
		if !funcs && !wraps { // else two values of one type may differ
			l.kinds[t] = has
		}
		if l.opts.Strict {
			if err := CheckHandler("core", h); err != nil {
				return 0, err
			}
		}
	}
	return has, nil
}

func (d *Dispatcher) setHandler(h any, has handlerSet) {
	d.h, d.has = h, has
	d.stream, _ = h.(streamHandler)
	if has.has(hasPacket | hasUnixPacket) {
		d.stream = nil
	}
	d.want = 0
	if has.has(hasRead | hasPacket | hasUnixPacket) {
		d.want |= Read
	}
	if has.has(hasExpt) {
		d.want |= Urgent
	}
	if has.has(hasReadable | hasWritable) {
		d.loop.asked = append(d.loop.asked, d)
		d.loop.stale = true
	}
}

// SetHandler replaces the handler of a live channel; its methods are detected anew and interest starts from the default.
func (d *Dispatcher) SetHandler(h any) error {
	if !d.alive() {
		return ErrClosed
	}
	has, err := d.loop.detect(h)
	if err != nil {
		return err
	}
	d.loop.forget(d)
	d.setHandler(h, has)
	d.want &= d.dirs
	d.touch()
	return nil
}

// forget takes a channel out of those that are asked before each pass.
func (l *Loop) forget(d *Dispatcher) {
	if !d.has.has(hasReadable | hasWritable) {
		return
	}
	for i, a := range l.asked {
		if a == d {
			copy(l.asked[i:], l.asked[i+1:])
			l.asked[len(l.asked)-1] = nil
			l.asked = l.asked[:len(l.asked)-1]
			if i < l.askAt {
				l.askAt--
			}
			return
		}
	}
}

// setSocket gives the channel its socket and the poller its interest.
func (d *Dispatcher) setSocket(s Socket) error {
	d.sock = s
	d.dirs = Read | Write | Urgent
	if o, ok := s.(halfOpen); ok {
		d.dirs = o.Directions()
	}
	d.want &= d.dirs
	if _, ok := s.(Layered); ok {
		d.state |= stLayered
		tellAttached(s, nil, d)
		if d.Closed() {
			return contextCause(d.cause)
		}
		d.touch()
	}
	return d.arm(d.effective())
}

func (d *Dispatcher) opened() {
	l := d.loop
	if l.opts.Trace != nil {
		l.trace(Event{Kind: TraceOpen, Chan: d, Name: d.String()})
	}
}

// Detach takes the channel off the loop and gives its connection away, with the bytes that a layer made by Prefix still
// held. HandleClose(ErrDetached) follows. ErrUnsupported: a socket in memory, a datagram socket, a file, another layer, or
// one by Prefix that has still to send something.
func (d *Dispatcher) Detach() (conn net.Conn, unread []byte, err error) {
	if !d.alive() || d.sock == nil || d.Connecting() {
		return nil, nil, ErrClosed
	}
	s := d.sock
	for p, ok := s.(*prefix); ok; p, ok = s.(*prefix) {
		if len(p.out) > 0 {
			break
		}
		unread = append(unread, p.in...)
		s = p.Socket
	}
	g, ok := s.(detacher)
	if !ok {
		return nil, nil, fmt.Errorf("parley: detach %T: %w", s, ErrUnsupported)
	}
	d.disarm() // while the descriptor is still ours
	if conn, err = g.Detach(); err != nil {
		d.touch()
		return nil, nil, err
	}
	d.retire(ErrDetached)
	return conn, unread, nil
}

// Upgrade puts a layer between the channel and its socket: layer.Inner() must be d.Socket(). Interest and handler stay.
func (d *Dispatcher) Upgrade(layer Layered) error {
	switch {
	case !d.alive():
		return ErrClosed
	case d.sock == nil || d.Connecting():
		return fmt.Errorf("parley: upgrade before the connection is there: %w", ErrUnsupported)
	}
	below := layer.Inner()
	for below != d.sock {
		l, ok := below.(Layered)
		if !ok {
			return errors.New("parley: the layer does not stand on the channel's socket")
		}
		below = l.Inner()
	}
	was := d.sock
	d.sock = layer
	d.state |= stLayered
	tellAttached(layer, was, d)
	d.touch()
	return nil
}

package chat

import (
	"crypto/tls"
	"errors"
	"io"
	"reflect"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
)

// driver is a Conn as the core handler of its own channel.
type driver Conn

func (d *driver) conn() *Conn { return (*Conn)(d) }

// UserHandler names the handler in logs.
func (d *driver) UserHandler() any { return d.h }

// as is core.As for what is known to be there.
func as[T any](h any) T {
	t, _ := core.As[T](h)
	return t
}

// optional calls a method of the handler, if it has it.
func optional[H any](c *Conn, f func(H, *Conn) error) error {
	h, ok := core.As[H](c.h)
	if !ok {
		return nil
	}
	return f(h, c)
}

func (d *driver) HandleRead(*core.Dispatcher) error {
	c := d.conn()
	if c.b.Dropping() {
		c.b.Drop()
		return nil
	}
	p, err := c.b.RecvShared()
	if err != nil {
		return err
	}
	if in := c.in; in != nil {
		in.add(p)
		in.fresh = true
	} else {
		c.view(p)
	}
	c.work()
	return nil
}

func (d *driver) HandleWrite(*core.Dispatcher) error { return d.b.Writable() }

// FlushDue and FlushSent are HandleFlush where there is nothing but output: see buffered.Dispatcher.
func (d *driver) FlushDue() []byte {
	c := d.conn()
	if c.in != nil || c.flags&(needStart|pausedByHigh) != 0 || c.emptyCount() {
		return nil
	}
	return c.b.Due()
}

func (d *driver) FlushSent(n int) { d.b.Sent(n) }

func (d *driver) HandleFlush(*core.Dispatcher) error {
	c := d.conn()
	if c.flags&needStart != 0 && c.Connected() {
		c.flags &^= needStart
		if err := as[starter](c.h).start(c); err != nil {
			return err
		}
	}
	if c.in != nil && c.in.fresh || c.emptyCount() {
		c.work()
	}
	level, err := c.b.Flush()
	if err != nil {
		return err
	}
	switch level {
	case buffered.Rose:
		c.pause(pausedByHigh)
		err = optional(c, core.LevelHandler[*Conn].HandleHigh)
	case buffered.Fell:
		err = optional(c, core.LevelHandler[*Conn].HandleLow)
	}
	if c.flags&pausedByHigh != 0 && !c.b.Out.High() {
		c.resume(pausedByHigh)
	}
	c.sync()
	return err
}

func (d *driver) HandleConnect(*core.Dispatcher) error {
	d.b.Out.Writable()
	d.b.RequestFlush()
	return optional(d.conn(), core.ConnectHandler[*Conn].HandleConnect)
}

func (d *driver) HandleSecure(_ *core.Dispatcher, s tls.ConnectionState) error {
	return optional(d.conn(), func(h core.SecureHandler[*Conn], c *Conn) error { return h.HandleSecure(c, s) })
}

func (d *driver) HandleEOF(*core.Dispatcher) error {
	c := d.conn()
	if c.b.Closing() {
		c.flags |= ended
		return nil
	}
	c.finishInput()
	c.flags |= ended
	if c.b.Closed() || c.b.Closing() {
		return nil
	}
	if _, ok := core.As[core.EOFHandler[*Conn]](c.h); ok {
		return optional(c, core.EOFHandler[*Conn].HandleEOF)
	}
	c.b.CloseWhenDoneWith(io.EOF) // the peer still gets its whole answer
	return nil
}

func (d *driver) HandleTimeout(*core.Dispatcher) error {
	if _, ok := core.As[core.TimeoutHandler[*Conn]](d.h); ok {
		return optional(d.conn(), core.TimeoutHandler[*Conn].HandleTimeout)
	}
	return d.b.CloseWith(core.ErrTimeout)
}

// HandleShutdown: the token that is under way is finished first.
func (d *driver) HandleShutdown(*core.Dispatcher) error {
	c := d.conn()
	if _, ok := core.As[core.ShutdownHandler[*Conn]](c.h); ok {
		return optional(c, core.ShutdownHandler[*Conn].HandleShutdown)
	}
	if c.scan.midToken() && c.flags&ended == 0 {
		c.flags |= leaving
		return nil
	}
	c.b.CloseWhenDoneWith(core.ErrShutdown)
	return nil
}

func (d *driver) HandleError(_ *core.Dispatcher, err error) {
	c := d.conn()
	if h, ok := core.As[core.ErrorHandler[*Conn]](c.h); ok {
		h.HandleError(c, err)
		return
	}
	c.b.LogError(err)
	c.b.CloseWhenDoneWith(err) // the answers to what came before still go out, wherever the reads were cut
}

func (d *driver) HandleClose(_ *core.Dispatcher, cause error) {
	c := d.conn()
	_, _ = c.b.Flush() // gives its buffers back
	c.dropInput()
	if c.flags&audible != 0 {
		as[core.CloseHandler[*Conn]](c.h).HandleClose(c, cause)
		return
	}
	if errors.Is(cause, core.ErrTooLong) || errors.Is(cause, core.ErrOverflow) {
		c.Loop().Logger().Warn("connection closed", "channel", c.String(), "cause", cause)
	}
}

// AuditInterest works the interest out from the state: see core.InterestAuditor.
func (d *driver) AuditInterest(cd *core.Dispatcher) core.Interest {
	c := d.conn()
	want := cd.Interest() & core.Urgent
	if c.wantsRead() && c.flags&ended == 0 {
		want |= core.Read
	}
	return want | c.b.AuditWrite()
}

// askedDriver is a driver whose handler has HandleExpt or Readable: having the method is what asks for it.
type askedDriver struct {
	*driver
	asked bool
}

func (d *askedDriver) HandleExpt(*core.Dispatcher) error {
	return optional(d.conn(), core.ExptHandler[*Conn].HandleExpt)
}

// Readable asks the handler, which can hold reading back but not have more of it.
func (d *askedDriver) Readable() bool {
	c := d.conn()
	return c.wantsRead() && (!d.asked || c.b.Dropping() || as[core.ReadPredicate](c.h).Readable())
}

// AuditInterest: the predicate is asked before each pass and not after each event.
func (d *askedDriver) AuditInterest(cd *core.Dispatcher) core.Interest {
	return d.driver.AuditInterest(cd)&^core.Read | cd.Interest()&core.Read
}

func init() {
	core.RegisterHandlers("chat",
		reflect.TypeFor[Handler](),
		reflect.TypeFor[FirstHandler](),
		reflect.TypeFor[core.ExptHandler[*Conn]](),
		reflect.TypeFor[core.ConnectHandler[*Conn]](),
		reflect.TypeFor[core.LevelHandler[*Conn]](),
		reflect.TypeFor[core.EOFHandler[*Conn]](),
		reflect.TypeFor[core.TimeoutHandler[*Conn]](),
		reflect.TypeFor[core.TooLongHandler[*Conn]](),
		reflect.TypeFor[core.SecureHandler[*Conn]](),
		reflect.TypeFor[core.ShutdownHandler[*Conn]](),
		reflect.TypeFor[core.ErrorHandler[*Conn]](),
		reflect.TypeFor[core.CloseHandler[*Conn]](),
		reflect.TypeFor[core.ReadPredicate](),
	)
}

package buffered

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"reflect"
	"time"

	"github.com/parley-go/parley/core"
)

const (
	// DefaultCloseTimeout is how long the peer may take nothing of what is queued after CloseWhenDone.
	DefaultCloseTimeout = 30 * time.Second

	// A channel that closes with input unread ends its own stream first and drops that much input, for that long:
	// closing at once would make the kernel send a reset, which can destroy the last reply on its way.
	LingerBytes   = 256 << 10
	LingerTimeout = 2 * time.Second
)

// Dispatcher is a core.Dispatcher with an output queue. Handlers are those of package core with *buffered.Dispatcher as
// their C; HandleWrite is not needed, the queue is flushed by itself. Reading is the handler's, as in package core.
// [dispatcher_with_send]
//
// As a part of a larger layer (package chat) it is attached with AttachLayer, and the layer's own core handler calls
// Writable, Flush and Drop. Where that handler has FlushDue and FlushSent, which are Due and Sent, the loop sends the ordinary
// output of an event by itself, which costs less.
type Dispatcher struct {
	core.Dispatcher
	Out Output
	end *ending // nil while the channel is not closing
}

// ending is the state of CloseWhenDone.
type ending struct {
	cause     error
	lingering bool
	linger    bool // whether or not something was dropped
	dropped   int
	timeout   time.Duration
	limited   bool          // timeout is the channel's write timeout now
	before    time.Duration // and this was
}

// limit bounds how long the peer may take nothing.
func (e *ending) limit(d *Dispatcher) {
	if e.limited || e.timeout == 0 {
		return
	}
	e.limited, e.before = true, d.WriteTimeout()
	if e.before == 0 || e.before > e.timeout {
		d.SetWriteTimeout(e.timeout)
	}
}

// Attach makes a buffered channel of a connected socket; see core.Attach.
func Attach(l *core.Loop, s core.Socket, h any) (*Dispatcher, error) {
	d := new(Dispatcher)
	if err := checkHandler(l, h); err != nil {
		return nil, err
	}
	if err := d.AttachLayer(l, s, newHandler(d, h)); err != nil {
		return nil, err
	}
	return d, nil
}

// Dial connects to an address; see core.Dial. What is sent before the connection is there waits in the queue.
func Dial(l *core.Loop, network, address string, h any) (*Dispatcher, error) {
	d := new(Dispatcher)
	if err := checkHandler(l, h); err != nil {
		return nil, err
	}
	if err := new(core.Dialer).Attach(&d.Dispatcher, l, network, address, newHandler(d, h)); err != nil {
		return nil, err
	}
	return d, nil
}

// AttachLayer attaches the handler of a layer above, whose C is *core.Dispatcher.
func (d *Dispatcher) AttachLayer(l *core.Loop, s core.Socket, layer any) error {
	return d.Dispatcher.Attach(l, s, layer)
}

// transport is the Dispatcher as its Output sees it.
type transport Dispatcher

func (t *transport) Borrow(n int) []byte { return t.Loop().Borrow(n) }
func (t *transport) GiveBack(p []byte)   { t.Loop().GiveBack(p) }

func (t *transport) Send(p []byte) (int, error) {
	n, err := (*Dispatcher)(t).Dispatcher.Send(p)
	return n, t.failed(err)
}

func (t *transport) SendVector(p [][]byte) (int, error) {
	n, err := (*Dispatcher)(t).Dispatcher.SendVector(p)
	return n, t.failed(err)
}

func (t *transport) SendFile(f *os.File, offset int64, n int) (int, error) {
	n, err := (*Dispatcher)(t).Dispatcher.SendFile(f, offset, n)
	return n, t.failed(err)
}

// failed closes a channel that is closing and cannot send any more. One that is not reads on first, see core's Send; here
// input is not wanted.
func (t *transport) failed(err error) error {
	d := (*Dispatcher)(t)
	switch {
	case err == nil, err == core.ErrWouldBlock, !d.Closing():
	case err == io.EOF, errors.Is(err, core.ErrUnsupported): // of a file
	default:
		_ = d.CloseWith(err)
	}
	return err
}

// Send queues a copy of p; it goes out when the event is over. ErrClosed: the channel is closed or closing. ErrOverflow:
// more than Marks.Limit is queued; the channel closes with that. Otherwise it returns len(p), nil. [send]
func (d *Dispatcher) Send(p []byte) (int, error) {
	if d.Closed() || !d.Out.fits(len(p)) {
		return send(d, p)
	}
	add(&d.Out, p) // a flush was asked for when the buffer was lent
	return len(p), nil
}

// Write is Send; it makes the channel an io.Writer.
func (d *Dispatcher) Write(p []byte) (int, error) { return d.Send(p) }

// WriteString is Send for a string; it makes the channel an io.StringWriter.
func (d *Dispatcher) WriteString(s string) (int, error) {
	if d.Closed() || !d.Out.fits(len(s)) {
		return send(d, s)
	}
	add(&d.Out, s)
	return len(s), nil
}

// WriteByte is Send for one byte, such as the end of a line; it makes the channel an io.ByteWriter.
func (d *Dispatcher) WriteByte(b byte) error {
	if d.Closed() || !d.Out.fits(1) {
		return sendByte(d, b)
	}
	d.Out.addByte(b)
	return nil
}

//go:noinline
func sendByte(d *Dispatcher, b byte) error {
	_, err := send(d, string([]byte{b})) // does not allocate
	return err
}

// Easy tells, at no cost, that bytes of this event wait and nothing is out of the ordinary: the channel is open and not
// Closing, its output not Pressed.
func (d *Dispatcher) Easy() bool { return d.Out.room > 0 && !d.Closed() }

// Reading tells, at no cost, that read interest is on and the channel not Closing.
func (d *Dispatcher) Reading() bool { return d.Interest()&core.Read != 0 && !d.Closing() }

func send[T octets](d *Dispatcher, p T) (int, error) {
	if d.Closed() {
		return 0, core.ErrClosed
	}
	if d.Out.fresh() && uint(len(p)-1) < core.LargeBuffer { // nearly always
		d.Out.begin(d.Loop().Borrow(len(p)))
		add(&d.Out, p)
		d.RequestFlush()
		return len(p), nil
	}
	if err := d.pushed(push(&d.Out, (*transport)(d), p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SendShared queues a message by reference: see Shared. Errors as Send's.
func (d *Dispatcher) SendShared(m *Shared) error {
	if d.Closed() {
		return core.ErrClosed
	}
	return d.pushed(d.Out.PushShared((*transport)(d), m))
}

// SendProducer queues a producer behind what was sent. Errors as Send's; the producer is closed then.
func (d *Dispatcher) SendProducer(p Producer) error {
	if d.Closed() {
		closeProducer(p)
		return core.ErrClosed
	}
	return d.pushed(d.Out.PushProducer((*transport)(d), p))
}

// ResumeProducer has a producer asked again that had answered ErrWouldBlock: after this event, or, if it is called from within
// More, when other channels had their turn.
func (d *Dispatcher) ResumeProducer() {
	d.Out.Resume()
	if d.Out.state&outAsking == 0 {
		d.RequestFlush()
	}
}

// TakeOutput takes out what is queued; see Output.Take. It is for a layer that sends it below another one.
func (d *Dispatcher) TakeOutput() (p []byte, ok bool) {
	p, ok = d.Out.Take((*transport)(d))
	d.WantWrite(d.WantsWrite())
	d.RequestFlush()
	return p, ok
}

// pushed is what a push entails.
func (d *Dispatcher) pushed(err error) error {
	switch err {
	case nil:
		d.RequestFlush()
	case core.ErrOverflow:
		_ = d.CloseWith(err)
	}
	return err
}

// Queued returns how many bytes wait to be sent.
func (d *Dispatcher) Queued() int { return d.Out.Len() }

// SetMarks replaces the marks of the queue; nil are the default.
func (d *Dispatcher) SetMarks(m *Marks) { d.Out.SetMarks(m) }

// DiscardBuffers drops what was queued, and takes a pending CloseWhenDone back. [discard_buffers]
func (d *Dispatcher) DiscardBuffers() {
	d.Out.Discard((*transport)(d))
	if d.end != nil && !d.end.lingering {
		if d.end.limited {
			d.SetWriteTimeout(d.end.before)
		}
		d.end = &ending{timeout: d.end.timeout, linger: d.end.linger}
	}
	d.RequestFlush()
}

// CloseWhenDone closes the channel when everything that was queued is sent, at once (that is, after this event) if nothing
// is and the connection is there. Input is not delivered any more, and a further Send answers ErrClosed. If the peer takes
// nothing for DefaultCloseTimeout (see SetCloseTimeout) it closes with ErrTimeout instead. [close_when_done]
func (d *Dispatcher) CloseWhenDone() { d.CloseWhenDoneWith(nil) }

// CloseWhenDoneWith is CloseWhenDone with a cause for HandleClose.
func (d *Dispatcher) CloseWhenDoneWith(cause error) {
	if d.Closed() || d.Closing() {
		return
	}
	if d.end == nil {
		d.end = &ending{timeout: DefaultCloseTimeout}
	}
	d.end.cause = cause
	d.Out.Close()
	d.RequestFlush()
}

// CloseWrite sends the end of our stream when everything that was queued is sent. Input goes on; a further Send answers
// ErrClosed. The channel closes when the peer ends its own stream, or by Close or CloseWhenDone.
func (d *Dispatcher) CloseWrite() error {
	if d.Closed() {
		return core.ErrClosed
	}
	d.Out.End()
	d.RequestFlush()
	return nil
}

// SetCloseTimeout replaces DefaultCloseTimeout for this channel; 0: wait for ever.
func (d *Dispatcher) SetCloseTimeout(t time.Duration) {
	if d.end == nil {
		d.end = new(ending)
	}
	d.end.timeout = t
}

// SetLinger has CloseWhenDone, when everything is sent, end only our stream, and drop input until the peer has ended its own,
// up to LingerBytes and LingerTimeout. Without it that is so only if input was dropped. It is for who knows that the peer is still
// sending: the reset that its data would meet could destroy what it has not read yet.
func (d *Dispatcher) SetLinger() {
	if d.end == nil {
		d.end = &ending{timeout: DefaultCloseTimeout}
	}
	d.end.linger = true
}

// Closing tells whether CloseWhenDone was called.
func (d *Dispatcher) Closing() bool { return d.Out.Closing() }

// Lingering tells whether the output is out and only input is still dropped before the channel closes.
func (d *Dispatcher) Lingering() bool { return d.end != nil && d.end.lingering }

// Writable is for a layer's HandleWrite.
func (d *Dispatcher) Writable() error {
	d.Out.Writable()
	d.RequestFlush()
	return nil
}

// Flush is for a layer's HandleFlush: it sends what it can, sets write interest, and ends the channel if it is done. It
// returns a crossing of a mark, for the layer to tell its handler.
func (d *Dispatcher) Flush() (Level, error) {
	err := d.flush()
	if d.Closed() {
		return Steady, err
	}
	return d.Out.Level(), err
}

// Due is for a layer's FlushDue, when there is nothing to do in its HandleFlush but to call Flush. It returns what that would
// send, if all is as it nearly always is: nothing waits but what this event pushed, or one shared message.
func (d *Dispatcher) Due() []byte {
	o := &d.Out
	switch {
	case o.state != 0:
		return nil
	case o.queue == nil:
		return o.lent
	case o.queue.shared != nil && o.lent == nil:
		return o.queue.shared.p
	}
	return nil
}

// Sent is for a layer's FlushSent: n bytes of what is Due were sent. Flush sees to the rest.
func (d *Dispatcher) Sent(n int) {
	o := &d.Out
	switch {
	case o.queue != nil:
		if n < o.queue.bytes {
			o.state |= outBlocked
		}
		o.sentAlone((*transport)(d), n)
	case n == len(o.lent):
		d.Loop().GiveBack(o.lent)
		o.lent, o.room = nil, 0
	default:
		o.took(n)
	}
	d.WantWrite(d.WantsWrite())
}

// FlushNow is for a layer that needs the output out within an event. What follows from the marks comes with the next
// Flush, which it asks for.
func (d *Dispatcher) FlushNow() error {
	d.RequestFlush()
	return d.flush()
}

func (d *Dispatcher) flush() error {
	if d.Closed() {
		d.Out.Discard((*transport)(d))
		return nil
	}
	err := d.Out.Flush((*transport)(d))
	d.WantWrite(d.WantsWrite())
	if d.Out.More() {
		d.Requeue(core.Write)
	}
	if err == nil && !d.Connecting() {
		switch {
		case d.Out.Closing() && !d.Lingering():
			d.finish()
		case d.Out.Ending() && d.Out.Empty():
			d.Out.Ended()
			err = d.Dispatcher.CloseWrite()
		}
	}
	return err
}

// WantsWrite is what write interest has to be: there is output to send when the socket takes it, or a layer still holds some,
// which the write timeout has to watch, and a closing channel waits for.
func (d *Dispatcher) WantsWrite() bool {
	return d.Out.Blocked() || d.Out.More() || !d.Lingering() && d.Unsent() > 0
}

// AuditWrite is WantsWrite for an InterestAuditor. What a layer makes or sends by itself it need not know: that shows at the
// next flush.
func (d *Dispatcher) AuditWrite() core.Interest {
	if d.Out.Blocked() || d.Out.More() {
		return core.Write
	}
	if _, ok := d.Socket().(core.Layered); ok {
		return d.Interest() & core.Write
	}
	return 0
}

// finish closes when everything is out.
func (d *Dispatcher) finish() {
	e := d.end
	if d.Out.Empty() {
		d.Finish()
	}
	if !d.Out.Empty() || d.Unsent() > 0 {
		d.WantWrite(d.WantsWrite())
		d.WantRead(d.Dropping())
		e.limit(d)
		return
	}
	n, err := d.Discard(LingerBytes)
	e.dropped += n
	if err != core.ErrWouldBlock || e.dropped == 0 && !e.linger || d.Dispatcher.CloseWrite() != nil {
		_ = d.CloseWith(e.cause)
		return
	}
	e.lingering = true
	d.WantRead(true)
	d.AfterFunc(LingerTimeout, func() { _ = d.CloseWith(e.cause) })
}

// Dropped is for a layer that read input, and dropped it because the channel is Closing: more may be on its way.
func (d *Dispatcher) Dropped(n int) { d.end.dropped += n }

// Dropping tells whether a closing channel reads only to drop what comes: while Lingering, and while a producer has
// nothing yet, since a peer that is gone would not be noticed otherwise.
func (d *Dispatcher) Dropping() bool {
	return d.Lingering() || d.Closing() && d.Out.Waiting() && !d.Out.Blocked()
}

// Drop is for a layer's HandleRead while Dropping: it drops input, and closes at the end of it when Lingering.
func (d *Dispatcher) Drop() {
	if !d.Lingering() {
		n, _ := d.Discard(core.ReadBudget)
		d.end.dropped += n
		return
	}
	n, err := d.Discard(LingerBytes - d.end.dropped)
	d.end.dropped += n
	if err != core.ErrWouldBlock {
		_ = d.CloseWith(d.end.cause)
	}
}

// Overloaded is for a layer that reads: it tells whether the queue is above its high mark even after sending what this
// event pushed, so that no more input should be worked on.
func (d *Dispatcher) Overloaded() bool {
	over, err := d.Out.Relieve((*transport)(d))
	return over && err == nil
}

// handler is the core handler of a Dispatcher that is used by itself.
type handler struct {
	d     *Dispatcher
	h     any
	pause bool // above the high mark: not reading
	read  bool // what the user wants
}

// urgentHandler is a handler whose user has HandleExpt: having the method is what asks for it.
type urgentHandler struct{ *handler }

func (h urgentHandler) HandleExpt(*core.Dispatcher) error {
	return optional(h.handler, core.ExptHandler[*Dispatcher].HandleExpt)
}

func newHandler(d *Dispatcher, h any) any {
	inner := &handler{d: d, h: h, read: true}
	if _, ok := core.As[core.ExptHandler[*Dispatcher]](h); ok {
		return urgentHandler{inner}
	}
	return inner
}

// optional calls a method of the user's handler, if it has it.
func optional[H any](h *handler, f func(H, *Dispatcher) error) error {
	u, ok := core.As[H](h.h)
	if !ok {
		return nil
	}
	return f(u, h.d)
}

func (h *handler) UserHandler() any { return h.h }

func (h *handler) HandleRead(*core.Dispatcher) error {
	switch {
	case h.d.Dropping():
		h.d.Drop()
		return nil
	case h.d.Closing():
		return nil
	}
	return optional(h, core.ReadHandler[*Dispatcher].HandleRead)
}

func (h *handler) HandleWrite(*core.Dispatcher) error { return h.d.Writable() }

// FlushDue and FlushSent: see Dispatcher.Due.
func (h *handler) FlushDue() []byte { return h.d.Due() }
func (h *handler) FlushSent(n int)  { h.d.Sent(n) }

func (h *handler) HandleFlush(d *core.Dispatcher) error {
	level, err := h.d.Flush()
	if err != nil {
		return err
	}
	switch level {
	case Rose:
		h.pause = d.Interest()&core.Read != 0
		if h.pause {
			d.WantRead(false)
		}
		return optional(h, core.LevelHandler[*Dispatcher].HandleHigh)
	case Fell:
		if h.pause && !h.d.Closing() {
			d.WantRead(true)
		}
		h.pause = false
		return optional(h, core.LevelHandler[*Dispatcher].HandleLow)
	}
	return nil
}

func (h *handler) HandleConnect(*core.Dispatcher) error {
	h.d.Out.Writable()
	h.d.RequestFlush()
	return optional(h, core.ConnectHandler[*Dispatcher].HandleConnect)
}

func (h *handler) HandleSecure(_ *core.Dispatcher, s tls.ConnectionState) error {
	return optional(h, func(u core.SecureHandler[*Dispatcher], d *Dispatcher) error { return u.HandleSecure(d, s) })
}

func (h *handler) HandleEOF(*core.Dispatcher) error {
	if h.d.Closing() {
		return nil
	}
	if _, ok := core.As[core.EOFHandler[*Dispatcher]](h.h); ok {
		return optional(h, core.EOFHandler[*Dispatcher].HandleEOF)
	}
	h.d.CloseWhenDoneWith(io.EOF) // the peer still gets its answer
	return nil
}

func (h *handler) HandleTimeout(d *core.Dispatcher) error {
	if _, ok := core.As[core.TimeoutHandler[*Dispatcher]](h.h); ok {
		return optional(h, core.TimeoutHandler[*Dispatcher].HandleTimeout)
	}
	return d.CloseWith(core.ErrTimeout)
}

func (h *handler) HandleShutdown(*core.Dispatcher) error {
	if _, ok := core.As[core.ShutdownHandler[*Dispatcher]](h.h); ok {
		return optional(h, core.ShutdownHandler[*Dispatcher].HandleShutdown)
	}
	h.d.CloseWhenDoneWith(core.ErrShutdown)
	return nil
}

func (h *handler) HandleError(d *core.Dispatcher, err error) {
	if u, ok := core.As[core.ErrorHandler[*Dispatcher]](h.h); ok {
		u.HandleError(h.d, err)
		return
	}
	d.LogError(err)
	h.d.CloseWhenDoneWith(err) // what was sent before still goes out
}

func (h *handler) HandleClose(_ *core.Dispatcher, cause error) {
	h.d.Out.Discard((*transport)(h.d))
	if u, ok := core.As[core.CloseHandler[*Dispatcher]](h.h); ok {
		u.HandleClose(h.d, cause)
	}
}

// AuditInterest works the interest out from the queue: see core.InterestAuditor.
func (h *handler) AuditInterest(d *core.Dispatcher) core.Interest {
	return d.Interest()&(core.Read|core.Urgent) | h.d.AuditWrite()
}

func checkHandler(l *core.Loop, h any) error {
	if _, ok := core.As[core.ReadHandler[*Dispatcher]](h); !ok {
		return errors.New("buffered: the handler has no HandleRead")
	}
	if l.Strict() {
		return core.CheckHandler("buffered", h)
	}
	return nil
}

func init() {
	core.RegisterHandlers("buffered",
		reflect.TypeFor[core.ReadHandler[*Dispatcher]](),
		reflect.TypeFor[core.ExptHandler[*Dispatcher]](),
		reflect.TypeFor[core.ConnectHandler[*Dispatcher]](),
		reflect.TypeFor[core.LevelHandler[*Dispatcher]](),
		reflect.TypeFor[core.EOFHandler[*Dispatcher]](),
		reflect.TypeFor[core.TimeoutHandler[*Dispatcher]](),
		reflect.TypeFor[core.SecureHandler[*Dispatcher]](),
		reflect.TypeFor[core.ShutdownHandler[*Dispatcher]](),
		reflect.TypeFor[core.ErrorHandler[*Dispatcher]](),
		reflect.TypeFor[core.CloseHandler[*Dispatcher]](),
	)
}

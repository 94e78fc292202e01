package chat

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
)

// Conn is one end of a conversation: a channel whose input is cut into tokens and whose output is queued. All methods are
// for the loop's goroutine; none of them calls a handler. [asynchat.async_chat]
type Conn struct {
	b     buffered.Dispatcher
	h     Handler
	scan  scanner
	in    *input // what came and was not worked on yet; nil: nothing
	flags connFlags
}

type connFlags uint32

const (
	pausedByUser connFlags = 1 << iota // Pause
	pausedByHigh                       // the output queue is above its high mark
	pausedByTalk                       // a Talker is busy with something else than reading
	ended                              // the end of the input was handed on
	leaving                            // closes after this token: a shutdown
	changed                            // SetTerminator was called
	retuned                            // SetHandler or SetLimit was called
	skipNow                            // SkipToken was called
	askFirst                           // HandleFirst is due
	needStart                          // the handler's start is due
	hasFirst                           // what the handler has
	hasStart
	hasKeep
	audible // its handler has HandleClose
	ahead   // PauseAhead rather than Pause
	dropped // what was unread is gone
	working // work is under way, or was ended by a panic
)

const pausedBits = pausedByUser | pausedByHigh | pausedByTalk

// Handler is what a conversation needs. Besides these two it may have any of the methods of package core's handler
// interfaces with *Conn as their C, but for HandleRead and HandleWrite, which the Conn does itself; Readable
// (core.ReadPredicate), which holds reading back when it answers false; and HandleFirst.
type Handler interface {
	// CollectIncomingData is given input as it comes, never empty, in pieces of any size, without the terminators. data is
	// borrowed until it returns. What it decides should not depend on how the input is cut: decide in FoundTerminator.
	// [collect_incoming_data]
	CollectIncomingData(c *Conn, data []byte) error

	// FoundTerminator is called when a token is complete: everything collected since the last one belongs to it. A
	// terminator that it sets acts on the very next byte. [found_terminator]
	FoundTerminator(c *Conn) error
}

// FirstHandler is a handler that wants to see the first octet before it is scanned: to choose a protocol, say. It may
// call SetHandler, SetTerminator and Upgrade. It is asked once when the conversation begins, and again after AskFirst.
type FirstHandler interface {
	HandleFirst(c *Conn, first byte) error
}

// What adapters of this package have besides.
type (
	starter    interface{ start(c *Conn) error }    // called once when the event is over in which the handler was set
	keeper     interface{ keep() }                  // called at the end of a read: borrowed bytes end
	terminated interface{ terminator() Terminator } // set unless there is one
)

// Attach begins a conversation on a connected socket. newHandler is called once, from here; it may set the terminator and
// push a greeting. On an error the socket is still the caller's.
func Attach(l *core.Loop, s core.Socket, newHandler func(*Conn) Handler) (*Conn, error) {
	c := new(Conn)
	if err := c.b.AttachLayer(l, s, (*driver)(c)); err != nil {
		return nil, err
	}
	if err := c.begin(newHandler); err != nil {
		return nil, err
	}
	return c, nil
}

// begin gives the conversation its handler, or closes it again.
func (c *Conn) begin(newHandler func(*Conn) Handler) error {
	c.scan.idle = true
	err := c.SetHandler(newHandler(c))
	if err != nil {
		_ = c.b.CloseWith(err)
	}
	return err
}

// SetHandler replaces the handler: its methods are detected anew, input that is unread goes to the new one, terminator,
// limits and output stay. For a change of protocol within a conversation.
func (c *Conn) SetHandler(h Handler) error {
	if h == nil {
		return errors.New("chat: nil handler")
	}
	if c.b.Closed() {
		return core.ErrClosed
	}
	if c.Loop().Strict() {
		if err := core.CheckHandler("chat", h); err != nil {
			return err
		}
	}
	if k, ok := core.As[keeper](c.h); ok {
		k.keep() // what the old one borrowed
	}
	c.h = h
	c.flags |= retuned
	c.flags &^= hasFirst | hasStart | hasKeep | audible | needStart | askFirst
	if _, ok := core.As[FirstHandler](h); ok {
		c.flags |= hasFirst | askFirst
	}
	if _, ok := core.As[starter](h); ok {
		c.flags |= hasStart | needStart
		c.b.RequestFlush()
	}
	if _, ok := core.As[keeper](h); ok {
		c.flags |= hasKeep
	}
	if t, ok := core.As[terminated](h); ok && c.scan.term == None {
		c.SetTerminator(t.terminator())
	}
	if _, ok := core.As[core.CloseHandler[*Conn]](h); ok {
		c.flags |= audible
	}
	return c.setDriver(h)
}

// setDriver chooses the core handler that has what h asks for.
func (c *Conn) setDriver(h Handler) error {
	_, urgent := core.As[core.ExptHandler[*Conn]](h)
	_, asked := core.As[core.ReadPredicate](h)
	_, was := c.b.Handler().(*askedDriver)
	switch {
	case urgent || asked:
		if err := c.b.Dispatcher.SetHandler(&askedDriver{(*driver)(c), asked}); err != nil {
			return err
		}
		c.b.WantUrgent(urgent)
	case was:
		if err := c.b.Dispatcher.SetHandler((*driver)(c)); err != nil {
			return err
		}
	default:
		return nil
	}
	c.b.WantWrite(c.b.WantsWrite())
	c.sync()
	return nil
}

// Handler returns the handler in force.
func (c *Conn) Handler() Handler { return c.h }

// Core returns the channel; it makes a Conn a core.Channel, for core.Go.
func (c *Conn) Core() *core.Dispatcher { return &c.b.Dispatcher }

// Of returns the conversation of a channel, if it is one: for core.Loop.All.
func Of(d *core.Dispatcher) (*Conn, bool) {
	switch h := d.Handler().(type) {
	case *driver:
		return (*Conn)(h), true
	case *askedDriver:
		return (*Conn)(h.driver), true
	}
	return nil, false
}

// Loop returns the conversation's loop.
func (c *Conn) Loop() *core.Loop { return c.b.Loop() }

// ID is the channel's number on its loop.
func (c *Conn) ID() uint64 { return c.b.ID() }

// String is for logs.
func (c *Conn) String() string { return c.b.String() }

// LocalAddr returns our address, RemoteAddr the peer's; nil if there is none.
func (c *Conn) LocalAddr() net.Addr  { return c.b.LocalAddr() }
func (c *Conn) RemoteAddr() net.Addr { return c.b.RemoteAddr() }

// SetTerminator begins a new token with another terminator. It acts on the next byte that was not handed on: inside
// FoundTerminator on the very next one, inside CollectIncomingData on those behind data (the token that was being
// collected is abandoned), elsewhere also on what is held back. [set_terminator]
func (c *Conn) SetTerminator(t Terminator) {
	if back := c.scan.pending(0); back != "" {
		c.unread().prepend(back)
	}
	c.scan.set(t)
	c.flags |= changed
	if c.in != nil {
		c.in.fresh = true
	}
	if c.in != nil || t.n == codeEmpty {
		c.b.RequestFlush() // there may be something to find without more input
	}
}

// Terminator returns what was set last, or None when a Count was reached. [get_terminator]
func (c *Conn) Terminator() Terminator { return c.scan.term }

// Missing returns how many bytes of a Count have not come yet.
func (c *Conn) Missing() int64 {
	if c.scan.kind != kindCount {
		return 0
	}
	return c.scan.count
}

// MidToken tells whether a token has begun and not ended: at the end of the input, whether that was truncated.
func (c *Conn) MidToken() bool { return c.scan.midToken() }

// SetLimit bounds tokens of Literal, Line and Split, and lines of a Dot block, to n bytes; DefaultLimit unless told. It
// holds for the token that is being collected, too.
func (c *Conn) SetLimit(n int) {
	c.scan.limit = int32(min(max(n, 1), 1<<30))
	c.flags |= retuned
}

// SetBlockLimit bounds Dot blocks to n bytes; DefaultBlockLimit unless told.
func (c *Conn) SetBlockLimit(n int64) { c.scan.block = max(n, 1) }

// SkipToken, called by HandleTooLong, has the rest of the token dropped. FoundTerminator is called at its end as for any
// token: remember that it was too long. With a Split it does nothing.
func (c *Conn) SkipToken() { c.flags |= skipNow }

// AskFirst has HandleFirst asked again at the next byte.
func (c *Conn) AskFirst() {
	if c.flags&hasFirst != 0 {
		c.flags |= askFirst
	}
}

// Pause stops input, after the FoundTerminator that is under way or due (a Collect whose token is complete is followed by
// its Found): the rest of what was read waits, and the peer is not read from. Resume goes on, when the event is over.
func (c *Conn) Pause() {
	c.flags &^= ahead
	c.pause(pausedByUser)
}
func (c *Conn) Resume() { c.resume(pausedByUser) }

// ReadAhead is how much input waits while PauseAhead holds it back, before the peer is not read from any more. One read may
// add as much again.
const ReadAhead = 64 << 10

// PauseAhead is Pause, but the peer is read from until ReadAhead bytes wait, so that it is noticed when it goes away: for an
// answer that takes long. HandleEOF may come then with input still waiting, which is worked on after Resume as ever.
func (c *Conn) PauseAhead() {
	c.flags |= ahead
	c.pause(pausedByUser)
}

// Paused tells whether Pause was called, and not Resume since.
func (c *Conn) Paused() bool { return c.flags&pausedByUser != 0 }

func (c *Conn) pause(why connFlags) {
	c.flags |= why
	c.sync()
}

func (c *Conn) resume(why connFlags) {
	if c.flags&why != 0 {
		c.flags &^= why
		c.sync()
		c.b.RequestFlush() // works on what waits
	}
}

// sync sets the read interest.
func (c *Conn) sync() { c.b.WantRead(c.wantsRead()) }

// wantsRead tells whether more input is wanted: none waits, and nothing holds it up. A Split token waits for more.
func (c *Conn) wantsRead() bool {
	return c.in == nil && c.flags&pausedBits == 0 && !c.b.Closing() || c.wantsMore() // nearly always the first
}

func (c *Conn) wantsMore() bool {
	switch {
	case c.b.Dropping():
		return true
	case c.b.Closing():
		return false
	case c.flags&(pausedBits|ahead) == pausedByUser|ahead:
		return c.in == nil || c.in.len() < ReadAhead
	case c.flags&pausedBits != 0:
		return false
	}
	return c.in == nil || c.scan.kind == kindSplit && !c.in.fresh
}

// Push queues a copy of p for the peer. What one event pushes goes out together when it is over. ErrClosed: the
// conversation is closed, or CloseWhenDone was called. ErrOverflow: more than Marks.Limit would be queued; the connection
// closes with that. [push]
func (c *Conn) Push(p []byte) error {
	_, err := c.b.Send(p)
	return err
}

// PushString is Push for a string.
func (c *Conn) PushString(s string) error {
	_, err := c.b.WriteString(s)
	return err
}

// Write is Push; it makes a Conn an io.Writer. It takes all of p, or none and returns an error.
func (c *Conn) Write(p []byte) (int, error) { return c.b.Send(p) }

// WriteString is PushString; it makes a Conn an io.StringWriter.
func (c *Conn) WriteString(s string) (int, error) { return c.b.WriteString(s) }

// WriteByte is Push for one byte, such as the end of a line; it makes a Conn an io.ByteWriter.
func (c *Conn) WriteByte(b byte) error { return c.b.WriteByte(b) }

// Printf pushes formatted text.
func (c *Conn) Printf(format string, args ...any) error {
	_, err := fmt.Fprintf(&c.b, format, args...)
	return err
}

// PushShared is Push for a message that many conversations get, on any number of loops: it is not copied. Errors as Push's.
func (c *Conn) PushShared(m *buffered.Shared) error { return c.b.SendShared(m) }

// PushProducer queues a producer behind what was pushed: buffered.Bytes, buffered.Reader, buffered.File (by sendfile
// where the transport allows), or one's own. Errors as Push; the producer is closed then. [push_with_producer]
func (c *Conn) PushProducer(p buffered.Producer) error { return c.b.SendProducer(p) }

// ResumeProducer has a producer asked again that had answered core.ErrWouldBlock: after this event, or, if it is called from
// within More, when other channels had their turn.
func (c *Conn) ResumeProducer() { c.b.ResumeProducer() }

// Queued returns how many bytes of output wait.
func (c *Conn) Queued() int { return c.b.Queued() }

// SetMarks replaces the marks of the output queue: see buffered.Marks. nil: the default.
func (c *Conn) SetMarks(m *buffered.Marks) { c.b.SetMarks(m) }

// DiscardBuffers drops output that is queued and input that was read and not worked on, and takes a pending CloseWhenDone
// back. [discard_buffers]
func (c *Conn) DiscardBuffers() {
	c.dropInput()
	c.scan.restart()
	c.b.DiscardBuffers()
	c.sync()
}

// CloseWhenDone closes the connection when all output is sent, at the end of this event if nothing is queued. Input is
// not worked on any more; a Push answers ErrClosed. See buffered.Dispatcher.CloseWhenDone for its deadline and for what
// happens to input that is still on its way. [close_when_done]
func (c *Conn) CloseWhenDone() { c.b.CloseWhenDone() }

// SetLinger: see buffered.Dispatcher.SetLinger.
func (c *Conn) SetLinger() { c.b.SetLinger() }

// CloseWhenDoneWith is CloseWhenDone with a cause for HandleClose.
func (c *Conn) CloseWhenDoneWith(cause error) { c.b.CloseWhenDoneWith(cause) }

// CloseWrite ends our side of the conversation when all output is sent: the peer sees the end of our stream, and can go on
// talking. A Push answers ErrClosed from now on.
func (c *Conn) CloseWrite() error { return c.b.CloseWrite() }

// SetCloseTimeout replaces buffered.DefaultCloseTimeout; 0: wait for ever.
func (c *Conn) SetCloseTimeout(t time.Duration) { c.b.SetCloseTimeout(t) }

// Close closes the connection at once; queued output is dropped. HandleClose(nil) follows when the event is over.
func (c *Conn) Close() error { return c.b.Close() }

// CloseWith is Close with a cause for HandleClose.
func (c *Conn) CloseWith(cause error) error { return c.b.CloseWith(cause) }

// Abort is Close with a reset for the peer.
func (c *Conn) Abort() error { return c.b.Abort() }

// Closed tells whether the connection is closed, Closing whether CloseWhenDone was called.
func (c *Conn) Closed() bool  { return c.b.Closed() }
func (c *Conn) Closing() bool { return c.b.Closing() }

// Connected tells whether the connection is there: false while a Dial is under way and after the close.
func (c *Conn) Connected() bool { return !c.b.Closed() && !c.b.Connecting() }

// SetIdleTimeout, SetWriteTimeout, SetWriteRate, AfterFunc and Context are those of core.Dispatcher.
func (c *Conn) SetIdleTimeout(t time.Duration)  { c.b.SetIdleTimeout(t) }
func (c *Conn) SetWriteTimeout(t time.Duration) { c.b.SetWriteTimeout(t) }
func (c *Conn) SetWriteRate(least int64)        { c.b.SetWriteRate(least) }
func (c *Conn) Context() context.Context        { return c.b.Context() }
func (c *Conn) AfterFunc(d time.Duration, f func()) *core.Timer {
	return c.b.AfterFunc(d, f)
}

// Detach takes the conversation off the loop and gives its connection away, with the input that was not handed on.
// HandleClose(ErrDetached) follows. Errors: core.ErrUnsupported as for core.Dispatcher.Detach, or while output is queued
// that the peer does not take.
func (c *Conn) Detach() (conn net.Conn, unread []byte, err error) {
	if err := c.b.FlushNow(); err != nil {
		return nil, nil, err
	}
	if !c.b.Out.Empty() {
		return nil, nil, fmt.Errorf("chat: detach with %d bytes queued: %w", c.b.Queued(), core.ErrUnsupported)
	}
	conn, below, err := c.b.Detach()
	if err != nil {
		return nil, nil, err
	}
	return conn, append(c.takeInput(), below...), nil
}

// Upgrade puts a layer between the conversation and its socket: telnet, say, or TLS (for which there is StartTLS). wrap gets
// the socket and returns the layer on it. With keep, input that was read and not handed on is what the layer receives first;
// without, it is dropped, and dropped says how much that was: right where the peer had to wait for our answer, so that it
// is what somebody else put there. When it fails, what was to be kept is kept. Output that was pushed before goes out
// before, below the layer; ErrUnsupported if a producer is among what the peer has not taken.
func (c *Conn) Upgrade(wrap func(core.Socket) (core.Layered, error), keep bool) (dropped int, err error) {
	if err := c.b.FlushNow(); err != nil {
		return 0, err
	}
	if c.b.Closed() {
		return 0, core.ErrClosed
	}
	out, ok := c.b.TakeOutput()
	if !ok {
		return 0, fmt.Errorf("chat: upgrade with a producer queued: %w", core.ErrUnsupported)
	}
	in := c.takeInput()
	if !keep {
		dropped, in = len(in), nil
	}
	inner := c.b.Socket()
	if len(in) > 0 || len(out) > 0 {
		inner = core.Prefix(inner, in, out)
	}
	layer, err := wrap(inner)
	if err == nil {
		err = c.b.Dispatcher.Upgrade(layer)
	}
	if err != nil {
		if len(in) > 0 {
			c.unread().prepend(string(in))
		}
		_ = c.Push(out)
		c.b.RequestFlush()
	}
	c.sync()
	return dropped, err
}

// StartTLS changes to TLS, as its server: see package tlslayer. Push the last answer in the clear before ("220 ready"); what is
// pushed after it is sent when the handshake is over, and so comes HandleSecure. Input that was read and not handed on is
// dropped, as it was not protected (CVE-2011-0411), and dropped says how much that was. Forget what the peer said before.
// Errors: as Upgrade's; a cfg without a certificate.
func (c *Conn) StartTLS(cfg *tls.Config) (dropped int, err error) {
	if err := tlslayer.CheckServer(cfg); err != nil {
		return 0, err
	}
	return c.Upgrade(tlslayer.WrapServer(cfg), false)
}

// StartTLSClient changes to TLS, as its client. A dropped above 0 means that somebody put something behind the server's
// answer, which should end the connection. cfg must have ServerName, or InsecureSkipVerify.
func (c *Conn) StartTLSClient(cfg *tls.Config) (dropped int, err error) {
	return c.Upgrade(tlslayer.WrapClient(cfg), false)
}

// TLS returns the state of the connection's TLS, if there is one and its handshake is over.
func (c *Conn) TLS() (tls.ConnectionState, bool) { return tlslayer.State(c.b.Socket()) }

package core

import (
	"crypto/tls"
	"net/netip"
)

// The handler interfaces. C is *Dispatcher in this package and *chat.Conn in package chat. A handler implements those
// that it needs; which ones it has is detected when it is attached (and again by SetHandler). A handler that wraps
// another one may have a method Unwrap() any: what it does not implement itself is looked for below it.
//
// All methods are called on the loop's goroutine, never one inside another (rule 2). Slices are borrowed until the
// method returns. What a returned error does is rule 6.
type (
	// ReadHandler: input, or the end of it, can be read with Recv. What is left unread is reported again in the next
	// pass. [handle_read]
	ReadHandler[C any] interface{ HandleRead(c C) error }

	// WriteHandler: output can be written with Send; called only while write interest is on. [handle_write]
	WriteHandler[C any] interface{ HandleWrite(c C) error }

	// ExptHandler: out-of-band data arrived (RecvUrgent). Having the method is what asks for it. [handle_expt]
	ExptHandler[C any] interface{ HandleExpt(c C) error }

	// ConnectHandler: a connection that was dialled is there. Not called for accepted ones. [handle_connect]
	ConnectHandler[C any] interface{ HandleConnect(c C) error }

	// FlushHandler: called once when the event is over in which RequestFlush was called, however often it was. A layer may
	// leave the ordinary output of an event to the loop, and is not called for that then: see buffered.Dispatcher.Due.
	FlushHandler[C any] interface{ HandleFlush(c C) error }

	// LevelHandler: the output queue has risen above its high mark, or fallen to its low mark again (package buffered).
	LevelHandler[C any] interface {
		HandleHigh(c C) error
		HandleLow(c C) error
	}

	// EOFHandler: the peer has sent everything; we may go on writing. Without it the channel closes with io.EOF.
	EOFHandler[C any] interface{ HandleEOF(c C) error }

	// TimeoutHandler: nothing was received or sent for the idle timeout. After it returns, the timeout starts anew
	// unless the channel is closed. Without it the channel closes with ErrTimeout.
	TimeoutHandler[C any] interface{ HandleTimeout(c C) error }

	// TooLongHandler: a token reached its limit (package chat).
	TooLongHandler[C any] interface{ HandleTooLong(c C) error }

	// SecureHandler: the TLS handshake is done (package core/tlslayer). Called before any input that came through it.
	SecureHandler[C any] interface {
		HandleSecure(c C, s tls.ConnectionState) error
	}

	// ShutdownHandler: Loop.Shutdown was called; the channel should end within the grace. Without it the layer's
	// default applies: a Dispatcher closes with ErrShutdown, the layers above flush first.
	ShutdownHandler[C any] interface{ HandleShutdown(c C) error }

	// ErrorHandler: a handler of this channel returned an error or panicked (*PanicError). The channel stays open
	// unless the method closes it; what it does itself, or an error of its own, is not told to it again.
	// [handle_error]
	ErrorHandler[C any] interface{ HandleError(c C, err error) }

	// CloseHandler: the channel is closed; exactly once, always last (rule 4). [handle_close]
	CloseHandler[C any] interface{ HandleClose(c C, cause error) }
)

// AcceptedHandler is what a Listener needs. [handle_accepted]
type AcceptedHandler interface {
	// HandleAccepted gets a new connection: Attach it, hand it to another loop, or close it. An error or a panic
	// closes that connection and is logged; the listener goes on.
	HandleAccepted(l *Listener, s Socket) error
}

// PacketHandler: a datagram arrived on a udp channel. The loop has read it; p may be empty.
type PacketHandler interface {
	HandlePacket(d *Dispatcher, p []byte, from netip.AddrPort) error
}

// UnixPacketHandler: a datagram arrived on a unixgram channel; from is the path of its sender, "" if it has none.
type UnixPacketHandler interface {
	HandleUnixPacket(d *Dispatcher, p []byte, from string) error
}

// ReadPredicate and WritePredicate: a handler that has them is asked before every pass, as asyncore does, and pays for
// what it asks; the cached interest of that direction is then unused. [readable, writable]
type ReadPredicate interface{ Readable() bool }

// WritePredicate: see ReadPredicate.
type WritePredicate interface{ Writable() bool }

// InterestAuditor is a layer that can work out from its own state what its channel has to wait for. With Options.Strict
// the loop compares that with the cached interest after every event; a difference ends Run with an error.
type InterestAuditor interface {
	AuditInterest(d *Dispatcher) Interest
}

// Channel is what has a Dispatcher: itself, a *Listener, a *buffered.Dispatcher or a *chat.Conn.
type Channel interface{ Core() *Dispatcher }

// As returns h, or the first of what it wraps (Unwrap() any), as a T.
func As[T any](h any) (T, bool) {
	for h != nil {
		if t, ok := h.(T); ok {
			return t, true
		}
		u, ok := h.(interface{ Unwrap() any })
		if !ok {
			break
		}
		h = u.Unwrap()
	}
	var none T
	return none, false
}

// streamHandler is what the handlers of the layers above are: the methods of an ordinary event.
type streamHandler interface {
	ReadHandler[*Dispatcher]
	FlushHandler[*Dispatcher]

	// FlushDue returns what HandleFlush would send, if to send that is all that it would do; otherwise nothing. The loop sends
	// it then by itself, and calls FlushSent with how much the socket took, which may be 0, unless the connection failed. If it
	// was not all, HandleFlush is called after all.
	FlushDue() []byte
	FlushSent(n int)
}

// handlerSet is what was detected of a handler.
type handlerSet uint16

const (
	hasRead handlerSet = 1 << iota
	hasWrite
	hasExpt
	hasConnect
	hasFlush
	hasEOF
	hasTimeout
	hasShutdown
	hasError
	hasClose
	hasPacket
	hasUnixPacket
	hasReadable
	hasWritable
	hasAudit
	hasSecure
)

func (s handlerSet) has(bits handlerSet) bool { return s&bits != 0 }

func detect(h any) handlerSet {
	if f, ok := h.(*Funcs); ok {
		return f.detect()
	}
	return bit[ReadHandler[*Dispatcher]](h, hasRead) |
		bit[WriteHandler[*Dispatcher]](h, hasWrite) |
		bit[ExptHandler[*Dispatcher]](h, hasExpt) |
		bit[ConnectHandler[*Dispatcher]](h, hasConnect) |
		bit[FlushHandler[*Dispatcher]](h, hasFlush) |
		bit[EOFHandler[*Dispatcher]](h, hasEOF) |
		bit[TimeoutHandler[*Dispatcher]](h, hasTimeout) |
		bit[ShutdownHandler[*Dispatcher]](h, hasShutdown) |
		bit[ErrorHandler[*Dispatcher]](h, hasError) |
		bit[CloseHandler[*Dispatcher]](h, hasClose) |
		bit[PacketHandler](h, hasPacket) |
		bit[UnixPacketHandler](h, hasUnixPacket) |
		bit[ReadPredicate](h, hasReadable) |
		bit[WritePredicate](h, hasWritable) |
		bit[InterestAuditor](h, hasAudit) |
		bit[SecureHandler[*Dispatcher]](h, hasSecure)
}

func bit[T any](h any, b handlerSet) handlerSet {
	if _, ok := As[T](h); ok {
		return b
	}
	return 0
}

// as is As for what detect has found already.
func as[T any](h any) T {
	t, _ := As[T](h)
	return t
}

// Funcs is a handler made of funcs, for short programs and demonstrations. Only the fields that are set when it is
// attached count. Attach a *Funcs.
type Funcs struct {
	Read     func(d *Dispatcher) error
	Write    func(d *Dispatcher) error
	Connect  func(d *Dispatcher) error
	EOF      func(d *Dispatcher) error
	Timeout  func(d *Dispatcher) error
	Shutdown func(d *Dispatcher) error
	Secure   func(d *Dispatcher, s tls.ConnectionState) error
	Error    func(d *Dispatcher, err error)
	Close    func(d *Dispatcher, cause error)
	Packet   func(d *Dispatcher, p []byte, from netip.AddrPort) error
	Accepted func(l *Listener, s Socket) error
}

func (f *Funcs) detect() (set handlerSet) {
	for _, x := range []struct {
		set bool
		bit handlerSet
	}{
		{f.Read != nil, hasRead}, {f.Write != nil, hasWrite}, {f.Connect != nil, hasConnect}, {f.EOF != nil, hasEOF},
		{f.Timeout != nil, hasTimeout}, {f.Shutdown != nil, hasShutdown}, {f.Error != nil, hasError},
		{f.Close != nil, hasClose}, {f.Packet != nil, hasPacket}, {f.Secure != nil, hasSecure},
	} {
		if x.set {
			set |= x.bit
		}
	}
	return set
}

// The handler methods call the func of the same name.
func (f *Funcs) HandleRead(d *Dispatcher) error                          { return f.Read(d) }
func (f *Funcs) HandleWrite(d *Dispatcher) error                         { return f.Write(d) }
func (f *Funcs) HandleConnect(d *Dispatcher) error                       { return f.Connect(d) }
func (f *Funcs) HandleEOF(d *Dispatcher) error                           { return f.EOF(d) }
func (f *Funcs) HandleTimeout(d *Dispatcher) error                       { return f.Timeout(d) }
func (f *Funcs) HandleShutdown(d *Dispatcher) error                      { return f.Shutdown(d) }
func (f *Funcs) HandleError(d *Dispatcher, err error)                    { f.Error(d, err) }
func (f *Funcs) HandleClose(d *Dispatcher, cause error)                  { f.Close(d, cause) }
func (f *Funcs) HandleSecure(d *Dispatcher, s tls.ConnectionState) error { return f.Secure(d, s) }
func (f *Funcs) HandleAccepted(l *Listener, s Socket) error              { return f.Accepted(l, s) }
func (f *Funcs) HandlePacket(d *Dispatcher, p []byte, from netip.AddrPort) error {
	return f.Packet(d, p, from)
}

package proxyproto

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// DefaultTimeout is how long a header may take.
const DefaultTimeout = 5 * time.Second

// Options says whose headers are believed, and what bounds them.
type Options struct {
	// From are the addresses of the proxies. A connection from elsewhere is refused, so that without any every one is. A
	// connection of a unix socket has no such address: it is refused unless everybody is trusted, see Anybody.
	From []netip.Prefix

	// Timeout is how long the header may take from the beginning of the connection: DefaultTimeout if 0, for ever if
	// negative.
	Timeout time.Duration

	// MaxV2 is the longest header of version 2, in bytes: DefaultMaxV2 if 0. Those of version 1 have MaxV1.
	MaxV2 int

	// PerClient bounds how many conversations that Accept began are open at a time for one client: one IPv4 address, or
	// one /64 of IPv6 addresses, by what the headers say. 0: no bound. One more is closed, with ErrTooMany, and Refusal is
	// sent to it before, or what RefusalFunc returns: see core.Limit. Clients that the proxy does not name are not counted.
	PerClient   int
	Refusal     string
	RefusalFunc func(now time.Time) string
}

// Anybody is for Options.From where nobody but proxies can connect: by a firewall, on a loopback address, or because of
// the permissions of a unix socket.
var Anybody = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// trusts tells whether the peer of a connection is one of From.
func (o *Options) trusts(s core.Socket) bool {
	var ip netip.Addr
	if a, ok := s.RemoteAddr().(interface{ AddrPort() netip.AddrPort }); ok {
		ip = a.AddrPort().Addr().Unmap().WithZone("")
	}
	for _, p := range o.From {
		if p.Contains(ip) || !ip.IsValid() && p.Bits() == 0 {
			return true
		}
	}
	return false
}

// Layer is a socket whose first bytes are a header. Until that has come, nothing is received through it, Send answers
// core.ErrWouldBlock, and the header is read whether or not the channel wants input; then bytes pass as they are, and
// RemoteAddr and LocalAddr are what the header says. If it does not come, the channel closes, and HandleClose gets the
// cause: ErrHeader, ErrTimeout, or what the connection failed with (io.EOF: nothing at all came).
//
// Put it under a channel with core.Attach or chat.Conn.Upgrade. A conversation that greets its client needs Accept.
type Layer struct {
	core.Socket
	h       *Header
	reading *reading // nil: the header is there
	release func()   // of what Accept counts
}

// reading is what a Layer has until its header is there.
type reading struct {
	o     Options
	buf   []byte
	d     *core.Dispatcher
	c     *chat.Conn // begins then, if it is not nil
	timer *core.Timer
}

// New returns a layer on a socket, or ErrUntrusted.
func New(s core.Socket, o Options) (*Layer, error) {
	if !o.trusts(s) {
		return nil, ErrUntrusted
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	return &Layer{Socket: s, reading: &reading{o: o}}, nil
}

// Wrap returns New in the shape that chat.Conn.Upgrade wants.
func Wrap(o Options) func(core.Socket) (core.Layered, error) {
	return func(s core.Socket) (core.Layered, error) {
		l, err := New(s, o)
		if err != nil {
			return nil, err
		}
		return l, nil
	}
}

// From returns the header of the connection that a socket stands on, if one came.
func From(s core.Socket) (*Header, bool) {
	for {
		if l, ok := s.(*Layer); ok && l.h != nil {
			return l.h, true
		}
		l, ok := s.(core.Layered)
		if !ok {
			return nil, false
		}
		s = l.Inner()
	}
}

// Header returns what came, nil before.
func (l *Layer) Header() *Header { return l.h }

// Attached starts the timer.
func (l *Layer) Attached(d *core.Dispatcher) {
	r := l.reading
	if r == nil {
		return
	}
	r.d = d
	if r.o.Timeout > 0 {
		r.timer = d.AfterFunc(r.o.Timeout, func() { l.fail(ErrTimeout) })
	}
}

// advance reads what has come of the header, and not more. nil: it is there, and what follows may be received.
func (l *Layer) advance() error {
	r := l.reading
	for {
		h, n, err := Parse(r.buf, r.o.MaxV2)
		switch {
		case err != nil:
			return l.fail(err)
		case h != nil:
			l.complete(h)
			return nil
		}
		at := len(r.buf)
		r.buf = slices.Grow(r.buf, n-at)
		m, err := l.Socket.Recv(r.buf[at:n])
		r.buf = r.buf[:at+m]
		switch {
		case err == nil && m > 0:
		case err == nil || err == core.ErrWouldBlock:
			return core.ErrWouldBlock
		case err == io.EOF && at > 0:
			return l.fail(fmt.Errorf("%w: %w", ErrHeader, io.ErrUnexpectedEOF))
		default:
			return l.fail(err)
		}
	}
}

// complete is the end of the header.
func (l *Layer) complete(h *Header) {
	r := l.reading
	l.h, l.reading = h, nil
	if r.timer != nil {
		r.timer.Stop()
	}
	if r.d.Tracing() {
		r.d.Trace(core.Event{Kind: core.TraceNote, Name: "PROXY header", N: len(r.buf)})
	}
	if r.c != nil {
		r.c.SetTerminator(chat.Count(0)) // found when this event is over: see reception
	}
}

func (l *Layer) fail(err error) error {
	_ = l.reading.d.CloseWith(err)
	return err
}

// Recv receives what follows the header.
func (l *Layer) Recv(p []byte) (int, error) {
	if l.reading != nil {
		if err := l.advance(); err != nil {
			return 0, err
		}
	}
	return l.Socket.Recv(p)
}

// Send waits for the header.
func (l *Layer) Send(p []byte) (int, error) {
	if l.reading != nil {
		return 0, core.ErrWouldBlock
	}
	return l.Socket.Send(p)
}

// Interest: the header is read whatever is wanted above.
func (l *Layer) Interest(want core.Interest) core.Interest {
	if l.reading != nil {
		return core.Read
	}
	return want
}

// Ready reads the header. What came with the last of it is reported again in the next pass: a conversation begins before.
func (l *Layer) Ready(got core.Interest) core.Interest {
	if l.reading != nil {
		_ = l.advance() // an error closes the channel
		return 0
	}
	return got
}

// Pending is false: the layer holds no input.
func (l *Layer) Pending() bool { return false }

// Inner returns the socket below.
func (l *Layer) Inner() core.Socket { return l.Socket }

// RemoteAddr returns the client's address, LocalAddr the one that it connected to. They are those of the connection itself
// before the header, and if the header does not say who the client is.
func (l *Layer) RemoteAddr() net.Addr {
	if l.h.known() {
		return netAddr(l.h.Network, l.h.Source)
	}
	return l.Socket.RemoteAddr()
}

func (l *Layer) LocalAddr() net.Addr {
	if l.h.known() {
		return netAddr(l.h.Network, l.h.Destination)
	}
	return l.Socket.LocalAddr()
}

// Close closes the socket below.
func (l *Layer) Close() error {
	err := l.Socket.Close()
	if l.release != nil {
		l.release()
		l.release = nil
	}
	return err
}

// SendFile, RecvUrgent and SendUrgent are what the socket below can do besides.
func (l *Layer) SendFile(f *os.File, offset int64, n int) (int, error) {
	s, ok := l.Socket.(interface {
		SendFile(f *os.File, offset int64, n int) (int, error)
	})
	switch {
	case !ok:
		return 0, core.ErrUnsupported
	case l.reading != nil:
		return 0, core.ErrWouldBlock
	}
	return s.SendFile(f, offset, n)
}

func (l *Layer) RecvUrgent(p []byte) (int, error) {
	s, ok := l.Socket.(interface{ RecvUrgent(p []byte) (int, error) })
	if !ok {
		return 0, core.ErrUnsupported
	}
	return s.RecvUrgent(p)
}

func (l *Layer) SendUrgent(p []byte) (int, error) {
	s, ok := l.Socket.(interface{ SendUrgent(p []byte) (int, error) })
	if !ok {
		return 0, core.ErrUnsupported
	}
	return s.SendUrgent(p)
}

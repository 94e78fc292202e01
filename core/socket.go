package core

import (
	"crypto/tls"
	"net"
	"net/netip"
	"os"
)

// Socket is the handle under a Dispatcher: non-blocking, used on the loop's goroutine only. Sockets of the operating
// system come from Listen, Dial, Adopt, OpenFile and a Listener; those of core/sim live in memory; a [Layered] one
// stands on another.
//
// Every call answers ErrWouldBlock when it would have to wait, and handles EINTR itself.
type Socket interface {
	// Recv reads into p. At the end of a stream it returns 0, io.EOF; an empty datagram is 0, nil.
	Recv(p []byte) (int, error)

	// Send writes from p; a stream may take less than all of it.
	Send(p []byte) (int, error)

	// RecvFrom and SendTo are for datagrams.
	RecvFrom(p []byte) (int, Endpoint, error)
	SendTo(p []byte, to Endpoint) (int, error)

	// Accept takes a connection from a listening socket.
	Accept() (Socket, error)

	// CloseWrite sends the end of the stream; reading goes on.
	CloseWrite() error

	// Close releases the descriptor. The loop calls it once.
	Close() error

	LocalAddr() net.Addr  // nil if there is none
	RemoteAddr() net.Addr // nil if there is none

	// FD is the descriptor that a Poller waits on, -1 in memory. A Layered socket gives the innermost one's.
	FD() int
}

// Layered is a Socket that stands on another one: TLS, a tap, a throttle, the PROXY protocol. See [Dispatcher.Upgrade].
//
// A layer that needs the loop (for a timer, or to be asked again later) has a method Attached(d *Dispatcher), which is
// called once when the channel gets it. One that may hold output, which it took and the socket below has not, has the
// methods Unsent() int, and Finish(), which makes what ends its own stream: a channel that closes when its output is sent
// calls Finish, and waits until nothing is unsent. One that secures the connection has a
// method ConnectionState() tls.ConnectionState, and calls [Dispatcher.Secured].
type Layered interface {
	Socket

	// Interest says what the socket below must wait for so that the wish want can come true. It is asked after each
	// event of the channel and after [Dispatcher.Refresh].
	Interest(want Interest) Interest

	// Ready says what readiness of the socket below means above.
	Ready(got Interest) Interest

	// Pending tells whether input is buffered here, so that Recv has something even if the socket below is silent.
	Pending() bool

	// Inner is the socket below.
	Inner() Socket
}

// Endpoint is the address of a datagram's sender or receiver: AddrPort for udp, Path for unixgram ("" if the sender has
// none).
type Endpoint struct {
	AddrPort netip.AddrPort
	Path     string
}

// What a Socket may be able to do besides. A Layered socket has none of these unless it implements them itself.
type (
	// connecter is a socket whose connect may be in progress; the result is asked for when it is writable.
	connecter interface{ ConnectResult() error }

	// aborter can close with a reset instead of an orderly end.
	aborter interface{ Abort() error }

	// urgentSocket has out-of-band data.
	urgentSocket interface {
		RecvUrgent(p []byte) (int, error)
		SendUrgent(p []byte) (int, error)
	}

	// fileSender sends from a file without a copy through user space.
	fileSender interface {
		SendFile(f *os.File, offset int64, n int) (int, error)
	}

	// vectorSender sends several pieces in one call, at most MaxVector of them.
	vectorSender interface {
		SendVector(p [][]byte) (int, error)
	}

	// unacked tells how many bytes of what was sent the peer has not taken yet: they lie in the system's buffers, or are on
	// their way. 0 if that is not known.
	unacked interface{ Unacked() int }

	// detacher gives its descriptor away as a net.Conn; afterwards only Close may be called, which then does nothing.
	detacher interface{ Detach() (net.Conn, error) }

	// closeNotifier calls f when it is closed or detached. A Listener counts its connections with it.
	closeNotifier interface{ OnClose(f func()) }

	// listening is told what its connections should be like: see ListenConfig.
	listening interface {
		SetAccepted(delay, noKeepAlive bool) error
	}

	// peerAddr is the remote address without an allocation.
	peerAddr interface{ RemoteAddrPort() netip.AddrPort }

	// halfOpen is a socket that can only be read or only be written, such as one end of a pipe.
	halfOpen interface{ Directions() Interest }

	// attached is told the channel that it came to stand under.
	attached interface{ Attached(d *Dispatcher) }

	// holder is a layer that may hold output which it took and the socket below has not taken yet: Unsent tells how much.
	// Finish has it make what ends its stream, so that Unsent counts that, too.
	holder interface {
		Unsent() int
		Finish()
	}

	// secure is a layer whose connection is secured once it has called Dispatcher.Secured.
	secure interface{ ConnectionState() tls.ConnectionState }
)

// base returns the socket that the poller knows: the innermost one.
func base(s Socket) Socket {
	for {
		l, ok := s.(Layered)
		if !ok {
			return s
		}
		s = l.Inner()
	}
}

// interestDown asks a stack of layers, from the top, what the innermost socket must wait for.
func interestDown(s Socket, want Interest) Interest {
	for {
		l, ok := s.(Layered)
		if !ok {
			return want
		}
		want = l.Interest(want)
		s = l.Inner()
	}
}

// readyUp asks a stack of layers, from the bottom, what got means on top.
func readyUp(s Socket, got Interest) Interest {
	l, ok := s.(Layered)
	if !ok {
		return got
	}
	return l.Ready(readyUp(l.Inner(), got))
}

// pendingInput tells whether a layer holds input that what stands above it waits for.
func pendingInput(s Socket, want Interest) bool {
	for {
		l, ok := s.(Layered)
		if !ok {
			return false
		}
		if want&Read != 0 && l.Pending() {
			return true
		}
		want = l.Interest(want)
		s = l.Inner()
	}
}

// layer returns the topmost layer that is a T.
func layer[T any](s Socket) (T, bool) {
	for {
		if t, ok := s.(T); ok {
			return t, true
		}
		l, ok := s.(Layered)
		if !ok {
			var none T
			return none, false
		}
		s = l.Inner()
	}
}

// tellAttached tells each layer from s down to below, the innermost first, which channel it stands under.
func tellAttached(s, below Socket, d *Dispatcher) {
	if s == below {
		return
	}
	if l, ok := s.(Layered); ok {
		tellAttached(l.Inner(), below, d)
	}
	if a, ok := s.(attached); ok {
		a.Attached(d)
	}
}

// Prefix returns a layer that first yields a copy of in and first sends a copy of out, and then passes everything through
// to s. It hands bytes that were read already to the socket that should have had them, and lets what waits for a slow peer
// go out below another layer: see chat.Conn.Upgrade.
func Prefix(s Socket, in, out []byte) Layered {
	return &prefix{Socket: s, in: append([]byte(nil), in...), out: append([]byte(nil), out...)}
}

type prefix struct {
	Socket
	in, out []byte
	ending  bool // CloseWrite waits for out
}

func (p *prefix) Recv(b []byte) (int, error) {
	if len(p.in) == 0 {
		return p.Socket.Recv(b)
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	if len(p.in) == 0 {
		p.in = nil
	}
	return n, nil
}

func (p *prefix) Send(b []byte) (int, error) {
	if err := p.flush(); err != nil {
		return 0, err
	}
	return p.Socket.Send(b)
}

// flush sends what goes first. ErrWouldBlock: not all of it is out.
func (p *prefix) flush() error {
	for len(p.out) > 0 {
		n, err := p.Socket.Send(p.out)
		if err != nil {
			return err
		}
		p.out = p.out[n:]
	}
	p.out = nil
	if p.ending {
		p.ending = false
		return p.Socket.CloseWrite()
	}
	return nil
}

func (p *prefix) CloseWrite() error {
	p.ending = true
	if err := p.flush(); err != ErrWouldBlock {
		return err
	}
	return nil
}

func (p *prefix) Interest(want Interest) Interest {
	if len(p.out) > 0 {
		want |= Write
	}
	return want
}

// Ready sends what goes first; an error of that is met by the next Recv or Send.
func (p *prefix) Ready(got Interest) Interest {
	if len(p.out) > 0 && got&Write != 0 && p.flush() == ErrWouldBlock {
		got &^= Write
	}
	return got
}

func (p *prefix) Pending() bool { return len(p.in) > 0 }
func (p *prefix) Unsent() int   { return len(p.out) }
func (p *prefix) Finish()       {}
func (p *prefix) Inner() Socket { return p.Socket }

package tlslayer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/parley-go/parley/core"
)

// DefaultHandshakeTimeout is how long a handshake may take.
const DefaultHandshakeTimeout = 10 * time.Second

// DefaultHandshakeLimit is how many bytes a client may send in a handshake: mostly its ClientHello, which seldom has 2 KB,
// and its certificates if it is asked for some. Until it is over a handshake holds about four times of what was said, and
// the limits of crypto/tls itself are 64 KB for each message and 256 KB for certificates.
const DefaultHandshakeLimit = 16 << 10

const (
	// chunk is how much plaintext is encrypted for one send: with what the records add it fits a lent buffer.
	chunk = 56 << 10

	// backlog is how much ciphertext may wait for a peer that does not take it before it is not read from any more: a peer
	// can have answers made, by KeyUpdate.
	backlog = 16 << 10
)

// Causes with which a channel closes.
var (
	// ErrHandshake is the cause when the handshake failed; the error of crypto/tls is wrapped with it, or core.ErrTooLong if
	// the client said more than the limit.
	ErrHandshake = errors.New("tlslayer: handshake failed")

	// ErrHandshakeTimeout is the cause when it took too long. It is a core.ErrTimeout, too.
	ErrHandshakeTimeout = fmt.Errorf("tlslayer: handshake: %w", core.ErrTimeout)

	// ErrTruncated is the cause when the stream ended without close_notify: what came before it may not be all.
	ErrTruncated = errors.New("tlslayer: the stream ended without close_notify")
)

// Layer is TLS as a socket. Make one with Server or Client, put it under a channel with core.Attach or Upgrade, and use
// it for nothing else. What can be set is to be set before.
type Layer struct {
	core.Socket // the ciphertext's

	conn  *tls.Conn
	d     *core.Dispatcher
	shake *handshake // nil: it is over

	in      []byte // ciphertext that was received and that crypto/tls has not taken
	out     []byte // ciphertext that was not sent
	rest    int32  // of the record of which crypto/tls was given a part
	state   state
	pending bool  // crypto/tls may hold plaintext, or recvErr is to be told
	fin     bool  // CloseWrite is due below when out is sent
	recvErr error // what every further Recv answers, when what came before is delivered
	sendErr error // what every further Send answers
}

type state uint8

const (
	shaking state = iota
	secured
	over // failed, or closed
)

// Server returns a layer that is the server's end. cfg must have a certificate, or a func that finds one.
func Server(s core.Socket, cfg *tls.Config) *Layer {
	l := newLayer(s, false)
	l.conn = tls.Server((*wire)(l), cfg)
	return l
}

// Client returns a layer that is the client's end. cfg must have ServerName, or InsecureSkipVerify.
func Client(s core.Socket, cfg *tls.Config) *Layer {
	l := newLayer(s, true)
	l.conn = tls.Client((*wire)(l), cfg)
	return l
}

// WrapServer returns Server in the shape that core.ListenConfig and chat.Conn.Upgrade want.
func WrapServer(cfg *tls.Config) func(core.Socket) (core.Layered, error) {
	return func(s core.Socket) (core.Layered, error) { return Server(s, cfg), nil }
}

// WrapClient returns Client in the shape that core.Dialer and chat.Conn.Upgrade want.
func WrapClient(cfg *tls.Config) func(core.Socket) (core.Layered, error) {
	return func(s core.Socket) (core.Layered, error) { return Client(s, cfg), nil }
}

// State returns the state of the TLS that a socket stands on, if there is one and its handshake is over.
func State(s core.Socket) (state tls.ConnectionState, ok bool) {
	for {
		if l, ok := s.(*Layer); ok {
			return l.ConnectionState(), l.state == secured
		}
		l, ok := s.(core.Layered)
		if !ok {
			return tls.ConnectionState{}, false
		}
		s = l.Inner()
	}
}

// CheckServer returns an error if cfg cannot be a server's: it has no certificate and no func that finds one.
func CheckServer(cfg *tls.Config) error {
	if cfg == nil || len(cfg.Certificates) == 0 && cfg.GetCertificate == nil && cfg.GetConfigForClient == nil {
		return errors.New("tlslayer: the tls.Config has neither Certificates nor GetCertificate nor GetConfigForClient")
	}
	return nil
}

// ConnectionState returns what the handshake agreed on; the zero value before it is over.
func (l *Layer) ConnectionState() tls.ConnectionState {
	if l.state != secured { // crypto/tls would wait for the handshake
		return tls.ConnectionState{}
	}
	return l.conn.ConnectionState()
}

// Attached begins the handshake.
func (l *Layer) Attached(d *core.Dispatcher) {
	l.d = d
	h := l.shake
	if h.timeout > 0 {
		h.timer = d.AfterFunc(h.timeout, func() { _ = d.CloseWith(ErrHandshakeTimeout) })
	}
	if h.client {
		l.step()
	}
}

// Interest: the handshake reads whatever is wanted above, and what it has to say goes out whatever is wanted above.
func (l *Layer) Interest(want core.Interest) core.Interest {
	switch {
	case l.state == shaking && l.shake.away:
		return 0
	case l.state == shaking:
		want = core.Read
	case len(l.out) > backlog:
		want &^= core.Read
	}
	want &^= core.Urgent // it would come past the encryption
	if len(l.out) > 0 {
		want |= core.Write
	}
	return want
}

// Ready goes on with the handshake, and sends what waits.
func (l *Layer) Ready(got core.Interest) core.Interest {
	const hungUp = core.Hangup | core.Failed
	if l.state == shaking {
		if l.shake.away {
			return got & hungUp
		}
		if got&(core.Write|hungUp) != 0 {
			l.flush()
		}
		if got&(core.Read|hungUp) != 0 {
			l.advance()
		}
		if l.state != secured {
			return 0
		}
		return core.Read | core.Write // what was pushed meanwhile, and what came behind the handshake
	}
	if got&(core.Write|hungUp) != 0 && !l.flush() {
		got &^= core.Write
	}
	return got
}

// Pending tells whether there is plaintext, or ciphertext that may become some.
func (l *Layer) Pending() bool { return l.state == secured && l.pending }

// Inner returns the socket below.
func (l *Layer) Inner() core.Socket { return l.Socket }

// Unsent returns how much ciphertext the socket below has not taken.
func (l *Layer) Unsent() int {
	if l.state == shaking && l.shake.away {
		return 0
	}
	return len(l.out)
}

// Recv receives plaintext. Where what came is no data, but KeyUpdate or a part of a record, it reads on, because
// core.ErrWouldBlock means that nothing is left to read; but not beyond len(p) bytes.
func (l *Layer) Recv(p []byte) (int, error) {
	switch l.state {
	case shaking:
		return 0, core.ErrWouldBlock
	case over:
		return 0, core.ErrClosed
	}
	if l.Pending() {
		if n, err := l.decrypt(p); n > 0 || err != nil {
			return n, err
		}
	}
	for read := 0; read < len(p) && len(l.out) <= backlog; {
		b := l.d.Loop().Borrow(core.LargeBuffer)
		k := copy(b[:core.LargeBuffer], l.in) // a part of a header
		n, err := l.Socket.Recv(b[k:min(k+len(p), core.LargeBuffer)])
		if err == nil {
			read += n
			l.in = b[:k+n]
			n, err = l.decrypt(p)
			l.keep()
		} else if err == io.EOF {
			err = ErrTruncated
		}
		l.d.Loop().GiveBack(b)
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, core.ErrWouldBlock
}

// keep copies the ciphertext that is left in a lent buffer.
func (l *Layer) keep() {
	if len(l.in) == 0 {
		l.in = nil
		return
	}
	l.in = append([]byte(nil), l.in...)
}

// decrypt has crypto/tls work on what came. 0, nil: that was no data.
func (l *Layer) decrypt(p []byte) (n int, err error) {
	for n < len(p) && l.recvErr == nil {
		var m int
		m, err = l.conn.Read(p[n:])
		n += m
		if err == errNothing {
			break
		}
		if l.recvErr = err; err != nil {
			l.in = nil
		}
	}
	if len(l.out) > 0 {
		l.flush() // an alert, or the answer to KeyUpdate
	}
	if n > 0 {
		l.pending = n == len(p) || l.recvErr != nil
		return n, nil
	}
	l.pending = false
	return 0, l.recvErr
}

// Send encrypts p and sends it. What it takes goes out; some of it may do so later, when there is room.
func (l *Layer) Send(p []byte) (n int, err error) {
	for n < len(p) {
		switch {
		case l.state == over:
			return n, core.ErrClosed
		case l.state == shaking, !l.flush():
			return n, wouldBlock(n)
		case l.sendErr != nil:
			return n, l.sendErr
		}
		b := l.d.Loop().Borrow(core.LargeBuffer)
		l.out = b
		m, err := l.conn.Write(p[n:min(n+chunk, len(p))])
		if err != nil {
			l.sendErr = err
		}
		n += m
		l.flush()
		if len(l.out) > 0 {
			l.out = append([]byte(nil), l.out...)
		}
		l.d.Loop().GiveBack(b)
	}
	return n, nil
}

// wouldBlock is the error when n bytes were taken.
func wouldBlock(n int) error {
	if n > 0 {
		return nil
	}
	return core.ErrWouldBlock
}

// flush sends ciphertext and tells whether all of it is out. After an error there is none.
func (l *Layer) flush() bool {
	for len(l.out) > 0 {
		n, err := l.Socket.Send(l.out)
		if err == core.ErrWouldBlock {
			return false
		}
		if err != nil {
			l.sendErr, l.out, l.fin = err, nil, false
			return true
		}
		l.out = l.out[n:]
	}
	l.out = nil
	if l.fin {
		l.fin = false
		_ = l.Socket.CloseWrite()
	}
	return true
}

// CloseWrite sends close_notify and then the end of the stream below; reading goes on.
func (l *Layer) CloseWrite() error {
	switch {
	case l.state == over:
		return core.ErrClosed
	case l.state == shaking:
		l.fin = true // for when the handshake is over
		return nil
	case l.sendErr != nil:
		return l.sendErr
	}
	l.fin = true
	err := l.conn.CloseWrite()
	l.flush()
	return err
}

// Finish sends close_notify, as far as the socket below takes it now.
func (l *Layer) Finish() {
	if l.state == secured && l.sendErr == nil {
		_ = l.conn.CloseWrite() // once
		l.flush()
	}
}

// Close sends close_notify, as far as the socket below takes it now, and closes that.
func (l *Layer) Close() error {
	switch l.state {
	case shaking:
		l.shake.abandon()
		l.state = over
		return l.Socket.Close() // the buffers may be a worker's
	case secured:
		l.Finish()
	}
	l.state, l.in, l.out = over, nil, nil
	return l.Socket.Close()
}

// RecvFrom, SendTo and Accept are not for streams of TLS; the socket's own would go past the encryption.
func (l *Layer) RecvFrom([]byte) (int, core.Endpoint, error) {
	return 0, core.Endpoint{}, core.ErrUnsupported
}
func (l *Layer) SendTo([]byte, core.Endpoint) (int, error) { return 0, core.ErrUnsupported }
func (l *Layer) Accept() (core.Socket, error)              { return nil, core.ErrUnsupported }

// fail closes the channel because the handshake failed. What crypto/tls has to say to the peer about that goes out as far as
// the socket takes it now.
func (l *Layer) fail(err error) {
	l.flush()
	l.state = over
	var p *core.PanicError
	if errors.As(err, &p) {
		l.d.Loop().Logger().Error("a func of a tls.Config panicked", "channel", l.d.String(), "panic", p.Value, "stack", string(p.Stack))
	}
	_ = l.d.CloseWith(fmt.Errorf("%w: %w", ErrHandshake, err))
}

// caught makes an error of a panic.
func caught(err *error) {
	if v := recover(); v != nil {
		*err = &core.PanicError{Value: v, Stack: debug.Stack()}
	}
}

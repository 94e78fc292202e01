package tlslayer

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"sync"
	"time"

	"github.com/parley-go/parley/core"
)

// handshake is what a Layer has as long as its handshake is not over: a coroutine that parks when it needs input.
type handshake struct {
	l       *Layer
	client  bool
	offLoop bool
	limit   int // for said; 0: none
	said    int // by the peer, as far as crypto/tls took it
	timeout time.Duration
	timer   *core.Timer

	next  func() (struct{}, bool) // nil: not begun
	stop  func()
	yield func(struct{}) bool // of the coroutine, while it runs or is parked
	err   error               // what came of it
	inErr error               // what the socket answers instead of further input

	running bool // on the loop's goroutine, now
	gone    bool // the layer was closed while it ran there
	away    bool // on a worker: in, out and the coroutine are the worker's

	mu     sync.Mutex // for what a worker and the loop share
	worked bool       // the worker is done
	closed bool       // the layer was closed before that
}

func newLayer(s core.Socket, client bool) *Layer {
	l := &Layer{Socket: s}
	l.shake = &handshake{l: l, client: client, timeout: DefaultHandshakeTimeout}
	if !client {
		l.shake.limit = DefaultHandshakeLimit
	}
	return l
}

// SetHandshakeTimeout replaces DefaultHandshakeTimeout; 0: none.
func (l *Layer) SetHandshakeTimeout(t time.Duration) { l.shake.timeout = t }

// SetHandshakeLimit sets how many bytes the peer may send in the handshake; 0: only crypto/tls has limits, which is a
// client's default. A server's is DefaultHandshakeLimit.
func (l *Layer) SetHandshakeLimit(n int) { l.shake.limit = n }

// SetOffLoop has the handshake's work done on workers (core.Go): its public-key operations take some hundred microseconds
// of CPU, in which others on the loop wait. It costs two changes of goroutine for each handshake. The funcs of the
// tls.Config are called there then.
func (l *Layer) SetOffLoop(on bool) { l.shake.offLoop = on }

// advance gives the handshake what the socket has.
func (l *Layer) advance() {
	b := l.d.Loop().Borrow(core.LargeBuffer)
	n, err := l.Socket.Recv(b[:core.LargeBuffer])
	switch err {
	case nil:
		l.in = append(l.in, b[:n]...)
	case core.ErrWouldBlock:
	case io.EOF:
		l.shake.inErr = io.ErrUnexpectedEOF
	default:
		l.shake.inErr = err
	}
	l.d.Loop().GiveBack(b)
	if h := l.shake; err != core.ErrWouldBlock && (h.next != nil || h.inErr != nil || opening(l.in) || h.tooLong(len(l.in))) {
		l.step()
	}
}

func (h *handshake) tooLong(n int) bool { return h.limit > 0 && n > h.limit }

// step runs the handshake until it needs input, or is over.
func (l *Layer) step() {
	h := l.shake
	if h.next == nil {
		if !h.client {
			l.in = split(l.in)
		}
		h.next, h.stop = iter.Pull(h.run)
	}
	if h.offLoop {
		h.goAway()
		return
	}
	h.running = true
	_, parked := h.next()
	h.running = false
	if h.gone { // a func of the tls.Config closed the channel
		h.stop()
		return
	}
	l.stepped(parked)
}

// stepped sends what the handshake had to say, and looks whether it is over.
func (l *Layer) stepped(parked bool) {
	if parked {
		l.flush()
		return
	}
	h := l.shake
	if h.timer != nil {
		h.timer.Stop()
	}
	if h.err != nil {
		l.fail(h.err)
		return
	}
	l.shake, l.state = nil, secured
	l.pending = true // what the last read of the handshake brought may be data
	if l.fin {
		_ = l.CloseWrite()
	}
	l.flush()
	l.d.Secured()
}

// run is the coroutine.
func (h *handshake) run(yield func(struct{}) bool) {
	defer caught(&h.err)
	h.yield = yield
	h.err = h.l.conn.HandshakeContext(context.Background())
}

// goAway runs a step on a worker.
func (h *handshake) goAway() {
	l := h.l
	h.away, h.worked = true, false
	core.Go(l.d, func(context.Context) (bool, error) {
		_, parked := h.next()
		h.mu.Lock()
		defer h.mu.Unlock()
		h.worked = true
		if h.closed {
			h.stop()
		}
		return parked, nil
	}, func(parked bool, err error) error {
		h.away = false
		if err != nil { // too much work waits
			l.fail(err)
			h.stop()
			return nil
		}
		l.stepped(parked)
		if l.state == secured {
			l.d.Requeue(core.Read | core.Write)
		}
		l.d.Refresh()
		return nil
	})
}

// abandon ends the coroutine, as soon as it can be.
func (h *handshake) abandon() {
	switch {
	case h.running:
		h.gone = true
	case h.away:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.closed = true
		if h.worked {
			h.stop()
		}
	case h.stop != nil:
		h.stop()
	}
}

// wire is the layer as the net.Conn that crypto/tls has. It never touches the socket.
type wire Layer

// errNothing is temporary, for crypto/tls: the Read may be repeated.
var errNothing net.Error = nothing{}

// errTooLong is what a handshake fails with whose limit is reached.
var errTooLong = fmt.Errorf("the peer says more than a handshake may have: %w", core.ErrTooLong)

type nothing struct{}

func (nothing) Error() string   { return "tlslayer: no input" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// Read takes from what came. If that is used up, the handshake's parks.
func (w *wire) Read(p []byte) (int, error) {
	n := w.next(len(p))
	for ; n == 0; n = w.next(len(p)) {
		h := w.shake
		switch {
		case h == nil:
			return 0, errNothing
		case h.inErr != nil:
			return 0, h.inErr
		case !h.yield(struct{}{}):
			return 0, net.ErrClosed
		}
	}
	n = copy(p, w.in[:n])
	if h := w.shake; h != nil {
		if h.said += n; h.tooLong(h.said) {
			return 0, errTooLong
		}
	}
	if w.in = w.in[n:]; len(w.in) == 0 {
		w.in = nil
	}
	return n, nil
}

// Write gathers.
func (w *wire) Write(p []byte) (int, error) {
	w.out = append(w.out, p...)
	return len(p), nil
}

func (w *wire) Close() error                     { return nil }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

func (w *wire) LocalAddr() net.Addr  { return known(w.Socket.LocalAddr()) }
func (w *wire) RemoteAddr() net.Addr { return known(w.Socket.RemoteAddr()) }

// known is an address for those who expect one.
func known(a net.Addr) net.Addr {
	if a == nil {
		return &net.UnixAddr{Net: "unix"}
	}
	return a
}

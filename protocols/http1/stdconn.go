package http1

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// loopConn is a net.Conn whose connection stays on its loop: what a handler gets from Hijack when there is a layer that
// Detach cannot take off, such as TLS. It is the conversation's handler as well.
type loopConn struct {
	c             *chat.Conn
	loop          *core.Loop
	local, remote net.Addr

	mu       sync.Mutex
	canRead  sync.Cond
	canWrite sync.Cond
	posted   bool
	closed   bool  // by the holder
	gone     error // why the connection is closed
	in       []byte
	read     int // of in
	eof      bool
	paused   bool
	resume   bool
	out      []byte
	endWrite bool // CloseWrite was called
	high     bool // the peer does not take what was sent; for the loop alone
	ended    bool // our side is; for the loop alone
	readBy   deadline
	writeBy  deadline
}

func newLoopConn(c *chat.Conn) *loopConn {
	l := &loopConn{c: c, loop: c.Loop(), local: c.LocalAddr(), remote: c.RemoteAddr()}
	l.canRead.L, l.canWrite.L = &l.mu, &l.mu
	return l
}

// CollectIncomingData and the methods up to HandleClose are for the loop's goroutine.
func (l *loopConn) CollectIncomingData(_ *chat.Conn, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	if l.read > 0 {
		l.in = l.in[:copy(l.in, l.in[l.read:])]
		l.read = 0
	}
	if l.in = append(l.in, data...); len(l.in) >= stdHigh && !l.paused {
		l.paused = true
		l.c.Pause()
	}
	l.canRead.Broadcast()
	return nil
}

func (l *loopConn) FoundTerminator(*chat.Conn) error { return nil }

func (l *loopConn) HandleEOF(*chat.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.eof = true
	l.canRead.Broadcast()
	return nil
}

func (l *loopConn) HandleHigh(*chat.Conn) error {
	l.high = true
	return nil
}

// HandleLow: the peer has taken most of what was sent.
func (l *loopConn) HandleLow(*chat.Conn) error {
	l.high = false
	l.pump()
	return nil
}

// HandleShutdown does nothing: whoever has the connection may use it up to the end of the grace.
func (l *loopConn) HandleShutdown(*chat.Conn) error { return nil }

func (l *loopConn) HandleClose(_ *chat.Conn, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone = cause; cause == nil {
		l.gone = net.ErrClosed
	}
	l.canRead.Broadcast()
	l.canWrite.Broadcast()
}

// post has pump run on the loop's goroutine. l.mu is held.
func (l *loopConn) post() {
	if l.posted || l.gone != nil {
		return
	}
	l.posted = true
	if !l.loop.Post(l.pump) {
		go func() {
			for l.isOpen() && !l.loop.Post(l.pump) {
				pauseBriefly()
			}
		}()
	}
}

func (l *loopConn) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone == nil
}

// pump does what was asked for.
func (l *loopConn) pump() {
	l.mu.Lock()
	l.posted = false
	if l.gone != nil {
		l.mu.Unlock()
		return
	}
	var out []byte
	switch {
	case l.high && !l.closed: // HandleLow comes here
	case l.c.Queued() > buffered.DefaultMarks.High && !l.closed:
		l.post() // it is not known yet whether the peer takes that
	default:
		out, l.out = l.out, nil
		l.canWrite.Broadcast()
	}
	resume, closed, endWrite := l.resume, l.closed, l.endWrite && len(l.out) == 0
	l.resume = false
	l.mu.Unlock()
	if resume {
		l.c.Resume()
	}
	if len(out) > 0 {
		_ = l.c.Push(out) // that it is closed is told by HandleClose
	}
	switch {
	case closed:
		l.c.CloseWhenDone()
	case endWrite && !l.ended:
		l.ended = true
		_ = l.c.CloseWrite()
	}
}

// Read waits for input.
func (l *loopConn) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.closed:
			return 0, net.ErrClosed
		case l.readBy.passed:
			return 0, errDeadline
		case len(p) == 0:
			return 0, nil
		case l.read < len(l.in):
			n := copy(p, l.in[l.read:])
			l.read += n
			if l.paused && len(l.in)-l.read <= stdLow {
				l.paused, l.resume = false, true
				l.post()
			}
			return n, nil
		case l.eof:
			return 0, io.EOF
		case l.gone != nil:
			return 0, l.gone
		}
		l.canRead.Wait()
	}
}

// Write waits while the peer does not take what was written before.
func (l *loopConn) Write(p []byte) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n < len(p) {
		switch {
		case l.closed || l.endWrite:
			return n, net.ErrClosed
		case l.gone != nil:
			return n, l.gone
		case l.writeBy.passed:
			return n, errDeadline
		case len(l.out) >= stdHigh:
			l.canWrite.Wait()
			continue
		}
		m := min(len(p)-n, stdHigh-len(l.out))
		l.out = append(l.out, p[n:n+m]...)
		n += m
		l.post()
	}
	return n, nil
}

// Close closes the connection when what was written is sent.
func (l *loopConn) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.closed = true
	l.in, l.read = nil, 0
	l.readBy.stop()
	l.writeBy.stop()
	l.canRead.Broadcast()
	l.canWrite.Broadcast()
	l.post()
	return nil
}

// CloseWrite ends our side of the connection.
func (l *loopConn) CloseWrite() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.gone != nil {
		return net.ErrClosed
	}
	l.endWrite = true
	l.post()
	return nil
}

func (l *loopConn) LocalAddr() net.Addr  { return l.local }
func (l *loopConn) RemoteAddr() net.Addr { return l.remote }

func (l *loopConn) SetDeadline(t time.Time) error {
	_ = l.SetReadDeadline(t)
	return l.SetWriteDeadline(t)
}

func (l *loopConn) SetReadDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.readBy.set(t, &l.mu, &l.canRead)
	return nil
}

func (l *loopConn) SetWriteDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.writeBy.set(t, &l.mu, &l.canWrite)
	return nil
}

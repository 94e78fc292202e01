package proxyproto

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// Accept returns what a core.ListenConfig needs to make conversations of connections that begin with a header. It is
// chat.Accept, but newHandler is called when the header has come. A connection whose header does not come has no handler:
// it is closed, and logged if that is the proxy's fault.
//
// The value may serve several listeners, also on several loops; PerClient counts for all of them together.
func Accept(newHandler func(*chat.Conn) chat.Handler, o Options) core.AcceptedHandler {
	return &accepter{newHandler: newHandler, o: o, open: make(map[netip.Prefix]int)}
}

type accepter struct {
	newHandler func(*chat.Conn) chat.Handler
	o          Options

	mu   sync.Mutex // loops may share it
	open map[netip.Prefix]int
}

func (a *accepter) HandleAccepted(ln *core.Listener, s core.Socket) error {
	layer, err := New(s, a.o)
	if err != nil {
		ln.Loop().Logger().Warn("connection refused", "from", s.RemoteAddr(), "err", err)
		return s.Close()
	}
	_, err = chat.Attach(ln.Loop(), layer, func(c *chat.Conn) chat.Handler {
		layer.reading.c = c
		return &reception{a, layer}
	})
	return err
}

// reception is the handler of a conversation that has not begun. Nothing can be received before the header is there; then
// the layer sets a terminator that is found at once, in the same event and in front of all input.
type reception struct {
	a *accepter
	l *Layer
}

func (r *reception) CollectIncomingData(*chat.Conn, []byte) error { return nil }

func (r *reception) FoundTerminator(c *chat.Conn) error {
	if !r.a.admit(r.l) {
		refusal := r.a.o.Refusal
		if f := r.a.o.RefusalFunc; f != nil {
			refusal = f(c.Loop().Now())
		}
		_ = c.PushString(refusal)
		c.CloseWhenDoneWith(ErrTooMany)
		return nil
	}
	h := r.a.newHandler(c)
	if c.Closed() {
		return nil
	}
	return c.SetHandler(h)
}

// HandleClose: the conversation ends before it began.
func (r *reception) HandleClose(c *chat.Conn, cause error) {
	for _, err := range []error{ErrHeader, ErrTimeout, ErrTooMany} {
		if errors.Is(cause, err) {
			c.Loop().Logger().Warn("connection refused", "from", r.l.RemoteAddr(), "err", cause)
		}
	}
}

// admit counts a conversation, or answers that it is one too many.
func (a *accepter) admit(l *Layer) bool {
	ip := l.h.client()
	if a.o.PerClient <= 0 || !ip.IsValid() {
		return true
	}
	client := perClient(ip)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[client] >= a.o.PerClient {
		return false
	}
	a.open[client]++
	l.release = func() { a.leave(client) }
	return true
}

func (a *accepter) leave(client netip.Prefix) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[client]--; a.open[client] <= 0 {
		delete(a.open, client)
	}
}

// perClient is what one client may have: see core.Limit.PerAddr.
func perClient(ip netip.Addr) netip.Prefix {
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

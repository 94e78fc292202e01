package http1

import (
	"errors"
	"net/http"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// Errors of Upgrade.
var ErrNoUpgrade = errors.New("http1: the request does not ask for this upgrade")

// Upgrade answers with 101 and hands the connection over: newHandler is called once, from here, and what it returns gets
// everything that the client sends from now on. protocol is what the Upgrade field says, say "websocket"; fields that
// were set go out with the answer. Otherwise it is Hijack. Errors: ErrNoUpgrade if the request does not ask for that, is of
// HTTP/1.0, or has a body; ErrSent, ErrHeader, core.ErrClosed. RFC 9110 section 7.8
func (w *ResponseWriter) Upgrade(protocol string, newHandler func(*chat.Conn) chat.Handler) error {
	x := w.x
	h := &x.req.head
	switch {
	case x.s == nil || x.s.x != x:
		return core.ErrClosed
	case h.minor == 0 || h.known&(hasUpgrade|saysUpgrade) != hasUpgrade|saysUpgrade || !h.HasToken("Upgrade", protocol) ||
		x.flags&xBodyOver == 0:
		return ErrNoUpgrade
	case x.flags&xHeadSent != 0:
		return ErrSent
	case w.err != nil:
		return w.err
	}
	x.s.w.clock()
	p := append(appendStatusLine(nil, http.StatusSwitchingProtocols), x.s.w.date...)
	p = append(p, w.fields...)
	p = appendField(appendField(p, "Upgrade", protocol), "Connection", "Upgrade")
	if err := x.s.c.Push(append(p, "\r\n"...)); err != nil {
		return err
	}
	w.status = http.StatusSwitchingProtocols
	return w.Hijack(newHandler)
}

// Hijack hands the connection over as it is, with what was written so far and nothing else: for CONNECT, and for
// net/http's Hijacker. newHandler is called once, from here, and what it returns gets everything that the client sends
// from now on, a body that nobody asked for included. The request is over: OnDone's func and Server.Log are called from
// here, and r and w are not to be used any more. The connection's timeouts are off, its terminator is None. Errors:
// core.ErrClosed if the response is complete or the connection closed; what chat.Conn.SetHandler returns, and the connection
// is closed then.
func (w *ResponseWriter) Hijack(newHandler func(*chat.Conn) chat.Handler) error {
	x := w.x
	s := x.s
	if s == nil || s.x != x || x.flags&xFinished != 0 { // in OnDone's func it is too late, too
		return core.ErrClosed
	}
	c := s.c
	if s.timer != nil {
		s.timer.Stop()
	}
	x.flags |= xHeadSent | xFinished | xKept
	s.mode, s.gone = modeOver, true
	s.srv.totals.open.Add(-1)
	defer s.srv.leave(s.w) // behind end, which counts there
	x.end(nil)
	c.SetWriteTimeout(0)
	c.SetWriteRate(0)
	c.SetTerminator(chat.None)
	c.SetLimit(chat.DefaultLimit)
	c.Resume()
	if err := c.SetHandler(newHandler(c)); err != nil {
		_ = c.CloseWith(err)
		return err
	}
	return nil
}

package http1

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
)

// connState is what a connection of a Client is about.
type connState uint8

const (
	connDialling  connState = iota
	connProxyTLS            // the handshake with the proxy
	connTunnel              // the proxy's answer to CONNECT
	connTLS                 // the handshake with the server
	connIdle                // nothing is asked for
	connHead                // of a response
	connBody                // by length, or up to the end of the connection
	connChunkSize           // the line in front of a chunk
	connChunk               // its data
	connChunkEnd            // the CRLF behind those
	connTrailers
)

var connStates = [...]string{"connecting", "the TLS handshake with the proxy", "the proxy's answer to CONNECT",
	"the TLS handshake", "idle", "the response", "the response's body"}

func (s connState) String() string { return connStates[min(s, connBody)] }

// clientConn is a connection of a Client, and the handler of its conversation.
type clientConn struct {
	cl    *Client
	host  *clientHost
	c     *chat.Conn
	call  *Call // nil: none
	state connState

	pooled bool                 // is in Client.idle
	tls    *tls.ConnectionState // with the server; nil: in the clear
	used   bool                 // for a request before this one

	// The request.
	out      *bodyReader // nil: no body, or it is sent
	sent     bool        // all of it is handed to the conversation
	awaiting bool        // 100 Continue
	timer    *core.Timer // of what the state waits for

	// The response.
	buf        []byte // its head
	lineAt     int    // where the line begins in it that prescan is in
	line       []byte // of chunk framing, or the trailer section
	section    []byte // the trailer section so far
	head       head
	trailers   head
	framing    framing
	begun      bool  // an octet of the answer came
	reuse      bool  // the connection can be used for another request
	drop       bool  // the body is not wanted
	octets     int64 // of the body
	limit      int64 // of the body; 0: none
	extensions int
	interim    int
}

// close closes the connection. A call that it has must have been taken off it, or is told the cause.
func (cc *clientConn) close(cause error) {
	cc.cl.unpool(cc)
	_ = cc.c.CloseWith(cause)
}

// fail ends the call with an error, and the connection.
func (cc *clientConn) fail(err error) {
	if c := cc.call; c != nil {
		c.fail(err)
		return
	}
	cc.close(err)
}

// bad is a response that cannot be trusted.
func (cc *clientConn) bad(e *Error) { cc.fail(badResponse(e)) }

// wait starts the clock of a state; not positive: it stops it.
func (cc *clientConn) wait(d time.Duration) {
	switch {
	case d <= 0:
		if cc.timer != nil {
			cc.timer.Stop()
		}
	case cc.timer == nil:
		cc.timer = cc.c.AfterFunc(d, cc.late)
	default:
		cc.timer.Reset(d)
	}
}

// late: the time is over.
func (cc *clientConn) late() {
	if cc.awaiting {
		cc.proceed()
		return
	}
	cc.fail(fmt.Errorf("http1: %s: %w", cc.state, core.ErrTimeout))
}

// HandleConnect: the connection is there.
func (cc *clientConn) HandleConnect(*chat.Conn) error {
	if p := cc.host.proxy; p != nil && p.Scheme == "https" {
		cc.state = connProxyTLS
		cc.secure(p, true)
		return nil
	}
	cc.connected()
	return nil
}

// connected: server or proxy can be spoken to.
func (cc *clientConn) connected() {
	switch {
	case cc.host.key.scheme != "https":
		cc.begin()
	case cc.host.proxy == nil:
		cc.state = connTLS
		cc.secure(cc.call.url, false)
	default:
		addr := cc.host.key.addr
		p := append(cc.cl.scratch[:0], "CONNECT "...)
		p = append(append(p, addr...), " HTTP/1.1\r\nHost: "...)
		p = append(append(p, addr...), "\r\n"...)
		p = clientField(p, "User-Agent", cc.cl.UserAgent)
		p = append(appendProxyAuth(p, cc.host.proxy), "\r\n"...)
		cc.cl.scratch = p
		_ = cc.c.Push(p) // if it is closed, HandleClose is on its way
		cc.expectHead(connTunnel)
		cc.wait(cc.cl.timeouts.Head)
	}
}

// secure begins a handshake. What was read behind the proxy's answer was not protected.
func (cc *clientConn) secure(u *url.URL, proxy bool) {
	cfg := cc.cl.TLSConfig.Clone()
	if cfg == nil {
		cfg = new(tls.Config)
	}
	if cfg.ServerName == "" || proxy {
		cfg.ServerName = u.Hostname()
	}
	if len(cfg.NextProtos) == 0 {
		cfg.NextProtos = []string{"http/1.1"}
	}
	cc.wait(cc.cl.timeouts.TLS)
	dropped, err := cc.c.Upgrade(func(s core.Socket) (core.Layered, error) {
		layer := tlslayer.Client(s, cfg)
		layer.SetHandshakeTimeout(0) // there is a timer
		return layer, nil
	}, false)
	switch {
	case err != nil:
		cc.fail(err)
	case dropped > 0:
		cc.fail(ErrInjected)
	}
}

// HandleSecure: a handshake is over.
func (cc *clientConn) HandleSecure(_ *chat.Conn, state tls.ConnectionState) error {
	cc.wait(0)
	switch cc.state {
	case connProxyTLS:
		cc.connected()
	case connTLS:
		cc.tls = &state
		cc.begin()
	}
	return nil
}

// expectHead has a head collected.
func (cc *clientConn) expectHead(s connState) {
	cc.state = s
	for _, p := range []*[]byte{&cc.buf, &cc.line, &cc.section} {
		if *p = (*p)[:0]; cap(*p) > keepBuffer {
			*p = nil
		}
	}
	cc.lineAt, cc.begun = 0, false
	cc.c.SetTerminator(headEnd)
	cc.c.SetLimit(cc.cl.limits.StatusLine + cc.cl.limits.FieldBytes + 4)
}

// begin sends the request of the call.
func (cc *clientConn) begin() {
	c := cc.call
	cc.c.SetIdleTimeout(0)
	cc.expectHead(connHead)
	cc.trailers.begin(nil)
	cc.sent, cc.awaiting, cc.reuse, cc.drop = false, false, false, false
	cc.octets, cc.extensions, cc.interim = 0, 0, 0
	if cc.limit = c.out.BodyLimit; cc.limit == 0 {
		cc.limit = cc.cl.limits.Body
	}
	c.resp = Response{c, cc}
	cc.cl.scratch = c.appendHead(cc.cl.scratch[:0], cc)
	_ = cc.c.Push(cc.cl.scratch)
	switch {
	case c.body.src == nil || c.body.length == 0:
		cc.requestSent()
	case c.expects():
		cc.awaiting = true
		cc.wait(cc.cl.timeouts.Continue)
	default:
		cc.sendBody()
	}
}

// proceed sends the body that waited for "100 Continue".
func (cc *clientConn) proceed() {
	cc.awaiting = false
	cc.wait(0)
	cc.sendBody()
}

// requestSent: the conversation has all of the request.
func (cc *clientConn) requestSent() {
	cc.sent, cc.out = true, nil
	if cc.state == connHead {
		cc.wait(cc.cl.timeouts.Head)
	}
}

// HandleEOF: the server is done.
func (cc *clientConn) HandleEOF(*chat.Conn) error {
	switch {
	case cc.call == nil:
		cc.close(nil)
	case cc.state == connBody && cc.framing == untilClose:
		cc.reuse = false
		cc.bodyComplete()
	default:
		cc.gone(io.EOF)
	}
	return nil
}

// gone: the connection ended, and there is a call.
func (cc *clientConn) gone(cause error) {
	c := cc.call
	if cc.used && !cc.begun && cc.state == connHead && broken(cause) && c.mayRetry() {
		c.retried = true
		c.cl.stats.Retried++
		cc.call = nil
		cc.close(nil)
		if err := c.restart(); err != nil {
			c.end(err)
		}
		return
	}
	cc.fail(cc.explain(cause))
}

// broken tells whether an error is the end of a connection.
func broken(err error) bool {
	var errno syscall.Errno
	return errors.Is(err, io.EOF) || errors.Is(err, tlslayer.ErrTruncated) || errors.As(err, &errno)
}

// explain says what the end of a connection means for the call.
func (cc *clientConn) explain(cause error) error {
	if cause == nil {
		cause = core.ErrClosed
	}
	if errors.Is(cause, core.ErrTimeout) && cc.state != connDialling {
		return fmt.Errorf("http1: the server takes nothing of the request: %w", cause)
	}
	if !errors.Is(cause, io.EOF) && !errors.Is(cause, tlslayer.ErrTruncated) {
		return cause
	}
	switch {
	case cc.state < connIdle:
		return fmt.Errorf("http1: %s: %w", cc.state, io.ErrUnexpectedEOF)
	case !cc.begun:
		return fmt.Errorf("http1: the connection was closed without a response: %w", io.ErrUnexpectedEOF)
	case cc.state == connHead:
		return fmt.Errorf("http1: the response is cut short within its head: %w", io.ErrUnexpectedEOF)
	case cc.framing == lengthBody:
		return fmt.Errorf("http1: the response is cut short: %d of %d octets came: %w", cc.octets, cc.head.length, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("http1: the response is cut short after %d octets: %w", cc.octets, io.ErrUnexpectedEOF)
}

// mayRetry tells whether the request can be made once more: RFC 9110 section 9.2.2, RFC 9112 section 9.3.1.
func (c *Call) mayRetry() bool {
	switch c.method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
	default:
		if !c.out.Idempotent {
			return false
		}
	}
	return !c.retried && c.replayable()
}

// HandleTimeout: nothing came for a while.
func (cc *clientConn) HandleTimeout(*chat.Conn) error {
	switch {
	case cc.call == nil:
		cc.close(nil)
	case cc.c.Paused():
	default:
		cc.fail(fmt.Errorf("http1: %s: %w", cc.state, core.ErrTimeout))
	}
	return nil
}

// HandleError: a handler panicked, or what reads the body did.
func (cc *clientConn) HandleError(conn *chat.Conn, err error) {
	conn.Core().LogError(err)
	cc.fail(err)
}

// HandleShutdown: a call that is under way may still come to its end, within the grace of the shutdown.
func (cc *clientConn) HandleShutdown(*chat.Conn) error {
	cl := cc.cl
	if cl.closed == nil {
		cl.closed = core.ErrShutdown
	}
	cl.failWaiting(core.ErrShutdown)
	switch {
	case cc.call == nil:
		cc.close(nil)
	case cc.state < connIdle:
		cc.fail(core.ErrShutdown)
	}
	return nil
}

// HandleClose: the end of the connection, for whatever reason.
func (cc *clientConn) HandleClose(_ *chat.Conn, cause error) {
	defer cc.cl.lost(cc, cause)
	if cc.call != nil {
		cc.gone(cause)
	}
}

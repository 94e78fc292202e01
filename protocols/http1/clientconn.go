package http1

import (
	"bytes"
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

var connStates = [...]string{"connecting", "the TLS handshake with the proxy", "the proxy's answer to CONNECT", "the TLS handshake",
	"idle", "the response", "the response's body", "the response's body", "the response's body", "the response's body", "the response's body"}

func (s connState) String() string { return connStates[s] }

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
	cc.buf, cc.lineAt, cc.begun = cc.buf[:0], 0, false
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

// CollectIncomingData takes a piece of what the server sends.
func (cc *clientConn) CollectIncomingData(_ *chat.Conn, data []byte) error {
	switch cc.state {
	case connHead, connTunnel:
		cc.begun = true
		cc.buf = append(cc.buf, data...)
		cc.look(len(data))
	case connBody, connChunk:
		cc.deliver(data)
	case connChunkSize, connTrailers:
		if bytes.IndexByte(data, '\n') >= 0 {
			cc.bad(errBareLF)
			return nil
		}
		cc.line = append(cc.line, data...)
	case connChunkEnd:
		cc.line = append(cc.line, data...)
	default: // nobody asked
		cc.fail(badResponse(bad("octets that nobody asked for")))
	}
	return nil
}

// look looks at the last octets of a head, which are new, and refuses it as soon as it can be told that it is none.
func (cc *clientConn) look(last int) bool {
	const start = "HTTP/1."
	if n := min(len(cc.buf), len(start)); string(cc.buf[:n]) != start[:n] {
		if n > len("HTTP/") && string(cc.buf[:len("HTTP/")]) == "HTTP/" {
			cc.bad(errMajor)
		} else {
			cc.bad(errNotHTTP)
		}
		return false
	}
	var err *Error
	cc.lineAt, err = prescan(cc.buf, cc.lineAt, len(cc.buf)-last, &cc.cl.headers)
	if err != nil {
		if err == errRequestLine {
			err = errStatusLine
		}
		cc.bad(err)
	}
	return err == nil
}

// FoundTerminator: what the state waits for is there.
func (cc *clientConn) FoundTerminator(*chat.Conn) error {
	switch cc.state {
	case connHead, connTunnel:
		cc.begun = true
		cc.buf = append(cc.buf, "\r\n"...)
		if !cc.look(2) {
			return nil
		}
		if err := cc.head.parseResponse(cc.buf, &cc.cl.headers); err != nil {
			cc.bad(err)
			return nil
		}
		if cc.state == connTunnel {
			cc.tunnelled()
		} else {
			cc.headComplete()
		}
	case connBody:
		cc.bodyComplete()
	case connChunkSize:
		cc.chunkBegins()
	case connChunk:
		cc.state = connChunkEnd
		cc.c.SetTerminator(chat.Count(2))
	case connChunkEnd:
		if string(cc.line) != "\r\n" {
			cc.bad(errChunkEnd)
			return nil
		}
		cc.awaitChunk()
	case connTrailers:
		cc.trailerLine()
	}
	return nil
}

// HandleTooLong: a head, or a line of chunk framing, has no end.
func (cc *clientConn) HandleTooLong(*chat.Conn) error {
	switch cc.state {
	case connChunkSize:
		cc.bad(errChunkLine)
	case connTrailers:
		cc.bad(errTrailer)
	default:
		cc.bad(errHead)
	}
	return nil
}

// tunnelled takes the proxy's answer to CONNECT. What it says about a body of 2xx does not count: RFC 9110 section 9.3.6.
func (cc *clientConn) tunnelled() {
	h := &cc.head
	switch {
	case h.status < 200 && h.status != http.StatusSwitchingProtocols:
		if cc.interim++; exceeds(cc.interim, cc.cl.limits.Interim) {
			cc.bad(errInterim)
			return
		}
		cc.buf, cc.lineAt = cc.buf[:0], 0
	case h.status/100 != 2:
		cc.fail(&ConnectError{h.status, string(h.slice(h.reason))})
	default:
		cc.state = connTLS
		cc.secure(cc.call.url, false)
	}
}

var (
	errInterim = bad("too many interim responses")
	errUpgrade = bad("101 Switching Protocols, which was not asked for")
)

// headComplete decides what becomes of a response.
func (cc *clientConn) headComplete() {
	h, c := &cc.head, cc.call
	if h.status < 200 {
		cc.interimResponse()
		return
	}
	f, err := h.responseFraming(c.method)
	if err != nil {
		cc.bad(err)
		return
	}
	cc.framing = f
	cc.wait(0)
	if cc.awaiting { // it is not wanted, and the server may wait for it all the same: RFC 9110 section 10.1.1
		cc.awaiting = false
	}
	cc.reuse = h.persistent() && f != untilClose && !cc.cl.NoKeepAlive && !wantsClose(c.header)
	if cc.cl.Jar != nil {
		keepCookies(cc.cl.Jar, c.url, &h.Fields)
	}
	again, e := c.followUp()
	switch {
	case cc.call != c || cc.c.Closed(): // cancelled
		return
	case e != nil:
		c.fail(e)
		return
	}
	switch {
	case again != nil:
		c.again, cc.drop = again, true
		if f == untilClose || !cc.sent || f == lengthBody && exceeds(h.length, cc.cl.limits.Drain) {
			cc.giveUp()
			return
		}
	case f == lengthBody && cc.limit > 0 && h.length > cc.limit:
		cc.fail(tooLarge(cc.limit))
		return
	default:
		if err := c.h.HandleResponse(c, &c.resp); err != nil {
			cc.fail(err)
			return
		}
		if cc.call != c || cc.c.Closed() { // cancelled
			return
		}
	}
	switch f {
	case noBody:
		cc.bodyComplete()
		return
	case lengthBody:
		if h.length == 0 {
			cc.bodyComplete()
			return
		}
		cc.state = connBody
		cc.c.SetTerminator(chat.Count(h.length))
	case chunkedBody:
		cc.awaitChunk()
	default:
		cc.state = connBody
		cc.c.SetTerminator(chat.None)
	}
	cc.c.SetIdleTimeout(max(cc.cl.timeouts.Read, 0))
	cc.hold()
}

// interimResponse takes 1xx: RFC 9110 section 15.2.
func (cc *clientConn) interimResponse() {
	c := cc.call
	cc.interim++
	switch {
	case cc.head.status == http.StatusSwitchingProtocols:
		cc.bad(errUpgrade)
		return
	case exceeds(cc.interim, cc.cl.limits.Interim):
		cc.bad(errInterim)
		return
	}
	if h, ok := core.As[InterimHandler](c.h); ok {
		cc.framing = noBody
		if err := h.HandleInterim(c, &c.resp); err != nil {
			cc.fail(err)
			return
		}
		if cc.call != c || cc.c.Closed() {
			return
		}
	}
	cc.buf, cc.lineAt = cc.buf[:0], 0
	if cc.head.status == http.StatusContinue && cc.awaiting {
		cc.proceed()
	}
}

// keepCookies gives the cookies of a response to a jar.
func keepCookies(jar http.CookieJar, u *url.URL, f *Fields) {
	var cookies []*http.Cookie
	for v := range f.Values("Set-Cookie") {
		if k, err := http.ParseSetCookie(string(v)); err == nil { // others are ignored: RFC 6265 section 5.2
			cookies = append(cookies, k)
		}
	}
	if len(cookies) > 0 {
		jar.SetCookies(u, cookies)
	}
}

// hold stops or resumes the input, as the call wants it.
func (cc *clientConn) hold() {
	paused := cc.state >= connBody && cc.call != nil && cc.call.paused && !cc.drop
	switch {
	case paused == cc.c.Paused():
	case paused:
		cc.c.Pause()
	default:
		cc.c.Resume()
		if cc.state >= connBody {
			cc.c.SetIdleTimeout(max(cc.cl.timeouts.Read, 0)) // begins anew
		}
	}
}

// deliver hands on a piece of the body.
func (cc *clientConn) deliver(p []byte) {
	c := cc.call
	cc.octets += int64(len(p))
	cc.cl.stats.Received += uint64(len(p))
	switch {
	case cc.drop:
		if exceeds(cc.octets, cc.cl.limits.Drain) {
			cc.giveUp()
		}
		return
	case cc.limit > 0 && cc.octets > cc.limit:
		cc.fail(tooLarge(cc.limit))
		return
	}
	c.received = cc.octets
	if err := c.h.HandleBody(c, p); err != nil && cc.call == c {
		cc.fail(err)
	}
}

// awaitChunk expects the line in front of a chunk.
func (cc *clientConn) awaitChunk() {
	cc.state = connChunkSize
	cc.line = cc.line[:0]
	cc.c.SetTerminator(chat.CRLF)
	cc.c.SetLimit(cc.cl.limits.ChunkLine)
}

func (cc *clientConn) chunkBegins() {
	size, ext, err := chunkSize(cc.line)
	if cc.extensions += ext; err == nil && cc.extensions > cc.cl.limits.ChunkExtensions {
		err = errChunkExtension
	}
	if err != nil {
		cc.bad(err)
		return
	}
	cc.line = cc.line[:0]
	switch {
	case size == 0:
		cc.state = connTrailers
		cc.section = cc.section[:0]
		cc.c.SetLimit(cc.cl.limits.Trailers)
	case cc.limit > 0 && !cc.drop && size > cc.limit-cc.octets:
		cc.fail(tooLarge(cc.limit))
	default:
		cc.state = connChunk
		cc.c.SetTerminator(chat.Count(size))
	}
}

// trailerLine takes a line of the trailer section, or the empty one behind it.
func (cc *clientConn) trailerLine() {
	if len(cc.line) == 0 {
		if err := cc.trailers.parseTrailers(cc.section, &cc.cl.headers); err != nil {
			cc.bad(err)
			return
		}
		cc.bodyComplete()
		return
	}
	cc.section = append(append(cc.section, cc.line...), "\r\n"...)
	cc.line = cc.line[:0]
	if len(cc.section) > cc.cl.limits.Trailers {
		cc.bad(errTrailer)
	}
}

// giveUp ends a response whose body is not wanted before it is there, with its connection.
func (cc *clientConn) giveUp() {
	c := cc.call
	cc.call = nil
	cc.close(nil)
	cc.followed(c)
}

// followed does what is to be done after a response that is not the handler's.
func (cc *clientConn) followed(c *Call) {
	if err := c.again(); err != nil {
		c.conn = nil
		c.end(err)
	}
}

// bodyComplete: the response is whole. What comes next on the connection, before something is asked for, is not a response.
func (cc *clientConn) bodyComplete() {
	c := cc.call
	cc.call, c.conn = nil, nil
	cc.state = connIdle
	cc.wait(0)
	cc.c.SetTerminator(chat.None)
	if cc.c.Paused() {
		cc.c.Resume()
	}
	if cc.reuse && cc.sent {
		cc.used = true
		cc.cl.free(cc)
	} else {
		cc.close(nil)
	}
	if c.again != nil {
		cc.followed(c)
		return
	}
	c.end(nil)
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

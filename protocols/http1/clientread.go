package http1

import (
	"bytes"
	"net/http"
	"net/url"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

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

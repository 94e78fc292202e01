package http1

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"

	"github.com/parley-go/parley/chat"
)

// Request is a request that came in. Its methods are for the loop's goroutine. What it returns as []byte is borrowed, as is
// the Request itself: see Handler.
type Request struct {
	x       *exchange
	head    head
	framing framing
	limit   int64 // of the body; negative: none
	asked
}

// asked is what came with a request's body, and what was made for its handler: at first nothing.
type asked struct {
	received int64 // octets of the body so far
	trailers *head
	ctx      context.Context
	cancel   context.CancelCauseFunc
	url      *url.URL
}

// Method returns the method, such as http.MethodGet. It may be any token; RFC 9110 section 9.1 wants 501 for one that is not
// known, 405 with Allow for one that does not go with the target.
func (r *Request) Method() string { return r.head.method }

// Minor is the minor version of HTTP: 0 for HTTP/1.0, 1 for HTTP/1.1.
func (r *Request) Minor() int { return int(r.head.minor) }

// Proto is the version as in an http.Request.
func (r *Request) Proto() string {
	switch r.head.minor {
	case 0:
		return "HTTP/1.0"
	case 1:
		return "HTTP/1.1"
	}
	return "HTTP/1." + string(rune('0'+r.head.minor))
}

// Target returns the request target as it was received: "/path?query", a whole URL, "host:port" of CONNECT or "*" of
// OPTIONS. RFC 9112 section 3.2
func (r *Request) Target() []byte { return r.head.slice(r.head.target) }

// Path returns the path of the target, as it was received: percent-encoded, dots and all. It begins with a "/", or it is
// "*", or empty with CONNECT. RawQuery returns what stands behind the "?".
func (r *Request) Path() []byte {
	if r.head.form == absoluteForm && r.head.path.from == r.head.path.to {
		if r.head.method == http.MethodOptions { // RFC 9112 section 3.2.4
			return []byte("*")
		}
		return []byte("/")
	}
	return r.head.slice(r.head.path)
}

// RawQuery: see Path.
func (r *Request) RawQuery() []byte { return r.head.slice(r.head.query) }

// Host returns the host that the request is for, with its port if there is one: of the target if that is a whole URL, or
// else of the Host field; it may be empty.
func (r *Request) Host() []byte { return r.head.slice(r.head.host) }

// URL returns the target parsed, as http.Request.URL has it. It is made when it is asked for first, and may be kept. The
// error is of what package url takes exception to.
func (r *Request) URL() (*url.URL, error) {
	if r.url != nil {
		return r.url, nil
	}
	target := string(r.Target())
	if r.head.form == authorityForm {
		r.url = &url.URL{Host: target}
		return r.url, nil
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, &Error{http.StatusBadRequest, err.Error()}
	}
	r.url = u
	return u, nil
}

// Field returns the value of the first header field of that name, in whatever case; nil if there is none.
func (r *Request) Field(name string) []byte { return r.head.Get(name) }

// Fields returns the header fields.
func (r *Request) Fields() *Fields { return &r.head.Fields }

// Header makes an http.Header of the header fields, without Host as http.Request.Header. It may be kept.
func (r *Request) Header() http.Header {
	h := r.head.Header()
	delete(h, "Host")
	return h
}

// Trailers returns the trailer fields, once the body is there; nil if there are none. Nothing that concerns framing,
// routing or authentication should be taken from them: RFC 9110 section 6.5.1.
func (r *Request) Trailers() *Fields {
	if r.trailers == nil || r.trailers.Len() == 0 {
		return nil
	}
	return &r.trailers.Fields
}

// ContentLength is how long the body is, in octets: 0 if there is none, -1 if it is not known beforehand.
func (r *Request) ContentLength() int64 {
	switch r.framing {
	case lengthBody:
		return r.head.length
	case chunkedBody:
		return -1
	}
	return 0
}

// Conn returns the connection. Leave its handler, terminator and input alone, and write to the ResponseWriter.
func (r *Request) Conn() *chat.Conn {
	if r.x.s == nil {
		return nil
	}
	return r.x.s.c
}

// RemoteAddr returns the client's address, with Server.ProxyFrom that which the proxy tells; nil if there is none.
func (r *Request) RemoteAddr() net.Addr {
	if r.x.s == nil {
		return nil
	}
	return r.x.s.c.RemoteAddr()
}

// TLS returns the state of the connection's TLS, nil without.
func (r *Request) TLS() *tls.ConnectionState {
	if r.x.s == nil {
		return nil
	}
	return r.x.s.tls
}

// Context returns a context that is cancelled when the response is complete, or when the client ended its side of the
// connection or is gone; the cause says which. It may be kept, and used on any goroutine.
func (r *Request) Context() context.Context {
	if r.ctx == nil {
		parent := context.Background()
		if r.x.s != nil {
			parent = r.x.s.c.Context()
		}
		r.ctx, r.cancel = context.WithCancelCause(parent)
		if r.x.s == nil || r.x.s.eof {
			r.cancel(net.ErrClosed)
		}
	}
	return r.ctx
}

// SetBodyLimit replaces Limits.Body for this request, in octets; negative: no bound. It is for before OnBody and ReadAll.
func (r *Request) SetBodyLimit(n int64) { r.limit = n }

// OnBody asks for the body: f is called with each piece of it as it comes, never empty, which is borrowed until it
// returns, and at the end with nil and last. A request without a body has just that. f is called on the loop's
// goroutine, never from inside OnBody. It is not called with last when the body is cut off: see ResponseWriter.OnDone.
//
// What f returns is as of Handler.ServeHTTP. The response is complete when f has returned with last, unless w.Defer was
// called. If the client waits for "100 Continue", that is sent. OnBody may be called once, while the handler runs or the
// response is deferred: ErrNoBody.
func (r *Request) OnBody(f func(p []byte, last bool) error) error {
	x := r.x
	if x.s == nil || x.onBody != nil || x.flags&(xFinished|xDropBody) != 0 {
		return ErrNoBody
	}
	x.onBody = f
	if r.framing == lengthBody && exceeds(r.head.length, r.limit) {
		x.onBody = func([]byte, bool) error { return errBody }
		x.tooLarge = true
	}
	if !x.s.inside {
		x.s.soon()
	}
	return nil
}

// ReadAll collects the body, and calls f with all of it when it is there, as OnBody does at the end. limit is a bound as of
// SetBodyLimit; 0: as it is. body is borrowed until f returns. f is not called when the body is larger, which is answered with
// 413, or cut off. Error: ErrNoBody.
func (r *Request) ReadAll(limit int64, f func(body []byte) error) error {
	if limit != 0 {
		r.limit = limit
	}
	x := r.x
	return r.OnBody(func(p []byte, last bool) error {
		if !last {
			if x.collected == nil && r.framing == lengthBody { // not more than a client can be made to send
				x.collected = make([]byte, 0, min(r.head.length, keepBuffer))
			}
			x.collected = append(x.collected, p...)
			return nil
		}
		return f(x.collected)
	})
}

// Pause stops the body, and Resume goes on with it; a callback that is under way or due at the end of a piece comes
// first. A client that is paused is not timed.
func (r *Request) Pause() {
	x := r.x
	x.flags |= xPaused
	if x.reading() {
		x.s.c.PauseAhead()
	}
}

// Resume: see Pause.
func (r *Request) Resume() {
	x := r.x
	x.flags &^= xPaused
	if x.reading() {
		x.s.resume()
	}
}

// reading tells whether the body is being read.
func (x *exchange) reading() bool { return x.s != nil && x.flags&(xBodyBegun|xBodyOver) == xBodyBegun }

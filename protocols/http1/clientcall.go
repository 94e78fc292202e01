package http1

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"

	"github.com/parley-go/parley/core"
)

type callState uint8

const (
	callWaiting callState = iota // for a connection
	callActive                   // has one
	callOver
)

// Call is a request on its way, with its redirections and second attempts.
type Call struct {
	cl    *Client
	out   *Outgoing
	h     ResponseHandler
	state callState
	host  *clientHost
	conn  *clientConn // nil: none
	timer *core.Timer // of Timeouts.Total
	stop  func() bool // of Outgoing.Context
	err   error       // how it ended, if that was not told yet

	// As it is asked now.
	method  string
	url     *url.URL
	header  http.Header
	auth    string // the Authorization field that the URL amounts to
	hostOut string // the Host field
	body    outgoingBody

	redirects int
	retried   bool
	bare      bool // of credentials
	noExpect  bool
	paused    bool
	again     func() error // what is to be done instead of telling the handler, when the response is read
	received  int64
	sent      int64
	resp      Response
}

// Outgoing returns what Do was given.
func (c *Call) Outgoing() *Outgoing { return c.out }

// URL returns what is asked for now: after a redirection that of where it leads. It must not be changed.
func (c *Call) URL() *url.URL { return c.url }

// Received returns how many octets of the response's body were handed on.
func (c *Call) Received() int64 { return c.received }

// Sent returns how many octets of the request's body were handed to the connection.
func (c *Call) Sent() int64 { return c.sent }

// Over tells whether the call is over: HandleDone was called, or is about to be.
func (c *Call) Over() bool { return c.state == callOver }

// Cancel ends the call with context.Canceled, if it is not over. Nothing but HandleDone is called afterwards.
func (c *Call) Cancel() { c.cancel(context.Canceled) }

// Pause stops the response's body: HandleBody is not called, and the server is not read from, until Resume. What was read
// when Pause was called may still come; when that is the end, HandleDone does, too. A call that is paused is not timed,
// but for ClientTimeouts.Total.
func (c *Call) Pause() {
	c.paused = true
	if c.conn != nil {
		c.conn.hold()
	}
}

// Resume: see Pause.
func (c *Call) Resume() {
	c.paused = false
	if c.conn != nil {
		c.conn.hold()
	}
}

// ResumeBody has a Body asked again that had answered core.ErrWouldBlock.
func (c *Call) ResumeBody() {
	if c.conn != nil {
		c.conn.c.ResumeProducer()
	}
}

// assigned gives the call a connection.
func (c *Call) assigned(cc *clientConn) {
	c.cl.waiting--
	c.state, c.conn = callActive, cc
	cc.call = c
}

// finish makes the call one that is over; false: it was.
func (c *Call) finish() bool {
	if c.state == callOver {
		return false
	}
	if c.state == callWaiting {
		c.cl.waiting--
	}
	c.state = callOver
	c.cl.calls--
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.stop != nil {
		c.stop()
	}
	if c.cl.drained != nil {
		c.cl.schedule()
	}
	return true
}

// end tells the handler that the call is over. It is for where handlers may be called.
func (c *Call) end(err error) {
	if !c.finish() {
		return
	}
	if err == nil {
		c.cl.stats.Whole++
	} else {
		c.cl.stats.Failed++
	}
	c.h.HandleDone(c, err)
}

// cancel is fail for where handlers may not be called: it is told later.
func (c *Call) cancel(err error) {
	if !c.finish() {
		return
	}
	c.err = err
	c.cl.stats.Failed++
	c.cl.ended = append(c.cl.ended, c)
	c.cl.schedule()
	c.release(err)
}

// fail ends the call, and its connection.
func (c *Call) fail(err error) {
	if c.state != callOver {
		c.release(err)
		c.end(err)
	}
}

// release gives the connection up.
func (c *Call) release(err error) {
	if cc := c.conn; cc != nil {
		c.conn, cc.call = nil, nil
		cc.close(err)
	}
}

// restart makes the request again: elsewhere, or once more.
func (c *Call) restart() error {
	c.conn, c.again = nil, nil
	c.received, c.sent = 0, 0
	if !c.rewind() {
		return ErrReplay
	}
	if c.cl.closed != nil && c.cl.drained == nil {
		return c.cl.closed
	}
	return c.cl.enqueue(c)
}

// Response is a response that came in. Its methods are for the loop's goroutine, and what they return as []byte is
// borrowed, as is the Response itself: see ResponseHandler.
type Response struct {
	call *Call
	conn *clientConn
}

// Status returns the status code: 200 to 999, or 1xx for an interim response.
func (r *Response) Status() int { return r.conn.head.status }

// Reason returns the reason phrase, which says nothing that the status code does not.
func (r *Response) Reason() []byte { return r.conn.head.slice(r.conn.head.reason) }

// Minor is the minor version of HTTP: 0 for HTTP/1.0, 1 for HTTP/1.1.
func (r *Response) Minor() int { return int(r.conn.head.minor) }

// Field returns the value of the first header field of that name, in whatever case; nil if there is none.
func (r *Response) Field(name string) []byte { return r.conn.head.Get(name) }

// Fields returns the header fields.
func (r *Response) Fields() *Fields { return &r.conn.head.Fields }

// Header makes an http.Header of the header fields. It may be kept.
func (r *Response) Header() http.Header { return r.conn.head.Header() }

// Trailers returns the trailer fields, in HandleDone; nil if there are none. Nothing that concerns framing, routing or
// authentication should be taken from them: RFC 9110 section 6.5.1.
func (r *Response) Trailers() *Fields {
	if r.conn.trailers.Len() == 0 {
		return nil
	}
	return &r.conn.trailers.Fields
}

// ContentLength is how long the body is, in octets: 0 if there is none, -1 if it is not known beforehand. In answer to
// HEAD, and with 304, it is what the length would be otherwise.
func (r *Response) ContentLength() int64 {
	h := &r.conn.head
	switch {
	case r.conn.framing == lengthBody:
		return h.length
	case r.conn.framing != noBody:
		return -1
	case r.call.method == http.MethodHead || h.status == http.StatusNotModified:
		return h.length
	}
	return 0
}

// bodiless tells whether no body comes, whatever ContentLength says.
func (r *Response) bodiless() bool { return r.conn.framing == noBody }

// URL returns what this is the response to.
func (r *Response) URL() *url.URL { return r.call.url }

// TLS returns the state of the connection's TLS, nil without.
func (r *Response) TLS() *tls.ConnectionState { return r.conn.tls }

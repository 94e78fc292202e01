package http1

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// exchange is a request and its response. It is used again for other requests: see worker.
type exchange struct {
	s       *session // nil: it is over
	req     Request
	w       ResponseWriter
	buf     []byte // the head
	seen    []byte // the head as it came, for again; empty: none
	opening xflags // what the head says: the flags that the request begins with

	line      []byte // a chunk size line, or the trailer section
	collected []byte // for Request.ReadAll
	start     time.Duration
	started   time.Time // these are for the log
	progress
}

// progress is what a request begins anew with, as zero.
type progress struct {
	flags      xflags
	tooLarge   bool // the body is, as its length says
	lineAt     int  // where the line begins that prescan is in
	trailing   int  // how long the whole lines of the trailer section are
	onBody     func(p []byte, last bool) error
	dropped    int64 // octets of the body that were
	extensions int   // octets of chunk extensions
	result     error // of Finish
	cause      error // why the response is not the handler's, or not whole
}

type xflags uint32

const (
	xHeadSent   xflags = 1 << iota
	xChunked           // the response is
	xUntilClose        // the response ends with the connection
	xClose             // the connection is closed after the response
	xHasDate           // the handler has set Date
	xReturned          // the handler has
	xDeferred          // Finish is to be called
	xKept              // was deferred: somebody may have it still
	xFinished          // everything of the response is queued, but for a producer
	xProducer          // a producer makes the body
	xProducing         // and has not ended
	xBodyBegun         // the body is read
	xBodyOver          // all of it was
	xLastGiven         // onBody was called with last
	xDropBody          // it is dropped
	xContinued         // 100 was sent
	xPaused            // Request.Pause
	xUnusual           // the handler may have nothing to do with it
	xOrdinary          // the request is one of HTTP/1.1, and neither HEAD nor CONNECT
)

// bodiless tells whether the body of the response is not sent, whatever is written: RFC 9110 section 6.4.1.
func (x *exchange) bodiless() bool {
	return x.req.head.known&(isHEAD|isCONNECT) != 0 && (x.req.head.known&isHEAD != 0 || x.tunnel()) || !bodyAllowed(x.w.status)
}

// tunnel tells whether what follows the head of the response is no message any more: RFC 9110 section 9.3.6.
func (x *exchange) tunnel() bool { return x.req.head.known&isCONNECT != 0 && x.w.status < 300 }

// reset makes x ready for another request. Memory is kept that is not too much.
func (x *exchange) reset() {
	w, r := &x.w, &x.req
	if cap(x.buf)|cap(x.line)|cap(x.collected)|cap(w.fields)|cap(w.body)|cap(w.trailers) >= keepBuffer { // or about that
		x.shed()
	}
	x.s = nil
	x.progress = progress{}
	x.buf, x.collected = x.buf[:0], x.collected[:0]
	w.fields, w.body, w.trailers = w.fields[:0], w.body[:0], w.trailers[:0]
	w.reply = reply{status: http.StatusOK, length: -1}
	r.head.buf = nil
	r.asked = asked{}
}

// shed gives up memory that is too much to be kept.
func (x *exchange) shed() {
	w := &x.w
	x.buf, x.line, x.collected = kept(x.buf), kept(x.line), kept(x.collected)
	w.fields, w.body, w.trailers = kept(w.fields), kept(w.body), kept(w.trailers)
}

func kept(p []byte) []byte {
	if cap(p) > keepBuffer {
		return nil
	}
	return p
}

// stamp keeps the time, for the log.
func (x *exchange) stamp() { x.start, x.started = x.s.now(), x.s.c.Loop().Now() }

// fail answers with what err says if nothing was sent yet, or else closes the connection, so that the client sees that the
// response is not whole.
func (x *exchange) fail(err error) {
	s := x.s
	if x.flags&xFinished != 0 || s == nil {
		return
	}
	x.cause = err
	if x.flags&xBodyOver == 0 && !s.drainable(x) {
		x.flags |= xClose
	}
	if x.flags&xHeadSent != 0 {
		s.hangUp(err)
		return
	}
	e, ok := err.(*Error)
	if !ok && !errors.As(err, &e) || e.Status < 400 || e.Status > 599 {
		s.c.Loop().Logger().Error("http1 handler", "channel", s.c.String(), "target", string(x.req.Target()), "error", err)
		e = &Error{Status: http.StatusInternalServerError}
	}
	x.flags &^= xDeferred
	x.onBody = nil
	_ = x.w.Error(e.Status, e.text())
	if err := x.w.finish(); err != nil {
		s.hangUp(err)
	}
}

// produced is called when the producer has ended.
func (x *exchange) produced() {
	x.flags &^= xProducing
	if x.s != nil && x.flags&xFinished != 0 {
		x.s.soon()
	}
}

// end is called when nothing is to follow any more.
func (x *exchange) end(cause error) {
	s := x.s
	s.x = nil // first: if a func of the caller's panics here, this was the end all the same
	if cause == nil {
		cause = x.cause
	}
	s.w.counts.count(x, cause)
	if s.srv.Log != nil || x.req.cancel != nil || x.w.onDone != nil {
		x.tell(s, cause)
	}
	if x.flags&xKept != 0 {
		x.s = nil
		return
	}
	s.w.give(x)
}

// tell tells of the end whoever asked for that.
func (x *exchange) tell(s *session, cause error) {
	if log := s.srv.Log; log != nil {
		e := Entry{Request: &x.req, Octets: x.w.written, Start: x.started, Duration: s.now() - x.start, Err: cause}
		if x.flags&xHeadSent != 0 {
			e.Status = x.w.status
		}
		if x.bodiless() {
			e.Octets = 0
		}
		log(&e)
	}
	if x.req.cancel != nil {
		if cause == nil {
			x.req.cancel(context.Canceled)
		} else {
			x.req.cancel(cause)
		}
	}
	if done := x.w.onDone; done != nil {
		x.w.onDone = nil
		done(cause)
	}
}

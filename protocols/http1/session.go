package http1

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
)

// session is a connection of a Server, as the handler of its conversation.
type session struct {
	srv *Server
	c   *chat.Conn
	w   *worker
	x   *exchange // the request whose head comes in, or that is under way; nil: none
	tls *tls.ConnectionState

	mode     mode
	inside   bool // a callback of the handler's runs, or what looks after it
	switched bool // the terminator is not headEnd
	eof      bool // the client has ended its side
	high     bool // the output is above its high mark
	leaving  bool // the loop shuts down
	gone     bool // the session is over, or somebody else's

	requests int
	deadline time.Duration // when the client has taken too long, by core.Loop.Lately; 0: never
	timer    *core.Timer
	later    *core.Timer   // for soon
	rateAt   time.Duration // when the minute ends in which the octets of a body are counted
	rate     int64         // these
	heard    time.Duration // when the last of them came
}

// mode is what the next octets are.
type mode uint8

const (
	modeHead mode = iota
	modeTLS
	modeBody       // of known length
	modeChunkLine  // the size of a chunk
	modeChunk      // a chunk
	modeChunkEnd   // CRLF
	modeTrailers   // a line of the trailer section
	modeOver       // nothing any more
	ratePeriod     = time.Minute
	endOfLine      = "\r\n"
	endOfChunk     = endOfLine
	continueAnswer = "HTTP/1.1 100 Continue\r\n\r\n"
)

// headEnd ends a head. RFC 9112 section 2.1
var headEnd = chat.Literal("\r\n\r\n")

func (srv *Server) newSession(c *chat.Conn, secure bool) chat.Handler {
	s := &session{srv: srv, c: c}
	if err := srv.prepare(); err != nil {
		c.Loop().Logger().Error("http1 server", "error", err)
		s.gone = true
		_ = c.CloseWith(err)
		return s
	}
	s.w = srv.join(c.Loop())
	srv.totals.open.Add(1)
	srv.totals.conns.Add(1)
	c.SetTerminator(headEnd)
	c.SetLimit(srv.limits.headToken())
	if srv.limits.WriteTimeout > 0 {
		c.SetWriteTimeout(srv.limits.WriteTimeout)
	}
	c.SetWriteRate(srv.limits.WriteRate)
	if secure {
		s.secure()
	} else {
		s.expect(srv.limits.FirstByteTimeout)
	}
	s.schedule()
	if c.Closed() { // it is not the conversation's handler yet: it would not hear of it
		s.HandleClose(c, c.Core().Cause())
	}
	return s
}

// secure begins the handshake. The session has a deadline for it already.
func (s *session) secure() {
	s.mode = modeTLS
	s.expect(s.srv.limits.TLSTimeout)
	_, err := s.c.Upgrade(func(sock core.Socket) (core.Layered, error) {
		layer := tlslayer.Server(sock, s.srv.tls)
		layer.SetHandshakeTimeout(0)
		return layer, nil
	}, true)
	if err != nil {
		_ = s.c.CloseWith(err)
	}
}

// HandleSecure: the handshake is over.
func (s *session) HandleSecure(_ *chat.Conn, state tls.ConnectionState) error {
	if s.mode == modeTLS {
		s.tls = &state
		s.mode = modeHead
		s.expect(s.srv.limits.FirstByteTimeout)
	}
	return nil
}

func (s *session) now() time.Duration { return s.c.Loop().Lately() }

// expect gives the client time for what it does next; not positive: for ever.
func (s *session) expect(d time.Duration) {
	s.deadline = 0
	if d > 0 {
		s.deadline = s.now() + d
	}
}

// schedule sets the timer, which fires at the deadline or before: so often that no deadline that is set meanwhile is missed.
// That costs less than setting it for each request.
func (s *session) schedule() {
	next := s.srv.limits.period()
	if next <= 0 {
		return
	}
	if left := s.deadline - s.now(); s.deadline > 0 && left > 0 {
		next = min(next, left)
	}
	if s.timer == nil {
		s.timer = s.c.AfterFunc(next, s.tick)
	} else {
		s.timer.Reset(next)
	}
}

// period is the shortest of the timeouts; 0: there is none.
func (l *Limits) period() (shortest time.Duration) {
	for _, d := range [...]time.Duration{
		l.FirstByteTimeout, l.IdleTimeout, l.TLSTimeout, l.HeadTimeout, l.BodyTimeout, ratePeriod,
	} {
		if d > 0 && (shortest == 0 || d < shortest) {
			shortest = d
		}
	}
	return shortest
}

func (s *session) tick() {
	if s.deadline > 0 && s.now() >= s.deadline && !s.c.Paused() && !s.high && !s.fastEnough() {
		s.timeout()
	}
	if s.mode != modeOver && !s.gone {
		s.schedule()
	}
}

func (s *session) timeout() {
	switch {
	case s.mode == modeOver:
	case s.mode == modeTLS:
		_ = s.c.CloseWith(core.ErrTimeout)
	case s.x == nil:
		s.mode = modeOver
		s.c.CloseWhenDoneWith(core.ErrTimeout)
	default:
		s.srv.totals.timeouts.Add(1)
		s.refuse(errTimeout)
	}
}

// CollectIncomingData: a piece of a head, nearly always all of it, or of a body.
func (s *session) CollectIncomingData(c *chat.Conn, data []byte) error {
	if s.mode != modeHead {
		s.bodyData(data)
		return nil
	}
	x := s.x
	complete := !c.MidToken() // or else that is not known
	if x == nil {
		x = s.w.take(s)
		s.x = x
		if !complete {
			s.expect(s.srv.limits.HeadTimeout)
		} else if x.again(data) {
			return nil
		}
	}
	x.buf = append(x.buf, data...)
	if !complete {
		var err *Error
		if x.lineAt, err = prescan(x.buf, x.lineAt, len(x.buf)-len(data), &s.srv.head); err != nil {
			s.refuse(err)
		}
	}
	return nil
}

// FoundTerminator: a head, a body or a part of it is complete.
func (s *session) FoundTerminator(c *chat.Conn) error {
	switch s.mode {
	case modeHead:
		s.request()
	case modeBody:
		s.bodyOver()
	case modeChunkLine:
		s.chunk()
	case modeChunk:
		s.mode = modeChunkEnd
		c.SetTerminator(chat.Count(int64(len(endOfChunk))))
	case modeChunkEnd:
		s.chunkLine()
	case modeTrailers:
		s.trailer()
	}
	return nil
}

// HandleTooLong: what is collected has no end within its limit.
func (s *session) HandleTooLong(*chat.Conn) error {
	switch s.mode {
	case modeHead:
		s.refuse(errHead)
	case modeChunkLine:
		s.refuse(errChunkLine)
	case modeTrailers:
		s.refuse(errTrailer)
	}
	return nil
}

// request is called when a head is complete.
func (s *session) request() {
	x := s.x
	if x == nil { // two empty lines
		s.refuse(errNoRequestLine)
		return
	}
	if x.req.head.buf == nil { // not again what it was
		x.buf = append(x.buf, endOfLine...)
		if err := x.parse(); err != nil {
			s.refuse(err)
			return
		}
	}
	x.flags |= x.opening
	s.begin(x)
	s.requests++
	if s.leaving || s.srv.limits.Requests > 0 && s.requests >= s.srv.limits.Requests {
		x.flags |= xClose
	}
	s.inside = true
	if x.flags&xUnusual == 0 || !s.unusual(x) {
		if err := s.srv.serve(&x.w, &x.req); err != nil && s.x == x {
			x.fail(err)
		}
	}
	s.inside = false
	if s.x != x {
		return
	}
	x.flags |= xReturned
	if x.flags&^(xOrdinary|xClose|xHasDate|xUnusual) == xBodyOver|xReturned && x.onBody == nil && x.w.onDrain == nil &&
		!x.tunnel() && x.w.finish() == nil { // nearly always; step does the same
		s.next()
		return
	}
	s.proceed()
}

// begin is called when the head is there.
func (s *session) begin(x *exchange) {
	x.req.limit = s.srv.limits.Body
	if s.srv.Log != nil {
		x.stamp()
	}
}

// unusual answers a request that is not the handler's business. It answers false if it is.
func (s *session) unusual(x *exchange) bool {
	h := &x.req.head
	var err *Error
	switch {
	case h.form == asteriskForm && !s.srv.AllowOptions:
		x.w.SetLength(0)
		return true
	case h.known&isCONNECT != 0 && !s.srv.AllowConnect:
		err = errConnect
	case h.known&saysUnexpected != 0 && h.minor > 0:
		err = errExpectation
	default:
		return false
	}
	x.flags |= xClose
	x.fail(err)
	return true
}

// proceed does what is to be done next about the request that is under way.
func (s *session) proceed() {
	x := s.x
	for x != nil && s.x == x && x.flags&xReturned != 0 && s.mode != modeOver && s.step(x) {
	}
	if s.x != nil && s.x.w.onDrain != nil && s.x.flags&xFinished == 0 && !s.high && s.mode != modeOver {
		s.soon() // what is queued may be gone by then; or else HandleHigh was called, and HandleLow will be
	}
}

// step makes one step; it answers false when there is nothing to do for now.
func (s *session) step(x *exchange) bool {
	bodyOver := x.flags&xBodyOver != 0
	switch {
	case x.result != nil:
		err := x.result
		x.result = nil
		x.fail(err)
	case x.tooLarge && x.flags&xFinished == 0:
		x.fail(errBody)
	case x.onBody != nil && !bodyOver && x.flags&xBodyBegun == 0:
		s.beginBody(x)
	case x.onBody != nil && bodyOver && x.flags&xLastGiven == 0:
		x.flags |= xLastGiven
		s.callback(func() error { return x.onBody(nil, true) })
	case x.w.onDrain != nil && x.flags&xFinished == 0 && !x.w.Full():
		f := x.w.onDrain
		x.w.onDrain = nil
		s.callback(f)
	case x.flags&(xFinished|xDeferred) == 0 && (x.onBody == nil || x.flags&xLastGiven != 0):
		if !bodyOver && !s.drainable(x) || x.tunnel() { // nobody is there to be its other end
			x.flags |= xClose
		}
		if err := x.w.finish(); err != nil {
			if s.c.Closed() {
				return false
			}
			x.fail(err)
		}
	case x.flags&xFinished == 0 || x.flags&xProducing != 0:
		if bodyOver || x.flags&xBodyBegun == 0 {
			s.c.PauseAhead() // until there is something to do
		}
		return false
	case bodyOver:
		s.next()
		return false
	case x.flags&xDropBody != 0:
		return false
	default:
		return s.drop(x)
	}
	return true
}

// callback calls one of the handler's funcs.
func (s *session) callback(f func() error) {
	x := s.x
	was := s.inside
	s.inside = true
	err := f()
	s.inside = was
	if err != nil && s.x == x {
		x.fail(err)
	}
}

// soon has proceed called when the event is over.
func (s *session) soon() {
	if s.inside || s.gone {
		return
	}
	if s.later == nil {
		s.later = s.c.AfterFunc(0, s.afterwards)
	} else {
		s.later.Reset(0)
	}
}

func (s *session) afterwards() {
	x := s.x
	s.proceed()
	if s.x == x { // or else what the client said before is not worked on yet
		s.drained()
	}
}

// resume goes on with input, unless the handler has paused it.
func (s *session) resume() {
	if s.c.Paused() && (s.x == nil || s.x.flags&xPaused == 0) {
		if s.x != nil {
			s.expectBody()
		}
		s.c.Resume()
	}
	if s.eof {
		s.soon()
	}
}

// next is called when a request is answered and its input used up.
func (s *session) next() {
	if s.c.Closed() { // what was queued is lost: HandleClose says so
		return
	}
	x := s.x
	last := x.flags&xClose != 0 || s.leaving
	if last && x.flags&xBodyOver == 0 {
		s.c.SetLinger() // the client is still sending
	}
	x.end(nil)
	if s.gone || s.mode == modeOver {
		return
	}
	if last {
		s.mode = modeOver
		s.c.CloseWhenDone()
		return
	}
	s.expect(s.srv.limits.IdleTimeout)
	if s.eof || s.c.Paused() {
		s.resume()
	}
}

// drained closes when the client has ended its side and there is nothing left of what it said.
func (s *session) drained() {
	if !s.eof || s.gone || s.mode == modeOver || s.c.Paused() || s.high {
		return
	}
	switch {
	case s.x == nil:
		s.mode = modeOver
		s.c.CloseWhenDone()
	case s.x.flags&xReturned == 0:
		s.hangUp(io.ErrUnexpectedEOF)
	default:
		s.refuse(errCut)
	}
}

// refuse answers with an error, and closes.
func (s *session) refuse(err *Error) {
	x := s.x
	if x == nil {
		x = s.w.take(s)
		s.x = x
	}
	if x.flags&xReturned == 0 {
		if len(x.req.head.buf) == 0 {
			x.forget()
		}
		s.begin(x)
		x.flags |= xReturned
	}
	s.srv.totals.refused.Add(1)
	x.flags |= xClose | xBodyOver
	s.c.SetLinger()
	if x.flags&xFinished != 0 { // only its body was still to be dropped
		s.next()
		return
	}
	x.fail(err)
	s.proceed()
}

// hangUp closes the connection in the middle of a response.
func (s *session) hangUp(cause error) {
	s.mode = modeOver
	if s.x != nil && s.x.flags&(xHeadSent|xUntilClose) == xHeadSent|xUntilClose {
		_ = s.c.Abort() // the end of the stream would look like that of the response
		return
	}
	s.c.SetLinger()
	s.c.CloseWhenDoneWith(cause)
}

// HandleHigh, HandleLow: the client takes less than it is sent, and has taken it.
func (s *session) HandleHigh(*chat.Conn) error {
	s.high = true
	return nil
}

// HandleLow: see HandleHigh.
func (s *session) HandleLow(*chat.Conn) error {
	s.high = false
	switch { // the client was not read from meanwhile: its time begins anew
	case s.switched:
		s.rateAt = 0
		s.expectBody()
	case s.mode != modeHead || s.deadline == 0:
	case s.x == nil:
		s.expect(s.srv.limits.IdleTimeout)
	case s.x.flags&xReturned == 0:
		s.expect(s.srv.limits.HeadTimeout)
	}
	s.proceed()
	if s.eof {
		s.soon()
	}
	return nil
}

// HandleEOF: the client has ended its side of the connection. What it asked for is answered.
func (s *session) HandleEOF(*chat.Conn) error {
	s.eof = true
	if x := s.x; x != nil && x.req.cancel != nil {
		x.req.cancel(io.EOF)
	}
	s.drained()
	return nil
}

// HandleShutdown: the loop shuts down. A request that is on its way or under way is answered, within the grace of the
// shutdown.
func (s *session) HandleShutdown(*chat.Conn) error {
	s.leaving = true
	switch {
	case s.mode == modeTLS:
		_ = s.c.CloseWith(core.ErrShutdown)
	case s.x == nil:
		s.mode = modeOver
		s.c.CloseWhenDoneWith(core.ErrShutdown)
	case s.x.flags&xHeadSent == 0:
		s.x.flags |= xClose
	}
	s.tellEnding()
	return nil
}

// tellEnding has OnShutdown's func called.
func (s *session) tellEnding() {
	if x := s.x; x != nil && x.w.onEnding != nil {
		f := x.w.onEnding
		x.w.onEnding = nil
		f()
	}
}

// HandleError: a handler panicked, or the session's own machinery failed.
func (s *session) HandleError(c *chat.Conn, err error) {
	if s.inside && s.x != nil { // it began, so that OnDone and Log hear of its end
		s.x.flags |= xReturned
	}
	s.inside = false
	var p *core.PanicError
	switch {
	case errors.As(err, &p) && p.Value == http.ErrAbortHandler:
		s.mode = modeOver
		_ = c.Abort()
		return
	case p != nil:
		c.Loop().Logger().Error("http1 handler panicked", "channel", c.String(), "panic", p.Value, "stack", string(p.Stack))
	default:
		c.Loop().Logger().Warn("http1 session", "channel", c.String(), "error", err)
	}
	x := s.x
	if x == nil || s.mode == modeTLS || x.flags&xFinished != 0 {
		s.hangUp(err)
		return
	}
	x.flags |= xReturned | xClose | xBodyOver
	s.c.SetLinger()
	x.fail(&Error{Status: http.StatusInternalServerError})
	x.cause = err
	s.proceed()
}

// HandleClose: the connection is closed.
func (s *session) HandleClose(_ *chat.Conn, cause error) {
	if s.gone {
		return
	}
	s.gone, s.mode = true, modeOver
	s.srv.totals.open.Add(-1)
	defer s.srv.leave(s.w) // behind end, which counts there
	if x := s.x; x != nil {
		if x.flags&xReturned == 0 && !s.inside { // the handler has not seen it; or else it closed the connection, and panicked
			s.x = nil
			s.w.give(x)
		} else {
			if cause == nil && x.cause == nil {
				cause = core.ErrClosed
			}
			x.end(cause)
		}
	}
}

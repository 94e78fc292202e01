package http1

import (
	"bytes"

	"github.com/parley-go/parley/chat"
)

// beginBody has the body of the request read.
func (s *session) beginBody(x *exchange) {
	x.flags |= xBodyBegun
	h := &x.req.head
	if h.known&saysContinue != 0 && h.minor > 0 && x.flags&(xContinued|xHeadSent) == 0 { // RFC 9110 section 10.1.1
		x.flags |= xContinued
		_ = s.c.PushString(continueAnswer)
	}
	s.switched = true
	if x.req.framing == lengthBody {
		s.mode = modeBody
		s.c.SetTerminator(chat.Count(h.length))
	} else {
		s.chunkLine()
	}
	s.rateAt = 0
	s.expectBody()
	if x.flags&xPaused != 0 {
		s.c.PauseAhead()
	}
	s.resume()
}

// expectBody gives the client time for the next piece of its body.
func (s *session) expectBody() {
	now := s.now()
	if s.srv.limits.BodyRate > 0 && (s.rateAt == 0 || s.c.Paused()) {
		s.rateAt, s.rate = now+ratePeriod, 0
	}
	s.heard = now
	s.bodyDeadline()
}

// bodyDeadline is when the next piece is overdue, or a minute ends.
func (s *session) bodyDeadline() {
	s.deadline = 0
	if t := s.srv.limits.BodyTimeout; t > 0 {
		s.deadline = s.heard + t
	}
	if s.rateAt > 0 && (s.deadline == 0 || s.rateAt < s.deadline) {
		s.deadline = s.rateAt
	}
}

// slow tells whether too little of the body has come in the minute that ends.
func (s *session) slow() bool { return s.rate < s.srv.limits.BodyRate*int64(ratePeriod.Seconds()) }

// fastEnough tells, at the deadline, whether that was but the end of a minute in which enough of the body has come: the
// next one begins.
func (s *session) fastEnough() bool {
	now := s.now()
	if !s.switched || s.rateAt == 0 || now < s.rateAt || s.slow() {
		return false
	}
	s.rateAt, s.rate = now+ratePeriod, 0
	s.bodyDeadline()
	return now < s.deadline
}

// chunkLine expects the size of a chunk.
func (s *session) chunkLine() {
	s.mode = modeChunkLine
	s.x.line = s.x.line[:0]
	s.c.SetTerminator(chat.CRLF)
	s.c.SetLimit(s.srv.limits.ChunkLine)
}

// chunk is called when the size of a chunk is there.
func (s *session) chunk() {
	x := s.x
	size, extensions, err := chunkSize(x.line)
	x.extensions += extensions
	switch {
	case err != nil:
		s.refuse(err)
	case exceeds(x.extensions, s.srv.limits.ChunkExtensions):
		s.refuse(errChunkExtension)
	case size == 0:
		s.mode = modeTrailers
		x.line, x.trailing = x.line[:0], 0
		s.c.SetTerminator(chat.CRLF)
		s.c.SetLimit(s.srv.limits.Trailers)
	case x.flags&xDropBody == 0 && x.req.limit >= 0 && size > x.req.limit-x.req.received:
		s.refuse(errBody)
	case x.flags&xDropBody != 0 && s.srv.limits.Drain >= 0 && size > s.srv.limits.Drain-x.dropped:
		s.refuse(errBody)
	default:
		s.mode = modeChunk
		s.c.SetTerminator(chat.Count(size))
	}
}

// trailer is called at the end of a line of the trailer section. Its last line is empty.
func (s *session) trailer() {
	x := s.x
	if len(x.line) == x.trailing {
		if len(x.line) > 0 {
			if x.req.trailers == nil {
				x.req.trailers = new(head)
			}
			l := s.srv.head
			l.all = s.srv.limits.Trailers
			if err := x.req.trailers.parseTrailers(x.line, &l); err != nil {
				s.refuse(err)
				return
			}
		}
		s.bodyOver()
		return
	}
	x.line = append(x.line, "\r\n"...)
	x.trailing = len(x.line)
	if x.trailing > s.srv.limits.Trailers {
		s.refuse(errTrailer)
	}
}

// bodyData is input that is no head.
func (s *session) bodyData(data []byte) {
	switch s.mode {
	case modeBody, modeChunk:
		s.piece(data)
	case modeChunkLine, modeTrailers:
		s.x.line = append(s.x.line, data...)
		if bytes.IndexByte(data, '\n') >= 0 {
			s.refuse(errBareLF)
		}
	case modeChunkEnd:
		at := len(endOfChunk) - int(s.c.Missing()) - len(data)
		if string(data) != endOfChunk[at:at+len(data)] {
			s.refuse(errChunkEnd)
		}
	}
}

// piece is a piece of the body.
func (s *session) piece(data []byte) {
	x := s.x
	x.req.received += int64(len(data))
	s.rate += int64(len(data))
	if x.flags&xDropBody != 0 {
		x.dropped += int64(len(data))
	}
	if now := s.now(); s.rateAt > 0 && now >= s.rateAt {
		if s.slow() {
			s.timeout()
			return
		}
		s.rateAt, s.rate = now+ratePeriod, 0
	}
	s.expectBody()
	if x.flags&xDropBody != 0 || x.onBody == nil {
		return
	}
	s.inside = true
	err := x.onBody(data, false)
	s.inside = false
	if s.x != x {
		return
	}
	if err != nil {
		x.fail(err)
	}
	s.proceed()
}

// bodyOver is called when all of the body has come.
func (s *session) bodyOver() {
	x := s.x
	x.flags |= xBodyOver
	s.mode, s.switched = modeHead, false
	s.c.SetTerminator(headEnd)
	s.c.SetLimit(s.srv.limits.headToken())
	s.deadline = 0
	s.proceed()
}

// drainable tells whether the rest of the body is worth reading, to keep the connection.
func (s *session) drainable(x *exchange) bool {
	h := &x.req.head
	switch {
	case x.flags&xClose != 0:
		return false
	case h.known&saysContinue != 0 && h.minor > 0 && x.flags&xContinued == 0:
		return false // it is not known whether it will come: RFC 9110 section 10.1.1
	case x.req.framing == lengthBody:
		return !exceeds(h.length-x.req.received, s.srv.limits.Drain)
	}
	return true
}

// drop reads the rest of a body that nobody wants, after the response, or closes the connection if that is too much.
func (s *session) drop(x *exchange) bool {
	if !s.drainable(x) {
		x.flags |= xClose
		s.next()
		return false
	}
	x.flags |= xDropBody
	x.flags &^= xPaused
	x.onBody = nil
	if x.flags&xBodyBegun == 0 {
		s.beginBody(x)
	}
	s.resume()
	return false
}

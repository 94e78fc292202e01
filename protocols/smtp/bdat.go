package smtp

import (
	"strings"
	"time"

	"github.com/parley-go/parley/chat"
)

// bdat is BDAT: a chunk of so many octets follows, also if it is refused. RFC 3030 section 2
func (s *Session) bdat(arg string) {
	size, rest, _ := strings.Cut(arg, " ")
	n, over, ok := parseSize(size)
	switch {
	case !ok:
		s.wrong(501, "5.5.4", "Syntax: "+syntax["BDAT"])
		return
	case over: // nobody could stay in step
		s.end(Replyf(501, "5.5.4", "A chunk too large to count"), ErrTooMuch)
		return
	}
	if !s.srv.offers["CHUNKING"] {
		s.skipChunk(n, Replyf(502, "5.5.1", "BDAT not implemented"))
		return
	}
	r := s.canBegin()
	last := equalFold(rest, "LAST")
	if rest != "" && !last {
		r = Replyf(501, "5.5.4", "Syntax: %s", syntax["BDAT"])
	}
	if r != nil {
		if s.tx != nil { // the message has a hole now
			s.tx.begun, s.tx.last = true, last
			s.refuse(r)
		}
		s.skipChunk(n, r)
		return
	}
	s.tx.chunk, s.tx.last = n, last
	if s.tx.begun {
		s.chunk()
		return
	}
	s.tx.chunking = true
	s.begin((*Session).chunkBegun)
}

// skipChunk drops a chunk and then says why.
func (s *Session) skipChunk(n int64, r *Reply) {
	s.skip, s.mode = r, modeSkip
	s.limitTime()
	s.expect(s.srv.limits.IdleTimeout)
	s.c.SetTerminator(chat.Count(n))
}

func (s *Session) endOfSkipped() {
	switch {
	case s.tx == nil || !s.tx.begun:
		s.until = time.Time{}
	case s.tx.last: // with LAST the transaction ends, whatever comes of it
		s.reset()
	}
	s.nextCommand()
	s.wrong(s.skip.Code, s.skip.Enhanced, s.skip.Lines[0])
}

func (s *Session) nextCommand() {
	s.mode = modeCommand
	s.c.SetTerminator(chat.CRLF)
	s.expect(s.srv.limits.IdleTimeout)
}

func (s *Session) chunkBegun(err error) {
	r := s.verdict(err)
	if r != nil && r.Positive() && s.tx.msg == nil {
		r = s.verdict(errNoMessage)
	}
	if r != nil && !r.Positive() {
		s.refuse(r)
	}
	s.chunk()
	if s.tx.refusal == nil {
		s.head()
	}
}

// chunk reads a chunk. One that makes the message too large is dropped without a look.
func (s *Session) chunk() {
	tx := s.tx
	if limit := s.srv.limits.MessageSize; limit >= 0 && tx.chunk > limit-tx.scan.size && tx.refusal == nil {
		s.refuse(errTooLarge)
	}
	s.mode = modeChunk
	s.c.SetTerminator(chat.Count(tx.chunk))
	s.expect(s.srv.limits.IdleTimeout)
}

func (s *Session) endOfChunk() {
	tx := s.tx
	s.nextCommand()
	switch {
	case tx.last:
		s.finish()
	case tx.refusal != nil:
		s.respond(tx.refusal, nil)
	default:
		s.send(Replyf(250, "2.0.0", "%d octets received", tx.chunk))
	}
}

package smtp

import (
	"strings"

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
	r := s.canBegin()
	last := strings.EqualFold(rest, "LAST")
	switch {
	case !s.srv.offers["CHUNKING"]:
		r = Replyf(502, "5.5.1", "BDAT not implemented")
	case rest != "" && !last:
		r = Replyf(501, "5.5.4", "Syntax: %s", syntax["BDAT"])
	}
	if r != nil {
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

// skipChunk drops a chunk and then says why. A message of which it was a part has a hole now, and is refused.
func (s *Session) skipChunk(n int64, r *Reply) {
	if s.tx != nil {
		s.tx.begun = true
		s.refuse(r)
	}
	s.skip, s.mode = r, modeSkip
	s.expect(s.srv.limits.DataTimeout)
	s.c.SetTerminator(chat.Count(n))
}

func (s *Session) endOfSkipped() {
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

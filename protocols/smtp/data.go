package smtp

import (
	"errors"
	"io"
	"math"

	"github.com/parley-go/parley/chat"
)

// data is DATA.
func (s *Session) data(arg string) {
	if !s.noArgument(arg) {
		return
	}
	r := s.canBegin()
	switch {
	case r != nil:
	case s.tx.begun:
		r = Replyf(503, "5.5.1", "The message has begun; go on with BDAT, or say RSET")
	case s.tx.binary:
		r = Replyf(503, "5.5.1", "BINARYMIME needs BDAT") // RFC 3030 section 3
	}
	if r != nil {
		s.wrong(r.Code, r.Enhanced, r.Lines[0])
		return
	}
	s.begin((*Session).dataBegun)
}

var errNoMessage = errors.New("smtp: Begin returned neither a Message nor an error")

// begin asks the Backend for a Message.
func (s *Session) begin(then func(*Session, error)) {
	tx := s.tx
	tx.begun = true
	s.limitTime()
	m, err := s.srv.Backend.Begin(s, &tx.envelope)
	if tx.msg = m; m == nil && (err == nil || asLater(err) != nil) {
		err = errNoMessage
	}
	s.settle(err, then)
}

// limitTime bounds how long the message may take from now on, unless that is bounded already.
func (s *Session) limitTime() {
	if d := s.srv.limits.DataTimeout; d > 0 && s.until.IsZero() {
		s.until = s.c.Loop().Now().Add(d)
	}
}

func (s *Session) dataBegun(err error) {
	r := s.verdict(err)
	if r != nil && r.Positive() && s.tx.msg == nil {
		r = s.verdict(errNoMessage)
	}
	if r != nil && !r.Positive() {
		s.refuse(r)
		s.forget()
		s.respond(r, nil)
		return
	}
	text := []string{"End the message with a dot on a line by itself"}
	if r != nil {
		text = r.Lines
	}
	s.send(&Reply{Code: 354, Lines: text})
	s.mode = modeData
	s.c.SetTerminator(chat.Dot)
	s.c.SetLimit(endless)
	s.c.SetBlockLimit(math.MaxInt64)
	s.expect(s.srv.limits.IdleTimeout)
	s.head()
}

// head writes the Received field.
func (s *Session) head() {
	if !s.srv.NoReceived {
		p := scratch.Get().(*[]byte)
		*p = s.appendReceived((*p)[:0])
		s.write(*p)
		scratch.Put(p)
	}
}

// write gives the Message some octets. What comes behind them waits if the Message says so.
func (s *Session) write(p []byte) {
	n, err := s.tx.msg.Write(p)
	if n < len(p) && err == nil {
		err = io.ErrShortWrite
	}
	s.settle(err, (*Session).written)
}

func (s *Session) written(err error) {
	tx := s.tx
	if r := s.verdict(err); r != nil && !r.Positive() {
		s.refuse(r)
	} else if tx.behind != nil {
		s.refuse(tx.behind)
	}
}

// refuse decides that the message is refused; that is said at its end.
func (s *Session) refuse(r *Reply) {
	tx := s.tx
	tx.refusal = r
	if m := tx.msg; m != nil {
		tx.msg = nil
		m.Abort()
	}
}

// body is a piece of the message.
func (s *Session) body(data []byte) {
	tx := s.tx
	s.expect(s.srv.limits.IdleTimeout)
	if tx.refusal != nil {
		return
	}
	n, bad := tx.scan.scan(data, &s.srv.limits, tx.binary)
	tx.behind = bad
	if n > 0 {
		s.write(data[:n])
	} else {
		s.refuse(bad)
	}
}

// endOfMessage is CRLF.CRLF.
func (s *Session) endOfMessage() {
	s.mode = modeCommand
	s.c.SetTerminator(chat.CRLF)
	s.c.SetLimit(endless)
	s.finish()
}

// finish has the whole message accepted, or answers why not.
func (s *Session) finish() {
	tx := s.tx
	if tx.refusal == nil {
		if r := tx.scan.end(tx.binary); r != nil {
			s.refuse(r)
		}
	}
	if tx.refusal != nil {
		s.committed(tx.refusal)
		return
	}
	tx.committing = true
	var err error
	if m, ok := tx.msg.(EachMessage); ok && s.srv.LMTP {
		n := len(tx.envelope.To)
		each, given := make([]error, n), make([]bool, n)
		tx.each, tx.given = each, given
		err = m.CommitEach(func(i int, err error) {
			if i >= 0 && i < n && !given[i] {
				each[i], given[i] = err, true
			}
		})
	} else {
		err = tx.msg.Commit()
	}
	s.settle(err, (*Session).committed)
}

// committed answers the message.
func (s *Session) committed(err error) {
	tx, ok := s.tx, &Reply{Code: 250, Enhanced: "2.0.0"}
	s.forget() // from here on there is nothing to abort
	r := s.verdict(err)
	if r == nil || tx.given != nil {
		ok.Lines = []string{"Ok, taken as " + tx.id}
	}
	taken := int64(0)
	if !s.srv.LMTP {
		if s.respond(r, ok) {
			taken = int64(len(tx.envelope.To))
		}
	} else {
		taken = s.respondEach(tx, r, ok)
	}
	if taken > 0 {
		s.count(cMessages, 1)
		s.count(cRecipients, taken)
		s.count(cOctets, tx.scan.size)
		s.errors, s.junk = 0, 0
		if h := s.srv.hooks.taken; h != nil {
			h.HandleAccepted(s, &tx.envelope)
		}
	} else {
		s.count(cRefused, 1)
	}
	if s.mode != modeOver {
		s.expect(s.srv.limits.IdleTimeout)
	}
}

// respondEach answers for each recipient: RFC 2033 section 4.2. It returns for how many the message was accepted.
func (s *Session) respondEach(tx *transaction, r, ok *Reply) (taken int64) {
	closing := false
	for i := range tx.envelope.To {
		each := r
		if tx.given != nil && tx.given[i] {
			each = s.verdict(tx.each[i])
		}
		if each != nil && each.Code == 421 { // those behind it want their answers, too: some may have got the message
			s.send(each)
			closing = true
		} else if s.respond(each, ok) {
			taken++
		}
	}
	if closing {
		s.hangUp(ErrRefused)
	}
	return taken
}

package smtp

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// transaction is from MAIL to the answer to the message.
type transaction struct {
	id       string
	envelope Envelope
	utf8     bool // SMTPUTF8
	binary   bool // BODY=BINARYMIME
	rejected bool // a recipient was refused

	msg        Message // nil: not begun, or aborted
	begun      bool    // the Backend was asked
	chunking   bool    // by BDAT
	committing bool    // Commit was called: it is not to be aborted any more
	refusal    *Reply  // the answer at the end; the rest is dropped
	behind     *Reply  // a refusal that counts when what stands before it is written
	scan       bodyScanner

	chunk int64   // octets of this chunk
	last  bool    // it is the last one
	each  []error // LMTP: the answers for recipients
	given []bool  // which of each there are
}

// reset ends a transaction without a message.
func (s *Session) reset() {
	if s.tx == nil {
		return
	}
	s.abort()
	if h := s.srv.hooks.reset; h != nil {
		h.HandleReset(s)
	}
}

// abort ends a transaction; a message that is under way is given up.
func (s *Session) abort() {
	tx, l := s.tx, s.waiting
	s.forget()
	s.waiting = nil
	working := l != nil && l.work != nil
	dropped := working && l.drop()
	if tx == nil || tx.msg == nil {
		return
	}
	m := tx.msg
	tx.msg = nil
	if !tx.committing {
		s.count(cAborted, 1)
	}
	switch {
	case dropped: // also a commit: it has not begun, and never will
		m.Abort()
	case tx.committing:
	case working:
		l.whenOver(m.Abort)
	default:
		m.Abort()
	}
}

// forget ends a transaction whose Message is not open.
func (s *Session) forget() { s.tx, s.until = nil, time.Time{} }

// ready tells whether mail is taken at all at this point.
func (s *Session) ready() bool {
	if s.hello == "" {
		s.wrong(503, "5.5.1", "Say "+s.ehlo()+" first")
		return false
	}
	return s.permitted()
}

// ehlo is what the client is to say first.
func (s *Session) ehlo() string {
	if s.srv.LMTP {
		return "LHLO"
	}
	return "EHLO"
}

// permitted tells whether the client may ask for more than how to be let in: RFC 3207 section 4, RFC 4954 section 6.
func (s *Session) permitted() bool {
	switch {
	case s.srv.RequireTLS && s.tls == nil:
		s.wrong(530, "5.7.0", "Say STARTTLS first")
	case s.srv.RequireAuth && s.user == "":
		s.wrong(530, "5.7.0", "Authentication required")
	default:
		return true
	}
	return false
}

// pathAndParams reads what follows MAIL FROM: or RCPT TO:. It answers itself if that is wrong.
func (s *Session) pathAndParams(verb, arg, keyword, status string, utf8 bool) (ok bool) {
	if len(arg) < len(keyword) || !equalFold(arg[:len(keyword)], keyword) {
		s.wrong(501, "5.5.4", "Syntax: "+s.syntax(verb))
		return false
	}
	arg = strings.TrimLeft(arg[len(keyword):], " ") // none belongs there, but many clients send one
	path, rest, err := ParsePath(arg, utf8)
	s.path = path
	if err == nil && s.path.Domain == "" && s.path.Local != "" && keyword == fromKeyword {
		err = ErrPath // Postmaster is a recipient only
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrPathUTF8):
		s.wrong(553, "5.6.7", "An address that is not ASCII needs SMTPUTF8")
		return false
	default:
		s.wrong(501, status, "Syntax: "+s.syntax(verb))
		return false
	}
	s.params, err = ParseParams(rest, utf8)
	switch {
	case err != nil:
		s.wrong(501, "5.5.4", "Syntax: "+s.syntax(verb))
		return false
	case len(s.params) > 0 && !s.esmtp:
		s.wrong(501, "5.5.4", "Parameters need EHLO; syntax: "+s.syntax(verb))
		return false
	}
	s.compact(len(arg))
	return true
}

// compact copies path and parameters if they are little of a command of so many octets, which they would keep in memory.
func (s *Session) compact(octets int) {
	n := len(s.path.Local) + len(s.path.Domain)
	for keyword, value := range s.params {
		n += len(keyword) + len(value)
	}
	if octets < 2*n+64 {
		return
	}
	s.path.Local, s.path.Domain = strings.Clone(s.path.Local), strings.Clone(s.path.Domain)
	var params Params
	for keyword, value := range s.params {
		if params == nil {
			params = make(Params, len(s.params))
		}
		params[strings.Clone(keyword)] = strings.Clone(value)
	}
	s.params = params
}

const (
	fromKeyword = "FROM:"
	toKeyword   = "TO:"
)

func (s *Session) mail(arg string) {
	if !s.ready() {
		return
	}
	if s.tx != nil {
		s.wrong(503, "5.5.1", "MAIL was said already")
		return
	}
	// The path stands before the parameter that says what it may be.
	utf8 := s.esmtp && s.srv.offers["SMTPUTF8"] && hasWord(arg, "SMTPUTF8")
	if !s.pathAndParams("MAIL", arg, fromKeyword, "5.1.7", utf8) {
		return
	}
	if _, has := s.params["SMTPUTF8"]; !has && !isASCII(arg) { // the word stood in the path
		s.wrong(553, "5.6.7", "An address that is not ASCII needs SMTPUTF8")
		return
	}
	if r := s.checkMail(); r != nil {
		s.wrong(r.Code, r.Enhanced, r.Lines[0])
		return
	}
	if s.transactions++; exceeds(s.transactions, s.srv.limits.Transactions) {
		s.bye(421, "4.7.0", "Too many messages in one connection", ErrTooMuch)
		return
	}
	var err error
	if h := s.srv.hooks.mail; h != nil {
		err = h.HandleMail(s, s.path, s.params)
	}
	s.settle(err, (*Session).mailed)
}

// hasWord tells whether a word stands among those behind the first one.
func hasWord(s, word string) bool {
	for w := range strings.SplitSeq(s, " ") {
		if equalFold(w, word) {
			return true
		}
	}
	return false
}

func (s *Session) mailed(err error) {
	if !s.answer(err, mailOk) {
		return
	}
	_, utf8 := s.params["SMTPUTF8"]
	var room [64]byte
	s.tx = &transaction{
		id:       string(strconv.AppendInt(append(append(room[:0], s.id...), '.'), int64(s.transactions), 10)),
		envelope: Envelope{From: s.path, Params: s.params},
		utf8:     utf8,
		binary:   s.params["BODY"] == "BINARYMIME",
		scan:     bodyScanner{bare: s.srv.AllowBare},
	}
	s.params = nil
}

func (s *Session) rcpt(arg string) {
	switch {
	case !s.ready():
		return
	case s.tx == nil:
		s.wrong(503, "5.5.1", "Say MAIL first")
		return
	case s.tx.begun:
		s.wrong(503, "5.5.1", "The message has begun")
		return
	}
	if !s.pathAndParams("RCPT", arg, toKeyword, "5.1.3", s.tx.utf8) {
		return
	}
	if r := s.checkRcpt(); r != nil {
		s.wrong(r.Code, r.Enhanced, r.Lines[0])
		return
	}
	switch {
	case s.path.IsNull():
		s.wrong(501, "5.1.3", "Syntax: "+s.syntax("RCPT"))
		return
	case s.srv.limits.Recipients >= 0 && len(s.tx.envelope.To) >= s.srv.limits.Recipients:
		s.say(452, "4.5.3", "Too many recipients") // those before stay: RFC 5321 section 4.5.3.1.10
		return
	}
	var err error
	if h := s.srv.hooks.rcpt; h != nil {
		err = h.HandleRcpt(s, s.path, s.params)
	} else {
		err = s.mayRelay(s.path)
	}
	s.settle(err, (*Session).rcpted)
}

// mayRelay is RcptHandler if there is none.
func (s *Session) mayRelay(to Path) error {
	if s.user != "" || to.Domain == "" || s.srv.local(to.Domain) {
		return nil
	}
	return errRelaying
}

// Replies that are sent often, or are compared with.
var (
	mailOk      = Replyf(250, "2.1.0", "Ok")
	rcptOk      = Replyf(250, "2.1.5", "Ok")
	errRelaying = Replyf(550, "5.7.1", "Relaying denied")
	errUnwanted = Replyf(503, "5.5.1", "No service for you; say QUIT")
)

func (s *Session) rcpted(err error) {
	if !s.answer(err, rcptOk) {
		if s.tx != nil {
			s.tx.rejected = true
		}
		return
	}
	s.tx.envelope.To = append(s.tx.envelope.To, Recipient{Path: s.path, Params: s.params})
	s.params = nil
}

// canBegin tells whether a message may begin. It is asked for DATA and for each BDAT.
func (s *Session) canBegin() *Reply {
	switch {
	case s.unwanted:
		return errUnwanted
	case s.hello == "":
		return Replyf(503, "5.5.1", "Say %s first", s.ehlo())
	case s.tx == nil:
		return Replyf(503, "5.5.1", "Say MAIL first")
	case len(s.tx.envelope.To) == 0 && s.tx.rejected && s.srv.LMTP: // RFC 2033 section 4.2
		return Replyf(503, "5.5.1", "No valid recipients")
	case len(s.tx.envelope.To) == 0 && s.tx.rejected:
		return Replyf(554, "5.5.1", "No valid recipients")
	case len(s.tx.envelope.To) == 0:
		return Replyf(503, "5.5.1", "Say RCPT first")
	}
	return nil
}

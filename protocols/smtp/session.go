package smtp

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// Causes with which a session closes, besides those of package core and nil, which is QUIT.
var (
	// ErrRefused: ConnectHandler or another hook answered with 421, or the client did not wait for the greeting.
	ErrRefused = errors.New("smtp: connection refused")

	// ErrTooMuch: more errors, commands or transactions than Limits allow.
	ErrTooMuch = errors.New("smtp: too many commands or errors")

	// ErrNotSMTP: what the client speaks is another protocol.
	ErrNotSMTP = errors.New("smtp: the client does not speak SMTP")
)

// Session is one client's conversation with a Server. Its methods are for the loop's goroutine, as hooks are called there.
type Session struct {
	srv  *Server
	c    *chat.Conn
	id   string
	mode mode

	buf  []byte // the command that comes in
	over bool   // it is too long; buf is its beginning

	hello    string
	esmtp    bool // EHLO or LHLO
	user     string
	tls      *tls.ConnectionState
	secured  bool // greeted already when the handshake began
	unwanted bool // the greeting was 554: nothing but QUIT
	leaving  bool // the loop shuts down
	eof      bool // the client has sent everything
	quit     bool // QUIT was answered

	tx   *transaction // nil: none
	auth *exchange    // nil: none
	skip *Reply       // the answer to the chunk that is skipped

	waiting *later // what a hook waits for; nil: none
	found   bool   // FoundTerminator came while it waited
	path    Path   // of the command that a hook judges
	params  Params
	arg     string
	extend  bool

	timer    *core.Timer
	timerAt  time.Time // when the timer fires; zero: it does not run
	deadline time.Time // when the client has taken too long; zero: never
	since    time.Time // when a hook began to wait
	until    time.Time // when the message, or the chunk that is dropped, must have come; zero: whenever

	counts       [numCounters]int64
	errors       int // since a message was accepted
	junk         int
	transactions int

	// Data is the Backend's own.
	Data any
}

// mode is what the next octets are.
type mode uint8

const (
	modeCommand mode = iota
	modeGreet        // nothing yet: the greeting waits
	modeTLS          // the handshake
	modeAuth         // an answer in AUTH
	modeData         // a message, up to CRLF.CRLF
	modeChunk        // a chunk of a message
	modeSkip         // a chunk that is refused
	modeOver         // nothing any more
)

// sessionHandler is a Session as the handler of its conversation.
type sessionHandler Session

func (srv *Server) newSession(c *chat.Conn, secure bool) chat.Handler {
	s := &Session{srv: srv, c: c, id: newID(c)}
	h := (*sessionHandler)(s)
	if err := srv.prepare(); err != nil {
		c.Loop().Logger().Error("smtp server", "error", err)
		_ = c.CloseWith(err)
		return h
	}
	begun := false
	defer func() { // it is not the conversation's handler yet: it would not hear that it is over already
		if !begun || c.Closed() {
			_ = c.Close() // after a panic
			h.HandleClose(c, c.Core().Cause())
		}
	}()
	srv.totals.open.Add(1)
	s.count(cSessions, 1)
	c.SetTerminator(chat.CRLF)
	c.SetLimit(endless)
	if srv.limits.IdleTimeout > 0 {
		c.SetWriteTimeout(srv.limits.IdleTimeout)
	}
	if secure {
		s.secure()
	} else {
		s.connected()
	}
	begun = true
	return h
}

// endless is the limit of what the session bounds itself.
const endless = 1 << 30

// connected asks who may connect, and greets.
func (s *Session) connected() {
	s.mode = modeGreet
	var err error
	if h := s.srv.hooks.connect; h != nil {
		err = h.HandleConnect(s)
	}
	s.settle(err, (*Session).greet)
}

func (s *Session) greet(err error) {
	r := s.verdict(err)
	if r != nil && !r.Positive() || s.srv.GreetDelay <= 0 {
		s.greetNow(r)
		return
	}
	s.c.AfterFunc(s.srv.GreetDelay, func() {
		if s.mode == modeGreet {
			s.greetNow(r)
		}
	})
}

func (s *Session) greetNow(r *Reply) {
	s.mode = modeCommand
	protocol := "ESMTP"
	if s.srv.LMTP {
		protocol = "LMTP"
	}
	switch {
	case r == nil:
		s.send(&Reply{Code: 220, Lines: []string{s.srv.hostname + " " + protocol}})
	case r.Positive():
		text := append([]string{s.srv.hostname + " " + protocol}, r.Lines...)
		s.send(&Reply{Code: 220, Lines: []string{strings.Join(text, " ")}})
	case r.Temporary(): // 554 would be for ever: clients give their mail up
		s.end(&Reply{Code: 421, Enhanced: r.Enhanced, Lines: r.Lines}, ErrRefused)
	default: // RFC 5321 section 3.1: the client is to say QUIT
		s.unwanted = true
		s.send(&Reply{Code: 554, Lines: append([]string(nil), r.Lines...)})
	}
	s.expect(s.srv.limits.IdleTimeout)
}

// Server returns the server whose session it is.
func (s *Session) Server() *Server { return s.srv }

// Conn returns the conversation. Leave its handler, terminator and input alone.
func (s *Session) Conn() *chat.Conn { return s.c }

// RemoteAddr returns the client's address, nil if there is none.
func (s *Session) RemoteAddr() net.Addr { return s.c.RemoteAddr() }

// Hello returns what the client calls itself, "" before HELO, EHLO or LHLO. Extended tells whether it was not HELO.
func (s *Session) Hello() string  { return s.hello }
func (s *Session) Extended() bool { return s.esmtp }

// TLS returns the state of the secured connection, nil without.
func (s *Session) TLS() *tls.ConnectionState { return s.tls }

// User returns who has authenticated, "" if nobody has.
func (s *Session) User() string { return s.user }

// Envelope returns what MAIL and RCPT said so far, nil outside of a transaction.
func (s *Session) Envelope() *Envelope {
	if s.tx == nil {
		return nil
	}
	return &s.tx.envelope
}

// ID names the transaction, or the session outside of one, in logs, in the Received field and in the answer to a message.
func (s *Session) ID() string {
	if s.tx == nil {
		return s.id
	}
	return s.tx.id
}

// newID is a name that no other session of this loop has, and hardly one of another.
func newID(c *chat.Conn) string {
	var room [32]byte
	p := strconv.AppendInt(room[:0], c.Loop().Now().UnixMilli(), 36)
	return upper(string(strconv.AppendUint(append(p, '.'), c.ID(), 36)))
}

// send queues a reply. An error need not be looked at: the connection is closed or closing then.
func (s *Session) send(r *Reply) {
	p := scratch.Get().(*[]byte)
	*p = r.appendTo((*p)[:0])
	_ = s.c.Push(*p)
	if cap(*p) <= keepScratch {
		scratch.Put(p)
	}
}

// scratch is memory for what is handed on at once.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

const keepScratch = 4 << 10

// say sends a reply of one line.
func (s *Session) say(code int, enhanced, text string) {
	line := [1]string{text}
	s.send(&Reply{Code: code, Enhanced: enhanced, Lines: line[:]})
}

// wrong answers a wrong command, and counts it.
func (s *Session) wrong(code int, enhanced, text string) {
	s.count(cErrors, 1)
	s.errors++
	if exceeds(s.errors, s.srv.limits.Errors) {
		s.bye(421, "4.7.0", "Too many errors", ErrTooMuch)
		return
	}
	s.say(code, enhanced, text)
}

// bye says a last word and closes the connection when it is sent.
func (s *Session) bye(code int, enhanced, text string, cause error) {
	s.end(Replyf(code, enhanced, "%s %s", s.srv.hostname, text), cause)
}

func (s *Session) end(r *Reply, cause error) {
	s.send(r)
	s.hangUp(cause)
}

// hangUp closes the connection when what was said is sent.
func (s *Session) hangUp(cause error) {
	s.mode = modeOver
	s.abort()
	s.c.CloseWhenDoneWith(cause)
}

// verdict makes a reply of a hook's error. nil: accepted, without words of its own.
func (s *Session) verdict(err error) *Reply {
	if err == nil {
		return nil
	}
	r := replyOf(err)
	if r == nil {
		s.c.Loop().Logger().Error("smtp hook", "channel", s.c.String(), "error", err)
		return &Reply{Code: 451, Enhanced: "4.3.0", Lines: []string{"Local error, try again later"}}
	}
	if r.Enhanced != "" && !goodEnhanced(r.Enhanced, r.Code/100) {
		return &Reply{Code: r.Code, Lines: r.Lines}
	}
	return r
}

// replyOf is the Reply that an error is; nil if it is none that could be sent.
func replyOf(err error) *Reply {
	r, ok := err.(*Reply)
	if !ok && !errors.As(err, &r) || r == nil || r.Code < 200 || r.Code > 599 {
		return nil
	}
	return r
}

// answer sends what a hook said: on acceptance ok, which may be replaced by a positive reply of the hook. It answers
// whether the command was accepted.
func (s *Session) answer(err error, ok *Reply) bool { return s.respond(s.verdict(err), ok) }

func (s *Session) respond(r, ok *Reply) bool {
	switch {
	case r == nil:
		s.send(ok)
	case r.Positive():
		s.send(&Reply{Code: positive(r.Code, ok.Code), Enhanced: r.Enhanced, Lines: r.Lines})
	case r.Code == 421:
		s.end(r, ErrRefused)
	default:
		s.send(r)
	}
	return r == nil || r.Positive()
}

// positive is the code of a positive reply of a hook: one that asks for more octets would bring the client out of step.
func positive(code, usual int) int {
	if code/100 != usual/100 {
		return usual
	}
	return code
}

// expect gives the client time for what it does next; not positive: for ever.
func (s *Session) expect(d time.Duration) {
	now := s.c.Loop().Now()
	s.deadline = time.Time{}
	if d > 0 {
		s.deadline = now.Add(d)
	}
	if !s.until.IsZero() && (s.deadline.IsZero() || s.until.Before(s.deadline)) {
		s.deadline = s.until
	}
	s.schedule(now)
}

// schedule lets the timer fire at the deadline or before; one that fires too early is set again, which costs less than
// setting it at each command.
func (s *Session) schedule(now time.Time) {
	switch {
	case s.deadline.IsZero() || s.mode == modeOver:
		return
	case s.timer == nil:
		s.timer = s.c.AfterFunc(s.deadline.Sub(now), s.tick)
	case s.timerAt.IsZero() || s.deadline.Before(s.timerAt):
		s.timer.Reset(s.deadline.Sub(now))
	default:
		return
	}
	s.timerAt = s.deadline
}

func (s *Session) tick() {
	s.timerAt = time.Time{}
	now := s.c.Loop().Now()
	switch {
	case s.waiting != nil || s.deadline.IsZero() || s.mode == modeOver:
	case now.Before(s.deadline):
		s.schedule(now)
	case s.mode == modeTLS:
		_ = s.c.CloseWith(core.ErrTimeout)
	default:
		s.bye(421, "4.4.2", "Timeout, closing the connection", core.ErrTimeout)
	}
}

// CollectIncomingData: a piece of a command, or of a message.
func (h *sessionHandler) CollectIncomingData(_ *chat.Conn, data []byte) error {
	s := (*Session)(h)
	switch s.mode {
	case modeData, modeChunk:
		s.body(data)
	case modeCommand, modeAuth:
		s.collect(data)
	case modeSkip:
		s.expect(s.srv.limits.IdleTimeout)
	case modeGreet:
		s.early()
	}
	return nil
}

// FoundTerminator: a command, message or chunk is complete.
func (h *sessionHandler) FoundTerminator(*chat.Conn) error {
	(*Session)(h).complete()
	return nil
}

func (s *Session) complete() {
	if s.waiting != nil { // what is complete is the chunk of which a piece is being worked on
		s.found = true
		return
	}
	switch s.mode {
	case modeCommand:
		s.command()
	case modeGreet:
		s.early()
	case modeAuth:
		s.authAnswer()
	case modeData:
		s.endOfMessage()
	case modeChunk:
		s.endOfChunk()
	case modeSkip:
		s.endOfSkipped()
	}
	if s.leaving {
		s.leave()
	}
}

// early refuses a client that did not wait for the greeting.
func (s *Session) early() {
	s.bye(554, "5.5.0", "You talk before I have greeted", ErrRefused)
}

// HandleTooLong: a line so long that even counting ends; the rest of the command or message is dropped.
func (h *sessionHandler) HandleTooLong(c *chat.Conn) error {
	s := (*Session)(h)
	switch {
	case s.mode != modeData:
		s.over = true
	case s.tx.refusal == nil: // it has a hole now
		s.refuse(errLongLine)
	}
	c.SkipToken()
	return nil
}

// HandleEOF: nothing that is not complete counts.
func (h *sessionHandler) HandleEOF(c *chat.Conn) error {
	s := (*Session)(h)
	s.eof = true
	if s.waiting == nil { // otherwise the client still gets its answer
		s.hangUp(io.EOF)
	}
	return nil
}

// HandleShutdown: a message that is on its way may still come, within the grace of the shutdown.
func (h *sessionHandler) HandleShutdown(*chat.Conn) error {
	s := (*Session)(h)
	s.leaving = true
	s.leave()
	return nil
}

// leave says goodbye if the loop shuts down and nothing is under way.
func (s *Session) leave() {
	if s.waiting != nil {
		return
	}
	switch s.mode {
	case modeCommand, modeAuth, modeGreet:
		s.bye(421, "4.3.2", "The server shuts down, try again later", core.ErrShutdown)
	case modeTLS:
		_ = s.c.CloseWith(core.ErrShutdown)
	}
}

// HandleError: an error of the session's own machinery, or a hook that panicked.
func (h *sessionHandler) HandleError(c *chat.Conn, err error) {
	s := (*Session)(h)
	var p *core.PanicError
	if errors.As(err, &p) {
		c.Loop().Logger().Error("smtp hook panicked", "channel", c.String(), "panic", p.Value, "stack", string(p.Stack))
	} else {
		c.Loop().Logger().Warn("smtp session", "channel", c.String(), "error", err)
	}
	if s.mode == modeTLS { // there is nobody who could read words
		_ = c.CloseWith(err)
		return
	}
	s.bye(421, "4.3.0", "Local error, try again later", err)
}

// HandleClose: the session is over.
func (h *sessionHandler) HandleClose(_ *chat.Conn, cause error) {
	s := (*Session)(h)
	if s.srv.err != nil {
		return
	}
	s.srv.totals.open.Add(-1)
	s.mode = modeOver
	s.abort()
	if hook := s.srv.hooks.quit; hook != nil {
		if s.quit {
			cause = nil
		} else if cause == nil {
			cause = core.ErrClosed
		}
		hook.HandleQuit(s, cause)
	}
}

package smtp

import (
	"errors"
	"io"
	"syscall"

	"github.com/parley-go/parley/core"
)

// Proxy is a Backend that hands each message on to another server while it comes, and that server's answers back: MAIL, RCPT
// and the message are relayed one by one, so that whoever sends it learns at once what the other server thinks of it, and
// nothing is kept here. The client is read from only as fast as the other server takes the message. What the client does not
// complete is not completed there either. It serves any number of loops, and uses Session.Data. [smtpd.PureProxy]
//
// Each session has a connection of its own to the other server, from its first MAIL to its end. What goes wrong with that
// is 451: the client may try again.
type Proxy struct {
	// Network and Address say where the other server is, as for Client.Dial; Network is "tcp" if "".
	Network, Address string

	// NewClient, if set, returns the Client for a session, not dialled: with what is to be agreed with the other server.
	NewClient func(s *Session) *Client

	// RelayAll relays to any recipient. Without it the recipients are those that a Server without a RcptHandler has: of
	// Server.Domains, and any if the client has authenticated itself. A server on the internet that relays all is abused.
	RelayAll bool
}

// proxied is one session of a Proxy.
type proxied struct {
	p *Proxy
	s *Session
	c *Client // nil: not connected

	job      *mailing // the transaction; nil: none
	pipe     *Pipe
	result   *Result // of job; nil: not over
	accepted []int   // recipients of the envelope, by their number in job
	mailing  bool    // MAIL waits for its answer
	reused   bool    // on a connection that was there before

	waiting func(error) // answers the hook that waits; nil: none
	each    func(i int, err error)
}

func (p *Proxy) session(s *Session) *proxied {
	x, ok := s.Data.(*proxied)
	if !ok {
		x = &proxied{p: p, s: s}
		s.Data = x
	}
	return x
}

// Replies of a Proxy, besides those of the other server.
var (
	errNextServer = Replyf(451, "4.4.1", "The next server cannot be used now, try again later")
	errOneByOne   = Replyf(452, "4.5.3", "One recipient at a time")
	errNotHere    = Replyf(451, "4.4.2", "The message was not completed")
)

// HandleMail relays MAIL.
func (p *Proxy) HandleMail(s *Session, from Path, params Params) error {
	x := p.session(s)
	x.drop() // of a message that the server refused by itself nothing is told
	x.reused = x.c != nil && x.c.Open()
	relay := make(Params)
	for k, v := range params {
		if k != "AUTH" { // it is for us to say whom we trust: RFC 4954 section 5
			relay[k] = v
		}
	}
	pending := x.wait()
	x.mailing = true
	if err := x.begin(from, relay); err != nil {
		x.mailing, x.waiting = false, nil
		s.c.Loop().Logger().Error("smtp proxy", "channel", s.c.String(), "error", err)
		return errNextServer
	}
	return pending
}

// wait is the error of a hook that answer answers.
func (x *proxied) wait() error {
	answer, pending := x.s.Deferred()
	x.waiting = answer
	return pending
}

// answer answers the hook that waits.
func (x *proxied) answer(err error) {
	if f := x.waiting; f != nil {
		x.waiting = nil
		f(err)
	}
}

// begin begins a transaction, on a new connection if there is none.
func (x *proxied) begin(from Path, params Params) error {
	if x.c == nil || !x.c.Open() {
		c := new(Client)
		if x.p.NewClient != nil {
			c = x.p.NewClient(x.s)
		}
		network := x.p.Network
		if network == "" {
			network = "tcp"
		}
		if err := c.Dial(x.s.c.Loop(), network, x.p.Address); err != nil {
			return err
		}
		x.c = c
	}
	x.pipe, x.result, x.accepted, x.each = new(Pipe), nil, nil, nil
	j := &mailing{c: x.c, out: &Outgoing{Body: x.pipe, RefuseBare: true}, from: from, params: params, open: true}
	j.relay = relayed{
		mailed: func(r *Reply) {
			x.mailing = false
			x.answer(r)
		},
		rcpted: func(i int, r *Reply) {
			if r.Positive() {
				x.accepted = append(x.accepted, i)
			}
			x.answer(r)
		},
		dataed: func() { x.answer(nil) },
	}
	j.done = func(r *Result) { x.finished(j, r) }
	x.job = j
	return x.c.enqueue(j)
}

// finished is called when a transaction is over at the other server.
func (x *proxied) finished(j *mailing, r *Result) {
	if x.job != j {
		return
	}
	if x.mailing && x.reused && stale(r) { // it has hung up while nothing was to do
		x.reused = false
		if x.begin(j.from, j.params) == nil {
			return
		}
	}
	x.mailing = false
	x.result = r
	if x.each != nil {
		for i, n := range x.accepted {
			x.each(i, x.verdict(r.To[n]))
		}
	}
	x.answer(x.verdict(r.Reply))
}

// stale tells whether a connection ended before MAIL was answered.
func stale(r *Result) bool {
	return r.Reply.Code == 421 || errors.Is(r.Err, io.EOF) || errors.Is(r.Err, syscall.ECONNRESET) || errors.Is(r.Err, syscall.EPIPE) ||
		errors.Is(r.Err, core.ErrClosed)
}

// verdict is what the client is told: that the other server goes away, or has no use for us, is not for the client to bear.
func (x *proxied) verdict(err error) error {
	var r *Reply
	switch {
	case x.job != nil && x.job.last != nil && x.job.last.step < stepMail:
		return errNextServer
	case errors.As(err, &r) && r.Code == 421:
		return &Reply{Code: 451, Enhanced: r.Enhanced, Lines: r.Lines}
	case err == core.ErrClosed:
		return errNotHere
	}
	return err
}

// HandleRcpt relays RCPT.
func (p *Proxy) HandleRcpt(s *Session, to Path, params Params) error {
	if !p.RelayAll {
		if err := s.mayRelay(to); err != nil {
			return err
		}
	}
	x := p.session(s)
	switch {
	case x.job == nil:
		return errNotHere
	case x.result != nil:
		return x.verdict(x.result.Reply)
	case x.c.LMTP && !s.srv.LMTP && len(x.accepted) > 0: // one answer cannot say what several do
		return errOneByOne
	}
	pending := x.wait()
	x.job.add(Recipient{Path: to, Params: params})
	return pending
}

// Begin relays DATA.
func (p *Proxy) Begin(s *Session, _ *Envelope) (Message, error) {
	x := p.session(s)
	switch {
	case x.job == nil:
		return nil, errNotHere
	case x.result != nil:
		return nil, x.verdict(x.result.Reply)
	}
	pending := x.wait()
	x.job.open = false
	x.job.advance()
	return &proxiedMessage{x, x.job}, pending
}

// HandleReset gives the transaction up.
func (p *Proxy) HandleReset(s *Session) { p.session(s).drop() }

// HandleQuit ends the connection to the other server. A message that was completed may still come to its end there.
func (p *Proxy) HandleQuit(s *Session, _ error) {
	x := p.session(s)
	x.drop()
	if x.c != nil {
		x.c.Quit()
	}
}

// drop gives the transaction up, unless the message is complete.
func (x *proxied) drop() {
	x.waiting, x.each, x.mailing = nil, nil, false
	if j := x.job; j != nil && !(x.pipe.end == io.EOF && x.result == nil) {
		x.job = nil
		j.cancel(errNotHere)
	}
}

// proxiedMessage is the message of a transaction.
type proxiedMessage struct {
	x   *proxied
	job *mailing
}

// Write hands on what the client sends, and has it wait when the other server is slow.
func (m *proxiedMessage) Write(p []byte) (int, error) {
	x := m.x
	if _, err := x.pipe.Write(p); err != nil {
		return 0, x.verdict(err)
	}
	var pending error
	if x.pipe.Wait(func(err error) { x.answer(x.verdict(err)) }) {
		pending = x.wait()
	}
	return len(p), pending
}

// Commit completes the message, and waits for the other server's answer.
func (m *proxiedMessage) Commit() error {
	x := m.x
	if x.result != nil {
		return x.verdict(x.result.Reply)
	}
	_ = x.pipe.Close()
	return x.wait()
}

// CommitEach is Commit for a server that speaks LMTP.
func (m *proxiedMessage) CommitEach(answer func(i int, err error)) error {
	m.x.each = answer
	return m.Commit()
}

// Abort gives the message up.
func (m *proxiedMessage) Abort() {
	x := m.x
	if x.job == m.job {
		x.waiting, x.job = nil, nil
	}
	m.job.cancel(errNotHere)
}

package smtp

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
)

// startClientTLS is how a Client changes to TLS: it has a time for the handshake of its own. Tests replace it.
var startClientTLS = func(c *chat.Conn, cfg *tls.Config) (dropped int, err error) {
	return c.Upgrade(func(s core.Socket) (core.Layered, error) {
		layer := tlslayer.Client(s, cfg)
		layer.SetHandshakeTimeout(0)
		return layer, nil
	}, false)
}

// clientMarks let a Client read while it writes: a server that has something to say in the middle of a message is heard.
var clientMarks = &buffered.Marks{Low: 128 << 10, High: 256 << 10, Limit: buffered.DefaultMarks.Limit}

// clientAhead is how many octets of commands are sent ahead of their answers at most. RFC 2920 section 3.1
const clientAhead = 16 << 10

// step is what a reply answers, or what happens without one.
type step uint8

const (
	stepNone step = iota
	stepConnect
	stepGreeting
	stepHello
	stepHelo
	stepStartTLS
	stepHandshake
	stepAuth
	stepCancel // of AUTH
	stepIdle
	stepReset
	stepMail
	stepRcpt
	stepData
	stepVoid  // the end of a message that has no recipients
	stepChunk // BDAT
	stepBody
	stepEnd
	stepQuit
)

var stepNames = [...]string{"", "connect", "greeting", "EHLO", "HELO", "STARTTLS", "TLS", "AUTH", "AUTH", "idle", "RSET", "MAIL", "RCPT",
	"DATA", "DATA", "BDAT", "message", "end of message", "QUIT"}

func (s step) String() string { return stepNames[s] }

// command waits for its answer.
type command struct {
	step    step
	timeout time.Duration
	octets  int
	rcpt    int // the index of a recipient
}

// failure is why a connection, or a message, comes to nothing.
type failure struct {
	step  step
	reply *Reply // the server's if err is nil
	err   error
}

func (f *failure) cause() error {
	switch {
	case f == nil:
		return nil
	case f.err != nil:
		return f.err
	}
	return f.reply
}

// Replies of our own, for what the server has not answered.
var (
	lostReply        = Replyf(451, "4.4.2", "The connection was lost")
	timeoutReply     = Replyf(451, "4.4.2", "The server took too long")
	unreachableReply = Replyf(451, "4.4.1", "The server cannot be reached")
	nonsenseReply    = Replyf(451, "4.5.0", "The server does not keep to the protocol")
	shutdownReply    = Replyf(451, "4.3.2", "The system shuts down")
	handshakeReply   = Replyf(454, "4.7.5", "The TLS handshake failed")
	noTLSReply       = Replyf(454, "4.7.4", "No TLS, which is demanded")
	noAuthReply      = Replyf(454, "4.7.4", "No authentication that may be used")
	localReply       = Replyf(451, "4.3.0", "Local error")
)

// fail makes a failure of an error, with the reply that it amounts to.
func (c *Client) fail(err error) *failure {
	f := &failure{step: c.now(), reply: lostReply, err: err}
	var r *Reply
	switch {
	case errors.As(err, &r):
		f.reply = r
	case errors.Is(err, ErrBadReply), errors.Is(err, core.ErrTooLong):
		f.reply = nonsenseReply
	case errors.Is(err, ErrNoTLS), errors.Is(err, ErrInjected):
		f.reply = noTLSReply
	case errors.Is(err, ErrNoAuth):
		f.reply = noAuthReply
	case errors.Is(err, core.ErrShutdown):
		f.reply = shutdownReply
	case f.step == stepConnect:
		f.reply = unreachableReply
	case errors.Is(err, core.ErrTimeout):
		f.reply = timeoutReply
	case errors.Is(err, tlslayer.ErrHandshake):
		f.reply = handshakeReply
	}
	return f
}

// lose closes the connection at once. Either the server said why, or there is an error.
func (c *Client) lose(r *Reply, err error) {
	if c.verdict == nil {
		if err != nil {
			c.verdict = c.fail(err)
		} else {
			c.verdict = &failure{step: c.now(), reply: r}
		}
	}
	c.ready = false
	_ = c.conn.CloseWith(c.verdict.cause())
}

// leave ends the connection politely, outside of a message: the server is in step, and need not wonder. What is queued
// fails.
func (c *Client) leave(r *Reply, err error) {
	f := &failure{step: c.now(), reply: r}
	if err != nil {
		f = c.fail(err)
	}
	c.verdict = f
	c.quitting = true
	c.part()
	c.failAll(f)
}

// failAll has the messages that have no result fail.
func (c *Client) failAll(f *failure) {
	if j := c.job; j != nil {
		c.job = nil
		j.fail(f)
		c.results = append(c.results, j)
	}
	for _, j := range c.queue {
		j.fail(f)
		c.results = append(c.results, j)
	}
	c.queue = nil
	c.give()
}

// part says QUIT and waits for the answer.
func (c *Client) part() {
	if c.parting {
		return
	}
	c.ready, c.quitting, c.parting = false, true, true
	c.pending = c.pending[:0]
	c.command(stepQuit, c.timeouts.Quit, "QUIT")
}

// now is the step that is under way.
func (c *Client) now() step {
	if len(c.pending) > 0 {
		return c.pending[0].step
	}
	return c.step
}

// command sends a line, whose answer comes to answered.
func (c *Client) command(s step, timeout time.Duration, line string) {
	c.commandFor(s, timeout, line, 0)
}

func (c *Client) commandFor(s step, timeout time.Duration, line string, rcpt int) {
	_ = c.conn.PushString(line + "\r\n") // if it is closed, HandleClose is on its way
	c.expect(command{s, timeout, len(line) + 2, rcpt})
}

// expect awaits a reply. The time for it begins when those before it have come.
func (c *Client) expect(cmd command) {
	c.pending = append(c.pending, cmd)
	c.ahead += cmd.octets
	if len(c.pending) == 1 {
		c.wait(cmd.timeout)
	}
}

// wait starts the clock; not positive: it stops it.
func (c *Client) wait(d time.Duration) {
	switch {
	case d <= 0:
		if c.timer != nil {
			c.timer.Stop()
		}
	case c.timer == nil:
		c.timer = c.conn.AfterFunc(d, c.late)
	default:
		c.timer.Reset(d)
	}
}

// late: the time is over.
func (c *Client) late() {
	switch {
	case c.parting:
		_ = c.conn.Close()
	case c.step == stepIdle && len(c.pending) == 0 && c.job == nil:
		c.part()
	case c.job != nil && c.job.body != nil && len(c.pending) > 0 && c.conn.Queued() > 0:
		c.wait(c.pending[0].timeout) // the server has not got it yet: whether it takes anything is the write timeout's
	default:
		c.lose(nil, core.ErrTimeout)
	}
}

// connected: the connection is there.
func (c *Client) connected() {
	if c.StartTLS == TLSImplicit {
		c.secure()
		return
	}
	c.await()
}

// await waits for the greeting.
func (c *Client) await() {
	c.step = stepGreeting
	c.expect(command{step: stepGreeting, timeout: c.timeouts.Greeting})
}

// answered takes the answer to a command.
func (c *Client) answered(cmd command, r *Reply) {
	switch cmd.step {
	case stepGreeting:
		if c.accepted(r) {
			c.hello()
		}
	case stepHello:
		if r.Code/100 == 5 && !c.LMTP { // RFC 5321 section 3.2
			c.step = stepHelo
			c.command(stepHelo, c.timeouts.Hello, "HELO "+c.name())
		} else if c.accepted(r) {
			c.offers = readOffers(r)
			c.helloed()
		}
	case stepHelo:
		if c.accepted(r) {
			c.helloed()
		}
	case stepStartTLS:
		switch {
		case r.Code == 220:
			c.secure()
		case r.Positive():
			c.misplaced(r)
		case c.StartTLS == TLSRequired:
			c.leave(r, nil)
		default:
			c.authenticate()
		}
	case stepAuth:
		c.authAnswered(r)
	case stepCancel:
		c.leave(nil, c.verdict.err)
	case stepReset:
		c.accepted(r)
	case stepQuit:
		_ = c.conn.Close()
	default:
		c.job.answered(cmd, r)
	}
}

// accepted tells whether r is 2xx. A refusal ends the connection.
func (c *Client) accepted(r *Reply) bool {
	switch {
	case r.Code/100 == 2:
		return true
	case r.Positive():
		c.misplaced(r)
	default:
		c.leave(r, nil)
	}
	return false
}

// misplaced is a reply that cannot be one to what was asked.
func (c *Client) misplaced(r *Reply) {
	c.lose(nil, fmt.Errorf("%w here: %s", ErrBadReply, r.Error()))
}

// name is what we call ourselves. RFC 5321 section 4.1.4
func (c *Client) name() string {
	if c.Hostname != "" {
		return c.Hostname
	}
	if a := appendLiteral(nil, c.conn.LocalAddr()); len(a) > 0 {
		return string(a)
	}
	return "localhost"
}

// hello introduces us.
func (c *Client) hello() {
	verb := "EHLO "
	if c.LMTP {
		verb = "LHLO "
	}
	c.step = stepHello
	c.command(stepHello, c.timeouts.Hello, verb+c.name())
}

// helloed chooses what comes before messages.
func (c *Client) helloed() {
	_, offered := c.Offers("STARTTLS")
	switch {
	case c.tls != nil || c.StartTLS == TLSNever:
	case c.StartTLS == TLSRequired && !offered:
		c.step = stepStartTLS
		c.leave(nil, fmt.Errorf("%w: STARTTLS is not offered", ErrNoTLS))
		return
	case offered && (c.StartTLS == TLSRequired || c.host != "" || c.TLSConfig != nil):
		c.step = stepStartTLS
		c.command(stepStartTLS, c.timeouts.StartTLS, "STARTTLS")
		return
	}
	c.authenticate()
}

// secure begins the handshake. What was read behind the answer to STARTTLS was not protected: CVE-2011-0411.
func (c *Client) secure() {
	c.step = stepHandshake
	cfg := c.TLSConfig.Clone()
	if cfg == nil {
		cfg = new(tls.Config)
	}
	if cfg.ServerName == "" {
		cfg.ServerName = c.host
	}
	c.wait(c.timeouts.Handshake)
	dropped, err := startClientTLS(c.conn, cfg)
	switch {
	case err != nil:
		c.lose(nil, err)
	case dropped > 0:
		c.lose(nil, ErrInjected)
	}
}

// open: messages can be sent.
func (c *Client) open() {
	c.step, c.ready = stepIdle, true
	if c.opened != nil {
		c.opened()
	}
	c.work()
}

// clientHandler is a Client as the handler of its conversation.
type clientHandler Client

// HandleConnect: the connection is there.
func (h *clientHandler) HandleConnect(*chat.Conn) error {
	(*Client)(h).connected()
	return nil
}

// HandleSecure: the handshake is over. What the server said before it does not count: RFC 3207 section 4.2.
func (h *clientHandler) HandleSecure(conn *chat.Conn, state tls.ConnectionState) error {
	c := (*Client)(h)
	if c.step != stepHandshake || c.tls != nil {
		return nil
	}
	c.tls = &state
	c.offers = nil
	c.buf, c.reply = nil, replyParser{}
	conn.SetTerminator(chat.CRLF)
	if c.StartTLS == TLSImplicit {
		c.await()
	} else {
		c.hello()
	}
	return nil
}

// CollectIncomingData collects a line of a reply.
func (h *clientHandler) CollectIncomingData(_ *chat.Conn, data []byte) error {
	h.buf = append(h.buf, data...)
	return nil
}

// FoundTerminator takes a line of a reply. A CR or LF that does not end a line has no place in one.
func (h *clientHandler) FoundTerminator(*chat.Conn) error {
	c := (*Client)(h)
	line := c.buf
	if c.buf = line[:0]; cap(line) > keepReply {
		c.buf = nil
	}
	if bytes.ContainsAny(line, "\r\n") {
		c.lose(nil, fmt.Errorf("%w: a CR or LF by itself", ErrBadReply))
		return nil
	}
	r, err := c.reply.line(line)
	switch {
	case err != nil:
		c.lose(nil, err)
	case r != nil:
		c.replied(r)
	}
	return nil
}

// replied takes a reply.
func (c *Client) replied(r *Reply) {
	if s := c.now(); s != stepHello && s != stepHelo || !r.Positive() { // they have none: RFC 2034 section 4
		r.takeEnhanced()
	}
	switch {
	case r.Code == 421 && !c.parting: // at any time: RFC 5321 section 3.8
		c.lose(r, nil)
		return
	case len(c.pending) == 0:
		c.unasked(r)
		return
	}
	cmd := c.pending[0]
	c.pending = append(c.pending[:0], c.pending[1:]...)
	c.ahead -= cmd.octets
	if len(c.pending) > 0 {
		c.wait(c.pending[0].timeout)
	} else {
		c.wait(0)
	}
	c.step = cmd.step
	c.answered(cmd, r)
	if c.job != nil && !c.conn.Closed() {
		c.job.advance()
	}
}

// unasked is a reply to nothing. In a message it may be the server's answer before the end, which some give: then nobody
// can tell any more what is an answer to what.
func (c *Client) unasked(r *Reply) {
	if c.job != nil && c.job.body != nil && !r.Positive() {
		c.lose(r, nil)
		return
	}
	c.lose(nil, fmt.Errorf("%w: unasked: %s", ErrBadReply, r.Error()))
}

// HandleTooLong: no reply has such a line.
func (h *clientHandler) HandleTooLong(*chat.Conn) error {
	(*Client)(h).lose(nil, fmt.Errorf("%w: a line of more than %d octets", ErrBadReply, maxReplyLine))
	return nil
}

// HandleEOF: who has no more to say will not answer.
func (h *clientHandler) HandleEOF(conn *chat.Conn) error {
	c := (*Client)(h)
	if c.parting {
		return conn.Close()
	}
	c.lose(nil, io.EOF)
	return nil
}

// HandleError: a func of the caller's panicked, or a Body did.
func (h *clientHandler) HandleError(conn *chat.Conn, err error) {
	conn.Core().LogError(err)
	(*Client)(h).lose(nil, err)
}

// HandleShutdown: the message that is under way may still come to its end, within the grace of the shutdown. No other one
// begins.
func (h *clientHandler) HandleShutdown(*chat.Conn) error {
	c := (*Client)(h)
	c.quitting = true
	if !c.ready {
		if !c.parting {
			c.lose(nil, core.ErrShutdown)
		}
		return nil
	}
	f := c.fail(core.ErrShutdown)
	f.step = stepIdle
	j := c.job
	c.job = nil
	defer c.work()
	defer func() { c.job = j }()
	c.failAll(f)
	return nil
}

// HandleClose: the end, for whatever reason.
func (h *clientHandler) HandleClose(_ *chat.Conn, cause error) {
	c := (*Client)(h)
	c.closed, c.ready, c.quitting = true, false, true
	switch {
	case c.verdict != nil || c.parting: // nothing depends on the answer to QUIT
	case cause == nil:
		c.verdict = c.fail(core.ErrClosed)
	default:
		c.verdict = c.fail(cause)
	}
	f := c.verdict
	if f == nil {
		f = c.fail(core.ErrClosed) // there is nothing left that it could be told to
	}
	c.failAll(f)
}

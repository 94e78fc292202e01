package smtp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// Client sends mail: one connection to an ESMTP server (RFC 5321) or an LMTP one (RFC 2033), and a queue of messages that
// go over it, one after the other. Its fields must not be changed once it is dialled; for another connection make another
// Client. All methods are for the loop's goroutine, and none of them calls a func of the caller's.
//
//	c := &smtp.Client{Hostname: "client.example.org"}
//	err := c.Dial(loop, "tcp", "mail.example.org:25")
//	...
//	err = c.Send(&smtp.Outgoing{From: from, To: to, Body: file}, func(r *smtp.Result) { ... })
//	...
//	c.Quit() // when everything is sent
//
// What the server offers is used: PIPELINING, CHUNKING, SIZE, 8BITMIME, SMTPUTF8, DSN. What a message or the Client needs,
// and the server does not offer, is a refusal that says so, and not left out silently.
type Client struct {
	// Hostname is what the client calls itself: a domain, or an address literal. "": the literal of its own address.
	Hostname string

	// LMTP speaks LMTP: LHLO, and an answer for each recipient at the end of a message.
	LMTP bool

	// StartTLS says whether there is TLS, and from when on.
	StartTLS TLSPolicy

	// TLSConfig is for TLS; nil is an empty one. Without a ServerName it is used with the host that was dialled.
	TLSConfig *tls.Config

	// Auth says who the client is; nil: nobody. A server that does not let it authenticate gets no message.
	Auth *ClientAuth

	// Dialer has the time for connecting and the address to connect from. The addresses of a host are tried in turn.
	Dialer core.Dialer

	// Timeouts of the steps.
	Timeouts ClientTimeouts

	// NoPipelining and NoChunking do without PIPELINING (RFC 2920) and CHUNKING (RFC 3030) also where they are offered.
	NoPipelining, NoChunking bool

	// MaxQueue is how many messages may wait: 1,000 if 0.
	MaxQueue int

	// Closed, if set, is called once when the connection is over and every result was given: with nil after Quit,
	// otherwise with why.
	Closed func(cause error)

	opened func() // messages can be sent

	loop     *core.Loop
	conn     *chat.Conn // nil: not dialled
	host     string     // that was dialled; "" if it has no name or address
	timeouts ClientTimeouts

	step     step
	ready    bool                 // for messages
	quitting bool                 // Quit: no further message is taken
	parting  bool                 // QUIT was sent
	closed   bool                 // HandleClose came
	told     bool                 // Closed was called
	verdict  *failure             // why it ends, if that is known
	offers   map[string]string    // after EHLO: parameters by keyword
	tls      *tls.ConnectionState // nil: in the clear
	exchange ClientExchange       // of AUTH

	buf     []byte // of a line
	reply   replyParser
	pending []command // sent and not answered
	ahead   int       // octets of those
	timer   *core.Timer

	queue   []*mailing // not begun
	job     *mailing   // under way
	results []*mailing // over, and their results not given yet
	dirty   bool       // the server may still be in a transaction: RSET comes first
	due     bool       // work is scheduled
}

// TLSPolicy says whether a Client uses TLS. What is demanded is never done without.
type TLSPolicy uint8

const (
	// TLSOpportunistic uses STARTTLS where it is offered, and goes on without where it is not, or is refused. It protects
	// from who only listens: who can change what comes from the server can take the offer away. A handshake that fails ends
	// the connection. Where there is no name to check the certificate against (a unix socket, Attach) it wants a TLSConfig.
	TLSOpportunistic TLSPolicy = iota

	// TLSRequired demands STARTTLS: a server that does not offer it gets neither password nor message. RFC 3207
	TLSRequired

	// TLSImplicit begins with the handshake: "submissions", port 465. RFC 8314 section 3.3
	TLSImplicit

	// TLSNever stays in the clear.
	TLSNever
)

func (p TLSPolicy) String() string {
	return [...]string{"opportunistic", "required", "implicit", "never"}[min(p, TLSNever)]
}

// ClientTimeouts are how long a Client waits at each step. 0 is the default, that of RFC 5321 section 4.5.3.2 where it has
// one; negative is for ever. The time for connecting is that of Client.Dialer.
type ClientTimeouts struct {
	Greeting  time.Duration // the server's first words: 5 minutes
	Hello     time.Duration // EHLO, HELO, LHLO: 5 minutes
	StartTLS  time.Duration // the answer to STARTTLS: 2 minutes
	Handshake time.Duration // of TLS: 1 minute
	Auth      time.Duration // each step of AUTH: 5 minutes
	Mail      time.Duration // MAIL, and RSET before it: 5 minutes
	Rcpt      time.Duration // each RCPT: 5 minutes
	Data      time.Duration // the answer to DATA: 2 minutes
	Block     time.Duration // within a message: the server takes nothing, or does not answer a chunk: 3 minutes
	End       time.Duration // the answer to the message; with LMTP for each recipient: 10 minutes
	Quit      time.Duration // the answer to QUIT, on which nothing depends: 10 seconds
	Idle      time.Duration // how long the connection is kept without a message; then QUIT: 4 minutes, as servers have 5
}

func (t *ClientTimeouts) setDefaults() {
	or(&t.Greeting, 5*time.Minute)
	or(&t.Hello, 5*time.Minute)
	or(&t.StartTLS, 2*time.Minute)
	or(&t.Handshake, time.Minute)
	or(&t.Auth, 5*time.Minute)
	or(&t.Mail, 5*time.Minute)
	or(&t.Rcpt, 5*time.Minute)
	or(&t.Data, 2*time.Minute)
	or(&t.Block, 3*time.Minute)
	or(&t.End, 10*time.Minute)
	or(&t.Quit, 10*time.Second)
	or(&t.Idle, 4*time.Minute)
}

// DefaultMaxQueue is Client.MaxQueue unless told.
const DefaultMaxQueue = 1000

// Errors of a Client: Result.Err, the cause that Client.Closed gets.
var (
	// ErrBadReply: what the server said is no reply, or none that belongs there. RFC 5321 section 4.2
	ErrBadReply = errors.New("smtp: the server's reply makes no sense")

	// ErrInjected: octets followed the answer to STARTTLS, so that somebody else may have put them there.
	ErrInjected = errors.New("smtp: octets between the answer to STARTTLS and the handshake")

	// ErrNoTLS: TLS is demanded, and not to be had.
	ErrNoTLS = errors.New("smtp: no TLS, which is demanded")

	// ErrNoAuth: the server offers no AUTH, or no mechanism that we have and may use on this connection.
	ErrNoAuth = errors.New("smtp: no mechanism of AUTH that may be used")
)

var errDialled = errors.New("smtp: the Client was dialled already")

// Dial connects to a server: see core.Dial for networks and addresses; "unix" is for LMTP. It returns at once, and messages
// can be sent from now on. What becomes of the connection is told by their results and Closed; an error is returned only
// for what is wrong with the fields or the call.
func (c *Client) Dial(l *core.Loop, network, address string) error {
	if err := c.prepare(l); err != nil {
		return err
	}
	if host, _, err := net.SplitHostPort(address); err == nil && network != "unix" {
		c.host = host
	}
	conn, err := chat.DialWith(&c.Dialer, l, network, address, c.attached)
	return c.begun(conn, err)
}

// Attach sends mail over a connected socket. On an error it is still the caller's.
func (c *Client) Attach(l *core.Loop, s core.Socket) error {
	if err := c.prepare(l); err != nil {
		return err
	}
	conn, err := chat.Attach(l, s, c.attached)
	if err = c.begun(conn, err); err == nil {
		c.connected()
	}
	return err
}

// prepare looks at the fields.
func (c *Client) prepare(l *core.Loop) error {
	switch {
	case c.conn != nil:
		return errDialled
	case c.Hostname != "" && !goodHello(c.Hostname):
		return fmt.Errorf("smtp: Client.Hostname %q is no host name", c.Hostname)
	}
	if err := c.Auth.check(); err != nil {
		return err
	}
	c.loop, c.timeouts, c.step = l, c.Timeouts, stepConnect
	c.timeouts.setDefaults()
	if c.MaxQueue == 0 {
		c.MaxQueue = DefaultMaxQueue
	}
	return nil
}

func (c *Client) attached(conn *chat.Conn) chat.Handler {
	c.conn = conn
	conn.SetTerminator(chat.CRLF)
	conn.SetLimit(maxReplyLine)
	conn.SetMarks(clientMarks)
	return (*clientHandler)(c)
}

func (c *Client) begun(conn *chat.Conn, err error) error {
	if c.conn = conn; err != nil {
		c.conn = nil
	}
	return err
}

// Send queues a message. done is called once, later, with what became of it. Errors: core.ErrOverflow: MaxQueue messages
// wait; core.ErrClosed: it is not dialled, or closed, or closing. Then done is not called.
func (c *Client) Send(m *Outgoing, done func(*Result)) error {
	return c.enqueue(&mailing{c: c, out: m, from: m.From, params: m.Params, to: m.To, done: done})
}

func (c *Client) enqueue(j *mailing) error {
	switch {
	case !c.Open():
		return core.ErrClosed
	case c.MaxQueue > 0 && len(c.queue) >= c.MaxQueue:
		return core.ErrOverflow
	}
	c.queue = append(c.queue, j)
	c.schedule()
	return nil
}

// Open tells whether Send takes a message: from Dial to Quit, Close, or the end of the connection.
func (c *Client) Open() bool { return c.conn != nil && !c.quitting && !c.conn.Closed() }

// Len returns how many messages have no result yet.
func (c *Client) Len() int {
	n := len(c.queue) + len(c.results)
	if c.job != nil {
		n++
	}
	return n
}

// Quit has the connection end, with QUIT, when everything that was queued is sent.
func (c *Client) Quit() {
	if !c.quitting && c.conn != nil {
		c.quitting = true
		c.schedule()
	}
}

// Close ends the connection at once. Messages that have no result fail with core.ErrClosed.
func (c *Client) Close() {
	if c.conn != nil {
		c.lose(nil, core.ErrClosed)
	}
}

// Conn returns the conversation, nil before Dial. Leave its handler, terminator and input alone.
func (c *Client) Conn() *chat.Conn { return c.conn }

// TLS returns the state of the secured connection, nil without.
func (c *Client) TLS() *tls.ConnectionState { return c.tls }

// Offers tells whether the server offers an extension, in answer to EHLO, and with which parameters. keyword is in upper
// case.
func (c *Client) Offers(keyword string) (params string, ok bool) {
	params, ok = c.offers[keyword]
	return params, ok
}

// schedule has the queue worked on when this event is over.
func (c *Client) schedule() {
	if c.ready && c.job == nil && !c.due {
		c.due = true
		c.conn.AfterFunc(0, func() {
			c.due = false
			c.work()
		})
	}
}

// work begins what waits.
func (c *Client) work() {
	for c.ready && c.job == nil && !c.conn.Closed() {
		switch {
		case len(c.queue) > 0:
			c.job, c.queue[0] = c.queue[0], nil
			c.queue = c.queue[1:]
			c.wait(0)
			c.job.begin()
		case c.quitting:
			c.part()
		default:
			c.step = stepIdle
			c.wait(c.timeouts.Idle)
			return
		}
	}
}

// finished is called when a message is over.
func (c *Client) finished(j *mailing) {
	c.job = nil
	c.results = append(c.results, j)
	c.give()
	c.schedule() // a handler that has much to say must not run for long, nor recurse
}

// give gives the results. A func that panics does not keep the others from theirs.
func (c *Client) give() {
	defer func() {
		if len(c.results) > 0 || c.closed && !c.told {
			c.soon(c.give)
		}
	}()
	for len(c.results) > 0 {
		j := c.results[0]
		c.results[0] = nil
		c.results = c.results[1:]
		j.deliver()
	}
	if c.closed && !c.told {
		c.told = true
		if c.Closed != nil {
			c.Closed(c.verdict.cause())
		}
	}
}

// soon runs f on the loop when this event is over, also if the connection is closed.
func (c *Client) soon(f func()) {
	if !c.loop.Post(f) {
		c.loop.AfterFunc(0, f)
	}
}

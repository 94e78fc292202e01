package smtp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// recorder is a Backend that keeps what it gets. Its recipients: user and Postmaster@example.org, postmaster; nobody is
// unknown, later is temporarily refused.
type recorder struct {
	mails   []*mail // committed
	aborted int
	open    int // begun, neither committed nor aborted
	log     []string

	begin  func(s *smtp.Session, m *mail) error
	write  func(s *smtp.Session, p []byte) error
	commit func(s *smtp.Session, m *mail) error
	hooks  map[string]func(s *smtp.Session, arg string) error
}

type mail struct {
	r        *recorder
	s        *smtp.Session
	envelope smtp.Envelope
	text     bytes.Buffer
	user     string
}

func (r *recorder) Begin(s *smtp.Session, e *smtp.Envelope) (smtp.Message, error) {
	m := &mail{r: r, s: s, envelope: *e, user: s.User()}
	var err error
	if r.begin != nil {
		err = r.begin(s, m)
	}
	var reply *smtp.Reply
	if errors.As(err, &reply) && !reply.Positive() {
		return nil, err
	}
	r.open++
	return m, err
}

func (m *mail) Write(p []byte) (int, error) {
	m.text.Write(p)
	if m.r.write != nil {
		return len(p), m.r.write(m.s, p)
	}
	return len(p), nil
}

func (m *mail) Commit() error {
	m.r.open--
	if m.r.commit != nil {
		if err := m.r.commit(m.s, m); err != nil {
			var reply *smtp.Reply
			if !errors.As(err, &reply) || !reply.Positive() {
				return err
			}
			m.r.mails = append(m.r.mails, m)
			return err
		}
	}
	m.r.mails = append(m.r.mails, m)
	return nil
}

func (m *mail) Abort() {
	m.r.open--
	m.r.aborted++
}

func (r *recorder) hook(s *smtp.Session, name, arg string) error {
	r.log = append(r.log, strings.TrimSpace(name+" "+arg))
	if h := r.hooks[name]; h != nil {
		return h(s, arg)
	}
	return nil
}

func (r *recorder) HandleConnect(s *smtp.Session) error { return r.hook(s, "connect", "") }
func (r *recorder) HandleHello(s *smtp.Session, domain string) error {
	return r.hook(s, "hello", domain)
}
func (r *recorder) HandleMail(s *smtp.Session, from smtp.Path, _ smtp.Params) error {
	return r.hook(s, "mail", from.String())
}
func (r *recorder) HandleRcpt(s *smtp.Session, to smtp.Path, _ smtp.Params) error {
	if err := r.hook(s, "rcpt", to.String()); err != nil {
		return err
	}
	switch to.Local {
	case "nobody", "Green":
		return smtp.Replyf(550, "5.1.1", "No such user here")
	case "later":
		return smtp.Replyf(450, "4.2.0", "Mailbox busy")
	case "moved":
		return smtp.Replyf(251, "2.1.5", "User not local; will forward")
	}
	return nil
}
func (r *recorder) HandleVrfy(s *smtp.Session, what string) error { return r.hook(s, "vrfy", what) }
func (r *recorder) HandleExpn(s *smtp.Session, list string) error { return r.hook(s, "expn", list) }
func (r *recorder) HandleReset(s *smtp.Session)                   { _ = r.hook(s, "reset", "") }
func (r *recorder) HandleQuit(s *smtp.Session, cause error) {
	_ = r.hook(s, "quit", fmt.Sprint(cause))
}

// body is what came of a mail, without the Received field of this server.
func (m *mail) body() string {
	text := m.text.String()
	if strings.HasPrefix(text, "Received: from ") {
		i := strings.Index(text, "+0000\r\n")
		return text[i+len("+0000\r\n"):]
	}
	return text
}

// scene is a server in a world of its own.
type scene struct {
	*sim.World
	t    *testing.T
	loop *core.Loop
	srv  *smtp.Server
	rec  *recorder
	log  *bytes.Buffer
}

const address = "server:25"

// newScene starts a server; what is not set in it gets the values of tests.
func newScene(t *testing.T, net sim.Config, srv *smtp.Server) *scene {
	t.Helper()
	net.T = t
	s := &scene{World: sim.New(net), t: t, srv: srv, log: new(bytes.Buffer)}
	s.loop = s.Loop(core.Options{Logger: slog.New(slog.NewTextHandler(s.log, nil))})
	t.Cleanup(func() { s.loop.Close() })
	s.rec = fill(srv)
	_, err := srv.Listen(s.loop, "tcp", address)
	require.NoError(t, err)
	return s
}

func fill(srv *smtp.Server) *recorder {
	if srv.Hostname == "" {
		srv.Hostname = "mx.example.org"
	}
	if srv.Backend == nil {
		srv.Backend = new(recorder)
	}
	rec, _ := srv.Backend.(*recorder)
	return rec
}

// client is a Peer that has been greeted.
func (s *scene) client() *sim.Peer {
	s.t.Helper()
	p := s.Dial("tcp", address)
	p.Want("220 mx.example.org ESMTP\r\n")
	return p
}

// hello is a client that has said EHLO.
func (s *scene) hello() *sim.Peer {
	s.t.Helper()
	p := s.client()
	p.Say("EHLO client.example\r\n")
	require.Regexp(s.t, `(?s)^250-mx\.example\.org\r\n.*250 HELP\r\n$`, p.Read())
	return p
}

// ask says a line and wants an answer.
func ask(p *sim.Peer, line, answer string) {
	p.Say(line + "\r\n")
	p.Want(answer + "\r\n")
}

// envelope begins a transaction.
func envelope(p *sim.Peer) {
	ask(p, "MAIL FROM:<a@client.example>", "250 2.1.0 Ok")
	ask(p, "RCPT TO:<user@example.org>", "250 2.1.5 Ok")
}

func TestFirstMessage(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{})
	p := s.hello()
	envelope(p)
	ask(p, "DATA", "354 End the message with a dot on a line by itself")
	p.Say("Subject: hi\r\n\r\n..dot\r\nend\r\n.\r\n")
	require.Regexp(t, `^250 2\.0\.0 Ok, taken as [0-9A-Z.]+\.1\r\n$`, p.Read())
	ask(p, "QUIT", "221 2.0.0 mx.example.org Goodbye")
	p.WantClosed()
	require.Len(t, s.rec.mails, 1)
	m := s.rec.mails[0]
	require.Equal(t, "Subject: hi\r\n\r\n.dot\r\nend\r\n", m.body())
	require.Regexp(t, `^Received: from client\.example \(\[192\.0\.2\.2\]\)\r\n`+
		`\tby mx\.example\.org with ESMTP id [0-9A-Z.]+\.1;\r\n\tSat, 01 Jan 2000 00:00:00 \+0000\r\n`, m.text.String())
	require.Equal(t, "a@client.example", m.envelope.From.Address())
	require.Equal(t, smtp.Counters{Sessions: 1, Commands: 5, Messages: 1, Recipients: 1, Octets: 26}, s.srv.Counters())
	require.Zero(t, s.srv.Open())
	require.Equal(t, []string{"connect", "hello client.example", "mail <a@client.example>", "rcpt <user@example.org>", "quit <nil>"}, s.rec.log)
}

func TestLater(t *testing.T) {
	wait := func(err error) func(s *smtp.Session, _ string) error {
		return func(s *smtp.Session, _ string) error {
			return s.Later(func(context.Context) error { return err })
		}
	}
	refusal := smtp.Replyf(450, "4.7.1", "Not now")
	rec := &recorder{hooks: map[string]func(*smtp.Session, string) error{
		"connect": wait(nil), "hello": wait(nil), "mail": wait(nil), "rcpt": wait(nil),
		"vrfy": wait(refusal), "expn": wait(errors.New("secret words")),
	}}
	later := func(s *smtp.Session) error { return s.Later(func(context.Context) error { return nil }) }
	rec.begin = func(s *smtp.Session, _ *mail) error { return later(s) }
	rec.write = func(s *smtp.Session, _ []byte) error { return later(s) }
	rec.commit = func(s *smtp.Session, m *mail) error { rec.mails = append(rec.mails, m); return later(s) }
	s := newScene(t, sim.Config{Work: 50 * time.Millisecond}, &smtp.Server{Backend: rec})
	p := s.hello()
	p.Say("VRFY x\r\nEXPN y\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<user@d.e>\r\nDATA\r\nx\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<u@e>\r\nBDAT 3\r\nx\r\nBDAT 0 LAST\r\nNOOP\r\n")
	require.Regexp(t, "^450 4.7.1 Not now\r\n451 4.3.0 Local error, try again later\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 .*\r\n250 2.0.0 .*\r\n"+
		"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.0.0 3 octets received\r\n250 2.0.0 .*\r\n250 2.0.0 Ok\r\n$", p.Read())
	require.Len(t, rec.mails, 2)
	require.Equal(t, "x\r\n", rec.mails[0].body())
	require.Equal(t, "x\r\n", rec.mails[1].body())
	require.Contains(t, s.log.String(), "secret words")
}

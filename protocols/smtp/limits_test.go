package smtp_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// The limits that the dialogs of testdata/limits-* do not show.

func TestConnections(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Limits: smtp.Limits{Conns: 3, ConnsPerAddr: 2}})
	for range 2 {
		s.client()
	}
	p := s.Dial("tcp", address)
	p.Want("421 4.7.0 mx.example.org Too many connections, try again later\r\n")
	p.WantClosed()
	s.Host("other", "192.0.2.3")
	s.Host("third", "192.0.2.4")
	s.DialFrom("tcp", "other:0", address).Want("220 mx.example.org ESMTP\r\n")
	p = s.DialFrom("tcp", "third:0", address)
	p.Want("421 4.7.0 mx.example.org Too many connections, try again later\r\n")
	p.WantClosed()
	require.Equal(t, 3, s.srv.Open())
}

func TestCommands(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Limits: smtp.Limits{Commands: 3, Junk: -1}})
	p := s.client()
	p.Say("NOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\n")
	p.Want("250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n421 4.7.0 mx.example.org Too many commands\r\n")
	p.WantClosed()
}

// Negative limits are none.
func TestNoLimits(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Limits: smtp.Limits{CommandLine: -1, AuthLine: -1, TextLine: -1, MessageSize: -1, Recipients: -1,
		Transactions: -1, Commands: -1, Errors: -1, Junk: -1, AuthFailures: -1, AuthDelay: -1, Hops: -1, IdleTimeout: -1, DataTimeout: -1,
		TLSTimeout: -1, Conns: -1, ConnsPerAddr: -1}})
	p := s.client()
	p.Say("EHLO x\r\n")
	require.NotContains(t, p.Read(), "LIMITS")
	p.Say(strings.Repeat("NOOP\r\n", 2000) + strings.Repeat("x\r\n", 2000) + "NOOP " + strings.Repeat("x", 500_000) + "\r\n")
	require.True(t, strings.HasSuffix(p.Read(), "\r\n250 2.0.0 Ok\r\n"))
	s.Advance(100 * time.Hour)
	p.Say("MAIL FROM:<a@b>\r\n" + strings.Repeat("RCPT TO:<a@b>\r\n", 2000) + "DATA\r\n")
	require.Contains(t, p.Read(), "354 ")
	s.Advance(100 * time.Hour)
	p.Say(strings.Repeat("Received: x\r\n", 1000) + "\r\n" + strings.Repeat("x", 1<<20) + "\r\n.\r\n")
	require.Regexp(t, "^250 2.0.0 ", p.Read())
}

// The defaults are those of the table that they were chosen from.
func TestDefaultLimits(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Limits: smtp.Limits{Errors: -1}})
	p := s.hello()
	p.Say("MAIL FROM:<" + strings.Repeat("l", smtp.MaxLocalPart) + "@b>\r\n")
	p.Want("250 2.1.0 Ok\r\n")
	for _, to := range []struct {
		path string
		good bool
	}{
		{strings.Repeat("l", smtp.MaxLocalPart+1) + "@b", false},
		{"a@" + strings.Repeat("d", smtp.MaxDomain), true},
		{"a@" + strings.Repeat("d", smtp.MaxDomain+1), false},
		{"@" + strings.Repeat("d", 255) + ",@" + strings.Repeat("d", 255) + ",@" + strings.Repeat("d", 249) + ":a@" + strings.Repeat("d", 255), true},
		{"@" + strings.Repeat("d", 255) + ",@" + strings.Repeat("d", 255) + ",@" + strings.Repeat("d", 255) + ":a@" + strings.Repeat("d", 255), false},
	} {
		p.Say("RCPT TO:<" + to.path + ">\r\n")
		if to.good {
			p.Want("250 2.1.5 Ok\r\n")
		} else {
			p.Want("501 5.1.3 Syntax: RCPT TO:<address> [SP parameters]\r\n")
		}
	}
	p.Say(strings.Repeat("RCPT TO:<a@b>\r\n", 999))
	require.True(t, strings.HasSuffix(p.Read(), "250 2.1.5 Ok\r\n452 4.5.3 Too many recipients\r\n"))
}

// 421 at a shutdown, where nothing is under way; what is, comes to its end.
func TestShutdown(t *testing.T) {
	const bye = "421 4.3.2 mx.example.org The server shuts down, try again later\r\n"
	rec := &recorder{}
	var answer func(error)
	rec.hooks = hooks{"vrfy": func(s *smtp.Session, _ string) (pending error) { answer, pending = s.Deferred(); return pending }}
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
	idle, halfway, inData, inChunk, waiting := s.hello(), s.hello(), s.hello(), s.hello(), s.hello()
	halfway.Say("MAIL FROM:<a@b>\r\nRCPT")
	halfway.Want("250 2.1.0 Ok\r\n")
	envelope(inData)
	inData.Say("DATA\r\nx\r\n")
	require.Regexp(t, "^354", inData.Read())
	envelope(inChunk)
	inChunk.Say("BDAT 5\r\nab")
	waiting.Say("VRFY x\r\nNOOP\r\n")
	s.Settle()
	s.loop.Shutdown(time.Minute)
	for _, p := range []*sim.Peer{idle, halfway} {
		p.Want(bye)
		p.WantClosed()
	}
	inData.WantNothing()
	inChunk.WantNothing()
	waiting.WantNothing()
	inData.Say(".\r\n")
	require.Regexp(t, "^250 2.0.0 .*\r\n"+bye+"$", inData.Read())
	inData.WantClosed()
	inChunk.Say("c\r\n")
	inChunk.Want("250 2.0.0 5 octets received\r\n" + bye)
	inChunk.WantClosed()
	answer(nil)
	waiting.Want("252 2.1.5 Send it, and we shall see\r\n" + bye)
	waiting.WantClosed()
	require.Len(t, rec.mails, 1)
	require.Zero(t, rec.open)
	require.Contains(t, rec.log, "quit parley: shutdown")
}

// What the hooks of a Backend can do.
func TestHooks(t *testing.T) {
	refuse := func(code int, enhanced, text string) func(*smtp.Session, string) error {
		return func(*smtp.Session, string) error { return smtp.Replyf(code, enhanced, "%s", text) }
	}
	for _, tt := range []struct {
		name, hook, say, want string
		f                     func(*smtp.Session, string) error
		closed                bool
	}{
		{"a greeting", "connect", "", "220 mx.example.org ESMTP hello there\r\n", refuse(220, "", "hello there"), false},
		{"no service", "connect", "NOOP\r\nQUIT\r\n", "554 5.7.1 go\r\n", nil, true},
		{"too busy", "connect", "", "421 4.7.0 busy\r\n", refuse(421, "4.7.0", "busy"), true},
		{"a hello refused", "hello", "EHLO a\r\nMAIL FROM:<>\r\n", "550 5.7.1 no\r\n503 5.5.1 Say EHLO first\r\n", refuse(550, "5.7.1", "no"), false},
		{"a hello in other words", "hello", "HELO a\r\n", "250 mx.example.org pleased to meet you\r\n", refuse(250, "", "pleased to meet you"), false},
		{"a code of another class", "mail", "HELO a\r\nMAIL FROM:<>\r\n", "250 mx.example.org\r\n550 no\r\n", refuse(550, "2.1.0", "no"), false},
		{"no code", "mail", "HELO a\r\nMAIL FROM:<>\r\n", "250 mx.example.org\r\n451 4.3.0 Local error, try again later\r\n", refuse(77, "", "no"), false},
		{"354 is no answer to MAIL", "mail", "HELO a\r\nMAIL FROM:<>\r\n", "250 mx.example.org\r\n250 go on\r\n", refuse(354, "2.1.0", "go on"), false},
		{"a reply that would split", "mail", "HELO a\r\nMAIL FROM:<>\r\n", "250 mx.example.org\r\n550 5.7.1 a??250 Ok???\r\n",
			refuse(550, "5.7.1", "a\r\n250 Ok\r\n\xff"), false},
		{"421 closes", "mail", "HELO a\r\nMAIL FROM:<>\r\nNOOP\r\n", "250 mx.example.org\r\n421 4.7.0 no more\r\n", refuse(421, "4.7.0", "no more"), true},
		{"a panic closes", "mail", "HELO a\r\nMAIL FROM:<>\r\nNOOP\r\n", "250 mx.example.org\r\n421 4.3.0 mx.example.org Local error, try again later\r\n",
			func(*smtp.Session, string) error { panic("oh") }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := tt.f
			if f == nil {
				f = refuse(554, "5.7.1", "go")
				tt.want = "554 go\r\n503 5.5.1 No service for you; say QUIT\r\n221 2.0.0 mx.example.org Goodbye\r\n"
			}
			rec := &recorder{hooks: hooks{tt.hook: f}}
			s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
			p := s.Dial("tcp", address)
			if tt.hook != "connect" {
				p.Want("220 mx.example.org ESMTP\r\n")
			}
			p.Say(tt.say)
			p.Want(tt.want)
			if tt.closed {
				p.WantClosed()
			} else {
				p.WantNothing()
			}
		})
	}
}

// A reply is bounded in lines and octets, and has a text.
func TestReplyOnTheWire(t *testing.T) {
	long := &smtp.Reply{Code: 250, Enhanced: "2.1.5", Lines: make([]string, 2*smtp.MaxReplyLines)}
	for i := range long.Lines {
		long.Lines[i] = strings.Repeat("x", 1000)
	}
	rec := &recorder{hooks: hooks{"vrfy": func(_ *smtp.Session, what string) error {
		if what == "none" {
			return &smtp.Reply{Code: 250}
		}
		return long
	}}}
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
	p := s.client()
	p.Say("VRFY x\r\n")
	text := p.Read()
	require.Equal(t, smtp.MaxReplyLines, strings.Count(text, "\r\n"))
	for line := range strings.Lines(text) {
		require.Len(t, line, 4+smtp.MaxReplyText+2)
	}
	ask(p, "VRFY none", "250 Ok")
	require.Equal(t, "550 5.1.1 no / such", (&smtp.Reply{Code: 550, Enhanced: "5.1.1", Lines: []string{"no", "such"}}).Error())
	require.True(t, smtp.Replyf(450, "", "x").Temporary())
}

// Begin's answers.
func TestBegin(t *testing.T) {
	rec := new(recorder)
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
	p := s.hello()
	for _, tt := range []struct {
		err        error
		data, bdat string
	}{
		{smtp.Replyf(452, "4.3.1", "No room"), "452 4.3.1 No room\r\n", "452 4.3.1 No room\r\n"},
		{errors.New("disk"), "451 4.3.0 Local error, try again later\r\n", "451 4.3.0 Local error, try again later\r\n"},
		{smtp.Replyf(250, "", "Go on"), "354 Go on\r\n", "250 2.0.0 "},
	} {
		rec.begin = func(*smtp.Session, *mail) error { return tt.err }
		envelope(p)
		p.Say("DATA\r\n")
		p.Want(tt.data)
		if tt.data[0] == '3' {
			p.Say(".\r\n")
			require.Regexp(t, "^250 2.0.0 ", p.Read())
		}
		envelope(p)
		p.Say("BDAT 3 LAST\r\nabc")
		require.True(t, strings.HasPrefix(p.Read(), tt.bdat))
		ask(p, "DATA", "503 5.5.1 Say MAIL first")
	}
	none := newScene(t, sim.Config{}, &smtp.Server{Backend: bare{}, Domains: []string{"Example.ORG"}})
	p = none.hello()
	ask(p, "MAIL FROM:<a@b>", "250 2.1.0 Ok")
	ask(p, "RCPT TO:<a@other.example>", "550 5.7.1 Relaying denied")
	ask(p, "RCPT TO:<postMASTER>", "250 2.1.5 Ok")
	ask(p, "RCPT TO:<a+tag@example.org>", "250 2.1.5 Ok")
	ask(p, "DATA", "451 4.3.0 Local error, try again later")
}

// A user may send to whom it likes, if the Backend does not judge.
func TestRelayingForUsers(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: new(discardAll), Domains: []string{"example.org"},
		Auth: &smtp.ServerAuth{Password: passwords.Password, AllowInsecure: true}})
	p := s.hello()
	ask(p, "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm", "235 2.7.0 Authentication successful")
	ask(p, "MAIL FROM:<a@b>", "250 2.1.0 Ok")
	ask(p, "RCPT TO:<a@other.example>", "250 2.1.5 Ok")
	p.Say("BDAT 2 LAST\r\n\r\n")
	require.Regexp(t, "^250 2.0.0 ", p.Read())
	require.Contains(t, s.srv.Backend.(*discardAll).text.String(), " with ESMTPA id ")
}

type discardAll struct{ text strings.Builder }

func (d *discardAll) Begin(*smtp.Session, *smtp.Envelope) (smtp.Message, error) { return d, nil }
func (d *discardAll) Write(p []byte) (int, error)                               { return d.text.Write(p) }
func (d *discardAll) Commit() error                                             { return nil }
func (d *discardAll) Abort()                                                    {}

// HandleQuit is called once, and tells why.
func TestHandleQuit(t *testing.T) {
	for _, tt := range []struct {
		say   string
		end   func(*scene, *sim.Peer)
		cause error
	}{
		{"QUIT\r\n", nil, nil},
		{"", func(_ *scene, p *sim.Peer) { p.CloseWrite() }, io.EOF},
		{"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\nx", func(_ *scene, p *sim.Peer) { p.CloseWrite() }, io.EOF},
		{"", func(s *scene, _ *sim.Peer) { s.Advance(6 * time.Minute) }, core.ErrTimeout},
		{"GET / HTTP/1.1\r\n", nil, smtp.ErrNotSMTP},
		{strings.Repeat("x\r\n", 20), nil, smtp.ErrTooMuch},
	} {
		rec := new(recorder)
		var got []string
		s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
		rec.hooks = hooks{"quit": func(_ *smtp.Session, cause string) error { got = append(got, cause); return nil }}
		p := s.client()
		p.Say(tt.say)
		s.Settle()
		if tt.end != nil {
			tt.end(s, p)
		}
		p.Read()
		p.WantClosed()
		s.Advance(time.Minute) // what the client says besides is not waited for any longer
		want := "<nil>"
		if tt.cause != nil {
			want = tt.cause.Error()
		}
		require.Equal(t, []string{want}, got)
		require.Zero(t, rec.open)
	}
}

// smtp.md, attack 5: what stood behind STARTTLS is counted.
func TestInjectedIsCounted(t *testing.T) {
	cfg := useFakeTLS(t)
	s := newScene(t, sim.Config{}, &smtp.Server{TLSConfig: cfg})
	p := s.hello()
	p.Say("STARTTLS\r\nRSET\r\n")
	p.Want("220 2.0.0 Ready for TLS\r\n")
	p.WantNothing()
	p.Say(fakeHello)
	p.WantNothing()
	ask(p, "MAIL FROM:<>", "503 5.5.1 Say EHLO first")
	require.EqualValues(t, 6, s.srv.Counters().Injected)
	require.EqualValues(t, 1, s.srv.Counters().Secured)
	require.Contains(t, s.log.String(), "octets=6")
}

// A connection that begins with TLS is greeted when the handshake is over.
func TestListenTLS(t *testing.T) {
	cfg := useFakeTLS(t)
	s := newScene(t, sim.Config{}, &smtp.Server{TLSConfig: cfg})
	_, err := s.srv.ListenTLS(s.loop, "tcp", "server:465")
	require.NoError(t, err)
	p := s.Dial("tcp", "server:465")
	p.WantNothing()
	p.Say(fakeHello)
	p.Want("220 mx.example.org ESMTP\r\n")
	p.Say("EHLO x\r\n")
	require.NotContains(t, p.Read(), "STARTTLS")
	p = s.Dial("tcp", "server:465")
	s.Advance(11 * time.Second)
	p.WantClosed()
	require.EqualValues(t, 1, s.srv.Open())
}

// accepted is a Backend that hears of what was taken.
type accepted struct {
	eachRecorder
	mails []string
}

func (a *accepted) HandleAccepted(_ *smtp.Session, e *smtp.Envelope) {
	text := e.From.String()
	for _, to := range e.To {
		text += " " + to.Local
	}
	a.mails = append(a.mails, text)
}

// HandleAccepted is called for what is taken, when it is, and for nothing else.
func TestHandleAccepted(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		b := new(accepted)
		b.commit = func(_ *smtp.Session, m *mail) error {
			if strings.Contains(m.body(), "fail") {
				return smtp.Replyf(451, "4.3.0", "The message failed")
			}
			return nil
		}
		s := newScene(t, sim.Config{}, &smtp.Server{Backend: b, LMTP: lmtp})
		p := s.Dial("tcp", address)
		p.Say(map[bool]string{false: "EHLO a\r\n", true: "LHLO a\r\n"}[lmtp])
		for _, to := range []string{"pat", "full", "fail"} {
			p.Say("MAIL FROM:<" + to + "@a>\r\nRCPT TO:<" + to + "@example.org>\r\nDATA\r\n")
			s.Settle()
			p.Say(to + "\r\n.\r\n")
			s.Settle()
		}
		p.Say("MAIL FROM:<x@a>\r\nRCPT TO:<full@example.org>\r\nRCPT TO:<pat@example.org>\r\nDATA\r\n")
		s.Settle()
		require.Len(t, b.mails, 2)
		p.Say("x\r\n.\r\n")
		s.Settle()
		if lmtp { // its answers are those of each recipient
			require.Equal(t, []string{"<pat@a> pat", "<fail@a> fail", "<x@a> full pat"}, b.mails, s.Ladder())
		} else {
			require.Equal(t, []string{"<pat@a> pat", "<full@a> full", "<x@a> full pat"}, b.mails, s.Ladder())
		}
	}
}

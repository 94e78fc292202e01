package smtp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// What an attacker, or a hook in trouble, could do to a server; what a dialog can show stands in testdata/attack-*.

// A line without an end is counted to a limit of its own. A message with such a line has a hole, and the command that
// follows is none that was too long.
func TestEndlessLine(t *testing.T) {
	rec := &recorder{write: func(s *smtp.Session, p []byte) error {
		if strings.HasPrefix(string(p), "Received: ") {
			s.Conn().SetLimit(100) // as if 100 octets were a gigabyte
		}
		return nil
	}}
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec, Limits: smtp.Limits{TextLine: -1, MessageSize: -1}})
	p := s.hello()
	for begin, answer := range map[string]string{"": "554 5.6.0 A line of the message is too long", "\x00": "550 5.6.0 A NUL in the message"} {
		envelope(p)
		ask(p, "DATA", "354 End the message with a dot on a line by itself")
		p.Say(begin + strings.Repeat("x", 200) + "\r\n.\r\n")
		p.Want(answer + "\r\n")
		ask(p, "NOOP", "250 2.0.0 Ok")
	}
	require.Empty(t, rec.mails)
	require.Zero(t, rec.open)
}

// What is no answer does not let anybody in.
func TestAuthFailsClosed(t *testing.T) {
	var none *smtp.Reply
	for name, err := range map[string]error{"typed nil": none, "no code": &smtp.Reply{}, "no such code": &smtp.Reply{Code: 77}} {
		s := newScene(t, sim.Config{}, &smtp.Server{RequireAuth: true, Auth: &smtp.ServerAuth{AllowInsecure: true,
			Password: func(*smtp.Session, string, string) error { return err }}})
		p := s.hello()
		p.Say("AUTH PLAIN " + b64("\x00tim\x00x") + "\r\n")
		s.Advance(time.Second)
		p.Want("454 4.7.0 Authentication not possible now, try again later\r\n")
		ask(p, "MAIL FROM:<>", "530 5.7.0 Authentication required")
		require.Contains(t, s.log.String(), "smtp auth", name)
	}
}

// nobody is a mechanism that authenticates nobody in particular.
type nobody struct{}

func (nobody) Next([]byte) (challenge []byte, done bool, err error) { return nil, true, nil }
func (nobody) User() string                                         { return "" }

func TestMechanismsOfOnesOwn(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Auth: &smtp.ServerAuth{Mechanisms: []smtp.ServerMechanism{
		{Name: "PLAIN", Insecure: true, New: func(*smtp.Session) smtp.ServerExchange { return nobody{} }},
	}}})
	p := s.client()
	p.Say("EHLO x\r\n")
	require.Contains(t, p.Read(), "250-AUTH PLAIN\r\n", "once")
	p.Say("AUTH PLAIN\r\n")
	s.Advance(time.Second)
	p.Want("454 4.7.0 Authentication not possible now, try again later\r\n")
}

// A refusal for now, at the greeting, must not look like one for ever: mail would be given up.
func TestTemporaryAtGreeting(t *testing.T) {
	for answer, err := range map[string]error{
		"421 4.3.0 Local error, try again later\r\n": errors.New("no database"),
		"421 4.7.1 slowly\r\n":                       smtp.Replyf(450, "4.7.1", "slowly"),
	} {
		rec := &recorder{hooks: hooks{"connect": func(*smtp.Session, string) error { return err }}}
		s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
		p := s.Dial("tcp", address)
		p.Want(answer)
		p.WantClosed()
	}
}

// The delay holds for a greeting of the Backend's own, too. A refusal comes at once.
func TestGreetDelayWithHook(t *testing.T) {
	rec := &recorder{hooks: hooks{"connect": func(*smtp.Session, string) error { return smtp.Replyf(220, "", "welcome") }}}
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec, GreetDelay: time.Second})
	p := s.Dial("tcp", address)
	p.WantNothing()
	s.Advance(time.Second)
	p.Want("220 mx.example.org ESMTP welcome\r\n")
	rec.hooks["connect"] = func(*smtp.Session, string) error { return smtp.Replyf(550, "", "no") }
	s.Dial("tcp", address).Want("554 no\r\n")
}

// The octets of a chunk are no commands, also for a client that is not wanted.
func TestUnwantedChunk(t *testing.T) {
	rec := &recorder{hooks: hooks{"connect": func(*smtp.Session, string) error { return smtp.Replyf(554, "", "no") }}}
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
	p := s.Dial("tcp", address)
	p.Want("554 no\r\n")
	p.Say("BDAT 12 LAST\r\nQUIT\r\nQUIT\r\nNOOP\r\n")
	p.Want("503 5.5.1 No service for you; say QUIT\r\n503 5.5.1 No service for you; say QUIT\r\n")
}

// An answer that is given within the hook of another session is not acted on there: no hook is called within a hook, and
// what a hook panics with concerns its own client.
func TestAnswerWithinHook(t *testing.T) {
	var answer func(error)
	within := false
	rec := &recorder{hooks: hooks{"vrfy": func(s *smtp.Session, what string) (err error) {
		if what == "wait" {
			answer, err = s.Deferred()
			return err
		}
		within = true
		answer(nil)
		answer(nil)
		within = false
		return nil
	}}}
	rec.begin = func(s *smtp.Session, _ *mail) (err error) { answer, err = s.Deferred(); return err }
	rec.write = func(*smtp.Session, []byte) error {
		require.False(t, within)
		panic("secret")
	}
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
	a, b := s.hello(), s.hello()
	envelope(a)
	a.Say("DATA\r\n")
	a.WantNothing()
	ask(b, "VRFY now", "252 2.1.5 Send it, and we shall see")
	a.Want("354 End the message with a dot on a line by itself\r\n421 4.3.0 mx.example.org Local error, try again later\r\n")
	a.WantClosed()
	ask(b, "NOOP", "250 2.0.0 Ok")
	require.Zero(t, rec.open)
	b.Say("VRFY wait\r\n")
	b.WantNothing()
	answer(smtp.Replyf(250, "2.1.5", "first"))
	answer(smtp.Replyf(250, "2.1.5", "second"))
	b.Want("250 2.1.5 first\r\n")
}

// halfway answers for the first recipient at once, and for the others when its work is done.
type halfway struct{ recorder }

type halfwayMail struct{ *mail }

func (h *halfway) Begin(s *smtp.Session, e *smtp.Envelope) (smtp.Message, error) {
	m, err := h.recorder.Begin(s, e)
	return &halfwayMail{m.(*mail)}, err
}

func (m *halfwayMail) CommitEach(answer func(i int, err error)) error {
	answer(0, nil)
	return m.s.Later(func(context.Context) error { m.r.open--; return nil })
}

// More work than may wait, in LMTP: a message that is given up is accepted for nobody.
func TestTooMuchWorkInLMTP(t *testing.T) {
	rec := new(halfway)
	world := sim.New(sim.Config{T: t, Work: time.Second})
	loop := world.Loop(core.Options{MaxPosts: 2, MaxWorkers: 1, Logger: slog.New(slog.DiscardHandler)})
	defer loop.Close()
	srv := &smtp.Server{Backend: rec, LMTP: true}
	fill(srv)
	var peers []*sim.Peer
	for range 6 {
		sock, p := world.Pair()
		_, err := srv.Serve(loop, sock)
		require.NoError(t, err)
		p.Say("LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@d>\r\nDATA\r\n.\r\n")
		peers = append(peers, p)
	}
	world.Advance(time.Minute)
	refused := 0
	for _, p := range peers {
		_, answers, _ := strings.Cut(p.Read(), "\r\n354 ")
		_, answers, _ = strings.Cut(answers, "\r\n")
		if strings.Contains(answers, "451 ") {
			require.Equal(t, strings.Repeat("451 4.3.0 Local error, try again later\r\n", 2), answers)
			refused++
		}
	}
	require.Positive(t, refused)
	require.Equal(t, refused, rec.aborted)
	require.Zero(t, rec.open)
}

// busy has no more time after the second recipient.
type busy struct{ discardAll }

func (b *busy) HandleRcpt(*smtp.Session, smtp.Path, smtp.Params) error { return nil }

func (b *busy) Begin(*smtp.Session, *smtp.Envelope) (smtp.Message, error) { return b, nil }

func (b *busy) CommitEach(answer func(i int, err error)) error {
	answer(1, smtp.Replyf(421, "4.3.2", "enough"))
	return nil
}

// A 421 among the answers of LMTP closes, but not before each recipient has its answer: the others have got the message.
func TestEachGetsItsAnswer(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{LMTP: true, Backend: new(busy)})
	p := s.Dial("tcp", address)
	p.Say("LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n")
	p.Read()
	p.Say(".\r\nNOOP\r\n")
	require.Regexp(t, "^250 2.0.0 .*\r\n421 4.3.2 enough\r\n250 2.0.0 .*\r\n$", p.Read())
	p.WantClosed()
	require.EqualValues(t, 2, s.srv.Counters().Recipients)
}

// Work that has not begun when its client is gone does not begin any more.
func TestWorkOfTheGone(t *testing.T) {
	ran := 0
	rec := &recorder{hooks: hooks{"rcpt": func(s *smtp.Session, _ string) error {
		return s.Later(func(context.Context) error { ran++; return nil })
	}}}
	w := sim.New(sim.Config{T: t, Work: time.Second})
	loop := w.Loop(core.Options{MaxWorkers: 1})
	defer loop.Close()
	srv := &smtp.Server{Backend: rec}
	fill(srv)
	var conns []*chat.Conn
	for range 3 {
		sock, p := w.Pair()
		c, err := srv.Serve(loop, sock)
		require.NoError(t, err)
		p.Say("HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")
		w.Advance(time.Millisecond)
		conns = append(conns, c)
	}
	loop.Post(func() {
		for _, c := range conns[1:] {
			c.Close()
		}
	})
	w.Advance(time.Minute)
	require.Equal(t, 1, ran)
	require.Equal(t, 1, srv.Open())
}

// A session that ends before it has begun is counted out again, and its Backend is told.
func TestEndsBeforeItBegins(t *testing.T) {
	cfg := useFakeTLS(t)
	t.Cleanup(smtp.FakeTLS(func(*chat.Conn, *tls.Config) (int, error) { return 0, errors.New("no TLS today") }))
	for name, hook := range map[string]func(*smtp.Session, string) error{
		"closed":  func(s *smtp.Session, _ string) error { return s.Conn().Close() },
		"panic":   func(*smtp.Session, string) error { panic("secret") },
		"refused": func(*smtp.Session, string) error { return smtp.Replyf(421, "4.7.0", "no") },
	} {
		rec := &recorder{hooks: hooks{"connect": hook}}
		s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
		p := s.Dial("tcp", address)
		p.Read()
		p.WantClosed()
		require.Zero(t, s.srv.Open(), name)
		require.Len(t, rec.log, 2, name)
		require.Regexp(t, "^quit ", rec.log[1], name)
	}
	s := newScene(t, sim.Config{}, &smtp.Server{TLSConfig: cfg})
	_, err := s.srv.ListenTLS(s.loop, "tcp", "server:465")
	require.NoError(t, err)
	s.Dial("tcp", "server:465").WantClosed()
	require.Zero(t, s.srv.Open())
	require.Equal(t, []string{"quit no TLS today"}, s.rec.log)
}

// A Commit that closes the connection and wants to work later: that work never begins, so that the Message is aborted.
func TestCommitClosesAndWaits(t *testing.T) {
	rec := new(recorder)
	rec.commit = func(s *smtp.Session, _ *mail) error {
		rec.open++ // the recorder counts a commit that has begun as over
		s.Conn().Close()
		return s.Later(func(context.Context) error { t.Error("runs"); return nil })
	}
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
	p := s.hello()
	envelope(p)
	p.Say("BDAT 1 LAST\r\nx")
	p.WantClosed()
	require.Equal(t, 1, rec.aborted)
	require.Zero(t, rec.open)
}

// BINARYMIME does not need 8BITMIME.
func TestBinaryAlone(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Extensions: []string{"CHUNKING", "BINARYMIME"}})
	p := s.hello()
	ask(p, "MAIL FROM:<a@b> BODY=8BITMIME", "501 5.5.4 BODY can be 7BIT or BINARYMIME")
	ask(p, "MAIL FROM:<a@b> BODY=binarymime", "250 2.1.0 Ok")
}

// What pads a command is not kept with the recipient that it names.
func TestMemoryOfRecipients(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Extensions: smtp.AllExtensions})
	p := s.hello()
	ask(p, "MAIL FROM:<a@b>", "250 2.1.0 Ok")
	before := heap()
	for range 1000 {
		p.Say("RCPT TO:<@" + strings.Repeat("r", 200) + ":a@b>" + strings.Repeat(" ", 1000) + "NOTIFY=NEVER" + strings.Repeat(" ", 1000) + "\r\n")
		p.Read()
	}
	require.Less(t, heap()-before, int64(1<<20))
}

// Of the header are the lines before the first that is empty, whatever they end in.
func TestHopsWithBareLines(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{AllowBare: true, Limits: smtp.Limits{Hops: 1}})
	p := s.hello()
	for text, answer := range map[string]string{
		"x\nReceived: a\nReceived: b\n\n":     "554 5.4.6 ",
		"x\r\nReceived: a\r\nReceived: b\r\n": "554 5.4.6 ",
		"\nReceived: a\nReceived: b\n":        "250 2.0.0 ",
		"\r\nReceived: a\r\nReceived: b\r\n":  "250 2.0.0 ",
		"\r\rReceived: a\nReceived: b\n":      "250 2.0.0 ",
	} {
		envelope(p)
		ask(p, "DATA", "354 End the message with a dot on a line by itself")
		p.Say(text + "\r\n.\r\n")
		require.Regexp(t, "^"+answer, p.Read(), "%q", text)
	}
}

// RFC 9422 section 4: a limit has at most six digits. Without a limit of the size there is none to be named.
func TestLimitsThatAreLarge(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Limits: smtp.Limits{Recipients: 1_000_000, Transactions: 999_999, MessageSize: -1}})
	p := s.client()
	p.Say("EHLO x\r\n")
	require.Contains(t, p.Read(), "250-LIMITS MAILMAX=999999\r\n")
	ask(p, "MAIL FROM:<a@b> SIZE=99999999999999999999", "552 5.3.4 Message too large")
}

package smtp_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

type hooks = map[string]func(*smtp.Session, string) error

// While a hook's work is out, its client waits, and others are served.
func TestLaterHoldsNobodyElse(t *testing.T) {
	release := make(map[string]func(error))
	rec := &recorder{hooks: hooks{"rcpt": func(s *smtp.Session, to string) error {
		answer, pending := s.Deferred()
		release[to] = answer
		return pending
	}}}
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
	a, b := s.hello(), s.hello()
	for _, p := range []*sim.Peer{a, b} {
		ask(p, "MAIL FROM:<x@y>", "250 2.1.0 Ok")
	}
	a.Say("RCPT TO:<a@x>\r\nNOOP\r\nRCPT TO:<b@x>\r\n")
	a.WantNothing()
	b.Say("RCPT TO:<c@x>\r\n")
	b.WantNothing()
	release["<c@x>"](nil)
	b.Want("250 2.1.5 Ok\r\n")
	s.Advance(time.Hour) // a hook may take its time: the client is not idle
	a.WantNothing()
	release["<a@x>"](smtp.Replyf(450, "4.7.1", "Greylisted"))
	release["<a@x>"](nil) // counts once
	a.Want("450 4.7.1 Greylisted\r\n250 2.0.0 Ok\r\n")
	release["<b@x>"](nil)
	a.Want("250 2.1.5 Ok\r\n")
	a.Say("NOOP\r\n")
	a.Want("250 2.0.0 Ok\r\n")
}

// An answer that is there before the hook returns; one that is deferred again; Later of another session, or twice.
func TestDeferred(t *testing.T) {
	var other *smtp.Session
	var twice error
	rec := &recorder{hooks: hooks{
		"connect": func(s *smtp.Session, _ string) error {
			if other == nil {
				other = s
			}
			return nil
		},
		"vrfy": func(s *smtp.Session, what string) error {
			switch what {
			case "early":
				answer, pending := s.Deferred()
				answer(smtp.Replyf(250, "2.1.5", "early"))
				return pending
			case "chain":
				answer, first := s.Deferred()
				answerSecond, second := s.Deferred()
				s.Conn().AfterFunc(time.Second, func() { answer(second) })
				s.Conn().AfterFunc(2*time.Second, func() { answerSecond(smtp.Replyf(250, "2.1.5", "chain")) })
				return first
			case "wrapped":
				return errors.Join(errors.New("x"), s.Later(func(context.Context) error { return smtp.Replyf(250, "2.1.5", "wrapped") }))
			case "other":
				return other.Later(func(context.Context) error { return nil })
			case "twice":
				if twice == nil {
					twice = s.Later(func(context.Context) error { return nil })
				}
				return twice
			case "panic":
				return s.Later(func(context.Context) error { panic("secret") })
			}
			return nil
		},
	}}
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
	s.hello()
	p := s.hello()
	for what, answer := range map[string]string{"early": "250 2.1.5 early", "chain": "250 2.1.5 chain", "wrapped": "250 2.1.5 wrapped",
		"other": "451 4.3.0 Local error, try again later", "panic": "451 4.3.0 Local error, try again later"} {
		ask(p, "VRFY "+what, answer)
	}
	ask(p, "VRFY twice", "252 2.1.5 Send it, and we shall see")
	ask(p, "VRFY twice", "451 4.3.0 Local error, try again later")
	require.Contains(t, s.log.String(), "secret")
}

// Octets behind a Write that answers later wait, also in the middle of what was read at once.
func TestWriteLater(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		rec := new(recorder)
		writing := 0
		rec.write = func(s *smtp.Session, p []byte) error {
			require.Zero(t, writing, "a Write while another is under way")
			writing++
			answer, pending := s.Deferred()
			s.Conn().AfterFunc(time.Second, func() { writing--; answer(nil) })
			return pending
		}
		s := newScene(t, sim.Config{Seed: 1}, &smtp.Server{Backend: rec})
		p := s.hello()
		text := strings.Repeat("one\r\n..two\r\nthree\r\n", 20)
		if chunked {
			p.Say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 5\r\nzero\nBDAT 6\r\none.\r\nBDAT 0 LAST\r\nNOOP\r\n")
			require.Regexp(t, "^250 .*\r\n250 .*\r\n550 5.5.2 .*\r\n550 5.5.2 .*\r\n550 5.5.2 .*\r\n250 2.0.0 Ok\r\n$", read(s, p))
			p.Say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 5\r\nzero\rBDAT 6\r\n\none.\rBDAT 1 LAST\r\n\nNOOP\r\n")
			require.Regexp(t, "^250 .*\r\n250 .*\r\n250 .*\r\n250 .*\r\n250 .*\r\n250 2.0.0 Ok\r\n$", read(s, p))
			require.Equal(t, "zero\r\none.\r\n", rec.mails[0].body())
			continue
		}
		p.Say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + text + ".\r\nNOOP\r\n")
		require.Regexp(t, "^250 .*\r\n250 .*\r\n354 .*\r\n250 2.0.0 .*\r\n250 2.0.0 Ok\r\n$", read(s, p))
		require.Equal(t, strings.ReplaceAll(text, "..", "."), rec.mails[0].body())
	}
}

// read lets an hour pass and returns what came.
func read(s *scene, p *sim.Peer) string {
	s.Advance(2 * time.Minute)
	return p.Read()
}

// An error of Write is the answer at the end; nothing more is written, and Abort is called.
func TestWriteFails(t *testing.T) {
	for name, fail := range map[string]func(*smtp.Session) error{
		"at once": func(*smtp.Session) error { return smtp.Replyf(552, "5.2.2", "Full") },
		"later": func(s *smtp.Session) error {
			return s.Later(func(context.Context) error { return smtp.Replyf(552, "5.2.2", "Full") })
		},
		"other": func(*smtp.Session) error { return errors.New("disk") },
	} {
		rec := new(recorder)
		writes := 0
		rec.write = func(s *smtp.Session, p []byte) error {
			if writes++; writes == 2 { // the first is the Received field
				return fail(s)
			}
			return nil
		}
		s := newScene(t, sim.Config{}, &smtp.Server{Backend: rec})
		p := s.hello()
		envelope(p)
		p.Say("DATA\r\n")
		require.Regexp(t, "^354 ", p.Read(), name)
		p.Say("a\r\n")
		p.WantNothing()
		require.Equal(t, 1, rec.aborted)
		p.Say("b\r\nc\n\r\n.\r\nNOOP\r\n")
		require.Regexp(t, "^(552 5.2.2 Full|451 4.3.0 Local error, try again later)\r\n250 2.0.0 Ok\r\n$", p.Read(), name)
		require.Zero(t, rec.open)
		require.Equal(t, 2, writes)
		require.EqualValues(t, 1, s.srv.Counters().Refused)
	}
}

// A connection that is lost while work is out: the Message is aborted once the work has ended, and never together with it;
// after Commit was called it is not.
func TestLostWhileWorking(t *testing.T) {
	for _, at := range []string{"begin", "write", "commit"} {
		rec := new(recorder)
		working := false
		work := func(s *smtp.Session) error {
			return s.Later(func(ctx context.Context) error {
				working = true
				return ctx.Err()
			})
		}
		switch at {
		case "begin":
			rec.begin = func(s *smtp.Session, _ *mail) error { return work(s) }
		case "write":
			rec.write = func(s *smtp.Session, _ []byte) error { return work(s) }
		case "commit":
			rec.commit = func(s *smtp.Session, _ *mail) error { return work(s) }
		}
		s := newScene(t, sim.Config{Work: time.Minute, Seed: 3}, &smtp.Server{Backend: rec})
		p := s.hello()
		envelope(p)
		p.Say("DATA\r\n")
		if at == "commit" {
			p.Say("x\r\n.\r\n")
		}
		s.Advance(time.Microsecond)
		require.False(t, working, at)
		p.Reset()
		s.Advance(time.Hour)
		require.Zero(t, s.srv.Open(), at)
		require.Empty(t, rec.mails)
		if at == "commit" {
			require.Zero(t, rec.open) // the recorder counts a commit that has begun as over
		} else {
			require.Equal(t, 1, rec.aborted, at)
			require.Zero(t, rec.open)
		}
	}
}

// A client that has said everything still gets the answer that takes time.
func TestHalfClosed(t *testing.T) {
	rec := new(recorder)
	rec.commit = func(s *smtp.Session, m *mail) error {
		rec.mails = append(rec.mails, m)
		return s.Later(func(context.Context) error { return nil })
	}
	s := newScene(t, sim.Config{Work: time.Minute}, &smtp.Server{Backend: rec})
	p := s.hello()
	p.Say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 1 LAST\r\nxNOOP\r\nNO")
	p.CloseWrite()
	s.Advance(time.Hour)
	require.Regexp(t, "^250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.0.0 .*\r\n250 2.0.0 Ok\r\n$", p.Read())
	p.WantClosed()
	require.Len(t, rec.mails, 1)
}

// More work than may wait: the answer is 451, and a message whose commit was never begun is aborted.
func TestTooMuchWork(t *testing.T) {
	rec := new(recorder)
	rec.commit = func(s *smtp.Session, _ *mail) error {
		rec.open++
		return s.Later(func(context.Context) error { rec.open--; return nil })
	}
	world := sim.New(sim.Config{T: t, Work: time.Second})
	loop := world.Loop(core.Options{MaxPosts: 2, MaxWorkers: 1, Logger: slog.New(slog.DiscardHandler)})
	defer loop.Close()
	srv := &smtp.Server{Backend: rec}
	fill(srv)
	var peers []*sim.Peer
	for range 6 {
		sock, p := world.Pair()
		_, err := srv.Serve(loop, sock)
		require.NoError(t, err)
		p.Say("HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n")
		peers = append(peers, p)
	}
	world.Advance(time.Minute)
	refused := 0
	for _, p := range peers {
		if strings.HasSuffix(p.Read(), "\r\n451 4.3.0 Local error, try again later\r\n") {
			refused++
		}
	}
	require.Positive(t, refused)
	require.Equal(t, refused, rec.aborted)
	require.Zero(t, rec.open)
}

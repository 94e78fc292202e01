package smtp_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// token is a mechanism of one's own, in two steps, whose last decision takes time.
type token struct {
	s    *smtp.Session
	step int
}

func (x *token) User() string { return "bot" }

func (x *token) Next(response []byte) (challenge []byte, done bool, err error) {
	x.step++
	switch {
	case x.step == 1 && response == nil:
		return nil, false, errors.New("no initial response")
	case x.step == 1:
		return []byte("and?"), false, x.s.Later(func(context.Context) error { return nil })
	}
	return nil, true, x.s.Later(func(context.Context) error {
		if string(response) != "sesame" {
			return smtp.ErrCredentials
		}
		return nil
	})
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestMechanism(t *testing.T) {
	auth := &smtp.ServerAuth{Mechanisms: []smtp.ServerMechanism{
		{Name: "X-TOKEN", Insecure: true, New: func(s *smtp.Session) smtp.ServerExchange { return &token{s: s} }},
		{Name: "X-SECRET", New: func(s *smtp.Session) smtp.ServerExchange { return &token{s: s} }},
	}}
	s := newScene(t, sim.Config{Work: time.Second}, &smtp.Server{Auth: auth})
	p := s.client()
	p.Say("EHLO x\r\n")
	require.Contains(t, p.Read(), "250-AUTH X-TOKEN\r\n")
	ask(p, "AUTH x-secret", "538 5.7.11 Encryption required")
	ask(p, "AUTH PLAIN", "504 5.5.4 Mechanism not known")
	ask(p, "AUTH X-TOKEN", "454 4.7.0 Authentication not possible now, try again later")
	ask(p, "AUTH X-TOKEN =", "334 "+b64("and?"))
	ask(p, b64("wrong"), "535 5.7.8 Authentication credentials invalid")
	ask(p, "AUTH x-token "+b64("hi"), "334 "+b64("and?"))
	ask(p, b64("sesame"), "235 2.7.0 Authentication successful")
	envelope(p)
	p.Say("BDAT 1 LAST\r\nx")
	require.Regexp(t, "^250 2.0.0 ", p.Read())
	require.Equal(t, "bot", s.rec.mails[0].user)
	require.EqualValues(t, 2, s.srv.Counters().AuthFailures)
}

// What AUTH refuses; after each the session goes on.
func TestAuthRefused(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{
		Auth:   &smtp.ServerAuth{Password: passwords.Password, Secret: passwords.Secret, AllowInsecure: true},
		Limits: smtp.Limits{AuthFailures: -1, Errors: -1, AuthLine: 100},
	})
	p := s.hello()
	for _, tt := range []struct{ say, answer, want string }{
		{"AUTH PLAIN " + b64("no nul"), "", "501 5.5.2 Not a message of PLAIN"},
		{"AUTH PLAIN " + b64("\x00\x00x"), "", "501 5.5.2 Not a message of PLAIN"},
		{"AUTH PLAIN " + b64("\x00\xff\x00x"), "", "501 5.5.2 Not a message of PLAIN"},
		{"AUTH PLAIN " + b64("\x00a\x00b\x00c"), "", "501 5.5.2 Not a message of PLAIN"},
		{"AUTH PLAIN =", "", "501 5.5.2 Not a message of PLAIN"},
		{"AUTH PLAIN a", "", "501 5.5.2 That is not base64"},
		{"AUTH PLAIN YQ==x", "", "501 5.5.2 That is not base64"},
		{"AUTH PLAIN YR==", "", "501 5.5.2 That is not base64"},
		{"AUTH PLAIN " + strings.Repeat("A", 100), "", "501 5.5.2 Not a message of PLAIN"},
		{"AUTH PLAIN", strings.Repeat("A", 100), "500 5.5.6 Line too long"},
		{"AUTH PLAIN", "=", "501 5.5.2 That is not base64"},
		{"AUTH LOGIN =", "", "501 5.5.2 No user or password"},
		{"AUTH CRAM-MD5 " + b64("tim x"), "", "501 5.5.4 CRAM-MD5 has no initial response"},
		{"AUTH CRAM-MD5", b64("tim"), "501 5.5.2 Not a message of CRAM-MD5"},
		{"AUTH CRAM-MD5", b64("tim 00"), "535 5.7.8 Authentication credentials invalid"},
		{"AUTH CRAM-MD5", b64("tom 00"), "535 5.7.8 Authentication credentials invalid"},
		{"AUTH CRAM-MD5", "*", "501 5.7.0 Authentication cancelled"},
	} {
		p.Say(tt.say + "\r\n")
		if tt.answer != "" {
			require.Regexp(t, "^334 ", p.WantLine())
			p.Say(tt.answer + "\r\n")
		}
		p.Want(tt.want + "\r\n")
	}
	p.Say("HELO x\r\nAUTH PLAIN\r\nEHLO x\r\nMAIL FROM:<>\r\nAUTH PLAIN\r\n")
	require.Regexp(t, "(?s)^250 .*503 5.5.1 Say EHLO first\r\n.*503 5.5.1 Not within a message\r\n$", p.Read())
	none := newScene(t, sim.Config{}, &smtp.Server{})
	ask(none.hello(), "AUTH PLAIN", "502 5.5.1 AUTH not implemented")
}

// Limits.AuthDelay: a wrong password takes a second, in which the client is not listened to.
func TestAuthDelay(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Auth: &smtp.ServerAuth{Password: passwords.Password, AllowInsecure: true}})
	p := s.hello()
	p.Say("AUTH PLAIN " + b64("\x00tim\x00x") + "\r\nNOOP\r\n")
	s.Advance(999 * time.Millisecond)
	p.WantNothing()
	s.Advance(time.Millisecond)
	p.Want("535 5.7.8 Authentication credentials invalid\r\n250 2.0.0 Ok\r\n")
}

// Later in LMTP: answers that the work gives.
func TestEachLater(t *testing.T) {
	rec := &laterEach{}
	s := newScene(t, sim.Config{Work: time.Second}, &smtp.Server{LMTP: true, Backend: rec})
	p := s.Dial("tcp", address)
	p.Say("LHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nDATA\r\n")
	p.Read()
	p.Say(".\r\nNOOP\r\n")
	s.Advance(5 * time.Second)
	p.Want("250 2.0.0 a@x\r\n450 4.2.0 not now\r\n451 4.3.0 Local error, try again later\r\n250 2.0.0 Ok\r\n")
	require.EqualValues(t, 1, s.srv.Counters().Recipients)
}

type laterEach struct{ discardAll }

func (l *laterEach) HandleRcpt(*smtp.Session, smtp.Path, smtp.Params) error { return nil }

func (l *laterEach) Begin(s *smtp.Session, e *smtp.Envelope) (smtp.Message, error) {
	return &laterMessage{discardAll: &l.discardAll, s: s, e: e}, nil
}

type laterMessage struct {
	*discardAll
	s *smtp.Session
	e *smtp.Envelope
}

func (m *laterMessage) CommitEach(answer func(i int, err error)) error {
	return m.s.Later(func(context.Context) error {
		answer(0, smtp.Replyf(250, "2.0.0", "%s", m.e.To[0].Address()))
		answer(1, smtp.Replyf(450, "4.2.0", "not now"))
		answer(1, nil)
		answer(2, errors.New("disk"))
		answer(-1, nil)
		answer(3, nil)
		return nil
	})
}

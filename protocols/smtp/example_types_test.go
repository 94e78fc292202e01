package smtp_test

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/parley-go/parley/protocols/smtp"
)

// postmark prints the envelope of what it is given.
type postmark struct{ sink }

func (postmark) HandleRcpt(*smtp.Session, smtp.Path, smtp.Params) error { return nil }

func (postmark) Begin(s *smtp.Session, e *smtp.Envelope) (smtp.Message, error) {
	fmt.Printf("from %s, size %q\n", e.From, e.Params["SIZE"])
	for _, to := range e.To {
		fmt.Printf("to %s, notify %q\n", to, to.Params["NOTIFY"])
	}
	return nil, smtp.Replyf(550, "", "That was all")
}

func ExampleEnvelope() {
	v := connect(&smtp.Server{Backend: postmark{}})
	v.tell("EHLO client.example", "MAIL FROM:<tim@client.example> SIZE=100", "RCPT TO:<pat@example.org>", "DATA")
	// Output:
	// from <tim@client.example>, size "100"
	// to <pat@example.org>, notify ""
}

func ExampleRecipient() {
	v := connect(&smtp.Server{Backend: postmark{}, Extensions: smtp.AllExtensions})
	v.tell("EHLO client.example", "MAIL FROM:<>", "RCPT TO:<pat@example.org> NOTIFY=success,delay", `RCPT TO:<"t m"@example.org>`, "DATA")
	// Output:
	// from <>, size ""
	// to <pat@example.org>, notify "SUCCESS,DELAY"
	// to <"t m"@example.org>, notify ""
}

func ExamplePath() {
	for _, p := range []smtp.Path{
		{Local: "pat", Domain: "example.org"},
		{Local: `a "b"`, Domain: "[192.0.2.1]"},
		{Local: "Postmaster"},
		{}, // of reports
	} {
		fmt.Printf("%s  %q null: %v\n", p, p.Address(), p.IsNull())
	}
	// Output:
	// <pat@example.org>  "pat@example.org" null: false
	// <"a \"b\""@[192.0.2.1]>  "\"a \\\"b\\\"\"@[192.0.2.1]" null: false
	// <Postmaster>  "Postmaster" null: false
	// <>  "" null: true
}

func ExampleParams() {
	params, err := smtp.ParseParams(" size=100 Body=8BITMIME SMTPUTF8", false)
	_, utf8 := params["SMTPUTF8"]
	fmt.Println(params["SIZE"], params["BODY"], utf8, err)
	// Output: 100 8BITMIME true <nil>
}

func ExampleReply() {
	r := smtp.Replyf(450, "4.2.0", "%s is on holiday", "pat")
	fmt.Println(r.Code, r.Enhanced, r.Lines, "temporary:", r.Temporary())
	var refusal *smtp.Reply
	err := fmt.Errorf("delivery: %w", r) // it is an error, too
	fmt.Println(errors.As(err, &refusal), err)
	// Output:
	// 450 4.2.0 [pat is on holiday] temporary: true
	// true delivery: 450 4.2.0 pat is on holiday
}

// archive asks a database that takes its time.
type archive struct{ sink }

func (archive) HandleVrfy(s *smtp.Session, what string) error {
	return s.Later(func(ctx context.Context) error { // on another goroutine: others are served meanwhile
		select {
		case <-ctx.Done(): // the client is gone
			return context.Cause(ctx)
		default:
			return smtp.Replyf(250, "2.1.5", "<%s@example.org>", what)
		}
	})
}

func ExampleSession_Later() {
	visit(&smtp.Server{Backend: archive{}}).ask("VRFY pat")
	// Output:
	// C: VRFY pat
	// S: 250 2.1.5 <pat@example.org>
}

// curious tells what it knows of its client.
type curious struct{ sink }

func (curious) HandleVrfy(s *smtp.Session, _ string) error {
	fmt.Println(s.Hello(), s.Extended(), s.RemoteAddr(), s.User() == "", s.TLS() == nil)
	fmt.Println("from", s.Envelope().From)
	return nil
}

func ExampleSession() {
	v := connect(&smtp.Server{Backend: curious{}})
	v.tell("EHLO client.example", "MAIL FROM:<tim@client.example>", "VRFY me")
	// Output:
	// client.example true 192.0.2.2:49152 true true
	// from <tim@client.example>
}

// patient answers when something else has happened.
type patient struct{ sink }

func (patient) HandleVrfy(s *smtp.Session, _ string) error {
	answer, pending := s.Deferred()
	s.Conn().AfterFunc(time.Minute, func() { answer(nil) })
	return pending
}

func ExampleSession_Deferred() {
	v := visit(&smtp.Server{Backend: patient{}})
	v.ask("VRFY pat")
	v.w.Advance(time.Minute)
	v.answer()
	// Output:
	// C: VRFY pat
	// S: 252 2.1.5 Send it, and we shall see
}

func ExampleLimits() {
	v := visit(&smtp.Server{Backend: sink{}, Limits: smtp.Limits{MessageSize: 20, Recipients: 1, Errors: 1, Junk: -1}}) // the others as usual
	v.tell("MAIL FROM:<tim@client.example>")
	v.ask("RCPT TO:<pat@example.org>", "RCPT TO:<tom@example.org>")
	v.tell("DATA", "More than twenty octets")
	v.ask(".", "What?", "What?")
	// Output:
	// C: RCPT TO:<pat@example.org>
	// S: 250 2.1.5 Ok
	// C: RCPT TO:<tom@example.org>
	// S: 452 4.5.3 Too many recipients
	// C: .
	// S: 552 5.3.4 Message too large
	// C: What?
	// S: 500 5.5.2 Unknown command
	// C: What?
	// S: 421 4.7.0 mx.example.org Too many errors
}

func ExampleCounters() {
	srv := &smtp.Server{Backend: sink{}}
	v := visit(srv)
	v.tell("MAIL FROM:<tim@client.example>", "RCPT TO:<pat@example.org>", "DATA", "Hello", ".", "oops", "QUIT")
	c := srv.Counters()
	fmt.Println(c.Sessions, "session,", c.Messages, "message of", c.Octets, "octets,", c.Errors, "error")
	fmt.Println("open:", srv.Open())
	// Output:
	// 1 session, 1 message of 7 octets, 1 error
	// open: 0
}

func ExampleServerAuth() {
	digest := sha256.Sum256([]byte("sesame"))
	v := connect(&smtp.Server{Backend: sink{}, RequireAuth: true, Auth: &smtp.ServerAuth{
		Password: func(_ *smtp.Session, user, password string) error {
			given := sha256.Sum256([]byte(password))
			if user != "tim" || subtle.ConstantTimeCompare(given[:], digest[:]) != 1 {
				return smtp.ErrCredentials
			}
			return nil
		},
		AllowInsecure: true, // an example has no TLS
	}})
	v.tell("EHLO client.example")
	v.ask("MAIL FROM:<tim@client.example>", "AUTH PLAIN AHRpbQBzZXNhbWU=", "MAIL FROM:<tim@client.example>")
	// Output:
	// C: MAIL FROM:<tim@client.example>
	// S: 530 5.7.0 Authentication required
	// C: AUTH PLAIN AHRpbQBzZXNhbWU=
	// S: 235 2.7.0 Authentication successful
	// C: MAIL FROM:<tim@client.example>
	// S: 250 2.1.0 Ok
}

// anonymous is the mechanism of RFC 4505: a client says who it would like to be, and nobody asks further.
type anonymous struct{ trace string }

func (x *anonymous) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil { // the client wants to be asked
		return []byte("who?"), false, nil
	}
	x.trace = string(response)
	return nil, true, nil
}

func (x *anonymous) User() string { return "anonymous" }

func ExampleServerMechanism() {
	v := connect(&smtp.Server{Backend: sink{}, Auth: &smtp.ServerAuth{Mechanisms: []smtp.ServerMechanism{{
		Name:     "ANONYMOUS",
		Insecure: true, // it has no secrets
		New:      func(*smtp.Session) smtp.ServerExchange { return new(anonymous) },
	}}}})
	v.tell("EHLO client.example")
	v.ask("AUTH ANONYMOUS c2lyaGM=")
	// Output:
	// C: AUTH ANONYMOUS c2lyaGM=
	// S: 235 2.7.0 Authentication successful
}

func ExampleServerExchange() {
	x := new(anonymous) // one for each AUTH
	challenge, done, _ := x.Next(nil)
	fmt.Printf("%s %v\n", challenge, done)
	_, done, _ = x.Next([]byte("tim@client.example"))
	fmt.Println(done, x.User(), x.trace)
	// Output:
	// who? false
	// true anonymous tim@client.example
}

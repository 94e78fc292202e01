package smtp_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// visitor is a client in memory that prints what is said.
type visitor struct {
	*sim.Peer
	w *sim.World
}

// visit starts a server, connects to it, and says who it is.
func visit(srv *smtp.Server) visitor {
	v := connect(srv)
	v.Read()
	v.tell("HELO client.example")
	return v
}

func connect(srv *smtp.Server) visitor {
	srv.Hostname = "mx.example.org"
	srv.Domains = []string{"example.org"}
	w := sim.New(sim.Config{Work: time.Millisecond})
	if _, err := srv.Listen(w.Loop(core.Options{}), "tcp", "server:25"); err != nil {
		fmt.Println(err)
	}
	return visitor{w.Dial("tcp", "server:25"), w}
}

// answer prints what the server said.
func (v visitor) answer() {
	for line := range strings.Lines(v.Read()) {
		fmt.Println("S:", strings.TrimRight(line, "\r\n"))
	}
}

// ask says lines, and prints them and their answers.
func (v visitor) ask(lines ...string) {
	for _, line := range lines {
		fmt.Println("C:", line)
		v.Say(line + "\r\n")
		v.answer()
	}
}

// tell says lines, and prints nothing of it.
func (v visitor) tell(lines ...string) {
	v.Say(strings.Join(lines, "\r\n") + "\r\n")
	v.Read()
}

// sink is a Backend, and a Message, that takes everything and keeps nothing. The examples embed it.
type sink struct{ io.Writer }

func (sink) Begin(*smtp.Session, *smtp.Envelope) (smtp.Message, error) { return sink{io.Discard}, nil }
func (sink) Commit() error                                             { return nil }
func (sink) Abort()                                                    {}

// outbox hands out a Message for each message, and keeps those that are complete.
type outbox struct{ texts []string }

func (b *outbox) Begin(_ *smtp.Session, e *smtp.Envelope) (smtp.Message, error) {
	if e.From.IsNull() {
		return nil, smtp.Replyf(554, "5.7.1", "No reports here")
	}
	return &letter{box: b}, nil
}

type letter struct {
	strings.Builder // Write
	box             *outbox
}

func (m *letter) Commit() error {
	m.box.texts = append(m.box.texts, m.String())
	return nil
}

func (m *letter) Abort() { fmt.Println("given up:", m.Len(), "octets") }

func ExampleBackend() {
	box := new(outbox)
	v := visit(&smtp.Server{Backend: box, NoReceived: true})
	v.tell("MAIL FROM:<>", "RCPT TO:<pat@example.org>")
	v.ask("DATA")
	v.tell("MAIL FROM:<tim@client.example>", "RCPT TO:<pat@example.org>", "DATA", "Subject: hello", "", "..", ".")
	fmt.Printf("%q\n", box.texts)
	// Output:
	// C: DATA
	// S: 554 5.7.1 No reports here
	// ["Subject: hello\r\n\r\n.\r\n"]
}

func ExampleMessage() {
	box := new(outbox)
	v := visit(&smtp.Server{Backend: box, NoReceived: true})
	v.tell("MAIL FROM:<tim@client.example>", "RCPT TO:<pat@example.org>", "DATA", "Subject: half of it")
	v.Close() // without CRLF.CRLF
	v.w.Settle()
	fmt.Println(len(box.texts), "messages")
	// Output:
	// given up: 21 octets
	// 0 messages
}

// families delivers to each member by itself.
type families struct{ sink }

func (families) Begin(_ *smtp.Session, e *smtp.Envelope) (smtp.Message, error) {
	return &copies{sink{io.Discard}, e}, nil
}

type copies struct {
	sink
	envelope *smtp.Envelope
}

func (m *copies) CommitEach(answer func(i int, err error)) error {
	for i, to := range m.envelope.To {
		if to.Local == "tom" {
			answer(i, smtp.Replyf(452, "4.2.2", "The mailbox of %s is full", to.Local))
		}
	}
	return smtp.Replyf(250, "2.0.0", "Delivered") // to the others
}

func ExampleEachMessage() {
	v := connect(&smtp.Server{Backend: families{}, LMTP: true})
	v.tell("LHLO client.example", "MAIL FROM:<tim@client.example>", "RCPT TO:<pat@example.org>", "RCPT TO:<tom@example.org>", "DATA")
	v.ask(".")
	// Output:
	// C: .
	// S: 250 2.0.0 Delivered
	// S: 452 4.2.2 The mailbox of tom is full
}

// doorman has no time in the first hour.
type doorman struct {
	sink
	began time.Time
}

func (d *doorman) HandleConnect(s *smtp.Session) error {
	now := s.Conn().Loop().Now()
	if d.began.IsZero() {
		d.began = now
	}
	if now.Sub(d.began) < time.Hour {
		return smtp.Replyf(421, "4.3.2", "Come back later")
	}
	return smtp.Replyf(220, "", "at your service") // besides the server's name
}

func ExampleConnectHandler() {
	v := connect(&smtp.Server{Backend: new(doorman)})
	v.answer()
	v.w.Advance(time.Hour)
	v.Peer = v.w.Dial("tcp", "server:25")
	v.answer()
	// Output:
	// S: 421 4.3.2 Come back later
	// S: 220 mx.example.org ESMTP at your service
}

// strict wants names with a dot in them.
type strict struct{ sink }

func (strict) HandleHello(s *smtp.Session, domain string) error {
	if !strings.Contains(domain, ".") {
		return smtp.Replyf(550, "5.7.1", "Not a name of the internet")
	}
	s.Data = "trusted" // whatever the Backend wants to find again
	return nil
}

func ExampleHelloHandler() {
	v := visit(&smtp.Server{Backend: strict{}})
	v.ask("HELO localhost", "HELO client.example")
	// Output:
	// C: HELO localhost
	// S: 550 5.7.1 Not a name of the internet
	// C: HELO client.example
	// S: 250 mx.example.org
}

// gatekeeper judges senders by their domain.
type gatekeeper struct{ sink }

func (gatekeeper) HandleMail(_ *smtp.Session, from smtp.Path, params smtp.Params) error {
	if from.Domain == "junk.example" {
		return smtp.Replyf(550, "5.7.1", "Nothing from %s", from.Domain)
	}
	return nil
}

func ExampleMailHandler() {
	v := visit(&smtp.Server{Backend: gatekeeper{}})
	v.ask("MAIL FROM:<tim@junk.example>", "MAIL FROM:<tim@client.example>")
	// Output:
	// C: MAIL FROM:<tim@junk.example>
	// S: 550 5.7.1 Nothing from junk.example
	// C: MAIL FROM:<tim@client.example>
	// S: 250 2.1.0 Ok
}

// directory knows its users.
type directory struct {
	sink
	users map[string]bool
}

func (d *directory) HandleRcpt(_ *smtp.Session, to smtp.Path, _ smtp.Params) error {
	switch {
	case to.Domain != "" && to.Domain != "example.org": // "" is Postmaster
		return smtp.Replyf(550, "5.7.1", "Relaying denied")
	case !d.users[strings.ToLower(to.Local)]:
		return smtp.Replyf(550, "5.1.1", "No such user")
	}
	return nil
}

func ExampleRcptHandler() {
	v := visit(&smtp.Server{Backend: &directory{users: map[string]bool{"postmaster": true, "pat": true}}})
	v.tell("MAIL FROM:<tim@client.example>")
	v.ask("RCPT TO:<pat@example.org>", "RCPT TO:<Postmaster>", "RCPT TO:<tom@example.org>", "RCPT TO:<pat@elsewhere.example>")
	// Output:
	// C: RCPT TO:<pat@example.org>
	// S: 250 2.1.5 Ok
	// C: RCPT TO:<Postmaster>
	// S: 250 2.1.5 Ok
	// C: RCPT TO:<tom@example.org>
	// S: 550 5.1.1 No such user
	// C: RCPT TO:<pat@elsewhere.example>
	// S: 550 5.7.1 Relaying denied
}

// phonebook answers questions, where others say 252 and 502.
type phonebook struct{ sink }

func (phonebook) HandleVrfy(_ *smtp.Session, what string) error {
	if what == "pat" {
		return smtp.Replyf(250, "2.1.5", "Pat Example <pat@example.org>")
	}
	return smtp.Replyf(550, "5.1.1", "No such user")
}

func (phonebook) HandleExpn(*smtp.Session, string) error {
	return &smtp.Reply{Code: 250, Enhanced: "2.1.5", Lines: []string{"<pat@example.org>", "<tom@example.org>"}}
}

func ExampleVrfyHandler() {
	visit(&smtp.Server{Backend: phonebook{}}).ask("VRFY pat")
	// Output:
	// C: VRFY pat
	// S: 250 2.1.5 Pat Example <pat@example.org>
}

func ExampleExpnHandler() {
	visit(&smtp.Server{Backend: phonebook{}}).ask("EXPN staff")
	// Output:
	// C: EXPN staff
	// S: 250-2.1.5 <pat@example.org>
	// S: 250 2.1.5 <tom@example.org>
}

// diary writes down how transactions and sessions end.
type diary struct{ sink }

func (diary) HandleAccepted(_ *smtp.Session, e *smtp.Envelope) {
	fmt.Println("a message from", e.From, "for", e.To[0].Path)
}

func (diary) HandleReset(s *smtp.Session) { fmt.Println("no message after all from", s.Hello()) }

func (diary) HandleQuit(s *smtp.Session, cause error) {
	switch {
	case cause == nil:
		fmt.Println(s.Hello(), "said goodbye")
	case errors.Is(cause, io.EOF):
		fmt.Println(s.Hello(), "hung up")
	default:
		fmt.Println(s.Hello(), "was lost:", cause)
	}
}

func ExampleAcceptedHandler() {
	v := visit(&smtp.Server{Backend: diary{}, Domains: []string{"example.org"}})
	v.tell("MAIL FROM:<tim@client.example>", "RCPT TO:<pat@example.org>", "DATA", "Subject: lunch", "", ".")
	// Output: a message from <tim@client.example> for <pat@example.org>
}

func ExampleResetHandler() {
	v := visit(&smtp.Server{Backend: diary{}})
	v.tell("MAIL FROM:<tim@client.example>", "RSET")
	// Output: no message after all from client.example
}

func ExampleQuitHandler() {
	srv := &smtp.Server{Backend: diary{}}
	visit(srv).tell("QUIT")
	v := visit(&smtp.Server{Backend: diary{}})
	v.Close()
	v.w.Settle()
	v = visit(&smtp.Server{Backend: diary{}})
	v.w.Advance(time.Hour)
	// Output:
	// client.example said goodbye
	// client.example hung up
	// client.example was lost: parley: timeout
}

package smtp_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	parley "github.com/parley-go/parley/protocols/smtp"
)

// example is a loop in a world of its own, with a server that prints what it gets.
func example() (*sim.World, *core.Loop) {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	srv := &parley.Server{Hostname: "mx.example.org", Backend: printer{}, NoReceived: true}
	if _, err := srv.Listen(loop, "tcp", "server:25"); err != nil {
		panic(err)
	}
	return w, loop
}

// note is a message to pat@example.org.
func note(text string) *parley.Outgoing {
	return &parley.Outgoing{
		From: parley.Path{Local: "a", Domain: "client.example"},
		To:   []parley.Recipient{{Path: parley.Path{Local: "pat", Domain: "example.org"}}},
		Body: strings.NewReader(text),
	}
}

func ExampleClient() {
	w := sim.New(sim.Config{Latency: 5 * time.Millisecond})
	loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	defer loop.Close()
	srv := &parley.Server{Hostname: "mx.example.org", Backend: printer{}, NoReceived: true}
	if _, err := srv.Listen(loop, "tcp", "server:25"); err != nil {
		fmt.Println(err)
		return
	}

	c := &parley.Client{Hostname: "client.example"}
	if err := c.Dial(loop, "tcp", "server:25"); err != nil {
		fmt.Println(err)
		return
	}
	m := &parley.Outgoing{
		From: parley.Path{Local: "a", Domain: "client.example"},
		To:   []parley.Recipient{{Path: parley.Path{Local: "pat", Domain: "example.org"}}, {Path: parley.Path{Local: "tom", Domain: "example.org"}}},
		Body: strings.NewReader("Subject: hello\n\n.\n"),
	}
	c.Send(m, func(r *parley.Result) {
		for i, to := range m.To {
			fmt.Println(to, r.To[i])
		}
	})
	c.Quit()
	w.Settle()
	// Output:
	// from <a@client.example>: "Subject: hello\r\n\r\n.\r\n"
	// <pat@example.org> 250 2.0.0 Ok, taken as C2WFOQO5.3.1
	// <tom@example.org> 550 5.1.1 There is no tom here
}

func ExampleClientAuth() {
	w := sim.New(sim.Config{})
	ln := w.Listen("tcp", "server:587") // a server that the test plays
	c := &parley.Client{
		Hostname: "client.example",
		Auth:     &parley.ClientAuth{User: "tim", Password: "tanstaaftanstaaf"},
	}
	c.Dial(w.Loop(core.Options{}), "tcp", "server:587")
	server := ln.Accept()
	server.Say("220 ready\r\n")
	server.Want("EHLO client.example\r\n")
	server.Say("250-ready\r\n250 AUTH PLAIN CRAM-MD5\r\n") // without TLS no password is shown
	fmt.Println(strings.TrimSpace(server.WantLine()))
	server.Say("334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n")
	fmt.Println(strings.TrimSpace(server.WantLine()))
	// Output:
	// AUTH CRAM-MD5
	// dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw
}

// bearer is a mechanism that sends a token.
type bearer struct{ token string }

func (b bearer) Next(challenge []byte) ([]byte, error) {
	if challenge != nil {
		return nil, errors.New("the token was refused: " + string(challenge))
	}
	return []byte("user=tim\x01auth=Bearer " + b.token + "\x01\x01"), nil
}

func ExampleClientMechanism() {
	auth := &parley.ClientAuth{Mechanisms: []parley.ClientMechanism{{
		Name: "XOAUTH2",
		New:  func(secure bool) parley.ClientExchange { return bearer{"ya29"} },
	}}}
	c := &parley.Client{Hostname: "client.example", Auth: auth, StartTLS: parley.TLSRequired}
	fmt.Println(c.Auth.Mechanisms[0].Name, c.StartTLS)
	// Output: XOAUTH2 required
}

func ExampleClientExchange() {
	var x parley.ClientExchange = bearer{"ya29"}
	first, err := x.Next(nil) // goes out with AUTH
	fmt.Printf("%q %v\n", first, err)
	_, err = x.Next([]byte(`{"status":"401"}`))
	fmt.Println(err)
	// Output:
	// "user=tim\x01auth=Bearer ya29\x01\x01" <nil>
	// the token was refused: {"status":"401"}
}

func ExampleClientTimeouts() {
	w := sim.New(sim.Config{})
	w.Listen("tcp", "server:25") // somebody who says nothing
	c := &parley.Client{Timeouts: parley.ClientTimeouts{Greeting: 30 * time.Second}}
	c.Dial(w.Loop(core.Options{}), "tcp", "server:25")
	c.Send(note(""), func(r *parley.Result) { fmt.Println(r.Step, r.Err, r.Reply) })
	w.Advance(time.Minute)
	// Output: greeting parley: timeout 451 4.4.2 The server took too long
}

func ExampleTLSPolicy() {
	var c parley.Client
	fmt.Println(c.StartTLS)
	c.StartTLS = parley.TLSImplicit // port 465
	fmt.Println(c.StartTLS)
	// Output:
	// opportunistic
	// implicit
}

func ExampleOutgoing() {
	w, loop := example()
	defer loop.Close()
	c := &parley.Client{Hostname: "client.example"}
	c.Dial(loop, "tcp", "server:25")
	m := note("Subject: x\n\na line\n.\n") // lines end as they end here; on the wire they end in CRLF
	m.Params = parley.Params{"BODY": "7BIT"}
	m.Progress = func(sent int64) { fmt.Println(sent, "octets") }
	c.Send(m, nil)
	c.Quit()
	w.Settle()
	// Output:
	// 21 octets
	// from <a@client.example>: "Subject: x\r\n\r\na line\r\n.\r\n"
}

func ExampleResult() {
	w, loop := example()
	defer loop.Close()
	c := &parley.Client{Hostname: "client.example"}
	c.Dial(loop, "tcp", "server:25")
	m := note("")
	m.To[0].Local = "tom"
	c.Send(m, func(r *parley.Result) {
		fmt.Println(r.OK(), r.Accepted(), r.Step, r.Err)
		fmt.Println(r.To[0].Code, r.To[0].Temporary(), r.To[0])
	})
	w.Settle()
	// Output:
	// false 0 RCPT <nil>
	// 550 false 550 5.1.1 There is no tom here
}

func ExamplePipe() {
	w, loop := example()
	defer loop.Close()
	c := &parley.Client{Hostname: "client.example"}
	c.Dial(loop, "tcp", "server:25")
	pipe := new(parley.Pipe)
	m := note("")
	m.Body = pipe
	c.Send(m, func(r *parley.Result) { fmt.Println(r.OK()) })

	lines := 0
	var write func(error)
	write = func(err error) {
		for ; err == nil && lines < 3; lines++ {
			if pipe.Wait(write) { // the server is slow: write is called when it has caught up
				return
			}
			_, err = fmt.Fprintf(pipe, "line %d\n", lines)
		}
		pipe.CloseWithError(err)
	}
	write(nil)
	w.Settle()
	// Output:
	// from <a@client.example>: "line 0\r\nline 1\r\nline 2\r\n"
	// true
}

func ExampleProxy() {
	w, loop := example() // the server behind
	defer loop.Close()
	front := &parley.Server{
		Hostname:   "relay.example",
		Domains:    []string{"example.org"}, // and nobody else's
		Backend:    &parley.Proxy{Address: "server:25"},
		NoReceived: true,
	}
	front.Listen(loop, "tcp", "server:2525")

	client := w.Dial("tcp", "server:2525")
	client.Say("HELO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<tom@example.org>\r\nRCPT TO:<pat@example.org>\r\n" +
		"RCPT TO:<pat@elsewhere.example>\r\nDATA\r\nhello\r\n.\r\n")
	for range 7 {
		fmt.Print(strings.ReplaceAll(client.WantLine(), "\r", ""))
	}
	// Output:
	// 220 relay.example ESMTP
	// 250 relay.example
	// 250 2.1.0 Ok
	// 550 5.1.1 There is no tom here
	// 250 2.1.5 Ok
	// 550 5.7.1 Relaying denied
	// 354 End the message with a dot on a line by itself
}

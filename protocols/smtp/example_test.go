package smtp_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// printer is a Backend that prints messages; its recipients are looked up where that may take time.
type printer struct{}

func (printer) HandleRcpt(s *smtp.Session, to smtp.Path, _ smtp.Params) error {
	return s.Later(func(context.Context) error {
		if to.Local != "pat" {
			return smtp.Replyf(550, "5.1.1", "There is no %s here", to.Local)
		}
		return nil
	})
}

func (printer) Begin(_ *smtp.Session, e *smtp.Envelope) (smtp.Message, error) {
	return &printed{from: e.From}, nil
}

type printed struct {
	bytes.Buffer
	from smtp.Path
}

func (m *printed) Commit() error {
	fmt.Printf("from %s: %q\n", m.from, m.String())
	return nil
}

func (m *printed) Abort() {}

func ExampleServer() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	defer loop.Close()
	srv := &smtp.Server{Hostname: "mx.example.org", Backend: printer{}, NoReceived: true}
	if _, err := srv.Listen(loop, "tcp", "server:25"); err != nil {
		fmt.Println(err)
		return
	}

	client := w.Dial("tcp", "server:25")
	fmt.Print(strings.ReplaceAll(client.Read(), "\r", ""))
	client.Say("HELO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<pat@example.org>\r\nRCPT TO:<tom@example.org>\r\nDATA\r\n")
	fmt.Print(strings.ReplaceAll(client.Read(), "\r", ""))
	client.Say("Subject: hello\r\n\r\n..\r\n.\r\nQUIT\r\n")
	client.Read()

	// Output:
	// 220 mx.example.org ESMTP
	// 250 mx.example.org
	// 250 2.1.0 Ok
	// 250 2.1.5 Ok
	// 550 5.1.1 There is no tom here
	// 354 End the message with a dot on a line by itself
	// from <a@client.example>: "Subject: hello\r\n\r\n.\r\n"
}

func ExampleParsePath() {
	path, rest, err := smtp.ParsePath(`<@relay.example:"a b"@example.org> SIZE=100`, false)
	fmt.Println(path.Local, path.Domain, rest, err)
	params, err := smtp.ParseParams(rest, false)
	fmt.Println(path, params, err)
	// Output:
	// a b example.org  SIZE=100 <nil>
	// <"a b"@example.org> map[SIZE:100] <nil>
}

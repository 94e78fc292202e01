package smtp_test

import (
	"context"
	"fmt"
	"io"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/mailbox"
	parley "github.com/parley-go/parley/protocols/smtp"
)

// sendTo has a server with a Backend take one message, and returns what it says to that.
func sendTo(backend parley.Backend, message string) string {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	defer loop.Close()
	srv := &parley.Server{Hostname: "mx.example.org", Backend: backend, Domains: []string{"example.org"}, NoReceived: true}
	if _, err := srv.Listen(loop, "tcp", "server:25"); err != nil {
		return err.Error()
	}
	client := w.Dial("tcp", "server:25")
	client.Say("EHLO client.example\r\nMAIL FROM:<tim@client.example>\r\nRCPT TO:<pat@example.org>\r\nDATA\r\n")
	client.Read()
	client.Say(strings.ReplaceAll(message, "\n", "\r\n") + ".\r\n")
	answer, _, _ := strings.Cut(client.Read(), " Ok, ")
	return answer
}

func ExampleDiscard() {
	d := new(parley.Discard)
	fmt.Println(sendTo(d, "Subject: hello\n\nhello\n"))
	fmt.Println(d.Messages(), d.Octets())
	// Output:
	// 250 2.0.0
	// 1 25
}

func ExampleMaildir() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	box, err := mailbox.OpenMaildir(filepath.Join(dir, "Maildir"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(sendTo(&parley.Maildir{Box: box}, "Subject: hello\n\nhello\n"))

	names, _ := filepath.Glob(filepath.Join(box.Dir(), "new", "*"))
	for _, name := range names {
		text, err := os.ReadFile(name)
		fmt.Printf("%q %v\n", text, err)
	}
	// Output:
	// 250 2.0.0
	// "Return-Path: <tim@client.example>\r\nSubject: hello\r\n\r\nhello\r\n" <nil>
}

func ExampleMbox() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	box := &mailbox.Mbox{Path: filepath.Join(dir, "pat")}
	fmt.Println(sendTo(&parley.Mbox{Box: box, NoReturnPath: true}, "Subject: hello\n\nFrom now on\n"))

	text, err := os.ReadFile(box.Path)
	fmt.Print(string(text), err)
	// Output:
	// 250 2.0.0
	// From tim@client.example Sat Jan  1 00:00:00 2000
	// Subject: hello
	//
	// >From now on
	//
	// <nil>
}

func ExampleFunc() {
	backend := parley.Func(func(_ context.Context, envelope *parley.Envelope, message *io.SectionReader) error {
		m, err := netmail.ReadMessage(message)
		if err != nil {
			return parley.Replyf(554, "5.6.0", "That is no message")
		}
		if m.Header.Get("Subject") == "" {
			return parley.Replyf(554, "5.6.0", "%s, what is it about?", envelope.From.Address())
		}
		fmt.Println(message.Size(), "octets:", m.Header.Get("Subject"))
		return nil
	})
	fmt.Println(sendTo(backend, "Subject: hello\n\nhello\n"))
	fmt.Print(sendTo(backend, "To: you\n\nhello\n"))
	// Output:
	// 25 octets: hello
	// 250 2.0.0
	// 554 5.6.0 tim@client.example, what is it about?
}

func ExamplePrint() {
	sendTo(&parley.Print{W: os.Stdout}, "Subject: hello\n\n\x1b[1mhello\n")
	// Output:
	// ---------- MESSAGE FOLLOWS ----------
	// Subject: hello
	// X-Peer: 192.0.2.2
	// X-MailFrom: tim@client.example
	// X-RcptTo: pat@example.org
	//
	// \x1b[1mhello
	// ------------ END MESSAGE ------------
}

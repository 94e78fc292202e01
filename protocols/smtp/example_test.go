package smtp_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/smtp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	parley "github.com/parley-go/parley/protocols/smtp"
)

// printer is a Backend that prints messages; its recipients are looked up where that may take time.
type printer struct{}

func (printer) HandleRcpt(s *parley.Session, to parley.Path, _ parley.Params) error {
	return s.Later(func(context.Context) error {
		if to.Local != "pat" {
			return parley.Replyf(550, "5.1.1", "There is no %s here", to.Local)
		}
		return nil
	})
}

func (printer) Begin(_ *parley.Session, e *parley.Envelope) (parley.Message, error) {
	return &printed{from: e.From}, nil
}

type printed struct {
	bytes.Buffer
	from parley.Path
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
	srv := &parley.Server{Hostname: "mx.example.org", Backend: printer{}, NoReceived: true}
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
	path, rest, err := parley.ParsePath(`<@relay.example:"a b"@example.org> SIZE=100`, false)
	fmt.Println(path.Local, path.Domain, rest, err)
	params, err := parley.ParseParams(rest, false)
	fmt.Println(path, params, err)
	// Output:
	// a b example.org  SIZE=100 <nil>
	// <"a b"@example.org> map[SIZE:100] <nil>
}

// The kernel's sockets, and the client of Go's own library.
func TestNetSMTP(t *testing.T) {
	loop, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	rec := new(recorder)
	srv := &parley.Server{Hostname: "mx.example.org", Backend: rec}
	l, err := srv.Listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		defer cancel()
		text := bytes.Repeat([]byte("A line of text\r\n.\r\n"), 20_000)
		if err := smtp.SendMail(l.Addr().(*net.TCPAddr).String(), nil, "a@client.example", []string{"user@example.org", "pat@example.org"}, text); err != nil {
			failed <- err
		}
	}()
	require.ErrorIs(t, loop.Run(ctx), context.Canceled)
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	require.NoError(t, loop.Close())
	require.Len(t, rec.mails, 1)
	require.Len(t, rec.mails[0].envelope.To, 2)
	require.Equal(t, string(bytes.Repeat([]byte("A line of text\r\n.\r\n"), 20_000)), rec.mails[0].text.String()[len(rec.mails[0].text.String())-19*20_000:])
}

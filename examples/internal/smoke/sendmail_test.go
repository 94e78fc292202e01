//go:build unix

package smoke

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/protocols/smtp"
)

// mailbox is a Backend that keeps messages; it takes them for everybody but nobody.
type mailbox struct {
	mu    sync.Mutex
	mails []string
}

func (b *mailbox) HandleRcpt(_ *smtp.Session, to smtp.Path, _ smtp.Params) error {
	if to.Local == "nobody" {
		return smtp.Replyf(550, "5.1.1", "No such user")
	}
	return nil
}

func (b *mailbox) Begin(*smtp.Session, *smtp.Envelope) (smtp.Message, error) {
	return &letter{b: b}, nil
}

type letter struct {
	bytes.Buffer
	b *mailbox
}

func (l *letter) Commit() error {
	if strings.Contains(l.String(), "spam") {
		return smtp.Replyf(554, "5.7.1", "Spam")
	}
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	l.b.mails = append(l.b.mails, l.String())
	return nil
}

func (l *letter) Abort() {}

func (b *mailbox) last(t *testing.T) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.NotEmpty(t, b.mails)
	return b.mails[len(b.mails)-1]
}

// postOffice is a mail server for the length of a test.
func postOffice(t *testing.T, srv *smtp.Server, implicit bool) (b *mailbox, addr string) {
	t.Helper()
	b = new(mailbox)
	srv.Backend, srv.Hostname, srv.NoReceived = b, "mx.example.org", true
	loop, err := core.NewLoop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	listen := srv.Listen
	if implicit {
		listen = srv.ListenTLS
	}
	l, err := listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = loop.Close()
	})
	return b, l.Addr().String()
}

// post starts sendmail with something on its standard input.
func post(t *testing.T, stdin string, args ...string) *process {
	t.Helper()
	return startWith(t, strings.NewReader(stdin), "sendmail", args...)
}

func TestSendmail(t *testing.T) {
	t.Parallel()
	b, addr := postOffice(t, new(smtp.Server), false)
	base := []string{"-server", addr, "-from", "a@example.org", "-helo", "client.example"}
	with := func(args ...string) []string { return append(base[:len(base):len(base)], args...) }

	p := post(t, "Subject: x\n\n.\nend", with("-to", "b@example.org, <c@example.org>")...)
	p.wantExit(0)
	require.Empty(t, p.stdout.String()+p.stderr.String())
	require.Equal(t, "Subject: x\r\n\r\n.\r\nend\r\n", b.last(t))

	name := filepath.Join(t.TempDir(), "letter")
	text := strings.Repeat("0123456789\n", 100_000)
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	p = post(t, "not this", with("-to", "b@example.org", "-file", name)...)
	p.wantExit(0)
	require.Equal(t, strings.ReplaceAll(text, "\n", "\r\n"), b.last(t))

	p = post(t, "x", with("-to", "b@example.org,nobody@example.org")...)
	p.wantComplaint(1, "<nobody@example.org>: 550 5.1.1 No such user")
	require.Equal(t, "x\r\n", b.last(t)) // for the other one

	p = post(t, "spam", with("-to", "b@example.org,c@example.org")...)
	p.wantExit(1)
	require.Equal(t, "sendmail: <b@example.org>: 554 5.7.1 Spam\nsendmail: <c@example.org>: 554 5.7.1 Spam\n", p.stderr.String())

	post(t, "a\x00b", with("-to", "b@example.org")...).wantComplaint(1, "550 5.6.0 The message has a NUL")
	post(t, "x", with("-to", "b@example.org", "-starttls")...).wantComplaint(1, "STARTTLS is not offered")
	post(t, "x", with("-to", "b@example.org", "-auth", "tim:secret")...).wantComplaint(1, "no mechanism of AUTH")
	post(t, "x", with("-to", "b@example.org", "-lmtp")...).wantComplaint(1, "500 5.5.1 Say EHLO")

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close() // it never greets
	silent := ln.Addr().String()
	post(t, "x", "-server", silent, "-from", "<>", "-to", "b@example.org", "-timeout", "500ms").wantComplaint(1, silent+": greeting: parley: timeout")
	_ = ln.Close()
	post(t, "x", "-server", silent, "-from", "<>", "-to", "b@example.org").wantComplaint(1, "refused")

	for _, x := range [][]string{
		{"-server is missing", "-from", "a@b", "-to", "c@d"},
		{"-from is missing", "-server", "x:25", "-to", "c@d"},
		{"-to is missing", "-server", "x:25", "-from", "c@d"},
		{"-server", "-server", "x", "-from", "a@b", "-to", "c@d"},
		{"no address", "-server", "x:25", "-from", "a", "-to", "c@d"},
		{"no address", "-server", "x:25", "-from", "a@b", "-to", "c@d,,e@f"},
		{"-file", "-server", "x:25", "-from", "a@b", "-to", "c@d", "-file", "/no such file"},
		{"directory", "-server", "x:25", "-from", "a@b", "-to", "c@d", "-file", "/"},
		{"one of them", "-server", "x:25", "-from", "a@b", "-to", "c@d", "-tls", "-starttls"},
		{"-timeout", "-server", "x:25", "-from", "a@b", "-to", "c@d", "-timeout", "-1s"},
		{"iocp", "-server", "x:25", "-from", "a@b", "-to", "c@d", "-backend", "iocp"},
	} {
		post(t, "", x[1:]...).wantComplaint(2, x[0])
	}
}

// A password goes under TLS only, and the certificate is looked at unless one says otherwise.
func TestSendmailTLS(t *testing.T) {
	t.Parallel()
	cert, err := tlslayer.SelfSigned("127.0.0.1")
	require.NoError(t, err)
	for flag, implicit := range map[string]bool{"-starttls": false, "-tls": true} {
		b, addr := postOffice(t, &smtp.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, RequireTLS: true, RequireAuth: true,
			Auth: &smtp.ServerAuth{Password: func(_ *smtp.Session, user, password string) error {
				if user != "tim" || password != "sec:ret" {
					return smtp.ErrCredentials
				}
				return nil
			}}}, implicit)
		args := []string{"-server", addr, "-from", "a@example.org", "-to", "b@example.org", flag, "-auth"}
		post(t, "x", append(args, "tim:sec:ret")...).wantComplaint(1, "certificate")
		post(t, "x", append(args, "tim:other", "-insecure-skip-verify")...).wantComplaint(1, "535 5.7.8")
		p := post(t, "x", append(args, "tim:sec:ret", "-insecure-skip-verify")...)
		p.wantExit(0)
		require.Equal(t, "x\r\n", b.last(t))
	}
}

// A server that goes away while the message is still being typed ends it.
func TestSendmailDoesNotWaitForItsInput(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err == nil {
			_, _ = io.WriteString(c, "220 mx\r\n250 mx\r\n250 ok\r\n250 ok\r\n354 go on\r\n")
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}
	}()
	r, w := io.Pipe()
	defer w.Close()
	p := startWith(t, r, "sendmail", "-server", ln.Addr().String(), "-from", "a@b.example", "-to", "c@d.example")
	p.wantLog("sendmail: ")
	_ = w.Close() // what feeds it is the test's own
	p.wantExit(1)
}

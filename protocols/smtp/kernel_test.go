//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package smtp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net"
	netsmtp "net/smtp"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/smtp"
)

// The kernel's sockets, and the client of Go's own library.
func TestNetSMTP(t *testing.T) {
	loop, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	rec := new(recorder)
	srv := &smtp.Server{Hostname: "mx.example.org", Backend: rec}
	l, err := srv.Listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		defer cancel()
		text := bytes.Repeat([]byte("A line of text\r\n.\r\n"), 20_000)
		if err := netsmtp.SendMail(l.Addr().(*net.TCPAddr).String(), nil, "a@client.example", []string{"user@example.org", "pat@example.org"}, text); err != nil {
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

// A Message whose work goes on when its connection is lost is aborted on the loop's goroutine when that work is over, also
// if nothing can be posted then. On the kernel's sockets: core/sim never does two things at a time.
func TestAbortOnTheLoop(t *testing.T) {
	loop, err := core.NewLoop(core.Options{MaxPosts: 1})
	require.NoError(t, err)
	defer loop.Close()
	begun, release, stack := make(chan *smtp.Session, 1), make(chan bool), ""
	rec := new(recorder)
	rec.write = func(s *smtp.Session, _ []byte) error {
		return s.Later(func(context.Context) error { begun <- s; <-release; return nil })
	}
	srv := &smtp.Server{Backend: stacked{rec, &stack}}
	fill(srv)
	ln, err := srv.Listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	client, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Write([]byte("HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"))
	require.NoError(t, err)
	step := func() {
		_, err := loop.Step(-1)
		require.NoError(t, err)
	}
	for rec.open == 0 {
		step()
	}
	s := <-begun
	require.NoError(t, s.Conn().Close())
	_, err = loop.Step(0)
	require.NoError(t, err)
	require.Zero(t, srv.Open())
	require.Zero(t, rec.aborted)
	require.True(t, loop.Post(func() {}))
	require.False(t, loop.Post(func() {}))
	close(release)
	for loop.Stats().Posts < 2 { // the second is the end of the work
		runtime.Gosched()
	}
	for rec.aborted == 0 {
		step()
	}
	require.NotContains(t, stack, "(*later).run")
	require.Zero(t, rec.open)
}

type stacked struct {
	*recorder
	stack *string
}

type stackedMail struct {
	smtp.Message
	stack *string
}

func (r stacked) Begin(s *smtp.Session, e *smtp.Envelope) (smtp.Message, error) {
	m, err := r.recorder.Begin(s, e)
	return stackedMail{m, r.stack}, err
}

func (m stackedMail) Abort() {
	*m.stack = string(debug.Stack())
	m.Message.Abort()
}

// The kernel's sockets, both ends on one loop, a file and a pipe.
func TestClientKernel(t *testing.T) {
	loop, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	rec := new(recorder)
	srv := &smtp.Server{Hostname: "mx.example.org", Backend: rec}
	l, err := srv.Listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	text := strings.Repeat("A line of text\n.\n..\n", 100_000)
	name := filepath.Join(t.TempDir(), "message")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	pr, pw, err := os.Pipe()
	require.NoError(t, err)
	defer pr.Close()
	go func() {
		_, _ = io.WriteString(pw, text)
		_ = pw.Close()
	}()
	var got results
	for _, c := range []*smtp.Client{{}, {NoChunking: true}} {
		body := io.Reader(f)
		if c.NoChunking {
			body = pr
		}
		require.NoError(t, c.Dial(loop, "tcp", l.Addr().(*net.TCPAddr).String()))
		m := outgoing(t, "", "user")
		m.Body = body
		require.NoError(t, c.Send(m, got.add))
		c.Closed = func(error) {
			if len(got) == 2 && srv.Open() <= 1 {
				_ = l.Close()
			}
		}
		c.Quit()
	}
	require.NoError(t, loop.Run(ctx))
	require.NoError(t, loop.Close())
	require.Len(t, rec.mails, 2)
	want := sha256.Sum256([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
	for _, m := range rec.mails {
		_, body, _ := strings.Cut(m.text.String(), "\r\n\t")
		_, body, _ = strings.Cut(body, "\r\n\t")
		_, body, _ = strings.Cut(body, "\r\n")
		require.Equal(t, want, sha256.Sum256([]byte(body)))
	}
}

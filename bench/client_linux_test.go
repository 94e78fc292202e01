package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/protocols/smtp"
)

// keeper is a backend of go-smtp that keeps what it gets.
type keeper struct {
	mu    sync.Mutex
	mails []kept
}

type kept struct {
	from, text string
	to         []string
}

func (k *keeper) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return &keeping{k: k}, nil }

type keeping struct {
	k *keeper
	m kept
}

func (s *keeping) Reset()        { s.m = kept{} }
func (s *keeping) Logout() error { return nil }

func (s *keeping) Mail(from string, _ *gosmtp.MailOptions) error {
	s.m.from = from
	return nil
}

func (s *keeping) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "No such user"}
	}
	s.m.to = append(s.m.to, to)
	return nil
}

func (s *keeping) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.m.text = string(text)
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	s.k.mails = append(s.k.mails, s.m)
	return nil
}

// Parley's client and go-smtp: whatever is sent arrives, over one connection, with chunks and with dots, in the clear and
// over TLS.
func TestClientAndGoSMTP(t *testing.T) {
	cert, err := tlslayer.SelfSigned("localhost")
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	letters := []string{
		"Subject: plain\r\n\r\nhello\r\n",
		"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n\r\n.\r\n",
		"Subject: empty\r\n\r\n",
		"Subject: 8bit\r\n\r\nGr\u00fc\u00dfe\r\n",
		"Subject: large\r\n\r\n" + strings.Repeat("The quick brown fox jumps over the lazy dog.\r\n", 20_000),
	}
	for _, x := range []struct {
		name   string
		client smtp.Client
	}{
		{"chunks", smtp.Client{StartTLS: smtp.TLSNever}},
		{"data", smtp.Client{StartTLS: smtp.TLSNever, NoChunking: true}},
		{"in turn", smtp.Client{StartTLS: smtp.TLSNever, NoPipelining: true}},
		{"STARTTLS", smtp.Client{StartTLS: smtp.TLSRequired, TLSConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}},
	} {
		t.Run(x.name, func(t *testing.T) {
			k := new(keeper)
			srv := gosmtp.NewServer(k)
			srv.Domain = "localhost"
			srv.EnableSMTPUTF8, srv.EnableBINARYMIME = true, true
			srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			served := make(chan error, 1)
			go func() { served <- srv.Serve(ln) }()

			loop, err := core.NewLoop(core.Options{Logger: slog.New(slog.DiscardHandler)})
			require.NoError(t, err)
			c := x.client
			require.NoError(t, c.Dial(loop, "tcp", ln.Addr().String()))
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var results []*smtp.Result
			for _, text := range letters {
				m := &smtp.Outgoing{From: smtp.Path{Local: "a", Domain: "client.example"}, Body: strings.NewReader(text)}
				for _, to := range []string{"pat", "nobody", "tim"} {
					m.To = append(m.To, smtp.Recipient{Path: smtp.Path{Local: to, Domain: "example.org"}})
				}
				require.NoError(t, c.Send(m, func(r *smtp.Result) { results = append(results, r) }))
			}
			c.Quit()
			require.NoError(t, loop.Run(ctx))
			require.NoError(t, loop.Close())
			require.NoError(t, srv.Close())
			<-served

			require.Len(t, results, len(letters))
			require.Len(t, k.mails, len(letters))
			for i, r := range results {
				require.NoError(t, r.Err)
				require.Equal(t, 2, r.Accepted())
				require.False(t, r.OK())
				require.Equal(t, kept{"a@client.example", letters[i], []string{"pat@example.org", "tim@example.org"}}, k.mails[i])
			}
		})
	}
}

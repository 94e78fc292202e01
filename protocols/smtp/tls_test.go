//go:build unix

package smtp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	netsmtp "net/smtp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/protocols/smtp"
)

// Go's own client on real sockets: STARTTLS, AUTH behind it, a message; and a connection that begins with TLS.
func TestRealTLS(t *testing.T) {
	cert, err := tlslayer.SelfSigned("mx.example.org")
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	client := &tls.Config{RootCAs: roots, ServerName: "mx.example.org"}
	rec := new(recorder)
	srv := &smtp.Server{Hostname: "mx.example.org", Backend: rec, Auth: passwords, RequireTLS: true, RequireAuth: true,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	l, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	plain, err := srv.Listen(l, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	implicit, err := srv.ListenTLS(l, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error)
	go func() { done <- l.Run(context.Background()) }()

	send := func(c net.Conn, err error, starttls bool) {
		require.NoError(t, err)
		m, err := netsmtp.NewClient(c, "mx.example.org")
		require.NoError(t, err)
		if starttls {
			_, mechanisms := m.Extension("AUTH")
			require.Equal(t, "CRAM-MD5", mechanisms, "no password in the clear")
			require.ErrorContains(t, m.Mail("a@example.org"), "530")
			require.NoError(t, m.StartTLS(client))
		}
		ok, _ := m.Extension("STARTTLS")
		require.False(t, ok, "not offered inside of TLS")
		require.NoError(t, m.Auth(netsmtp.PlainAuth("", "tim", "tanstaaftanstaaf", "mx.example.org")))
		require.NoError(t, m.Mail("a@example.org"))
		require.NoError(t, m.Rcpt("b@example.org"))
		w, err := m.Data()
		require.NoError(t, err)
		_, err = w.Write([]byte("Subject: x\r\n\r\nhello\r\n.dot\r\n"))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		require.NoError(t, m.Quit())
	}
	c, err := net.Dial("tcp", plain.Addr().String())
	send(c, err, true)
	tc, err := tls.Dial("tcp", implicit.Addr().String(), client)
	send(tc, err, false)
	l.Shutdown(10 * time.Second)
	require.NoError(t, <-done)
	require.NoError(t, l.Close())
	require.Len(t, rec.mails, 2)
	for _, m := range rec.mails {
		require.Contains(t, m.body(), "Subject: x\r\n\r\nhello\r\n.dot\r\n")
		require.Contains(t, m.text.String(), "with UTF8SMTPSA id ")
	}
	require.EqualValues(t, 2, srv.Counters().Secured)
}

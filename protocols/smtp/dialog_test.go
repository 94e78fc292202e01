package smtp_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// teller is a Backend whose answer to a message says what it got.
func teller() *recorder {
	r := new(recorder)
	r.commit = func(_ *smtp.Session, m *mail) error {
		var to []string
		for _, rcpt := range m.envelope.To {
			to = append(to, rcpt.String()+params(rcpt.Params))
		}
		return smtp.Replyf(250, "2.0.0", "%s%s to %s: %q", m.envelope.From, params(m.envelope.Params), strings.Join(to, ","), m.body())
	}
	return r
}

func params(p smtp.Params) (text string) {
	for _, k := range []string{"AUTH", "BODY", "ENVID", "NOTIFY", "ORCPT", "REQUIRETLS", "RET", "SIZE", "SMTPUTF8"} {
		if v, ok := p[k]; ok {
			text += " " + k + "=" + v
		}
	}
	return text
}

var passwords = &smtp.ServerAuth{
	Password: func(_ *smtp.Session, user, password string) error {
		switch {
		case user == "broken":
			return errors.New("no database")
		case user != "tim" || password != "tanstaaftanstaaf":
			return smtp.ErrCredentials
		}
		return nil
	},
	Secret: func(_ *smtp.Session, user string) (string, error) {
		if user != "tim" {
			return "", smtp.ErrCredentials
		}
		return "tanstaaftanstaaf", nil
	},
}

// fakeTLS is a layer whose handshake is "<hello>": what comes before is thrown away, as TLS fails on it.
type fakeTLS struct {
	core.Socket
	c    *chat.Conn
	seen string
	done bool
}

const fakeHello = "<hello>"

func (f *fakeTLS) Interest(want core.Interest) core.Interest { return want }
func (f *fakeTLS) Ready(got core.Interest) core.Interest     { return got }
func (f *fakeTLS) Pending() bool                             { return false }
func (f *fakeTLS) Inner() core.Socket                        { return f.Socket }

func (f *fakeTLS) Recv(p []byte) (int, error) {
	n, err := f.Socket.Recv(p)
	if f.done || err != nil {
		return n, err
	}
	f.seen += string(p[:n])
	_, rest, ok := strings.Cut(f.seen, fakeHello)
	if !ok {
		return 0, core.ErrWouldBlock
	}
	f.done = true
	h, _ := core.As[core.SecureHandler[*chat.Conn]](f.c.Handler())
	if err := h.HandleSecure(f.c, tls.ConnectionState{HandshakeComplete: true}); err != nil {
		return 0, err
	}
	if rest == "" {
		return 0, core.ErrWouldBlock
	}
	return copy(p, rest), nil
}

func useFakeTLS(t testing.TB) *tls.Config {
	t.Cleanup(smtp.FakeTLS(func(c *chat.Conn, _ *tls.Config) (int, error) {
		return c.Upgrade(func(s core.Socket) (core.Layered, error) { return &fakeTLS{Socket: s, c: c}, nil }, false)
	}))
	return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }} // looks usable
}

// The dialogs of testdata: the beginning of the name says with which server.
var dialogServers = map[string]func(cfg *tls.Config) *smtp.Server{
	"esmtp":  func(*tls.Config) *smtp.Server { return &smtp.Server{} },
	"full":   func(*tls.Config) *smtp.Server { return &smtp.Server{Extensions: smtp.AllExtensions} },
	"attack": func(*tls.Config) *smtp.Server { return &smtp.Server{Limits: smtp.Limits{Errors: 20, TextLine: 1000}} },
	"limits": func(*tls.Config) *smtp.Server {
		return &smtp.Server{Limits: smtp.Limits{CommandLine: 80, TextLine: 50, MessageSize: 100, Recipients: 2, Transactions: 3,
			Errors: 3, Junk: 3, Hops: 2, IdleTimeout: 5 * time.Minute, DataTimeout: 8 * time.Minute}}
	},
	"closed": func(*tls.Config) *smtp.Server {
		return &smtp.Server{Backend: new(discardAll), Domains: []string{"Example.org"}, Auth: passwords}
	},
	"early": func(*tls.Config) *smtp.Server { return &smtp.Server{GreetDelay: 5 * time.Second} },
	"tls": func(cfg *tls.Config) *smtp.Server {
		return &smtp.Server{TLSConfig: cfg, Auth: passwords, RequireTLS: true, Extensions: smtp.AllExtensions}
	},
	"auth": func(cfg *tls.Config) *smtp.Server {
		return &smtp.Server{TLSConfig: cfg, Auth: &smtp.ServerAuth{Password: passwords.Password, Secret: passwords.Secret, AllowInsecure: true},
			RequireAuth: true}
	},
	"lmtp": func(*tls.Config) *smtp.Server { return &smtp.Server{LMTP: true, Backend: &eachRecorder{}} },
}

func TestDialogs(t *testing.T) {
	cfg := useFakeTLS(t)
	t.Cleanup(smtp.FixRandom())
	for name, server := range dialogServers {
		t.Run(name, func(t *testing.T) {
			sim.Dialog(t, "testdata/"+name+"-*.dialog", serve(func() *smtp.Server { return server(cfg) }))
		})
	}
}

// serve makes a server for each run.
func serve(server func() *smtp.Server) func(*core.Loop, core.Socket) error {
	return func(l *core.Loop, sock core.Socket) error {
		srv := server()
		if srv.Backend == nil {
			srv.Backend = teller()
		}
		fill(srv)
		_, err := srv.Serve(l, sock)
		return err
	}
}

// eachRecorder is a Backend with an answer for each recipient: those called full have no room.
type eachRecorder struct{ recorder }

type eachMail struct{ *mail }

func (r *eachRecorder) Begin(s *smtp.Session, e *smtp.Envelope) (smtp.Message, error) {
	m, err := r.recorder.Begin(s, e)
	if err != nil {
		return nil, err
	}
	return &eachMail{m.(*mail)}, nil
}

func (m *eachMail) CommitEach(answer func(i int, err error)) error {
	for i, to := range m.envelope.To {
		switch to.Local {
		case "full":
			answer(i, smtp.Replyf(452, "4.2.2", "Mailbox of %s is full", to.Local))
		case "silent": // as the message fares
		default:
			answer(i, smtp.Replyf(250, "2.0.0", "%s: %q", to.Local, m.body()))
		}
	}
	if strings.Contains(m.body(), "fail") {
		return smtp.Replyf(451, "4.3.0", "The message failed")
	}
	return m.Commit()
}

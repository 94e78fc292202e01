package smtp_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/protocols/smtp"
)

// everything is what a server can offer that a Client uses.
var everything = []string{"SIZE 1000000", "8BITMIME", "SMTPUTF8", "DSN", "AUTH PLAIN", "DELIVERBY", "MT-PRIORITY MIXER"}

// What MAIL and RCPT say, by what is offered.
func TestClientParameters(t *testing.T) {
	path := func(s string) smtp.Path { return addr(t, s) }
	for _, x := range []struct {
		name   string
		offers []string
		m      smtp.Outgoing
		want   []string // MAIL and RCPT; or the refusal
	}{
		{"all", everything, smtp.Outgoing{From: path("a@b"), Size: 77, Params: smtp.Params{"RET": "HDRS", "ENVID": "x+20y", "AUTH": "<>", "BY": "120;R", "MT-PRIORITY": "3"}},
			[]string{"MAIL FROM:<a@b> AUTH=<> BODY=8BITMIME BY=120;R ENVID=x+20y MT-PRIORITY=3 RET=HDRS SIZE=77", "RCPT TO:<u@e>"}},
		{"none", nil, smtp.Outgoing{From: path("a@b"), Size: 77, Params: smtp.Params{"RET": "HDRS", "ENVID": "x", "AUTH": "<>", "BODY": "7BIT", "SIZE": "5"}},
			[]string{"MAIL FROM:<a@b>", "RCPT TO:<u@e>"}},
		{"null path", everything[:1], smtp.Outgoing{Params: smtp.Params{"SIZE": "5"}}, []string{"MAIL FROM:<> SIZE=5", "RCPT TO:<u@e>"}},
		{"7 bit", everything, smtp.Outgoing{Params: smtp.Params{"BODY": "7BIT"}}, []string{"MAIL FROM:<> BODY=7BIT SIZE=1", "RCPT TO:<u@e>"}},
		{"8 bit", everything, smtp.Outgoing{Params: smtp.Params{"BODY": "8BITMIME"}}, []string{"MAIL FROM:<> BODY=8BITMIME SIZE=1", "RCPT TO:<u@e>"}},
		{"8 bit, and it is not offered", nil, smtp.Outgoing{Params: smtp.Params{"BODY": "8BITMIME"}}, []string{"550 5.6.3"}},
		{"BINARYMIME without CHUNKING", append(everything, "BINARYMIME"), smtp.Outgoing{Params: smtp.Params{"BODY": "BINARYMIME"}}, []string{"550 5.6.3"}},
		{"BODY", everything, smtp.Outgoing{Params: smtp.Params{"BODY": "9BIT"}}, []string{"501 5.5.4"}},
		{"UTF-8 in the header", everything, smtp.Outgoing{Params: smtp.Params{"SMTPUTF8": ""}}, []string{"MAIL FROM:<> BODY=8BITMIME SIZE=1 SMTPUTF8", "RCPT TO:<u@e>"}},
		{"UTF-8 in the header, and it is not offered", nil, smtp.Outgoing{Params: smtp.Params{"SMTPUTF8": ""}}, []string{"550 5.6.7"}},
		{"UTF-8 sender", everything, smtp.Outgoing{From: path("ä@b")}, []string{"MAIL FROM:<ä@b> BODY=8BITMIME SIZE=1 SMTPUTF8", "RCPT TO:<u@e>"}},
		{"UTF-8 sender, and it is not offered", nil, smtp.Outgoing{From: path("ä@b")}, []string{"550 5.6.7"}},
		{"UTF-8 recipient", everything, smtp.Outgoing{To: []smtp.Recipient{{Path: path("ö@b")}}}, []string{"MAIL FROM:<> BODY=8BITMIME SIZE=1 SMTPUTF8", "RCPT TO:<ö@b>"}},
		{"UTF-8 recipient, and it is not offered", nil, smtp.Outgoing{To: []smtp.Recipient{{Path: path("ö@b")}}}, []string{"MAIL FROM:<>", "553 5.6.7"}},
		{"UTF-8 domain", nil, smtp.Outgoing{To: []smtp.Recipient{{Path: path("o@ö.example")}, {Path: path("u@e")}}}, []string{"MAIL FROM:<>", "RCPT TO:<u@e>"}},
		{"DSN", everything, smtp.Outgoing{To: []smtp.Recipient{{Path: path("u@e"), Params: smtp.Params{"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;u@e"}}}},
			[]string{"MAIL FROM:<> BODY=8BITMIME SIZE=1", "RCPT TO:<u@e> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;u@e"}},
		{"DSN, and it is not offered", nil, smtp.Outgoing{To: []smtp.Recipient{{Path: path("u@e"), Params: smtp.Params{"NOTIFY": "NEVER"}}}},
			[]string{"MAIL FROM:<>", "RCPT TO:<u@e>"}},
		{"not offered", nil, smtp.Outgoing{Params: smtp.Params{"BY": "120;R"}}, []string{"555 5.5.4"}},
		{"not offered of a recipient", nil, smtp.Outgoing{To: []smtp.Recipient{{Path: path("u@e"), Params: smtp.Params{"RRVS": "x"}}}}, []string{"MAIL FROM:<>", "555 5.5.4"}},
		{"REQUIRETLS without TLS", append(everything, "REQUIRETLS"), smtp.Outgoing{Params: smtp.Params{"REQUIRETLS": ""}}, []string{"550 5.7.30"}},
		{"postmaster", nil, smtp.Outgoing{To: []smtp.Recipient{{Path: smtp.Path{Local: "Postmaster"}}}}, []string{"MAIL FROM:<>", "RCPT TO:<Postmaster>"}},
		{"quotes", nil, smtp.Outgoing{From: smtp.Path{Local: `a "b\`, Domain: "c"}}, []string{`MAIL FROM:<"a \"b\\"@c>`, "RCPT TO:<u@e>"}},
		{"SIZE is what is there", []string{"SIZE 0"}, smtp.Outgoing{}, []string{"MAIL FROM:<> SIZE=1", "RCPT TO:<u@e>"}},
		{"SIZE over the limit", []string{"SIZE 10"}, smtp.Outgoing{Size: 11}, []string{"552 5.3.4"}},
		{"SIZE over the limit by Params", []string{"SIZE 10"}, smtp.Outgoing{Params: smtp.Params{"SIZE": "11"}}, []string{"552 5.3.4"}},
		{"SIZE at the limit", []string{"SIZE 10"}, smtp.Outgoing{Size: 10}, []string{"MAIL FROM:<> SIZE=10", "RCPT TO:<u@e>"}},
		{"SIZE that is no number", []string{"SIZE many"}, smtp.Outgoing{Size: 10}, []string{"MAIL FROM:<> SIZE=10", "RCPT TO:<u@e>"}},
		{"nobody", nil, smtp.Outgoing{To: []smtp.Recipient{}}, []string{"554 5.5.1"}},

		// Nothing gets into a command that does not belong there.
		{"CR LF in the sender", nil, smtp.Outgoing{From: smtp.Path{Local: "a\r\nRSET", Domain: "b"}}, []string{"501 5.1.7"}},
		{"> in the sender", nil, smtp.Outgoing{From: smtp.Path{Local: "a", Domain: "b> X=y <"}}, []string{"501 5.1.7"}},
		{"CR LF in the domain", nil, smtp.Outgoing{From: smtp.Path{Local: "a", Domain: "b\r\nDATA"}}, []string{"501 5.1.7"}},
		{"sender without a domain", nil, smtp.Outgoing{From: smtp.Path{Local: "postmaster"}}, []string{"501 5.1.7"}},
		{"sender without a local part", nil, smtp.Outgoing{From: smtp.Path{Domain: "b"}}, []string{"501 5.1.7"}},
		{"NUL in a recipient", nil, smtp.Outgoing{To: []smtp.Recipient{{Path: smtp.Path{Local: "a\x00", Domain: "b"}}}}, []string{"MAIL FROM:<>", "501 5.1.3"}},
		{"the null path as a recipient", nil, smtp.Outgoing{To: []smtp.Recipient{{}}}, []string{"MAIL FROM:<>", "501 5.1.3"}},
		{"LF in a recipient", nil, smtp.Outgoing{To: []smtp.Recipient{{Path: smtp.Path{Local: "a\nb", Domain: "c"}}}}, []string{"MAIL FROM:<>", "501 5.1.3"}},
		{"not UTF-8", everything, smtp.Outgoing{To: []smtp.Recipient{{Path: smtp.Path{Local: "\xff", Domain: "c"}}}}, []string{"MAIL FROM:<> BODY=8BITMIME SIZE=1 SMTPUTF8", "501 5.1.3"}},
		{"space in a parameter", everything, smtp.Outgoing{Params: smtp.Params{"ENVID": "a b"}}, []string{"501 5.5.4"}},
		{"CR LF in a parameter", everything, smtp.Outgoing{Params: smtp.Params{"ENVID": "a\r\nb"}}, []string{"501 5.5.4"}},
		{"CR LF in a keyword", everything, smtp.Outgoing{Params: smtp.Params{"ENVID\r\nX": "a"}}, []string{"501 5.5.4"}},
		{"8 bit in a parameter", everything, smtp.Outgoing{Params: smtp.Params{"ENVID": "ä"}}, []string{"501 5.5.4"}},
		{"too long", everything, smtp.Outgoing{Params: smtp.Params{"ENVID": strings.Repeat("x", 5000)}}, []string{"501 5.5.4"}},
		{"too long for a recipient", everything, smtp.Outgoing{To: []smtp.Recipient{{Path: path("u@e"), Params: smtp.Params{"ORCPT": strings.Repeat("x", 5000)}}}},
			[]string{"MAIL FROM:<> BODY=8BITMIME SIZE=1", "501 5.5.4"}},
		{"space in a parameter of a recipient", everything, smtp.Outgoing{To: []smtp.Recipient{{Path: path("u@e"), Params: smtp.Params{"ORCPT": "a b"}}}},
			[]string{"MAIL FROM:<> BODY=8BITMIME SIZE=1", "501 5.5.4"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newStage(t, sim.Config{}, &smtp.Client{})
			m := x.m
			m.Body = strings.NewReader("x")
			if m.To == nil {
				m.To = []smtp.Recipient{{Path: path("u@e")}}
			}
			s.send(&m)
			s.offer(x.offers...)
			for _, w := range x.want {
				if strings.HasPrefix(w, "MAIL") || strings.HasPrefix(w, "RCPT") {
					s.answer(w, "250 Ok")
					continue
				}
				s.Settle()
				require.Len(t, s.results, 1)
				r := s.results[0]
				require.True(t, strings.HasPrefix(r.Reply.Error(), w), r.Reply)
				require.ErrorIs(t, r.Err, r.Reply)
				s.peer.WantNothing()
				require.Empty(t, s.causes)
				s.c.Quit()
				s.answer("QUIT", "221 Bye")
				return
			}
			s.peer.Want("DATA\r\n")
		})
	}
}

func TestClientBinary(t *testing.T) {
	s := newSender(t, sim.Config{}, &smtp.Server{Extensions: smtp.AllExtensions}, &smtp.Client{})
	text := "\x00\x01\r\r\n.\n.\r" + strings.Repeat("\n.\xff", 50_000)
	m := outgoing(t, text, "user")
	m.Params = smtp.Params{"BODY": "BINARYMIME"}
	s.send(m)
	s.all(1)
	require.True(t, s.results[0].OK(), s.results[0].Reply)
	require.Equal(t, text, s.rec.mails[0].body())
}

// Own mechanisms, and what is chosen among those that are offered.
func TestClientMechanisms(t *testing.T) {
	token := smtp.ClientMechanism{Name: "XOAUTH2", New: func(secure bool) smtp.ClientExchange {
		return exchangeFunc(func(challenge []byte) ([]byte, error) {
			if challenge == nil {
				return []byte("token"), nil
			}
			return []byte{}, nil // after an error the server wants an empty answer
		})
	}}
	open := token
	open.Insecure = true
	empty := smtp.ClientMechanism{Name: "EMPTY", Insecure: true, New: func(bool) smtp.ClientExchange {
		return exchangeFunc(func([]byte) ([]byte, error) { return []byte{}, nil })
	}}
	long := smtp.ClientMechanism{Name: "LONG", Insecure: true, New: func(bool) smtp.ClientExchange {
		return exchangeFunc(func(c []byte) ([]byte, error) { return make([]byte, 10_000), nil })
	}}
	broken := smtp.ClientMechanism{Name: "BROKEN", Insecure: true, New: func(bool) smtp.ClientExchange {
		return exchangeFunc(func(c []byte) ([]byte, error) { return nil, errDisk })
	}}
	for _, x := range []struct {
		name, offered string
		auth          smtp.ClientAuth
		lines         [][2]string
		err           error
	}{
		{"first of ours", "PLAIN XOAUTH2 EMPTY", smtp.ClientAuth{User: "u", Mechanisms: []smtp.ClientMechanism{empty, open}}, [][2]string{{"AUTH EMPTY =", "235 Ok"}}, nil},
		{"not without TLS", "PLAIN XOAUTH2 CRAM-MD5", smtp.ClientAuth{User: "u", Mechanisms: []smtp.ClientMechanism{token}}, [][2]string{{"AUTH CRAM-MD5", "334 eA=="}}, nil},
		{"challenged", "XOAUTH2", smtp.ClientAuth{Mechanisms: []smtp.ClientMechanism{open}}, [][2]string{{"AUTH XOAUTH2 dG9rZW4=", "334 eyJ9"}, {"", "535 No"}}, errors.New("535 No")},
		{"none", "PLAIN LOGIN", smtp.ClientAuth{User: "u"}, nil, smtp.ErrNoAuth},
		{"too long", "LONG", smtp.ClientAuth{Mechanisms: []smtp.ClientMechanism{long}}, nil, smtp.ErrNoAuth},
		{"broken", "BROKEN", smtp.ClientAuth{Mechanisms: []smtp.ClientMechanism{broken}}, nil, errDisk},
		{"identity", "LOGIN PLAIN", smtp.ClientAuth{User: "u", Password: "p", Identity: "i", AllowInsecure: true}, [][2]string{{"AUTH PLAIN aQB1AHA=", "235 Ok"}}, nil},
		{"lower case", "plain", smtp.ClientAuth{User: "u", Password: "p", AllowInsecure: true}, [][2]string{{"AUTH PLAIN AHUAcA==", "235 Ok"}}, nil},
		{"LOGIN asks too much", "LOGIN", smtp.ClientAuth{User: "u", Password: "p", AllowInsecure: true},
			[][2]string{{"AUTH LOGIN", "334 "}, {"dQ==", "334"}, {"cA==", "334 eA=="}, {"*", "501 Ok"}}, smtp.ErrBadReply},
		{"CRAM-MD5 twice", "CRAM-MD5", smtp.ClientAuth{User: "u", Password: "p", AllowInsecure: true},
			[][2]string{{"AUTH CRAM-MD5", "334 eA=="}, {"dSBiYTU5OGUwNWQ3N2FjMmVmNDc2YmQ0MTlmOTlkZDQ0NQ==", "334 eA=="}, {"*", "501 Ok"}}, smtp.ErrBadReply},
		{"a positive answer that is none", "CRAM-MD5", smtp.ClientAuth{User: "u"}, [][2]string{{"AUTH CRAM-MD5", "354 eA=="}}, smtp.ErrBadReply},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newStage(t, sim.Config{}, &smtp.Client{Auth: &x.auth})
			s.offer("AUTH " + x.offered)
			for _, l := range x.lines {
				if strings.HasPrefix(l[0], "dSBi") {
					s.peer.WantLine()
					s.peer.Say(l[1] + "\r\n")
					continue
				}
				s.answer(l[0], l[1])
			}
			s.Settle()
			if x.err == nil {
				require.Empty(t, s.causes)
				return
			}
			s.peer.Say("221 Bye\r\n")
			s.Settle()
			require.Len(t, s.causes, 1)
			if !errors.Is(s.causes[0], x.err) {
				require.EqualError(t, s.causes[0], x.err.Error())
			}
		})
	}
}

type exchangeFunc func([]byte) ([]byte, error)

func (f exchangeFunc) Next(challenge []byte) ([]byte, error) { return f(challenge) }

// Against our own server: the mechanisms, LMTP.
func TestClientAndServer(t *testing.T) {
	auth := &smtp.ClientAuth{User: "tim", Password: "tanstaaftanstaaf"}
	insecure := &smtp.ClientAuth{User: "tim", Password: "tanstaaftanstaaf", AllowInsecure: true}
	only := func(f func(*smtp.ServerAuth)) *smtp.ServerAuth {
		a := *passwords
		a.AllowInsecure = true
		f(&a)
		return &a
	}
	for _, x := range []struct {
		name string
		srv  *smtp.Server
		c    *smtp.Client
		want string
	}{
		{"plain", &smtp.Server{RequireAuth: true, Auth: only(func(a *smtp.ServerAuth) { a.Secret = nil })}, &smtp.Client{Auth: insecure}, "250"},
		{"cram", &smtp.Server{RequireAuth: true, Auth: only(func(a *smtp.ServerAuth) { a.Password = nil })}, &smtp.Client{Auth: auth}, "250"},
		{"wrong", &smtp.Server{RequireAuth: true, Auth: passwords}, &smtp.Client{Auth: &smtp.ClientAuth{User: "tim", Password: "x"}}, "535"},
		{"lmtp", &smtp.Server{LMTP: true, Backend: &eachRecorder{}}, &smtp.Client{LMTP: true}, "250"},
		{"lmtp old fashion", &smtp.Server{LMTP: true, Backend: &eachRecorder{}}, &smtp.Client{LMTP: true, NoChunking: true, NoPipelining: true}, "250"},
		{"smtp to lmtp", &smtp.Server{LMTP: true, Backend: &eachRecorder{}}, &smtp.Client{}, "500"},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newSender(t, sim.Config{Latency: time.Millisecond}, x.srv, x.c)
			s.send(outgoing(t, "x\r\n.\r\n", "user"))
			s.all(1)
			require.True(t, strings.HasPrefix(s.results[0].Reply.Error(), x.want), s.results[0].Reply)
		})
	}
}

// TLS in both forms, with our own server: PLAIN is chosen then, and what was offered in the clear is forgotten.
func TestClientAndServerTLS(t *testing.T) {
	cert, err := tlslayer.SelfSigned("server")
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	for _, x := range []struct {
		name   string
		policy smtp.TLSPolicy
		cfg    *tls.Config
		secure bool
		err    error
	}{
		{"opportunistic", smtp.TLSOpportunistic, &tls.Config{RootCAs: roots}, true, nil},
		{"required", smtp.TLSRequired, &tls.Config{RootCAs: roots}, true, nil},
		{"implicit", smtp.TLSImplicit, &tls.Config{RootCAs: roots}, true, nil},
		{"never", smtp.TLSNever, nil, false, nil},
		{"unknown authority", smtp.TLSRequired, nil, false, tlslayer.ErrHandshake},
		{"unknown authority, opportunistic", smtp.TLSOpportunistic, nil, false, tlslayer.ErrHandshake},
		{"another name", smtp.TLSImplicit, &tls.Config{RootCAs: roots, ServerName: "mx.example.org"}, false, tlslayer.ErrHandshake},
	} {
		t.Run(x.name, func(t *testing.T) {
			var secure []bool
			rec := &recorder{commit: func(s *smtp.Session, _ *mail) error { secure = append(secure, s.TLS() != nil); return nil }}
			srv := &smtp.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, Auth: passwords, RequireAuth: true, Backend: rec}
			net := sim.Config{Latency: time.Millisecond, RandomCuts: true, Again: 0.1, Window: 2000}
			s := newScene(t, net, srv)
			_, err := srv.ListenTLS(s.loop, "tcp", "server:465")
			require.NoError(t, err)
			c := &smtp.Client{StartTLS: x.policy, TLSConfig: x.cfg, Auth: &smtp.ClientAuth{User: "tim", Password: "tanstaaftanstaaf"}}
			var cause error
			c.Closed = func(err error) { cause = err }
			require.NoError(t, c.Dial(s.loop, "tcp", map[bool]string{true: "server:465", false: address}[x.policy == smtp.TLSImplicit]))
			var got results
			body := strings.Repeat("0123456789\r\n.\r\n", 10_000)
			require.NoError(t, c.Send(outgoing(t, body, "user"), got.add))
			s.Settle()
			require.Len(t, got, 1)
			if x.err != nil {
				require.ErrorIs(t, got[0].Err, x.err)
				require.Equal(t, "454 4.7.5 The TLS handshake failed", got[0].Reply.Error())
				require.Empty(t, rec.mails)
				return
			}
			require.True(t, got[0].OK(), got[0].Reply)
			require.Equal(t, body, rec.mails[0].body())
			require.Equal(t, []bool{x.secure}, secure)
			require.Equal(t, x.secure, c.TLS() != nil)
			mechanisms, _ := c.Offers("AUTH")
			require.Equal(t, x.secure, strings.Contains(mechanisms, "PLAIN"))
			c.Quit()
			s.Settle()
			require.NoError(t, cause)
			require.Zero(t, srv.Open())
		})
	}
}

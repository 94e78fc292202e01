package smtp_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// fakeServerTLS is fakeTLS for the client's side: both say "<hello>", the client first, and anything else fails.
type fakeServerTLS struct{ fakeTLS }

var errFakeTLS = errors.New("fake TLS: no handshake")

func (f *fakeServerTLS) Recv(p []byte) (int, error) {
	n, err := f.fakeTLS.Recv(p)
	if !f.done && !strings.HasPrefix(fakeHello, f.seen) {
		return 0, errFakeTLS
	}
	return n, err
}

// useFakeClientTLS has Clients take the fake for TLS. names gets the names that certificates would be checked against.
func useFakeClientTLS(t testing.TB, names *[]string) {
	t.Cleanup(smtp.FakeClientTLS(func(c *chat.Conn, cfg *tls.Config) (int, error) {
		if names != nil {
			*names = append(*names, cfg.ServerName)
		}
		dropped, err := c.Upgrade(func(s core.Socket) (core.Layered, error) {
			return &fakeServerTLS{fakeTLS{Socket: s, c: c}}, nil
		}, false)
		if err == nil && dropped == 0 {
			err = c.PushString(fakeHello) // clients speak first
		}
		return dropped, err
	}))
}

// dialogClients are the clients of the dialogs client-*: the first word of the rest of the name says which.
var dialogClients = map[string]func() *smtp.Client{
	"lmtp": func() *smtp.Client { return &smtp.Client{LMTP: true} },
	"tls": func() *smtp.Client {
		return &smtp.Client{StartTLS: smtp.TLSRequired, Auth: &smtp.ClientAuth{User: "tim", Password: "tanstaaftanstaaf"}}
	},
	"opportunistic": func() *smtp.Client {
		return &smtp.Client{TLSConfig: new(tls.Config), Auth: &smtp.ClientAuth{User: "tim", Password: "tanstaaftanstaaf"}}
	},
	"implicit": func() *smtp.Client { return &smtp.Client{StartTLS: smtp.TLSImplicit} },
	"auth": func() *smtp.Client {
		return &smtp.Client{StartTLS: smtp.TLSNever, Auth: &smtp.ClientAuth{User: "tim", Password: "tanstaaftanstaaf", AllowInsecure: true}}
	},
	"": func() *smtp.Client { return new(smtp.Client) },
}

// The dialogs testdata/client-*: S: is what the test says, C: what the client says. The lines "# result:" say what became of
// each message, and "# closed:" with what cause the connection ended, of those that stand there.
func TestClientDialogs(t *testing.T) {
	useFakeClientTLS(t, nil)
	files, err := filepath.Glob("testdata/client-*.dialog")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "client-"), ".dialog")
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			checkClientDialog(t, name, string(raw))
		})
	}
}

func checkClientDialog(t *testing.T, name, text string) {
	want := directives(text, "result")
	closed := strings.Split(directives(text, "closed")[0], " | ")
	kind, _, _ := strings.Cut(name, "-")
	client := dialogClients[kind]
	if client == nil {
		client = dialogClients[""]
	}
	type run struct {
		got    []string
		causes []string
	}
	var runs []*run
	err := sim.RunDialog(swapSides(text), func(l *core.Loop, sock core.Socket) error {
		r := new(run)
		runs = append(runs, r)
		c := client()
		c.Hostname = "client.example"
		c.Closed = func(cause error) { r.causes = append(r.causes, causeText(cause)) }
		if err := c.Attach(l, sock); err != nil {
			return err
		}
		for i := range want {
			users := [][]string{{"user", "other"}, {"user"}, {"user"}}[i]
			if c.LMTP {
				users = []string{"user", "nobody", "other"}
			}
			m := outgoing(t, []string{"Subject: x\n\n.y\n", "second", "third"}[i], users...)
			if err := c.Send(m, func(res *smtp.Result) { r.got = append(r.got, resultText(res)) }); err != nil {
				return err
			}
		}
		if !strings.HasSuffix(name, "-unasked") && !strings.HasSuffix(name, "-idle") {
			c.Quit()
		}
		return nil
	})
	require.NoError(t, err)
	for _, r := range runs {
		require.Equal(t, want, r.got)
		require.Len(t, r.causes, 1)
		require.Contains(t, closed, r.causes[0])
	}
}

// directives are the comments of a dialog that begin with a word.
func directives(text, word string) (found []string) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "# "+word+": "); ok {
			found = append(found, strings.TrimSpace(rest))
		}
	}
	return found
}

var side = regexp.MustCompile(`(?m)^[CScs](\*\d+)?[:~!]`)

// swapSides makes a dialog with a client one in which the test is the client.
func swapSides(text string) string {
	return side.ReplaceAllStringFunc(text, func(s string) string {
		return map[string]string{"C": "S", "S": "C", "c": "s", "s": "c"}[s[:1]] + s[1:]
	})
}

// causeText is an error without what differs between runs.
func causeText(err error) string {
	for _, e := range []error{smtp.ErrBadReply, smtp.ErrNoTLS, smtp.ErrNoAuth} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return fmt.Sprint(err)
}

// resultText is a result in one line.
func resultText(r *smtp.Result) string {
	var b strings.Builder
	for i, to := range r.Outgoing.To {
		fmt.Fprintf(&b, "%s %v; ", to.Local, r.To[i].Error())
	}
	fmt.Fprintf(&b, "reply %v; step %s", r.Reply.Error(), r.Step)
	if r.Err != nil {
		fmt.Fprintf(&b, "; err %s", causeText(r.Err))
	}
	if r.Uncertain {
		b.WriteString("; uncertain")
	}
	return b.String()
}

// CVE-2011-0411 from the other side: what stands between the answer to STARTTLS and the handshake fails the connection,
// wherever it is cut, and nothing of it is believed.
func TestClientInjected(t *testing.T) {
	var names []string
	useFakeClientTLS(t, &names)
	const answer, injected = "220 2.0.0 Go on\r\n", "250-evil\r\n250 SMTPUTF8\r\n"
	for cut := range len(answer + injected) {
		names = nil
		w := sim.New(sim.Config{T: t})
		loop := w.Loop(core.Options{})
		ln := w.Listen("tcp", address)
		c := &smtp.Client{Hostname: "client.example"}
		var got results
		var cause error
		c.Closed = func(err error) { cause = err }
		require.NoError(t, c.Dial(loop, "tcp", address))
		require.NoError(t, c.Send(outgoing(t, "x", "user"), got.add))
		srv := ln.Accept()
		srv.Say("220 mx\r\n")
		srv.Want("EHLO client.example\r\n")
		srv.Say("250-mx\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n")
		srv.Want("STARTTLS\r\n")
		srv.Say((answer + injected)[:cut])
		w.Settle()
		srv.Say((answer + injected)[cut:])
		w.Settle()
		require.True(t, srv.Ended())
		require.Len(t, got, 1)
		if cut == len(answer) { // the handshake had begun
			require.ErrorIs(t, cause, errFakeTLS)
		} else {
			require.ErrorIs(t, cause, smtp.ErrInjected)
			require.Equal(t, 454, got[0].Reply.Code)
		}
		require.Equal(t, "TLS", got[0].Step)
		require.Equal(t, []string{"server"}, names)
		require.Nil(t, c.TLS())
		require.NoError(t, loop.Close())
	}
}

package smtp_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// FuzzSession: whatever bytes a client sends, cut in whatever way, nothing panics, each reply is well-formed and has its
// command, replies and messages do not depend on the cuts, what is accepted consists of lines, and no Message is left
// neither committed nor aborted. By LMTP every other time.
func FuzzSession(f *testing.F) {
	for _, said := range clientSides(f) {
		f.Add([]byte(said), uint64(1))
		f.Add([]byte(said), uint64(2))
	}
	for _, said := range []string{
		"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nReceived: x\r\n\r\n..\r\n.\r\nQUIT\r\n",
		"EHLO a\r\nMAIL FROM:<a@b> BODY=BINARYMIME\r\nRCPT TO:<c@d>\r\nBDAT 5\r\n\x00\n\r\rxBDAT 0 LAST\r\n",
		"EHLO a\r\nAUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\nAUTH LOGIN\r\ndGlt\r\n*\r\n",
		"HELO a\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\nx\r.\r\n.\r\nBDAT 99999999999999999999\r\n",
	} {
		f.Add([]byte(said), uint64(2))
	}
	f.Fuzz(func(t *testing.T, said []byte, cuts uint64) {
		if cuts%2 == 1 {
			said = bytes.ReplaceAll(said, []byte("EHLO"), []byte("LHLO"))
		}
		whole := fuzzed(t, said, sim.Config{Seed: cuts, Window: 1 << 20}, false)
		cut := fuzzed(t, said, sim.Config{Seed: cuts, MaxRecv: 1 + int(cuts%100), RandomCuts: true, Again: 0.1, Spurious: 0.1}, false)
		require.Equal(t, whole, cut)
		later := fuzzed(t, said, sim.Config{Seed: cuts, MaxRecv: 1 + int(cuts%1000), RandomCuts: true, Window: 200, Work: time.Second}, true)
		require.Equal(t, whole, later)
	})
}

var replyLine = regexp.MustCompile(`^[2-5][0-9][0-9][ -][ -~]*\r\n$`)

// fuzzed returns what the server says.
func fuzzed(t *testing.T, said []byte, net sim.Config, later bool) string {
	net.T = t
	w := sim.New(net)
	loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	defer loop.Close()
	rec := teller()
	srv := &smtp.Server{Backend: rec, LMTP: net.Seed%2 == 1, Extensions: smtp.AllExtensions, Limits: smtp.Limits{MessageSize: 5000, TextLine: 1000, Errors: 50},
		Auth: &smtp.ServerAuth{Password: passwords.Password, AllowInsecure: true}}
	var session *smtp.Session
	rec.hooks = map[string]func(*smtp.Session, string) error{"connect": func(s *smtp.Session, _ string) error { session = s; return nil }}
	if later {
		makeLater(rec)
	}
	fill(srv)
	sock, p := w.Pair()
	_, err := srv.Serve(loop, sock)
	require.NoError(t, err)
	p.Say(string(said))
	text := p.Read()
	w.Advance(time.Minute) // what is delayed
	text += p.Read()
	require.LessOrEqual(t, session.Held(), 40<<10)

	final := 0
	for line := range strings.Lines(text) {
		require.Regexp(t, replyLine, line)
		require.LessOrEqual(t, len(line), 512)
		if line[3] == ' ' {
			final++
		}
	}
	said = bytes.ToUpper(said)
	most := bytes.Count(said, []byte("\r\n")) + 2
	if srv.LMTP {
		most += bytes.Count(said, []byte("RCPT")) // one more for each that was accepted
	}
	require.LessOrEqual(t, final, most, "%q", text)
	p.CloseWrite()
	w.Advance(time.Minute)
	for _, m := range rec.mails {
		if m.envelope.Params["BODY"] != "BINARYMIME" {
			require.NotContains(t, strings.ReplaceAll(m.text.String(), "\r\n", ""), "\n")
			require.NotContains(t, strings.ReplaceAll(m.text.String(), "\r\n", ""), "\r")
			require.NotContains(t, m.text.String(), "\x00")
		}
		require.LessOrEqual(t, len(m.body()), 5000)
	}
	require.Zero(t, rec.open)
	require.Zero(t, srv.Open())
	return text
}

// makeLater has every hook of r answer later what it would answer at once.
func makeLater(r *recorder) {
	wait := func(s *smtp.Session, err error) error {
		return s.Later(func(context.Context) error { return err })
	}
	for _, name := range []string{"hello", "mail", "rcpt", "vrfy", "expn"} {
		r.hooks[name] = func(s *smtp.Session, arg string) error {
			if name == "rcpt" && (strings.HasPrefix(arg, "<nobody@") || strings.HasPrefix(arg, "<Green@") || strings.HasPrefix(arg, "<later@") ||
				strings.HasPrefix(arg, "<moved@")) {
				return nil
			}
			return wait(s, nil)
		}
	}
	r.begin = func(s *smtp.Session, _ *mail) error { return wait(s, nil) }
	r.write = func(s *smtp.Session, _ []byte) error { return wait(s, nil) }
	commit := r.commit
	r.commit = func(s *smtp.Session, m *mail) error {
		r.mails = append(r.mails, m)
		return wait(s, commit(s, m))
	}
}

// clientSides are what the client says in the dialog files.
func clientSides(t testing.TB) (said []string) {
	files, err := filepath.Glob("testdata/*.dialog")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var b strings.Builder
		for line := range strings.SplitSeq(string(raw), "\n") {
			if text, ok := strings.CutPrefix(line, "C: "); ok {
				b.WriteString(text + "\r\n")
			} else if text, ok := strings.CutPrefix(line, "c: "); ok {
				s, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
				require.NoError(t, err, file)
				b.WriteString(s)
			}
		}
		said = append(said, b.String())
	}
	return said
}

// FuzzPath: what is read as a path is written as one that reads as the same, and holds nothing that could end a line.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"<>", "<a@b>", `<"a b\"\\"@c.d> SIZE=1`, "<@x,@y:a@b>", "<Postmaster>", "<a@[192.0.2.1]>", "<a@[IPv6:::1]>",
		"<\xc3\xa4@\xc3\xbc.de>", "<a@[x:y]>", "<a..b@c>", `<"a@b>`} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, utf8 bool) {
		p, rest, err := smtp.ParsePath(s, utf8)
		if err != nil {
			require.Equal(t, smtp.Path{}, p)
			return
		}
		require.True(t, strings.HasSuffix(s, rest))
		require.False(t, strings.ContainsAny(p.String(), "\r\n\x00"))
		require.LessOrEqual(t, len(p.Local), smtp.MaxLocalPart)
		require.LessOrEqual(t, len(p.Domain), smtp.MaxDomain)
		if !utf8 {
			require.True(t, p.IsASCII())
		}
		again, none, err := smtp.ParsePath(p.String(), utf8)
		require.NoError(t, err, "%q", p)
		require.Empty(t, none)
		require.Equal(t, p, again)
		if p.Domain != "" {
			bare, err := smtp.ParseMailbox(p.Address(), utf8)
			require.NoError(t, err)
			require.Equal(t, p, bare)
		}
	})
}

func FuzzParams(f *testing.F) {
	for _, s := range []string{"", " SIZE=1 BODY=8BITMIME", " smtputf8", " A=", " A=b=c", " A A", "A", " -A", "  X=1  "} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, utf8 bool) {
		params, err := smtp.ParseParams(s, utf8)
		if err != nil {
			require.Nil(t, params)
			return
		}
		for k, v := range params {
			require.Regexp(t, `^[A-Z0-9][A-Z0-9-]*$`, k)
			require.False(t, strings.ContainsAny(v, " =\r\n\x00\x7f"))
		}
	})
}

func FuzzXtext(f *testing.F) {
	for _, s := range []string{"", "a+b=c", "a+2Bb", "+", "+0", "+0g", "+00", "\x00\xff", "+2b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		back, err := smtp.DecodeXtext(smtp.EncodeXtext(s))
		require.NoError(t, err)
		require.Equal(t, s, back)
		if text, err := smtp.DecodeXtext(s); err == nil {
			again, err := smtp.DecodeXtext(smtp.EncodeXtext(text))
			require.NoError(t, err)
			require.Equal(t, text, again)
		} else {
			require.Empty(t, text)
		}
		_, over, ok := smtp.ParseSize(s)
		require.False(t, over && !ok)
	})
}

package smtp_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// serverSides are what the server says in the dialog files of the client.
func serverSides(t testing.TB) (said []string) {
	files, err := filepath.Glob("testdata/client-*.dialog")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var b strings.Builder
		for line := range strings.Lines(string(raw)) {
			if text, ok := strings.CutPrefix(line, "S: "); ok {
				b.WriteString(strings.TrimSuffix(text, "\n") + "\r\n")
			}
		}
		said = append(said, b.String())
	}
	return said
}

// FuzzClient: whatever bytes a server says, however they are cut, each message has one result, which does not depend on the
// cuts; nothing panics, and little is held.
func FuzzClient(f *testing.F) {
	for i, said := range serverSides(f) {
		f.Add([]byte(said), uint64(i), uint8(i))
	}
	f.Fuzz(func(t *testing.T, said []byte, seed uint64, kind uint8) {
		whole := fuzzedClient(t, said, sim.Config{Seed: seed, Window: 1 << 20}, kind)
		cut := fuzzedClient(t, said, sim.Config{Seed: seed, Window: 1 << 20, MaxRecv: 1 + int(seed%50), RandomCuts: true, Again: 0.1, Spurious: 0.1}, kind)
		require.Equal(t, whole, cut)
	})
}

// fuzzedClient returns the results. What the server says is given to the client reply by reply, each when there is
// something to answer.
func fuzzedClient(t *testing.T, said []byte, net sim.Config, kind uint8) (texts []string) {
	net.T = t
	w := sim.New(net)
	loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	defer loop.Close()
	c := &smtp.Client{Hostname: "client.example", LMTP: kind&1 != 0, NoChunking: kind&2 != 0, NoPipelining: kind&4 != 0,
		Timeouts: smtp.ClientTimeouts{Idle: time.Hour}}
	if kind&8 != 0 {
		c.Auth = &smtp.ClientAuth{User: "u", Password: "p", AllowInsecure: true}
	}
	sock, p := w.Pair()
	require.NoError(t, c.Attach(loop, sock))
	closed := 0
	c.Closed = func(error) { closed++ }
	bodies := []string{"x", strings.Repeat(".\r\n", 20_000), "last"}
	got := make([]int, len(bodies))
	for i, body := range bodies {
		require.NoError(t, c.Send(outgoing(t, body, "user", "other"), func(r *smtp.Result) {
			got[i]++
			require.Len(t, r.To, 2)
			for _, to := range append(r.To, r.Reply) {
				require.NotNil(t, to)
				require.GreaterOrEqual(t, to.Code, 200)
				require.Less(t, to.Code, 600)
				require.LessOrEqual(t, len(to.Lines), smtp.MaxReplyLines)
				require.False(t, bytes.ContainsAny([]byte(to.Error()), "\r\n\x00\x1b"))
			}
			texts = append(texts, resultText(r))
		}))
	}
	c.Quit()
	for _, line := range bytes.SplitAfter(said, []byte("\r\n")) {
		p.Say(string(line))
		w.Settle()
		require.LessOrEqual(t, smtp.ClientHeld(c), 8<<10+400<<10)
	}
	wire := p.Read()
	p.CloseWrite()
	w.Advance(time.Hour)
	require.Equal(t, []int{1, 1, 1}, got)
	require.Equal(t, 1, closed)
	for line := range strings.Lines(wire) {
		require.True(t, strings.HasSuffix(line, "\r\n"))
		require.NotContains(t, strings.TrimSuffix(line, "\r\n"), "\r")
	}
	return texts
}

// FuzzReply: what is read as a reply has a code that there is, the number of lines that there may be, and can be sent on.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok", "250-a\r\n250 b", "250", "250-", "421 4.3.2 x", "250-2.0.0 a\r\n250 2.0.0 b", "999 x", "250-a\r\n251 b",
		"550 5.7.1", "220 \x1b[31m", "250\t", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, said string) {
		lines := strings.Split(said, "\r\n")
		r, n, err := smtp.ParseReply(lines)
		if err != nil {
			require.ErrorIs(t, err, smtp.ErrBadReply)
			return
		}
		if r == nil {
			require.Equal(t, len(lines), n)
			return
		}
		require.Len(t, r.Lines, n)
		require.True(t, r.Code >= 200 && r.Code < 560)
		require.LessOrEqual(t, len(r.Lines), smtp.MaxReplyLines)
		require.False(t, strings.ContainsAny(r.Error(), "\x00\x1b\x7f\u0085"))
		smtp.ReadOffers(r)
	})
}

// FuzzStuffer: however a message is cut, the same is sent; it ends where it should and nowhere before, and the server reads
// what was meant.
func FuzzStuffer(f *testing.F) {
	for _, x := range traps {
		if len(x[0]) < 1000 {
			f.Add([]byte(x[0]), uint16(3))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, cut uint16) {
		whole, bare := smtp.Stuff(true, text)
		at := int(cut) % (len(text) + 1)
		cutUp, bareToo := smtp.Stuff(true, text[:at], text[at:])
		require.Equal(t, whole, cutUp)
		require.Equal(t, bare, bareToo)
		require.LessOrEqual(t, len(whole), 2*len(text)+5)

		normal := strings.ReplaceAll(string(text), "\r\n", "\n")
		require.Equal(t, strings.ContainsAny(strings.ReplaceAll(string(text), "\r\n", ""), "\r\n"), bare)
		normal = strings.ReplaceAll(normal, "\r", "\n")
		if normal != "" && !strings.HasSuffix(normal, "\n") {
			normal += "\n"
		}
		var stuffed, plain strings.Builder
		for line := range strings.Lines(normal) {
			if line[0] == '.' {
				stuffed.WriteByte('.')
			}
			stuffed.WriteString(strings.TrimSuffix(line, "\n") + "\r\n")
			plain.WriteString(strings.TrimSuffix(line, "\n") + "\r\n")
		}
		require.Equal(t, stuffed.String()+".\r\n", string(whole))
		chunked, _ := smtp.Stuff(false, text)
		require.Equal(t, plain.String(), string(chunked))
	})
}

func BenchmarkStuff(b *testing.B) {
	for name, line := range map[string]string{
		"crlf": strings.Repeat("x", 70) + "\r\n", "lf": strings.Repeat("x", 70) + "\n", "dots": "." + strings.Repeat("x", 69) + "\r\n", "short": ".\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			text := []byte(strings.Repeat(line, 32<<10/len(line)))
			out := make([]byte, 0, 2*len(text)+5)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				out = smtp.StuffTo(out[:0], text)
			}
		})
	}
}

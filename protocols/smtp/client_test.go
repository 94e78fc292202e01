package smtp_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/internal/race"
	"github.com/parley-go/parley/protocols/smtp"
)

// addr is an address that must be one.
func addr(t testing.TB, s string) smtp.Path {
	t.Helper()
	if s == "" {
		return smtp.Path{}
	}
	p, err := smtp.ParseMailbox(s, true)
	require.NoError(t, err, s)
	return p
}

// outgoing is a message to the named users of example.org.
func outgoing(t testing.TB, body string, users ...string) *smtp.Outgoing {
	t.Helper()
	m := &smtp.Outgoing{From: addr(t, "a@client.example"), Body: strings.NewReader(body)}
	for _, u := range users {
		m.To = append(m.To, smtp.Recipient{Path: addr(t, u+"@example.org")})
	}
	return m
}

// results are those of several messages.
type results []*smtp.Result

func (r *results) add(x *smtp.Result) { *r = append(*r, x) }

// sender is a scene with a client on the server's loop.
type sender struct {
	*scene
	c       *smtp.Client
	results results
	causes  []error
}

func newSender(t *testing.T, net sim.Config, srv *smtp.Server, c *smtp.Client) *sender {
	t.Helper()
	s := &sender{scene: newScene(t, net, srv), c: c}
	if c.Hostname == "" {
		c.Hostname = "client.example"
	}
	c.Closed = func(cause error) { s.causes = append(s.causes, cause) }
	require.NoError(t, c.Dial(s.loop, "tcp", address))
	return s
}

func (s *sender) send(m *smtp.Outgoing) {
	s.t.Helper()
	require.NoError(s.t, s.c.Send(m, s.results.add))
}

// all waits until there are so many results.
func (s *sender) all(n int) {
	s.t.Helper()
	s.Until(func() bool { return len(s.results) >= n })
	s.Settle()
	require.Len(s.t, s.results, n, s.Ladder())
}

// traps are messages with what goes wrong easily, and what they are on the wire.
var traps = map[string][2]string{
	"empty":          {"", ""},
	"a line":         {"x\r\n", "x\r\n"},
	"no end":         {"a\r\nb", "a\r\nb\r\n"},
	"a dot":          {".", ".\r\n"},
	"a dot line":     {".\r\n", ".\r\n"},
	"dots":           {"..\r\n.\r\n.a\r\n...\r\n..", "..\r\n.\r\n.a\r\n...\r\n..\r\n"},
	"end within":     {"a\r\n.\r\nMAIL FROM:<x@y>\r\n", "a\r\n.\r\nMAIL FROM:<x@y>\r\n"},
	"fake ends":      {"a\n.\nb\r.\rc\r\n.\nd\n.\r\ne\r.\r\n", "a\r\n.\r\nb\r\n.\r\nc\r\n.\r\nd\r\n.\r\ne\r\n.\r\n"},
	"LF":             {"a\nb\n\nc", "a\r\nb\r\n\r\nc\r\n"},
	"CR":             {"a\rb\r\rc", "a\r\nb\r\n\r\nc\r\n"},
	"CR CR LF":       {"a\r\r\nb\r", "a\r\n\r\nb\r\n"},
	"LF CR":          {"a\n\rb", "a\r\n\r\nb\r\n"},
	"only ends":      {"\r\n\r\n", "\r\n\r\n"},
	"8 bit":          {"Gr\xfc\xdfe\r\n\xff\xfe\r\n", "Gr\xfc\xdfe\r\n\xff\xfe\r\n"},
	"UTF-8":          {"Grüße\r\n", "Grüße\r\n"},
	"long line":      {strings.Repeat("x", 60_000) + "\r\n.\r\n", strings.Repeat("x", 60_000) + "\r\n.\r\n"},
	"a long message": {strings.Repeat(".0123456789\r\n", 80_000), strings.Repeat(".0123456789\r\n", 80_000)},
	"all dots":       {strings.Repeat(".\n", 100_000), strings.Repeat(".\r\n", 100_000)},
}

// Every trap arrives as it was meant, in each way of sending it.
func TestClientTraps(t *testing.T) {
	ways := map[string]smtp.Client{
		"chunks":      {},
		"data":        {NoChunking: true},
		"in turn":     {NoPipelining: true},
		"old fashion": {NoPipelining: true, NoChunking: true},
	}
	bodies := map[string]func(string) io.Reader{
		"memory":     func(s string) io.Reader { return strings.NewReader(s) },
		"buffer":     func(s string) io.Reader { return bytes.NewBufferString(s) },
		"worker":     func(s string) io.Reader { return iotest.DataErrReader(strings.NewReader(s)) },
		"one byte":   func(s string) io.Reader { return iotest.OneByteReader(strings.NewReader(s)) },
		"half reads": func(s string) io.Reader { return iotest.HalfReader(strings.NewReader(s)) },
	}
	for way, c := range ways {
		for kind, body := range bodies {
			t.Run(way+"/"+kind, func(t *testing.T) {
				c := c
				net := sim.Config{Seed: 7, Latency: time.Millisecond, RandomCuts: true, Again: 0.1, Window: 3000, Work: 3 * time.Millisecond}
				s := newSender(t, net, &smtp.Server{Limits: smtp.Limits{TextLine: -1}}, &c)
				n := 0
				for name, trap := range traps {
					if (kind == "one byte" || race.Enabled && kind != "memory") && len(trap[0]) > 100_000 {
						continue
					}
					s.rec.mails = nil
					m := outgoing(t, "", "user")
					m.Body = body(trap[0])
					s.send(m)
					n++
					s.all(n)
					r := s.results[n-1]
					require.True(t, r.OK(), "%s: %v\n%s", name, r.Reply, s.Ladder())
					require.NoError(t, r.Err)
					require.Len(t, s.rec.mails, 1)
					require.Equal(t, trap[1], s.rec.mails[0].body(), name)
					require.EqualValues(t, len(trap[0]), r.Sent, name)
				}
				s.c.Quit()
				s.Settle()
				require.Equal(t, []error{nil}, s.causes)
				require.Zero(t, s.srv.Open())
				require.Zero(t, s.srv.Counters().Errors)
			})
		}
	}
}

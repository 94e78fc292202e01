package main

import (
	"bytes"
	"fmt"
	"net/smtp"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const letter = "From: <sender@example.org>\r\nSubject: a letter\r\n\r\n.a line with a dot\r\n..\r\nthe end\r\n"

// deliver sends a message on a session.
func deliver(t *testing.T, c *smtp.Client, text string) {
	require.NoError(t, c.Mail("sender@example.org"))
	require.NoError(t, c.Rcpt("rcpt@example.net"))
	w, err := c.Data()
	require.NoError(t, err)
	_, err = w.Write([]byte(text))
	require.NoError(t, err)
	require.NoError(t, w.Close())
}

// TestMailServers has every server of the table that takes mail do what the scenarios ask of it.
func TestMailServers(t *testing.T) {
	chosen := slices.DeleteFunc(slices.Clone(servers), func(s server) bool { return s.kind != mail || s.sink })
	sink := slices.DeleteFunc(slices.Clone(servers), func(s server) bool { return !s.sink })
	built, err := build(t.Context(), chosen, found{}, t.TempDir(), os.Stderr)
	require.NoError(t, err)
	for _, s := range append(built.servers, sink...) {
		t.Run(s.name, func(t *testing.T) {
			if s.sink {
				pf := needPostfix(t)
				s.binary, s.env = pf.sink, pf.env
			}
			p, err := start(t.Context(), s, -1)
			require.NoError(t, err)
			defer p.stop()
			t.Run("many connections", func(t *testing.T) { testManySessions(t, p) })
			t.Run("many messages on one", func(t *testing.T) { testManyMessages(t, p) })
			t.Run("a long message", func(t *testing.T) { testLongMessage(t, p) })
			require.False(t, p.ended())
			t.Run("SIGTERM", func(t *testing.T) { testTerm(t, p) })
			if s.counts {
				require.Equal(t, fmt.Sprintf("took %d messages, %d octets", p.sent.messages, p.sent.octets), p.last)
			}
		})
	}
}

func session(t *testing.T, p *process) *smtp.Client {
	c, err := smtp.NewClient(dial(t, p), "localhost")
	require.NoError(t, err)
	return c
}

// testManySessions has more of them at once than a server takes from one address unless it is told.
func testManySessions(t *testing.T, p *process) {
	var all []*smtp.Client
	for range 60 {
		c := session(t, p)
		require.NoError(t, c.Hello("example.org"))
		all = append(all, c)
	}
	for _, c := range all {
		deliver(t, c, letter)
		require.NoError(t, c.Quit())
	}
	p.sent.messages += int64(len(all))
	p.sent.octets += int64(len(all) * len(letter))
}

// testManyMessages sends more of them on a connection than a server takes unless it is told.
func testManyMessages(t *testing.T, p *process) {
	const many = 1100
	c := session(t, p)
	for range many {
		deliver(t, c, letter)
	}
	require.NoError(t, c.Quit())
	p.sent.messages += many
	p.sent.octets += int64(many * len(letter))
}

func testLongMessage(t *testing.T, p *process) {
	i := slices.IndexFunc(scenarios, func(s scenario) bool { return s.kind == mail && s.memory })
	line := strings.Repeat("0123456789", 8)[2:] + "\r\n"
	long := string(bytes.Repeat([]byte(line), scenarios[i].larger/len(line)+1))
	c := session(t, p)
	deliver(t, c, long)
	require.NoError(t, c.Quit())
	p.sent.messages++
	p.sent.octets += int64(len(long))
}

func TestTookAll(t *testing.T) {
	for _, c := range []struct{ said, want string }{
		{"took 10 messages, 42390 octets", ""},
		{"took 10 messages, 42430 octets", ""},
		{"took 9 messages, 42390 octets", "x: took 9 messages, but was sent 10"},
		{"took 11 messages, 45056 octets", "x: took 11 messages, but was sent 10"},
		{"took 10 messages, 40959 octets", "x: took 40959 octets, but was sent 40960 and 10 headers"},
		{"took 10 messages, 51000 octets", "x: took 51000 octets, but was sent 40960 and 10 headers"},
		{"took nothing", `x: did not say how much mail it took: "took nothing"`},
	} {
		p := &process{server: server{name: "x", counts: true}, last: c.said, sent: amount{10, 40960}}
		if c.want == "" {
			require.NoError(t, p.tookAll())
		} else {
			require.EqualError(t, p.tookAll(), c.want)
		}
	}
	require.NoError(t, (&process{last: "something else"}).tookAll())
}

// smtp-sink gives up root's rights; it can be ended all the same.
func TestSinkArgs(t *testing.T) {
	args := sinkArgs("127.0.0.1:25")
	require.Equal(t, []string{"127.0.0.1:25", "1024"}, args[len(args)-2:])
	require.Equal(t, syscall.Geteuid() == 0, len(args) == 4)
}

//go:build unix

package smoke

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/examples/internal/cli"
)

// server is an example that serves: one entry for each, or for each way to run it.
type server struct {
	name string   // of the program
	args []string // besides -listen

	// hello is how a conversation begins, if there is something to say first; talk goes on from there, any number of times.
	hello func(c *client)
	talk  func(c *client)

	// half is the beginning of something, with which a client hangs up after that.
	half string
}

var servers = []server{
	{name: "echo", half: "half a line", talk: func(c *client) {
		c.say("hello\r\n\nwor")
		c.want("hello\r\n\n")
		c.say("ld\n")
		c.want("world\n")
	}},
	{name: "echo", args: []string{"-raw"}, half: "something", talk: func(c *client) {
		c.say("no line end")
		c.want("no line end")
	}},
	{name: "echo", args: []string{"-backend", "poll"}, half: "half a line", talk: func(c *client) {
		c.say("hello\n")
		c.want("hello\n")
	}},
	{name: "echo", args: []string{"-backend", "select"}, half: "half a line", talk: func(c *client) {
		c.say("hello\n")
		c.want("hello\n")
	}},
	{name: "echo", args: []string{"-loops", "2"}, half: "half a line", talk: func(c *client) {
		c.say("hello\n")
		c.want("hello\n")
	}},
	{name: "echocore", half: "something", talk: func(c *client) {
		c.say("no line end")
		c.want("no line end")
	}},
	{name: "smtpd", args: []string{"-hostname", "mx.example.org", "-accept-domain", "example.org", "-discard", "-loops", "0"}, half: "MAIL FROM:<", hello: func(c *client) {
		c.want("220 mx.example.org ESMTP\r\n")
		c.say("EHLO client.example\r\n")
		c.until("250 HELP\r\n")
	}, talk: func(c *client) {
		c.say("MAIL FROM:<a@client.example>\r\nRCPT TO:<b@client.example>\r\nRCPT TO:<pat@example.org>\r\nDATA\r\n")
		c.want("250 2.1.0 Ok\r\n550 5.7.1 Relaying denied\r\n250 2.1.5 Ok\r\n354 End the message with a dot on a line by itself\r\n")
		c.say("Subject: x\r\n\r\n.\r\n")
		c.until("250 2.0.0 Ok")
		c.until("\r\n")
	}},
	{name: "webchat", half: "GET / HT", talk: webpage},
	{name: "all", args: []string{"-chat", "127.0.0.1:0", "-smtp", "127.0.0.1:0", "-echo", "127.0.0.1:0"}, half: "GET / HT", talk: webpage},
	{name: "httpd", half: "GET /hello HTTP/1.1\r\nHo", talk: func(c *client) {
		c.say("GET /hello HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nhello\n")
		c.until("\r\n\r\nHello, World!\n")
		c.until("\r\n\r\nhello\n")
		c.say("GET /std/hello/mux HTTP/1.1\r\nHost: a\r\n\r\n")
		c.until("\r\n\r\nHello, mux!\n")
	}},
	{name: "httpd", args: []string{"-loops", "2", "-root", ".", "-list"}, half: "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nhel", talk: func(c *client) {
		c.say("GET /doc.go HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nHEAD /../doc.go HTTP/1.1\r\nHost: a\r\n\r\n")
		c.until("package smoke\n")
		c.until(">doc.go</a>")
		c.until("HTTP/1.1 400 ")
		c.until("\r\n\r\n")
	}},
	{name: "chat", args: []string{"-loops", "2"}, half: "half a line", hello: func(c *client) {
		c.until("nickname, please")
		c.say("nick" + strings.TrimPrefix(c.conn.LocalAddr().String(), "127.0.0.1:") + "\n")
		c.until("/quit leaves")
	}, talk: func(c *client) {
		c.say("/who\n")
		c.until("(you)")
	}},
}

// webpage asks for a page.
func webpage(c *client) {
	c.say("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	c.until("HTTP/1.1 200 OK\r\n")
	c.until("</html>\n")
}

// clients are the examples that go to a server, with an operand that they take.
var clients = map[string]string{
	"chatclient": "127.0.0.1:6667",
	"fetch":      "http://localhost/",
	"httpget":    "http://localhost/",
}

func (s server) String() string { return strings.Join(append([]string{s.name}, s.args...), " ") }

// meet connects a client and lets it talk.
func (s server) meet(t *testing.T, addr string) *client {
	t.Helper()
	c := dial(t, addr)
	if s.hello != nil {
		s.hello(c)
	}
	s.talk(c)
	return c
}

// each runs a test for each server.
func each(t *testing.T, test func(*testing.T, server)) {
	for _, s := range servers {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// Every program tells how to use it, and what is wrong with the way in which it was used. Those that are in no table are
// tried, too.
func TestCommandLine(t *testing.T) {
	entries, err := os.ReadDir(binaries)
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	for _, e := range entries {
		for _, help := range []string{"-help", "-h", "--help"} {
			t.Run(e.Name()+" "+help, func(t *testing.T) {
				t.Parallel()
				p := start(t, e.Name(), help)
				p.wantExit(0)
				require.Contains(t, p.stdout.String(), "usage: "+e.Name()+" ")
				require.Contains(t, p.stdout.String(), "-backend")
				require.Empty(t, p.stderr.String())
			})
		}
		wrong(t, e.Name(), "-no-such-flag", "-no-such-flag")
		wrong(t, e.Name(), "-backend", "-backend") // without a value
		wrong(t, e.Name(), "argument", "one", "two", "three")
	}
	for _, s := range servers {
		wrong(t, s.name, "iocp", slices.Concat(s.args, []string{"-backend", "iocp"})...)
		wrong(t, s.name, "operand", slices.Concat(s.args, []string{"operand"})...)
	}
	for name, operand := range clients {
		wrong(t, name, "iocp", "-backend", "iocp", operand)
		wrong(t, name, "missing")
	}
}

// wrong runs a program with a command line that it should not take.
func wrong(t *testing.T, name, about string, args ...string) {
	t.Run(strings.Join(append([]string{name}, args...), " "), func(t *testing.T) {
		t.Parallel()
		p := start(t, name, args...)
		p.wantComplaint(2, about)
		require.Empty(t, p.stdout.String())
	})
}

// A server talks to several clients at a time.
func TestTalk(t *testing.T) {
	each(t, func(t *testing.T, s server) {
		p, addr := serve(t, s.name, s.args...)
		for range 3 {
			s.meet(t, addr)
		}
		p.signal(syscall.SIGTERM)
		p.wantExit(0)
	})
}

// A signal that comes as soon as the server is there, and one with clients connected, end it in good order.
func TestSignals(t *testing.T) {
	for name, signal := range ends {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, s server) {
				p, _ := serve(t, s.name, s.args...)
				p.signal(signal)
				p.wantExit(0)

				p, addr := serve(t, s.name, s.args...)
				silent, talked := dial(t, addr), s.meet(t, addr)
				p.signal(signal)
				talked.wantEnd()
				silent.wantEnd()
				p.wantExit(0)
				require.Empty(t, p.stdout.String())
			})
		})
	}
}

// A line that is under way when the signal comes may be finished; a second signal does not wait for that.
func TestEchoShutdown(t *testing.T) {
	p, addr := serve(t, "echo")
	c := dial(t, addr)
	c.say("one\nhalf a")
	c.want("one\n")
	p.signal(syscall.SIGTERM)
	c.say(" line\nand more\n")
	c.want("half a line\n")
	c.wantEnd()
	require.NoError(t, c.conn.Close()) // the server waits for that, for a while: what it did not read is on its way
	p.wantExit(0)

	p, addr = serve(t, "echo")
	c = dial(t, addr)
	c.say("one\nhalf a")
	c.want("one\n")
	begin := time.Now()
	p.signal(syscall.SIGINT)
	p.signal(syscall.SIGTERM)
	c.wantEnd()
	p.wantExit(0)
	require.Less(t, time.Since(begin), cli.Grace)
}

// An address that is taken, or none at all.
func TestListenFails(t *testing.T) {
	each(t, func(t *testing.T, s server) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		for about, address := range map[string]string{
			"in use":  ln.Addr().String(),
			"192.0.2": "192.0.2.1:0", // not one of this machine's: RFC 5737, section 3
			"port":    "127.0.0.1",
		} {
			p := start(t, s.name, slices.Concat(s.args, []string{"-listen", address})...)
			p.wantComplaint(1, about)
			require.Empty(t, p.stdout.String())
		}
	})
}

// A client that goes in the middle of what it says harms nobody, in whatever way it goes.
func TestHangUp(t *testing.T) {
	each(t, func(t *testing.T, s server) {
		p, addr := serve(t, s.name, s.args...)
		before := s.meet(t, addr)
		for range 5 {
			rude := s.meet(t, addr)
			rude.say(s.half)
			rude.hangUp()

			polite := s.meet(t, addr)
			polite.say(s.half)
			require.NoError(t, polite.conn.CloseWrite())
			polite.wantEnd()

			dial(t, addr).hangUp()
		}
		s.talk(before)
		s.meet(t, addr)
		p.signal(syscall.SIGTERM)
		p.wantExit(0)
	})
}

// A line that is too long ends its own connection, and the log says so.
func TestEchoLimits(t *testing.T) {
	t.Run("-max-line", func(t *testing.T) {
		p, addr := serve(t, "echo", "-max-line", "10")
		other, c := dial(t, addr), dial(t, addr)
		c.say("0123456789\n")
		c.want("0123456789\n")
		c.say("0123456789a")
		require.Empty(t, c.wantEnd())
		p.wantLog("token too long")
		p.wantLog(c.conn.LocalAddr().String())
		other.say("x\n")
		other.want("x\n")
	})
	t.Run("-max-conns", func(t *testing.T) {
		_, addr := serve(t, "echo", "-max-conns", "1")
		first, second := dial(t, addr), dial(t, addr)
		first.say("one\n")
		first.want("one\n")
		second.say("two\n") // waits in the backlog
		first.say("three\n")
		first.want("three\n")
		require.NoError(t, first.conn.Close())
		second.want("two\n")
	})
	for _, args := range [][]string{{"-max-line", "0"}, {"-max-line", "1073741825"}, {"-max-conns", "-1"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			start(t, "echo", args...).wantComplaint(2, args[0])
		})
	}
}

package proxyproto_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/proxyproto"
)

var proxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}

// site is a server that greets its clients by name, and echoes lines.
type site struct {
	*sim.World
	loop   *core.Loop
	ln     *core.Listener
	log    strings.Builder
	files  int // of the listener
	begun  int
	closed []error
}

type greeter struct {
	chat.Handler
	s *site
}

func (g *greeter) HandleClose(_ *chat.Conn, cause error) { g.s.closed = append(g.s.closed, cause) }

func (g *greeter) Unwrap() any { return g.Handler }

// handler is a newHandler.
func (s *site) handler(c *chat.Conn) chat.Handler {
	s.begun++
	_ = c.Printf("220 %v at %v\r\n", c.RemoteAddr(), c.LocalAddr())
	c.SetTerminator(chat.CRLF)
	return &greeter{chat.Lines(func(c *chat.Conn, line []byte) error { return c.Printf("250 %s\r\n", line) }), s}
}

func newSite(t testing.TB, c sim.Config, o proxyproto.Options) *site {
	s := &site{}
	s.serve(t, c, core.ListenConfig{}, proxyproto.Accept(s.handler, o))
	return s
}

func (s *site) serve(t testing.TB, c sim.Config, lc core.ListenConfig, h core.AcceptedHandler) {
	c.T = t
	s.World = sim.New(c)
	s.loop = s.Loop(core.Options{Logger: slog.New(slog.NewTextHandler(&s.log, nil))})
	t.Cleanup(func() { require.NoError(t, s.loop.Close()) })
	var err error
	s.ln, err = lc.Listen(s.loop, "tcp", "server:25", h)
	require.NoError(t, err)
	s.files = s.Files()
}

func (s *site) dial() *sim.Peer { return s.Dial("tcp", "server:25") }

// over tells whether no connection is left, and what the log says of it.
func (s *site) over(t testing.TB, logged string) {
	t.Helper()
	s.Settle()
	require.Zero(t, s.begun)
	require.Zero(t, s.ln.Open())
	require.Equal(t, s.files, s.Files())
	if logged == "" {
		require.Empty(t, s.log.String())
	} else {
		require.Contains(t, s.log.String(), logged)
	}
}

const (
	v1Line   = "PROXY TCP4 198.51.100.77 203.0.113.1 56324 25\r\n"
	greeting = "220 198.51.100.77:56324 at 203.0.113.1:25\r\n"
)

// The server speaks first, and knows to whom; wherever the header is cut, and whatever stands behind it.
func TestAccept(t *testing.T) {
	for _, tt := range []struct{ name, header, greeting string }{
		{"version 1", v1Line, greeting},
		{"version 1, IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", "220 [2001:db8::1]:1 at [2001:db8::2]:65535\r\n"},
		{"version 1, mapped", "PROXY TCP6 ::ffff:198.51.100.77 2001:db8::2 1 2\r\n", "220 198.51.100.77:1 at [2001:db8::2]:2\r\n"},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", "220 192.0.2.2:49152 at 192.0.2.1:25\r\n"},
		{"version 2", v2(0x21, 0x11, inet+tlv(0x02, "example.org")), "220 192.0.2.77:56324 at 198.51.100.1:25\r\n"},
		{"version 2, IPv6", v2(0x21, 0x21, inet6), "220 [2001:db8::1]:65535 at [2001:db8::2]:25\r\n"},
		{"version 2, UDP", v2(0x21, 0x12, inet), "220 192.0.2.77:56324 at 198.51.100.1:25\r\n"},
		{"version 2, unix", v2(0x21, 0x31, unixAddrs("/run/client", "\x00server")), "220 /run/client at @server\r\n"},
		{"version 2, local", v2(0x20, 0x00, ""), "220 192.0.2.2:49152 at 192.0.2.1:25\r\n"},
		{"version 2, unspecified", v2(0x21, 0x00, "xyz"), "220 192.0.2.2:49152 at 192.0.2.1:25\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := func(c sim.Config, cut int) {
				s := newSite(t, c, proxyproto.Options{From: proxies})
				p := s.dial()
				said := tt.header + "NOOP\r\nQUIT\r\n"
				if cut > 0 {
					p.Say(said[:cut])
					s.Settle()
					require.Equal(t, cut >= len(tt.header), s.begun == 1, "cut after %d", cut)
					if s.begun == 0 {
						p.WantNothing()
					}
				}
				p.Say(said[cut:])
				p.Want(tt.greeting + "250 NOOP\r\n250 QUIT\r\n")
				p.CloseWrite()
				p.WantClosed()
				require.NoError(t, p.Err())
				require.Equal(t, 1, s.begun)
				require.Len(t, s.closed, 1)
				require.Empty(t, s.log.String())
			}
			for cut := range len(tt.header) + 3 {
				run(sim.Config{}, cut)
			}
			run(sim.Config{Untraced: true}, len(tt.header))
			run(sim.Config{MaxRecv: 1}, 0)
			for seed := range uint64(10) {
				run(sim.Config{Seed: seed, RandomCuts: true, Window: 5, Again: 0.2, Spurious: 0.3, Interrupt: 0.1, Jitter: time.Millisecond}, 0)
			}
		})
	}
}

// What is not right closes the connection: nothing is answered, no handler is made, the log says why.
func TestAcceptRefuses(t *testing.T) {
	for _, tt := range wrong {
		if tt.at == 0 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			for _, c := range []sim.Config{{}, {MaxRecv: 1}, {Spurious: 0.3, Again: 0.3, RandomCuts: true}} {
				s := newSite(t, c, proxyproto.Options{From: proxies})
				p := s.dial()
				p.Say(tt.in)
				s.Settle()
				require.True(t, p.Ended())
				require.Zero(t, p.Unread())
				s.over(t, "proxyproto: bad header")
			}
		})
	}
}

func TestHeaderTimeout(t *testing.T) {
	t.Run("nothing comes", func(t *testing.T) {
		s := newSite(t, sim.Config{}, proxyproto.Options{From: proxies})
		p := s.dial()
		s.Advance(proxyproto.DefaultTimeout - time.Millisecond)
		p.WantNothing()
		s.Advance(time.Millisecond)
		p.WantClosed()
		s.over(t, core.ErrTimeout.Error())
	})
	t.Run("it comes slowly", func(t *testing.T) {
		s := newSite(t, sim.Config{}, proxyproto.Options{From: proxies, Timeout: 10 * time.Second})
		p := s.dial()
		for i := range 10 {
			require.False(t, p.Ended())
			p.Say(v1Line[i : i+1])
			s.Advance(time.Second)
		}
		p.WantClosed()
		s.over(t, core.ErrTimeout.Error())
	})
	t.Run("it comes in time", func(t *testing.T) {
		s := newSite(t, sim.Config{}, proxyproto.Options{From: proxies})
		p := s.dial()
		p.Say(v1Line[:20])
		s.Advance(proxyproto.DefaultTimeout - time.Millisecond)
		p.Say(v1Line[20:])
		p.Want(greeting)
		s.Advance(time.Hour)
		p.Say("NOOP\r\n")
		p.Want("250 NOOP\r\n")
	})
	t.Run("for ever", func(t *testing.T) {
		s := newSite(t, sim.Config{}, proxyproto.Options{From: proxies, Timeout: -1})
		p := s.dial()
		s.Advance(time.Hour)
		p.Say(v1Line)
		p.Want(greeting)
	})
}

func TestPeerLeavesInHeader(t *testing.T) {
	for _, said := range []string{"", v1Line[:1], v1Line[:30], v1Line[:len(v1Line)-1], v2(0x21, 0x11, inet)[:20]} {
		t.Run(fmt.Sprint(len(said)), func(t *testing.T) {
			logged := "proxyproto: bad header: unexpected EOF"
			if said == "" { // a health check, perhaps
				logged = ""
			}
			for _, leave := range []func(*sim.Peer){(*sim.Peer).CloseWrite, (*sim.Peer).Close} {
				s := newSite(t, sim.Config{}, proxyproto.Options{From: proxies})
				p := s.dial()
				p.Say(said)
				leave(p)
				s.over(t, logged)
			}
			s := newSite(t, sim.Config{}, proxyproto.Options{From: proxies})
			p := s.dial()
			p.Say(said)
			s.Settle()
			p.Reset()
			s.over(t, "")
		})
	}
}

// The end of the stream right behind the header is the conversation's.
func TestEndBehindHeader(t *testing.T) {
	for _, c := range []sim.Config{{}, {MaxRecv: 1}, {Latency: time.Millisecond}} {
		s := newSite(t, c, proxyproto.Options{From: proxies})
		p := s.dial()
		p.Say(v1Line)
		p.CloseWrite()
		p.Want(greeting)
		p.WantClosed()
		require.NoError(t, p.Err())
		require.Len(t, s.closed, 1)
	}
	s := newSite(t, sim.Config{}, proxyproto.Options{From: proxies})
	p := s.dial()
	p.Say(v1Line)
	p.Want(greeting)
	p.Reset()
	s.Settle()
	require.Len(t, s.closed, 1)
	require.Error(t, s.closed[0])
}

// A header from elsewhere is not even read.
func TestUntrusted(t *testing.T) {
	for _, from := range []string{"198.51.100.9:0", "[2001:db9::1]:0", "[::ffff:198.51.100.9]:0"} {
		s := newSite(t, sim.Config{}, proxyproto.Options{From: proxies})
		p := s.DialFrom("tcp", from, "server:25")
		p.Say(v1Line)
		s.Settle()
		require.True(t, p.Ended())
		require.Zero(t, p.Unread())
		s.over(t, proxyproto.ErrUntrusted.Error())
	}
	s := newSite(t, sim.Config{}, proxyproto.Options{}) // nobody is trusted
	p := s.dial()
	p.WantClosed()
	s.over(t, proxyproto.ErrUntrusted.Error())

	for _, o := range []proxyproto.Options{{From: proxies}, {From: proxyproto.Anybody}} {
		for _, from := range []string{"", "192.0.2.200:0", "[2001:db8:1::1]:0", "[::ffff:192.0.2.201]:0"} {
			s := newSite(t, sim.Config{}, o)
			p := s.DialFrom("tcp", from, "server:25")
			p.Say(v1Line)
			p.Want(greeting)
		}
	}
}

// A zone is no part of an address that is compared.
func TestTrustedZone(t *testing.T) {
	s := &zoned{}
	_, err := proxyproto.New(s, proxyproto.Options{From: []netip.Prefix{netip.MustParsePrefix("fe80::/10")}})
	require.NoError(t, err)
	_, err = proxyproto.New(s, proxyproto.Options{From: proxies})
	require.ErrorIs(t, err, proxyproto.ErrUntrusted)
}

type zoned struct{ core.Socket }

func (*zoned) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"} }

// A unix socket has no address to look at: only who trusts everybody trusts it.
func TestUntrustedUnix(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	l := w.Loop(core.Options{})
	sock, p := w.UnixPair()
	_, err := proxyproto.New(sock, proxyproto.Options{From: proxies})
	require.ErrorIs(t, err, proxyproto.ErrUntrusted)
	_, err = proxyproto.Wrap(proxyproto.Options{From: proxies})(sock)
	require.ErrorIs(t, err, proxyproto.ErrUntrusted)
	layer, err := proxyproto.New(sock, proxyproto.Options{From: proxyproto.Anybody})
	require.NoError(t, err)
	var from string
	_, err = chat.Attach(l, layer, func(*chat.Conn) chat.Handler {
		return chat.Lines(func(c *chat.Conn, line []byte) error {
			from = c.RemoteAddr().String()
			return nil
		})
	})
	require.NoError(t, err)
	p.Say(v1Line + "hello\n")
	w.Settle()
	require.Equal(t, "198.51.100.77:56324", from)
}

func client(addr string) string {
	return string(proxyproto.AppendV1(nil, netip.MustParseAddrPort(addr), netip.MustParseAddrPort("[2001:db8::2]:25")))
}

// A listener counts connections by the proxy's address, PerClient by the client's.
func TestPerClient(t *testing.T) {
	s := newSite(t, sim.Config{}, proxyproto.Options{From: proxies, PerClient: 2, Refusal: "421 Too many\r\n"})
	open := func(header string) *sim.Peer {
		p := s.dial()
		p.Say(header)
		require.Contains(t, p.WantLine(), "220 ")
		return p
	}
	refused := func(header string) {
		t.Helper()
		s.log.Reset()
		p := s.dial()
		p.Say(header)
		p.Want("421 Too many\r\n")
		p.WantClosed()
		require.NoError(t, p.Err())
		p.Close()
		s.Settle()
		require.Contains(t, s.log.String(), proxyproto.ErrTooMany.Error())
	}
	first := open(client("198.51.100.1:1"))
	open(client("[::ffff:198.51.100.1]:2"))
	refused(client("198.51.100.1:3"))
	open(client("198.51.100.2:3"))
	first.Close()
	s.Settle()
	open(client("198.51.100.1:3"))
	refused(client("198.51.100.1:4"))

	six := open(client("[2001:db8:0:1::1]:1"))
	open(client("[2001:db8:0:1::2]:1"))
	refused(client("[2001:db8:0:1:ffff::3]:1"))
	open(client("[2001:db8:0:2::3]:1"))
	six.Reset()
	s.Settle()
	open(client("[2001:db8:0:1:ffff::3]:1"))

	for range 5 { // nobody knows whose these are
		open("PROXY UNKNOWN\r\n")
		open(v2(0x20, 0, ""))
		open(v2(0x21, 0x31, unixAddrs("/client", "/server")))
	}
	refused(client("198.51.100.1:5") + "NOOP\r\n")
	for range 3 { // who never comes to a conversation is not counted
		p := s.dial()
		p.Say("PROXY TCP4 198.51.100.9")
		p.Close()
	}
	s.Settle()
	open(client("198.51.100.9:1"))
	open(client("198.51.100.9:1"))
	refused(client("198.51.100.9:1"))

	s.loop.CloseAll(nil)
	require.Equal(t, 0, s.ln.Open())
}

func TestPerAddrCountsProxies(t *testing.T) {
	s := &site{}
	s.serve(t, sim.Config{}, core.ListenConfig{Limit: core.Limit{PerAddr: 1}}, proxyproto.Accept(s.handler, proxyproto.Options{From: proxies}))
	p := s.dial()
	p.Say(client("198.51.100.1:1"))
	p.WantLine()
	p = s.dial()
	p.Say(client("198.51.100.2:1"))
	s.Settle()
	require.True(t, p.Ended())
	require.Equal(t, 1, s.begun)
}

// A protocol that begins with TLS drops what was received before it changes: nothing was.
func TestUpgradeBehindHeader(t *testing.T) {
	for cut := range len(v1Line) + 2 {
		s := &site{}
		s.serve(t, sim.Config{}, core.ListenConfig{}, proxyproto.Accept(func(c *chat.Conn) chat.Handler {
			dropped, err := c.Upgrade(func(s core.Socket) (core.Layered, error) { return &sim.Tap{Socket: s}, nil }, false)
			require.NoError(t, err)
			require.Zero(t, dropped)
			h, ok := proxyproto.From(c.Core().Socket())
			require.True(t, ok)
			require.Equal(t, "198.51.100.77:56324", h.Source.AddrPort.String())
			return s.handler(c)
		}, proxyproto.Options{From: proxies}))
		p := s.dial()
		said := v1Line + "hello\r\n"
		p.Say(said[:cut])
		s.Settle()
		p.Say(said[cut:])
		p.Want(greeting + "250 hello\r\n")
	}
}

// What newHandler may do besides.
func TestNewHandler(t *testing.T) {
	failed := errors.New("failed")
	for _, tt := range []struct {
		name       string
		newHandler func(s *site, c *chat.Conn) chat.Handler
		want       string
		logged     string
	}{
		{"closes", func(s *site, c *chat.Conn) chat.Handler { _ = c.CloseWith(failed); return &greeter{chat.Lines(nil), s} }, "", ""},
		{"says goodbye", func(s *site, c *chat.Conn) chat.Handler {
			_ = c.PushString("421 no\r\n")
			c.CloseWhenDoneWith(failed)
			return &greeter{chat.Lines(nil), s}
		}, "421 no\r\n", ""},
		{"has none", func(*site, *chat.Conn) chat.Handler { return nil }, "", "nil handler"},
		{"panics", func(*site, *chat.Conn) chat.Handler { panic("oh") }, "", "oh"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &site{}
			s.serve(t, sim.Config{}, core.ListenConfig{}, proxyproto.Accept(func(c *chat.Conn) chat.Handler { return tt.newHandler(s, c) },
				proxyproto.Options{From: proxies, PerClient: 1}))
			for range 2 { // what was counted is given back
				p := s.dial()
				p.Say(v1Line)
				p.Want(tt.want)
				s.Settle()
				require.True(t, p.Ended())
			}
			s.over(t, tt.logged)
			if tt.want != "" {
				require.Equal(t, []error{failed, failed}, s.closed)
			}
		})
	}
}

// Handlers of every kind begin as they do with chat.Accept.
func TestBeginsLikeAccept(t *testing.T) {
	for name, newHandler := range map[string]func(c *chat.Conn) chat.Handler{
		"Talk": func(c *chat.Conn) chat.Handler {
			return chat.Talk(func(tk *chat.Talker) error {
				_ = tk.Printf("220\r\n")
				line, err := tk.ReadLine()
				if err == nil {
					err = tk.Printf("250 %s\r\n", line)
				}
				return err
			})
		},
		"first": func(c *chat.Conn) chat.Handler {
			_ = c.PushString("220\r\n")
			return &firstLook{}
		},
		"asked": func(c *chat.Conn) chat.Handler {
			_ = c.PushString("220\r\n")
			return &askedHandler{chat.Lines(func(c *chat.Conn, line []byte) error { return c.Printf("250 %s\r\n", line) })}
		},
		"count": func(c *chat.Conn) chat.Handler {
			_ = c.PushString("220\r\n")
			c.SetTerminator(chat.Count(5))
			return &counting{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, o := range []string{"chat.Accept", "proxyproto.Accept"} {
				s := &site{}
				header := ""
				h := chat.Accept(newHandler)
				if o != "chat.Accept" {
					h, header = proxyproto.Accept(newHandler, proxyproto.Options{From: proxies}), v1Line
				}
				s.serve(t, sim.Config{}, core.ListenConfig{}, h)
				p := s.dial()
				p.Say(header)
				p.Want("220\r\n")
				p.Say("hello\r\n")
				p.Want("250 hello\r\n")
				require.Empty(t, s.log.String())
				p = s.dial()
				p.Say(header + "hello\r\n")
				p.Want("220\r\n250 hello\r\n")
			}
		})
	}
}

type firstLook struct{ chat.Buffer }

func (f *firstLook) HandleFirst(c *chat.Conn, first byte) error {
	if first != 'h' {
		return errors.New("not the first")
	}
	return c.SetHandler(chat.Lines(func(c *chat.Conn, line []byte) error { return c.Printf("250 %s\r\n", line) }))
}

func (f *firstLook) FoundTerminator(*chat.Conn) error { return nil }

type askedHandler struct{ chat.Handler }

func (a *askedHandler) Readable() bool { return true }
func (a *askedHandler) Unwrap() any    { return a.Handler }

type counting struct{ chat.Buffer }

func (h *counting) FoundTerminator(c *chat.Conn) error { return c.Printf("250 %s\r\n", h.Take()) }

func TestShutdownInHeader(t *testing.T) {
	s := newSite(t, sim.Config{}, proxyproto.Options{From: proxies})
	p := s.dial()
	p.Say(v1Line[:20])
	q := s.dial()
	q.Say(v1Line)
	q.Want(greeting)
	s.loop.Shutdown(time.Minute)
	p.WantClosed()
	q.WantClosed()
	require.Len(t, s.closed, 1)
	require.ErrorIs(t, s.closed[0], core.ErrShutdown)
	require.Empty(t, s.log.String())
}

// The wait for the header is bounded together with everything else: it counts as a connection.
func TestHeaderCountsForTheListener(t *testing.T) {
	s := &site{}
	s.serve(t, sim.Config{}, core.ListenConfig{Limit: core.Limit{Total: 2, Refusal: "421\r\n"}}, proxyproto.Accept(s.handler, proxyproto.Options{From: proxies}))
	s.dial()
	s.dial()
	s.Settle()
	p := s.dial()
	p.Want("421\r\n")
	p.WantClosed()
	s.Advance(proxyproto.DefaultTimeout)
	p = s.dial()
	p.Say(v1Line)
	p.Want(greeting)
}

package smtp_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/proxyproto"
	"github.com/parley-go/parley/protocols/smtp"
)

var (
	proxies     = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/32")} // "client"
	behindProxy = netip.MustParseAddrPort("198.51.100.77:56324")
	front       = netip.MustParseAddrPort("203.0.113.1:25")
)

func proxyV1(client netip.AddrPort) string { return string(proxyproto.AppendV1(nil, client, front)) }

func proxyV2(t *testing.T, h *proxyproto.Header) string {
	b, err := proxyproto.AppendV2(nil, h)
	require.NoError(t, err)
	return string(b)
}

// The client behind a proxy is the one that hooks, the Received field and the log see; wherever its header is cut, and
// whatever comes right behind it.
func TestProxyFrom(t *testing.T) {
	header := &proxyproto.Header{Network: "tcp", Source: core.Endpoint{AddrPort: behindProxy}, Destination: core.Endpoint{AddrPort: front},
		Authority: "mx.example.org", Checksum: true}
	v6 := netip.MustParseAddrPort("[2001:db8::77]:56324")
	for _, tt := range []struct{ name, header, from, literal string }{
		{"v1", proxyV1(behindProxy), "198.51.100.77:56324", "[198.51.100.77]"},
		{"v1 of IPv6", proxyV1(v6), "[2001:db8::77]:56324", "[IPv6:2001:db8::77]"},
		{"v1 of nobody", "PROXY UNKNOWN\r\n", "192.0.2.2:49152", "[192.0.2.2]"},
		{"v2", proxyV2(t, header), "198.51.100.77:56324", "[198.51.100.77]"},
		{"v2, the proxy's own", proxyV2(t, &proxyproto.Header{Local: true}), "192.0.2.2:49152", "[192.0.2.2]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const commands = "EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<user@example.org>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n"
			run := func(net sim.Config, cut int) {
				rec := new(recorder)
				from := ""
				rec.hooks = map[string]func(*smtp.Session, string) error{"connect": func(s *smtp.Session, _ string) error {
					from = s.RemoteAddr().String()
					return nil
				}, "vrfy": func(*smtp.Session, string) error { return errors.New("out of order") }}
				s := newScene(t, net, &smtp.Server{ProxyFrom: proxies, Backend: rec})
				p := s.Dial("tcp", address)
				if cut < len(tt.header) {
					p.Say(tt.header[:cut])
					s.Settle()
					p.WantNothing()
					require.Empty(t, from)
				}
				p.Say((tt.header + "VRFY x\r\n" + commands)[cut:])
				require.Equal(t, "220 mx.example.org ESMTP\r\n", p.WantLine())
				require.Regexp(t, `(?s)^451 .*221 2\.0\.0 mx\.example\.org Goodbye\r\n$`, p.Read())
				p.WantClosed()
				require.Equal(t, tt.from, from)
				require.Len(t, rec.mails, 1)
				require.Contains(t, rec.mails[0].text.String(), "Received: from client.example ("+tt.literal+")\r\n")
				require.Contains(t, s.log.String(), tt.from)
				require.Zero(t, s.srv.Open())
			}
			for cut := 0; cut < len(tt.header); cut += 3 {
				run(sim.Config{}, cut)
			}
			run(sim.Config{}, len(tt.header)-1)
			run(sim.Config{Untraced: true, MaxRecv: 1}, 0)
			run(sim.Config{Seed: 7, RandomCuts: true, Window: 9, Again: 0.2, Spurious: 0.2, Jitter: time.Millisecond}, 0)
		})
	}
}

// Without its header a connection comes to nothing: no greeting, no session, no word of what is wrong.
func TestProxyRefuses(t *testing.T) {
	forged := proxyV1(behindProxy)
	for _, tt := range []struct {
		name, from string
		do         func(s *scene, p *sim.Peer)
		logged     string
	}{
		{"missing, and the client waits", "", func(s *scene, _ *sim.Peer) { s.Advance(proxyproto.DefaultTimeout) }, proxyproto.ErrTimeout.Error()},
		{"missing, and the client talks", "", func(_ *scene, p *sim.Peer) { p.Say("EHLO client.example\r\n") }, "bad header"},
		{"forged", "198.51.100.9:0", func(_ *scene, p *sim.Peer) { p.Say(forged) }, "not a trusted proxy"},
		{"past the proxy", "198.51.100.9:0", func(*scene, *sim.Peer) {}, "not a trusted proxy"},
		{"malformed", "", func(_ *scene, p *sim.Peer) { p.Say(strings.Replace(forged, " 25\r\n", " 025\r\n", 1)) }, "bad header"},
		{"with a bare LF", "", func(_ *scene, p *sim.Peer) { p.Say(strings.ReplaceAll(forged, "\r", "")) }, "bad header"},
		{"slow", "", func(s *scene, p *sim.Peer) {
			for i := 0; i < len(forged) && !p.Ended(); i++ {
				p.Say(forged[i : i+1])
				s.Advance(time.Second)
			}
		}, proxyproto.ErrTimeout.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t, sim.Config{}, &smtp.Server{ProxyFrom: proxies})
			p := s.DialFrom("tcp", tt.from, address)
			tt.do(s, p)
			s.Settle()
			require.True(t, p.Ended())
			require.Zero(t, p.Unread())
			require.Empty(t, s.rec.log)
			require.Equal(t, smtp.Counters{}, s.srv.Counters())
			require.Contains(t, s.log.String(), tt.logged)
		})
	}
}

// A server without proxies knows no header.
func TestNoProxy(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{})
	p := s.client()
	p.Say(proxyV1(behindProxy))
	p.Want("500 5.5.2 Unknown command \"PROXY\"\r\n")
}

// ConnsPerAddr counts clients, not the proxy.
func TestProxyConnections(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{ProxyFrom: proxies, Limits: smtp.Limits{Conns: 5, ConnsPerAddr: 2}})
	const refusal = "421 4.7.0 mx.example.org Too many connections, try again later\r\n"
	open := func(client, answer string) *sim.Peer {
		p := s.Dial("tcp", address)
		if client != "" {
			p.Say(proxyV1(netip.MustParseAddrPort(client)))
		}
		p.Want(answer)
		return p
	}
	first := open("198.51.100.1:1", "220 mx.example.org ESMTP\r\n")
	open("198.51.100.1:2", "220 mx.example.org ESMTP\r\n")
	open("198.51.100.1:3", refusal).WantClosed()
	open("198.51.100.2:1", "220 mx.example.org ESMTP\r\n")
	open("198.51.100.2:2", "220 mx.example.org ESMTP\r\n")
	ask(first, "QUIT", "221 2.0.0 mx.example.org Goodbye")
	first.WantClosed()
	open("198.51.100.1:3", "220 mx.example.org ESMTP\r\n")
	open("198.51.100.3:1", "220 mx.example.org ESMTP\r\n")
	open("", refusal).WantClosed() // Conns, before anything is read
	require.Equal(t, 5, s.srv.Open())
}

// A client that does not wait for the greeting: what the proxy says is no part of that.
func TestProxyGreetDelay(t *testing.T) {
	for _, early := range []bool{false, true} {
		s := newScene(t, sim.Config{}, &smtp.Server{ProxyFrom: proxies, GreetDelay: 5 * time.Second})
		p := s.Dial("tcp", address)
		s.Advance(3 * time.Second)
		p.Say(proxyV1(behindProxy))
		s.Advance(4 * time.Second)
		p.WantNothing()
		if early {
			p.Say("EHLO client.example\r\n")
			p.Want("554 5.5.0 mx.example.org You talk before I have greeted\r\n")
			continue
		}
		p.Want("220 mx.example.org ESMTP\r\n")
	}
}

// The handshake of TLS comes right behind the header, and nothing of it is lost.
func TestProxyTLS(t *testing.T) {
	cfg := useFakeTLS(t)
	said := proxyV1(behindProxy) + fakeHello
	for cut := range len(said) {
		rec := new(recorder)
		srv := &smtp.Server{ProxyFrom: proxies, TLSConfig: cfg, Backend: rec}
		s := newScene(t, sim.Config{}, srv)
		_, err := srv.ListenTLS(s.loop, "tcp", "server:465")
		require.NoError(t, err)
		p := s.Dial("tcp", "server:465")
		p.Say(said[:cut])
		s.Settle()
		p.WantNothing()
		p.Say(said[cut:])
		p.Want("220 mx.example.org ESMTP\r\n")
		ask(p, "HELO client.example", "250 mx.example.org")
		s.deliver(p, "<a@client.example>", "<user@example.org>", "hello", "250")
		require.Contains(t, rec.mails[0].text.String(), "([198.51.100.77])")
		require.Contains(t, rec.mails[0].text.String(), "with SMTPS")
	}
}

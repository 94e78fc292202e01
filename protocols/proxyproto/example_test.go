package proxyproto_test

import (
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/proxyproto"
)

func ExampleAccept() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	_, err := new(core.ListenConfig).Listen(loop, "tcp", "server:25", proxyproto.Accept(func(c *chat.Conn) chat.Handler {
		_ = c.Printf("220 Hello, %v\n", c.RemoteAddr()) // knows to whom it speaks
		return chat.Lines(func(c *chat.Conn, line []byte) error { return c.Printf("250 %s\n", line) })
	}, proxyproto.Options{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}))
	if err != nil {
		fmt.Println(err)
		return
	}

	proxy := w.Dial("tcp", "server:25")
	proxy.Say("PROXY TCP4 198.51.100.77 203.0.113.1 56324 25\r\nNOOP\r\n")
	fmt.Print(proxy.Read())
	// Output:
	// 220 Hello, 198.51.100.77:56324
	// 250 NOOP
}

func ExampleOptions() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	_, err := new(core.ListenConfig).Listen(loop, "tcp", "server:25", proxyproto.Accept(func(c *chat.Conn) chat.Handler {
		_ = c.PushString("220 Hello\n")
		return chat.Lines(func(*chat.Conn, []byte) error { return nil })
	}, proxyproto.Options{From: proxyproto.Anybody, PerClient: 1, Refusal: "421 Too many connections\n"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, client := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.1"} {
		proxy := w.Dial("tcp", "server:25")
		proxy.Say("PROXY TCP4 " + client + " 203.0.113.1 56324 25\r\n")
		fmt.Print(client, ": ", proxy.Read())
	}
	// Output:
	// 198.51.100.1: 220 Hello
	// 198.51.100.2: 220 Hello
	// 198.51.100.1: 421 Too many connections
}

func ExampleLayer() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	sock, proxy := w.Pair()
	layer, err := proxyproto.New(sock, proxyproto.Options{From: proxyproto.Anybody})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = core.Attach(loop, layer, &core.Funcs{Read: func(d *core.Dispatcher) error {
		p, err := d.RecvShared()
		if err != nil {
			return err
		}
		fmt.Printf("%q from %v\n", p, d.RemoteAddr())
		return nil
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	proxy.Say("PROXY TCP6 2001:db8::1 2001:db8::2 56324 25\r\nhello")
	w.Settle()
	// Output:
	// "hello" from [2001:db8::1]:56324
}

func ExampleHeader() {
	in := "PROXY TCP4 198.51.100.77 203.0.113.1 56324 25\r\n"
	h, n, err := proxyproto.Parse([]byte(in+"EHLO client.example\r\n"), 0)
	fmt.Println(h.Network, h.Source.AddrPort, h.Destination.AddrPort, n == len(in), err)

	h, n, err = proxyproto.Parse([]byte(in[:20]), 0)
	fmt.Println(h == nil, "at least", n, "bytes", err)

	_, _, err = proxyproto.Parse([]byte("PROXY TCP4 198.51.100.077 203.0.113.1 56324 25\r\n"), 0)
	fmt.Println(err)
	// Output:
	// tcp 198.51.100.77:56324 203.0.113.1:25 true <nil>
	// true at least 34 bytes <nil>
	// proxyproto: bad header: field "198.51.100.077"
}

func ExampleSSL() {
	b, err := proxyproto.AppendV2(nil, &proxyproto.Header{
		Network:     "tcp",
		Source:      core.Endpoint{AddrPort: netip.MustParseAddrPort("198.51.100.77:56324")},
		Destination: core.Endpoint{AddrPort: netip.MustParseAddrPort("203.0.113.1:465")},
		Authority:   "mail.example.org",
		SSL:         &proxyproto.SSL{Secure: true, CertConn: true, Version: "TLSv1.3", CommonName: "Jane Doe"},
		Checksum:    true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	h, _, err := proxyproto.Parse(b, 0)
	fmt.Println(h.Authority, h.SSL.Version, h.SSL.CommonName, h.SSL.Verified(), h.Checksum, err)
	// Output: mail.example.org TLSv1.3 Jane Doe true true <nil>
}

func ExampleTLV() {
	b, err := proxyproto.AppendV2(nil, &proxyproto.Header{
		Network:     "tcp",
		Source:      core.Endpoint{AddrPort: netip.MustParseAddrPort("198.51.100.77:56324")},
		Destination: core.Endpoint{AddrPort: netip.MustParseAddrPort("203.0.113.1:465")},
		TLVs:        []proxyproto.TLV{{Type: 0xEA, Value: "\x01vpce-08d2bf15fac5001c9"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	h, _, err := proxyproto.Parse(b, 0)
	fmt.Printf("%#x %q %v\n", h.TLVs[0].Type, h.TLVs[0].Value, err)
	// Output: 0xea "\x01vpce-08d2bf15fac5001c9" <nil>
}

// A client that says for whom it comes.
func ExampleAppendV1() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	server := w.Listen("tcp", "server:25")
	client := netip.MustParseAddrPort("198.51.100.77:56324")
	_, err := chat.Dial(loop, "tcp", "server:25", func(c *chat.Conn) chat.Handler {
		_ = c.Push(proxyproto.AppendV1(nil, client, netip.MustParseAddrPort("203.0.113.1:25")))
		_ = c.PushString("EHLO client.example\r\n")
		return chat.Lines(func(*chat.Conn, []byte) error { return nil })
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	peer := server.Accept()
	fmt.Printf("%q\n%q\n", peer.WantLine(), peer.WantLine())
	// Output:
	// "PROXY TCP4 198.51.100.77 203.0.113.1 56324 25\r\n"
	// "EHLO client.example\r\n"
}

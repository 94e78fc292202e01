package tlslayer_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/core/tlslayer"
)

// now is inside of every certificate's validity, and of a World's first hours.
var now = time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)

// certificate is one of "server", which signed itself; its signatures are deterministic.
func certificate(seed byte) (tls.Certificate, *x509.CertPool) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(seed)),
		Subject:      pkix.Name{CommonName: "server"},
		DNSNames:     []string{"server"},
		NotBefore:    now.AddDate(-1, 0, 0),
		NotAfter:     now.AddDate(1, 0, 0),
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// configs returns a matching pair for one version of TLS.
func configs(version uint16) (server, client *tls.Config) {
	cert, pool := certificate(1)
	clock := func() time.Time { return now }
	server = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: version, MaxVersion: version, Time: clock}
	client = &tls.Config{RootCAs: pool, ServerName: "server", MinVersion: version, MaxVersion: version, Time: clock}
	return server, client
}

var versions = map[string]uint16{"TLS12": tls.VersionTLS12, "TLS13": tls.VersionTLS13}

// far is a sim.Peer as the net.Conn of crypto/tls: a read makes the world go round. cut says where what it sends is parted;
// its end comes behind each write if it is negative.
type far struct {
	*sim.Peer
	w    *sim.World
	buf  []byte
	cuts map[int]bool
	sent int
}

func (f *far) Read(p []byte) (int, error) {
	if len(f.buf) == 0 {
		f.buf = []byte(f.Peer.Read())
	}
	if len(f.buf) == 0 {
		if f.Ended() {
			return 0, io.EOF
		}
		return 0, errors.New("the world has nothing to read")
	}
	n := copy(p, f.buf)
	f.buf = f.buf[n:]
	return n, nil
}

func (f *far) Write(p []byte) (int, error) {
	from := 0
	for i := range p {
		if f.cuts[f.sent+i] {
			f.Say(string(p[from:i]))
			f.w.Settle()
			from = i
		}
	}
	f.Say(string(p[from:]))
	f.sent += len(p)
	return len(p), nil
}

func (f *far) Close() error                     { f.Peer.Close(); return nil }
func (f *far) LocalAddr() net.Addr              { return nil }
func (f *far) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "server"} }
func (f *far) SetDeadline(time.Time) error      { return nil }
func (f *far) SetReadDeadline(time.Time) error  { return nil }
func (f *far) SetWriteDeadline(time.Time) error { return nil }

// lines echoes lines and notes what happens to it.
type lines struct {
	chat.Buffer
	log   []string
	state tls.ConnectionState
	cause error
	line  func(c *chat.Conn, line string) error // instead of the echo
	eof   func(c *chat.Conn) error              // instead of closing
}

func (s *lines) note(format string, args ...any) { s.log = append(s.log, fmt.Sprintf(format, args...)) }

func (s *lines) FoundTerminator(c *chat.Conn) error {
	line := string(s.Take())
	s.note("%s", line)
	if s.line != nil {
		return s.line(c, line)
	}
	return c.Printf("%s\r\n", line)
}

func (s *lines) HandleSecure(c *chat.Conn, state tls.ConnectionState) error {
	s.state = state
	s.note("secure")
	return nil
}

func (s *lines) HandleEOF(c *chat.Conn) error {
	s.note("EOF")
	if s.eof != nil {
		return s.eof(c)
	}
	c.CloseWhenDoneWith(io.EOF)
	return nil
}

func (s *lines) HandleClose(_ *chat.Conn, cause error) {
	s.cause = cause
	s.note("close")
}

func (s *lines) handler(c *chat.Conn) chat.Handler {
	c.SetTerminator(chat.CRLF)
	return s
}

// scene is a world with a server whose connections are handled by handler.
type scene struct {
	*sim.World
	loop *core.Loop
	t    testing.TB
}

func newScene(t testing.TB, c sim.Config) *scene {
	c.T = t
	w := sim.New(c)
	s := &scene{World: w, t: t, loop: w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})}
	t.Cleanup(func() { _ = s.loop.Close() })
	return s
}

// conversation is a handler that makes itself at home in a channel.
type conversation interface {
	handler(c *chat.Conn) chat.Handler
}

// serve attaches a conversation behind a layer and returns the other end.
func (s *scene) serve(cfg *tls.Config, h conversation, set ...func(*tlslayer.Layer)) *far {
	s.t.Helper()
	sock, peer := s.Pair()
	layer := tlslayer.Server(sock, cfg)
	for _, f := range set {
		f(layer)
	}
	_, err := chat.Attach(s.loop, layer, h.handler)
	require.NoError(s.t, err)
	return &far{Peer: peer, w: s.World}
}

// dialog is a conversation over c, from its handshake to both ends of the stream.
func dialog(t testing.TB, c *tls.Conn) {
	t.Helper()
	require.NoError(t, c.Handshake())
	for _, text := range []string{"hello\r\n", strings.Repeat("x", 40) + "\r\n", "a\r\nb\r\n"} {
		_, err := c.Write([]byte(text))
		require.NoError(t, err)
		got := make([]byte, len(text))
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
	require.NoError(t, c.CloseWrite())
	_, err := c.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err, "the other end said close_notify")
}

var dialogLog = []string{"secure", "hello", strings.Repeat("x", 40), "a", "b", "EOF", "close"}

// Go's own client, at every cut of what it sends, and byte for byte both ways.
func TestServerAtEveryCut(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			run := func(c sim.Config, cuts ...int) int {
				cryptotest.SetGlobalRandom(t, 1) // the same bytes each time
				server, client := configs(version)
				server.NextProtos, client.NextProtos = []string{"a", "b"}, []string{"b"}
				if len(cuts) > 0 {
					client.CurvePreferences = []tls.CurveID{tls.X25519} // a short ClientHello
				}
				s := newScene(t, c)
				h := &lines{}
				end := s.serve(server, h)
				end.cuts = make(map[int]bool)
				for _, i := range cuts {
					end.cuts[i] = true
				}
				dialog(t, tls.Client(end, client))
				s.Settle()
				require.Equal(t, dialogLog, h.log, "cut at %v", cuts)
				require.Equal(t, io.EOF, h.cause)
				require.Equal(t, version, h.state.Version)
				require.Equal(t, "server", h.state.ServerName)
				require.Equal(t, "b", h.state.NegotiatedProtocol)
				require.Zero(t, s.loop.Stats().Channels)
				return end.sent
			}
			n := run(sim.Config{}, 1)
			run(sim.Config{})
			require.Greater(t, n, 400)
			for cut := 1; cut < n; cut++ {
				run(sim.Config{Untraced: true}, cut)
			}
			run(sim.Config{MaxRecv: 1})
			for seed := range uint64(50) {
				run(sim.Config{Seed: seed, Latency: time.Millisecond, Jitter: time.Millisecond, Window: 100, MaxRecv: 700,
					RandomCuts: true, Again: 0.2, Spurious: 0.2, Interrupt: 0.1, Untraced: seed%2 == 0})
			}
		})
	}
}

// Our client to Go's own server is TestGoServer, on real sockets; here both ends are ours.
func TestBothEnds(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(30) {
				c := sim.Config{Seed: seed}
				if seed > 0 {
					c = sim.Config{Seed: seed, Latency: time.Millisecond, Jitter: time.Millisecond, Window: 8 << (seed % 10), MaxRecv: 4 << (seed % 10),
						RandomCuts: true, Again: 0.2, Spurious: 0.2, Work: time.Millisecond}
				}
				c.Patience = 10 * time.Hour
				server, client := configs(version)
				s := newScene(t, c)
				h := &lines{}
				_, err := chat.ListenTLS(s.loop, "tcp", "server:993", server, h.handler)
				require.NoError(t, err)
				text := strings.Repeat("0123456789", 300)
				ch := &lines{}
				ch.line = func(c *chat.Conn, line string) error {
					if line == "last" {
						c.CloseWhenDone()
					}
					return nil
				}
				cc, err := chat.DialTLS(s.loop, "tcp", "server:993", client, ch.handler)
				require.NoError(t, err)
				require.NoError(t, cc.PushString(text+"\r\nlast\r\n"), "before there is a connection")
				for i := 0; h.cause == nil && i < 100_000; i++ {
					s.Advance(20 * time.Millisecond)
				}
				require.Equal(t, []string{"secure", text, "last", "EOF", "close"}, h.log, "seed %d", seed)
				require.Equal(t, []string{"secure", text, "last", "close"}, ch.log)
				require.NoError(t, ch.cause)
				require.Equal(t, io.EOF, h.cause)
			}
		})
	}
}

// What ends a stream: only close_notify does.
func TestTruncated(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			server, client := configs(version)
			for _, end := range []struct {
				name  string
				end   func(*far)
				cause error
			}{
				{"FIN", func(f *far) { f.CloseWrite() }, tlslayer.ErrTruncated},
				{"FIN in a header", func(f *far) { f.Say("\x17\x03\x03\x00"); f.CloseWrite() }, tlslayer.ErrTruncated},
				{"FIN in a record", func(f *far) { f.Say("\x17\x03\x03\x00\x40half"); f.CloseWrite() }, tlslayer.ErrTruncated},
				{"reset", func(f *far) { f.Reset() }, syscall.ECONNRESET},
				{"garbage", func(f *far) { f.Say("\x17\x03\x03\x00\x20" + strings.Repeat("x", 32)) }, nil},
			} {
				s := newScene(t, sim.Config{})
				h := &lines{}
				f := s.serve(server, h)
				c := tls.Client(f, client)
				require.NoError(t, c.Handshake())
				_, err := c.Write([]byte("a\r\nnot a whole line"))
				require.NoError(t, err)
				s.Settle()
				end.end(f)
				s.Settle()
				require.Equal(t, []string{"secure", "a", "close"}, h.log, end.name)
				if end.cause != nil {
					require.ErrorIs(t, h.cause, end.cause, end.name)
				} else {
					require.ErrorContains(t, h.cause, "bad record MAC")
					_, err = io.ReadAll(c)
					require.ErrorContains(t, err, "bad record MAC", "the alert arrived")
				}
			}
		})
	}
}

// A handshake that fails ends the channel with the reason, and nothing stays behind.
func TestHandshakeFails(t *testing.T) {
	server, client := configs(tls.VersionTLS13)
	old, _ := configs(tls.VersionTLS12)
	for _, tt := range []struct {
		name string
		cfg  *tls.Config
		do   func(s *scene, f *far)
		text string
	}{
		{"HTTP", server, func(_ *scene, f *far) { f.Say("GET / HTTP/1.0\r\n\r\n") }, "first record does not look like a TLS handshake"},
		{"SSLv2", server, func(_ *scene, f *far) { f.Say("\x80\x2e\x01\x03\x01" + strings.Repeat("x", 50)) }, "SSLv2"},
		{"nothing but FIN", server, func(_ *scene, f *far) { f.CloseWrite() }, "EOF"},
		{"FIN in a header", server, func(_ *scene, f *far) { f.Say("\x16\x03\x01\x02"); f.CloseWrite() }, "unexpected EOF"},
		{"FIN in ClientHello", server, func(_ *scene, f *far) { f.Say("\x16\x03\x01\x02\x00\x01"); f.CloseWrite() }, "unexpected EOF"},
		{"reset", server, func(_ *scene, f *far) { f.Say("\x16\x03\x01"); f.Reset() }, "reset"},
		{"reset behind ServerHello", server, func(s *scene, f *far) {
			_ = tls.Client(&once{far: f}, client).Handshake()
			f.Reset()
		}, "reset"},
		{"endless ClientHello", server, func(_ *scene, f *far) {
			f.Say("\x16\x03\x01\x40\x00\x01\x02\x00\x00" + strings.Repeat("x", 1<<14))
		}, "handshake message of length 131072 bytes exceeds maximum"},
		{"versions", old, func(_ *scene, f *far) {
			require.ErrorContains(t, tls.Client(f, client).Handshake(), "protocol version")
		}, "unsupported versions"},
		{"no certificate", &tls.Config{}, func(_ *scene, f *far) { _ = tls.Client(f, client).Handshake() }, "no certificates configured"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t, sim.Config{})
			h := &lines{}
			f := s.serve(tt.cfg, h)
			tt.do(s, f)
			s.Settle()
			require.Equal(t, []string{"close"}, h.log)
			require.ErrorIs(t, h.cause, tlslayer.ErrHandshake)
			require.ErrorContains(t, h.cause, tt.text)
			if !strings.HasPrefix(tt.name, "reset") {
				require.True(t, f.Ended())
			}
			require.Zero(t, s.loop.Stats().Channels)
		})
	}
}

// What a client says before there is a conversation has a limit, however it is parted in records. Its data is not meant.
func TestHandshakeLimit(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			server, client := configs(version)
			client.NextProtos = strings.Fields(strings.Repeat(strings.Repeat("x", 200)+" ", 70))
			hello := clientHello(t, client)
			require.Less(t, len(hello), tlslayer.DefaultHandshakeLimit)
			require.Greater(t, len(hello)+200, tlslayer.DefaultHandshakeLimit*7/8)

			attempt := func(said string, set ...func(*tlslayer.Layer)) error {
				s := newScene(t, sim.Config{})
				h := &lines{}
				s.serve(server, h, set...).Say(said)
				s.Settle()
				return h.cause
			}
			limit := func(n int) func(*tlslayer.Layer) {
				return func(l *tlslayer.Layer) { l.SetHandshakeLimit(n) }
			}
			tiny := "" // the same in records of one byte
			for _, b := range []byte(hello[5:]) {
				tiny += "\x16\x03\x01\x00\x01" + string([]byte{b})
			}
			require.NoError(t, attempt(hello), "the server has answered and waits")
			require.NoError(t, attempt(hello, limit(2*len(hello))))
			for _, err := range []error{
				attempt(hello, limit(len(hello)/2)),
				attempt(hello[:len(hello)/2], limit(len(hello)/2-1)),
				attempt(tiny),
				attempt(tiny[:tlslayer.DefaultHandshakeLimit+6]),
			} {
				require.ErrorIs(t, err, tlslayer.ErrHandshake)
				require.ErrorIs(t, err, core.ErrTooLong)
			}
			require.NoError(t, attempt(tiny, limit(0)))
			require.NoError(t, attempt(tiny[:tlslayer.DefaultHandshakeLimit-6]), "it may be whole soon")

			s := newScene(t, sim.Config{})
			h := &lines{}
			g := &gather{far: s.serve(server, h)}
			client.NextProtos = nil
			c := tls.Client(g, client)
			require.NoError(t, c.Handshake())
			g.hold = true
			text := strings.Repeat("x", 2*tlslayer.DefaultHandshakeLimit)
			_, err := c.Write([]byte(text + "\r\n"))
			require.NoError(t, err)
			g.release()
			s.Settle()
			require.Equal(t, []string{"secure", text}, h.log)
		})
	}
}

// once is a far end that reads one flight and then nothing more.
type once struct {
	*far
	wrote int
}

func (o *once) Write(p []byte) (int, error) {
	if o.wrote++; o.wrote > 1 {
		return 0, io.ErrClosedPipe
	}
	return o.far.Write(p)
}

func TestHandshakeTimeout(t *testing.T) {
	server, _ := configs(tls.VersionTLS13)
	for _, tt := range []struct {
		name string
		set  func(*tlslayer.Layer)
		at   time.Duration
	}{
		{"default", func(*tlslayer.Layer) {}, tlslayer.DefaultHandshakeTimeout},
		{"SetHandshakeTimeout", func(l *tlslayer.Layer) { l.SetHandshakeTimeout(time.Minute) }, time.Minute},
	} {
		for _, said := range []string{"", "\x16\x03\x01\x02\x00\x01"} {
			s := newScene(t, sim.Config{})
			h := &lines{}
			f := s.serve(server, h, tt.set)
			f.Say(said)
			s.Advance(tt.at - time.Millisecond)
			require.Empty(t, h.log, tt.name)
			s.Advance(2 * time.Millisecond)
			require.Equal(t, []string{"close"}, h.log)
			require.ErrorIs(t, h.cause, tlslayer.ErrHandshakeTimeout)
			require.ErrorIs(t, h.cause, core.ErrTimeout)
		}
	}
	s := newScene(t, sim.Config{})
	h := &lines{}
	s.serve(server, h, func(l *tlslayer.Layer) { l.SetHandshakeTimeout(0) })
	s.Advance(time.Hour)
	require.Empty(t, h.log)
}

// A handshake that is over has no timeout any more, and output that waited for it is sent.
func TestPushBeforeHandshake(t *testing.T) {
	server, client := configs(tls.VersionTLS13)
	s := newScene(t, sim.Config{})
	h := &lines{}
	sock, peer := s.Pair()
	conn, err := chat.Attach(s.loop, tlslayer.Server(sock, server), func(c *chat.Conn) chat.Handler {
		require.NoError(t, c.PushString("220 ready\r\n"))
		c.Pause() // not reading does not hold the handshake up
		return h.handler(c)
	})
	require.NoError(t, err)
	s.Settle()
	require.NotZero(t, conn.Queued())
	f := &far{Peer: peer, w: s.World}
	c := tls.Client(f, client)
	require.NoError(t, c.Handshake())
	got := make([]byte, 11)
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, "220 ready\r\n", string(got))
	_, err = c.Write([]byte("x\r\n"))
	require.NoError(t, err)
	s.Advance(time.Hour)
	require.Equal(t, []string{"secure"}, h.log)
	state, ok := conn.TLS()
	require.True(t, ok)
	require.Equal(t, tls.VersionTLS13, int(state.Version))
	s.loop.Post(conn.Resume)
	s.Settle()
	require.Equal(t, []string{"secure", "x"}, h.log)
}

// The client's last flight and its first data may come in one read; HandleSecure comes first.
func TestDataBehindHandshake(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			server, client := configs(version)
			s := newScene(t, sim.Config{})
			h := &lines{}
			f := s.serve(server, h)
			g := &gather{far: f}
			c := tls.Client(g, client)
			require.NoError(t, c.Handshake())
			g.hold = true
			_, err := c.Write([]byte("a\r\n"))
			require.NoError(t, err)
			_, err = c.Write([]byte("b\r\n"))
			require.NoError(t, err)
			require.NoError(t, c.CloseWrite())
			g.release()
			s.Settle()
			require.Equal(t, []string{"secure", "a", "b", "EOF", "close"}, h.log)
		})
	}
}

// gather is a far end whose writes go out together.
type gather struct {
	*far
	hold bool
	held []byte
}

func (g *gather) Write(p []byte) (int, error) {
	g.held = append(g.held, p...)
	return len(p), nil
}

func (g *gather) Read(p []byte) (int, error) {
	if !g.hold {
		g.release()
	}
	return g.far.Read(p)
}

func (g *gather) release() {
	_, _ = g.far.Write(g.held)
	g.held = nil
}

func TestResumption(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			server, client := configs(version)
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for i := range 2 {
				s := newScene(t, sim.Config{})
				h := &lines{}
				_, err := chat.ListenTLS(s.loop, "tcp", "server:1", server, h.handler)
				require.NoError(t, err)
				ch := &lines{line: func(c *chat.Conn, _ string) error { c.CloseWhenDone(); return nil }}
				cc, err := chat.DialTLS(s.loop, "tcp", "server:1", client, ch.handler)
				require.NoError(t, err)
				require.NoError(t, cc.PushString("x\r\n"))
				s.Settle()
				require.Equal(t, []string{"secure", "x", "EOF", "close"}, h.log)
				require.Equal(t, i == 1, h.state.DidResume)
				require.Equal(t, i == 1, ch.state.DidResume)
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	mine, pool := certificate(2)
	other, _ := certificate(3)
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			server, client := configs(version)
			server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, pool
			for _, cert := range []tls.Certificate{mine, other, {}} {
				client := client.Clone()
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
				s := newScene(t, sim.Config{})
				h := &lines{}
				f := s.serve(server, h)
				c := tls.Client(f, client)
				err := c.Handshake()
				if err == nil { // TLS 1.3: the server's verdict comes behind it
					_, _ = c.Write([]byte("x\r\n"))
					_, err = io.ReadFull(c, make([]byte, 3))
				}
				if cert.Leaf == mine.Leaf {
					require.NoError(t, err)
					require.Equal(t, mine.Leaf.SerialNumber, h.state.VerifiedChains[0][0].SerialNumber)
					continue
				}
				require.Error(t, err)
				s.Settle()
				require.Equal(t, []string{"close"}, h.log)
				require.ErrorIs(t, h.cause, tlslayer.ErrHandshake)
			}
		})
	}
}

// The client's verdict on the server's certificate.
func TestServerCertificate(t *testing.T) {
	server, client := configs(tls.VersionTLS13)
	client.ServerName = ""
	for _, tt := range []struct {
		addr  string
		cause string
	}{
		{"server:1", ""},
		{"elsewhere:1", "certificate is valid for server, not elsewhere"},
		{"192.0.2.1:1", "doesn't contain any IP SANs"},
	} {
		s := newScene(t, sim.Config{})
		s.Host("elsewhere", "192.0.2.1")
		h, ch := &lines{}, &lines{}
		_, err := chat.ListenTLS(s.loop, "tcp", "server:1", server, h.handler)
		require.NoError(t, err)
		_, err = chat.DialTLS(s.loop, "tcp", tt.addr, client, ch.handler)
		require.NoError(t, err)
		s.Settle()
		if tt.cause == "" {
			require.Equal(t, []string{"secure"}, ch.log)
			continue
		}
		require.Equal(t, []string{"close"}, ch.log)
		require.ErrorIs(t, ch.cause, tlslayer.ErrHandshake)
		require.ErrorContains(t, ch.cause, tt.cause)
		require.Contains(t, h.log, "close")
	}
}

func TestSelfSigned(t *testing.T) {
	cert, err := tlslayer.SelfSigned("server", "192.0.2.1")
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	for _, name := range []string{"server", "192.0.2.1"} {
		_, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool})
		require.NoError(t, err)
	}
	_, err = cert.Leaf.Verify(x509.VerifyOptions{DNSName: "other", Roots: pool})
	require.Error(t, err)
	_, err = tlslayer.SelfSigned()
	require.Error(t, err)
}

// What is wrong with a configuration is said at once.
func TestConfigurations(t *testing.T) {
	s := newScene(t, sim.Config{})
	for _, cfg := range []*tls.Config{nil, {}} {
		_, err := chat.ListenTLS(s.loop, "tcp", "server:1", cfg, (&lines{}).handler)
		require.ErrorContains(t, err, "GetCertificate")
	}
	// A client without a name to verify closes before it has sent anything.
	pl := s.Listen("tcp", "server:2")
	h := &lines{}
	_, err := chat.DialWith(&core.Dialer{Wrap: tlslayer.WrapClient(&tls.Config{})}, s.loop, "tcp", "server:2", h.handler)
	require.NoError(t, err)
	require.Empty(t, pl.Accept().Read())
	require.ErrorContains(t, h.cause, "either ServerName or InsecureSkipVerify must be specified")
	// A layer that cannot be made closes the connection.
	no := errors.New("no layer")
	refuse := func(core.Socket) (core.Layered, error) { return nil, no }
	h = &lines{}
	_, err = chat.DialWith(&core.Dialer{Wrap: refuse}, s.loop, "tcp", "server:2", h.handler)
	require.NoError(t, err)
	pl.Accept().WantClosed()
	require.ErrorIs(t, h.cause, no)
	_, err = (&core.ListenConfig{Wrap: refuse}).Listen(s.loop, "tcp", "server:3", chat.Accept(h.handler))
	require.NoError(t, err)
	s.Dial("tcp", "server:3").WantClosed()
}

// A func of the tls.Config that closes the channel, or panics.
func TestConfigFuncs(t *testing.T) {
	for _, off := range []bool{false, true} {
		s := newScene(t, sim.Config{})
		server, client := configs(tls.VersionTLS13)
		h := &lines{}
		sock, peer := s.Pair()
		var conn *chat.Conn
		cfg := server.Clone()
		cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			if off {
				panic("oh")
			}
			return nil, conn.CloseWith(errors.New("not you"))
		}
		l := tlslayer.Server(sock, cfg)
		l.SetOffLoop(off)
		conn, _ = chat.Attach(s.loop, l, h.handler)
		require.Error(t, tls.Client(&far{Peer: peer, w: s.World}, client).Handshake())
		require.Equal(t, []string{"close"}, h.log)
		if !off {
			require.EqualError(t, h.cause, "not you")
			continue
		}
		var p *core.PanicError
		require.ErrorAs(t, h.cause, &p)
		require.Equal(t, "oh", p.Value)
	}
}

// The handshake's work on workers: the same conversation; a close meanwhile leaves nothing behind.
func TestOffLoop(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(20) {
				server, client := configs(version)
				s := newScene(t, sim.Config{Seed: seed, Work: time.Duration(seed) * time.Millisecond, MaxRecv: 500, RandomCuts: seed%2 == 1})
				h := &lines{}
				f := s.serve(server, h, func(l *tlslayer.Layer) { l.SetOffLoop(true) })
				dialog(t, tls.Client(&waiting{f}, client))
				s.Settle()
				require.Equal(t, dialogLog, h.log)
			}
			for _, end := range []func(*far){(*far).Reset, (*far).CloseWrite} {
				server, client := configs(version)
				s := newScene(t, sim.Config{Work: time.Second})
				h := &lines{}
				f := s.serve(server, h, func(l *tlslayer.Layer) { l.SetOffLoop(true) })
				_ = tls.Client(f, client).Handshake() // fails: the world has nothing to read yet
				end(f)
				s.Advance(time.Minute)
				require.Equal(t, "close", h.log[len(h.log)-1])
				require.Zero(t, s.loop.Stats().Channels)
			}
		})
	}
}

// waiting is a far end that lets time pass until there is something to read.
type waiting struct{ *far }

func (f *waiting) Read(p []byte) (int, error) {
	for range 1000 {
		if f.Unread() > 0 || f.Ended() || len(f.buf) > 0 {
			break
		}
		f.w.Advance(time.Millisecond)
	}
	return f.far.Read(p)
}

// Output of a channel that closes when it is done reaches a slow peer whole, close_notify behind it.
func TestCloseWhenDone(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			server, client := configs(version)
			for _, window := range []int{100, 1000, 100_000} {
				s := newScene(t, sim.Config{Window: window})
				text := strings.Repeat("0123456789", 30_000)
				h := &lines{line: func(c *chat.Conn, _ string) error {
					err := c.PushString(text)
					c.CloseWhenDone()
					return err
				}}
				c := tls.Client(s.serve(server, h), client)
				_, err := c.Write([]byte("go\r\n"))
				require.NoError(t, err)
				got, err := io.ReadAll(c)
				require.NoError(t, err, "close_notify arrived")
				require.Equal(t, text, string(got))
				s.Settle()
				require.NoError(t, h.cause)
			}
		})
	}
}

// A peer that has said close_notify still gets its answer; so has one that sends the end of the stream below with it.
func TestHalfClosed(t *testing.T) {
	server, client := configs(tls.VersionTLS13)
	s := newScene(t, sim.Config{})
	h := &lines{eof: func(c *chat.Conn) error {
		c.AfterFunc(time.Second, func() {
			_ = c.PushString("late")
			c.CloseWhenDone()
		})
		return nil
	}}
	f := s.serve(server, h)
	c := tls.Client(&waiting{f}, client)
	require.NoError(t, c.Handshake())
	require.NoError(t, c.CloseWrite())
	f.CloseWrite()
	s.Advance(2 * time.Second)
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "late", string(got))
}

// TLS on a layer, and a layer on TLS.
func TestStack(t *testing.T) {
	server, client := configs(tls.VersionTLS13)
	s := newScene(t, sim.Config{})
	h := &lines{}
	sock, peer := s.Pair()
	var plain strings.Builder
	_, err := chat.Attach(s.loop, tlslayer.Server(&sim.Throttle{Socket: sock, Rate: 10_000}, server), func(c *chat.Conn) chat.Handler {
		_, err := c.Upgrade(func(s core.Socket) (core.Layered, error) {
			return &sim.Tap{Socket: s, In: func(p []byte) { plain.Write(p) }}, nil
		}, true)
		require.NoError(t, err)
		return h.handler(c)
	})
	require.NoError(t, err)
	dialog(t, tls.Client(&waiting{&far{Peer: peer, w: s.World}}, client))
	require.Equal(t, "hello\r\n"+strings.Repeat("x", 40)+"\r\na\r\nb\r\n", plain.String())
	require.Equal(t, tls.VersionTLS13, int(h.state.Version))
}

// A peer that reads nothing is noticed also when all that it was sent lies encrypted in the layer.
func TestWriteTimeoutOfWhatTheLayerHolds(t *testing.T) {
	server, client := configs(tls.VersionTLS13)
	s := newScene(t, sim.Config{Window: 4000})
	var c *chat.Conn
	h := &lines{}
	h.line = func(conn *chat.Conn, _ string) error {
		c = conn
		c.SetWriteTimeout(30 * time.Second)
		return c.Push(make([]byte, 50_000))
	}
	f := s.serve(server, h)
	peer := tls.Client(f, client)
	require.NoError(t, peer.Handshake())
	f.Stall(true)
	_, err := peer.Write([]byte("all of it\r\n"))
	require.NoError(t, err)
	s.Advance(29 * time.Second)
	require.NoError(t, h.cause)
	require.Zero(t, c.Queued(), "the layer took all of it")
	s.Advance(40 * time.Second)
	require.ErrorIs(t, h.cause, core.ErrTimeout)
}

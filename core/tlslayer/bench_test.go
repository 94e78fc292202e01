package tlslayer_test

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/core/tlslayer"
)

// Both ends of a handshake; the other one is crypto/tls's own.
func BenchmarkHandshake(b *testing.B) {
	for _, name := range []string{"TLS12", "TLS13"} {
		b.Run(name, func(b *testing.B) {
			server, client := configs(versions[name])
			s := newScene(b, sim.Config{Untraced: true})
			b.ReportAllocs()
			for b.Loop() {
				f := s.serve(server, &lines{})
				c := tls.Client(f, client)
				require.NoError(b, c.Handshake())
				_ = c.Close()
				s.Settle()
			}
		})
	}
}

// Records with a line of 32 bytes each, so many in one write, are echoed.
func BenchmarkLines(b *testing.B) {
	for _, bb := range []struct {
		name  string
		depth int
	}{{"1", 1}, {"16", 16}, {"100", 100}} {
		b.Run(bb.name, func(b *testing.B) {
			server, client := configs(tls.VersionTLS13)
			s := newScene(b, sim.Config{Untraced: true})
			g := &gather{far: s.serve(server, &echo{})}
			c := tls.Client(g, client)
			require.NoError(b, c.Handshake())
			g.hold = true
			line := []byte(strings.Repeat("x", 30) + "\r\n")
			got := make([]byte, len(line)*bb.depth)
			b.ReportAllocs()
			b.SetBytes(int64(len(got)))
			for b.Loop() {
				for range bb.depth {
					_, _ = c.Write(line)
				}
				g.release()
				if _, err := io.ReadFull(c, got); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Records of 16 KB come in.
func BenchmarkBulk(b *testing.B) {
	server, client := configs(tls.VersionTLS13)
	client.DynamicRecordSizingDisabled = true
	s := newScene(b, sim.Config{Untraced: true})
	sock, peer := s.Pair()
	got := 0
	_, err := chat.Attach(s.loop, tlslayer.Server(sock, server), func(*chat.Conn) chat.Handler {
		return chat.Data(func(_ *chat.Conn, p []byte) error { got += len(p); return nil })
	})
	require.NoError(b, err)
	c := tls.Client(&far{Peer: peer, w: s.World}, client)
	require.NoError(b, c.Handshake())
	text := make([]byte, 256<<10)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	sent := 0
	for b.Loop() {
		_, err := c.Write(text)
		require.NoError(b, err)
		s.Settle()
		sent += len(text)
	}
	require.Equal(b, sent, got)
}

// echo sends lines back.
type echo struct{ chat.Buffer }

func (e *echo) FoundTerminator(c *chat.Conn) error {
	return c.Push(append(e.Take(), "\r\n"...))
}

func (e *echo) handler(c *chat.Conn) chat.Handler {
	c.SetTerminator(chat.CRLF)
	return e
}

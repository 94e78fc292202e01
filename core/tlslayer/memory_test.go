package tlslayer_test

import (
	"crypto/tls"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/internal/race"
)

// usage is what is in use, in bytes.
type usage struct{ heap, stacks int64 }

func inUse() usage {
	var m runtime.MemStats
	for range 3 { // a stack shrinks by half in each
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return usage{int64(m.HeapAlloc), int64(m.StackInuse)}
}

// since is how much more is in use than before, for each of n.
func (before usage) since(t *testing.T, n int) usage {
	now := inUse()
	each := usage{(now.heap - before.heap) / int64(n), (now.stacks - before.stacks) / int64(n)}
	t.Logf("%d bytes and a stack of %d for each", each.heap, each.stacks)
	return each
}

// Clients that begin a handshake and stop there cost little, for a short time.
func TestHalfOpenHandshakes(t *testing.T) {
	x25519 := func(version uint16) string {
		_, client := configs(version)
		client.CurvePreferences = []tls.CurveID{tls.X25519}
		return clientHello(t, client)
	}
	_, client := configs(tls.VersionTLS13)
	hybrid := clientHello(t, client) // its key exchange is X25519MLKEM768
	require.Greater(t, len(hybrid), 1200)
	client.NextProtos = strings.Fields(strings.Repeat(strings.Repeat("x", 200)+" ", 70))
	large := clientHello(t, client)
	require.Greater(t, len(large), 14<<10)

	// The stack of a handshake: the key exchange and the signature make it that large, and what is parked is more than the
	// quarter below which it would shrink.
	const parked = 8 << 10
	for _, tt := range []struct {
		name string
		said string
		most usage // with the simulated connection
	}{
		{"nothing", "", usage{2900, 0}},
		{"half a ClientHello", hybrid[:len(hybrid)/2], usage{3700, 0}},
		{"a ClientHello without its end", hybrid[:len(hybrid)-1], usage{4500, 0}},
		{"a ClientHello of TLS 1.2", x25519(tls.VersionTLS12), usage{6900, parked}},
		{"a ClientHello with X25519", x25519(tls.VersionTLS13), usage{8300, parked}},
		{"a ClientHello with X25519MLKEM768", hybrid, usage{12_900, parked}},
		{"a large ClientHello", large, usage{61_000, parked}}, // crypto/tls keeps it, and all its parts
	} {
		t.Run(tt.name, func(t *testing.T) {
			const conns = 300
			server, _ := configs(tls.VersionTLS13)
			server.MinVersion = tls.VersionTLS12
			s := newScene(t, sim.Config{Untraced: true})
			goroutines := runtime.NumGoroutine()
			begin := func() {
				f := s.serve(server, &lines{})
				f.Say(tt.said)
				f.Peer.Read()
			}
			begin() // what the first one makes is for all
			before := inUse()
			for range conns {
				begin()
			}
			s.Advance(time.Second)
			each := before.since(t, conns)
			require.Less(t, each.heap, tt.most.heap)
			if !race.Enabled {
				require.Less(t, each.stacks, tt.most.stacks+512)
			}
			require.Equal(t, 1+conns, s.loop.Stats().Channels)
			s.Advance(tlslayer.DefaultHandshakeTimeout)
			require.Zero(t, s.loop.Stats().Channels, "all timed out")
			require.LessOrEqual(t, runtime.NumGoroutine(), goroutines, "no coroutine is left")
		})
	}
}

// clientHello is the first flight of a client.
func clientHello(t *testing.T, cfg *tls.Config) string {
	s := newScene(t, sim.Config{})
	sock, peer := s.Pair()
	_, err := chat.Attach(s.loop, tlslayer.Client(sock, cfg), (&lines{}).handler)
	require.NoError(t, err)
	return peer.Read()
}

// What an idle connection costs, with the simulated one under it; the real ones are measured by bench.
func TestMemoryPerIdle(t *testing.T) {
	conns := 200
	if race.Enabled {
		conns = 50
	}
	line := strings.Repeat("x", 30) + "\r\n"
	for _, tt := range []struct {
		name    string
		version uint16
		sent    int // records of 32 bytes at a time
		length  int // or bytes in records as large as they can be
		most    int64
	}{
		{"TLS12, nothing", tls.VersionTLS12, 0, 0, 5600},
		{"TLS13, nothing", tls.VersionTLS13, 0, 0, 6800},
		{"TLS13, a small record", tls.VersionTLS13, 1, 0, 6800},
		{"TLS13, small records", tls.VersionTLS13, 100, 0, 6800},
		{"TLS13, large records", tls.VersionTLS13, 0, 100_000, 25_500}, // crypto/tls keeps the room for one
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, client := configs(tt.version)
			client.DynamicRecordSizingDisabled = true
			s := newScene(t, sim.Config{Untraced: true})
			converse := func() {
				g := &gather{far: s.serve(server, &echo{})}
				c := tls.Client(g, client)
				require.NoError(t, c.Handshake())
				g.hold = true
				for range tt.sent {
					_, err := c.Write([]byte(line))
					require.NoError(t, err)
				}
				_, err := c.Write([]byte(strings.Repeat(line, tt.length/len(line))))
				require.NoError(t, err)
				g.release()
				g.Peer.Read()
			}
			converse() // what the first one makes is for all
			before := inUse()
			for range conns {
				converse()
			}
			require.Less(t, before.since(t, conns).heap, tt.most)
			require.Equal(t, 1+conns, s.loop.Stats().Channels)
		})
	}
}

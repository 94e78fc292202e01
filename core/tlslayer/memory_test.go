package tlslayer_test

import (
	"crypto/tls"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/core/tlslayer"
)

func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// Clients that begin a handshake and stop there cost little, for a short time.
func TestHalfOpenHandshakes(t *testing.T) {
	const conns = 10_000
	server, client := configs(tls.VersionTLS13)
	hello := clientHello(t, client)
	for _, tt := range []struct {
		name string
		said string
		most int64 // bytes, with those of the simulated connection and of what it holds unread
	}{
		{"nothing said", "", 4 << 10},
		{"half a ClientHello", hello[:len(hello)/2], 14 << 10},
		{"a ClientHello", hello, 36 << 10}, // crypto/tls keeps it, and the key exchange (X25519MLKEM768) is large
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t, sim.Config{Untraced: true})
			before, goroutines := inUse(), runtime.NumGoroutine()
			for range conns {
				h := &lines{}
				f := s.serve(server, h)
				f.Say(tt.said)
			}
			s.Advance(time.Second)
			each := (inUse() - before) / conns
			t.Logf("%d bytes for each", each)

			require.Less(t, each, tt.most)
			require.Equal(t, conns, s.loop.Stats().Channels)
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
	const conns = 300
	for name, version := range versions {
		server, client := configs(version)
		s := newScene(t, sim.Config{Untraced: true})
		ends := make([]*tls.Conn, conns)
		before := inUse()
		for i := range ends {
			ends[i] = tls.Client(s.serve(server, &lines{}), client)
			require.NoError(t, ends[i].Handshake())
		}
		both := (inUse() - before) / conns
		t.Logf("%s: %d bytes for both ends", name, both)
		require.Less(t, both, int64(40<<10))
		runtime.KeepAlive(ends)
	}
}

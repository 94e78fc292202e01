package echo_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/echo"
)

// servePackets opens a service for datagrams.
func servePackets(t *testing.T, l *core.Loop, address string, h core.PacketHandler) *core.Dispatcher {
	t.Helper()
	d, err := core.ListenPacket(l, "udp", address, h)
	require.NoError(t, err)
	return d
}

// What each service answers to a datagram.
func TestPackets(t *testing.T) {
	const now = "Saturday, January 1, 2000 00:00:00-UTC\r\n"
	characters := ringLine(0) + ringLine(1) + ringLine(2) + ringLine(3) + ringLine(4) + ringLine(5) + ringLine(6)
	huge := strings.Repeat("\x00\xff", 30_000)
	for _, test := range []struct {
		name      string
		h         core.PacketHandler
		say, want string
	}{
		// RFC 862, "UDP Based Echo Service": the data from it is sent back in an answering datagram.
		{"echo", new(echo.Packets), "hello", "hello"},
		{"echo of nothing", new(echo.Packets), "", ""},
		{"echo of much", new(echo.Packets), huge, huge},
		// RFC 864, "UDP Based Character Generator Service": between 0 and 512 characters; the data is ignored.
		{"chargen", new(echo.ChargenPackets), "hello", characters[:5]},
		{"chargen for nothing", new(echo.ChargenPackets), "", ""},
		{"chargen, one line", new(echo.ChargenPackets), strings.Repeat("x", 74), ringLine(0)},
		{"chargen, 512", new(echo.ChargenPackets), strings.Repeat("x", 512), characters[:512]},
		{"chargen, 513", new(echo.ChargenPackets), strings.Repeat("x", 513), characters[:512]},
		{"chargen, at most", new(echo.ChargenPackets), huge, characters[:echo.MaxChargenPacket]},
		// RFC 867, "UDP Based Daytime Service": the current date and time; the data is ignored.
		{"daytime", new(echo.DaytimePackets), "hello", now},
		{"daytime for nothing", new(echo.DaytimePackets), "", now},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := sim.New(sim.Config{T: t})
			servePackets(t, w.Loop(core.Options{}), "server:2000", test.h)
			client := w.ListenPacket("udp", "client:0")
			client.Send(test.say, "server:2000")
			client.Want(test.want)
			_, more := client.Next(time.Second)
			require.False(t, more, "one answer")
		})
	}
}

// RFC 863, "UDP Based Discard Service": no response is sent.
func TestDiscardPackets(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	l := w.Loop(core.Options{})
	servePackets(t, l, "server:9", echo.DiscardPackets{})
	client := w.ListenPacket("udp", "client:0")
	for range 100 {
		client.Send("hello", "server:9")
	}
	_, answered := client.Next(time.Second)
	require.False(t, answered)
	require.Equal(t, uint64(500), l.Stats().BytesIn)
}

// Datagrams that bear the port of a service as their source are not answered (CERT advisory CA-1996-01).
func TestGuardPorts(t *testing.T) {
	const own = 2000
	for name, h := range map[string]core.PacketHandler{
		"echo": new(echo.Packets), "chargen": new(echo.ChargenPackets), "daytime": new(echo.DaytimePackets),
	} {
		t.Run(name, func(t *testing.T) {
			w := sim.New(sim.Config{T: t})
			servePackets(t, w.Loop(core.Options{}), fmt.Sprintf("server:%d", own), h)
			for _, test := range []struct {
				port     int
				answered bool
			}{
				{7, false}, {9, false}, {13, false}, {17, false}, {19, false}, {37, false}, {53, false}, {123, false},
				{1, false}, {echo.MinSourcePort - 1, false}, {echo.MinSourcePort, true},
				{own - 1, true}, {own, false}, {own + 1, true}, {65535, true},
			} {
				client := w.ListenPacket("udp", fmt.Sprintf("client:%d", test.port))
				client.Send("hello", fmt.Sprintf("server:%d", own))
				_, answered := client.Next(time.Second)
				require.Equal(t, test.answered, answered, "from port %d", test.port)
			}
		})
	}
}

// Two services that are made to talk to each other by one forged datagram, on their own ports and on others.
func TestGuardLoops(t *testing.T) {
	const rate = 50
	newEcho := func() core.PacketHandler { return &echo.Packets{Guard: echo.Guard{Rate: rate}} }
	newChargen := func() core.PacketHandler { return &echo.ChargenPackets{Guard: echo.Guard{Rate: rate}} }
	newDaytime := func() core.PacketHandler { return &echo.DaytimePackets{Guard: echo.Guard{Rate: rate}} }
	for _, test := range []struct {
		name         string
		first, other core.PacketHandler
		ports        [2]int
		most         int // datagrams
	}{
		{"echo and echo", newEcho(), newEcho(), [2]int{7, 7}, 1},
		{"echo and chargen", newEcho(), newChargen(), [2]int{7, 19}, 1},
		{"chargen and daytime", newChargen(), newDaytime(), [2]int{19, 13}, 1},
		{"on one unprivileged port", newEcho(), newEcho(), [2]int{7007, 7007}, 1},
		{"on two", newEcho(), newChargen(), [2]int{7007, 7019}, 2*rate + 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := sim.New(sim.Config{T: t, Latency: time.Millisecond})
			l := w.Loop(core.Options{})
			first := servePackets(t, l, fmt.Sprintf("server:%d", test.ports[0]), test.first)
			other := servePackets(t, l, fmt.Sprintf("client:%d", test.ports[1]), test.other)
			// What a forger somewhere else would send, with other's address for its own.
			require.NoError(t, other.SendTo([]byte("x"), addrPort(first)))
			w.Advance(time.Hour)
			require.LessOrEqual(t, int(l.Stats().BytesOut), test.most)
		})
	}
}

// Rate counts answers by the second of the loop's clock.
func TestGuardRate(t *testing.T) {
	for _, test := range []struct {
		rate, asked, answered int
	}{
		{0, echo.DefaultRate, echo.DefaultRate},
		{0, echo.DefaultRate + 100, echo.DefaultRate},
		{3, 3, 3},
		{3, 10, 3},
		{-1, 3 * echo.DefaultRate, 3 * echo.DefaultRate},
	} {
		t.Run(fmt.Sprintf("%d of %d at %d", test.answered, test.asked, test.rate), func(t *testing.T) {
			w := sim.New(sim.Config{T: t})
			servePackets(t, w.Loop(core.Options{}), "server:2000", &echo.Packets{Guard: echo.Guard{Rate: test.rate}})
			client := w.ListenPacket("udp", "client:0")
			for second := range 3 {
				answered := 0
				for range test.asked {
					client.Send("x", "server:2000")
					if _, ok := client.Next(0); ok {
						answered++
					}
				}
				require.Equal(t, test.answered, answered, "in second %d", second)
				w.Advance(time.Second)
			}
		})
	}
}

// An answer that cannot be sent is dropped, and that is no error of the handler: it would close the channel for all.
func TestUnsendableAnswer(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	d := servePackets(t, w.Loop(core.Options{}), "server:2000", new(echo.Packets))
	from := addrPort(servePackets(t, d.Loop(), "client:2001", echo.DiscardPackets{}))
	require.NoError(t, d.Close())
	require.ErrorIs(t, d.SendTo(nil, from), core.ErrClosed)
	require.NoError(t, new(echo.Packets).HandlePacket(d, []byte("x"), from))
}

func addrPort(d *core.Dispatcher) netip.AddrPort { return d.LocalAddr().(*net.UDPAddr).AddrPort() }

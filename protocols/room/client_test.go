package room_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/room"
)

// desk is a Client whose terminal is a Peer: what that says was typed, what it gets is shown.
type desk struct {
	*sim.World
	loop   *core.Loop
	client *room.Client
	server *chat.Conn
	screen *sim.Peer
	opened bool
}

func newDesk(t *testing.T, net sim.Config, nick string) *desk {
	net.T = t
	d := &desk{World: sim.New(net)}
	d.loop = d.Loop(core.Options{})
	t.Cleanup(func() {
		require.Zero(t, d.loop.Stats().Panics)
		_ = d.loop.Close()
	})
	sock, screen := d.Pair()
	d.screen = screen
	d.client = &room.Client{Nick: nick, OpenTerminal: func(newHandler func(*chat.Conn) chat.Handler) (*chat.Conn, error) {
		d.opened = true
		return chat.Attach(d.loop, sock, newHandler)
	}}
	return d
}

func (d *desk) dial(t *testing.T, addr string) {
	c, err := chat.Dial(d.loop, "tcp", addr, d.client.Server)
	require.NoError(t, err)
	d.server = c
}

// scripted connects the client to a server that the test plays.
func scripted(t *testing.T, net sim.Config, nick string) (*desk, *sim.Peer) {
	d := newDesk(t, net, nick)
	ln := d.Listen("tcp", address)
	d.dial(t, address)
	return d, ln.Accept()
}

func TestClientTalks(t *testing.T) {
	d, server := scripted(t, sim.Config{}, "alice")
	server.Want("alice\r\n")
	server.Say("hello\r\nand \x1b[2Jwelcome\xff\n")
	d.screen.Want("hello\nand welcome�\n")
	d.screen.Say("hi\r\nthere\n")
	server.Want("hi\r\nthere\r\n")
	d.screen.Say("/QUIT now\n")
	server.Want("/QUIT now\r\n")
	server.Say("bye, and no li")
	server.Close()
	d.screen.Want("bye, and no li\n")
	d.screen.WantClosed()
	require.NoError(t, d.client.Err())
	require.Zero(t, d.loop.Stats().Channels)
}

// A script in, everything out, however it is cut and however slow.
func TestClientAsAFilter(t *testing.T) {
	for seed := range uint64(30) {
		d := newDesk(t, sim.Config{Seed: seed, MaxRecv: int(seed % 7), Window: 64 + int(seed), RandomCuts: seed%2 == 0, Latency: 1000}, "")
		house := room.New(d.loop, room.Config{})
		ln, err := house.Listen("tcp", address)
		require.NoError(t, err)
		d.dial(t, address)
		script := "bob\nhi\n/who\n"
		if seed%3 == 0 {
			script += "/quit\n"
		} else if seed%3 == 1 {
			script += "/me is off" // without an end
		}
		d.screen.Say(script)
		d.screen.CloseWrite()
		text := ""
		require.True(t, d.Until(func() bool { return d.screen.Ended() }))
		text += d.screen.Read()
		require.Contains(t, text, "-- Welcome to Parley chat.\n")
		require.Contains(t, text, "-- In lobby (1): bob (you)\n")
		switch seed % 3 {
		case 0:
			require.True(t, strings.HasSuffix(text, "-- Goodbye!\n"))
		case 1:
			require.True(t, strings.HasSuffix(text, "* bob is off\n"))
		}
		require.NoError(t, d.client.Err())
		require.Equal(t, 1, d.loop.Stats().Channels) // the listener
		_ = ln.Close()
	}
}

func TestClientServerGone(t *testing.T) {
	d, server := scripted(t, sim.Config{}, "")
	server.Say("hello\n")
	server.Close()
	d.screen.Want("hello\n")
	d.screen.WantClosed()
	require.ErrorIs(t, d.client.Err(), room.ErrServerClosed)

	d, server = scripted(t, sim.Config{}, "")
	d.screen.Say("/quitter\n")
	server.Want("/quitter\r\n")
	server.Reset()
	d.screen.WantClosed()
	require.ErrorIs(t, d.client.Err(), syscall.ECONNRESET)
	require.ErrorContains(t, d.client.Err(), "connection lost: ")
}

func TestClientRefused(t *testing.T) {
	d := newDesk(t, sim.Config{}, "")
	d.dial(t, address)
	d.Settle()
	require.ErrorIs(t, d.client.Err(), syscall.ECONNREFUSED)
	require.False(t, d.opened)
	require.Zero(t, d.loop.Stats().Channels)
}

func TestClientNoTerminal(t *testing.T) {
	d := newDesk(t, sim.Config{}, "")
	d.client.OpenTerminal = func(func(*chat.Conn) chat.Handler) (*chat.Conn, error) { return nil, core.ErrUnsupported }
	ln := d.Listen("tcp", address)
	d.dial(t, address)
	ln.Accept().WantClosed()
	require.ErrorIs(t, d.client.Err(), core.ErrUnsupported)
}

func TestClientTerminalLost(t *testing.T) {
	d, server := scripted(t, sim.Config{}, "")
	d.screen.Reset()
	server.WantClosed()
	require.ErrorContains(t, d.client.Err(), "terminal lost: ")
}

func TestClientShutdown(t *testing.T) {
	d, server := scripted(t, sim.Config{}, "")
	server.Say("hello\n")
	d.screen.Say("half a li")
	d.Settle()
	d.loop.Shutdown(5e9)
	server.WantClosed()
	d.screen.Want("hello\n")
	d.screen.WantClosed()
	require.NoError(t, d.client.Err())
	require.Zero(t, d.Elapsed())

	d, server = scripted(t, sim.Config{Window: 10}, "")
	d.screen.Stall(true)
	server.Say("hello, hello\n")
	d.Settle()
	d.loop.Shutdown(5e9)
	server.WantClosed()
	d.Advance(4e9)
	d.screen.Stall(false)
	d.screen.Want("hello, hello\n")
	d.screen.WantClosed()
}

// The slow side of the two holds the other one back, in both directions.
func TestClientIsHeldBack(t *testing.T) {
	const n = 6000
	line := strings.Repeat("x", 99) + "\n"
	d, server := scripted(t, sim.Config{Window: 1000}, "")
	d.screen.Stall(true)
	server.Say(strings.Repeat(line, n))
	d.Settle()
	require.LessOrEqual(t, d.queued(), 200<<10)
	d.screen.Stall(false)
	require.Len(t, d.screen.Read(), n*len(line))

	server.Stall(true)
	d.screen.Say(strings.Repeat(line, n))
	d.screen.CloseWrite()
	d.Settle()
	require.LessOrEqual(t, d.queued(), 200<<10)
	server.Stall(false)
	require.Len(t, server.Read(), n*(len(line)+1))
	require.True(t, server.Ended())
	server.Close()
	d.screen.WantClosed()
	require.NoError(t, d.client.Err())
}

// queued is all output that waits.
func (d *desk) queued() (n int) {
	for ch := range d.loop.All() {
		if c, ok := chat.Of(ch); ok {
			n += c.Queued()
		}
	}
	return n
}

func TestClientLongLines(t *testing.T) {
	d, server := scripted(t, sim.Config{}, "")
	long := strings.Repeat("x", 100_000)
	server.Say(long + "\nnext\n")
	d.screen.Want(long[:chat.DefaultLimit] + "\nnext\n")
	d.screen.Say(long + "\nnext\n")
	server.Want(long[:chat.DefaultLimit] + "\r\nnext\r\n")
}

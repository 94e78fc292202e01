package room_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/room"
)

const address = "server:6667"

// scene is a house on a simulated network.
type scene struct {
	*sim.World
	loop *core.Loop
	ln   *core.Listener
	*room.House
	log bytes.Buffer
}

func newScene(t testing.TB, net sim.Config, c room.Config) *scene {
	t.Helper()
	net.T = t
	s := &scene{World: sim.New(net)}
	s.loop = s.Loop(core.Options{Logger: slog.New(slog.NewTextHandler(&s.log, nil))})
	s.House = room.New(s.loop, c)
	ln, err := s.House.Listen("tcp", address)
	require.NoError(t, err)
	s.ln = ln
	t.Cleanup(func() {
		require.Zero(t, s.loop.Stats().Panics, s.log.String())
		_ = s.loop.Close()
	})
	return s
}

// enter connects somebody, with a nickname, and passes over the greeting.
func (s *scene) enter(nick string) *sim.Peer {
	p := s.Dial("tcp", address)
	p.Say(nick + "\r\n")
	p.Read()
	return p
}

// lines is what came, without the end of the last line.
func lines(p *sim.Peer) []string {
	text := strings.TrimSuffix(p.Read(), "\r\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\r\n")
}

func TestDialogs(t *testing.T) {
	sim.Dialog(t, "../../testdata/room/*.dialog", func(l *core.Loop, s core.Socket) error {
		house := room.New(l, room.Config{Motd: "Be kind.\n", FloodBurst: -1, MaxLine: 200})
		_, err := chat.Attach(l, s, house.NewSession)
		return err
	})
}

func TestTalk(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{FloodBurst: -1})
	alice := s.enter("alice")
	bob := s.Dial("tcp", address)
	bob.Say("bob\n")
	bob.Want("-- Welcome to Parley chat.\r\n" +
		"-- Your nickname, please: letters, digits, - and _, at most 20.\r\n" +
		"-- Hello, bob. You are in lobby, with alice.\r\n" +
		"-- What you type goes to everybody in the room. /help lists the commands, /quit leaves.\r\n")
	alice.Want("[00:00] -- bob has joined\r\n")
	carol := s.enter("Carol")
	alice.Want("[00:00] -- Carol has joined\r\n")
	bob.Want("[00:00] -- Carol has joined\r\n")

	for _, tt := range []struct{ name, alice, toAlice, toBob, toCarol string }{
		{"said to the others", "hi all", "", "[00:00] <alice> hi all\r\n", "[00:00] <alice> hi all\r\n"},
		{"nothing to say", "", "", "", ""},
		{"spaces are nothing", "   ", "", "", ""},
		{"spaces in front stay", "  x ", "", "[00:00] <alice>   x\r\n", "[00:00] <alice>   x\r\n"},
		{"two slashes", "//usr", "", "[00:00] <alice> /usr\r\n", "[00:00] <alice> /usr\r\n"},
		{"done", "/me waves", "[00:00] * alice waves\r\n", "[00:00] * alice waves\r\n", "[00:00] * alice waves\r\n"},
		{"to one", "/msg carol psst", "-- To Carol alone: psst\r\n", "", "[00:00] (alice, to you alone) psst\r\n"},
		{"to a lookalike of nobody", "/msg car0l psst", "-- Nobody here is called car0l.\r\n", "", ""},
		{"who", "/who", "-- In lobby (3): alice (you), bob, Carol\r\n", "", ""},
		{"taken", "/nick BOB", "-- That name is taken.\r\n", "", ""},
		{"taken, nearly", "/nick b0b", "-- That name is taken: it looks too much like bob, who is here.\r\n", "", ""},
		{"renamed", "/nick al1ce", "[00:00] -- alice is now called al1ce\r\n",
			"[00:00] -- alice is now called al1ce\r\n", "[00:00] -- alice is now called al1ce\r\n"},
		{"renamed back", "/nick Alice", "[00:00] -- al1ce is now called Alice\r\n",
			"[00:00] -- al1ce is now called Alice\r\n", "[00:00] -- al1ce is now called Alice\r\n"},
		{"to another room", "/join tea", "-- You are in tea; nobody else is here yet.\r\n",
			"[00:00] -- Alice has left (gone to tea)\r\n", "[00:00] -- Alice has left (gone to tea)\r\n"},
		{"said there", "anybody?", "", "", ""},
		{"who elsewhere", "/who lobby", "-- In lobby (2): bob, Carol\r\n", "", ""},
		{"to one elsewhere", "/msg bob psst", "-- To bob alone: psst\r\n", "[00:00] (Alice, to you alone) psst\r\n", ""},
		{"rooms", "/rooms", "-- Rooms: lobby (2), tea (1)\r\n", "", ""},
		{"back", "/join LOBBY", "-- You are in lobby, with bob and Carol.\r\n-- Said here before you came:\r\n" +
			"[00:00] <alice> hi all\r\n[00:00] <alice>   x\r\n[00:00] <alice> /usr\r\n[00:00] * alice waves\r\n",
			"[00:00] -- Alice has joined\r\n", "[00:00] -- Alice has joined\r\n"},
		{"the empty room is gone", "/rooms", "-- Rooms: lobby (3)\r\n", "", ""},
		{"quit", "/quit so long", "-- Goodbye!\r\n", "[00:00] -- Alice has left (so long)\r\n", "[00:00] -- Alice has left (so long)\r\n"},
	} {
		alice.Say(tt.alice + "\r\n")
		require.Equal(t, tt.toAlice, alice.Read(), tt.name)
		require.Equal(t, tt.toBob, bob.Read(), tt.name)
		require.Equal(t, tt.toCarol, carol.Read(), tt.name)
	}
	alice.WantClosed()
	bob.CloseWrite()
	bob.WantClosed()
	carol.Want("[00:00] -- bob has left\r\n")
	carol.Reset()
	s.Settle()
	require.Empty(t, s.House.Room("lobby").Members())
	require.Contains(t, s.log.String(), "level=INFO msg=joined nick=alice peer=192.0.2.2:49152")
	require.Contains(t, s.log.String(), "level=INFO msg=left nick=Alice peer=192.0.2.2:49152 cause=quit")
	require.Contains(t, s.log.String(), "level=INFO msg=left nick=bob peer=192.0.2.2:49153 cause=EOF")
	require.Contains(t, s.log.String(), fmt.Sprintf("level=INFO msg=left nick=Carol peer=192.0.2.2:49154 cause=%q", syscall.ECONNRESET))
}

func TestNicknamesOfOthers(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{})
	s.enter("Bill_10")
	p := s.Dial("tcp", address)
	p.Read()
	for _, nick := range []string{"bill_10", "BILL-1O", "bi11_lo", "Blll_Io"} {
		p.Say(nick + "\n")
		require.Contains(t, p.Read(), "That name is taken", nick)
	}
	p.Say("bill10\n")
	require.Contains(t, p.Read(), "-- Hello, bill10. You are in lobby, with Bill_10.")
	p.Say("/quit\n")
	p.Read()
	p = s.enter("bill10") // free again
	p.Say("/who\n")
	p.Want("-- In lobby (2): Bill_10, bill10 (you)\r\n")
}

func TestManyPeople(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{MaxPerAddr: -1})
	nicks := []string{"ann", "ben", "cat", "dan", "eve", "fay", "gus", "hal", "ida", "joe", "kim", "leo", "meg", "ned", "oli", "pam"}
	var last *sim.Peer
	for i, nick := range nicks {
		last = s.Dial("tcp", address)
		last.Say(nick + "\n")
		hello := last.Read()
		switch i {
		case 2:
			require.Contains(t, hello, "You are in lobby, with ann and ben.")
		case 5:
			require.Contains(t, hello, "You are in lobby, with ann, ben, cat, dan and eve.")
		case 6:
			require.Contains(t, hello, "You are in lobby, with ann, ben, cat, dan, eve and 1 more.")
		}
	}
	last.Say("/who\n")
	last.Want("-- In lobby (16): ann, ben, cat, dan, eve, fay, gus, hal, ida, joe, kim,\r\n--    leo, meg, ned, oli, pam (you)\r\n")
}

// stranger is somebody who came by another protocol.
type stranger struct {
	heard []*room.Message
	deaf  bool
}

func (s *stranger) Hear(m *room.Message) bool {
	if !s.deaf {
		s.heard = append(s.heard, m)
	}
	return !s.deaf
}

// Another protocol enters the same rooms; one message is shared by all.
func TestOutlet(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{MaxLine: 100, MaxRooms: 2})
	alice := s.enter("alice")
	var one, two stranger
	m, err := s.House.Enter("mail", &one)
	require.NoError(t, err)
	_, err = s.House.Enter("web", &two)
	require.NoError(t, err)
	_, err = s.House.Enter("WEB", &two)
	require.ErrorIs(t, err, room.ErrTaken)
	_, err = s.House.Enter("a b", &two)
	require.ErrorIs(t, err, room.ErrName)
	require.Equal(t, "mail", m.Nick())
	require.Equal(t, []string{"alice", "mail", "web"}, m.Room().Members())
	alice.Want("[00:00] -- mail has joined\r\n[00:00] -- web has joined\r\n")
	one.heard = nil

	alice.Say("hi\n")
	s.Settle()
	require.Len(t, one.heard, 1)
	require.Same(t, one.heard[0], two.heard[0])
	require.Equal(t, "[00:00] <alice> hi\r\n", string(one.heard[0].Line()))
	require.Same(t, &one.heard[0].Line()[0], &two.heard[0].Line()[0])
	require.Equal(t, "alice", one.heard[0].From)
	require.Equal(t, room.Said, one.heard[0].Kind)
	require.Equal(t, "lobby", one.heard[0].Room)
	require.Equal(t, s.loop.Now(), one.heard[0].Time)

	require.NoError(t, m.Say("from\x1b[2J afar\r\nand a second line"))
	alice.Want("[00:00] <mail> from afar and a second line\r\n")
	require.NoError(t, m.Act("waves"))
	alice.Want("[00:00] * mail waves\r\n")
	require.ErrorIs(t, m.Say(strings.Repeat("x", 101)), core.ErrTooLong)
	require.NoError(t, m.Say(" "))
	to, err := m.Tell("ALICE", "psst")
	require.NoError(t, err)
	require.Equal(t, "alice", to)
	alice.Want("[00:00] (mail, to you alone) psst\r\n")
	_, err = m.Tell("nobody", "psst")
	require.ErrorIs(t, err, room.ErrNobody)
	two.deaf = true
	_, err = m.Tell("web", "psst")
	require.ErrorIs(t, err, room.ErrMissed)
	alice.Say("/msg web psst\n")
	alice.Want("-- Not delivered: their connection is too slow at the moment.\r\n")

	require.NoError(t, s.House.Post("Lobby", "carol", "smtp", "a line from outside"))
	alice.Want("[00:00] <carol via smtp> a line from outside\r\n")
	require.ErrorIs(t, s.House.Post("tea", "carol", "smtp", "x"), room.ErrNoRoom)
	require.ErrorIs(t, s.House.Post("lobby", "alice> x", "smtp", "x"), room.ErrName)
	require.ErrorIs(t, s.House.Post("lobby", "carol", "", "x"), room.ErrName)
	require.ErrorIs(t, s.House.Post("lobby", "carol", "smtp", strings.Repeat("x", 101)), core.ErrTooLong)
	var said []string
	for _, m := range s.House.Room("lobby").History() {
		said = append(said, m.Text)
	}
	require.Equal(t, []string{"hi", "from afar and a second line", "waves", "a line from outside"}, said)

	require.NoError(t, m.Join("tea"))
	require.Equal(t, "tea", m.Room().Name())
	require.Len(t, s.House.Rooms(), 2)
	require.ErrorIs(t, m.Join("coffee"), room.ErrTooManyRooms)
	m.Leave("")
	m.Leave("")
	require.Nil(t, m.Room())
	require.Len(t, s.House.Rooms(), 1)
	_, err = m.Tell("alice", "x")
	for _, err := range []error{err, m.Say("x"), m.Act("x"), m.Rename("x"), m.Join("x")} {
		require.ErrorIs(t, err, room.ErrLeft)
	}
	_, err = s.House.Enter("mail", &one)
	require.NoError(t, err)
	require.Equal(t, 20, s.House.Config().History)
}

func TestShutdown(t *testing.T) {
	s := newScene(t, sim.Config{Latency: 10}, room.Config{})
	alice, bob := s.enter("alice"), s.enter("bob")
	alice.Say("last words, half a li")
	nameless := s.Dial("tcp", address)
	nameless.Read()
	alice.Read()
	s.loop.Shutdown(5e9)
	for _, p := range []*sim.Peer{alice, bob, nameless} {
		p.Want("-- The server shuts down. Goodbye!\r\n")
		p.WantClosed()
	}
	_, err := s.House.Enter("carol", new(stranger))
	require.ErrorIs(t, err, core.ErrShutdown)
	require.Zero(t, s.loop.Stats().Channels)
}

// Who does not read is waited for no longer than the grace.
func TestShutdownWithSlowReader(t *testing.T) {
	s := newScene(t, sim.Config{Window: 100}, room.Config{})
	alice, bob := s.enter("alice"), s.enter("bob")
	bob.Stall(true)
	alice.Say("/me " + strings.Repeat("x", 500) + "\n")
	alice.Read()
	s.loop.Shutdown(5e9)
	alice.Want("-- The server shuts down. Goodbye!\r\n")
	alice.WantClosed()
	require.Equal(t, 1, s.loop.Stats().Channels)
	start := s.Now()
	require.True(t, s.Until(func() bool { return s.loop.Stats().Channels == 0 }))
	require.Equal(t, 5.0, s.Now().Sub(start).Seconds())
}

// TestMain silences the loops that have no logger of their own.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	m.Run()
}

// conns are the conversations of the house's side.
func (s *scene) conns() func(yield func(*chat.Conn) bool) {
	return func(yield func(*chat.Conn) bool) {
		for d := range s.loop.All() {
			if c, ok := chat.Of(d); ok && !yield(c) {
				return
			}
		}
	}
}

package room_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/room"
)

func TestMaxLine(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{MaxLine: 10})
	alice, bob := s.enter("alice"), s.enter("bob")
	alice.Read()
	for _, tt := range []struct{ say, toAlice, toBob string }{
		{"0123456789\n", "", "[00:00] <alice> 0123456789\r\n"},
		{"0123456789\r\n", "", "[00:00] <alice> 0123456789\r\n"},
		{"0123456789x\n", "-- That line is longer than 10 bytes; it was not said.\r\n", ""},
		{strings.Repeat("x", 100_000) + "\n", "-- That line is longer than 10 bytes; it was not said.\r\n", ""},
		{"on we go\n", "", "[00:00] <alice> on we go\r\n"},
	} {
		alice.Say(tt.say)
		require.Equal(t, tt.toAlice, alice.Read())
		require.Equal(t, tt.toBob, bob.Read())
	}
}

func TestNameLength(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{NameLength: 4})
	p := s.Dial("tcp", address)
	p.Say("alice\nbill\n")
	text := p.Read()
	require.Contains(t, text, "-- That is no name: use letters, digits, - and _, at most 4, a letter or digit first.\r\n-- Please try another nickname.\r\n-- Hello, bill.")
	p.Say("/join lounge\n/join bar\n")
	p.Want("-- That is no name: use letters, digits, - and _, at most 4, a letter or digit first.\r\n-- You are in bar; nobody else is here yet.\r\n")
}

func TestMaxRooms(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{MaxRooms: 3})
	alice, bob, carol := s.enter("alice"), s.enter("bob"), s.enter("carol")
	alice.Say("/join one\n")
	bob.Say("/join two\n")
	s.Settle()
	alice.Read()
	bob.Read()
	carol.Read()
	carol.Say("/join three\n/join two\n")
	carol.Want("-- There are too many rooms already.\r\n-- You are in two, with bob.\r\n")
	bob.Say("/join lobby\n")
	s.Settle()
	carol.Say("/join lobby\n") // the room goes
	s.Settle()
	carol.Read()
	carol.Say("/join three\n")
	carol.Want("-- You are in three; nobody else is here yet.\r\n")
	require.Len(t, s.House.Rooms(), 3)
}

func TestHistory(t *testing.T) {
	for _, tt := range []struct {
		history int
		shown   []string
	}{
		{-1, nil},
		{1, []string{"c"}},
		{2, []string{"b", "c"}},
		{3, []string{"a", "b", "c"}},
		{4, []string{"a", "b", "c"}},
	} {
		s := newScene(t, sim.Config{}, room.Config{History: tt.history})
		alice := s.enter("alice")
		alice.Say("a\nb\nc\n/nick ann\n/msg ann x\n")
		s.Settle()
		bob := s.Dial("tcp", address)
		bob.Say("bob\n")
		var shown []string
		for _, line := range lines(bob) {
			if text, ok := strings.CutPrefix(line, "[00:00] <alice> "); ok {
				shown = append(shown, text)
			}
		}
		require.Equal(t, tt.shown, shown, "history of %d", tt.history)
		require.Len(t, s.House.Room("lobby").History(), len(tt.shown))
	}
}

func TestFlood(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{FloodBurst: 5, FloodRate: 2})
	alice, bob := s.enter("alice"), s.enter("bob") // a line each
	alice.Read()
	say := func(n int) {
		for i := range n {
			alice.Say(fmt.Sprintf("%d\n", i))
		}
	}
	s.Advance(time.Minute) // no more than the burst is saved up
	say(8)
	require.Len(t, lines(bob), 5)
	alice.Want("-- Not so fast! Your lines are not said. If it goes on, you will be disconnected.\r\n")
	alice.WantNothing()

	s.Advance(1900 * time.Millisecond) // 3 in debt, and one for the line: 4 tokens are 2 s
	alice.Say("early\n")
	require.Empty(t, lines(bob))
	s.Advance(700 * time.Millisecond)
	alice.Say("in time\n")
	alice.Want("-- 4 of your lines were not said.\r\n")
	bob.Want("[00:01] <alice> in time\r\n")

	s.Advance(time.Minute)
	say(11)
	require.Len(t, lines(bob), 6)
	alice.Want("-- Not so fast! Your lines are not said. If it goes on, you will be disconnected.\r\n" +
		"-- You are disconnected because of flooding.\r\n")
	alice.WantClosed()
	require.Contains(t, s.log.String(), "level=WARN msg=left nick=alice")
	require.Contains(t, s.log.String(), "cause=flooding")
	bob.WantNothing()
}

// The others learn why; a flood of nicknames, of lines that are too long or empty is one, too.
func TestFloodOfAnything(t *testing.T) {
	for _, line := range []string{"x", "", "/nick a\n/nick b", "/who", strings.Repeat("x", 20), "/msg bob x"} {
		s := newScene(t, sim.Config{}, room.Config{FloodBurst: 5, MaxLine: 15})
		alice, bob := s.enter("alice"), s.enter("bob")
		alice.Say(strings.Repeat(line+"\n", 1000))
		s.Settle()
		require.Contains(t, alice.Read(), "-- You are disconnected because of flooding.\r\n")
		alice.WantClosed()
		heard := lines(bob)
		require.LessOrEqual(t, len(heard), 7, line)
		require.Regexp(t, ` -- (alice|a|b) has left \(flooding\)$`, heard[len(heard)-1])
	}
	s := newScene(t, sim.Config{}, room.Config{FloodBurst: 5})
	p := s.Dial("tcp", address)
	p.Say(strings.Repeat("!\n", 1000))
	require.Contains(t, p.Read(), "-- You are disconnected because of flooding.\r\n")
	p.WantClosed()
}

func TestFloodOff(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{FloodBurst: -1})
	alice, bob := s.enter("alice"), s.enter("bob")
	alice.Say(strings.Repeat("x\n", 1000))
	require.Len(t, lines(bob), 1000)
}

// A script that says much and quits gets to its end.
func TestQuitIsHeardInAFlood(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{FloodBurst: 5})
	alice := s.Dial("tcp", address)
	alice.Say("alice\n" + strings.Repeat("x\n", 8) + "/quit done\n")
	text := alice.Read()
	require.Contains(t, text, "Not so fast!")
	require.True(t, strings.HasSuffix(text, "-- 4 of your lines were not said.\r\n-- Goodbye!\r\n"), text)
	alice.WantClosed()
	require.Contains(t, s.log.String(), "cause=quit")
}

func TestIdle(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{IdleTimeout: 90 * time.Minute, IdleWarning: 10 * time.Minute})
	alice, bob := s.enter("alice"), s.enter("bob")
	alice.Read()
	for range 16 { // what others say does not count, half a line neither
		s.Advance(5 * time.Minute)
		alice.Say("x")
		bob.Say("x\n")
	}
	require.Contains(t, alice.Read(), "-- Still there? In 10m you will be disconnected. An empty line is enough to stay.\r\n")
	s.Advance(5 * time.Minute)
	bob.Say("x\n")
	alice.Want("[01:25] <bob> x\r\n")
	s.Advance(5 * time.Minute)
	alice.Want("-- You are disconnected: nothing from you for 1h30m.\r\n")
	alice.WantClosed()
	bob.Want("[01:30] -- alice has left (idle)\r\n")
	require.Contains(t, s.log.String(), "cause=idle")
}

func TestIdleOff(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{IdleTimeout: -1})
	alice := s.enter("alice")
	s.Advance(100 * time.Hour)
	alice.WantNothing()
}

// With a short timeout the warning comes half-way.
func TestIdleWarningIsBounded(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{IdleTimeout: 10 * time.Second})
	alice := s.enter("alice")
	s.Advance(5 * time.Second)
	alice.Want("-- Still there? In 5s you will be disconnected. An empty line is enough to stay.\r\n")
	alice.Say("\n")
	s.Advance(4 * time.Second)
	alice.WantNothing()
}

func TestNickTimeout(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{NickTimeout: 10 * time.Second})
	p := s.Dial("tcp", address)
	for range 9 { // attempts do not make it longer
		s.Advance(time.Second)
		p.Say("!\n")
	}
	p.Read()
	s.Advance(time.Second)
	p.Want("-- You are disconnected: no nickname for 10s.\r\n")
	p.WantClosed()
	require.NotContains(t, s.log.String(), "left")
}

func TestMaxConns(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{MaxConns: 2})
	alice, bob := s.enter("alice"), s.enter("bob")
	alice.Read()
	p := s.Dial("tcp", address)
	p.Want("-- There are too many connections at the moment. Please try again later.\r\n")
	p.WantClosed()
	bob.Say("/quit\n")
	s.Settle()
	p = s.Dial("tcp", address)
	require.Contains(t, p.Read(), "Welcome")
}

func TestMaxPerAddr(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{MaxPerAddr: 2})
	s.enter("alice")
	s.enter("bob")
	p := s.Dial("tcp", address)
	p.Want("-- There are too many connections at the moment. Please try again later.\r\n")
	p.WantClosed()
	p = s.DialFrom("tcp", "192.0.2.77:0", address)
	require.Contains(t, p.Read(), "Welcome")
}

var skippedNote = regexp.MustCompile(`^-- Your connection is slow: (\d+) messages to you were skipped\.$`)

// A slow reader misses messages, is told how many, and nobody else is held up.
func TestSlowReader(t *testing.T) {
	const (
		messages = 500
		skip     = 8 << 10
		window   = 4 << 10
	)
	for seed := range uint64(3) {
		s := newScene(t, sim.Config{Seed: seed, Window: window}, room.Config{SkipAbove: skip, FloodBurst: -1})
		alice, bob, slow := s.enter("alice"), s.enter("bob"), s.enter("slow")
		alice.Read()
		bob.Read()
		slow.Stall(true)
		sent, heard, skipped := 0, 0, 0
		speak := func(n int) {
			for range n {
				alice.Say(fmt.Sprintf("message %d\n", sent))
				s.Settle()
				bob.Want(fmt.Sprintf("[00:00] <alice> message %d\r\n", sent)) // at once, and all of them
				sent++
				require.LessOrEqual(t, s.queued(), skip)
			}
		}
		listen := func() {
			for _, line := range lines(slow) {
				if m := skippedNote.FindStringSubmatch(line); m != nil {
					n, _ := strconv.Atoi(m[1])
					skipped += n
					continue
				}
				require.Equal(t, fmt.Sprintf("[00:00] <alice> message %d", heard+skipped), line)
				heard++
			}
		}
		speak(messages)
		slow.Stall(false)
		listen()
		require.Positive(t, skipped)
		require.Equal(t, messages, heard+skipped)
		speak(1)
		listen()
		slow.Stall(true) // and once more, in small steps
		for range 50 {
			speak(20)
			slow.Take(100 + int(seed))
			s.Settle()
		}
		slow.Stall(false)
		listen()
		require.Equal(t, sent, heard+skipped)
		speak(1)
		listen()
		require.Equal(t, sent, heard+skipped)
	}
}

// queued is the longest queue of output there is.
func (s *scene) queued() (n int) {
	for c := range s.conns() {
		n = max(n, c.Queued())
	}
	return n
}

// In one event so much can be said that the queue is too long only until that is over.
func TestSkippedWithinOneEvent(t *testing.T) {
	s := newScene(t, sim.Config{}, room.Config{SkipAbove: 100, FloodBurst: -1})
	alice, bob := s.enter("alice"), s.enter("bob")
	alice.Say(strings.Repeat("0123456789\n", 50))
	heard := lines(bob)
	require.Len(t, heard, 4)
	require.Equal(t, "-- Your connection is slow: 47 messages to you were skipped.", heard[3])
	alice.Say("x\n")
	bob.Want("[00:00] <alice> x\r\n")
}

// With the default that does not happen to somebody who reads.
func TestNothingSkippedWithinOneEvent(t *testing.T) {
	s := newScene(t, sim.Config{Window: 1 << 20}, room.Config{FloodBurst: -1})
	alice, bob := s.enter("alice"), s.enter("bob")
	alice.Say(strings.Repeat("x\n", 30_000))
	s.Settle()
	require.Len(t, lines(bob), 30_000)
}

func TestDropAbove(t *testing.T) {
	s := newScene(t, sim.Config{Window: 1000}, room.Config{SkipAbove: 2000, DropAbove: 10_000, FloodBurst: -1})
	alice, bob, slow := s.enter("alice"), s.enter("bob"), s.enter("slow")
	alice.Read()
	slow.Stall(true)
	line := strings.Repeat("x", 80)
	said := 0
	for !slow.Ended() && said < 1000 {
		alice.Say(line + "\n")
		s.Settle()
		if s.House.Room("lobby").Members()[len(s.House.Room("lobby").Members())-1] != "slow" {
			break
		}
		said++
	}
	require.InDelta(t, (10_000+1000)/100, said, 3)
	heard := lines(bob)
	require.Equal(t, "[00:00] -- slow has left (too slow)", heard[len(heard)-1])
	require.Contains(t, alice.Read(), "slow has left (too slow)")
	require.Contains(t, s.log.String(), `level=WARN msg=left nick=slow peer=192.0.2.2:49154 cause="too slow to take what is said"`)
}

func TestStallTimeout(t *testing.T) {
	s := newScene(t, sim.Config{Window: 100}, room.Config{StallTimeout: 30 * time.Second})
	alice, slow := s.enter("alice"), s.enter("slow")
	alice.Read()
	slow.Stall(true)
	alice.Say(strings.Repeat("x", 200) + "\n")
	s.Advance(29 * time.Second)
	slow.Take(10) // that is enough
	s.Advance(29 * time.Second)
	alice.WantNothing()
	s.Advance(time.Second)
	alice.Want("[00:00] -- slow has left (too slow)\r\n")
	require.Contains(t, s.log.String(), "level=WARN msg=left nick=slow")
}

// Who takes a byte now and then only keeps the others' messages in memory.
func TestStallRate(t *testing.T) {
	for _, c := range []struct {
		rate, take int64 // every 10 seconds
		stays      bool
	}{{0, 40, false}, {0, 70, true}, {100, 900, false}, {100, 1300, true}, {-1, 1, true}} {
		s := newScene(t, sim.Config{Window: 100}, room.Config{StallRate: c.rate})
		alice, slow := s.enter("alice"), s.enter("slow")
		alice.Read()
		slow.Stall(true)
		for range 20 {
			alice.Say(strings.Repeat("x", 1000) + "\n")
		}
		for range 9 {
			slow.Take(int(c.take))
			s.Advance(10 * time.Second)
		}
		require.Equal(t, !c.stays, strings.Contains(alice.Read(), "slow has left (too slow)"), "%+v", c)
	}
}

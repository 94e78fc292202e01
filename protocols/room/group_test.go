package room_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/room"
)

// groupScene is a scene whose people are on several loops.
func groupScene(t *testing.T, loops int, net sim.Config, o core.Options, c room.Config) (*scene, *core.Group) {
	t.Helper()
	net.T = t
	s := &scene{World: sim.New(net)}
	o.Logger = slog.New(slog.NewTextHandler(&s.log, nil))
	g := s.Group(loops, o)
	s.House = room.New(g, c)
	ln, err := s.House.Listen("tcp", address)
	require.NoError(t, err)
	s.ln = ln
	t.Cleanup(func() {
		require.Zero(t, g.Stats().Panics, s.log.String())
		require.NoError(t, g.Close())
	})
	return s, g
}

// What people see is the same on three loops as on one.
func TestGroupTalk(t *testing.T) {
	talk := func(s *scene) string {
		var said strings.Builder
		var people []*sim.Peer
		see := func() {
			for i, p := range people {
				for _, line := range lines(p) {
					fmt.Fprintf(&said, "%d %s\n", i, line)
				}
			}
		}
		for i := range 5 {
			p := s.Dial("tcp", address)
			p.Say(fmt.Sprintf("nick%d\n", i))
			people = append(people, p)
			see()
		}
		for _, step := range []struct {
			who  int
			says string
		}{
			{0, "hello\n"}, {1, "/me waves\n"}, {2, "one\ntwo\n/who\nthree\n"}, {3, "/msg nick4 psst\n"}, {4, "/msg nobody psst\n"},
			{1, "/join den\n"}, {2, "/join DEN\n"}, {1, "in here\n"}, {0, "/rooms\n/who den\n"}, {2, "/nick zed\n"}, {3, "/nick Nick0\n"},
			{2, "/join lobby\n"}, {4, "/who\n/quit so long\nnot heard\n"}, {3, "bye\n"},
		} {
			people[step.who].Say(step.says)
			see()
		}
		people[3].Say("last words\n/who\n")
		people[3].CloseWrite()
		see()
		people[4].WantClosed()
		people[3].WantClosed()
		return said.String()
	}
	one := talk(newScene(t, sim.Config{}, room.Config{FloodBurst: -1}))
	require.Contains(t, one, "In lobby (")
	for seed := range uint64(10) {
		s, g := groupScene(t, 3, sim.Config{Seed: seed}, core.Options{}, room.Config{FloodBurst: -1})
		require.Equal(t, one, talk(s))
		for _, l := range g.Loops() {
			require.NotZero(t, l.Stats().Accepted)
		}
	}
}

// A message goes to each loop once, however many members are there.
func TestGroupOnePostForEachLoop(t *testing.T) {
	posts := make(map[int]int)
	s, _ := groupScene(t, 3, sim.Config{}, core.Options{Trace: func(e *core.Event) {
		if e.Kind == core.TracePost {
			posts[e.Loop]++
		}
	}}, room.Config{FloodBurst: -1, MaxPerAddr: -1})
	var people []*sim.Peer
	for i := range 60 {
		people = append(people, s.enter(fmt.Sprintf("n-%d-x", i)))
	}
	for _, p := range people {
		p.Read()
	}
	clear(posts)
	people[0].Say("hello\n") // on the house's own loop
	s.Settle()
	require.Equal(t, map[int]int{1: 1, 2: 1}, posts)
	clear(posts)
	people[1].Say("hello\n") // on another one
	s.Settle()
	require.Equal(t, map[int]int{0: 1, 1: 1, 2: 1}, posts)
	for i, p := range people {
		require.Len(t, lines(p), map[bool]int{true: 1, false: 2}[i < 2])
	}
}

// A member that does not read costs only itself, also on another loop than the house's.
func TestGroupSlowMember(t *testing.T) {
	s, _ := groupScene(t, 2, sim.Config{Window: 4096}, core.Options{}, room.Config{FloodBurst: -1, SkipAbove: 8192, DropAbove: 64 << 10})
	alice, bob, carol := s.enter("alice"), s.enter("bob"), s.enter("carol")
	alice.Read()
	bob.Stall(true)
	text := strings.Repeat("x", 900)
	for range 30 {
		alice.Say(text + "\n")
		s.Settle()
	}
	require.Len(t, lines(carol), 30)
	bob.Stall(false)
	require.Contains(t, bob.Read(), "Your connection is slow")
	bob.Stall(true)
	for range 100 {
		alice.Say(text + "\n")
		s.Settle()
	}
	require.Contains(t, carol.Read(), "-- bob has left (too slow)")
}

// With a bound of posts that is much too small everything still comes, in order.
func TestGroupFewPosts(t *testing.T) {
	s, _ := groupScene(t, 3, sim.Config{}, core.Options{MaxPosts: 1}, room.Config{FloodBurst: -1})
	var people []*sim.Peer
	for i := range 6 {
		people = append(people, s.enter(fmt.Sprintf("n-%d-x", i)))
	}
	s.Advance(time.Second)
	for _, p := range people {
		p.Read()
	}
	const messages = 50
	for i := range messages {
		people[0].Say(fmt.Sprintf("%d\n", i))
		people[1].Say("\n")
	}
	s.Advance(10 * time.Second)
	for _, p := range people[1:] {
		got := lines(p)
		require.Len(t, got, messages)
		for i, line := range got {
			require.True(t, strings.HasSuffix(line, fmt.Sprintf("> %d", i)), line)
		}
	}
}

// A shutdown says good-bye to everybody on every loop, and is not news.
func TestGroupShutdown(t *testing.T) {
	s, g := groupScene(t, 3, sim.Config{}, core.Options{}, room.Config{})
	var people []*sim.Peer
	for i := range 6 {
		people = append(people, s.enter(fmt.Sprintf("n-%d-x", i)))
	}
	for _, p := range people {
		p.Read()
	}
	g.Shutdown(time.Minute)
	require.NoError(t, g.Run(t.Context()))
	for _, p := range people {
		require.Equal(t, "-- The server shuts down. Goodbye!\r\n", p.Read())
		p.WantClosed()
	}
	require.Zero(t, s.ln.Open())
}

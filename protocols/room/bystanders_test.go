package room_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/room"
)

// Whatever one client does, the others talk as if it were not there: each line comes after two ways through the network,
// and nothing comes but the news of its going.
func TestOthersNoticeNothing(t *testing.T) {
	const latency = 20 * time.Millisecond
	long := strings.Repeat("x", 900)
	for _, tt := range []struct {
		name  string
		enter string
		now   func(p *sim.Peer)        // at the beginning
		each  func(p *sim.Peer, i int) // after each line of the others
		after func(p *sim.Peer)        // after a while
		left  string                   // what the others are told; "": nothing
	}{
		{name: "listens", enter: "mallory\n"},
		{name: "never reads", enter: "mallory\n", now: func(p *sim.Peer) { p.Stall(true) }, left: "too slow"},
		{name: "reads a byte at a time", enter: "mallory\n",
			now: func(p *sim.Peer) { p.Stall(true) }, each: func(p *sim.Peer, i int) { p.Take(1) }, left: "too slow"},
		{name: "resets", enter: "mallory\n", after: (*sim.Peer).Reset, left: "connection lost"},
		{name: "resets without having read", enter: "mallory\n", now: func(p *sim.Peer) { p.Stall(true) }, after: (*sim.Peer).Reset, left: "connection lost"},
		{name: "closes within a line", enter: "mallory\nhalf a li", after: (*sim.Peer).Close, left: "-"},
		{name: "half-closes within a line", enter: "mallory\nhalf a li", after: (*sim.Peer).CloseWrite, left: "-"},
		{name: "vanishes within a line", enter: "mallory\nhalf a li", after: func(p *sim.Peer) { p.Stall(true) }, left: "too slow"},
		{name: "has no nickname and vanishes", enter: "mallo"},
		{name: "has no nickname and resets", enter: "", after: (*sim.Peer).Reset},
		{name: "begins a subnegotiation and vanishes", enter: "mallory\n\xff\xfa", after: func(p *sim.Peer) { p.Stall(true) }, left: "too slow"},
		{name: "asks and asks and never reads", enter: "mallory\n", now: func(p *sim.Peer) { p.Stall(true) },
			each: func(p *sim.Peer, i int) { p.Say("/help\n\xff\xfd\x06") }, left: "too slow"},
		{name: "sends a line without an end", enter: "mallory\n", each: func(p *sim.Peer, i int) { p.Say(long) }},
		{name: "sends nothing but telnet", enter: "mallory\n", each: func(p *sim.Peer, i int) { p.Say(strings.Repeat("\xff\xfb\x01", 500)) }},
		{name: "floods", enter: "mallory\n", after: func(p *sim.Peer) { p.Say(strings.Repeat("/rooms\n", 5000)) }, left: "flooding"},
		{name: "quits", enter: "mallory\n", after: func(p *sim.Peer) { p.Say("/quit\n" + strings.Repeat("more\n", 5000)) }, left: "-"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(3) {
				s := newScene(t, sim.Config{Seed: seed, Latency: latency, Window: 2000},
					room.Config{SkipAbove: 4000, DropAbove: 20_000, StallTimeout: 20 * time.Second, FloodRate: 5, MaxConns: 4})
				alice, bob := s.enter("alice"), s.enter("bob")
				alice.Read()
				mallory := s.Dial("tcp", address)
				mallory.Say(tt.enter)
				s.Settle()
				alice.Read()
				bob.Read()
				if tt.now != nil {
					tt.now(mallory)
				}
				var news []string
				hear := func(p *sim.Peer, want string) {
					t.Helper()
					s.Advance(2 * latency)
					heard := false
					for p.Unread() > 0 {
						line := p.WantLine()
						if strings.Contains(line, "] -- mallory ") {
							if p == alice {
								news = append(news, line)
							}
							continue
						}
						require.Equal(t, want, line)
						heard = true
					}
					require.True(t, heard || want == "", want)
				}
				for i := range 100 {
					if i == 20 && tt.after != nil {
						tt.after(mallory)
					}
					text := fmt.Sprintf("%d %s", i, long[:300])
					alice.Say(text + "\n")
					hear(bob, fmt.Sprintf("[00:00] <alice> %s\r\n", text))
					hear(alice, "")
					if tt.each != nil {
						tt.each(mallory, i)
					}
					s.Advance(400 * time.Millisecond)
				}
				s.Advance(20 * time.Second)
				hear(alice, "")
				hear(bob, "")
				switch {
				case tt.left == "":
					require.Empty(t, news)
				case tt.left == "-":
					require.Len(t, news, 1)
					require.Regexp(t, `^\[00:0\d\] -- mallory has left\r\n$`, news[0])
				default:
					require.Len(t, news, 1)
					require.Contains(t, news[0], "-- mallory has left ("+tt.left+")")
				}
			}
		})
	}
}

// Everybody vanishes at once; the house goes on.
func TestAllVanish(t *testing.T) {
	s := newScene(t, sim.Config{Window: 500}, room.Config{MaxPerAddr: -1})
	for i := range 50 {
		s.enter(fmt.Sprintf("n%d", i+2)).Stall(true)
	}
	last := s.enter("last")
	last.Say(strings.Repeat("x", 600) + "\n")
	s.Advance(3 * time.Minute)
	last.Read()
	last.Say("/who\n")
	last.Want("-- In lobby (1): last (you)\r\n")
	require.Equal(t, 2, s.loop.Stats().Channels) // and the listener
}

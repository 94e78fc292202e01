package chat

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// scripter is the handler of a stream: it sets the next terminator at each token, skips what is too long, and does at
// random what must not change the result.
type scripter struct {
	x     *stream
	rng   *rand.Rand
	log   eventLog
	found int
}

func (s *scripter) CollectIncomingData(_ *Conn, data []byte) error {
	s.log.collect(data)
	return nil
}

func (s *scripter) HandleTooLong(c *Conn) error {
	s.log.add("too long")
	c.SkipToken()
	return nil
}

func (s *scripter) FoundTerminator(c *Conn) error {
	s.log.add("found")
	s.found++
	if next := s.x.script[s.found%len(s.x.script)]; next != c.Terminator() || s.rng.IntN(2) == 0 {
		c.SetTerminator(next)
	}
	switch s.rng.IntN(12) {
	case 0:
		c.Pause()
		c.AfterFunc(time.Second, c.Resume)
	case 1:
		c.Pause()
		c.Resume()
	case 2:
		c.SetLimit(s.x.limit)
	case 3:
		return c.SetHandler(asks{s})
	case 4:
		return c.SetHandler(s)
	case 5:
		c.AskFirst()
	case 6:
		_, err := c.Upgrade(func(s core.Socket) (core.Layered, error) { return &sim.Tap{Socket: s}, nil }, true)
		return err
	}
	return nil
}

// asks is a scripter that looks at first octets.
type asks struct{ *scripter }

func (a asks) HandleFirst(c *Conn, _ byte) error {
	if a.rng.IntN(3) == 0 {
		c.Pause()
		c.AfterFunc(time.Second, c.Resume)
	}
	return nil
}

// Rule 10 for whole conversations: however the bytes were cut, traced or not, paused or not, the events are those of the
// model, which reads the stream as one piece.
func TestSplitInvarianceConn(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 11))
	for n := range 500 {
		x := randomStream(rng)
		want := x.model()
		for _, c := range []sim.Config{
			{Untraced: true},
			{},
			{Untraced: true, RandomCuts: true, Window: 1 + rng.IntN(40), Again: 0.1, Spurious: 0.1},
			{RandomCuts: true, MaxRecv: 1 + rng.IntN(5), Latency: time.Millisecond, Jitter: 3 * time.Second},
		} {
			c.T, c.Seed = t, uint64(n)
			w := sim.New(c)
			l := w.Loop(core.Options{})
			sock, peer := w.Pair()
			s := &scripter{x: x, rng: rand.New(rand.NewPCG(uint64(n), 1))}
			_, err := Attach(l, sock, func(c *Conn) Handler {
				c.SetTerminator(x.script[0])
				c.SetLimit(x.limit)
				c.SetBlockLimit(x.block)
				return s
			})
			require.NoError(t, err)
			rest := x.data
			for rest != "" {
				k := 1 + rng.IntN(len(rest))
				peer.Say(rest[:k])
				rest = rest[k:]
				if rng.IntN(2) == 0 {
					w.Advance(time.Minute)
				}
			}
			peer.CloseWrite()
			w.Advance(time.Hour)
			if got := s.log.String(); got != want {
				t.Fatalf("script %v limit %d block %d\ndata %q, %+v\nwant %s\n got %s", x.script, x.limit, x.block, x.data, c, want, got)
			}
			require.NoError(t, l.Close())
		}
	}
}

// The same for Lines, which has ways of its own: a line is what bufio would say it is.
func TestSplitInvarianceLines(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 12))
	for n := range 400 {
		var data strings.Builder
		for range rng.IntN(40) {
			data.WriteString([]string{"\n", "\r\n", "\r", "a", "bc", "\x00", "\xff"}[rng.IntN(7)])
		}
		term := []Terminator{Line, CRLF, Literal("\n")}[rng.IntN(3)]
		parts := strings.Split(data.String(), map[Terminator]string{Line: "\n", CRLF: "\r\n", Literal("\n"): "\n"}[term])
		want := parts[:len(parts)-1]
		if term == Line {
			for i := range want {
				want[i] = strings.TrimSuffix(want[i], "\r")
			}
		}
		for _, c := range []sim.Config{{Untraced: true}, {}, {Untraced: true, RandomCuts: true}, {RandomCuts: true}} {
			c.T, c.Seed = t, uint64(n)
			w := sim.New(c)
			l := w.Loop(core.Options{})
			sock, peer := w.Pair()
			got := []string{}
			_, err := Attach(l, sock, func(c *Conn) Handler {
				c.SetTerminator(term)
				return Lines(func(c *Conn, line []byte) error {
					got = append(got, string(line))
					if len(got)%5 == 0 {
						c.Pause()
						c.AfterFunc(time.Second, c.Resume)
					}
					return nil
				})
			})
			require.NoError(t, err)
			peer.Say(data.String())
			peer.CloseWrite()
			w.Advance(time.Hour)
			require.Equal(t, append([]string{}, want...), got, "%v %q %+v", term, data.String(), c)
			require.NoError(t, l.Close())
		}
	}
}

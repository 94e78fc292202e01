package core

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// spyPoller counts wake-ups and can fail.
type spyPoller struct {
	Poller
	wakes atomic.Int64
	fail  atomic.Pointer[error]
}

func (p *spyPoller) Wake() error {
	p.wakes.Add(1)
	return p.Poller.Wake()
}

func (p *spyPoller) Wait(timeout time.Duration, ready []Ready) ([]Ready, error) {
	if err := p.fail.Load(); err != nil {
		return ready, *err
	}
	return p.Poller.Wait(timeout, ready)
}

func spiedGroup(t *testing.T, n int) (*Group, []*spyPoller) {
	t.Helper()
	if len(Backends()) == 0 {
		t.Skip("no poller on this platform")
	}
	g, err := NewGroup(n, Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = g.Close() })
	var spies []*spyPoller
	for _, l := range g.loops {
		spy := &spyPoller{Poller: l.poller}
		l.poller = spy
		spies = append(spies, spy)
	}
	return g, spies
}

// What a pass posts to another loop wakes that once.
func TestPostToWakesOnce(t *testing.T) {
	g, spies := spiedGroup(t, 2)
	from, to := g.loops[0], g.loops[1]
	ran := 0
	require.True(t, from.PostTo(to, func() { ran++ }))
	require.Zero(t, spies[1].wakes.Load(), "it does not wait")
	_, err := to.Step(0)
	require.NoError(t, err)

	to.asleep.Store(true)
	from.AfterFunc(0, func() {
		for range 1000 {
			require.True(t, from.PostTo(to, func() { ran++ }))
		}
		require.Zero(t, spies[1].wakes.Load(), "the pass is not over")
	})
	_, err = from.Step(0)
	require.NoError(t, err)
	require.EqualValues(t, 1, spies[1].wakes.Load())
	_, err = to.Step(0)
	require.NoError(t, err)
	require.Equal(t, 1001, ran)

	require.True(t, from.PostTo(to, func() { ran++ })) // outside of a pass, at once
	require.EqualValues(t, 2, spies[1].wakes.Load())
	require.True(t, to.Post(func() { ran++ }))
	require.EqualValues(t, 2, spies[1].wakes.Load(), "it is awake already")
	_, _ = to.Step(0)
	require.Equal(t, 1003, ran)

	from.AfterFunc(0, func() {
		from.PostTo(to, func() { ran++ })
		to.Post(func() { ran++ }) // another one does not wait for the end of this pass
		require.EqualValues(t, 3, spies[1].wakes.Load())
	})
	_, _ = from.Step(0)
	require.EqualValues(t, 3, spies[1].wakes.Load())
	_, _ = to.Step(0)
	require.Equal(t, 1005, ran)

	from.AfterFunc(0, func() {
		from.PostTo(to, func() { ran++ })
		_, _ = to.Step(0) // as if it had been awake
	})
	_, _ = from.Step(0)
	require.Equal(t, 1006, ran)
	require.EqualValues(t, 3, spies[1].wakes.Load(), "there is nothing left to wake it for")
}

func TestPostToAtTheLimit(t *testing.T) {
	g, _ := spiedGroup(t, 2)
	g.loops[1].opts.MaxPosts = 2
	require.True(t, g.loops[0].PostTo(g.loops[1], func() {}))
	require.True(t, g.loops[0].PostTo(g.loops[1], func() {}))
	require.False(t, g.loops[0].PostTo(g.loops[1], func() {}))
}

// A loop that fails ends the group, with its error; the channels of the others stay.
func TestGroupEndsWithALoopThatFails(t *testing.T) {
	g, spies := spiedGroup(t, 3)
	broken := errors.New("broken")
	for _, l := range g.loops {
		l.AfterFunc(time.Hour, func() {})
	}
	g.loops[1].AfterFunc(time.Millisecond, func() {
		spies[2].fail.Store(&broken)
		_ = spies[2].Wake()
	})
	require.ErrorIs(t, g.Run(t.Context()), broken)
	require.Equal(t, 3, g.Stats().Timers)
	require.ErrorIs(t, g.Run(t.Context()), broken, "that loop does not work any more")
}

// BenchmarkPost is what a post to another loop costs, 100 in a pass, while that loop runs; and how often it is woken.
func BenchmarkPost(b *testing.B) {
	for _, name := range []string{"Post", "PostTo"} {
		b.Run(name, func(b *testing.B) {
			g, err := NewGroup(2, Options{MaxPosts: 1 << 30})
			require.NoError(b, err)
			defer g.Close()
			from, to := g.loops[0], g.loops[1]
			spy := &spyPoller{Poller: to.poller}
			to.poller = spy
			post := func(f func()) bool { return from.PostTo(to, f) }
			if name == "Post" {
				post = to.Post
			}
			ran, left := 0, b.N
			f := func() { ran++ }
			var batch func()
			batch = func() {
				for range min(left, 100) {
					post(f)
					left--
				}
				if left > 0 {
					from.AfterFunc(0, batch)
				}
			}
			from.AfterFunc(0, batch)
			b.ReportAllocs()
			b.ResetTimer()
			require.NoError(b, g.Run(context.Background()))
			b.ReportMetric(float64(spy.wakes.Load())/float64(b.N), "wakes/op")
			require.Equal(b, b.N, ran)
		})
	}
}

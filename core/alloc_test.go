//go:build !race && (darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package core

import (
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A post between loops allocates nothing by itself.
func TestPostToAllocatesNothing(t *testing.T) {
	g, _ := spiedGroup(t, 2)
	from, to := g.loops[0], g.loops[1]
	f := func() {}
	post := func() {
		for range 10 {
			from.PostTo(to, f)
		}
	}
	require.Zero(t, testing.AllocsPerRun(200, func() {
		from.Post(post)
		_, _ = from.Step(0)
		_, _ = to.Step(0)
	}))
}

// echoBack is a channel's simplest handler.
type echoBack struct{}

func (echoBack) HandleRead(d *Dispatcher) error {
	p, err := d.RecvShared()
	if err == nil {
		_, err = d.Send(p)
	}
	return err
}

func (echoBack) HandleWrite(d *Dispatcher) error {
	d.WantWrite(false)
	return nil
}

// An event allocates nothing, be it of input or of room for output, on any back end.
func TestEventAllocatesNothing(t *testing.T) {
	for _, backend := range Backends() {
		l, err := NewLoop(Options{Backend: backend, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		defer l.Close()
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		defer unix.Close(fds[1])
		require.NoError(t, unix.SetNonblock(fds[0], true))
		d, err := Attach(l, &sysSocket{fd: int32(fds[0]), kind: kindUnix}, echoBack{})
		require.NoError(t, err)
		buf := make([]byte, 100)
		require.Zero(t, testing.AllocsPerRun(500, func() {
			_, _ = unix.Write(fds[1], []byte("hello"))
			d.WantWrite(true)
			_, _ = l.Step(-1)
			if n, _ := unix.Read(fds[1], buf); n != 5 {
				panic("no echo")
			}
		}), backend)
		require.Positive(t, l.Stats().Events)
	}
}

// crowdedLoop is a loop with that many timeouts pending.
func crowdedLoop(tb testing.TB, timers int) *Loop {
	l, err := NewLoop(Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = l.Close() })
	for i := range timers {
		l.AfterFunc(time.Hour+time.Duration(i*7919%timers)*time.Millisecond, func() {})
	}
	return l
}

// A timer that is set anew allocates nothing, nor does one that fires and is set again.
func TestTimerAllocatesNothing(t *testing.T) {
	l := crowdedLoop(t, 1000)
	reset := l.AfterFunc(time.Minute, func() {})
	fired := 0
	again := l.AfterFunc(0, func() { fired++ })
	require.Zero(t, testing.AllocsPerRun(500, func() {
		reset.Reset(30 * time.Minute)
		again.Reset(0)
		_, _ = l.Step(0)
	}))
	require.Greater(t, fired, 400)
}

// BenchmarkTimerReset is what a timer costs that is set anew, among 100,000. An idle timeout does not: traffic leaves its timer
// alone (see BenchmarkIdleTimeouts of package chat).
func BenchmarkTimerReset(b *testing.B) {
	for _, n := range []int{0, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			l := crowdedLoop(b, n)
			t := l.AfterFunc(time.Minute, func() {})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				t.Reset(time.Hour + time.Duration(i*7919%(n+1))*time.Millisecond)
			}
		})
	}
}

package load

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func pacedConfig(addr string) Config {
	c := config(addr)
	c.Depth, c.Rate, c.Interval = 1, 1000, 300*time.Millisecond
	return c
}

func TestPace(t *testing.T) {
	c := pacedConfig(serve(t, lines(right)))
	c.Rate = 5000
	r, err := Run(c)
	require.NoError(t, err)
	require.NoError(t, r.Err())
	l := r.Latency
	require.InDelta(t, c.Rate*r.Elapsed.Seconds(), float64(l.Lines), 2, "as many as were due")
	require.Positive(t, l.P50)
	require.LessOrEqual(t, l.P50, l.P90)
	require.LessOrEqual(t, l.P90, l.P99)
	require.LessOrEqual(t, l.P99, l.P999)
	require.LessOrEqual(t, l.P999, l.Max)

	c = pacedConfig(serve(t, requests(func(_ int, right string) string { return right })))
	c.HTTP, c.Length = true, 0
	r, err = Run(c)
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.InDelta(t, c.Rate*r.Elapsed.Seconds(), float64(r.Latency.Lines), 2)

	c = config(serve(t, lines(right)))
	r, err = Run(c)
	require.NoError(t, err)
	require.Nil(t, r.Latency)
}

// stalling serves lines, and stops for a while at the n-th of all connections'.
func stalling(n int, during time.Duration) func(int, []byte) []byte {
	var mu sync.Mutex
	return func(_ int, line []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		if n--; n == 0 {
			<-time.After(during)
		}
		return line
	}
}

// A server that stops for a while answers for all lines that were due meanwhile, not only for those that were on their way.
func TestNothingIsOmitted(t *testing.T) {
	c := pacedConfig(serve(t, lines(stalling(100, 150*time.Millisecond))))
	r, err := Run(c)
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.InDelta(t, c.Rate*r.Elapsed.Seconds(), float64(r.Latency.Lines), 2)
	require.Greater(t, r.Latency.P90, 50*time.Millisecond, "a third of the lines")
	require.GreaterOrEqual(t, r.Latency.Max, 140*time.Millisecond)
}

// Nor is what was due and not sent at all, at the end.
func TestOverdueLines(t *testing.T) {
	c := pacedConfig(serve(t, lines(stalling(150, 400*time.Millisecond))))
	r, err := Run(c)
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.InDelta(t, c.Rate*r.Elapsed.Seconds(), float64(r.Latency.Lines), 2)
	require.Greater(t, r.Latency.P90, 50*time.Millisecond)
	require.Less(t, r.Lines, 0.7*c.Rate*r.Elapsed.Seconds())
}

func TestWrongServersPaced(t *testing.T) {
	for name, c := range map[string]struct {
		f    func(n int, line []byte) []byte
		want string
	}{
		"flips a bit": {func(n int, line []byte) []byte { line[3] ^= byte(n / 20 % 2); return line }, "wrong byte"},
		"answers twice": {func(n int, line []byte) []byte { return append(line, line...) },
			"wrong byte|more than were sent|not sent"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := pacedConfig(serve(t, lines(c.f)))
			r, err := Run(cfg)
			require.NoError(t, err)
			require.Regexp(t, c.want, r.First)
			require.Equal(t, cfg.Conns, r.Errors)
		})
	}
}

package load

import (
	"bytes"
	"crypto/tls"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestText(t *testing.T) {
	for _, c := range []struct{ length, depth int }{{32, 1}, {32, 64}, {2, 1}, {3, 5000}, {1_000_000, 1}, {100_000, 7}} {
		text := newText(c.length, c.depth)
		require.Equal(t, text, newText(c.length, c.depth), "the same every time")
		for i := range text.count + c.depth {
			line := text.line(i)
			require.Len(t, line, c.length)
			require.Equal(t, c.length-1, bytes.IndexByte(line, '\n'))
			require.Equal(t, text.line(i%text.count), line)
		}
		i := text.start(1)
		for range 2*text.count + 1 {
			batch, next := text.batch(i)
			require.Len(t, batch, c.length*c.depth)
			require.Equal(t, text.line(i), batch[:c.length])
			require.Equal(t, text.line(next), text.line((i+c.depth)%text.count))
			i = next
		}
	}
}

func TestTextLinesDiffer(t *testing.T) {
	text := newText(32, 64)
	seen := map[string]bool{}
	for i := range text.count {
		seen[string(text.line(i))] = true
	}
	require.Len(t, seen, text.count)
	for n := range 1000 {
		require.NotEqual(t, text.start(n), text.start(n+1))
	}
	all := map[byte]bool{}
	for _, b := range text.data {
		all[b] = true
	}
	require.Len(t, all, 256)
}

func TestCompare(t *testing.T) {
	due := []byte("echo\n")
	require.NoError(t, compare(nil, due, 0))
	require.NoError(t, compare([]byte("ec"), due, 0))
	require.NoError(t, compare(due, due, 7))
	require.EqualError(t, compare([]byte("eCho"), due, 0), "wrong byte 0x43 instead of 0x63 at offset 1 of 5")
	require.EqualError(t, compare([]byte("ecHo"), due, 10), "wrong byte 0x48 instead of 0x68 at offset 12 of 15")
	require.EqualError(t, compare([]byte("echo\nec"), due, 0), "2 bytes more than were sent")
	require.EqualError(t, compare([]byte("echO\nec"), due, 0), "wrong byte 0x4f instead of 0x6f at offset 3 of 5")
}

func TestConfig(t *testing.T) {
	good := Config{Conns: 1, Depth: 1, Length: 2, Interval: 1}
	require.NoError(t, good.check())
	require.Equal(t, defaultPatience, good.Patience)
	for _, spoil := range []func(*Config){
		func(c *Config) { c.Conns = 0 },
		func(c *Config) { c.Depth = 0 },
		func(c *Config) { c.Length = 1 },
		func(c *Config) { c.Length, c.Depth = 1<<20, 65 },
		func(c *Config) { c.Idle = -1 },
		func(c *Config) { c.Rate = 0.5 },
		func(c *Config) { c.Rate = math.NaN() },
		func(c *Config) { c.Rate, c.Depth = 1000, 2 },
		func(c *Config) { c.TLS = tls.VersionTLS11 },
		func(c *Config) { c.Interval = 0 },
		func(c *Config) { c.Warmup = -1 },
	} {
		bad := good
		spoil(&bad)
		require.Error(t, bad.check())
	}
}

func TestResultErr(t *testing.T) {
	require.NoError(t, (&Result{}).Err())
	require.EqualError(t, (&Result{Errors: 1, First: "x"}).Err(), "x")
	require.EqualError(t, (&Result{Errors: 3, First: "x"}).Err(), "x (and 2 more connections failed)")
}

func TestPerConn(t *testing.T) {
	fresh, spoke := (&Memory{Conns: 10, Base: 1000, Fresh: 1800, Spoke: 2500}).PerConn()
	require.Equal(t, 25.0, (&Memory{Conns: 10, Base: 1000, SettledBase: 750, Settled: 1000}).PerConnSettled())
	require.Equal(t, 80.0, fresh)
	require.Equal(t, 150.0, spoke)
}

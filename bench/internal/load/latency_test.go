package load

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBuckets(t *testing.T) {
	last := -1
	for x := uint64(0); x < 1<<16; x++ {
		b := bucket(x)
		require.True(t, b == last || b == last+1, x)
		last = b
		require.GreaterOrEqual(t, highest(b), x)
		require.LessOrEqual(t, highest(b)-x, x/128)
		if x > 0 && bucket(x-1) != b {
			require.Equal(t, x-1, highest(b-1))
		}
	}
	require.Less(t, bucket(math.MaxUint64), len(histogram{}.counts))
	require.EqualValues(t, uint64(math.MaxUint64), highest(bucket(math.MaxUint64)))
}

func TestQuantiles(t *testing.T) {
	h := new(histogram)
	require.Equal(t, &Latency{}, h.latency())
	var all []time.Duration
	for i := range 10_000 {
		d := time.Duration(i*i) * time.Microsecond
		all = append(all, d)
		h.add(d)
	}
	slices.Sort(all)
	for _, share := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 0.9999} {
		want := all[int(share*float64(len(all)))]
		require.InEpsilon(t, want+1, h.quantile(share)+1, 1.0/128, share)
	}
	l := h.latency()
	require.EqualValues(t, 10_000, l.Lines)
	require.Equal(t, all[9999], l.Max)
	require.LessOrEqual(t, l.P999, l.Max)

	h = new(histogram)
	h.add(-time.Second) // a clock's doing
	h.add(1000)
	require.Equal(t, &Latency{Lines: 2, P50: 1000, P90: 1000, P99: 1000, P999: 1000, Max: 1000,
		Buckets: []Bucket{{0, 1}, {1003, 1}}}, h.latency())
}

// The lines of several slices together are as if they had been counted together.
func TestMerge(t *testing.T) {
	require.Equal(t, &Latency{}, Merge(nil))
	whole := new(histogram)
	var parts []*Latency
	for part := range 5 {
		h := new(histogram)
		for i := range 1000 {
			d := time.Duration((i*i + part) * (part + 1))
			h.add(d)
			whole.add(d)
		}
		parts = append(parts, h.latency())
	}
	require.Equal(t, whole.latency(), Merge(parts))
	// One slice in which everything took a second is a fifth of all lines, whatever the others' quantiles are.
	h := new(histogram)
	for range 1000 {
		h.add(time.Second)
	}
	parts[4] = h.latency()
	require.GreaterOrEqual(t, Merge(parts).P90, time.Second)
	require.Less(t, parts[0].P99, 2*time.Millisecond)
}

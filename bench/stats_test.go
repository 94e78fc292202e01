package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	require.True(t, math.IsNaN(median(nil)))
	require.Equal(t, 3.0, median([]float64{3}))
	require.Equal(t, 2.5, median([]float64{4, 1}))
	xs := []float64{9, 1, 5}
	require.Equal(t, 5.0, median(xs))
	require.Equal(t, []float64{9, 1, 5}, xs, "rounds keep their order")
	require.Equal(t, 4.0, median([]float64{9, 1, 5, 3}))
}

func TestQuantile(t *testing.T) {
	require.True(t, math.IsNaN(quantile(nil, 0.25)))
	require.Equal(t, 3.0, quantile([]float64{3}, 0.75))
	xs := []float64{5, 1, 3, 2, 4}
	for share, want := range map[float64]float64{0: 1, 0.25: 2, 0.5: 3, 0.75: 4, 0.875: 4.5, 1: 5} {
		require.Equal(t, want, quantile(xs, share))
	}
	require.Equal(t, []float64{5, 1, 3, 2, 4}, xs)
	require.Equal(t, 1.75, quantile([]float64{4, 1, 2, 3}, 0.25))
}

func TestRatio(t *testing.T) {
	// The machine was four times slower in the second round, for both.
	require.Equal(t, 2.0, ratio([]float64{2, 8, 2}, []float64{1, 4, 1}))
	require.Equal(t, 1.5, ratio([]float64{1, 3, 8}, []float64{1, 2, 4}))
	require.Equal(t, 2.0, ratio([]float64{2, 8}, []float64{1}), "a round without its partner")
	require.True(t, math.IsNaN(ratio(nil, []float64{1})))
}

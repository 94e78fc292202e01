package main

import (
	"math"
	"slices"
)

// median returns the middle of xs, or the mean of the two in the middle; NaN if there is none.
func median(xs []float64) float64 { return quantile(xs, 0.5) }

// quantile returns what a share of xs is not above: between two of them it is on the line from one to the other. NaN if
// there is none.
func quantile(xs []float64, share float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(xs))
	place, part := math.Modf(share * float64(len(sorted)-1))
	low := sorted[int(place)]
	if part == 0 {
		return low
	}
	return low + part*(sorted[int(place)+1]-low)
}

// ratio returns the median of what xs are of refs, round by round: what slows a machine down for a while slows down both
// halves of a pair. NaN if there is no pair.
func ratio(xs, refs []float64) float64 {
	pairs := make([]float64, 0, len(xs))
	for i := range min(len(xs), len(refs)) {
		pairs = append(pairs, xs[i]/refs[i])
	}
	return median(pairs)
}

//go:build !race

// Package race tells tests whether the race detector is built in. With it everything takes ten times as long, and what it
// looks for is found with a tenth of the work.
package race

// Enabled says whether the race detector is built in.
const Enabled = false

package buffered

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Marks.Limit may be larger than the largest ring that is pooled.
func TestRingBeyondThePools(t *testing.T) {
	if testing.Short() {
		t.Skip("half a gigabyte of address space")
	}
	largest := ringSize(ringClasses - 1)
	newRing(largest).free()
	r := newRing(largest + 1)
	require.GreaterOrEqual(t, r.Free(), largest+1)
	r.free()
	require.Equal(t, largest, newRing(largest).Capacity(), "what is too large is not pooled")
}

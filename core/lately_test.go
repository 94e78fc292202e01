package core_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// Lately stands still within a pass, and is the loop's age between two.
func TestLately(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	w.Advance(time.Second)
	require.Equal(t, time.Second, l.Lately())
	var first, second, later time.Duration
	l.AfterFunc(time.Second, func() {
		first = l.Lately()
		w.Busy(time.Minute)
		second = l.Lately()
		l.AfterFunc(0, func() { later = l.Lately() })
	})
	w.Advance(2 * time.Minute)
	require.Equal(t, 2*time.Second, first)
	require.Equal(t, first, second)
	require.Equal(t, time.Minute+2*time.Second, later)
}

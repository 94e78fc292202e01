package core_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// A timer that was pending when its loop was closed can still be stopped, and set again, to no effect.
func TestTimerOutlivesItsLoop(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	l := w.Loop(core.Options{})
	a := l.AfterFunc(time.Second, func() { t.Error("ran") })
	b := l.AfterFunc(2*time.Second, func() { t.Error("ran") })
	require.NoError(t, l.Close())
	require.False(t, a.Stop())
	require.False(t, b.Reset(time.Second))
}

package core_test

import (
	"context"
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

// closing is a layer that closes the channel as soon as it is told of it.
type closing struct{ *sim.Tap }

func (closing) Attached(d *core.Dispatcher) { _ = d.CloseWith(core.ErrUnsupported) }

// A layer that closes the channel in Attached makes Attach fail, and the channel is counted out once.
func TestAttachedCloses(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	l := w.Loop(core.Options{})
	h := func() *core.Funcs {
		return &core.Funcs{Read: func(*core.Dispatcher) error { return nil }}
	}
	s, _ := w.Pair()
	_, err := core.Attach(l, closing{&sim.Tap{Socket: s}}, h())
	require.ErrorIs(t, err, core.ErrUnsupported)
	require.Zero(t, l.Stats().Channels)

	var attached, listed []*core.Dispatcher
	for range 2 {
		s, _ := w.Pair()
		d, err := core.Attach(l, s, h())
		require.NoError(t, err)
		attached = append(attached, d)
	}
	for d := range l.All() {
		listed = append(listed, d)
	}
	require.Equal(t, attached, listed)
	require.NoError(t, l.Close())
}

// What a post opens after the grace of a Shutdown is refused: nothing would close it, and Run would not return.
func TestShutdownRefusesWhatComesAfterTheGrace(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	l := w.Loop(core.Options{})
	w.Listen("tcp", "server:1")
	var h *core.Funcs
	var errs []error
	dial := func() {
		_, err := core.Dial(l, "tcp", "server:1", h)
		errs = append(errs, err)
	}
	h = &core.Funcs{
		Read:  func(d *core.Dispatcher) error { return nil },
		Close: func(*core.Dispatcher, error) { l.Post(dial) }, // as a client that always wants its connection
	}
	dial()
	l.Shutdown(time.Second)
	require.NoError(t, l.Run(context.Background()))
	require.NoError(t, errs[0])
	require.ErrorIs(t, errs[len(errs)-1], core.ErrShutdown)

	n := len(errs)
	dial() // the next Run is another matter
	require.NoError(t, errs[n])
	require.NoError(t, l.Close())
}

// A channel that was to be served again and closed leaves nothing to do: a program that drives the loop by Next and Step
// would spin.
func TestNextAfterRequeueAndClose(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	l := w.Loop(core.Options{})
	s, _ := w.Pair()
	d, err := core.Attach(l, s, &core.Funcs{Read: func(*core.Dispatcher) error { return nil }})
	require.NoError(t, err)
	d.Requeue(core.Read)
	require.NoError(t, d.Close())
	more, err := l.Step(0)
	require.NoError(t, err)
	require.False(t, more)
	_, ok := l.Next()
	require.False(t, ok)
	require.NoError(t, l.Close())
}

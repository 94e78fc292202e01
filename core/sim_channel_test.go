package core_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// bare is a handler for a channel without a socket.
type bare struct {
	shutdown func(d *core.Dispatcher) error
	errs     []error
	causes   []error
}

func (b *bare) HandleShutdown(d *core.Dispatcher) error     { return b.shutdown(d) }
func (b *bare) HandleError(_ *core.Dispatcher, err error)   { b.errs = append(b.errs, err) }
func (b *bare) HandleClose(_ *core.Dispatcher, cause error) { b.causes = append(b.causes, cause) }

// misspeltBare has a method that would never be called.
type misspeltBare struct{}

func (misspeltBare) HandleClos(*core.Dispatcher, error) {}

// A channel without a socket does work off the loop, has timers, keeps Run going, and ends as others do.
func TestNewChannel(t *testing.T) {
	w, l := simLoop(t, sim.Config{Work: time.Second}, core.Options{})
	b := new(bare)
	d, err := core.NewChannel(l, b)
	require.NoError(t, err)
	require.Nil(t, d.Socket())
	require.Zero(t, d.Interest())
	_, err = d.Send([]byte("x"))
	require.ErrorIs(t, err, core.ErrClosed)
	_, err = d.Recv(make([]byte, 1))
	require.ErrorIs(t, err, core.ErrClosed)
	d.Requeue(core.Read | core.Write)

	var got []string
	core.Go(d, func(context.Context) (string, error) { return "work", nil }, func(s string, err error) error {
		got = append(got, s)
		return io.ErrNoProgress
	})
	d.AfterFunc(time.Minute, func() { got = append(got, "timer") })
	w.Advance(2 * time.Minute)
	require.Equal(t, []string{"work", "timer"}, got)
	require.Equal(t, []error{io.ErrNoProgress}, b.errs)

	b.shutdown = func(d *core.Dispatcher) error {
		core.Go(d, func(context.Context) (int, error) { return 1, nil }, func(int, error) error { return d.Close() })
		return nil
	}
	l.Shutdown(time.Minute)
	require.NoError(t, l.Run(t.Context()))
	require.Equal(t, []error{nil}, b.causes)
	require.Error(t, context.Cause(d.Context()))
}

// It is closed by the loop's end, and refused where others are.
func TestNewChannelEnds(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	b := &bare{shutdown: func(*core.Dispatcher) error { return nil }}
	_, err := core.NewChannel(l, b)
	require.NoError(t, err)
	plain, err := core.NewChannel(l, struct{}{})
	require.NoError(t, err)
	l.Shutdown(time.Minute)
	w.Advance(30 * time.Second)
	require.True(t, plain.Closed())
	require.Empty(t, b.causes)
	w.Advance(time.Minute)
	require.Equal(t, []error{core.ErrShutdown}, b.causes)

	_, err = core.NewChannel(l, misspeltBare{})
	require.ErrorContains(t, err, "did you mean HandleClose?")
	_, err = core.Attach(l, nil, b)
	require.ErrorContains(t, err, "has none of HandleRead")
	require.NoError(t, l.Close())
	_, err = core.NewChannel(l, b)
	require.True(t, errors.Is(err, core.ErrClosed) || errors.Is(err, core.ErrShutdown), "%v", err)
}

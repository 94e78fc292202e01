package core_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// due is a layer's handler that echoes, and leaves the sending to the loop.
type due struct {
	logged
	out []byte
}

func (h *due) HandleRead(d *core.Dispatcher) error {
	p, err := d.RecvShared()
	if err != nil {
		return err
	}
	h.out = append(h.out, p...)
	d.RequestFlush()
	return nil
}

func (h *due) FlushDue() []byte { return h.out }

func (h *due) FlushSent(n int) {
	h.out = h.out[n:]
	h.add("sent %d", n)
}

// HandleFlush sends the rest in one go, or waits.
func (h *due) HandleFlush(d *core.Dispatcher) error {
	n, err := d.Send(h.out)
	h.out = h.out[n:]
	h.add("flush %d %v", n, err)
	d.WantWrite(len(h.out) > 0)
	return nil
}

func (h *due) HandleWrite(d *core.Dispatcher) error { return h.HandleFlush(d) }

// The loop sends what is due by itself; HandleFlush is called where that was not all that had to be done.
func TestDue(t *testing.T) {
	for _, c := range []struct {
		name  string
		plan  []int
		want  []string
		heard string
	}{
		{"all", nil, []string{"sent 6"}, "abcdef"},
		{"some", []int{4}, []string{"sent 4", "flush 2 <nil>"}, "abcdef"},
		{"none", []int{0}, []string{"sent 0", "flush 6 <nil>"}, "abcdef"},
		{"none, and none by the flush", []int{0, 0}, []string{
			"sent 0", fmt.Sprint("flush 0 ", core.ErrWouldBlock), "flush 6 <nil>",
		}, "abcdef"},
		{"failed", []int{-1}, []string{fmt.Sprint("flush 0 ", syscall.EPIPE), fmt.Sprint("close ", syscall.EPIPE)}, ""},
	} {
		for _, untraced := range []bool{false, true} {
			for _, timeout := range []time.Duration{0, time.Hour} {
				t.Run(fmt.Sprint(c.name, untraced, timeout), func(t *testing.T) {
					w, l := simLoop(t, sim.Config{Untraced: untraced}, core.Options{})
					h := new(due)
					d, p := attach(t, w, l, h)
					d.SetIdleTimeout(timeout)
					p.PlanSends(c.plan...)
					p.Say("abcdef")
					w.Settle()
					require.Equal(t, c.want, h.log)
					require.Equal(t, c.heard, p.Read())
					require.Equal(t, uint64(len(c.heard)), l.Stats().BytesOut)
				})
			}
		}
	}
}

// What the loop sends by itself puts the idle timeout off, as every send does.
func TestDuePutsTheIdleTimeoutOff(t *testing.T) {
	w, l := simLoop(t, sim.Config{Untraced: true}, core.Options{})
	h := new(due)
	d, p := attach(t, w, l, h)
	d.SetIdleTimeout(time.Minute)
	for range 5 {
		w.Advance(50 * time.Second)
		h.out = append(h.out, "x"...)
		d.RequestFlush()
		w.Settle()
		p.Want("x")
	}
	require.Equal(t, []string{"sent 1", "sent 1", "sent 1", "sent 1", "sent 1"}, h.log)
	w.Advance(time.Hour)
	require.True(t, d.Closed())
}

// explosive panics when it hears what was sent, or when it is asked what is due.
type explosive struct {
	due
	early bool
	errs  int
}

func (h *explosive) FlushDue() []byte {
	if h.early && len(h.out) > 0 {
		panic("bang")
	}
	return h.due.FlushDue()
}

func (h *explosive) FlushSent(int) { panic("bang") }

// staying has a HandleError, and so stays open.
type staying struct{ explosive }

func (h *staying) HandleError(*core.Dispatcher, error) { h.errs++ }

// A panic there is the channel's, as one of HandleFlush is, and what panicked is not done again.
func TestDuePanics(t *testing.T) {
	w, l := simLoop(t, sim.Config{Untraced: true}, core.Options{})
	d, p := attach(t, w, l, new(explosive))
	other, q := attach(t, w, l, new(due))
	h, early := new(staying), new(staying)
	third, r := attach(t, w, l, h)
	early.early = true
	_, e := attach(t, w, l, early)
	e.Say("e")
	p.Say("x")
	q.Say("y")
	r.Say("z")
	w.Settle()
	require.True(t, d.Closed())
	require.ErrorContains(t, d.Cause(), "bang")
	require.False(t, other.Closed())
	q.Want("y")
	require.False(t, third.Closed())
	require.Equal(t, 1, h.errs)
	require.Equal(t, "z", r.Read())
	require.Equal(t, 1, early.errs)
	require.EqualValues(t, 3, l.Stats().Panics)
}

// A layer's Send that panics does so once.
func TestDuePanicsInSend(t *testing.T) {
	w, l := simLoop(t, sim.Config{Untraced: true}, core.Options{})
	s, p := w.Pair()
	h := new(quiet)
	d, err := core.Attach(l, &sim.Tap{Socket: s, Out: func([]byte) { panic("bang") }}, h)
	require.NoError(t, err)
	p.Say("x")
	w.Settle()
	require.False(t, d.Closed())
	require.Equal(t, 1, h.errs)
}

// quiet is a due that stays open after an error.
type quiet struct {
	due
	errs int
}

func (h *quiet) HandleError(*core.Dispatcher, error) { h.errs++ }

// wrapped hides the methods of a handler.
type wrapped struct{ h any }

func (w wrapped) Unwrap() any { return w.h }

// HandleFlush of a handler that is wrapped is called as well.
func TestFlushOfAWrappedHandler(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := new(due)
	_, p := attach(t, w, l, wrapped{h})
	p.Say("x")
	p.Want("x")
	require.Equal(t, []string{"flush 1 <nil>"}, h.log)
}

// A flush that was asked for before the handler was replaced by one without HandleFlush is nobody's.
func TestFlushOfAReplacedHandler(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &logged{}
	d, p := attach(t, w, l, &replaced{flusher{&logged{}}, h})
	p.Say("x")
	w.Settle()
	p.Say("y")
	w.Settle()
	require.False(t, d.Closed())
	require.Zero(t, l.Stats().Panics)
	require.Equal(t, []string{"read y"}, h.log)
}

// replaced asks for a flush and has another handler go on.
type replaced struct {
	flusher
	by any
}

func (h *replaced) HandleRead(d *core.Dispatcher) error {
	if _, err := d.RecvShared(); err != nil {
		return err
	}
	d.RequestFlush()
	return d.SetHandler(h.by)
}

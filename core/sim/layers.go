package sim

import (
	"time"

	"github.com/parley-go/parley/core"
)

// Tap is a layer that shows what passes through it. It changes nothing.
type Tap struct {
	core.Socket

	// In and Out are called with what was received and what was sent; the slices are borrowed.
	In, Out func(p []byte)
}

func (t *Tap) Recv(p []byte) (int, error) {
	n, err := t.Socket.Recv(p)
	if n > 0 && t.In != nil {
		t.In(p[:n])
	}
	return n, err
}

func (t *Tap) Send(p []byte) (int, error) {
	n, err := t.Socket.Send(p)
	if n > 0 && t.Out != nil {
		t.Out(p[:n])
	}
	return n, err
}

func (t *Tap) Interest(want core.Interest) core.Interest { return want }
func (t *Tap) Ready(got core.Interest) core.Interest     { return got }
func (t *Tap) Pending() bool                             { return false }
func (t *Tap) Inner() core.Socket                        { return t.Socket }

// Throttle is a layer that lets through at most Rate bytes a second in each direction, in portions of a hundredth of that.
// It works on any loop.
type Throttle struct {
	core.Socket
	Rate int // bytes per second

	d        *core.Dispatcher
	in, out  bucket
	sleeping bool
}

const throttleTick = 10 * time.Millisecond

// bucket holds what may pass before the next tick.
type bucket struct{ left int }

// Attached gives the layer its loop, and so a clock.
func (t *Throttle) Attached(d *core.Dispatcher) {
	t.d = d
	t.refill()
}

func (t *Throttle) refill() {
	t.in.left = max(t.Rate/int(time.Second/throttleTick), 1)
	t.out.left = t.in.left
}

func (t *Throttle) pass(b *bucket, p []byte, f func([]byte) (int, error)) (int, error) {
	if b.left == 0 {
		t.sleep()
		return 0, core.ErrWouldBlock
	}
	n, err := f(p[:min(len(p), b.left)])
	b.left -= n
	if b.left == 0 {
		t.sleep()
	}
	return n, err
}

func (t *Throttle) sleep() {
	if t.sleeping {
		return
	}
	t.sleeping = true
	t.d.AfterFunc(throttleTick, func() {
		t.sleeping = false
		t.refill()
		t.d.Refresh()
	})
}

func (t *Throttle) Recv(p []byte) (int, error) { return t.pass(&t.in, p, t.Socket.Recv) }
func (t *Throttle) Send(p []byte) (int, error) { return t.pass(&t.out, p, t.Socket.Send) }

func (t *Throttle) Interest(want core.Interest) core.Interest {
	if t.in.left == 0 {
		want &^= core.Read
	}
	if t.out.left == 0 {
		want &^= core.Write
	}
	return want
}

func (t *Throttle) Ready(got core.Interest) core.Interest { return got }
func (t *Throttle) Pending() bool                         { return false }
func (t *Throttle) Inner() core.Socket                    { return t.Socket }

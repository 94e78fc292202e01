package buffered

import (
	"sync"

	"github.com/smallnest/ringbuffer"

	"github.com/parley-go/parley/core"
)

// ring holds what a slow peer has not taken yet: a ringbuffer on pooled memory, used without blocking. It is not on the
// fast path: each of its calls takes a mutex, and peeking copies.
type ring struct {
	*ringbuffer.RingBuffer
	class int
}

// The sizes of rings: a quarter of the next each.
const (
	smallestRing = 4 << 10
	ringClasses  = 9 // up to 256 MiB
)

var rings [ringClasses]sync.Pool

func ringSize(class int) int { return smallestRing << (2 * class) }

func newRing(n int) *ring {
	class := 0
	for ringSize(class) < n && class < ringClasses-1 {
		class++
	}
	if ringSize(class) < n { // larger than any class: not pooled
		return &ring{ringbuffer.NewBuffer(make([]byte, n)), ringClasses}
	}
	if r, ok := rings[class].Get().(*ring); ok {
		return r
	}
	return &ring{ringbuffer.NewBuffer(make([]byte, ringSize(class))), class}
}

func (r *ring) len() int { return r.Length() }

// grow returns a ring with the same bytes and room for n more: r itself if it has it.
func (r *ring) grow(t Transport, n int) *ring {
	if r.Free() >= n {
		return r
	}
	larger := newRing(r.len() + n)
	b := t.Borrow(core.LargeBuffer)
	for r.len() > 0 {
		m, _ := r.Read(b[:core.LargeBuffer])
		larger.write(b[:m])
	}
	t.GiveBack(b)
	r.free()
	return larger
}

// write appends p, for which there is room.
func (r *ring) write(p []byte) {
	if n, err := r.Write(p); n != len(p) {
		panic("buffered: ring too small: " + err.Error())
	}
}

// peek copies the first bytes into p.
func (r *ring) peek(p []byte) []byte {
	n, _ := r.Peek(p)
	return p[:n]
}

// discard drops the first len(scratch) bytes.
func (r *ring) discard(scratch []byte) {
	if len(scratch) > 0 {
		_, _ = r.Read(scratch)
	}
}

func (r *ring) free() {
	if r.class < ringClasses {
		r.Reset()
		rings[r.class].Put(r)
	}
}

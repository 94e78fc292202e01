package room

import (
	"time"

	"github.com/parley-go/parley/core"
)

const (
	wireRetry = 10 * time.Millisecond
	wireMost  = 4096
)

// wire carries funcs from one loop to another, in order: how loops that share a house talk. Within one loop it is a call. When
// the other loop has too many posts already (core.Options.MaxPosts) the rest waits at this end. For from's goroutine.
type wire struct {
	from, to *core.Loop
	late     []func()
}

// send has f run over there, sooner or later.
func (w *wire) send(f func()) {
	switch {
	case w.from == w.to:
		f()
	case len(w.late) > 0 || !w.from.PostTo(w.to, f):
		if w.late = append(w.late, f); len(w.late) == 1 {
			w.from.AfterFunc(wireRetry, w.retry)
		}
	}
}

// offer is send for what can be lost: it answers false when more than wireMost funcs wait.
func (w *wire) offer(f func()) bool {
	if len(w.late) >= wireMost {
		return false
	}
	w.send(f)
	return true
}

func (w *wire) retry() {
	n := 0
	for n < len(w.late) && w.from.PostTo(w.to, w.late[n]) {
		n++
	}
	rest := copy(w.late, w.late[n:])
	clear(w.late[rest:])
	if w.late = w.late[:rest]; rest > 0 {
		w.from.AfterFunc(wireRetry, w.retry)
		return
	}
	w.late = nil
}

package mailbox

import "sync"

// group lets those who want the same thing done at a time have it done once for all of them. What is done for one begins
// after he asked.
type group struct {
	mu   sync.Mutex
	now  *round // that is under way, or was the last; nil: there was none
	next *round // that begins when that has ended; nil: nobody waits
}

type round struct {
	done chan struct{}
	err  error
}

// do returns when f has been called, by whomever, after do was. All that share a call get its error.
func (g *group) do(f func() error) error {
	g.mu.Lock()
	r, before := g.next, g.now
	first := r == nil
	if first {
		r = &round{done: make(chan struct{})}
		g.next = r
	}
	g.mu.Unlock()
	if !first {
		<-r.done
		return r.err
	}
	if before != nil {
		<-before.done
	}
	g.mu.Lock()
	g.now, g.next = r, nil // for those who come from here on, this call may be too early
	g.mu.Unlock()
	r.err = f()
	close(r.done)
	return r.err
}

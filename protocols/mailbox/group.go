package mailbox

import "sync"

// group lets those who want the same thing done at a time have it done once for all of them. What is done for one begins
// after he asked.
type group struct {
	working sync.Mutex // held while it is done
	mu      sync.Mutex
	next    *round // who waits for it to be done again
}

type round struct {
	done chan struct{}
	err  error
}

// do returns when f has been called, by whomever, after do was. All that share a call get its error.
func (g *group) do(f func() error) error {
	g.mu.Lock()
	r := g.next
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
	g.working.Lock()
	g.mu.Lock()
	g.next = nil // for those who come from here on, this call may be too early
	g.mu.Unlock()
	r.err = f()
	g.working.Unlock()
	close(r.done)
	return r.err
}

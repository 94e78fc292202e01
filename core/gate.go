package core

import (
	"net/netip"
	"sync"
)

// gate counts the connections of a Listener against its Limit. The listeners that a Group has for one address share one,
// and connections close on any loop: hence the lock.
type gate struct {
	mu      sync.Mutex
	limit   Limit
	open    int
	pending int                  // places that are taken for an accept which is under way
	addrs   map[netip.Prefix]int // open connections by peer, if there is a PerAddr limit
	waiting []*Listener          // not accepting because of Total
}

func (g *gate) setLimit(limit Limit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = limit
	if limit.PerAddr > 0 && g.addrs == nil {
		g.addrs = make(map[netip.Prefix]int)
	}
}

// refusal is what a connection over a bound is told.
func (g *gate) refusal(l *Loop) string {
	g.mu.Lock()
	text, f := g.limit.Refusal, g.limit.RefusalFunc
	g.mu.Unlock()
	if f != nil {
		return f(l.Now())
	}
	return text
}

func (g *gate) isFull() bool { return g.limit.Total >= 0 && g.open+g.pending >= g.limit.Total }

// wait tells whether a listener must not accept now. It resumes when there is room again.
func (g *gate) wait(ln *Listener) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mustWait(ln)
}

func (g *gate) mustWait(ln *Listener) bool {
	if !g.isFull() || g.limit.refuses() {
		return false
	}
	for _, w := range g.waiting {
		if w == ln {
			return true
		}
	}
	g.waiting = append(g.waiting, ln)
	return true
}

// reserve takes a place for the connection that is about to be accepted: other loops accept at the same time. Without a
// place, wait says whether the connection is to be left in the backlog instead of being refused.
func (g *gate) reserve(ln *Listener) (place, wait bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isFull() {
		return false, g.mustWait(ln)
	}
	g.pending++
	return true, false
}

// unreserve gives the place back.
func (g *gate) unreserve() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending--
	g.resume()
}

// admit counts an accepted connection, which has a place, for a listener: until it is closed if it tells that, else not at
// all. false: it is over PerAddr; the place is given back.
func (g *gate) admit(ln *Listener, s Socket) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending--
	c, countable := s.(closeNotifier)
	if !countable {
		g.resume()
		return true
	}
	release := ln.onRelease
	if g.limit.PerAddr > 0 {
		if peer := peerPrefix(s); peer.IsValid() {
			if g.addrs[peer] >= g.limit.PerAddr {
				g.resume()
				return false
			}
			g.addrs[peer]++
			release = func() { ln.release(peer) }
		}
	}
	c.OnClose(release)
	ln.conns.Add(1)
	g.open++
	return true
}

// release is called when an admitted connection closes, on whichever goroutine that is.
func (g *gate) release(peer netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if peer.IsValid() {
		if g.addrs[peer]--; g.addrs[peer] <= 0 {
			delete(g.addrs, peer)
		}
	}
	g.resume()
}

// resume has those accept again that wait, if there is room.
func (g *gate) resume() {
	if len(g.waiting) == 0 || g.isFull() {
		return
	}
	for i, ln := range g.waiting {
		ln.loop.box.put(ln.loop, ln.onResume, true)
		g.waiting[i] = nil
	}
	g.waiting = g.waiting[:0]
}

// peerPrefix is what PerAddr counts by.
func peerPrefix(s Socket) netip.Prefix {
	p, ok := s.(peerAddr)
	if !ok {
		return netip.Prefix{}
	}
	a := p.RemoteAddrPort().Addr().Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	prefix, _ := a.Prefix(bits) // the zero Prefix for the zero Addr
	return prefix
}

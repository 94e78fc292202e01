package sim

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/parley-go/parley/core"
)

// poller is the core.Poller of one loop: level-triggered, over the nodes whose state changed.
type poller struct {
	w       *World
	loop    *core.Loop
	nodes   map[uint64]*node
	hot     []*node // those that may be ready
	woken   atomic.Bool
	waiting bool // inside Wait: this loop is the one that waits
	stepped bool // inside World.pass: the world decides what happens next
	closed  bool
}

// node is what the poller knows of a socket.
type node struct {
	p    *poller // nil: not registered
	id   uint64
	want core.Interest
	hot  bool
	fd   bool          // counted as a descriptor
	lie  core.Interest // what the last readiness said that will not hold, once: Config.Again
	self interface{ readiness() core.Interest }
}

type hasNode interface{ pollNode() *node }

func (n *node) pollNode() *node { return n }

// changed is called whenever what a socket is ready for may have grown.
func (n *node) changed() {
	if n.p != nil && !n.hot {
		n.hot = true
		n.p.hot = append(n.p.hot, n)
	}
}

// lies tells whether a call that the readiness promised to succeed must fail, this time.
func (n *node) lies(about core.Interest) bool {
	was := n.lie&about != 0
	n.lie &^= about
	return was
}

func (n *node) got() core.Interest {
	return n.self.readiness() & (n.want | core.Hangup | core.Failed)
}

func (p *poller) Name() string { return "sim" }

func (p *poller) Add(s core.Socket, id uint64, want core.Interest) error {
	h, ok := s.(hasNode)
	if !ok {
		return syscall.EBADF
	}
	n := h.pollNode()
	if n.p != nil {
		return syscall.EEXIST
	}
	n.p, n.id, n.want = p, id, want
	p.nodes[id] = n
	n.changed()
	return nil
}

func (p *poller) Modify(s core.Socket, id uint64, want core.Interest) error {
	n := p.nodes[id]
	if n == nil || n.p != p {
		return syscall.ENOENT
	}
	n.want = want
	n.changed()
	return nil
}

func (p *poller) Remove(s core.Socket, id uint64) error {
	n := p.nodes[id]
	if n == nil {
		return syscall.ENOENT
	}
	delete(p.nodes, id)
	n.p = nil
	return nil
}

func (p *poller) hasWork() bool {
	if p.waiting || p.closed {
		return false
	}
	if d, ok := p.loop.Next(); ok && d == 0 || p.woken.Load() {
		return true
	}
	return p.anyReady()
}

// anyReady drops what is not ready from the hot list and tells whether something is left.
func (p *poller) anyReady() bool {
	kept := p.hot[:0]
	for _, n := range p.hot {
		if n.p == p && n.got() != 0 {
			kept = append(kept, n)
		} else {
			n.hot = false
			if n.p != nil && n.p != p {
				n.changed() // moved to another loop meanwhile
			}
		}
	}
	clear(p.hot[len(kept):])
	p.hot = kept
	return len(kept) > 0
}

func (p *poller) collect(ready []core.Ready) []core.Ready {
	p.anyReady()
	first := len(ready)
	for _, n := range p.hot {
		ready = append(ready, core.Ready{ID: n.id, Got: n.got()})
		n.lie = 0
		if p.w.chance(p.w.c.Again) {
			n.lie = core.Read | core.Write
		}
	}
	if p.w.chance(p.w.c.Spurious) {
		ready = p.addSpurious(ready)
	}
	got := ready[first:]
	p.w.rng.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
	return ready
}

// addSpurious reports a channel that has nothing for what it wants.
func (p *poller) addSpurious(ready []core.Ready) []core.Ready {
	var least *node // the map's order is not the seed's
	for _, n := range p.nodes {
		if n.want != 0 && !n.hot && (least == nil || n.id < least.id) {
			least = n
		}
	}
	if least != nil {
		ready = append(ready, core.Ready{ID: least.id, Got: least.want &^ core.Urgent})
	}
	return ready
}

func (p *poller) Wait(timeout time.Duration, ready []core.Ready) ([]core.Ready, error) {
	w := p.w
	if w.chance(w.c.Interrupt) {
		if timeout > 0 {
			w.now = w.now.Add(time.Duration(w.rng.Int64N(int64(timeout) + 1)))
		}
		return ready, syscall.EINTR
	}
	if !p.stepped {
		w.happen() // a loop that runs by itself, and may never wait
	}
	n := len(ready)
	woken := p.woken.Swap(false)
	if ready = p.collect(ready); len(ready) > n || timeout == 0 || woken {
		return ready, nil
	}
	var deadline time.Time
	if timeout > 0 {
		deadline = w.now.Add(timeout)
	}
	p.waiting = true
	defer func() { p.waiting = false }()
	for {
		if !w.turn(p, deadline) {
			return ready, ErrDeadlock
		}
		if ready = p.collect(ready); len(ready) > n || p.woken.Swap(false) {
			return ready, nil
		}
		if !deadline.IsZero() && !w.now.Before(deadline) {
			return ready, nil
		}
	}
}

func (p *poller) Wake() error {
	p.woken.Store(true)
	return nil
}

func (p *poller) Close() error {
	p.closed = true
	return nil
}

// system is the core.System of a world.
type system struct{ w *World }

func (s *system) NewPoller(string) (core.Poller, error) {
	p := &poller{w: s.w, nodes: make(map[uint64]*node)}
	s.w.loops = append(s.w.loops, p)
	return p, nil
}

// Until steps the loops of a Group that runs.
func (s *system) Until(cond func() bool) error {
	for !cond() {
		if !s.w.turn(nil, time.Time{}) && !cond() {
			return ErrDeadlock
		}
	}
	return nil
}

func (s *system) Now() time.Time { return s.w.now }

// Go runs the work on the loop's own goroutine, at a time that the seed picks.
func (s *system) Go(work func()) {
	d := time.Duration(0)
	if s.w.c.Work > 0 {
		d = time.Duration(s.w.rng.Int64N(int64(s.w.c.Work) + 1))
	}
	s.w.at(s.w.now.Add(d), work)
}

func (s *system) LookupHost(_ context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	addrs, ok := s.w.hosts[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return addrs, nil
}

func (s *system) Reserve() (io.Closer, error) {
	if !s.w.openFile() {
		return nil, syscall.EMFILE
	}
	return &reserved{s.w}, nil
}

func (s *system) MaxFiles() int { return 0 }

type reserved struct{ w *World }

func (r *reserved) Close() error {
	r.w.files--
	return nil
}

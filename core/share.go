package core

import (
	"errors"
	"net"
	"sync"
)

// Share is how the loops of a Group share the connections of one address.
type Share uint8

const (
	// ShareBalanced: where the kernel spreads connections over sockets (TCP on Linux and FreeBSD) each loop has a socket of
	// its own. The kernel looks at addresses and not at how much a loop has, so a loop that has an eighth more open
	// connections of this address than another one hands the next on to that. Elsewhere it is ShareLeast.
	ShareBalanced Share = iota

	// ShareLeast: the first loop accepts, and the one with the fewest open connections of this address gets it.
	ShareLeast

	// ShareRoundRobin: the first loop accepts, and the loops take turns.
	ShareRoundRobin
)

// share is what the listeners of a Group have in common.
type share struct {
	group *Group
	how   Share
	all   []*Listener // by Loop.Index
	addr  net.Addr
	next  int // whose turn it is; only one loop accepts where that is looked at
}

// balancer is a System whose kernel spreads the connections of an address over the sockets that listen on it.
type balancer interface{ balances(network string) bool }

// listenGroup is Listen for a Group.
func (c *ListenConfig) listenGroup(g *Group, network, address string, h AcceptedHandler) (*Listener, error) {
	sys := g.loops[0].sys
	n, each := 1, *c
	if b, ok := sys.(balancer); ok && c.Share == ShareBalanced && b.balances(network) {
		n, each.balance = len(g.loops), true
	}
	var sockets []Socket
	for range n {
		s, err := sys.Listen(network, address, &each)
		if err != nil {
			closeSockets(sockets)
			return nil, err
		}
		sockets = append(sockets, s)
		if a := s.LocalAddr(); a != nil {
			address = a.String() // the port, and the address of a name, are chosen once
		}
		each.joins = true
	}
	ln, err := c.listenShared(g, sockets, h)
	if err != nil {
		closeSockets(sockets)
	}
	return ln, err
}

func closeSockets(sockets []Socket) {
	for _, s := range sockets {
		_ = s.Close()
	}
}

// listenShared makes the listeners of a Group, with a socket for each loop or one for the first. On an error the sockets are
// still the caller's: closing one twice does nothing.
func (c *ListenConfig) listenShared(g *Group, sockets []Socket, h AcceptedHandler) (*Listener, error) {
	sh := &share{group: g, how: c.Share, addr: sockets[0].LocalAddr()}
	if len(sockets) == 1 && sh.how == ShareBalanced {
		sh.how = ShareLeast
	}
	common := new(gate)
	for i, l := range g.loops {
		var s Socket
		if i < len(sockets) {
			s = sockets[i]
		}
		ln, err := c.newListener(l, s, h, common, sh)
		if err != nil {
			for _, ln := range sh.all {
				ln.d.retire(err) // its socket is the caller's
			}
			return nil, err
		}
		sh.all = append(sh.all, ln)
	}
	sh.all[0].SetLimit(c.Limit)
	return sh.all[0], nil
}

// each calls f for each listener, on its own loop if the Group runs.
func (sh *share) each(self *Listener, f func(*Listener) error) error {
	var errs []error
	for _, ln := range sh.all {
		if ln == self || !sh.group.running.Load() {
			errs = append(errs, f(ln))
			continue
		}
		self.loop.postTo(ln.loop, func() {
			if err := f(ln); err != nil {
				ln.loop.log.Error("listener", "listener", ln.d.String(), "err", err)
			}
		}, true)
	}
	return errors.Join(errs...)
}

// choose finds the listener that gets the connection that ln has accepted.
func (sh *share) choose(ln *Listener) *Listener {
	if sh.how == ShareRoundRobin {
		for range sh.all {
			to := sh.all[sh.next]
			sh.next = (sh.next + 1) % len(sh.all)
			if !to.inbox.isClosed() {
				return to
			}
		}
		return ln
	}
	least, fewest := ln, ln.conns.Load()
	for _, o := range sh.all {
		if n := o.conns.Load(); n < fewest && !o.inbox.isClosed() {
			least, fewest = o, n
		}
	}
	if sh.how == ShareBalanced && ln.conns.Load()-fewest <= fewest/8 {
		return ln
	}
	return least
}

// inbox holds the connections that another loop accepted for this one, until it takes them.
type inbox struct {
	mu      sync.Mutex
	queue   []Socket
	closed  bool
	onGiven func()
}

func (b *inbox) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// give hands a connection to ln, whose loop is another one. It answers false if ln is closed.
func (ln *Listener) give(from *Loop, s Socket) bool {
	b := &ln.inbox
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	b.queue = append(b.queue, s)
	b.mu.Unlock()
	from.postTo(ln.loop, b.onGiven, true) // a loop that is closed has its listener closed, which closes what waits
	return true
}

// takeGiven takes one connection: there is a post for each, so that a panic of a handler loses none.
func (ln *Listener) takeGiven() {
	b := &ln.inbox
	b.mu.Lock()
	if len(b.queue) == 0 { // closed meanwhile
		b.mu.Unlock()
		return
	}
	s := b.queue[0]
	b.queue[0] = nil
	if b.queue = b.queue[1:]; len(b.queue) == 0 {
		b.queue = nil
	}
	b.mu.Unlock()
	ln.take(s)
}

// accepting is the handler of a listener's own Dispatcher.
type accepting interface{ drop(err error) }

func (ln *Listener) acceptor() accepting {
	if ln.share != nil {
		return groupAcceptor{(*acceptor)(ln)}
	}
	return (*acceptor)(ln)
}

// groupAcceptor is the acceptor of a listener that others give connections to.
type groupAcceptor struct{ *acceptor }

// HandleClose closes what was given and not taken.
func (a groupAcceptor) HandleClose(*Dispatcher, error) {
	b := &a.inbox
	b.mu.Lock()
	queue := b.queue
	b.queue, b.closed = nil, true
	b.mu.Unlock()
	closeSockets(queue)
}

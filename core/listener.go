package core

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

// ListenConfig configures a Listener; the zero value is what Listen uses.
type ListenConfig struct {
	// Backlog is how many connections wait to be accepted: the system's maximum (SOMAXCONN) if 0.
	Backlog int

	// NoReuseAddr leaves SO_REUSEADDR off; without it a TCP listener sets it, as package net does. [set_reuse_addr]
	NoReuseAddr bool

	// ReusePort sets SO_REUSEPORT, so that several programs can listen on one address. The loops of a Group share theirs
	// without it.
	ReusePort bool

	// Delay and NoKeepAlive are for the accepted connections, as in Dialer.
	Delay       bool
	NoKeepAlive bool

	// Wrap, if not nil, puts a layer on each connection before HandleAccepted gets it.
	Wrap func(Socket) (Layered, error)

	// Limit bounds the accepted connections; see Listener.SetLimit.
	Limit Limit

	// Share is how the loops of a Group share the connections. On a Loop it means nothing.
	Share Share

	balance bool // the socket is one of several, over which the kernel spreads connections
	joins   bool // and not the first of them
}

// Limit bounds how many connections of a Listener are open at a time; on a Group, those of all its loops together.
type Limit struct {
	// Total bounds them all. 0: what the limit of open files leaves room for (15/16 of it, less 32), if the platform
	// says; negative: no bound. At the bound the listener stops accepting until a connection is closed: clients wait
	// in the backlog.
	Total int

	// PerAddr bounds those of one IPv4 address, or of one /64 of IPv6 addresses. 0: no bound, which is right behind a
	// proxy; behind none, set it. A connection over it is closed at once. It does not apply to unix.
	PerAddr int

	// Refusal, if not empty, is sent to each connection over a bound before it is closed; with it Total accepts and
	// closes instead of waiting. RefusalFunc, if not nil, is called for what to send in its place, with the time by Loop.Now:
	// for what has to say when it was sent. It is called on the accepting loop's goroutine, on those of a Group at the same
	// time, for every such connection: it should be quick.
	Refusal     string
	RefusalFunc func(now time.Time) string
}

// refuses tells whether connections over a bound are accepted, to be told so.
func (l *Limit) refuses() bool { return l.Refusal != "" || l.RefusalFunc != nil }

const (
	acceptRetryMin = 5 * time.Millisecond
	acceptRetryMax = time.Second
	starvedPeriod  = time.Minute // one log line of EMFILE at most
)

// Listener accepts connections on a loop, or on those of a Group. Its methods are for its loop's goroutine, but for Open, and
// for that of the program while the loop does not run. It is not a Dispatcher,
// as in asyncore, but has one.
type Listener struct {
	d     Dispatcher
	loop  *Loop
	h     AcceptedHandler
	wrap  func(Socket) (Layered, error)
	gate  *gate
	share *share       // what it has in common with those of the other loops; nil: it is the only one
	conns atomic.Int64 // open connections, on this loop
	inbox inbox        // connections that another loop accepted for this one

	paused    bool          // not accepting for want of descriptors
	retry     time.Duration // the length of that pause, 0 after a success
	starved   time.Time     // when the last log line of it was written
	offering  Socket        // the connection that HandleAccepted has now
	onRelease func()
	onResume  func()
}

// Listen accepts connections on an address: "host:port" on tcp, tcp4, tcp6 (an empty host: all addresses of the machine;
// port 0: any free one, see Addr), a path on unix, which is removed when the listener closes. A host name is resolved
// before Listen returns. On a Group, each loop gets its share of them: see ListenConfig.Share. [create_socket, bind, listen]
func Listen(r Runner, network, address string, h AcceptedHandler) (*Listener, error) {
	return new(ListenConfig).Listen(r, network, address, h)
}

// Listen is the func Listen with these settings.
func (c *ListenConfig) Listen(r Runner, network, address string, h AcceptedHandler) (*Listener, error) {
	if g := r.group(); g != nil {
		return c.listenGroup(g, network, address, h)
	}
	l := r.Loops()[0]
	s, err := l.sys.Listen(network, address, c)
	if err != nil {
		return nil, err
	}
	ln, err := c.ListenSocket(r, s, h)
	if err != nil {
		_ = s.Close()
	}
	return ln, err
}

// ListenSocket accepts connections on a socket that listens already: one that AdoptListener or Inherited gave. On an error
// it is still the caller's.
func (c *ListenConfig) ListenSocket(r Runner, s Socket, h AcceptedHandler) (*Listener, error) {
	if g := r.group(); g != nil {
		return c.listenShared(g, []Socket{s}, h)
	}
	ln, err := c.newListener(r.Loops()[0], s, h, new(gate), nil)
	if err == nil {
		ln.SetLimit(c.Limit)
	}
	return ln, err
}

// newListener makes the listener of one loop; s is nil if that gets its connections from others.
func (c *ListenConfig) newListener(l *Loop, s Socket, h AcceptedHandler, g *gate, sh *share) (*Listener, error) {
	if l.opts.Strict {
		if err := CheckHandler("core", h); err != nil {
			return nil, err
		}
	}
	if f, ok := h.(*Funcs); ok && f.Accepted == nil {
		return nil, errors.New("parley: Funcs.Accepted is nil")
	}
	ln := &Listener{loop: l, h: h, wrap: c.Wrap, gate: g, share: sh}
	ln.onRelease = func() { ln.release(netip.Prefix{}) }
	ln.onResume = ln.resume
	if sh != nil {
		ln.inbox.onGiven = ln.takeGiven
	}
	if s == nil {
		return ln, ln.d.prepare(l, ln.acceptor())
	}
	if o, ok := s.(listening); ok {
		if err := o.SetAccepted(c.Delay, c.NoKeepAlive); err != nil {
			return nil, err
		}
	}
	if err := l.reserve.open(l.sys); err != nil {
		return nil, err
	}
	if err := ln.d.Attach(l, s, ln.acceptor()); err != nil {
		return nil, err
	}
	return ln, nil
}

// Core returns the listener's channel; it makes a Listener a Channel.
func (ln *Listener) Core() *Dispatcher { return &ln.d }

// Loop returns the listener's loop. On a Group there is a Listener for each loop, and HandleAccepted gets that of its own;
// the one that Listen returned is the first loop's.
func (ln *Listener) Loop() *Loop { return ln.loop }

// Addr returns the address that it listens on, with the port that the system chose.
func (ln *Listener) Addr() net.Addr {
	if ln.share != nil {
		return ln.share.addr
	}
	return ln.d.LocalAddr()
}

// Close stops listening, on a Group for all of its loops. Connections stay open.
func (ln *Listener) Close() error {
	if ln.share != nil {
		return ln.share.each(ln, func(o *Listener) error { return o.d.Close() })
	}
	return ln.d.Close()
}

// Open returns how many of the accepted connections are open, on a Group those of all loops. From any goroutine.
func (ln *Listener) Open() int {
	ln.gate.mu.Lock()
	defer ln.gate.mu.Unlock()
	return ln.gate.open
}

// SetLimit replaces the limits, on a Group those of all loops together. Connections that are open stay so. PerAddr counts
// those that are accepted from now on.
func (ln *Listener) SetLimit(limit Limit) {
	if limit.Total == 0 {
		if files := ln.loop.sys.MaxFiles(); files > 0 {
			limit.Total = max(files-files/16-32, 1)
		} else {
			limit.Total = -1
		}
	}
	ln.gate.setLimit(limit)
	if ln.share == nil {
		ln.resume()
		return
	}
	_ = ln.share.each(ln, func(o *Listener) error {
		o.resume()
		return nil
	})
}

// resume turns accepting on or off, as the limit has it.
func (ln *Listener) resume() { ln.d.WantRead(!ln.gate.wait(ln) && !ln.paused) }

// release is called when an accepted connection closes, on whichever goroutine that is.
func (ln *Listener) release(peer netip.Prefix) {
	ln.conns.Add(-1)
	ln.gate.release(peer)
}

// acceptor is the Listener as the handler of its own Dispatcher.
type acceptor Listener

func (a *acceptor) UserHandler() any { return a.h }

// HandleRead accepts what waits, up to the budget.
func (a *acceptor) HandleRead(d *Dispatcher) error {
	ln, l := (*Listener)(a), d.loop
	for n := 0; n < AcceptBudget && d.wants(Read); n++ {
		place, wait := ln.gate.reserve(ln)
		if wait {
			d.WantRead(false)
			return nil
		}
		s, err := d.sock.Accept()
		if err != nil && place {
			ln.gate.unreserve()
		}
		switch {
		case err == nil:
			ln.retry = 0
			ln.accepted(s, place)
			l.enter(d, "HandleRead")
		case err == ErrWouldBlock:
			return nil
		case isAny(err, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM):
			ln.starve(err)
			return nil
		case isAny(err, syscall.EBADF, syscall.EINVAL, syscall.ENOTSOCK):
			d.broke(err) // not a listening socket any more
			return nil
		case isAny(err, connectionErrors...):
			// of that one connection
		default:
			ln.starve(err)
			return nil
		}
	}
	return nil
}

// connectionErrors are what accept reports of a connection that is gone already: accept(2), "Error handling".
var connectionErrors = []error{
	syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPROTO, syscall.ENETDOWN, syscall.ENOPROTOOPT, syscall.EHOSTDOWN,
	syscall.EHOSTUNREACH, syscall.EOPNOTSUPP, syscall.ENETUNREACH, syscall.ETIMEDOUT, syscall.EPERM,
}

func isAny(err error, list ...error) bool {
	for _, e := range list {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// accepted sends a connection where it belongs.
func (ln *Listener) accepted(s Socket, place bool) {
	to := ln
	if ln.share != nil {
		to = ln.share.choose(ln)
	}
	switch {
	case !place || !ln.gate.admit(to, s):
		ln.refuse(s)
	case to == ln:
		ln.take(s)
	case !to.give(ln.loop, s):
		_ = s.Close() // it closes just now, as all of them do
	}
}

// take is the end of an accept, on the loop that the connection stays on.
func (ln *Listener) take(s Socket) {
	l := ln.loop
	l.stats.Accepted++
	ln.offering = s
	start := l.enter(&ln.d, "HandleAccepted")
	err := ln.offer(s)
	l.leave(start)
	if err != nil {
		ln.d.Fail("HandleAccepted", err)
	}
	ln.offering = nil
	l.settle()
}

// offer gives a connection to the handler.
func (ln *Listener) offer(s Socket) error {
	if ln.wrap != nil {
		layer, err := ln.wrap(s)
		if err != nil {
			return err
		}
		s = layer
	}
	return ln.h.HandleAccepted(ln, s)
}

// refuse closes a connection that is over a bound.
func (ln *Listener) refuse(s Socket) {
	ln.loop.stats.Refused++
	defer s.Close() // also if RefusalFunc panics
	if refusal := ln.gate.refusal(ln.loop); refusal != "" {
		_, _ = s.Send([]byte(refusal)) // a new connection has room for it, or the peer is gone
		_ = s.CloseWrite()
		_, _ = s.Recv(ln.loop.buf) // so that what it said first does not turn the close into a reset
	}
}

// HandleError is told of an error or a panic of HandleAccepted: that connection closes, the listener goes on.
func (a *acceptor) HandleError(d *Dispatcher, err error) {
	d.loop.logFailure(d, "HandleAccepted", err)
	a.drop(err)
}

// drop closes the connection that HandleAccepted failed on, whether or not it is attached already.
func (a *acceptor) drop(err error) {
	s := a.offering
	a.offering = nil
	if s == nil {
		return
	}
	for c := range a.d.loop.All() {
		if c.sock != nil && base(c.sock) == s {
			c.shut(err)
			return
		}
	}
	_ = s.Close()
}

// starve is called when there is no descriptor or memory for a connection: shed it with the reserved descriptor, so that
// its client need not wait, and pause.
func (ln *Listener) starve(err error) {
	l := ln.d.loop
	if l.reserve.shed(l.sys, ln.d.sock) {
		l.stats.Refused++
	}
	if now := l.Now(); ln.starved.IsZero() || now.Sub(ln.starved) >= starvedPeriod {
		ln.starved = now
		l.log.Error("cannot accept; shedding clients until there is room", "listener", ln.d.String(), "err", err)
	}
	ln.retry = min(max(2*ln.retry, acceptRetryMin), acceptRetryMax)
	ln.paused = true
	ln.resume()
	ln.d.AfterFunc(ln.retry, func() {
		ln.paused = false
		ln.resume()
	})
}

// reserve is a descriptor kept for the moment when there is none left.
type reserve struct{ c io.Closer }

func (r *reserve) open(sys System) error {
	if r.c != nil {
		return nil
	}
	c, err := sys.Reserve()
	if err == nil { // else c may be a nil *os.File
		r.c = c
	}
	return err
}

func (r *reserve) close() {
	if r.c != nil {
		_ = r.c.Close()
		r.c = nil
	}
}

// shed accepts one connection with the reserved descriptor and closes it.
func (r *reserve) shed(sys System, listening Socket) bool {
	r.close()
	s, err := listening.Accept()
	if err == nil {
		_ = s.Close()
	}
	_ = r.open(sys) // fails if another goroutine took the descriptor; then there is none to shed with for a while
	return err == nil
}

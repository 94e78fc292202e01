package core

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// ListenConfig configures a Listener; the zero value is what Listen uses.
type ListenConfig struct {
	// Backlog is how many connections wait to be accepted: the system's maximum (SOMAXCONN) if 0.
	Backlog int

	// NoReuseAddr leaves SO_REUSEADDR off; without it a TCP listener sets it, as package net does. [set_reuse_addr]
	NoReuseAddr bool

	// ReusePort sets SO_REUSEPORT, so that several listeners share one address.
	ReusePort bool

	// Delay and NoKeepAlive are for the accepted connections, as in Dialer.
	Delay       bool
	NoKeepAlive bool

	// Wrap, if not nil, puts a layer on each connection before HandleAccepted gets it.
	Wrap func(Socket) (Layered, error)

	// Limit bounds the accepted connections; see Listener.SetLimit.
	Limit Limit
}

// Limit bounds how many connections of a Listener are open at a time.
type Limit struct {
	// Total bounds them all. 0: what the limit of open files leaves room for (15/16 of it, less 32), if the platform
	// says; negative: no bound. At the bound the listener stops accepting until a connection is closed: clients wait
	// in the backlog.
	Total int

	// PerAddr bounds those of one IPv4 address, or of one /64 of IPv6 addresses. 0: no bound, which is right behind a
	// proxy; behind none, set it. A connection over it is closed at once. It does not apply to unix.
	PerAddr int

	// Refusal, if not empty, is sent to each connection over a bound before it is closed; with it Total accepts and
	// closes instead of waiting.
	Refusal string
}

const (
	acceptRetryMin = 5 * time.Millisecond
	acceptRetryMax = time.Second
	starvedPeriod  = time.Minute // one log line of EMFILE at most
)

// Listener accepts connections on a loop. Its methods are for the loop's goroutine, but for Open. It is not a Dispatcher,
// as in asyncore, but has one.
type Listener struct {
	d     Dispatcher
	h     AcceptedHandler
	wrap  func(Socket) (Layered, error)
	limit Limit
	addrs map[netip.Prefix]int // open connections by peer, if there is a PerAddr limit

	mu   sync.Mutex // connections may be handed to other loops
	open int
	full bool // not accepting because of Total

	paused    bool          // not accepting for want of descriptors
	retry     time.Duration // the length of that pause, 0 after a success
	starved   time.Time     // when the last log line of it was written
	offering  Socket        // the connection that HandleAccepted has now
	onRelease func()
}

// Listen accepts connections on an address: "host:port" on tcp, tcp4, tcp6 (an empty host: all addresses of the machine;
// port 0: any free one, see Addr), a path on unix, which is removed when the listener closes. A host name is resolved
// before Listen returns. [create_socket, bind, listen]
func Listen(l *Loop, network, address string, h AcceptedHandler) (*Listener, error) {
	return new(ListenConfig).Listen(l, network, address, h)
}

// Listen is the func Listen with these settings.
func (c *ListenConfig) Listen(l *Loop, network, address string, h AcceptedHandler) (*Listener, error) {
	s, err := l.sys.Listen(network, address, c)
	if err != nil {
		return nil, err
	}
	ln, err := c.ListenSocket(l, s, h)
	if err != nil {
		_ = s.Close()
	}
	return ln, err
}

// ListenSocket accepts connections on a socket that listens already: one that AdoptListener or Inherited gave.
func (c *ListenConfig) ListenSocket(l *Loop, s Socket, h AcceptedHandler) (*Listener, error) {
	if l.opts.Strict {
		if err := CheckHandler("core", h); err != nil {
			return nil, err
		}
	}
	if f, ok := h.(*Funcs); ok && f.Accepted == nil {
		return nil, errors.New("parley: Funcs.Accepted is nil")
	}
	if o, ok := s.(listening); ok {
		if err := o.SetAccepted(c.Delay, c.NoKeepAlive); err != nil {
			return nil, err
		}
	}
	if err := l.reserve.open(l.sys); err != nil {
		return nil, err
	}
	ln := &Listener{h: h, wrap: c.Wrap}
	ln.onRelease = func() { ln.release(netip.Prefix{}) }
	if err := ln.d.Attach(l, s, (*acceptor)(ln)); err != nil {
		return nil, err
	}
	ln.SetLimit(c.Limit)
	return ln, nil
}

// Core returns the listener's channel; it makes a Listener a Channel.
func (ln *Listener) Core() *Dispatcher { return &ln.d }

// Loop returns the listener's loop.
func (ln *Listener) Loop() *Loop { return ln.d.loop }

// Addr returns the address that it listens on, with the port that the system chose.
func (ln *Listener) Addr() net.Addr { return ln.d.LocalAddr() }

// Close stops listening. Connections stay open.
func (ln *Listener) Close() error { return ln.d.Close() }

// Open returns how many of the accepted connections are open. From any goroutine.
func (ln *Listener) Open() int {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return ln.open
}

// SetLimit replaces the limits. Connections that are open stay so. PerAddr counts those that are accepted from now on.
func (ln *Listener) SetLimit(limit Limit) {
	if limit.Total == 0 {
		if files := ln.d.loop.sys.MaxFiles(); files > 0 {
			limit.Total = max(files-files/16-32, 1)
		} else {
			limit.Total = -1
		}
	}
	ln.mu.Lock()
	ln.limit = limit
	if limit.PerAddr > 0 && ln.addrs == nil {
		ln.addrs = make(map[netip.Prefix]int)
	}
	ln.mu.Unlock()
	ln.resume()
}

// resume turns accepting on or off, as the limit has it.
func (ln *Listener) resume() {
	ln.mu.Lock()
	ln.full = ln.isFull()
	full := ln.full
	ln.mu.Unlock()
	ln.d.WantRead(!full && !ln.paused)
}

func (ln *Listener) isFull() bool {
	return ln.limit.Total >= 0 && ln.open >= ln.limit.Total && ln.limit.Refusal == ""
}

// admit counts a connection, or answers that it is over a bound. full: it is the last one for now.
func (ln *Listener) admit(s Socket) (ok, full bool) {
	c, countable := s.(closeNotifier)
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.limit.Total >= 0 && ln.open >= ln.limit.Total {
		return false, false
	}
	release := ln.onRelease
	if ln.limit.PerAddr > 0 {
		if peer := peerPrefix(s); peer.IsValid() {
			if ln.addrs[peer] >= ln.limit.PerAddr {
				return false, false
			}
			ln.addrs[peer]++
			release = func() { ln.release(peer) }
		}
	}
	if countable {
		c.OnClose(release)
		ln.open++
		ln.full = ln.isFull()
	}
	return true, ln.full
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

// release is called when an accepted connection closes, on whichever goroutine that is.
func (ln *Listener) release(peer netip.Prefix) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.open--
	if peer.IsValid() {
		if ln.addrs[peer]--; ln.addrs[peer] <= 0 {
			delete(ln.addrs, peer)
		}
	}
	if ln.full {
		ln.full = false
		l := ln.d.loop
		l.box.put(l, ln.resume, true)
	}
}

// acceptor is the Listener as the handler of its own Dispatcher.
type acceptor Listener

func (a *acceptor) UserHandler() any { return a.h }

// HandleRead accepts what waits, up to the budget.
func (a *acceptor) HandleRead(d *Dispatcher) error {
	ln, l := (*Listener)(a), d.loop
	for n := 0; n < AcceptBudget && d.wants(Read); n++ {
		s, err := d.sock.Accept()
		switch {
		case err == nil:
			ln.retry = 0
			ln.accepted(s)
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

// accepted hands a connection on.
func (ln *Listener) accepted(s Socket) {
	l := ln.d.loop
	ok, full := ln.admit(s)
	if !ok {
		ln.refuse(s)
		return
	}
	if full {
		ln.d.WantRead(false)
	}
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
	if ln.limit.Refusal != "" {
		_, _ = s.Send([]byte(ln.limit.Refusal)) // a new connection has room for it, or the peer is gone
		_ = s.CloseWrite()
		_, _ = s.Recv(ln.d.loop.buf) // so that what it said first does not turn the close into a reset
	}
	_ = s.Close()
	ln.d.loop.stats.Refused++
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

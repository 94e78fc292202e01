package core

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	// DefaultConnectTimeout is what Dial waits for a connection, name resolution and all addresses together.
	DefaultConnectTimeout = 30 * time.Second

	minAddressTimeout = 2 * time.Second // for one address of several, while that much is left
	unixRetryMin      = time.Millisecond
	unixRetryMax      = 100 * time.Millisecond
)

// Dialer configures outgoing connections; the zero value is what Dial uses.
type Dialer struct {
	// Timeout bounds name resolution and all attempts together: DefaultConnectTimeout if 0, none if negative.
	Timeout time.Duration

	// LocalAddr is the address to connect from; any if zero. For IP networks.
	LocalAddr netip.AddrPort

	// Delay leaves Nagle's algorithm on; without it TCP_NODELAY is set, as package net does.
	Delay bool

	// NoKeepAlive leaves TCP keep-alive off; without it the peer is probed after 15 s of silence, as package net does.
	NoKeepAlive bool

	// Wrap, if not nil, puts a layer on the connection before HandleConnect.
	Wrap func(Socket) (Layered, error)
}

// Dial connects to an address: "host:port" on tcp, tcp4, tcp6, udp, udp4, udp6, a path on unix and unixgram. It returns
// at once; name resolution runs off the loop, and the addresses are tried one after the other. HandleConnect follows, or
// HandleClose with the cause: a *net.OpError, ErrTimeout inside it when the time was up. Until then WantWrite, timers and
// Close work; Send answers ErrWouldBlock. An error is returned only for what is wrong with the call itself. [connect]
func Dial(l *Loop, network, address string, h any) (*Dispatcher, error) {
	d := new(Dispatcher)
	if err := new(Dialer).Attach(d, l, network, address, h); err != nil {
		return nil, err
	}
	return d, nil
}

// Attach is Dial with these settings, for a Dispatcher that is part of another struct. It must be its zero value.
func (c *Dialer) Attach(d *Dispatcher, l *Loop, network, address string, h any) error {
	t, err := parseTarget(network, address)
	if err != nil {
		return &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if err := d.prepare(l, h); err != nil {
		return err
	}
	d.state |= stConnecting
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultConnectTimeout
	}
	x := &dialing{Dialer: *c, target: t, retry: unixRetryMin}
	d.extend().dial = x
	if timeout > 0 {
		x.deadline = l.clock() + int64(timeout)
		x.timeout = d.AfterFunc(timeout, d.connectTimeout)
	}
	if t.resolved() {
		x.addrs = t.literal()
		d.nextAddress()
		return nil
	}
	Go(d, func(ctx context.Context) ([]netip.AddrPort, error) {
		return t.resolve(ctx, l.sys)
	}, func(addrs []netip.AddrPort, err error) error {
		if err != nil {
			d.broke(&net.OpError{Op: "dial", Net: network, Err: err})
			return nil
		}
		x.addrs = addrs
		d.nextAddress()
		return nil
	})
	return nil
}

// target is a parsed address.
type target struct {
	network string
	path    string // unix, unixgram
	host    string
	service string
	addr    netip.Addr // of a literal host
	port    uint16     // of a numeric service
	numeric bool
}

func parseTarget(network, address string) (t target, err error) {
	t.network = network
	switch network {
	case "unix", "unixgram":
		if address == "" {
			return t, errors.New("missing path")
		}
		t.path = address
		return t, nil
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return t, net.UnknownNetworkError(network)
	}
	if t.host, t.service, err = net.SplitHostPort(address); err != nil {
		return t, err
	}
	if n, err := strconv.ParseUint(t.service, 10, 16); err == nil {
		t.port, t.numeric = uint16(n), true
	} else if t.service == "" || t.service[0] >= '0' && t.service[0] <= '9' {
		return t, &net.AddrError{Err: "invalid port", Addr: address}
	}
	if a, err := netip.ParseAddr(t.host); err == nil {
		t.addr = a
		if !t.fits(a) {
			return t, &net.AddrError{Err: "address does not fit the network " + network, Addr: address}
		}
	}
	return t, nil
}

func (t *target) fits(a netip.Addr) bool {
	switch t.network[len(t.network)-1] {
	case '4':
		return a.Unmap().Is4()
	case '6':
		return a.Is6() && !a.Is4In6()
	}
	return true
}

// resolved tells whether no look-up is needed.
func (t *target) resolved() bool {
	return t.path != "" || t.numeric && (t.addr.IsValid() || t.host == "")
}

// literal is the address of a target that needs no look-up. An empty host is the local one.
func (t *target) literal() (addrs []netip.AddrPort) {
	if t.path != "" {
		return []netip.AddrPort{{}}
	}
	if t.addr.IsValid() {
		return []netip.AddrPort{netip.AddrPortFrom(t.addr, t.port)}
	}
	for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
		if t.fits(a) {
			addrs = append(addrs, netip.AddrPortFrom(a, t.port))
		}
	}
	return addrs
}

// resolve looks names up; it runs on a worker.
func (t *target) resolve(ctx context.Context, sys System) ([]netip.AddrPort, error) {
	port := int(t.port)
	if !t.numeric {
		var err error
		if port, err = net.DefaultResolver.LookupPort(ctx, t.network, t.service); err != nil {
			return nil, err
		}
	}
	if t.addr.IsValid() || t.host == "" {
		resolved := *t
		resolved.port = uint16(port)
		return resolved.literal(), nil
	}
	found, err := sys.LookupHost(ctx, t.host)
	if err != nil {
		return nil, err
	}
	var addrs []netip.AddrPort
	for _, a := range found {
		if t.fits(a) {
			addrs = append(addrs, netip.AddrPortFrom(a.Unmap(), uint16(port)))
		}
	}
	if len(addrs) == 0 {
		return nil, &net.AddrError{Err: "no address for network " + t.network, Addr: t.host}
	}
	return addrs, nil
}

// dialing is the state of a Dial until the connection is there.
type dialing struct {
	Dialer
	target   target
	addrs    []netip.AddrPort
	next     int
	errs     []error
	deadline int64  // on the loop's clock, 0: none
	timeout  *Timer // for everything
	attempt  *Timer // for one address of several
	retry    time.Duration
}

// endpoint is the address being tried.
func (x *dialing) endpoint(i int) Endpoint {
	return Endpoint{AddrPort: x.addrs[i], Path: x.target.path}
}

func (x *dialing) addr(i int) net.Addr {
	if x.target.path != "" {
		return &net.UnixAddr{Name: x.target.path, Net: x.target.network}
	}
	if x.target.network[0] == 'u' {
		return net.UDPAddrFromAddrPort(x.addrs[i])
	}
	return net.TCPAddrFromAddrPort(x.addrs[i])
}

// nextAddress begins the next attempt. The decision, even an immediate one, comes as an event.
func (d *Dispatcher) nextAddress() {
	x := d.ext.dial
	for ; x.next < len(x.addrs); x.next++ {
		s, err := d.loop.sys.Connect(x.target.network, x.endpoint(x.next), &x.Dialer)
		if err == nil {
			if err = d.setSocket(s); err == nil {
				x.limitAttempt(d)
				return
			}
			d.dropSocket()
		}
		if x.target.network == "unix" && errors.Is(err, syscall.EAGAIN) {
			d.AfterFunc(x.retry, d.nextAddress) // the listener's backlog is full: this is no connect in progress
			x.retry = min(2*x.retry, unixRetryMax)
			return
		}
		x.failed(err)
	}
	d.broke(x.cause())
}

// cause is the error of the only attempt, or those of all.
func (x *dialing) cause() error {
	if len(x.errs) == 1 {
		return x.errs[0]
	}
	return errors.Join(x.errs...)
}

func (x *dialing) failed(err error) {
	if _, ok := err.(syscall.Errno); ok {
		err = os.NewSyscallError("connect", err)
	}
	x.errs = append(x.errs, opError("dial", x.target.network, x.addr(x.next), err))
}

// limitAttempt leaves time for the addresses behind this one.
func (x *dialing) limitAttempt(d *Dispatcher) {
	rest := len(x.addrs) - x.next - 1
	if x.deadline == 0 || rest == 0 {
		return
	}
	left := time.Duration(x.deadline - d.loop.clock())
	x.attempt = d.AfterFunc(max(left/time.Duration(rest+1), min(minAddressTimeout, left)), func() {
		d.giveUp(ErrTimeout)
	})
}

// stop ends the timers of a Dial that is decided.
func (x *dialing) stop() {
	for _, t := range []*Timer{x.timeout, x.attempt} {
		if t != nil {
			t.Stop()
		}
	}
}

// giveUp goes on to the next address.
func (d *Dispatcher) giveUp(err error) {
	x := d.ext.dial
	if x.attempt != nil {
		x.attempt.Stop()
	}
	d.dropSocket()
	x.failed(err)
	x.next++
	d.nextAddress()
}

func (d *Dispatcher) dropSocket() {
	d.disarm()
	d.state &^= stParked
	_ = d.sock.Close()
	d.sock = nil
}

func (d *Dispatcher) connectTimeout() {
	x := d.ext.dial
	if x.next < len(x.addrs) {
		x.failed(ErrTimeout)
		d.broke(x.cause())
		return
	}
	d.broke(&net.OpError{Op: "dial", Net: x.target.network, Err: fmt.Errorf("looking up %s: %w", x.target.host, ErrTimeout)})
}

// connected is asked when the socket of a Dial is ready; it answers whether the event may go on to HandleRead and
// HandleWrite.
func (d *Dispatcher) connected() bool {
	if c, ok := d.sock.(connecter); ok {
		if err := c.ConnectResult(); err == ErrWouldBlock {
			return false
		} else if err != nil {
			d.giveUp(err)
			return false
		}
	}
	x := d.ext.dial
	d.ext.dial = nil
	x.stop()
	d.state &^= stConnecting
	d.touch()
	d.opened()
	if x.Wrap != nil {
		layer, err := x.Wrap(d.sock)
		if err == nil {
			err = d.Upgrade(layer)
		}
		if err != nil {
			d.broke(err)
			return false
		}
	}
	if d.has.has(hasConnect) {
		invoke(d, "HandleConnect", ConnectHandler[*Dispatcher].HandleConnect)
	}
	return d.alive()
}

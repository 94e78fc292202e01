package sim

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/parley-go/parley/core"
)

// listener is a listening stream socket.
type listener struct {
	node
	w       *World
	network string
	addr    address
	backlog int
	queue   []*conn
	closed  bool
	accept  func(*conn) // a PeerListener's
}

const (
	defaultBacklog = 4096
	synRetry       = time.Second // what a client waits whose SYN was dropped
)

func (l *listener) readiness() core.Interest {
	if len(l.queue) > 0 {
		return core.Read
	}
	return 0
}

func (l *listener) Accept() (core.Socket, error) {
	switch {
	case l.closed:
		return nil, syscall.EBADF
	case len(l.queue) == 0 || l.lies(core.Read):
		return nil, core.ErrWouldBlock
	case !l.w.openFile():
		return nil, syscall.EMFILE
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	c.fd = true
	return c, nil
}

// push queues a connection whose handshake is done; false: the backlog is full.
func (l *listener) push(c *conn) bool {
	if l.accept != nil {
		l.accept(c)
		return true
	}
	if len(l.queue) >= l.backlog {
		return false
	}
	l.queue = append(l.queue, c)
	l.changed()
	return true
}

func (l *listener) Close() error {
	if l.closed {
		return nil
	}
	l.closed = true
	delete(l.w.listeners, key(l.network, l.addr))
	for _, c := range l.queue {
		c.resetPeer()
		c.state = closed
	}
	if l.fd {
		l.w.files--
	}
	return nil
}

func (l *listener) LocalAddr() net.Addr  { return l.addr.netAddr(l.network) }
func (l *listener) RemoteAddr() net.Addr { return nil }
func (l *listener) FD() int              { return -1 }

func (l *listener) Recv([]byte) (int, error) { return 0, syscall.ENOTCONN }
func (l *listener) Send([]byte) (int, error) { return 0, syscall.ENOTCONN }
func (l *listener) RecvFrom([]byte) (int, core.Endpoint, error) {
	return 0, core.Endpoint{}, syscall.ENOTCONN
}
func (l *listener) SendTo([]byte, core.Endpoint) (int, error) { return 0, syscall.ENOTCONN }
func (l *listener) CloseWrite() error                         { return syscall.ENOTCONN }

func key(network string, a address) string { return family(network) + " " + a.ip.String() + a.path }

// resolve turns an address into what it stands for; listening allows an empty host and port 0.
func (w *World) resolve(network, addr string, listening bool) (address, error) {
	if family(network) == "unix" || network == "unixgram" {
		return address{path: addr}, nil
	}
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return address{}, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return address{}, &net.AddrError{Err: "invalid port", Addr: addr}
	}
	if listening && port == 0 {
		w.lastPort++
		port = uint64(w.lastPort)
	}
	ip := netip.IPv6Unspecified()
	if host != "" {
		addrs, err := (&system{w}).LookupHost(context.Background(), host)
		if err != nil {
			return address{}, err
		}
		ip = addrs[0]
	} else if !listening {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return address{ip: netip.AddrPortFrom(ip, uint16(port))}, nil
}

// find returns the listener of an address, or one on all addresses of the machine.
func (w *World) find(network string, a address) *listener {
	if l := w.listeners[key(network, a)]; l != nil {
		return l
	}
	for _, any := range []netip.Addr{netip.IPv6Unspecified(), netip.IPv4Unspecified()} {
		if l := w.listeners[key(network, address{ip: netip.AddrPortFrom(any, a.ip.Port())})]; l != nil && a.path == "" {
			return l
		}
	}
	return nil
}

func (w *World) listen(network, addr string, backlog int) (*listener, error) {
	a, err := w.resolve(network, addr, true)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	if w.listeners[key(network, a)] != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: a.netAddr(network),
			Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	if backlog <= 0 {
		backlog = defaultBacklog
	}
	l := &listener{w: w, network: network, addr: a, backlog: backlog}
	l.self = l
	w.listeners[key(network, a)] = l
	return l, nil
}

func (s *system) Listen(network, addr string, c *core.ListenConfig) (core.Socket, error) {
	l, err := s.w.listen(network, addr, c.Backlog)
	if err != nil {
		return nil, err
	}
	if l.fd = s.w.openFile(); !l.fd {
		_ = l.Close()
		return nil, &net.OpError{Op: "listen", Net: network, Err: os.NewSyscallError("socket", syscall.EMFILE)}
	}
	return l, nil
}

func (s *system) Connect(network string, to core.Endpoint, d *core.Dialer) (core.Socket, error) {
	w := s.w
	a := address{ip: to.AddrPort, path: to.Path}
	if family(network) == "udp" || network == "unixgram" {
		p, err := s.ListenPacket(network, w.clientAddr(network, d.LocalAddr).string(network))
		if err != nil {
			return nil, err
		}
		p.(*packetConn).peer = a
		return p, nil
	}
	if !w.openFile() {
		return nil, os.NewSyscallError("socket", syscall.EMFILE)
	}
	c := w.newConn(family(network), w.clientAddr(network, d.LocalAddr), a)
	c.fd = true
	if err := w.connect(c); err != nil {
		c.fd = false
		w.files--
		return nil, err
	}
	return c, nil
}

// clientAddr is a fresh address to connect from.
func (w *World) clientAddr(network string, wish netip.AddrPort) address {
	if network == "unix" || network == "unixgram" {
		return address{}
	}
	if !wish.IsValid() {
		wish = netip.AddrPortFrom(w.hosts["client"][0], 0)
	}
	if wish.Port() == 0 {
		w.lastPort++
		wish = netip.AddrPortFrom(wish.Addr(), w.lastPort)
	}
	return address{ip: wish}
}

func (a address) string(network string) string {
	if network == "unix" || network == "unixgram" {
		return a.path
	}
	return a.ip.String()
}

// connect begins the handshake.
func (w *World) connect(c *conn) error {
	if c.network == "unix" {
		l := w.find("unix", c.remote)
		if l == nil {
			return syscall.ECONNREFUSED
		}
		server := w.establish(c)
		if !l.push(server) {
			return syscall.EAGAIN
		}
		c.state = connected
		c.changed()
		return nil
	}
	if !w.holes[c.remote.ip.Addr()] {
		w.at(w.now.Add(w.delay()), func() { w.syn(c) })
	}
	return nil
}

// establish makes the server's end.
func (w *World) establish(c *conn) *conn {
	server := w.newConn(c.network, c.remote, c.local)
	server.state = connected
	server.other, c.other = c, server
	return server
}

// syn is what happens when a client's first packet arrives.
func (w *World) syn(c *conn) {
	if c.state == closed {
		return
	}
	l := w.find(c.network, c.remote)
	if l == nil {
		w.at(w.now.Add(w.delay()), func() {
			if c.state == connecting {
				c.state, c.err = refused, syscall.ECONNREFUSED
				c.notify()
			}
		})
		return
	}
	server := w.establish(c)
	if !l.push(server) {
		w.at(w.now.Add(synRetry), func() { w.syn(c) })
		return
	}
	server.last = w.now.Add(w.delay()) // nothing of the server's overtakes the handshake
	w.at(server.last, func() {
		if c.state == connecting {
			c.state = connected
			c.notify()
		}
	})
}

// packetConn is a datagram socket.
type packetConn struct {
	node
	w       *World
	network string
	addr    address
	peer    address // connected to
	queue   []packet
	closed  bool
	onData  func() // a PacketPeer's
}

type packet struct {
	data []byte
	from address
}

const packetQueue = 256

func (s *system) ListenPacket(network, addr string) (core.Socket, error) {
	p, err := s.w.listenPacket(network, addr)
	if err != nil {
		return nil, err
	}
	if p.fd = s.w.openFile(); !p.fd {
		_ = p.Close()
		return nil, &net.OpError{Op: "listen", Net: network, Err: os.NewSyscallError("socket", syscall.EMFILE)}
	}
	return p, nil
}

func (w *World) listenPacket(network, addr string) (*packetConn, error) {
	a, err := w.resolve(network, addr, true)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	p := &packetConn{w: w, network: network, addr: a}
	p.self = p
	if a != (address{}) {
		if w.packets[key(network, a)] != nil {
			return nil, &net.OpError{Op: "listen", Net: network, Addr: a.netAddr(network),
				Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
		}
		w.packets[key(network, a)] = p
	}
	return p, nil
}

func (p *packetConn) readiness() core.Interest {
	if len(p.queue) > 0 {
		return core.Read | core.Write
	}
	return core.Write
}

func (p *packetConn) RecvFrom(b []byte) (int, core.Endpoint, error) {
	if p.closed {
		return 0, core.Endpoint{}, syscall.EBADF
	}
	if len(p.queue) == 0 || p.lies(core.Read) {
		return 0, core.Endpoint{}, core.ErrWouldBlock
	}
	m := p.queue[0]
	p.queue = p.queue[1:]
	return copy(b, m.data), core.Endpoint{AddrPort: m.from.ip, Path: m.from.path}, nil
}

func (p *packetConn) Recv(b []byte) (int, error) {
	n, _, err := p.RecvFrom(b)
	return n, err
}

func (p *packetConn) SendTo(b []byte, to core.Endpoint) (int, error) {
	if p.closed {
		return 0, syscall.EBADF
	}
	a := address{ip: to.AddrPort, path: to.Path}
	if a == (address{}) {
		a = p.peer
	}
	if a == (address{}) {
		return 0, syscall.EDESTADDRREQ
	}
	m := packet{append([]byte(nil), b...), p.addr}
	if p.w.chance(p.w.c.Loss) {
		return len(b), nil
	}
	p.w.at(p.w.now.Add(p.w.delay()), func() { // jitter may reorder datagrams
		o := p.w.packets[key(p.network, a)]
		if o == nil || o.closed || len(o.queue) >= packetQueue {
			return
		}
		o.queue = append(o.queue, m)
		o.changed()
		if o.onData != nil {
			o.onData()
		}
	})
	return len(b), nil
}

func (p *packetConn) Send(b []byte) (int, error) { return p.SendTo(b, core.Endpoint{}) }

func (p *packetConn) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	if p.w.packets[key(p.network, p.addr)] == p {
		delete(p.w.packets, key(p.network, p.addr))
	}
	if p.fd {
		p.w.files--
	}
	return nil
}

func (p *packetConn) Accept() (core.Socket, error) { return nil, syscall.EOPNOTSUPP }
func (p *packetConn) CloseWrite() error            { return syscall.EOPNOTSUPP }
func (p *packetConn) LocalAddr() net.Addr          { return p.addr.netAddr(p.network) }
func (p *packetConn) FD() int                      { return -1 }
func (p *packetConn) RemoteAddr() net.Addr {
	if p.peer == (address{}) {
		return nil
	}
	return p.peer.netAddr(p.network)
}

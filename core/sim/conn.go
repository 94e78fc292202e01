package sim

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/parley-go/parley/core"
)

// conn is one end of a stream.
type conn struct {
	node
	w       *World
	network string // "tcp" or "unix"
	local   address
	remote  address
	other   *conn

	buf      []byte // arrived and not read
	coming   int    // sent by the other end and not arrived
	last     time.Time
	fin      bool // the end of the other end's stream arrived
	err      error
	urgent   []byte
	state    connState
	wrote    bool // CloseWrite was called
	aborting bool
	onClose  func()
	onChange func() // a Peer's: something arrived, or there is room
	plan     []int  // see Peer.PlanSends
}

type connState uint8

const (
	connecting connState = iota
	connected
	refused
	closed
)

// address is an IP one or a path.
type address struct {
	ip   netip.AddrPort
	path string
}

func (a address) netAddr(network string) net.Addr {
	switch {
	case network == "unix" || network == "unixgram":
		return &net.UnixAddr{Name: a.path, Net: network}
	case network[0] == 'u':
		return net.UDPAddrFromAddrPort(a.ip)
	}
	return net.TCPAddrFromAddrPort(a.ip)
}

func (w *World) newConn(network string, local, remote address) *conn {
	c := &conn{w: w, network: network, local: local, remote: remote}
	c.self = c
	return c
}

// pair connects two ends.
func (w *World) pair(network string, a, b address) (*conn, *conn) {
	x, y := w.newConn(network, a, b), w.newConn(network, b, a)
	x.other, y.other = y, x
	x.state, y.state = connected, connected
	return x, y
}

func (c *conn) readiness() (got core.Interest) {
	switch {
	case c.state == connecting:
		return 0
	case c.err != nil || c.state == refused:
		return core.Read | core.Write | core.Failed | core.Hangup
	}
	if len(c.buf) > 0 || c.fin {
		got |= core.Read
	}
	if c.room() > 0 {
		got |= core.Write
	}
	if len(c.urgent) > 0 {
		got |= core.Urgent
	}
	if c.fin && c.wrote {
		got |= core.Hangup
	}
	return got
}

// room is how many bytes Send can take.
func (c *conn) room() int {
	if c.other.state == closed {
		return c.w.c.Window
	}
	return c.w.c.Window - c.other.coming - len(c.other.buf)
}

func (c *conn) notify() {
	c.changed()
	if c.onChange != nil {
		c.onChange()
	}
}

func (c *conn) Recv(p []byte) (int, error) {
	switch {
	case c.state == closed:
		return 0, syscall.EBADF
	case c.state == connecting:
		return 0, core.ErrWouldBlock
	case len(c.buf) == 0 && c.err != nil:
		return 0, c.err
	case len(c.buf) == 0 && c.fin:
		return 0, io.EOF
	case len(c.buf) == 0 || c.lies(core.Read):
		return 0, core.ErrWouldBlock
	}
	n := min(len(p), len(c.buf))
	if c.fd { // the loops' side: cuts
		if m := c.w.c.MaxRecv; m > 0 {
			n = min(n, m)
		}
		if c.w.c.RandomCuts {
			n = 1 + c.w.rng.IntN(n)
		}
	}
	copy(p, c.buf[:n])
	c.buf = c.buf[n:]
	if len(c.buf) == 0 {
		c.buf = nil
	}
	c.other.notify() // the window opened
	return n, nil
}

func (c *conn) Send(p []byte) (int, error) {
	switch {
	case c.state == closed:
		return 0, syscall.EBADF
	case c.state == connecting:
		return 0, core.ErrWouldBlock
	case c.err != nil, c.wrote, c.network == "unix" && c.other.state == closed:
		return 0, syscall.EPIPE
	}
	n := min(len(p), c.room())
	if len(c.plan) > 0 {
		step := c.plan[0]
		c.plan = c.plan[1:]
		if step < 0 {
			return 0, syscall.EPIPE
		}
		n = min(n, step)
	}
	if n == 0 || c.lies(core.Write) {
		return 0, core.ErrWouldBlock
	}
	data := append([]byte(nil), p[:n]...)
	o := c.other
	o.coming += n
	c.transmit(func() {
		o.coming -= n
		if o.state == closed {
			o.resetPeer() // what a closed end answers to data
			return
		}
		o.buf = append(o.buf, data...)
		o.notify()
	})
	return n, nil
}

// transmit has f happen at the other end after one way, never before what was transmitted earlier.
func (c *conn) transmit(f func()) {
	t := c.w.now.Add(c.w.delay())
	if t.Before(c.last) {
		t = c.last
	}
	c.last = t
	c.w.at(t, f)
}

// resetPeer sends a reset to the other end.
func (c *conn) resetPeer() {
	o := c.other
	c.transmit(func() { o.reset() })
}

// reset is a reset that arrived: what was not read is lost.
func (c *conn) reset() {
	if c.state == closed || c.err != nil {
		return
	}
	c.err = syscall.ECONNRESET
	c.buf = nil
	c.notify()
}

func (c *conn) CloseWrite() error {
	if c.state != connected {
		return syscall.ENOTCONN
	}
	if c.wrote || c.err != nil {
		return nil
	}
	c.wrote = true
	o := c.other
	c.transmit(func() {
		o.fin = true
		o.notify()
	})
	c.changed()
	return nil
}

func (c *conn) Close() error {
	if c.state == closed {
		return nil
	}
	was := c.state
	if was == connected && c.err == nil {
		if len(c.buf) > 0 || c.aborting {
			c.resetPeer()
		} else {
			_ = c.CloseWrite()
		}
	}
	c.state = closed
	c.buf = nil
	if c.other != nil {
		c.other.notify() // a unix peer's send fails from now on; a TCP one's window is open
	}
	if c.fd {
		c.fd = false
		c.w.files--
	}
	if c.onClose != nil {
		f := c.onClose
		c.onClose = nil
		f()
	}
	return nil
}

func (c *conn) Abort() error {
	c.aborting = true
	return nil
}

func (c *conn) RecvUrgent(p []byte) (int, error) {
	if len(c.urgent) == 0 {
		return 0, core.ErrWouldBlock
	}
	n := copy(p, c.urgent)
	c.urgent = c.urgent[n:]
	return n, nil
}

func (c *conn) SendUrgent(p []byte) (int, error) {
	if c.network == "unix" {
		return 0, core.ErrUnsupported
	}
	data := append([]byte(nil), p...)
	o := c.other
	c.transmit(func() {
		o.urgent = append(o.urgent, data...)
		o.notify()
	})
	return len(p), nil
}

func (c *conn) ConnectResult() error {
	switch {
	case c.state == connecting:
		return core.ErrWouldBlock
	case c.state == refused:
		return c.err
	}
	return nil
}

// Unacked is what the other end has not read.
func (c *conn) Unacked() int {
	if c.state != connected || c.other.state == closed {
		return 0
	}
	return c.other.coming + len(c.other.buf)
}

func (c *conn) OnClose(f func())               { c.onClose = f }
func (c *conn) RemoteAddrPort() netip.AddrPort { return c.remote.ip }
func (c *conn) LocalAddr() net.Addr            { return c.local.netAddr(c.network) }
func (c *conn) RemoteAddr() net.Addr           { return c.remote.netAddr(c.network) }
func (c *conn) FD() int                        { return -1 }

func (c *conn) Accept() (core.Socket, error) { return nil, syscall.EINVAL }
func (c *conn) RecvFrom(p []byte) (int, core.Endpoint, error) {
	n, err := c.Recv(p)
	return n, core.Endpoint{AddrPort: c.remote.ip, Path: c.remote.path}, err
}
func (c *conn) SendTo(p []byte, _ core.Endpoint) (int, error) { return c.Send(p) }

// family reduces tcp4 and tcp6 to tcp, and so on.
func family(network string) string { return strings.TrimRight(network, "46") }

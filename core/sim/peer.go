package sim

import (
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/parley-go/parley/core"
)

// Peer is the far end of a connection, driven by a test. It takes what arrives at once, unless it is stalled. The methods
// that wait make the world go round; a failure goes to Config.T with the ladder.
type Peer struct {
	w       *World
	c       *conn
	got     []byte // arrived and not wanted yet
	out     []byte // said and not sent yet: the window is full
	fin     bool   // close our side when out is sent
	stalled bool
	limit   int // bytes that it still takes while stalled
}

func (w *World) newPeer(c *conn) *Peer {
	p := &Peer{w: w, c: c}
	c.onChange = p.work
	return p
}

// Dial connects to a listener of this world.
func (w *World) Dial(network, addr string) *Peer {
	return w.DialFrom(network, "", addr)
}

// DialFrom is Dial from a certain address, "client" if it is "". The port may be 0.
func (w *World) DialFrom(network, from, addr string) *Peer {
	a, err := w.resolve(network, addr, false)
	if err != nil {
		w.fatalf("dial: %v", err)
	}
	var local netip.AddrPort
	if from != "" {
		l, err := w.resolve(network, from, true)
		if err != nil {
			w.fatalf("dial: %v", err)
		}
		local = l.ip
	}
	c := w.newConn(family(network), w.clientAddr(network, local), a)
	p := w.newPeer(c)
	if err := w.connect(c); err != nil {
		c.state, c.err = refused, err
	}
	return p
}

// Pair returns a connected socket for Attach and the Peer at its other end.
func (w *World) Pair() (core.Socket, *Peer) {
	a := address{ip: netip.AddrPortFrom(w.hosts["server"][0], 25)}
	s, c := w.pair("tcp", a, w.clientAddr("tcp", netip.AddrPort{}))
	if s.fd = w.openFile(); !s.fd {
		w.fatalf("pair: %v", syscall.EMFILE)
	}
	return s, w.newPeer(c)
}

// UnixPair is Pair for a unix socket.
func (w *World) UnixPair() (core.Socket, *Peer) {
	s, c := w.pair("unix", address{path: "/pair"}, address{})
	if s.fd = w.openFile(); !s.fd {
		w.fatalf("pair: %v", syscall.EMFILE)
	}
	return s, w.newPeer(c)
}

// work is called when something arrived or there is room.
func (p *Peer) work() {
	c := p.c
	for len(p.out) > 0 && c.state == connected && c.err == nil && c.room() > 0 {
		n, err := c.Send(p.out)
		if p.out = p.out[n:]; len(p.out) == 0 || err != nil && err != core.ErrWouldBlock {
			p.out = nil
		}
	}
	if len(p.out) == 0 && p.fin && c.state == connected {
		p.fin = false
		_ = c.CloseWrite()
	}
	if c.err != nil {
		p.got = nil // a reset destroys what was not read
		return
	}
	var buf [4096]byte
	for len(c.buf) > 0 && (!p.stalled || p.limit > 0) {
		room := buf[:]
		if p.stalled {
			room = room[:min(p.limit, len(room))]
		}
		n, err := c.Recv(room)
		if err != nil {
			return
		}
		p.limit -= n
		p.got = append(p.got, room[:n]...)
	}
}

// Say sends text. It returns at once; what the window does not take goes out later.
func (p *Peer) Say(text string) {
	p.out = append(p.out, text...)
	p.work()
}

// SayUrgent sends one out-of-band byte.
func (p *Peer) SayUrgent(b byte) { _, _ = p.c.SendUrgent([]byte{b}) }

// CloseWrite ends our stream behind what was said; the other direction stays open.
func (p *Peer) CloseWrite() {
	p.fin = true
	p.work()
}

// Close closes the connection in an orderly way, behind what was said; what arrives from now on is answered by a reset.
func (p *Peer) Close() {
	p.w.Until(func() bool { return len(p.out) == 0 || p.c.err != nil })
	_ = p.c.Close()
}

// Reset resets the connection.
func (p *Peer) Reset() {
	_ = p.c.Abort()
	_ = p.c.Close()
}

// Stall has the peer stop (or go on) reading: the window fills, and sends to it become short.
func (p *Peer) Stall(on bool) {
	p.stalled, p.limit = on, 0
	p.work()
}

// Take has a stalled peer read n bytes more.
func (p *Peer) Take(n int) {
	p.limit += n
	p.work()
}

// PlanSends decides what the next sends of the loop's side to this peer do: n > 0 takes at most n bytes, 0 would block,
// -1 is EPIPE. After the last one they are as usual.
func (p *Peer) PlanSends(results ...int) { p.c.other.plan = results }

// Want waits for exactly this text, next in the stream.
func (p *Peer) Want(text string) {
	if p.w.c.T != nil {
		p.w.c.T.Helper()
	}
	if !p.Try(text) {
		p.fail(text)
	}
}

// Try is Want that answers false instead of failing; nothing is consumed then.
func (p *Peer) Try(text string) bool {
	p.w.Until(func() bool { return len(p.got) >= len(text) || !p.hopeful(text) })
	if !strings.HasPrefix(string(p.got), text) {
		return false
	}
	p.got = p.got[len(text):]
	return true
}

// hopeful tells whether what has come is the beginning of the text, and more may come.
func (p *Peer) hopeful(text string) bool {
	return strings.HasPrefix(text, string(p.got)) && !p.ended()
}

func (p *Peer) fail(text string) {
	if p.w.c.T != nil {
		p.w.c.T.Helper()
	}
	end := ""
	switch {
	case p.c.err != nil:
		end = " and then " + p.c.err.Error()
	case p.ended():
		end = " and then the end"
	}
	p.w.fatalf("want %q\n got %q%s", text, p.got, end)
}

// WantLine waits for text up to and including the next "\n" and returns it.
func (p *Peer) WantLine() string {
	if p.w.c.T != nil {
		p.w.c.T.Helper()
	}
	p.w.Until(func() bool { return strings.Contains(string(p.got), "\n") || p.ended() })
	i := strings.IndexByte(string(p.got), '\n')
	if i < 0 {
		p.fail("…\n")
		return ""
	}
	line := string(p.got[:i+1])
	p.got = p.got[i+1:]
	return line
}

// WantClosed waits for the end of the other side's stream; nothing unread may come before it.
func (p *Peer) WantClosed() {
	if p.w.c.T != nil {
		p.w.c.T.Helper()
	}
	p.w.Until(p.ended)
	switch {
	case p.c.err != nil:
		p.w.fatalf("want the end, got %v", p.c.err)
	case !p.c.fin || len(p.got) > 0:
		p.w.fatalf("want the end, got %q", p.got)
	}
}

// WantReset waits for a reset, or a refused connection.
func (p *Peer) WantReset() {
	if p.w.c.T != nil {
		p.w.c.T.Helper()
	}
	if !p.w.Until(func() bool { return p.c.err != nil }) {
		p.w.fatalf("want a reset, got %q, end %v", p.got, p.c.fin)
	}
}

// WantNothing lets happen what is under way and fails if anything came that was not wanted, or the end.
func (p *Peer) WantNothing() {
	if p.w.c.T != nil {
		p.w.c.T.Helper()
	}
	p.w.Settle()
	if len(p.got) > 0 || p.ended() {
		p.fail("")
	}
}

// Read lets happen what is under way and returns what came.
func (p *Peer) Read() string {
	p.w.Settle()
	s := string(p.got)
	p.got = nil
	return s
}

// Unread returns how many bytes came that were not wanted yet.
func (p *Peer) Unread() int { return len(p.got) }

// Err is the reset or refusal that ended the connection, if one did.
func (p *Peer) Err() error { return p.c.err }

// Ended tells whether the other side's stream is over, in order or by a reset.
func (p *Peer) ended() bool {
	return p.c.err != nil || p.c.fin && len(p.c.buf) == 0
}

// Ended tells whether the other side's stream is over, in order or by a reset.
func (p *Peer) Ended() bool { return p.ended() }

// Addr is the peer's own address, as the other side sees it.
func (p *Peer) Addr() string { return p.c.local.netAddr(p.c.network).String() }

// PeerListener accepts what loops Dial, for scripted servers.
type PeerListener struct {
	w     *World
	l     *listener
	queue []*Peer
}

// Listen opens an address whose connections are Peers.
func (w *World) Listen(network, addr string) *PeerListener {
	l, err := w.listen(network, addr, 0)
	if err != nil {
		w.fatalf("%v", err)
	}
	pl := &PeerListener{w: w, l: l}
	l.accept = func(c *conn) { pl.queue = append(pl.queue, w.newPeer(c)) }
	return pl
}

// Accept waits for a connection.
func (pl *PeerListener) Accept() *Peer {
	if !pl.w.Until(func() bool { return len(pl.queue) > 0 }) {
		pl.w.fatalf("nobody connects to %v", pl.l.LocalAddr())
		return nil
	}
	p := pl.queue[0]
	pl.queue = pl.queue[1:]
	return p
}

// Close stops listening.
func (pl *PeerListener) Close() { _ = pl.l.Close() }

// PacketPeer is the far end of datagrams.
type PacketPeer struct {
	w *World
	p *packetConn
}

// ListenPacket opens an address for datagrams.
func (w *World) ListenPacket(network, addr string) *PacketPeer {
	p, err := w.listenPacket(network, addr)
	if err != nil {
		w.fatalf("%v", err)
	}
	return &PacketPeer{w, p}
}

// Send sends a datagram to an address.
func (p *PacketPeer) Send(data, to string) {
	a, err := p.w.resolve(p.p.network, to, false)
	if err != nil {
		p.w.fatalf("send: %v", err)
	}
	_, _ = p.p.SendTo([]byte(data), core.Endpoint{AddrPort: a.ip, Path: a.path})
}

// Want waits for a datagram with these bytes.
func (p *PacketPeer) Want(data string) {
	if p.w.c.T != nil {
		p.w.c.T.Helper()
	}
	got, ok := p.Next(p.w.c.Patience)
	if !ok {
		p.w.fatalf("want datagram %q, got none", data)
	} else if got != data {
		p.w.fatalf("want datagram %q\n got %q", data, got)
	}
}

// Next waits at most d for a datagram.
func (p *PacketPeer) Next(d time.Duration) (data string, ok bool) {
	limit := p.w.now.Add(d)
	p.w.Until(func() bool { return len(p.p.queue) > 0 || p.w.now.After(limit) })
	if len(p.p.queue) == 0 {
		return "", false
	}
	m := p.p.queue[0]
	p.p.queue = p.p.queue[1:]
	return string(m.data), true
}

// Addr is the peer's own address.
func (p *PacketPeer) Addr() string { return p.p.addr.string(p.p.network) }

package core

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Recv reads into p, which must not be empty. It returns ErrWouldBlock when there is no input, and when the channel has
// used up its ReadBudget of this pass; io.EOF at the end; another error when the connection failed. After io.EOF and
// after an error the loop does what is due (HandleEOF, HandleClose) when the event is over: a handler may return what it
// got, or nil. [dispatcher.recv]
func (d *Dispatcher) Recv(p []byte) (int, error) {
	if d.state&(stClosed|stConnecting) != 0 || d.sock == nil || len(p) == 0 {
		return 0, d.unreadable(p)
	}
	if d.refill(); d.left <= 0 {
		return 0, ErrWouldBlock
	}
	if len(p) > int(d.left) {
		p = p[:d.left]
	}
	n, err := d.sock.Recv(p)
	if err != nil {
		return 0, d.recvFailed(err)
	}
	d.left -= int32(n)
	d.loop.stats.BytesIn += uint64(n)
	if d.watched() {
		d.noteReceived(p[:n])
	}
	return n, nil
}

// unreadable is why Recv does not even try.
func (d *Dispatcher) unreadable(p []byte) error {
	switch {
	case !d.alive() || d.sock == nil:
		return ErrClosed
	case len(p) == 0:
		return io.ErrShortBuffer
	}
	return ErrWouldBlock // connecting
}

// refill gives the channel its read budget, once in each pass.
func (d *Dispatcher) refill() {
	if pass := uint32(d.loop.stats.Passes) + 1; d.pass != pass {
		d.pass, d.left = pass, ReadBudget
	}
}

// RecvShared is Recv into the loop's own buffer. The bytes are borrowed until the handler returns.
func (d *Dispatcher) RecvShared() ([]byte, error) {
	if d.state&(stClosed|stConnecting) != 0 || d.sock == nil {
		return nil, d.unreadable(d.loop.buf)
	}
	if d.refill(); d.left <= 0 {
		return nil, ErrWouldBlock
	}
	l := d.loop
	n, err := d.sock.Recv(l.buf[:d.left])
	if err != nil {
		return nil, d.recvFailed(err)
	}
	d.left -= int32(n)
	l.used = max(l.used, n)
	l.stats.BytesIn += uint64(n)
	if d.watched() {
		d.noteReceived(l.buf[:n])
	}
	return l.buf[:n:n], nil
}

// Discard receives and drops up to n bytes, regardless of the ReadBudget, and returns how many; the error is what ended
// it, nil if it was n.
func (d *Dispatcher) Discard(n int) (dropped int, err error) {
	if d.state&stEOF != 0 { // nothing comes behind the end
		return 0, io.EOF
	}
	for dropped < n {
		d.left = ReadBudget
		m, err := d.Recv(d.loop.buf[:min(n-dropped, ReadBudget)])
		d.loop.used = max(d.loop.used, m)
		dropped += m
		if err != nil {
			return dropped, err
		}
	}
	return dropped, nil
}

// watched tells whether timeouts or a trace want to know of input and output.
func (d *Dispatcher) watched() bool { return d.ext != nil || d.loop.opts.Trace != nil }

func (d *Dispatcher) noteReceived(p []byte) {
	l := d.loop
	if d.ext != nil {
		d.ext.active = l.lately()
	}
	if l.opts.Trace != nil {
		l.trace(Event{Kind: TraceRecv, Chan: d, N: len(p), Data: p})
	}
}

func (d *Dispatcher) recvFailed(err error) error {
	switch {
	case err == ErrWouldBlock:
		if d.state&stWriteFailed != 0 { // drained
			d.broke(err)
		}
	case d.state&stWriteFailed != 0:
		d.broke(err)
		return d.cause // it failed before
	case err == io.EOF:
		d.state |= stEOF
		d.touch()
	default:
		d.broke(err)
	}
	return err
}

// Send writes from p and returns how much was taken: less than all of it, or ErrWouldBlock and 0, when the connection
// takes no more for now (see WantWrite). Another error means that it can take nothing any more: the channel closes with
// that cause, but reads on first while input is there. [dispatcher.send]
func (d *Dispatcher) Send(p []byte) (int, error) {
	if d.state&stUnsendable != 0 || d.sock == nil {
		return 0, d.sendable()
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := d.sock.Send(p)
	if err != nil {
		return n, d.sendFailed(err)
	}
	d.loop.stats.BytesOut += uint64(n)
	if d.watched() {
		d.noteSent(p[:n], n)
	}
	return n, nil
}

// MaxVector is the most pieces that SendVector takes.
const MaxVector = 16

// SendVector is Send for several pieces, none of them empty, in one system call. ErrUnsupported: not this socket, or not this
// platform; send them one by one then.
func (d *Dispatcher) SendVector(p [][]byte) (int, error) {
	if err := d.sendable(); err != nil {
		return 0, err
	}
	s, ok := d.sock.(vectorSender)
	if !ok {
		return 0, ErrUnsupported
	}
	n, err := s.SendVector(p)
	if err != nil {
		return n, d.sendFailed(err)
	}
	left := n
	for _, piece := range p {
		m := min(left, len(piece))
		d.sent(piece[:m], m)
		if left -= m; left == 0 {
			break
		}
	}
	return n, nil
}

// SendFile sends up to n bytes of a file from an offset without copying them through user space, and returns how many
// the connection took. ErrUnsupported: not this socket, or not this platform; read the file then. io.EOF: the file ends
// before the offset. Otherwise like Send.
func (d *Dispatcher) SendFile(f *os.File, offset int64, n int) (int, error) {
	if err := d.sendable(); err != nil {
		return 0, err
	}
	s, ok := d.sock.(fileSender)
	if !ok {
		return 0, ErrUnsupported
	}
	sent, err := s.SendFile(f, offset, n)
	switch {
	case err == nil:
		d.sent(nil, sent)
	case errors.Is(err, ErrUnsupported) || err == io.EOF:
	default:
		err = d.sendFailed(err)
	}
	return sent, err
}

// SendsFiles tells whether SendFile is worth a try: it is not a platform or a socket that never can.
func (d *Dispatcher) SendsFiles() bool {
	_, ok := d.sock.(fileSender)
	return ok && haveSendFile
}

// stUnsendable are the states in which sendable has an error.
const stUnsendable = stClosed | stConnecting | stFailed | stWriteFailed

func (d *Dispatcher) sendable() error {
	switch {
	case !d.alive():
		return ErrClosed
	case d.Connecting():
		return ErrWouldBlock
	case d.state&(stFailed|stWriteFailed) != 0:
		return d.cause
	}
	return nil
}

func (d *Dispatcher) sent(p []byte, n int) {
	d.loop.stats.BytesOut += uint64(n)
	if d.watched() {
		d.noteSent(p, n)
	}
}

func (d *Dispatcher) noteSent(p []byte, n int) {
	l := d.loop
	if d.ext != nil {
		now := l.lately()
		d.ext.active, d.ext.progress = now, now
		d.ext.sent += int64(n)
	}
	if l.opts.Trace != nil {
		l.trace(Event{Kind: TraceSend, Chan: d, N: n, Data: p})
	}
}

// sendFailed closes the channel with the cause, but not before the input that the peer left behind is drained.
func (d *Dispatcher) sendFailed(err error) error {
	if err == ErrWouldBlock {
		return err
	}
	if d.wants(Read) && !d.has.has(hasPacket|hasUnixPacket) {
		d.cause = err
		d.state |= stWriteFailed
		d.Requeue(Read)
		d.touch()
	} else if !d.transient(err) {
		d.broke(err)
	}
	return err
}

// CloseWrite sends the end of our stream; reading goes on. HandleClose is not due before the peer ends its own.
func (d *Dispatcher) CloseWrite() error {
	if err := d.sendable(); err != nil {
		return err
	}
	return d.sock.CloseWrite()
}

// RecvUrgent reads out-of-band data, at most one byte on TCP. ErrWouldBlock: there is none. ErrUnsupported.
func (d *Dispatcher) RecvUrgent(p []byte) (int, error) {
	s, ok := d.sock.(urgentSocket)
	if !ok || !d.alive() {
		return 0, ErrUnsupported
	}
	return s.RecvUrgent(p)
}

// SendUrgent sends out-of-band data. ErrUnsupported.
func (d *Dispatcher) SendUrgent(p []byte) (int, error) {
	if err := d.sendable(); err != nil {
		return 0, err
	}
	s, ok := d.sock.(urgentSocket)
	if !ok {
		return 0, ErrUnsupported
	}
	return s.SendUrgent(p)
}

// SendTo sends a datagram from a udp channel, whole or not at all. ErrWouldBlock: try again later, or drop it. Other
// errors concern that datagram alone.
func (d *Dispatcher) SendTo(p []byte, to netip.AddrPort) error {
	return d.sendTo(p, Endpoint{AddrPort: to})
}

// SendToPath is SendTo for a unixgram channel.
func (d *Dispatcher) SendToPath(p []byte, path string) error {
	return d.sendTo(p, Endpoint{Path: path})
}

func (d *Dispatcher) sendTo(p []byte, to Endpoint) error {
	if err := d.sendable(); err != nil {
		return err
	}
	n, err := d.sock.SendTo(p, to)
	if err == nil {
		d.sent(p, n)
	}
	return err
}

// RecvFrom reads a datagram, for a handler that has HandleRead and not HandlePacket. What does not fit p is lost.
func (d *Dispatcher) RecvFrom(p []byte) (int, Endpoint, error) {
	if !d.alive() || d.sock == nil {
		return 0, Endpoint{}, ErrClosed
	}
	n, from, err := d.sock.RecvFrom(p)
	switch {
	case err == nil:
		d.loop.stats.BytesIn += uint64(n)
		d.noteReceived(p[:n])
	case err != ErrWouldBlock && !d.transient(err):
		d.broke(err)
	}
	return n, from, err
}

// readPackets hands on the datagrams that are there, up to the budget of a pass. An empty one is one.
func (d *Dispatcher) readPackets() {
	l := d.loop
	d.refill()
	for packets := 0; packets < AcceptBudget && d.left > 0 && d.wants(Read); packets++ {
		n, from, err := d.RecvFrom(l.buf)
		if err != nil {
			if err != ErrWouldBlock && d.alive() {
				l.log.Debug("datagram error", "channel", d.String(), "err", err)
			}
			return
		}
		d.left -= int32(n)
		l.used = max(l.used, n)
		p := l.buf[:n:n]
		start := l.enter(d, "HandlePacket")
		if d.has.has(hasUnixPacket) && !from.AddrPort.IsValid() {
			err = as[UnixPacketHandler](d.h).HandleUnixPacket(d, p, from.Path)
		} else if d.has.has(hasPacket) {
			err = as[PacketHandler](d.h).HandlePacket(d, p, from.AddrPort)
		}
		l.leave(start)
		if err != nil {
			d.Fail("HandlePacket", err)
		}
		l.settle()
	}
}

// transient tells whether an error of a datagram channel concerns a single datagram: what an earlier one came back with
// (ICMP), a full queue, one that is too large.
func (d *Dispatcher) transient(err error) bool {
	if !d.has.has(hasPacket | hasUnixPacket) {
		return false
	}
	for _, e := range []error{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EMSGSIZE,
		syscall.ENOBUFS, syscall.ENOENT, syscall.EPERM, syscall.ETIMEDOUT, syscall.EPROTO,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// opError gives an error the shape of package net.
func opError(op, network string, addr net.Addr, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: network, Addr: addr, Err: err}
}

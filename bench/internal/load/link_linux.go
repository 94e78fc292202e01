package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// link is one end of a connection, in the clear or with TLS. It is in blocking mode at first.
type link struct {
	fd  int     // -1: lost or closed
	tls *secure // nil: in the clear
}

// dial opens the n-th connection, with TLS of that version unless it is 0. Until setNonblock no call on it takes longer than
// patience.
func dial(to netip.AddrPort, n int, patience time.Duration, version uint16) (link, error) {
	fd, err := connect(to, n, patience)
	if err != nil || version == 0 {
		return link{fd: fd}, err
	}
	l := link{fd, newSecure(fd, version)}
	if err := l.tls.Handshake(); err != nil {
		l.closeHard()
		if errors.Is(err, unix.EAGAIN) {
			err = fmt.Errorf("no answer within %v", patience)
		}
		return link{fd: -1}, fmt.Errorf("TLS handshake: %w", err)
	}
	return l, nil
}

// connect opens the n-th connection in blocking mode.
func connect(to netip.AddrPort, n int, patience time.Duration) (int, error) {
	family, sa := sockaddr(to)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit), // for connect, too
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		bindSource(fd, to.Addr(), n),
	)
	if err == nil {
		err = os.NewSyscallError("connect", ignoringEINTR(func() error { return unix.Connect(fd, sa) }))
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// sockaddr returns an address as the kernel wants it, and its family.
func sockaddr(to netip.AddrPort) (family int, sa unix.Sockaddr) {
	if addr := to.Addr().Unmap(); addr.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: addr.As4(), Port: int(to.Port())}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
}

// bindSource chooses where the n-th connection comes from, unless it is the kernel's to choose.
func bindSource(fd int, to netip.Addr, n int) error {
	from, ok := source(to, n)
	if !ok {
		return nil
	}
	// The port is chosen with regard to where the connection goes.
	return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		os.NewSyscallError("bind", unix.Bind(fd, from)))
}

// source returns where the n-th connection comes from: who closes first keeps the port for a minute, and one address has
// less than 30,000 of them. It is the loopback network alone that has many.
func source(to netip.Addr, n int) (unix.Sockaddr, bool) {
	const addresses = 200
	if to = to.Unmap(); !to.Is4() || !to.IsLoopback() {
		return nil, false
	}
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + n%addresses)}}, true
}

// ask sends a line on a connection in blocking mode and compares what comes back.
func (l link) ask(line []byte) error {
	if err := l.put(line); err != nil {
		return err
	}
	return l.expect(line)
}

// put sends a line on a connection in blocking mode.
func (l link) put(line []byte) error {
	for sent := 0; sent < len(line); {
		n, err := l.blockingWrite(line[sent:])
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		sent += n
	}
	return nil
}

// expect compares what comes on a connection in blocking mode with the line that is due.
func (l link) expect(line []byte) error {
	buf := make([]byte, len(line)+1)
	for got := 0; got < len(line); {
		n, err := l.blockingRead(buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return fmt.Errorf("no answer after %d of %d bytes", got, len(line))
		case err != nil:
			return os.NewSyscallError("read", err)
		case n == 0:
			return fmt.Errorf("closed by the server after %d of %d bytes", got, len(line))
		}
		if err := compare(buf[:n], line[got:], got); err != nil {
			return err
		}
		got += n
	}
	return nil
}

func (l link) blockingWrite(p []byte) (int, error) {
	if l.tls != nil {
		return l.tls.Write(p)
	}
	return write(l.fd, p)
}

// blockingRead returns 0 and no error at the end of the stream.
func (l link) blockingRead(p []byte) (int, error) {
	if l.tls == nil {
		return read(l.fd, p)
	}
	n, err := l.tls.Read(p)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// setNonblock ends the blocking mode.
func (l link) setNonblock() error {
	if l.tls != nil {
		l.tls.wire.nonblocking = true
	}
	return os.NewSyscallError("fcntl", unix.SetNonblock(l.fd, true))
}

// write takes some of p, if it can, and has it on its way or waiting: see flush. The error is unix.EAGAIN if it can take
// nothing now.
func (l link) write(p []byte) (int, error) {
	if l.tls == nil {
		return rawWrite(l.fd, p)
	}
	if err := l.flush(); err != nil {
		return 0, err
	}
	const most = 64 << 10 // that waits, about
	n, err := l.tls.Write(p[:min(len(p), most)])
	if err != nil {
		return n, err
	}
	if err := l.flush(); err != unix.EAGAIN {
		return n, err
	}
	return n, nil
}

// waiting tells whether there is something for flush to do.
func (l link) waiting() bool { return l.tls != nil && len(l.tls.wire.out) > 0 }

// flush sends what waits. The error is unix.EAGAIN if something is left.
func (l link) flush() error {
	if l.tls == nil {
		return nil
	}
	return l.tls.wire.flush()
}

// read makes one read from the socket and puts what came into buf, which must be larger than what TLS can hold back: all
// is taken at once. It returns 0 and no error at the end of the stream.
func (l link) read(buf []byte) (int, error) {
	if l.tls == nil {
		return rawRead(l.fd, buf)
	}
	return l.tls.receive(buf)
}

// end sends the end of the stream.
func (l link) end() error {
	if l.tls != nil {
		if err := l.tls.CloseWrite(); err != nil {
			return err
		}
		if err := l.flush(); err != nil {
			return os.NewSyscallError("write", err)
		}
	}
	return os.NewSyscallError("shutdown", unix.Shutdown(l.fd, unix.SHUT_WR))
}

// closeHard closes with a reset: without it, ten thousand ports would be in use for a minute after each round.
func (l link) closeHard() {
	_ = unix.SetsockoptLinger(l.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(l.fd)
}

// secure is TLS on a socket, the client's end. Once the socket does not block, Read fails with unix.EAGAIN when nothing has
// come, which crypto/tls takes for an error that passes, so that it can be called again.
type secure struct {
	*tls.Conn
	wire *wire
}

func newSecure(fd int, version uint16) *secure {
	w := &wire{fd: fd}
	return &secure{wire: w, Conn: tls.Client(w, &tls.Config{
		MinVersion: version, MaxVersion: version,
		InsecureSkipVerify:     true, // it measures, and has no secrets
		SessionTicketsDisabled: true, // every connection is as expensive as the first
	})}
}

var errCut = errors.New("the server ended the stream without close_notify")

// receive returns all plaintext of what one read from the socket brings.
func (s *secure) receive(buf []byte) (int, error) {
	const most = 64 << 10
	w := s.wire
	if cap(w.buf) == 0 {
		w.buf = make([]byte, most)
	}
	n, err := rawRead(w.fd, w.buf)
	if err != nil {
		return 0, err
	}
	w.in, w.ended = w.buf[:n], n == 0
	for got := 0; ; {
		n, err := s.Read(buf[got:])
		got += n
		switch {
		case err == nil:
		case got > 0: // an end is told the next time
			return got, nil
		case err == io.EOF && w.told:
			return 0, errCut
		case err == io.EOF:
			return 0, nil
		default:
			return 0, err
		}
	}
}

// wire is the socket as crypto/tls sees it.
type wire struct {
	fd          int
	nonblocking bool
	buf         []byte
	in          []byte // received, not read yet; of buf
	ended       bool   // nothing comes behind in
	told        bool   // of which crypto/tls was told
	out         []byte // written, not sent yet
}

// Read takes from what secure.receive received, or in blocking mode from the socket.
func (w *wire) Read(p []byte) (int, error) {
	switch {
	case len(w.in) > 0:
		n := copy(p, w.in)
		w.in = w.in[n:]
		return n, nil
	case w.nonblocking && !w.ended:
		return 0, unix.EAGAIN
	case w.nonblocking:
		w.told = true
		return 0, io.EOF
	}
	n, err := read(w.fd, p)
	switch {
	case err != nil:
		return 0, err // n is -1
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write sends, or in non-blocking mode leaves it to flush.
func (w *wire) Write(p []byte) (int, error) {
	if w.nonblocking {
		w.out = append(w.out, p...)
		return len(p), nil
	}
	for sent := 0; sent < len(p); {
		n, err := write(w.fd, p[sent:])
		if err != nil {
			return sent, err
		}
		sent += n
	}
	return len(p), nil
}

func (w *wire) flush() error {
	for len(w.out) > 0 {
		n, err := rawWrite(w.fd, w.out)
		switch err {
		case nil:
			w.out = append(w.out[:0], w.out[n:]...)
		case unix.EINTR:
		default:
			return err
		}
	}
	return nil
}

// The rest of net.Conn. Nobody closes it but who has the descriptor; crypto/tls sets a deadline for its last alert.

func (*wire) Close() error                     { return nil }
func (*wire) LocalAddr() net.Addr              { return nil }
func (*wire) RemoteAddr() net.Addr             { return nil }
func (*wire) SetDeadline(time.Time) error      { return nil }
func (*wire) SetReadDeadline(time.Time) error  { return nil }
func (*wire) SetWriteDeadline(time.Time) error { return nil }

package load

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// conn is a connection that speaks.
type conn struct {
	fd     int // -1: lost or closed
	line   int // that the next batch begins with
	sent   int // of the batch, in bytes
	got    int // of it, compared
	batch  []byte
	writes bool // epoll is asked for room to write
	ended  bool // we are done sending; nothing but the end may come
}

var errUnasked = errors.New("bytes that were not sent")

// connect opens a connection. The descriptor is in blocking mode, and no call on it takes longer than patience.
func connect(to netip.AddrPort, patience time.Duration) (int, error) {
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: to.Addr().Unmap().As4(), Port: int(to.Port())})
	if !to.Addr().Unmap().Is4() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit), // for connect, too
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
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

// ask sends a line on a connection in blocking mode and compares what comes back.
func ask(fd int, line []byte) error {
	for sent := 0; sent < len(line); {
		n, err := write(fd, line[sent:])
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		sent += n
	}
	buf := make([]byte, len(line)+1)
	for got := 0; got < len(line); {
		n, err := read(fd, buf)
		switch {
		case err == unix.EAGAIN:
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

// closeHard closes with a reset: without it, ten thousand ports would be in use for a minute after each round.
func closeHard(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}

// The connections of a running load do not block, and their calls are made raw: the generator has one thread to feed a
// server with, and Go's scheduler would take a quarter of it.

func rawRead(fd int, p []byte) (int, error)  { return raw(unix.SYS_READ, fd, p) }
func rawWrite(fd int, p []byte) (int, error) { return raw(unix.SYS_WRITE, fd, p) }

func raw(trap uintptr, fd int, p []byte) (int, error) {
	n, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func read(fd int, p []byte) (n int, err error) {
	err = ignoringEINTR(func() error { n, err = unix.Read(fd, p); return err })
	return n, err
}

func write(fd int, p []byte) (n int, err error) {
	err = ignoringEINTR(func() error { n, err = unix.Write(fd, p); return err })
	return n, err
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// begin starts the next batch.
func (c *conn) begin(t *text) {
	c.batch, c.line = t.batch(c.line)
	c.sent, c.got = 0, 0
}

// done tells whether all of the batch is back.
func (c *conn) done() bool { return c.got == len(c.batch) }

// send writes what the socket takes of the batch.
func (c *conn) send() error {
	for c.sent < len(c.batch) {
		n, err := rawWrite(c.fd, c.batch[c.sent:])
		switch err {
		case nil:
			c.sent += n
		case unix.EAGAIN:
			return nil
		case unix.EINTR:
		default:
			return os.NewSyscallError("write", err)
		}
	}
	return nil
}

// receive makes one read into buf and compares; it returns how many bytes came. io.EOF: the end, after ours.
func (c *conn) receive(buf []byte) (int, error) {
	n, err := rawRead(c.fd, buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0 && c.ended:
		return 0, io.EOF
	case n == 0:
		return 0, fmt.Errorf("closed by the server after %d of %d bytes", c.got, len(c.batch))
	case c.done():
		return 0, fmt.Errorf("%d %w", n, errUnasked)
	}
	if err := compare(buf[:n], c.batch[c.got:c.sent], c.got); err != nil {
		return 0, err
	}
	c.got += n
	return n, nil
}

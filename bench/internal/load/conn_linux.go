package load

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// conn is a connection that speaks.
type conn struct {
	link
	line   int // that the next batch begins with
	sent   int // of the batch, in bytes
	got    int // of what is due for it, compared
	due    int // for all of it
	batch  []byte
	lines  int  // with a pace: that are back
	late   int  // with a pace: that are due and not back, the one on its way included
	writes bool // epoll is asked for room to write
	ended  bool // we are done sending; nothing but the end may come
}

var errUnasked = errors.New("bytes that were not sent")

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
	c.sent, c.got, c.due = 0, 0, t.due(len(c.batch))
}

// done tells whether all of the batch is back.
func (c *conn) done() bool { return c.got == c.due }

// send writes what the socket takes of the batch.
func (c *conn) send() error {
	for c.sent < len(c.batch) {
		n, err := c.link.write(c.batch[c.sent:])
		c.sent += n
		switch err {
		case nil, unix.EINTR:
		case unix.EAGAIN:
			return nil
		default:
			return os.NewSyscallError("write", err)
		}
	}
	if err := c.flush(); err != nil && err != unix.EAGAIN {
		return os.NewSyscallError("write", err)
	}
	return nil
}

// stuck tells whether there is something that the socket has no room for.
func (c *conn) stuck() bool { return c.sent < len(c.batch) || c.waiting() }

// receive makes one read into buf and compares; it returns how many bytes came. io.EOF: the end, after ours.
func (c *conn) receive(t *text, buf []byte) (int, error) {
	n, err := c.link.read(buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0 && c.ended:
		return 0, io.EOF
	case n == 0:
		return 0, fmt.Errorf("closed by the server after %d of %d bytes", c.got, c.due)
	case c.done():
		return 0, fmt.Errorf("%d %w", n, errUnasked)
	}
	if err := t.check(buf[:n], c.batch, c.got, t.due(c.sent)); err != nil {
		return 0, err
	}
	c.got += n
	return n, nil
}

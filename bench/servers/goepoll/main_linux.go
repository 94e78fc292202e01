// Goepoll is a line echo in Go on bare epoll: no scheduler, no framework, nothing but system calls and a search for
// newlines. It is the least that a Go program on one core can do, and works as the C server does, call by call.
//
//	goepoll -listen 127.0.0.1:0
package main

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	readSize = 64 << 10
	maxLine  = 2 << 20 // without its end; a longer line ends the connection
	accepts  = 64      // in one pass
	spares   = 64
)

// conn is a connection. What was received and not sent lies in buf: the first ready bytes, from head on, are whole lines,
// the rest is the beginning of the next. An echo sends what it received, in that order, so one buffer is input and output.
type conn struct {
	buf     []byte // nil: nothing is kept
	head    int
	ready   int
	fd      int32
	blocked bool // waits to write, and does not read
}

type server struct {
	ep, listener int
	conns        []*conn // by descriptor
	input        []byte  // what all connections read into
	spare        [][]byte
	events       [512]unix.EpollEvent
}

func main() {
	listen := flag.String("listen", "127.0.0.1:7000", "`address` to listen on, as IP:PORT; port 0 takes a free one")
	flag.Parse()
	if err := serve(*listen); err != nil {
		fmt.Fprintln(os.Stderr, "goepoll:", err)
		os.Exit(1)
	}
}

func serve(address string) error {
	s := &server{input: make([]byte, readSize)}
	var err error
	if s.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if s.listener, err = listen(address); err != nil {
		return fmt.Errorf("-listen %s: %w", address, err)
	}
	if err := s.watch(unix.EPOLL_CTL_ADD, s.listener, unix.EPOLLIN); err != nil {
		return err
	}
	for {
		n, err := s.wait()
		if err != nil {
			return err
		}
		for _, ev := range s.events[:n] {
			switch c := s.lookup(ev.Fd); {
			case int(ev.Fd) == s.listener:
				err = s.accept()
			case c == nil: // dropped in this pass
			case c.blocked:
				err = s.flush(c)
			default:
				err = s.readable(c)
			}
			if err != nil {
				return err
			}
		}
	}
}

// listen opens an IPv4 address and says on standard error what it became.
func listen(address string) (fd int, err error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return -1, err
	}
	if !ap.Addr().Is4() {
		return -1, fmt.Errorf("not an IPv4 address")
	}
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for _, option := range [][2]int{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY}, // what is accepted inherits it
	} {
		if err := unix.SetsockoptInt(fd, option[0], option[1], 1); err != nil {
			return -1, err
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: ap.Addr().As4(), Port: int(ap.Port())}); err != nil {
		return -1, err
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return -1, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return -1, err
	}
	bound := sa.(*unix.SockaddrInet4)
	fmt.Fprintf(os.Stderr, "listening on %s\n", netip.AddrPortFrom(netip.AddrFrom4(bound.Addr), uint16(bound.Port)))
	return fd, nil
}

// wait asks without blocking first, by a raw system call; only a wait that blocks goes through Go's scheduler.
func (s *server) wait() (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.ep), uintptr(unsafe.Pointer(&s.events)),
		uintptr(len(s.events)), 0, 0, 0)
	if errno == 0 && n > 0 {
		return int(n), nil
	}
	blocked, err := unix.EpollWait(s.ep, s.events[:], -1)
	if err == unix.EINTR {
		return 0, nil
	}
	return blocked, err
}

func (s *server) watch(op, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(s.ep, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

func (s *server) lookup(fd int32) *conn {
	if int(fd) < len(s.conns) {
		return s.conns[fd]
	}
	return nil
}

func (s *server) accept() error {
	for range accepts {
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(s.listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
		case unix.EAGAIN, unix.EINTR, unix.ECONNABORTED:
			return nil
		default:
			return os.NewSyscallError("accept4", errno)
		}
		for int(fd) >= len(s.conns) {
			s.conns = append(s.conns, nil)
		}
		s.conns[fd] = &conn{fd: int32(fd)}
		if err := s.watch(unix.EPOLL_CTL_ADD, int(fd), unix.EPOLLIN); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) readable(c *conn) error {
	n, errno := raw(unix.SYS_READ, c.fd, s.input)
	if n <= 0 {
		if errno != unix.EAGAIN && errno != unix.EINTR {
			s.drop(c)
		}
		return nil
	}
	p := s.input[:n]
	lines := 0 // length of the whole lines in p
	for {
		i := bytes.IndexByte(p[lines:], '\n')
		if i < 0 {
			break
		}
		lines += i + 1
	}
	if c.buf == nil {
		sent := 0
		if lines > 0 {
			var ok bool
			if sent, ok = s.put(c, p[:lines]); !ok {
				return nil
			}
			if sent == n {
				return nil // nearly always
			}
		}
		s.keep(c, p[sent:])
		c.ready = lines - sent
		if err := s.block(c, c.ready > 0); err != nil {
			return err
		}
	} else {
		s.keep(c, p)
		if lines > 0 {
			c.ready = len(c.buf) - (n - lines)
			return s.flush(c)
		}
	}
	if len(c.buf)-c.ready > maxLine {
		s.drop(c)
	}
	return nil
}

func (s *server) flush(c *conn) error {
	if c.head < c.ready {
		sent, ok := s.put(c, c.buf[c.head:c.ready])
		if !ok {
			return nil
		}
		c.head += sent
	}
	if c.head < c.ready {
		return s.block(c, true)
	}
	if c.ready == len(c.buf) {
		s.release(c)
	} else {
		c.buf = c.buf[:copy(c.buf, c.buf[c.head:])]
		c.head, c.ready = 0, 0
	}
	return s.block(c, false)
}

// put writes what the socket takes; it answers false if the connection is lost.
func (s *server) put(c *conn, p []byte) (int, bool) {
	for {
		n, errno := raw(unix.SYS_WRITE, c.fd, p)
		switch errno {
		case 0:
			return n, true
		case unix.EAGAIN:
			return 0, true
		case unix.EINTR:
		default:
			s.drop(c)
			return 0, false
		}
	}
}

// raw is a read or write that cannot block, and so need not tell Go's scheduler.
func raw(trap uintptr, fd int32, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}

// block switches between waiting for input and waiting for room to write.
func (s *server) block(c *conn, on bool) error {
	if c.blocked == on {
		return nil
	}
	c.blocked = on
	if on {
		return s.watch(unix.EPOLL_CTL_MOD, int(c.fd), unix.EPOLLOUT)
	}
	return s.watch(unix.EPOLL_CTL_MOD, int(c.fd), unix.EPOLLIN)
}

// keep appends to the connection's own memory.
func (s *server) keep(c *conn, p []byte) {
	if n := len(s.spare); c.buf == nil && n > 0 {
		c.buf = s.spare[n-1]
		s.spare = s.spare[:n-1]
	}
	c.buf = append(c.buf, p...)
}

func (s *server) release(c *conn) {
	if c.buf != nil && len(s.spare) < spares {
		s.spare = append(s.spare, c.buf[:0])
	}
	c.buf, c.head, c.ready = nil, 0, 0
}

func (s *server) drop(c *conn) {
	s.release(c)
	s.conns[c.fd] = nil
	_ = unix.Close(int(c.fd))
}

// Package bare is an epoll loop of raw system calls, with nothing around them: what a Go program on one core can do at the
// least.
package bare

import (
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/bench/internal/serving"
)

const accepts = 64 // in one pass

// Loop is a listener, and the connections that it accepts, level-triggered.
type Loop struct {
	// Opened is called for each connection that is accepted. It does not block, and is watched for input.
	Opened func(fd int)
	// Ready is called when what a connection is watched for can be done. An error ends the loop. It may be called once more
	// for a connection that was closed in the same pass.
	Ready func(fd int) error

	ep, listener int
	events       [512]unix.EpollEvent
}

// Serve listens on an IPv4 address, says on standard error what it became, and serves until something fails.
func (l *Loop) Serve(address string) error {
	var err error
	if l.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if l.listener, err = listen(address); err != nil {
		return fmt.Errorf("-listen %s: %w", address, err)
	}
	if err := l.watch(unix.EPOLL_CTL_ADD, l.listener, unix.EPOLLIN); err != nil {
		return err
	}
	for {
		n, err := l.wait()
		if err != nil {
			return err
		}
		for _, ev := range l.events[:n] {
			if int(ev.Fd) == l.listener {
				err = l.accept()
			} else {
				err = l.Ready(int(ev.Fd))
			}
			if err != nil {
				return err
			}
		}
	}
}

// listen opens an IPv4 address and says what it became.
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
	serving.At(netip.AddrPortFrom(netip.AddrFrom4(bound.Addr), uint16(bound.Port)))
	return fd, nil
}

// wait asks without blocking first, by a raw system call; only a wait that blocks goes through Go's scheduler.
func (l *Loop) wait() (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.ep), uintptr(unsafe.Pointer(&l.events)),
		uintptr(len(l.events)), 0, 0, 0)
	if errno == 0 && n > 0 {
		return int(n), nil
	}
	blocked, err := unix.EpollWait(l.ep, l.events[:], -1)
	if err == unix.EINTR {
		return 0, nil
	}
	return blocked, os.NewSyscallError("epoll_wait", err)
}

func (l *Loop) watch(op, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.ep, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}

// Watch changes what a connection waits for: unix.EPOLLIN, unix.EPOLLOUT.
func (l *Loop) Watch(fd int, events uint32) error { return l.watch(unix.EPOLL_CTL_MOD, fd, events) }

func (l *Loop) accept() error {
	for range accepts {
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(l.listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
		case unix.EAGAIN, unix.EINTR, unix.ECONNABORTED:
			return nil
		default:
			return os.NewSyscallError("accept4", errno)
		}
		if err := l.watch(unix.EPOLL_CTL_ADD, int(fd), unix.EPOLLIN); err != nil {
			return err
		}
		l.Opened(int(fd))
	}
	return nil
}

// Read is read(2) on a descriptor that does not block, so that Go's scheduler need not be told. n is -1 with an error.
func Read(fd int, p []byte) (n int, errno unix.Errno) { return raw(unix.SYS_READ, fd, p) }

// Write is write(2), as Read is read(2).
func Write(fd int, p []byte) (n int, errno unix.Errno) { return raw(unix.SYS_WRITE, fd, p) }

func raw(trap uintptr, fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}

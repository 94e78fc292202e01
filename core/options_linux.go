package core

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// keepAliveTimes sets what package net sets: 15 s of silence, then 9 probes 15 s apart.
func keepAliveTimes(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9)
}

func newSocket(family, typ int) (int, error) {
	return unix.Socket(family, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// reopen opens a terminal anew, so that its non-blocking mode is ours alone. Not the controlling side of a pseudo terminal:
// opening that makes another one.
func reopen(fd, mode int) (int, error) {
	if _, err := unix.IoctlGetInt(fd, unix.TIOCGPTN); err == nil {
		return -1, ErrUnsupported
	}
	return unix.Open("/proc/self/fd/"+strconv.Itoa(fd),
		mode&unix.O_ACCMODE|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}

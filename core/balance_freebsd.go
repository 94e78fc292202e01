package core

import (
	"os"

	"golang.org/x/sys/unix"
)

// balances: the kernel spreads connections over the TCP sockets that share an address by SO_REUSEPORT_LB.
func (osSystem) balances(network string) bool { return network != "unix" }

func balance(fd int, _ bool) error {
	return os.NewSyscallError("setsockopt SO_REUSEPORT_LB", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT_LB, 1))
}

func balanced(int) error { return nil }

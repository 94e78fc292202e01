package core

import (
	"os"

	"golang.org/x/sys/unix"
)

// balances: the kernel spreads connections over the TCP sockets that share an address by SO_REUSEPORT.
func (osSystem) balances(network string) bool { return network != "unix" }

// balance prepares a socket to share its address, before it is bound. The first one takes the address for itself and shares
// it only afterwards: otherwise a program that is started twice would share it with itself, and nobody would notice.
func balance(fd int, joins bool) error {
	if !joins {
		return nil
	}
	return balanced(fd)
}

// balanced lets further sockets in.
func balanced(fd int) error {
	return os.NewSyscallError("setsockopt SO_REUSEPORT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}

//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package core

import "golang.org/x/sys/unix"

// keepAliveTimes leaves the system's own: their names differ from one to the next.
func keepAliveTimes(int) {}

func newSocket(family, typ int) (int, error) {
	fd, err := unix.Socket(family, typ, 0)
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TIOCGETA)
	return err == nil
}

// reopen is not possible here: opening /dev/fd/N only duplicates.
func reopen(int, int) (int, error) { return -1, ErrUnsupported }

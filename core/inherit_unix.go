//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const firstInherited = 3 // SD_LISTEN_FDS_START

// Inherited returns the sockets that systemd, or another supervisor that speaks LISTEN_FDS, opened for this process, in
// the order of their numbers, and nothing if there are none. The variables are meant for this process if LISTEN_PID is its
// id. With unset they are removed, so that children do not take them for theirs. Call it once. sd_listen_fds(3)
func Inherited(unset bool) ([]InheritedSocket, error) {
	pid, fds, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	if unset {
		for _, name := range []string{"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			_ = os.Unsetenv(name)
		}
	}
	if pid != strconv.Itoa(os.Getpid()) || fds == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(fds)
	if err != nil || n < 0 || n > 1<<16 {
		return nil, fmt.Errorf("parley: LISTEN_FDS=%q is not a number of descriptors", fds)
	}
	name := strings.Split(names, ":")
	sockets := make([]InheritedSocket, 0, n)
	for i := range n { // all of them, whatever becomes of the first
		unix.CloseOnExec(firstInherited + i)
	}
	for i := range n {
		fd := firstInherited + i
		s := &sysSocket{fd: int32(fd)}
		if err := s.identify(); err != nil {
			return sockets, fmt.Errorf("parley: LISTEN_FDS: descriptor %d: %w", fd, err)
		}
		in := InheritedSocket{Name: "unknown", Socket: s}
		if i < len(name) && name[i] != "" {
			in.Name = name[i]
		}
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && on != 0 {
			in.Listening = true
			s.flags |= flagListening
		}
		sockets = append(sockets, in)
	}
	return sockets, nil
}

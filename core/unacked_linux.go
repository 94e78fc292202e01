package core

import "golang.org/x/sys/unix"

// Unacked asks how much of what was sent over TCP is not acknowledged: tcp(7), SIOCOUTQ. Other sockets count memory there.
func (s *sysSocket) Unacked() int {
	if s.kind != kindTCP {
		return 0
	}
	n, err := unix.IoctlGetInt(int(s.fd), unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

//go:build darwin || dragonfly || freebsd || netbsd || openbsd || (linux && !amd64 && !arm64)

package core

import (
	"io"

	"golang.org/x/sys/unix"
)

func sysRead(fd int, p []byte) (int, error) {
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, p) })
	return max(n, 0), wouldBlock(err)
}

func sysWrite(fd int, p []byte) (int, error) {
	n, err := ignoringEINTR(func() (int, error) { return unix.Write(fd, p) })
	return max(n, 0), wouldBlock(err)
}

func (s *sysSocket) Recv(p []byte) (int, error) {
	if s.kind >= kindPipe {
		return s.recvOther(p)
	}
	n, err := sysRead(int(s.fd), p)
	if n == 0 && err == nil && s.stream() {
		err = io.EOF
	}
	return n, err
}

func (s *sysSocket) Send(p []byte) (int, error) {
	if s.kind >= kindPipe {
		return s.sendOther(p)
	}
	return sysWrite(int(s.fd), p)
}

func sysAccept(fd int) (*sysSocket, error) {
	var sa unix.Sockaddr
	n, err := ignoringEINTR(func() (n int, err error) {
		n, sa, err = unix.Accept(fd)
		return n, err
	})
	if err != nil {
		return nil, wouldBlock(err)
	}
	unix.CloseOnExec(n)
	if err := unix.SetNonblock(n, true); err != nil {
		_ = unix.Close(n)
		return nil, err
	}
	s := &sysSocket{fd: int32(n)}
	if e := endpoint(sa); e.AddrPort.IsValid() {
		s.setPeer(e.AddrPort)
		if on, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY); err == nil && on != 0 {
			_ = unix.SetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // not every system inherits it
		}
	}
	return s, nil
}

func sysRecvFrom(fd int, p []byte) (int, Endpoint, error) {
	var sa unix.Sockaddr
	n, err := ignoringEINTR(func() (n int, err error) {
		n, sa, err = unix.Recvfrom(fd, p, 0)
		return n, err
	})
	if err != nil {
		return 0, Endpoint{}, wouldBlock(err)
	}
	return n, endpoint(sa), nil
}

func sysSendTo(fd int, p []byte, to Endpoint, ipv6 bool) (int, error) {
	_, err := ignoringEINTR(func() (int, error) { return 0, unix.Sendto(fd, p, 0, sockaddr(to, ipv6)) })
	if err != nil {
		return 0, wouldBlock(err)
	}
	return len(p), nil
}

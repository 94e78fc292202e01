//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// sysSocket is a socket, pipe, tty or file of the operating system. It is kept small: every idle connection has one.
type sysSocket struct {
	fd      int32
	kind    sockKind
	flags   sockFlags
	port    uint16 // of the peer
	zone    uint32
	addr    [16]byte
	onClose func()
}

type sockKind uint8

const (
	kindTCP sockKind = iota
	kindUnix
	kindUDP
	kindUnixgram
	kindPipe // also a tty
	kindFile // always ready, and may block on the disk
)

type sockFlags uint8

const (
	flagPeer     sockFlags = 1 << iota // addr is known
	flagIPv6                           // the socket's family
	flagBlocking                       // the descriptor was in blocking mode: restore that
	flagNoRead                         // opened for writing only
	flagNoWrite                        // opened for reading only
	flagTTY
	flagListening
)

func (s *sysSocket) FD() int { return int(s.fd) }

func (s *sysSocket) stream() bool { return s.kind != kindUDP && s.kind != kindUnixgram }

// recvOther is Recv for what is no socket.
func (s *sysSocket) recvOther(p []byte) (int, error) {
	if s.kind == kindFile {
		return s.recvFile(p)
	}
	n, err := sysRead(int(s.fd), p)
	if n == 0 && err == nil || err == unix.EIO && s.flags&flagTTY != 0 { // the other side of a pty is closed
		err = io.EOF
	}
	return n, err
}

// recvFile reads a regular file: not by a raw system call, because the disk can block.
func (s *sysSocket) recvFile(p []byte) (int, error) {
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(int(s.fd), p) })
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

// sendOther: see recvOther.
func (s *sysSocket) sendOther(p []byte) (int, error) {
	if s.kind == kindPipe {
		return sysWrite(int(s.fd), p)
	}
	n, err := ignoringEINTR(func() (int, error) { return unix.Write(int(s.fd), p) })
	return max(n, 0), err
}

func (s *sysSocket) RecvFrom(p []byte) (int, Endpoint, error) {
	return sysRecvFrom(int(s.fd), p)
}

func (s *sysSocket) SendTo(p []byte, to Endpoint) (int, error) {
	if to == (Endpoint{}) { // a connected socket
		return sysWrite(int(s.fd), p)
	}
	return sysSendTo(int(s.fd), p, to, s.flags&flagIPv6 != 0)
}

func (s *sysSocket) RecvUrgent(p []byte) (int, error) {
	n, err := ignoringEINTR(func() (int, error) {
		n, _, err := unix.Recvfrom(int(s.fd), p, unix.MSG_OOB)
		return n, err
	})
	if err == unix.EINVAL { // no urgent data, or read already
		err = ErrWouldBlock
	}
	return max(n, 0), wouldBlock(err)
}

func (s *sysSocket) SendUrgent(p []byte) (int, error) {
	n, err := ignoringEINTR(func() (int, error) { return unix.SendmsgN(int(s.fd), p, nil, nil, unix.MSG_OOB) })
	return max(n, 0), wouldBlock(err)
}

// SendFile: only from a plain stream socket, and not by a raw system call, because the disk can block.
func (s *sysSocket) SendFile(f *os.File, offset int64, n int) (int, error) {
	if s.kind != kindTCP && s.kind != kindUnix {
		return 0, ErrUnsupported
	}
	c, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var sent int
	var sendErr error
	if err := c.Control(func(fd uintptr) { sent, sendErr = sysSendFile(int(s.fd), int(fd), offset, n) }); err != nil {
		return 0, err
	}
	return sent, sendErr
}

func (s *sysSocket) Accept() (Socket, error) {
	a, err := sysAccept(int(s.fd))
	if err != nil {
		return nil, err
	}
	a.kind = s.kind
	return a, nil
}

// SetAccepted sets options of a listening socket for what it accepts: Linux inherits them.
func (s *sysSocket) SetAccepted(delay, noKeepAlive bool) error {
	if s.kind != kindTCP {
		return nil
	}
	return tcpOptions(int(s.fd), delay, noKeepAlive)
}

// ConnectResult is asked when a connecting socket is writable. No pending error is not proof enough: there must be a
// peer.
func (s *sysSocket) ConnectResult() error {
	errno, err := unix.GetsockoptInt(int(s.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if errno != 0 {
		return unix.Errno(errno)
	}
	if _, err := unix.Getpeername(int(s.fd)); err == unix.ENOTCONN {
		return ErrWouldBlock
	}
	return nil // EINVAL from getpeername: connected, and reset since; the first read reports it
}

func (s *sysSocket) CloseWrite() error {
	if s.kind == kindPipe || s.kind == kindFile {
		return ErrUnsupported
	}
	return unix.Shutdown(int(s.fd), unix.SHUT_WR)
}

// Abort makes Close send a reset.
func (s *sysSocket) Abort() error {
	if s.kind != kindTCP {
		return ErrUnsupported
	}
	return unix.SetsockoptLinger(int(s.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

func (s *sysSocket) Close() error {
	if s.fd < 0 {
		return nil
	}
	if s.flags&flagBlocking != 0 {
		_ = unix.SetNonblock(int(s.fd), false)
	}
	err := unix.Close(int(s.fd))
	s.released()
	return err
}

func (s *sysSocket) released() {
	s.fd = -1
	if s.onClose != nil {
		f := s.onClose
		s.onClose = nil
		f()
	}
}

func (s *sysSocket) OnClose(f func()) { s.onClose = f }

// Directions: a pipe's end, or a file opened one way, can do one thing only.
func (s *sysSocket) Directions() Interest {
	d := Read | Write | Urgent
	if s.flags&flagNoRead != 0 {
		d &^= Read | Urgent
	}
	if s.flags&flagNoWrite != 0 {
		d &^= Write
	}
	return d
}

func (s *sysSocket) setPeer(a netip.AddrPort) {
	s.addr, s.port = a.Addr().As16(), a.Port()
	s.zone = zoneIndex(a.Addr().Zone())
	s.flags |= flagPeer
}

// RemoteAddrPort returns the peer's address, the zero AddrPort if there is none.
func (s *sysSocket) RemoteAddrPort() netip.AddrPort {
	if s.flags&flagPeer == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(withZone(netip.AddrFrom16(s.addr).Unmap(), s.zone), s.port)
}

func (s *sysSocket) RemoteAddr() net.Addr {
	switch {
	case s.flags&flagPeer != 0:
		return s.netAddr(Endpoint{AddrPort: s.RemoteAddrPort()})
	case s.kind == kindPipe || s.kind == kindFile || s.flags&flagListening != 0 || s.fd < 0:
		return nil
	}
	sa, err := unix.Getpeername(int(s.fd))
	if err != nil {
		return nil
	}
	return s.netAddr(endpoint(sa))
}

func (s *sysSocket) LocalAddr() net.Addr {
	if s.kind == kindPipe || s.kind == kindFile {
		return fileAddr("fd " + strconv.Itoa(int(s.fd)))
	}
	if s.fd < 0 {
		return nil
	}
	sa, err := unix.Getsockname(int(s.fd))
	if err != nil {
		return nil
	}
	return s.netAddr(endpoint(sa))
}

func (s *sysSocket) netAddr(e Endpoint) net.Addr {
	switch s.kind {
	case kindUnix:
		return &net.UnixAddr{Name: e.Path, Net: "unix"}
	case kindUnixgram:
		return &net.UnixAddr{Name: e.Path, Net: "unixgram"}
	case kindUDP:
		return net.UDPAddrFromAddrPort(e.AddrPort)
	}
	return net.TCPAddrFromAddrPort(e.AddrPort)
}

// Detach gives the descriptor to package net.
func (s *sysSocket) Detach() (net.Conn, error) {
	if s.kind != kindTCP && s.kind != kindUnix {
		return nil, ErrUnsupported
	}
	dup, err := dupCloexec(int(s.fd))
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	f := os.NewFile(uintptr(dup), "detached")
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nil, err
	}
	_ = unix.Close(int(s.fd))
	s.released()
	return conn, nil
}

// fileAddr is the address of a channel that is no socket.
type fileAddr string

func (a fileAddr) Network() string { return "file" }
func (a fileAddr) String() string  { return string(a) }

func endpoint(sa unix.Sockaddr) Endpoint {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return Endpoint{AddrPort: netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))}
	case *unix.SockaddrInet6:
		a := withZone(netip.AddrFrom16(sa.Addr).Unmap(), sa.ZoneId)
		return Endpoint{AddrPort: netip.AddrPortFrom(a, uint16(sa.Port))}
	case *unix.SockaddrUnix:
		return Endpoint{Path: sa.Name}
	}
	return Endpoint{}
}

func sockaddr(e Endpoint, ipv6 bool) unix.Sockaddr {
	if !e.AddrPort.IsValid() {
		return &unix.SockaddrUnix{Name: e.Path}
	}
	a := e.AddrPort.Addr()
	if ipv6 {
		return &unix.SockaddrInet6{Addr: a.As16(), Port: int(e.AddrPort.Port()), ZoneId: zoneIndex(a.Zone())}
	}
	return &unix.SockaddrInet4{Addr: a.Unmap().As4(), Port: int(e.AddrPort.Port())}
}

// A zone is kept as the index of its interface.
func zoneIndex(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}

func withZone(a netip.Addr, index uint32) netip.Addr {
	if index == 0 || !a.Is6() {
		return a
	}
	if i, err := net.InterfaceByIndex(int(index)); err == nil {
		return a.WithZone(i.Name)
	}
	return a.WithZone(strconv.Itoa(int(index)))
}

func wouldBlock(err error) error {
	if err == unix.EAGAIN || err == unix.EWOULDBLOCK {
		return ErrWouldBlock
	}
	return err
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

func dupCloexec(fd int) (int, error) {
	return ignoringEINTR(func() (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) })
}

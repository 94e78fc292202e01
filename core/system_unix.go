//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listen has package net open the socket, which knows about dual stacks and zones, and takes the descriptor over.
func (osSystem) Listen(network, address string, c *ListenConfig) (Socket, error) {
	if !strings.HasPrefix(network, "tcp") && network != "unix" {
		return nil, &net.OpError{Op: "listen", Net: network, Err: net.UnknownNetworkError(network)}
	}
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error {
		return control(raw, func(fd int) error {
			if network == "unix" {
				return nil
			}
			if c.NoReuseAddr {
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err != nil {
					return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
				}
			}
			if c.balance {
				return balance(fd, c.joins)
			}
			if c.ReusePort {
				return os.NewSyscallError("setsockopt SO_REUSEPORT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
			}
			return nil
		})
	}}
	lc.SetMultipathTCP(false) // its sockets are slower, also for peers without it
	ln, err := lc.Listen(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	s, err := AdoptListener(ln)
	if err != nil {
		_ = ln.Close()
		return nil, err
	}
	if c.balance && !c.joins {
		err = balanced(s.FD())
	}
	if err == nil && c.Backlog > 0 {
		err = os.NewSyscallError("listen", unix.Listen(s.FD(), c.Backlog))
	}
	if err != nil {
		_ = s.Close()
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	return s, nil
}

// AdoptListener takes over a listening TCP or unix socket; ln is closed unless an error is returned. Give the socket to
// ListenConfig.ListenSocket. The path of a unix socket that ln would have removed is removed when the listener closes.
func AdoptListener(ln net.Listener) (Socket, error) {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("parley: adopt %T: %w", ln, ErrUnsupported)
	}
	s, err := takeOver(sc)
	if err != nil {
		return nil, err
	}
	s.flags |= flagListening
	if u, ok := ln.(*net.UnixListener); ok {
		path := ln.Addr().String()
		u.SetUnlinkOnClose(false)
		_ = ln.Close()
		return ownPath(s, path), nil
	}
	return s, ln.Close()
}

// Adopt takes over the descriptor of a TCP or unix connection; conn is closed unless an error is returned. Attach the
// socket, or a layer of it. Dispatcher.Detach is the way back.
func Adopt(conn net.Conn) (Socket, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("parley: adopt %T: %w", conn, ErrUnsupported)
	}
	s, err := takeOver(sc)
	if err != nil {
		return nil, err
	}
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		s.setPeer(a.AddrPort())
	}
	return s, conn.Close()
}

// takeOver duplicates the descriptor of a socket of package net and finds out what it is.
func takeOver(sc syscall.Conn) (*sysSocket, error) {
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &sysSocket{fd: -1}
	err = control(raw, func(fd int) error {
		dup, err := dupCloexec(fd)
		if err != nil {
			return os.NewSyscallError("dup", err)
		}
		s.fd = int32(dup)
		return s.identify()
	})
	if err != nil && s.fd >= 0 {
		_ = unix.Close(int(s.fd))
	}
	return s, err
}

// identify asks the system what kind of socket a descriptor is.
func (s *sysSocket) identify() error {
	sa, err := unix.Getsockname(int(s.fd))
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	typ, err := unix.GetsockoptInt(int(s.fd), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_TYPE", err)
	}
	_, isUnix := sa.(*unix.SockaddrUnix)
	if _, ok := sa.(*unix.SockaddrInet6); ok {
		s.flags |= flagIPv6
	}
	switch {
	case isUnix && typ == unix.SOCK_STREAM:
		s.kind = kindUnix
	case isUnix && typ == unix.SOCK_DGRAM:
		s.kind = kindUnixgram
	case typ == unix.SOCK_STREAM:
		s.kind = kindTCP
	case typ == unix.SOCK_DGRAM:
		s.kind = kindUDP
	default:
		return fmt.Errorf("parley: socket type %d: %w", typ, ErrUnsupported)
	}
	return unix.SetNonblock(int(s.fd), true)
}

func control(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

func tcpOptions(fd int, delay, noKeepAlive bool) error {
	if !delay {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return os.NewSyscallError("setsockopt TCP_NODELAY", err)
		}
	}
	if !noKeepAlive {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1); err != nil {
			return os.NewSyscallError("setsockopt SO_KEEPALIVE", err)
		}
		keepAliveTimes(fd) // where they cannot be set, the system's own hold
	}
	return nil
}

// pathSocket is a socket that has a path of the file system to itself.
type pathSocket struct {
	*sysSocket
	path string
	info os.FileInfo
}

func ownPath(s *sysSocket, path string) Socket {
	if path == "" || path[0] == '@' {
		return s
	}
	info, err := os.Lstat(path)
	if err != nil {
		return s
	}
	return &pathSocket{s, path, info}
}

// Close removes the path first, so that nobody finds it refused, but not if another socket has taken it.
func (p *pathSocket) Close() error {
	if p.fd < 0 {
		return nil
	}
	if info, err := os.Lstat(p.path); err == nil && os.SameFile(info, p.info) {
		_ = os.Remove(p.path)
	}
	return p.sysSocket.Close()
}

func (osSystem) ListenPacket(network, address string) (Socket, error) {
	if !strings.HasPrefix(network, "udp") && network != "unixgram" {
		return nil, &net.OpError{Op: "listen", Net: network, Err: net.UnknownNetworkError(network)}
	}
	pc, err := net.ListenPacket(network, address)
	if err != nil {
		return nil, err
	}
	s, err := takeOver(pc.(syscall.Conn))
	if err != nil {
		_ = pc.Close()
		return nil, err
	}
	if network == "unixgram" {
		own := ownPath(s, address)
		return own, pc.Close() // package net does not remove a unixgram's path
	}
	return s, pc.Close()
}

func (osSystem) Connect(network string, to Endpoint, c *Dialer) (Socket, error) {
	s := &sysSocket{fd: -1}
	family, typ := unix.AF_INET, unix.SOCK_STREAM
	ip := to.AddrPort.Addr()
	switch {
	case to.Path != "":
		family = unix.AF_UNIX
	case !ip.Unmap().Is4():
		family = unix.AF_INET6
		s.flags |= flagIPv6
	}
	switch {
	case network == "unix":
		s.kind = kindUnix
	case network == "unixgram":
		s.kind, typ = kindUnixgram, unix.SOCK_DGRAM
	case strings.HasPrefix(network, "udp"):
		s.kind, typ = kindUDP, unix.SOCK_DGRAM
	}
	fd, err := newSocket(family, typ)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s.fd = int32(fd)
	if err := s.connect(to, c); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	if to.AddrPort.IsValid() {
		s.setPeer(to.AddrPort)
	}
	return s, nil
}

func (s *sysSocket) connect(to Endpoint, c *Dialer) error {
	ipv6 := s.flags&flagIPv6 != 0
	if s.kind == kindTCP {
		if err := tcpOptions(int(s.fd), c.Delay, c.NoKeepAlive); err != nil {
			return err
		}
	}
	if c.LocalAddr.IsValid() && to.AddrPort.IsValid() {
		if ipv6 == c.LocalAddr.Addr().Unmap().Is4() {
			return errors.New("parley: local and remote address are of different families")
		}
		if err := unix.Bind(int(s.fd), sockaddr(Endpoint{AddrPort: c.LocalAddr}, ipv6)); err != nil {
			return os.NewSyscallError("bind", err)
		}
	}
	_, err := ignoringEINTR(func() (int, error) { return 0, unix.Connect(int(s.fd), sockaddr(to, ipv6)) })
	switch err {
	case unix.EINPROGRESS, unix.EALREADY, unix.EISCONN:
		return nil
	}
	return err
}

func (osSystem) Reserve() (io.Closer, error) { return os.Open(os.DevNull) }

func (osSystem) MaxFiles() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0
	}
	return int(min(uint64(r.Cur), 1<<30))
}

// OpenFile makes a channel of a pipe, a terminal, a device or a regular file. The descriptor is duplicated: f stays the
// caller's to close. While the channel is open the file is in non-blocking mode, and everybody who shares it (a shell its
// terminal, say) sees that; Close puts it back as it was. A terminal is opened anew where the system allows, which leaves
// the shared one alone. Regular files are always ready, and reading one can wait for the disk. [file_dispatcher]
func OpenFile(l *Loop, f *os.File, h any) (*Dispatcher, error) {
	s, err := FileSocket(f)
	if err != nil {
		return nil, err
	}
	d, err := Attach(l, s, h)
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return d, nil
}

// FileSocket is OpenFile without the channel, for a layer that attaches the socket itself.
func FileSocket(f *os.File) (Socket, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var s *sysSocket
	err = control(raw, func(fd int) (err error) {
		s, err = openFile(fd)
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return s, nil
}

func openFile(fd int) (*sysSocket, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	s := &sysSocket{kind: kindPipe}
	mode, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, err
	}
	switch mode & unix.O_ACCMODE {
	case unix.O_RDONLY:
		s.flags |= flagNoWrite
	case unix.O_WRONLY:
		s.flags |= flagNoRead
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return nil, unix.EISDIR
	case unix.S_IFREG:
		s.kind = kindFile
	case unix.S_IFSOCK: // standard input of a program that inetd started
		dup, err := dupCloexec(fd)
		if err != nil {
			return nil, err
		}
		s = &sysSocket{fd: int32(dup)}
		if err := s.identify(); err != nil {
			_ = unix.Close(dup)
			return nil, err
		}
		if mode&unix.O_NONBLOCK == 0 {
			s.flags |= flagBlocking
		}
		return s, nil
	case unix.S_IFCHR:
		if isTerminal(fd) {
			s.flags |= flagTTY
			if own, err := reopen(fd, mode); err == nil {
				s.fd = int32(own)
				return s, nil
			}
		}
	}
	dup, err := dupCloexec(fd)
	if err != nil {
		return nil, err
	}
	s.fd = int32(dup)
	if s.kind == kindPipe && mode&unix.O_NONBLOCK == 0 {
		if err := unix.SetNonblock(dup, true); err != nil {
			_ = unix.Close(dup)
			return nil, err
		}
		s.flags |= flagBlocking
	}
	return s, nil
}

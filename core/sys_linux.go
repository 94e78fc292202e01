//go:build linux && (amd64 || arm64)

package core

import (
	"encoding/binary"
	"io"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls on descriptors that cannot block are made raw: Go's scheduler is not told, which a call of a few hundred
// nanoseconds would pay for with a quarter of its price. What can block, a wait or the disk, must not be made so: it
// would hold up the garbage collector.
//
// Recv and Send make theirs by themselves: behind a send, in which the kernel calls many functions, each of ours that returns
// costs some 20 ns, as if the processor had forgotten where to (bench/NOTES.md).

func (s *sysSocket) Recv(p []byte) (int, error) {
	if s.kind >= kindPipe {
		return s.recvOther(p)
	}
	for {
		// Not read(2): the kernel has less to do for recv(2), which shows with short messages.
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
			uintptr(len(p)), 0, 0, 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return 0, wouldBlock(errno)
		case n == 0 && s.stream():
			return 0, io.EOF
		}
		return int(n), nil
	}
}

func (s *sysSocket) Send(p []byte) (int, error) {
	if s.kind >= kindPipe {
		return s.sendOther(p)
	}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
			uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, wouldBlock(errno)
		}
	}
}

func sysRead(fd int, p []byte) (int, error) {
	return raw(unix.SYS_READ, fd, p)
}

func sysWrite(fd int, p []byte) (int, error) {
	return raw(unix.SYS_WRITE, fd, p)
}

// raw calls syscall's RawSyscall, because unix's goes through a change of calling conventions to the same.
func raw(trap uintptr, fd int, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, wouldBlock(errno)
		}
	}
}

// SendVector is for stream sockets.
func (s *sysSocket) SendVector(p [][]byte) (int, error) {
	if s.kind != kindTCP && s.kind != kindUnix {
		return 0, ErrUnsupported
	}
	var iov [MaxVector]unix.Iovec
	for i, piece := range p[:min(len(p), MaxVector)] {
		iov[i].Base = unsafe.SliceData(piece)
		iov[i].SetLen(len(piece))
	}
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(s.fd), uintptr(unsafe.Pointer(&iov)),
			uintptr(min(len(p), MaxVector)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			return 0, ErrWouldBlock
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func sysAccept(fd int) (*sysSocket, error) {
	var sa rawAddr
	for {
		size := uint32(unsafe.Sizeof(sa))
		n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)),
			uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
			s := &sysSocket{fd: int32(n)}
			if e := sa.endpoint(size); e.AddrPort.IsValid() {
				s.setPeer(e.AddrPort)
			}
			return s, nil
		case unix.EAGAIN:
			return nil, ErrWouldBlock
		case unix.EINTR:
		default:
			return nil, errno
		}
	}
}

func sysRecvFrom(fd int, p []byte) (int, Endpoint, error) {
	var sa rawAddr
	for {
		size := uint32(unsafe.Sizeof(sa))
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
			uintptr(len(p)), 0, uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
		switch errno {
		case 0:
			return int(n), sa.endpoint(size), nil
		case unix.EAGAIN:
			return 0, Endpoint{}, ErrWouldBlock
		case unix.EINTR:
		default:
			return 0, Endpoint{}, errno
		}
	}
}

func sysSendTo(fd int, p []byte, to Endpoint, ipv6 bool) (int, error) {
	var sa rawAddr
	size := sa.set(to, ipv6)
	if size == 0 {
		return 0, unix.EINVAL
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
			uintptr(len(p)), unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&sa)), uintptr(size))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN:
			return 0, ErrWouldBlock
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// rawAddr is a struct sockaddr of any family: family in host order, then port in network order.
type rawAddr [unix.SizeofSockaddrUnix]byte

func (a *rawAddr) endpoint(size uint32) Endpoint {
	if size < 2 {
		return Endpoint{}
	}
	switch binary.NativeEndian.Uint16(a[:]) {
	case unix.AF_INET:
		return Endpoint{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:8])), binary.BigEndian.Uint16(a[2:]))}
	case unix.AF_INET6:
		ip := netip.AddrFrom16([16]byte(a[8:24])).Unmap()
		ip = withZone(ip, binary.NativeEndian.Uint32(a[24:]))
		return Endpoint{AddrPort: netip.AddrPortFrom(ip, binary.BigEndian.Uint16(a[2:]))}
	case unix.AF_UNIX:
		name := a[2:min(size, uint32(len(a)))]
		if len(name) > 0 && name[0] == 0 { // abstract
			return Endpoint{Path: "@" + string(name[1:])}
		}
		for i, c := range name {
			if c == 0 {
				name = name[:i]
				break
			}
		}
		return Endpoint{Path: string(name)}
	}
	return Endpoint{}
}

// set returns the size, 0 if the address does not fit.
func (a *rawAddr) set(to Endpoint, ipv6 bool) int {
	switch ip := to.AddrPort.Addr(); {
	case !to.AddrPort.IsValid():
		if len(to.Path) >= len(a)-2 {
			return 0
		}
		binary.NativeEndian.PutUint16(a[:], unix.AF_UNIX)
		copy(a[2:], to.Path)
		if to.Path[0] == '@' {
			a[2] = 0
			return 2 + len(to.Path)
		}
		return 2 + len(to.Path) + 1
	case ipv6:
		binary.NativeEndian.PutUint16(a[:], unix.AF_INET6)
		binary.BigEndian.PutUint16(a[2:], to.AddrPort.Port())
		b := ip.As16()
		copy(a[8:], b[:])
		binary.NativeEndian.PutUint32(a[24:], zoneIndex(ip.Zone()))
		return unix.SizeofSockaddrInet6
	case ip.Unmap().Is4():
		binary.NativeEndian.PutUint16(a[:], unix.AF_INET)
		binary.BigEndian.PutUint16(a[2:], to.AddrPort.Port())
		b := ip.Unmap().As4()
		copy(a[4:], b[:])
		return unix.SizeofSockaddrInet4
	}
	return 0
}

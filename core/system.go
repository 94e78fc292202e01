package core

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"
)

// System is the world that a Loop lives in: its readiness, its clock, its sockets, its threads. The operating system is
// one; core/sim has one in memory. It is a seam for tests; there is no third one to write.
type System interface {
	NewPoller(backend string) (Poller, error)
	Now() time.Time

	// Go runs work without holding the loop.
	Go(work func())

	// LookupHost finds the addresses of a name; it runs on a worker.
	LookupHost(ctx context.Context, host string) ([]netip.Addr, error)

	// Listen and ListenPacket open sockets; Connect opens one whose connection may still be in progress.
	Listen(network, address string, c *ListenConfig) (Socket, error)
	ListenPacket(network, address string) (Socket, error)
	Connect(network string, to Endpoint, c *Dialer) (Socket, error)

	// Reserve takes a descriptor that can be given up when there is none left.
	Reserve() (io.Closer, error)

	// MaxFiles is the limit of open descriptors, 0 if there is none.
	MaxFiles() int
}

// operatingSystem is the System of loops that have no other.
var operatingSystem System = osSystem{}

type osSystem struct{}

func (osSystem) NewPoller(backend string) (Poller, error) { return newPoller(backend) }
func (osSystem) Now() time.Time                           { return time.Now() }
func (osSystem) Go(work func())                           { go work() }

func (osSystem) LookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// ListenPacket makes a channel for datagrams: "host:port" on udp, udp4, udp6, a path on unixgram, which is removed when
// the channel closes. The handler has HandlePacket or HandleUnixPacket (or HandleRead, and calls RecvFrom).
func ListenPacket(l *Loop, network, address string, h any) (*Dispatcher, error) {
	s, err := l.sys.ListenPacket(network, address)
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

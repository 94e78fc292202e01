//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/core"
)

// dialled is a handler that notes how a Dial ends.
type dialled struct {
	*core.Funcs
	connected bool
	cause     error
	done      bool
}

func newDialled() *dialled {
	h := &dialled{}
	h.Funcs = &core.Funcs{
		Read:    readAll,
		Connect: func(*core.Dispatcher) error { h.connected, h.done = true, true; return nil },
		Close:   func(_ *core.Dispatcher, cause error) { h.cause, h.done = cause, true },
	}
	return h
}

// dialTo dials and waits for the end of it.
func (k *kernel) dialTo(network, address string, c *core.Dialer) (*core.Dispatcher, *dialled) {
	k.t.Helper()
	h := newDialled()
	d := new(core.Dispatcher)
	require.NoError(k.t, c.Attach(d, k.loop, network, address, h.Funcs))
	require.False(k.t, h.done, "not from inside the call")
	k.until("the end of Dial", func() bool { return h.done })
	return d, h
}

// deafPort is an address on which nobody listens, and nobody else can: it is taken until the test is over.
func deafPort(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	unix.CloseOnExec(fd)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	sa, err := unix.Getsockname(fd)
	require.NoError(t, err)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
}

// TestKernelDialRefused: a refusal is HandleClose with the error of package net's shape, and no failure of the handler.
func TestKernelDialRefused(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		at := deafPort(t).String()
		d, h := k.dialTo("tcp", at, new(core.Dialer))
		require.False(t, h.connected)
		require.ErrorIs(t, h.cause, syscall.ECONNREFUSED)
		var op *net.OpError
		require.ErrorAs(t, h.cause, &op)
		require.Equal(t, "dial", op.Op)
		require.Equal(t, "tcp", op.Net)
		require.Equal(t, at, op.Addr.String())
		require.Equal(t, "dial tcp "+at+": connect: connection refused", h.cause.Error())
		require.True(t, d.Closed())
		require.Nil(t, d.RemoteAddr())
		require.Empty(t, k.logs.String())
		require.NoError(t, k.run(), "nothing is left, no timer either")

		_, h = k.dialTo("unix", socketPath(t), new(core.Dialer))
		require.ErrorIs(t, h.cause, syscall.ENOENT)
	})
}

// TestKernelDialName: a name is looked up beside the loop.
func TestKernelDialName(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		ln := k.listen(families[0], attaching(func() any { return echoing() }))
		_, port, err := net.SplitHostPort(ln.Addr().String())
		require.NoError(t, err)
		d, h := k.dialTo("tcp4", net.JoinHostPort("localhost", port), new(core.Dialer))
		require.NoError(t, h.cause)
		require.True(t, h.connected)
		require.Equal(t, ln.Addr().String(), d.RemoteAddr().String())

		_, h = k.dialTo("tcp", "name.invalid:80", new(core.Dialer))
		var dns *net.DNSError
		require.ErrorAs(t, h.cause, &dns)
		var op *net.OpError
		require.ErrorAs(t, h.cause, &op)
	})
}

// TestKernelDialSeveralAddresses: the addresses are tried one after the other; the error is that of all of them. Without a
// host those are the loopback addresses.
func TestKernelDialSeveralAddresses(t *testing.T) {
	if !hasIPv6() {
		t.Skip("no IPv6 here")
	}
	eachBackend(t, func(t *testing.T, k *kernel) {
		deaf := deafPort(t)
		_, port, err := net.SplitHostPort(deaf.String())
		require.NoError(t, err)
		_, h := k.dialTo("tcp", ":"+port, new(core.Dialer))
		require.ErrorIs(t, h.cause, syscall.ECONNREFUSED)
		require.ErrorContains(t, h.cause, deaf.String())
		require.ErrorContains(t, h.cause, "[::1]:"+port)

		ln, err := core.Listen(k.loop, "tcp6", "[::1]:"+port, attaching(func() any { return echoing() }))
		require.NoError(t, err)
		d, h := k.dialTo("tcp", ":"+port, new(core.Dialer))
		require.NoError(t, h.cause)
		require.True(t, h.connected)
		require.Equal(t, ln.Addr().String(), d.RemoteAddr().String(), "the second address")
		require.LessOrEqual(t, k.passesWithin(window), aFew)
	})
}

// TestKernelDialLocalAddr: the connection comes from the address that was asked for; one of the other family is an error.
func TestKernelDialLocalAddr(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		ln := k.listen(families[0], attaching(func() any { return echoing() }))
		from := deafPort(t).Addr()
		if runtime.GOOS == "linux" {
			from = netip.MustParseAddr("127.0.0.7")
		}
		d, h := k.dialTo("tcp", ln.Addr().String(), &core.Dialer{LocalAddr: netip.AddrPortFrom(from, 0)})
		require.NoError(t, h.cause)
		require.Equal(t, from, d.LocalAddr().(*net.TCPAddr).AddrPort().Addr())

		_, h = k.dialTo("tcp", ln.Addr().String(), &core.Dialer{LocalAddr: netip.AddrPortFrom(netip.IPv6Loopback(), 0)})
		require.ErrorContains(t, h.cause, "different families")
	})
}

// TestKernelDialBadCall: what is wrong with the call itself is said at once, and nothing is registered.
func TestKernelDialBadCall(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		h := k.unexpected("client")
		for _, to := range [][2]string{
			{"tcp", "no-port"}, {"tcp", "127.0.0.1:"}, {"tcp", "127.0.0.1:99999"}, {"tcp", "[::1"}, {"tcp4", "[::1]:80"},
			{"tcp6", "127.0.0.1:80"}, {"unix", ""}, {"sctp", "127.0.0.1:80"}, {"", ""},
		} {
			_, err := core.Dial(k.loop, to[0], to[1], h)
			var op *net.OpError
			require.ErrorAs(t, err, &op, "%v", to)
			require.Equal(t, "dial", op.Op)
		}
		_, err := core.Dial(k.loop, "tcp", "127.0.0.1:80", 42)
		require.Error(t, err)
		require.Zero(t, k.loop.Stats().Channels)
		require.NoError(t, k.run())
	})
}

// TestKernelDialTimeout: a connection that is never decided ends at the timeout. What does not answer is a listener whose
// backlog is full.
func TestKernelDialTimeout(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		at := blackHole(t)
		const timeout = 30 * time.Millisecond
		start := time.Now()
		d, h := k.dialTo("tcp", at, &core.Dialer{Timeout: timeout})
		require.GreaterOrEqual(t, time.Since(start), timeout)
		require.ErrorIs(t, h.cause, core.ErrTimeout)
		require.ErrorIs(t, h.cause, os.ErrDeadlineExceeded)
		var op *net.OpError
		require.ErrorAs(t, h.cause, &op)
		require.True(t, op.Timeout())
		require.Equal(t, at, op.Addr.String())
		require.True(t, d.Closed())
		require.LessOrEqual(t, k.loop.Stats().Passes, uint64(aFew))

		// Closed while it is under way: nothing else follows, and nothing is left.
		other := newDialled()
		d, err := core.Dial(k.loop, "tcp", at, other.Funcs)
		require.NoError(t, err)
		k.passes(2)
		require.True(t, d.Connecting())
		d.Requeue(core.Write) // readiness that does not hold
		k.passes(2)
		require.True(t, d.Connecting(), "no pending error does not mean that there is a peer")
		_, err = d.Recv(make([]byte, 1))
		require.ErrorIs(t, err, core.ErrWouldBlock)
		_, _, err = d.Detach()
		require.Error(t, err)
		require.ErrorIs(t, d.Upgrade(core.Prefix(d.Socket(), nil, nil)), core.ErrUnsupported)
		require.NoError(t, d.Close())
		require.NoError(t, k.run())
		require.True(t, other.done)
		require.False(t, other.connected)
		require.NoError(t, other.cause)
	})
}

// blackHole is an address that does not answer a connect.
func blackHole(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("a full backlog does not answer on Linux; elsewhere it may")
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	raw, err := ln.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 0) }))
	require.NoError(t, err)
	for range 16 { // one is enough, as far as is known
		c, err := net.DialTimeout("tcp4", ln.Addr().String(), 100*time.Millisecond)
		if err != nil {
			require.True(t, os.IsTimeout(err), "%v", err)
			return ln.Addr().String()
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Skip("its backlog takes everything")
	return ""
}

// TestKernelUnixDialRetries: a unix listener whose backlog is full answers EAGAIN, which is no connect in progress: the
// connect is tried again until there is room, without keeping the loop busy. (F9)
func TestKernelUnixDialRetries(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a full backlog is a refusal")
	}
	eachBackend(t, func(t *testing.T, k *kernel) {
		path := socketPath(t)
		ln, err := net.Listen("unix", path)
		require.NoError(t, err)
		defer ln.Close()
		raw, err := ln.(*net.UnixListener).SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 0) }))
		require.NoError(t, err)
		for full := false; !full; {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			require.NoError(t, err)
			unix.CloseOnExec(fd)
			require.NoError(t, unix.SetNonblock(fd, true))
			defer unix.Close(fd)
			err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
			full = err == unix.EAGAIN
			require.True(t, full || err == nil, "%v", err)
		}
		h := newDialled()
		d, err := core.Dial(k.loop, "unix", path, h.Funcs)
		require.NoError(t, err)
		require.LessOrEqual(t, k.passesWithin(window), 2*aFew, "1, 2, 4, 8, 16 ms")
		require.True(t, d.Connecting())
		require.False(t, h.done)
		k.peer(func() error { // room for one
			c, err := ln.Accept()
			if err == nil {
				err = c.Close()
			}
			return err
		}).wait()
		k.until("HandleConnect", func() bool { return h.done })
		require.NoError(t, h.cause)
		require.True(t, h.connected)

		_, h = k.dialTo("unix", path, &core.Dialer{Timeout: 5 * time.Millisecond})
		require.ErrorIs(t, h.cause, core.ErrTimeout)
	})
}

// TestKernelDialThenPeerResets: a connection that is reset before the loop comes to it: HandleConnect or not, it ends with
// HandleClose, once, and no call in between fails the loop.
func TestKernelDialThenPeerResets(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		h := newDialled()
		closes := 0
		h.Close = func(_ *core.Dispatcher, cause error) { h.cause, h.done = cause, true; closes++ }
		h.Connect = func(*core.Dispatcher) error { h.connected = true; return nil }
		_, err = core.Dial(k.loop, "tcp4", ln.Addr().String(), h.Funcs)
		require.NoError(t, err)
		c, err := ln.Accept()
		require.NoError(t, err)
		require.NoError(t, resetConn(c))
		k.until("HandleClose", func() bool { return h.done })
		require.ErrorIs(t, h.cause, syscall.ECONNRESET)
		k.passes(2)
		require.Equal(t, 1, closes)
		require.NotContains(t, k.logs.String(), "level=ERROR")
	})
}

// TestKernelPackets: datagrams on udp arrive whole, with their sender; an empty one is one, and closes nothing; an answer
// goes back by SendTo.
func TestKernelPackets(t *testing.T) {
	for _, fam := range []struct{ network, address string }{{"udp4", "127.0.0.1:0"}, {"udp6", "[::1]:0"}} {
		t.Run(fam.network, func(t *testing.T) {
			if fam.network == "udp6" && !hasIPv6() {
				t.Skip("no IPv6 here")
			}
			eachBackend(t, func(t *testing.T, k *kernel) {
				var got []string
				server, err := core.ListenPacket(k.loop, fam.network, fam.address, &core.Funcs{
					Packet: func(d *core.Dispatcher, p []byte, from netip.AddrPort) error {
						got = append(got, string(p))
						return d.SendTo(append([]byte("re: "), p...), from)
					},
				})
				require.NoError(t, err)
				addr := server.LocalAddr()
				require.NotZero(t, addr.(*net.UDPAddr).Port)
				k.peer(func() error {
					c, err := connectTo(addr)
					if err != nil {
						return err
					}
					defer c.Close()
					b := make([]byte, 100)
					for _, s := range []string{"one", "", "three"} {
						if _, err := c.Write([]byte(s)); err != nil {
							return err
						}
						n, err := c.Read(b)
						if err != nil || string(b[:n]) != "re: "+s {
							return errors.Join(err, errors.New("answer "+string(b[:n])))
						}
					}
					return nil
				}).wait()
				require.Equal(t, []string{"one", "", "three"}, got)
				require.False(t, server.Closed())

				to := netip.AddrPortFrom(addr.(*net.UDPAddr).AddrPort().Addr(), 9)
				require.ErrorIs(t, server.SendTo(make([]byte, 70_000), to), syscall.EMSGSIZE)
				k.passes(1)
				require.False(t, server.Closed(), "that concerned one datagram")
			})
		})
	}
}

// TestKernelPacketDial: a udp channel that dialled has one peer: Send and an empty address go there, and what comes back
// from nobody (ICMP) does not close it.
func TestKernelPacketDial(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		peer, err := net.ListenPacket("udp4", "127.0.0.1:0")
		require.NoError(t, err)
		var got []string
		var from netip.AddrPort
		connected := false
		h := &core.Funcs{
			Connect: func(*core.Dispatcher) error { connected = true; return nil },
			Packet: func(_ *core.Dispatcher, p []byte, f netip.AddrPort) error {
				got, from = append(got, string(p)), f
				return nil
			},
		}
		d, err := core.Dial(k.loop, "udp4", peer.LocalAddr().String(), h)
		require.NoError(t, err)
		k.until("HandleConnect", func() bool { return connected })
		require.Equal(t, peer.LocalAddr().String(), d.RemoteAddr().String())
		_, err = d.Send([]byte("a"))
		require.NoError(t, err)
		require.NoError(t, d.SendTo([]byte("b"), netip.AddrPort{}))
		b := make([]byte, 10)
		require.NoError(t, peer.SetDeadline(time.Now().Add(patience)))
		for _, want := range []string{"a", "b"} {
			n, back, err := peer.ReadFrom(b)
			require.NoError(t, err)
			require.Equal(t, want, string(b[:n]))
			require.Equal(t, d.LocalAddr().String(), back.String())
		}
		_, err = peer.WriteTo([]byte("c"), d.LocalAddr())
		require.NoError(t, err)
		k.until("the answer", func() bool { return len(got) == 1 })
		require.Equal(t, "c", got[0])
		require.Equal(t, peer.LocalAddr().String(), from.String())

		require.NoError(t, peer.Close())
		for range 3 {
			_, err = d.Send([]byte("into the void"))
			if err != nil {
				require.ErrorIs(t, err, syscall.ECONNREFUSED)
			}
			k.passes(2)
		}
		require.False(t, d.Closed(), "nobody there is no end of a datagram channel")
		require.LessOrEqual(t, k.passesWithin(window), aFew)
	})
}

// pathPackets is a handler for unixgram.
type pathPackets struct {
	got, from []string
}

func (h *pathPackets) HandleUnixPacket(d *core.Dispatcher, p []byte, from string) error {
	h.got, h.from = append(h.got, string(p)), append(h.from, from)
	if from == "" {
		return nil
	}
	return d.SendToPath(append([]byte("re: "), p...), from)
}

// TestKernelUnixPackets: the same with paths; the path of a channel is removed when it closes, and not its successor's.
func TestKernelUnixPackets(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		path, other := socketPath(t), socketPath(t)
		server := &pathPackets{}
		d, err := core.ListenPacket(k.loop, "unixgram", path, server)
		require.NoError(t, err)
		require.Equal(t, path, d.LocalAddr().String())
		client := &pathPackets{}
		c, err := core.ListenPacket(k.loop, "unixgram", other, client)
		require.NoError(t, err)
		require.NoError(t, c.SendToPath([]byte("one"), path))
		require.NoError(t, c.SendToPath(nil, path))
		nameless, err := net.Dial("unixgram", path)
		require.NoError(t, err)
		defer nameless.Close()
		_, err = nameless.Write([]byte("three"))
		require.NoError(t, err)
		k.until("three packets", func() bool { return len(server.got) == 3 })
		require.Equal(t, []string{"one", "", "three"}, server.got)
		require.Equal(t, []string{other, other, ""}, server.from)
		k.until("two answers and what follows", func() bool { return len(client.got) >= 2 })
		require.Equal(t, []string{"re: one", "re: "}, client.got[:2])
		require.Equal(t, path, client.from[0])

		connected := false
		dial, err := core.Dial(k.loop, "unixgram", path, &core.Funcs{
			Packet:  func(*core.Dispatcher, []byte, netip.AddrPort) error { return nil },
			Connect: func(*core.Dispatcher) error { connected = true; return nil },
		})
		require.NoError(t, err)
		k.until("HandleConnect", func() bool { return connected })
		before := len(server.got)
		_, err = dial.Send([]byte("dialled"))
		require.NoError(t, err)
		k.until("it", func() bool { return len(server.got) > before && server.got[len(server.got)-1] == "dialled" })

		require.NoError(t, c.Close())
		_, err = os.Lstat(other)
		require.ErrorIs(t, err, os.ErrNotExist)
		require.ErrorIs(t, d.SendToPath([]byte("x"), other), syscall.ENOENT)
		require.False(t, d.Closed())

		require.NoError(t, os.Remove(path))
		_, err = core.ListenPacket(k.loop, "unixgram", path, &pathPackets{})
		require.NoError(t, err)
		require.NoError(t, d.Close())
		require.FileExists(t, path, "the successor's")
	})
}

// TestKernelPacketErrors: what cannot be opened, and a handler whose method for datagrams is missing.
func TestKernelPacketErrors(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		for _, at := range [][2]string{{"udp", "127.0.0.1"}, {"tcp", "127.0.0.1:0"}, {"unixgram", "/nonexistent/dir/s"}} {
			_, err := core.ListenPacket(k.loop, at[0], at[1], &pathPackets{})
			require.Error(t, err, "%v", at)
		}
		_, err := core.ListenPacket(k.loop, "udp", "127.0.0.1:0", struct{}{})
		require.Error(t, err)
		require.Zero(t, k.loop.Stats().Channels)
	})
}

// rawPackets reads its datagrams itself.
type rawPackets struct {
	got []string
}

func (h *rawPackets) HandleRead(d *core.Dispatcher) error {
	b := make([]byte, 3)
	n, from, err := d.RecvFrom(b)
	if err == nil && !from.AddrPort.IsValid() {
		err = io.ErrUnexpectedEOF
	}
	h.got = append(h.got, string(b[:n]))
	return err
}

// TestKernelRecvFrom: a handler with HandleRead reads datagrams itself; what does not fit is lost.
func TestKernelRecvFrom(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		h := &rawPackets{}
		d, err := core.ListenPacket(k.loop, "udp4", "127.0.0.1:0", h)
		require.NoError(t, err)
		c, err := connectTo(d.LocalAddr())
		require.NoError(t, err)
		defer c.Close()
		for _, s := range []string{"one", "", "three"} {
			_, err := c.Write([]byte(s))
			require.NoError(t, err)
		}
		k.until("all", func() bool { return len(h.got) == 3 })
		require.Equal(t, []string{"one", "", "thr"}, h.got)
		require.False(t, d.Closed())
	})
}

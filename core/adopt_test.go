//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/core"
)

// TestKernelAdoptDetach: a connection of package net becomes a channel, goes back with what a layer still held of its
// input, and comes again; no byte is lost on the way.
func TestKernelAdoptDetach(t *testing.T) {
	for _, network := range []string{"tcp4", "unix"} {
		t.Run(network, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, k *kernel) {
				near, far := connPair(t, network)
				peer := near.RemoteAddr().String()
				s, err := core.Adopt(near)
				require.NoError(t, err)
				_, err = near.Write([]byte("x"))
				require.ErrorIs(t, err, net.ErrClosed, "it was taken over")

				var got []byte
				h := &hooks{do: map[string]func(*core.Dispatcher) error{}}
				h.do["HandleRead"] = func(d *core.Dispatcher) error {
					b := make([]byte, 2)
					n, err := d.Recv(b)
					got = append(got, b[:n]...)
					return err
				}
				d := k.attach(core.Prefix(s, []byte("abc"), nil), h)
				require.Equal(t, peer, d.RemoteAddr().String())
				k.until("two bytes", func() bool { return len(got) > 0 })
				require.Equal(t, "ab", string(got))
				conn, unread, err := d.Detach()
				require.NoError(t, err)
				defer conn.Close()
				require.Equal(t, "c", string(unread))
				require.True(t, d.Closed())
				require.NotContains(t, h.calls, "HandleClose", "when the event is over")
				k.passes(1)
				require.Equal(t, 1, h.count("HandleClose"))
				require.Equal(t, core.ErrDetached, h.cause)
				_, _, err = d.Detach()
				require.ErrorIs(t, err, core.ErrClosed)

				// Package net has it: blocking calls and deadlines work.
				require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
				_, err = far.Write([]byte("de"))
				require.NoError(t, err)
				b := make([]byte, 2)
				_, err = io.ReadFull(conn, b)
				require.NoError(t, err)
				unread = append(unread, b...)
				require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Millisecond)))
				_, err = conn.Read(b)
				require.True(t, os.IsTimeout(err))

				s, err = core.Adopt(conn)
				require.NoError(t, err)
				d = k.attach(core.Prefix(s, unread, nil), h)
				_, err = far.Write([]byte("fg"))
				require.NoError(t, err)
				k.until("the rest", func() bool { return len(got) == 7 })
				require.Equal(t, "abcdefg", string(got))
				require.NoError(t, d.Close())
				_, err = far.Read(b)
				require.Equal(t, io.EOF, err, "nobody else has the descriptor")
			})
		})
	}
}

// TestKernelDetachCounts: a detached connection is not the listener's any more.
func TestKernelDetachCounts(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		var ds []*core.Dispatcher
		c := core.ListenConfig{Limit: core.Limit{Total: 1}}
		ln, err := c.Listen(k.loop, "tcp4", "127.0.0.1:0", &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
			d, err := core.Attach(l.Loop(), s, reading())
			ds = append(ds, d)
			return err
		}})
		require.NoError(t, err)
		for range 2 {
			c, err := connectTo(ln.Addr())
			require.NoError(t, err)
			defer c.Close()
		}
		k.until("the first", func() bool { return len(ds) == 1 })
		require.Equal(t, 1, ln.Open())
		conn, unread, err := ds[0].Detach()
		require.NoError(t, err)
		defer conn.Close()
		require.Empty(t, unread)
		k.until("the second", func() bool { return len(ds) == 2 })
		require.Equal(t, 1, ln.Open())
	})
}

// TestKernelUnsupported: what a socket cannot do it says, by an error that is ErrUnsupported, and goes on.
func TestKernelUnsupported(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		_, err := core.Adopt(a)
		require.ErrorIs(t, err, core.ErrUnsupported)
		_, err = core.AdoptListener(struct{ net.Listener }{})
		require.ErrorIs(t, err, core.ErrUnsupported)

		packets := func(*core.Dispatcher, []byte, netip.AddrPort) error { return nil }
		udp, err := core.ListenPacket(k.loop, "udp4", "127.0.0.1:0", &core.Funcs{Packet: packets})
		require.NoError(t, err)
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		defer w.Close()
		pipe, err := core.OpenFile(k.loop, w, &core.Funcs{Write: func(*core.Dispatcher) error { return nil }})
		require.NoError(t, err)
		for _, d := range []*core.Dispatcher{udp, pipe} {
			_, _, err = d.Detach()
			require.ErrorIs(t, err, core.ErrUnsupported)
			_, err = d.SendFile(r, 0, 1)
			require.ErrorIs(t, err, core.ErrUnsupported)
			require.False(t, d.Closed())
		}
		require.ErrorIs(t, pipe.CloseWrite(), core.ErrUnsupported)

		s, _ := k.pair("unix")
		d := k.attach(s, reading())
		require.NoError(t, d.Upgrade(tap{d.Socket()}))
		_, err = d.SendUrgent([]byte("!"))
		require.ErrorIs(t, err, core.ErrUnsupported)
		_, err = d.RecvUrgent(make([]byte, 1))
		require.ErrorIs(t, err, core.ErrUnsupported)
		_, err = d.SendFile(r, 0, 1)
		require.ErrorIs(t, err, core.ErrUnsupported)
		_, _, err = d.Detach()
		require.ErrorIs(t, err, core.ErrUnsupported)
		require.Error(t, d.Upgrade(tap{s}), "it does not stand on the channel's socket")
		require.False(t, d.Closed())
	})
}

// tap is a layer that does nothing.
type tap struct{ core.Socket }

func (t tap) Interest(want core.Interest) core.Interest { return want }
func (t tap) Ready(got core.Interest) core.Interest     { return got }
func (t tap) Pending() bool                             { return false }
func (t tap) Inner() core.Socket                        { return t.Socket }

// TestKernelUpgrade: a layer that holds input is read from although the socket is silent, and the hang-up behind it comes
// after it.
func TestKernelUpgrade(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		var got []byte
		var cause error
		d := k.attach(s, &core.Funcs{
			Read: func(d *core.Dispatcher) error {
				b := make([]byte, 3)
				n, err := d.Recv(b)
				got = append(got, b[:n]...)
				return err
			},
			Close: func(_ *core.Dispatcher, c error) { cause = c },
		})
		k.passes(1)
		require.NoError(t, far.Close())
		require.NoError(t, d.Upgrade(core.Prefix(d.Socket(), []byte("held back"), nil)))
		k.until("the end", func() bool { return cause != nil })
		require.Equal(t, "held back", string(got))
		require.Equal(t, io.EOF, cause)
	})
}

// TestKernelAbort: the peer of an aborted channel gets a reset; that of a closed one, the end.
func TestKernelAbort(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		for _, abort := range []bool{true, false} {
			s, far := k.pair("tcp4")
			h := &hooks{}
			d := k.attach(s, h)
			if abort {
				require.NoError(t, d.Abort())
			} else {
				require.NoError(t, d.Close())
			}
			_, err := far.Read(make([]byte, 1))
			if abort {
				require.ErrorIs(t, err, syscall.ECONNRESET)
			} else {
				require.Equal(t, io.EOF, err)
			}
			k.passes(1)
			require.Equal(t, []string{"HandleClose"}, h.calls)
			require.NoError(t, h.cause)
		}
	})
}

// TestKernelSendFile: a file goes out without passing through the program, where the platform can.
func TestKernelSendFile(t *testing.T) {
	const size = 300_000
	eachBackend(t, func(t *testing.T, k *kernel) {
		name := t.TempDir() + "/file"
		require.NoError(t, os.WriteFile(name, patterned(size), 0o600))
		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		s, far := k.pair("tcp4")
		var failed error
		offset := 100
		d := k.attach(s, &core.Funcs{Write: func(d *core.Dispatcher) error {
			n, err := d.SendFile(f, int64(offset), size)
			offset += n
			if err == io.EOF {
				return d.Close()
			}
			if errors.Is(err, core.ErrUnsupported) {
				failed = err
				return d.Close()
			}
			return err
		}})
		d.WantWrite(true)
		sends := d.SendsFiles()
		var got []byte
		p := k.peer(func() (err error) { got, err = io.ReadAll(far); return err })
		p.wait()
		if failed != nil && !sends && runtime.GOOS != "linux" {
			t.Skip("no sendfile on this platform")
		}
		require.NoError(t, failed)
		require.True(t, sends)
		same(t, patterned(size)[100:], got)
		require.Equal(t, uint64(size-100), k.loop.Stats().BytesOut)
	})
}

// TestKernelAdoptListener: a listener of package net goes on as one of a loop. The path of a unix socket goes with it.
func TestKernelAdoptListener(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		nl, err := net.Listen(fam.network, fam.address(t))
		require.NoError(t, err)
		addr := nl.Addr()
		s, err := core.AdoptListener(nl)
		require.NoError(t, err)
		_, err = nl.Accept()
		require.ErrorIs(t, err, net.ErrClosed)
		ln, err := new(core.ListenConfig).ListenSocket(k.loop, s, attaching(func() any { return echoing() }))
		require.NoError(t, err)
		require.Equal(t, addr.String(), ln.Addr().String())
		k.peer(func() error { return sayTo(addr, "hello") }).wait()
		require.NoError(t, ln.Close())
		if fam.network == "unix" {
			_, err = os.Lstat(addr.String())
			require.ErrorIs(t, err, os.ErrNotExist)
		}
	})
}

// TestKernelAdoptListenerOptions: Delay and NoKeepAlive hold for the connections of a listener that somebody else opened,
// as for those of Listen.
func TestKernelAdoptListenerOptions(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		for _, off := range []bool{false, true} {
			lc := net.ListenConfig{KeepAlive: -1}
			nl, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
			require.NoError(t, err)
			addr := nl.Addr()
			s, err := core.AdoptListener(nl)
			require.NoError(t, err)
			accepted := false
			ln, err := (&core.ListenConfig{Delay: off, NoKeepAlive: off}).ListenSocket(k.loop, s, &core.Funcs{
				Accepted: func(_ *core.Listener, s core.Socket) error {
					noDelay, err := unix.GetsockoptInt(s.FD(), unix.IPPROTO_TCP, unix.TCP_NODELAY)
					require.NoError(t, err)
					keepAlive, err := unix.GetsockoptInt(s.FD(), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
					require.NoError(t, err)
					require.Equal(t, !off, noDelay != 0, "TCP_NODELAY")
					require.Equal(t, !off, keepAlive != 0, "SO_KEEPALIVE")
					accepted = true
					return s.Close()
				},
			})
			require.NoError(t, err)
			c, err := connectTo(addr)
			require.NoError(t, err)
			k.until("a connection", func() bool { return accepted })
			require.NoError(t, c.Close())
			require.NoError(t, ln.Close())
		}
	})
}

// TestKernelInherited: a process that is started with LISTEN_FDS serves on the sockets that it was given.
func TestKernelInherited(t *testing.T) {
	nothingLeft(t)
	var files []*os.File
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer tcp.Close()
	path := socketPath(t)
	local, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer local.Close()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer udp.Close()
	for _, c := range []any{tcp, local, udp} {
		f, err := c.(interface{ File() (*os.File, error) }).File()
		require.NoError(t, err)
		defer f.Close()
		files = append(files, f)
	}
	child := startChild(t, "inherit", []string{"LISTEN_FDS=3", "LISTEN_FDNAMES=web::mail"}, files...)
	for _, want := range []string{
		"for another process: 0 sockets",
		"web true tcp " + tcp.Addr().String(),
		"unknown true unix " + path,
		"mail false udp " + udp.LocalAddr().String(),
		"again: 0 sockets",
	} {
		require.Equal(t, want, child.line())
	}
	for _, a := range []net.Addr{tcp.Addr(), local.Addr(), udp.LocalAddr()} {
		c, err := connectTo(a)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, say(c, "hello"))
	}
	out := child.end()
	require.Equal(t, 3, number(t, out, "cloexec"))
	require.FileExists(t, path, "it is the supervisor's")
}

func init() {
	children["inherit"] = func(t *testing.T) {
		// The supervisor knows the process id before it starts the program; a test does not.
		require.NoError(t, os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()+1)))
		sockets, err := core.Inherited(false)
		require.NoError(t, err)
		fmt.Printf("for another process: %d sockets\n", len(sockets))

		require.NoError(t, os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())))
		sockets, err = core.Inherited(true)
		require.NoError(t, err)
		l, err := core.NewLoop(core.Options{})
		require.NoError(t, err)
		untilStdin(t, l)
		cloexec := 0
		for _, in := range sockets {
			fmt.Println(in.Name, in.Listening, in.Socket.LocalAddr().Network(), in.Socket.LocalAddr())
			if flags, err := unix.FcntlInt(uintptr(in.Socket.FD()), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC != 0 {
				cloexec++
			}
			if in.Listening {
				_, err = new(core.ListenConfig).ListenSocket(l, in.Socket, attaching(func() any { return echoing() }))
			} else {
				_, err = core.Attach(l, in.Socket, &core.Funcs{Packet: func(d *core.Dispatcher, p []byte, from netip.AddrPort) error {
					return d.SendTo(p, from)
				}})
			}
			require.NoError(t, err)
		}
		sockets, err = core.Inherited(false)
		require.NoError(t, err)
		fmt.Printf("again: %d sockets\n", len(sockets))
		for _, e := range os.Environ() {
			require.False(t, strings.HasPrefix(e, "LISTEN_"), e)
		}
		require.NoError(t, l.Run(t.Context()))
		fmt.Printf("cloexec=%d\n", cloexec)
	}
}

// TestKernelInheritedErrors: a number that is none, and descriptors that are no sockets.
func TestKernelInheritedErrors(t *testing.T) {
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("LISTEN_FDS", "many")
	_, err := core.Inherited(false)
	require.ErrorContains(t, err, "LISTEN_FDS")
	t.Setenv("LISTEN_FDS", "")
	sockets, err := core.Inherited(false)
	require.NoError(t, err)
	require.Empty(t, sockets)

	nothingLeft(t)
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	child := startChild(t, "inherit a file", []string{"LISTEN_FDS=2"}, f, f)
	require.Equal(t, "ENOTSOCK", child.line())
	child.end()
}

func init() {
	children["inherit a file"] = func(t *testing.T) {
		require.NoError(t, os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())))
		_, err := core.Inherited(true)
		require.ErrorIs(t, err, syscall.ENOTSOCK)
		for fd := 3; fd < 5; fd++ {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			require.NoError(t, err)
			require.NotZero(t, flags&unix.FD_CLOEXEC, "descriptor %d is for this process alone", fd)
		}
		fmt.Println("ENOTSOCK")
	}
}

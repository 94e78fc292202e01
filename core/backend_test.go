//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/core"
)

// The faults of asyncore's loops, each with a test that fails where the fault is, on every back end.

func TestKernelBackends(t *testing.T) {
	require.NotEmpty(t, core.Backends())
	for _, name := range append(core.Backends(), "auto", "") {
		l, err := core.NewLoop(core.Options{Backend: name})
		require.NoError(t, err, name)
		if name == "auto" || name == "" {
			name = core.Backends()[0]
		}
		require.Equal(t, name, l.Backend())
		require.NoError(t, l.Close())
	}
	_, err := core.NewLoop(core.Options{Backend: "devpoll"})
	require.ErrorIs(t, err, core.ErrUnsupported)
	require.ErrorContains(t, err, core.Backends()[0], "the error names those there are")
}

// TestKernelDescriptorReuse: two channels are ready in one wait. The handler of the first closes the second and opens another
// one, which gets the same descriptor number and the same slot: the event that waits for the second must not reach it.
// (F1)
func TestKernelDescriptorReuse(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		var both, heirs []*core.Dispatcher
		reads, heirReads := 0, 0
		heir := &core.Funcs{Read: func(d *core.Dispatcher) error {
			heirReads++
			return readAll(d)
		}}
		near, heirFar := connPair(t, "unix")
		h := &core.Funcs{Read: func(d *core.Dispatcher) error {
			reads++
			if err := readAll(d); err != nil {
				return err
			}
			victim := both[0]
			if victim == d {
				victim = both[1]
			}
			fd := victim.Socket().FD()
			if err := victim.Close(); err != nil {
				return err
			}
			s := adoptAs(t, near, fd)
			require.Equal(t, fd, s.FD())
			d2, err := core.Attach(k.loop, s, heir)
			heirs = append(heirs, d2)
			return err
		}}
		for range 2 {
			s, far := k.pair("unix")
			_, err := far.Write([]byte("x"))
			require.NoError(t, err)
			both = append(both, k.attach(s, h))
		}
		k.passes(1)
		require.Equal(t, 1, reads, "the second one was closed before its turn")
		require.Len(t, heirs, 1)
		require.Zero(t, heirReads, "the event was its predecessor's")
		k.passes(2)
		require.Zero(t, heirReads)

		_, err := heirFar.Write([]byte("y"))
		require.NoError(t, err)
		k.until("its own event", func() bool { return heirReads == 1 })
		require.False(t, heirs[0].Closed())
	})
}

// adoptAs makes a socket of a connection whose descriptor has a certain number, which must be free.
func adoptAs(t *testing.T, c net.Conn, fd int) core.Socket {
	t.Helper()
	var fillers []int
	defer func() {
		for _, f := range fillers {
			_ = unix.Close(f)
		}
	}()
	for { // Adopt takes the lowest free number: have that be the one
		f, err := unix.FcntlInt(uintptr(fileno(t, c)), unix.F_DUPFD_CLOEXEC, 0)
		require.NoError(t, err)
		if f >= fd {
			require.NoError(t, unix.Close(f))
			break
		}
		fillers = append(fillers, f)
	}
	s, err := core.Adopt(c)
	require.NoError(t, err)
	return s
}

// fileno is the descriptor of a connection of package net.
func fileno(t *testing.T, c net.Conn) (fd int) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(n uintptr) { fd = int(n) }))
	return fd
}

// TestKernelCloseIdentity: a channel's descriptor was closed behind its back and its number is another channel's now. When the
// first one closes, the other one stays in the table. (F2; the descriptor itself nobody can save.)
func TestKernelCloseIdentity(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("unix")
		first := k.attach(s, reading())
		fd := s.FD()
		first.WantRead(false)
		k.passes(1)
		require.NoError(t, unix.Close(fd))
		require.ErrorIs(t, first.Close(), unix.EBADF)
		near, _ := connPair(t, "unix")
		second := k.attach(adoptAs(t, near, fd), reading())
		k.passes(2)
		require.NoError(t, first.Close(), "closed already")
		require.NoError(t, first.Socket().Close(), "and so is its socket")
		k.passes(2)
		require.False(t, second.Closed())
		n := 0
		for d := range k.loop.All() {
			require.Same(t, second, d)
			n++
		}
		require.Equal(t, 1, n)
	})
}

// closeIn lists the places from which a handler may close its channel; the value is what has to happen for it to be
// called. What else is pending then: input, the end of it, urgent data, room for output, a flush, timers.
var closeIn = map[string]func(k *kernel, d *core.Dispatcher){
	"HandleRead":    nil,
	"HandleExpt":    nil,
	"HandleWrite":   nil,
	"HandleConnect": nil,
	"HandleFlush":   func(_ *kernel, d *core.Dispatcher) { d.RequestFlush() },
	"HandleEOF":     nil,
	"HandleTimeout": func(_ *kernel, d *core.Dispatcher) { d.SetIdleTimeout(time.Millisecond) },
	"HandleShutdown": func(k *kernel, _ *core.Dispatcher) {
		k.loop.Shutdown(patience)
	},
	"HandleError": nil,
}

// TestKernelNothingAfterClose: whichever method closes the channel, nothing comes after it but HandleClose, exactly once, and
// not from inside Close. (F3, F4)
func TestKernelNothingAfterClose(t *testing.T) {
	for method, provoke := range closeIn {
		t.Run(method, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, k *kernel) {
				if method == "HandleExpt" && k.loop.Backend() == "kqueue" {
					t.Skip("kqueue reports no urgent data")
				}
				closed := false
				h := &hooks{do: map[string]func(*core.Dispatcher) error{}}
				h.do["HandleRead"] = func(d *core.Dispatcher) error {
					d.WantWrite(true)
					d.RequestFlush()
					if method == "HandleError" {
						return io.ErrUnexpectedEOF
					}
					if method == "HandleEOF" {
						return readAll(d)
					}
					return nil // the input stays, and is reported again
				}
				h.do["HandleExpt"] = func(d *core.Dispatcher) error {
					if method == "HandleEOF" { // else it is reported for ever
						d.WantUrgent(false)
					}
					return nil
				}
				before := h.do[method]
				h.do[method] = func(d *core.Dispatcher) error {
					if before != nil {
						if err := before(d); err != nil && err != io.EOF {
							return err
						}
					}
					d.WantWrite(true)
					d.RequestFlush()
					d.Requeue(core.Read | core.Write | core.Urgent)
					d.AfterFunc(0, func() { t.Error("a timer of a closed channel") })
					require.NoError(t, d.Close())
					closed = true
					require.NotContains(t, h.calls, "HandleClose", "not from inside Close")
					d.WantRead(true)
					d.RequestFlush()
					d.Requeue(core.Read)
					d.AfterFunc(0, func() { t.Error("a timer set on a closed channel") })
					require.ErrorIs(t, d.CloseWrite(), core.ErrClosed)
					_, err := d.Send([]byte("x"))
					require.ErrorIs(t, err, core.ErrClosed)
					_, err = d.Recv(make([]byte, 1))
					require.ErrorIs(t, err, core.ErrClosed)
					require.NoError(t, d.Close(), "a second Close does nothing")
					return nil
				}

				ln, err := net.Listen("tcp4", "127.0.0.1:0")
				require.NoError(t, err)
				defer ln.Close()
				var d *core.Dispatcher
				if method == "HandleConnect" {
					d, err = core.Dial(k.loop, "tcp4", ln.Addr().String(), h)
					require.NoError(t, err)
					d.WantWrite(true)
					d.RequestFlush()
				}
				far := fillWithEverything(t, ln, func(near net.Conn) {
					if d != nil {
						return
					}
					s, err := core.Adopt(near)
					require.NoError(t, err)
					d = k.attach(s, h)
				}, d != nil, method == "HandleEOF")
				defer far.Close()
				if provoke != nil {
					d.WantRead(false)
					d.WantUrgent(false)
					provoke(k, d)
				}
				if method == "HandleWrite" {
					d.WantRead(false)
					d.WantUrgent(false)
					d.WantWrite(true)
				}
				k.until(method, func() bool { return closed })
				k.passes(5)
				last := len(h.calls) - 1
				require.Equal(t, "HandleClose", h.calls[last], "%v", h.calls)
				require.Equal(t, method, h.calls[last-1], "%v", h.calls)
				require.Equal(t, 1, h.count("HandleClose"))
				require.NoError(t, h.cause)
			})
		})
	}
}

// fillWithEverything connects to a listener and sends data, an urgent byte, and the end of the stream if asked. near gets
// the accepted connection; with dialled, somebody else connects.
func fillWithEverything(t *testing.T, ln net.Listener, near func(net.Conn), dialled, eof bool) (far net.Conn) {
	t.Helper()
	if dialled {
		c, err := ln.Accept()
		require.NoError(t, err)
		far = c
	} else {
		c, err := net.Dial("tcp4", ln.Addr().String())
		require.NoError(t, err)
		far = c
		n, err := ln.Accept()
		require.NoError(t, err)
		near(n)
	}
	_, err := far.Write([]byte("input"))
	require.NoError(t, err)
	require.NoError(t, unix.Sendto(fileno(t, far), []byte{'!'}, unix.MSG_OOB, nil))
	_, err = far.Write([]byte("more"))
	require.NoError(t, err)
	if eof {
		require.NoError(t, far.(*net.TCPConn).CloseWrite())
	}
	return far
}

// TestKernelPredicateClosesChannel: a predicate that closes its channel is the last that is asked of it.
func TestKernelPredicateClosesChannel(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		_, err := far.Write([]byte("x"))
		require.NoError(t, err)
		h := &asking{}
		h.readable = func() bool {
			for d := range k.loop.All() {
				_ = d.Close()
			}
			return true
		}
		h.writable = func() bool { t.Error("asked after Close"); return true }
		k.attach(s, h)
		k.passes(3)
		require.Equal(t, []string{"HandleClose"}, h.calls)
	})
}

// asking is a handler with both predicates.
type asking struct {
	hooks
	readable, writable func() bool
}

func (a *asking) Readable() bool { return a.readable() }
func (a *asking) Writable() bool { return a.writable() }

// TestKernelPredicates: a handler with predicates is asked before every pass; the cached interest is not used.
func TestKernelPredicates(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		_, err := far.Write([]byte("x"))
		require.NoError(t, err)
		asked, read, write := 0, false, false
		h := &asking{
			readable: func() bool { asked++; return read },
			writable: func() bool { return write },
		}
		h.do = map[string]func(*core.Dispatcher) error{"HandleRead": readAll}
		k.attach(s, h)
		k.passes(3)
		require.Equal(t, 3, asked)
		require.Empty(t, h.calls)
		write = true
		k.passes(2)
		require.Equal(t, []string{"HandleWrite", "HandleWrite"}, h.calls)
		read, write = true, false
		k.passes(2)
		require.Equal(t, []string{"HandleWrite", "HandleWrite", "HandleRead"}, h.calls)
	})
}

// TestKernelPredicatePanics: a predicate that panics costs its channel and not the loop. (F10)
func TestKernelPredicatePanics(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		served := 0
		for i := range 3 {
			s, far := k.pair("unix")
			_, err := far.Write([]byte("x"))
			require.NoError(t, err)
			h := &asking{readable: func() bool { return true }, writable: func() bool { return false }}
			h.do = map[string]func(*core.Dispatcher) error{"HandleRead": func(d *core.Dispatcher) error {
				served++
				return readAll(d)
			}}
			if i == 1 {
				h.readable = func() bool { panic("no idea") }
				h.do["HandleError"] = func(d *core.Dispatcher) error { return d.CloseWith(h.errs[0]) }
				defer func() {
					require.Equal(t, []string{"HandleError", "HandleClose"}, h.calls)
					var p *core.PanicError
					require.ErrorAs(t, h.cause, &p)
				}()
			}
			k.attach(s, h)
		}
		k.passes(2)
		require.Equal(t, 2, served)
		require.Equal(t, 2, k.loop.Stats().Channels)
	})
}

// TestKernelHangupAfterInput: a peer writes 150,000 bytes and closes before the first of them is read. All arrive, although the
// poller reports the hang-up along with the input; then the end, once. (F5)
func TestKernelHangupAfterInput(t *testing.T) {
	const size = 150_000
	sources := map[string]func(t *testing.T, k *kernel) (s core.Socket, far io.WriteCloser){
		"unix": func(t *testing.T, k *kernel) (core.Socket, io.WriteCloser) {
			s, far := k.pair("unix")
			require.NoError(t, far.(*net.UnixConn).SetWriteBuffer(4*size))
			return s, far
		},
		"tcp": func(t *testing.T, k *kernel) (core.Socket, io.WriteCloser) {
			s, far := k.pair("tcp4")
			require.NoError(t, far.(*net.TCPConn).SetWriteBuffer(4*size))
			return s, far
		},
		"pipe": func(t *testing.T, k *kernel) (core.Socket, io.WriteCloser) {
			r, w, err := os.Pipe()
			require.NoError(t, err)
			defer r.Close()
			widenPipe(w, 2*size)
			s, err := core.FileSocket(r)
			require.NoError(t, err)
			return s, w
		},
	}
	for name, open := range sources {
		for _, piece := range []int{core.ReadBudget, 1000} {
			t.Run(fmt.Sprintf("%s/%d", name, piece), func(t *testing.T) {
				eachBackend(t, func(t *testing.T, k *kernel) {
					s, far := open(t, k)
					written := make(chan error, 1)
					go func() { // it ends before the first pass unless the buffer is too small
						_, err := far.Write(patterned(size))
						written <- errors.Join(err, far.Close())
					}()
					select {
					case err := <-written:
						require.NoError(t, err)
					case <-time.After(patience / 20):
						defer func() { require.NoError(t, <-written) }()
					}
					var got []byte
					h := &hooks{do: map[string]func(*core.Dispatcher) error{}}
					buf := make([]byte, piece)
					h.do["HandleRead"] = func(d *core.Dispatcher) error {
						n, err := d.Recv(buf)
						got = append(got, buf[:n]...)
						return err
					}
					h.do["HandleEOF"] = func(d *core.Dispatcher) error {
						require.Len(t, got, size)
						return d.CloseWith(io.EOF)
					}
					k.attach(s, h)
					require.NoError(t, k.run())
					same(t, patterned(size), got)
					require.Equal(t, 1, h.count("HandleEOF"))
					require.Equal(t, 1, h.count("HandleClose"))
					require.Equal(t, []string{"HandleEOF", "HandleClose"}, h.calls[len(h.calls)-2:])
					require.Equal(t, io.EOF, h.cause)
				})
			})
		}
	}
}

// TestKernelWriteFailsWithInputPending: the peer has written and closed; our Send fails, but what it wrote is still read before
// the channel closes with the cause of the failure. (F5)
func TestKernelWriteFailsWithInputPending(t *testing.T) {
	const size = 150_000
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		require.NoError(t, far.(*net.UnixConn).SetWriteBuffer(4*size))
		_, err := far.Write(patterned(size))
		require.NoError(t, err)
		require.NoError(t, far.Close())
		got := 0
		h := &hooks{do: map[string]func(*core.Dispatcher) error{}}
		h.do["HandleRead"] = func(d *core.Dispatcher) error {
			_, err := d.Send([]byte("x"))
			require.Error(t, err)
			p, err := d.RecvShared()
			got += len(p)
			return err
		}
		k.attach(s, h)
		require.NoError(t, k.run())
		require.Equal(t, size, got)
		require.ErrorIs(t, h.cause, syscall.EPIPE)
		require.Empty(t, h.errs, "not a failure of the handler")
		require.Equal(t, 1, h.count("HandleClose"))
	})
}

// TestKernelHalfClose: a peer that has sent its last byte still gets its whole answer. Without HandleEOF the channel closes, as
// documented. (F6)
func TestKernelHalfClose(t *testing.T) {
	const size = 400_000
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		var calls []string
		var cause error
		ln := k.listen(fam, attaching(func() any {
			rest := patterned(size)
			return &core.Funcs{
				Read: readAll,
				EOF: func(d *core.Dispatcher) error {
					calls = append(calls, "eof")
					d.WantWrite(true)
					return nil
				},
				Write: func(d *core.Dispatcher) error {
					n, err := d.Send(rest)
					if rest = rest[n:]; len(rest) == 0 {
						return d.Close()
					}
					return err
				},
				Close: func(_ *core.Dispatcher, c error) {
					calls = append(calls, "close")
					cause = c
				},
			}
		}))
		addr := ln.Addr()
		k.peer(func() error {
			c, err := connectTo(addr)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write([]byte("request")); err != nil {
				return err
			}
			if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				return err
			}
			answer, err := io.ReadAll(c)
			if err == nil && string(answer) != string(patterned(size)) {
				err = fmt.Errorf("%d bytes of %d", len(answer), size)
			}
			return err
		}).wait()
		require.Equal(t, []string{"eof", "close"}, calls)
		require.NoError(t, cause)
	})
}

// TestKernelBadDescriptor: a descriptor that was closed behind the loop's back costs its own channel and nobody else. poll and
// select report it; epoll forgets a closed descriptor, so there the channel learns of it at its next change of interest.
// (F10)
func TestKernelBadDescriptor(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		var far [3]net.Conn
		var ds [3]*core.Dispatcher
		var causes []error
		served := 0
		for i := range ds {
			var s core.Socket
			s, far[i] = k.pair("unix")
			ds[i] = k.attach(s, &core.Funcs{
				Read:  func(d *core.Dispatcher) error { served++; return readAll(d) },
				Write: func(*core.Dispatcher) error { return nil },
				Close: func(_ *core.Dispatcher, cause error) { causes = append(causes, cause) },
			})
		}
		k.passes(1)
		require.NoError(t, unix.Close(ds[1].Socket().FD()))
		if k.loop.Backend() == "epoll" || k.loop.Backend() == "kqueue" {
			ds[1].WantWrite(true)
		}
		k.until("its end", func() bool { return len(causes) > 0 })
		require.True(t, ds[1].Closed())
		if !errors.Is(causes[0], unix.EBADF) && !errors.Is(causes[0], unix.ENOENT) {
			t.Errorf("cause: %v", causes[0])
		}
		served = 0
		for _, c := range []net.Conn{far[0], far[2]} {
			_, err := c.Write([]byte("x"))
			require.NoError(t, err)
		}
		k.until("the others", func() bool { return served == 2 })
		require.Len(t, causes, 1)
		require.LessOrEqual(t, k.passesWithin(window), aFew)
	})
}

// TestKernelBadDescriptorThatWantsNothing: the same for a channel without interest: it must neither end the loop nor keep it
// busy.
func TestKernelBadDescriptorThatWantsNothing(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("unix")
		var cause error
		d := k.attach(s, &core.Funcs{Read: readAll, Close: func(_ *core.Dispatcher, c error) { cause = c }})
		d.WantRead(false)
		k.passes(1)
		require.NoError(t, unix.Close(s.FD()))
		require.LessOrEqual(t, k.passesWithin(window), aFew)
		require.False(t, d.Closed())
		d.WantRead(true)
		k.until("its end", func() bool { return cause != nil })
	})
}

// TestKernelHangupDoesNotSpin: a hang-up on a channel that wants nothing is reported for ever by poll and epoll; it must not
// keep the loop awake, nor be forgotten: when the channel wants something again it is told.
func TestKernelHangupDoesNotSpin(t *testing.T) {
	hangups := map[string]func(t *testing.T, k *kernel) (s core.Socket, hangUp func() error){
		"unix closed": func(t *testing.T, k *kernel) (core.Socket, func() error) {
			s, far := k.pair("unix")
			return s, far.Close
		},
		"tcp reset": func(t *testing.T, k *kernel) (core.Socket, func() error) {
			s, far := k.pair("tcp4")
			return s, func() error { return resetConn(far) }
		},
		"tcp closed": func(t *testing.T, k *kernel) (core.Socket, func() error) {
			s, far := k.pair("tcp4")
			return s, far.Close
		},
		"writer of a pipe closed": func(t *testing.T, k *kernel) (core.Socket, func() error) {
			r, w, err := os.Pipe()
			require.NoError(t, err)
			defer r.Close()
			s, err := core.FileSocket(r)
			require.NoError(t, err)
			return s, w.Close
		},
		"reader of a pipe closed": func(t *testing.T, k *kernel) (core.Socket, func() error) {
			r, w, err := os.Pipe()
			require.NoError(t, err)
			defer w.Close()
			s, err := core.FileSocket(w)
			require.NoError(t, err)
			return s, r.Close
		},
	}
	for name, open := range hangups {
		t.Run(name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, k *kernel) {
				s, hangUp := open(t, k)
				var cause error
				d := k.attach(s, &core.Funcs{
					Read:  readAll,
					Write: func(d *core.Dispatcher) error { _, err := d.Send([]byte("x")); return err },
					Close: func(_ *core.Dispatcher, c error) { cause = c },
				})
				d.WantRead(false)
				k.passes(1)
				require.Zero(t, d.Interest())
				require.NoError(t, hangUp())
				require.LessOrEqual(t, k.passesWithin(window), aFew)
				require.False(t, d.Closed(), "input might be there still")
				d.WantRead(true)
				d.WantWrite(d.Interest()&core.Read == 0) // the writing end of a pipe
				k.until("HandleClose", func() bool { return cause != nil })
			})
		})
	}
}

// TestKernelHangupAfterEOFDoesNotSpin: the handler was told of the end of the input and takes its time for the answer; the peer
// is gone altogether meanwhile.
func TestKernelHangupAfterEOFDoesNotSpin(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		h := &hooks{do: map[string]func(*core.Dispatcher) error{"HandleRead": readAll}}
		h.do["HandleWrite"] = func(d *core.Dispatcher) error { _, err := d.Send([]byte("x")); return err }
		d := k.attach(s, h)
		require.NoError(t, far.Close())
		k.until("HandleEOF", func() bool { return h.count("HandleEOF") > 0 })
		require.LessOrEqual(t, k.passesWithin(window), aFew)
		require.False(t, d.Closed())
		require.Equal(t, 1, h.count("HandleEOF"))
		d.WantWrite(true)
		k.until("HandleClose", func() bool { return h.count("HandleClose") > 0 })
		require.ErrorIs(t, h.cause, syscall.EPIPE)
	})
}

// TestKernelInterrupted: signals that arrive while the loop waits do not end the wait: it goes on with the time that is left.
func TestKernelInterrupted(t *testing.T) {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGUSR1)
	t.Cleanup(func() { signal.Stop(got) })
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("unix")
		k.attach(s, reading())
		k.passes(1)
		runtime.LockOSThread() // the signals are for the thread that waits
		defer runtime.UnlockOSThread()
		interrupt := interrupter()
		const most = 4000
		stop, stopped := make(chan struct{}), make(chan struct{})
		var sent atomic.Int64
		go func() {
			defer close(stopped)
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for range most {
				select {
				case <-stop:
					return
				case <-tick.C:
					_ = interrupt()
					sent.Add(1)
				}
			}
		}()
		const wait = 60 * time.Millisecond
		for sent.Load() == 0 { // a busy machine may send none in the first wait
			passes, start := k.loop.Stats().Passes, time.Now()
			_, err := k.loop.Step(wait)
			require.NoError(t, err)
			require.GreaterOrEqual(t, time.Since(start), wait, "ended by a signal")
			require.Equal(t, passes+1, k.loop.Stats().Passes)
		}
		require.Less(t, sent.Load(), int64(most), "the wait began anew with each signal")
		close(stop)
		<-stopped
	})
}

// TestKernelTimersAreNotPolledFor: a wait is rounded up to what the system measures in, so that a timer is not polled for in
// the millisecond before it is due.
func TestKernelTimersAreNotPolledFor(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		const timers = 20
		fired := 0
		var next func()
		start, due := time.Now(), time.Duration(0)
		next = func() {
			require.GreaterOrEqual(t, time.Since(start), due, "too early")
			if fired++; fired <= timers {
				due = time.Since(start) + 1300*time.Microsecond
				k.loop.AfterFunc(1300*time.Microsecond, next)
			}
		}
		next()
		require.NoError(t, k.run())
		require.Equal(t, timers+1, fired)
		require.LessOrEqual(t, k.loop.Stats().Passes, uint64(2*timers))
	})
}

// TestKernelStepTimeouts: 0 does not wait, a positive timeout does, and a negative one waits for as long as it takes; all of
// them the same on every back end.
func TestKernelStepTimeouts(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		more, err := k.loop.Step(time.Hour)
		require.NoError(t, err)
		require.False(t, more, "nothing to wait for: at once")

		s, far := k.pair("unix")
		reads := 0
		k.attach(s, &core.Funcs{Read: func(d *core.Dispatcher) error { reads++; return readAll(d) }})
		more, err = k.loop.Step(0)
		require.NoError(t, err)
		require.True(t, more)

		start := time.Now()
		_, err = k.loop.Step(1500 * time.Microsecond)
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(start), 1500*time.Microsecond)

		for _, forever := range []time.Duration{-1, -time.Hour, -1 << 63} {
			var written atomic.Bool
			waiting := make(chan struct{})
			go func() {
				<-waiting
				for range 100 {
					runtime.Gosched()
				}
				written.Store(true)
				_, _ = far.Write([]byte("x"))
			}()
			before := reads
			close(waiting)
			_, err = k.loop.Step(forever)
			require.NoError(t, err)
			require.True(t, written.Load(), "it returned before there was something")
			require.Equal(t, before+1, reads)
		}

		start = time.Now()
		k.loop.AfterFunc(2*time.Millisecond, func() {})
		_, err = k.loop.Step(-1)
		require.NoError(t, err)
		require.Less(t, time.Since(start), patience, "not beyond the next timer")
		require.Zero(t, k.loop.Stats().Timers)

		_, err = k.loop.Step(time.Millisecond)
		require.NoError(t, err)
		fired := false
		k.loop.AfterFunc(-time.Hour, func() { fired = true })
		k.passes(1)
		require.True(t, fired, "a timer that is overdue")
	})
}

// TestKernelWaitWithNothingWanted: channels without any interest are no reason not to wait, nor to fail.
func TestKernelWaitWithNothingWanted(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		for range 3 {
			s, _ := k.pair("unix")
			k.attach(s, reading()).WantRead(false)
		}
		k.passes(1)
		require.LessOrEqual(t, k.passesWithin(window), aFew)
		posted := false
		go k.loop.Post(func() { posted = true })
		k.until("a post, in a wait without end", func() bool { return posted })
	})
}

// TestKernelOrder: urgent, read, write is the order in which a channel is told what is ready at once, on every back end;
// what is ready when a connect is decided comes after HandleConnect.
func TestKernelOrder(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		newHooks := func() *hooks {
			h := &hooks{do: map[string]func(*core.Dispatcher) error{"HandleRead": readAll}}
			h.do["HandleExpt"] = func(d *core.Dispatcher) error { _, err := d.RecvUrgent(make([]byte, 1)); return err }
			h.do["HandleWrite"] = func(d *core.Dispatcher) error { d.WantWrite(false); return nil }
			return h
		}
		h := newHooks()
		far := fillWithEverything(t, ln, func(near net.Conn) {
			s, err := core.Adopt(near)
			require.NoError(t, err)
			k.attach(s, h).WantWrite(true)
		}, false, false)
		defer far.Close()
		k.passes(1)
		want := []string{"HandleExpt", "HandleRead", "HandleWrite"}
		if k.loop.Backend() == "kqueue" {
			want = want[1:]
		}
		require.Equal(t, want, h.calls)

		h = newHooks()
		d, err := core.Dial(k.loop, "tcp4", ln.Addr().String(), h)
		require.NoError(t, err)
		d.WantWrite(true)
		far2 := fillWithEverything(t, ln, nil, true, false)
		defer far2.Close()
		k.until("all of it", func() bool { return h.count("HandleWrite") > 0 && h.count("HandleRead") > 0 })
		require.Equal(t, "HandleConnect", h.calls[0])
	})
}

// TestKernelReadSettlesBeforeWrite: when reading finds the end, the channel is closed before its turn to write comes, which
// was ready in the same wait.
func TestKernelReadSettlesBeforeWrite(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		require.NoError(t, far.Close())
		var calls []string
		d := k.attach(s, &core.Funcs{
			Read:  func(d *core.Dispatcher) error { calls = append(calls, "read"); return readAll(d) },
			Write: func(*core.Dispatcher) error { calls = append(calls, "write"); return nil },
			Close: func(*core.Dispatcher, error) { calls = append(calls, "close") },
		})
		d.WantWrite(true)
		k.passes(2)
		require.Equal(t, []string{"read", "close"}, calls)
	})
}

// TestKernelAddedDuringPass: a channel that is attached during a pass gets its first event in a later one, also from the same
// handler; one that is closed meanwhile gets none.
func TestKernelAddedDuringPass(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		s2, far2 := k.pair("unix")
		for _, c := range []net.Conn{far, far2} {
			_, err := c.Write([]byte("x"))
			require.NoError(t, err)
		}
		var order []string
		k.attach(s, &core.Funcs{Read: func(d *core.Dispatcher) error {
			order = append(order, "first")
			k.attach(s2, &core.Funcs{Read: func(d *core.Dispatcher) error {
				order = append(order, "second")
				return readAll(d)
			}})
			return readAll(d)
		}})
		k.passes(1)
		require.Equal(t, []string{"first"}, order)
		k.passes(1)
		require.Equal(t, []string{"first", "second"}, order)
	})
}

// TestKernelUnreadInputIsReportedAgain: all back ends are level-triggered. A handler that leaves input is called again. (F16)
func TestKernelUnreadInputIsReportedAgain(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		_, err := far.Write(make([]byte, 10))
		require.NoError(t, err)
		reads, got := 0, 0
		k.attach(s, &core.Funcs{Read: func(d *core.Dispatcher) error {
			reads++
			n, err := d.Recv(make([]byte, 1))
			got += n
			return err
		}})
		k.until("all of it", func() bool { return got == 10 })
		require.Equal(t, 10, reads)
	})
}

// TestKernelReadBudget: a peer that has more to send than anybody can read gets one budget per pass, so that the others are
// served. (F15)
func TestKernelReadBudget(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		require.NoError(t, far.(*net.UnixConn).SetWriteBuffer(1<<20))
		_, err := far.Write(make([]byte, 2*core.ReadBudget))
		require.NoError(t, err)
		got := 0
		k.attach(s, &core.Funcs{Read: func(d *core.Dispatcher) error {
			for { // as greedy as can be
				p, err := d.RecvShared()
				got += len(p)
				if err != nil {
					return err
				}
			}
		}})
		k.passes(1)
		require.Equal(t, core.ReadBudget, got)
		k.passes(1)
		require.Equal(t, 2*core.ReadBudget, got)
	})
}

// TestKernelRecvOutsideAnEvent: a channel can be read from a timer or another channel's handler, also while it is not
// wanted; the budget is that of the pass, whoever uses it.
func TestKernelRecvOutsideAnEvent(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		require.NoError(t, far.(*net.UnixConn).SetWriteBuffer(1<<20))
		_, err := far.Write(make([]byte, 2*core.ReadBudget+10))
		require.NoError(t, err)
		d := k.attach(s, k.unexpected("channel"))
		d.WantRead(false)
		for _, want := range []int{core.ReadBudget, core.ReadBudget, 10} {
			read := false
			k.loop.AfterFunc(0, func() {
				read = true
				p, err := d.RecvShared()
				require.NoError(t, err)
				require.Len(t, p, want)
				_, err = d.Recv(make([]byte, 1))
				require.ErrorIs(t, err, core.ErrWouldBlock)
			})
			k.until("the timer", func() bool { return read })
		}
	})
}

// TestKernelManyChannels: more channels are ready than the poller reports in one wait; all are served.
func TestKernelManyChannels(t *testing.T) {
	const n = 700
	eachBackend(t, func(t *testing.T, k *kernel) {
		from, err := net.ListenPacket("udp4", "127.0.0.1:0")
		require.NoError(t, err)
		defer from.Close()
		served := make(map[*core.Dispatcher]int)
		h := &core.Funcs{Packet: func(d *core.Dispatcher, _ []byte, _ netip.AddrPort) error {
			served[d]++
			return nil
		}}
		for range n {
			d, err := core.ListenPacket(k.loop, "udp4", "127.0.0.1:0", h)
			require.NoError(t, err)
			_, err = from.WriteTo([]byte("x"), d.LocalAddr())
			require.NoError(t, err)
		}
		k.passes(3)
		require.Len(t, served, n)
		for _, times := range served {
			require.Equal(t, 1, times)
		}
		require.NoError(t, k.loop.CloseAll(nil))
	}, func(o *core.Options) { o.Trace = nil })
}

// TestKernelRunEndsByItself: Run returns nil when nothing is registered, no timer is pending and no work is out, and not
// before.
func TestKernelRunEndsByItself(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		empty := newKernel(t, k.loop.Backend())
		require.NoError(t, empty.run())
		require.Zero(t, empty.loop.Stats().Passes)

		var order []string
		s, far := k.pair("unix")
		d := k.attach(s, &core.Funcs{Read: readAll, Close: func(d *core.Dispatcher, _ error) { order = append(order, "closed") }})
		k.loop.AfterFunc(3*time.Millisecond, func() { order = append(order, "timer"); _ = far.Close() })
		core.Go(d, func(context.Context) (int, error) { return 42, nil }, func(n int, err error) error {
			order = append(order, fmt.Sprint("work ", n))
			return err
		})
		require.True(t, k.loop.Post(func() { order = append(order, "post") }))
		require.NoError(t, k.run())
		require.ElementsMatch(t, []string{"post", "work 42", "timer", "closed"}, order)
		require.Equal(t, "closed", order[3])
		require.False(t, k.loop.Post(func() {}), "Run has returned")
	})
}

// TestKernelErrRunning: a loop that runs cannot be run, stepped or closed from one of its handlers, nor from another goroutine.
func TestKernelErrRunning(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		tried := false
		k.loop.AfterFunc(0, func() {
			tried = true
			require.ErrorIs(t, k.loop.Run(context.Background()), core.ErrRunning)
			_, err := k.loop.Step(0)
			require.ErrorIs(t, err, core.ErrRunning)
			require.ErrorIs(t, k.loop.Close(), core.ErrRunning)
			other := make(chan error)
			go func() { other <- k.loop.Run(context.Background()) }()
			require.ErrorIs(t, <-other, core.ErrRunning)
		})
		require.NoError(t, k.run())
		require.True(t, tried)
		require.NoError(t, k.loop.Close())
		require.NoError(t, k.loop.Close(), "twice")
		require.ErrorIs(t, k.loop.Run(context.Background()), core.ErrClosed)
		_, err := k.loop.Step(0)
		require.ErrorIs(t, err, core.ErrClosed)
		require.False(t, k.loop.Post(func() {}))
	})
}

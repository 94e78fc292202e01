//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/core"
)

// The equivalents of CPython's test_asyncore, by its tests' ids (A1 … A31 in the order of that file). Where Parley differs
// on purpose, the comment says so. A4 (the default map) has no equivalent but that loops are apart; A16 (a warning when an
// unclosed file is collected) has none.

// hooks is a handler with every event of a stream channel, each of which does what the test says.
type hooks struct {
	calls []string
	do    map[string]func(d *core.Dispatcher) error
	errs  []error
	cause error
}

func (h *hooks) call(d *core.Dispatcher, name string) error {
	h.calls = append(h.calls, name)
	if f := h.do[name]; f != nil {
		return f(d)
	}
	return nil
}

func (h *hooks) count(name string) (n int) {
	for _, c := range h.calls {
		if c == name {
			n++
		}
	}
	return n
}

func (h *hooks) HandleRead(d *core.Dispatcher) error     { return h.call(d, "HandleRead") }
func (h *hooks) HandleWrite(d *core.Dispatcher) error    { return h.call(d, "HandleWrite") }
func (h *hooks) HandleExpt(d *core.Dispatcher) error     { return h.call(d, "HandleExpt") }
func (h *hooks) HandleConnect(d *core.Dispatcher) error  { return h.call(d, "HandleConnect") }
func (h *hooks) HandleFlush(d *core.Dispatcher) error    { return h.call(d, "HandleFlush") }
func (h *hooks) HandleEOF(d *core.Dispatcher) error      { return h.call(d, "HandleEOF") }
func (h *hooks) HandleTimeout(d *core.Dispatcher) error  { return h.call(d, "HandleTimeout") }
func (h *hooks) HandleShutdown(d *core.Dispatcher) error { return h.call(d, "HandleShutdown") }

func (h *hooks) HandleError(d *core.Dispatcher, err error) {
	h.errs = append(h.errs, err)
	_ = h.call(d, "HandleError")
}

func (h *hooks) HandleClose(d *core.Dispatcher, cause error) {
	h.cause = cause
	_ = h.call(d, "HandleClose")
}

// The conditions that a poller can report, and the one method that each leads to. Hang-up and error lead to the reader,
// which finds out what it was: input may be there still (semantics 2.3).
var conditions = []struct {
	got    core.Interest
	method string
}{
	{core.Read, "HandleRead"},
	{core.Write, "HandleWrite"},
	{core.Urgent, "HandleExpt"},
	{core.Hangup, "HandleRead"},
	{core.Failed, "HandleRead"},
}

// TestA1ReadWriteExc: ExitNow passes through a read, a write and an urgent event and ends the loop; every other error, and
// a panic, reaches HandleError.
func TestA1ReadWriteExc(t *testing.T) {
	failure := errors.New("of the handler")
	eachBackend(t, func(t *testing.T, k *kernel) {
		for _, c := range conditions[:3] {
			s, _ := k.pair("unix")
			h := &hooks{do: map[string]func(*core.Dispatcher) error{}}
			d := k.attach(s, h)
			k.passes(1)

			h.do[c.method] = func(d *core.Dispatcher) error { d.WantWrite(false); return core.ExitNow }
			d.WantWrite(c.got == core.Write)
			d.Requeue(c.got)
			require.ErrorIs(t, k.run(), core.ExitNow, c.method)
			require.False(t, d.Closed(), "ExitNow leaves the channel open")
			require.Empty(t, h.errs)

			h.do[c.method] = func(d *core.Dispatcher) error { d.WantWrite(false); return failure }
			d.WantWrite(c.got == core.Write)
			d.Requeue(c.got)
			k.passes(1)
			require.Equal(t, []error{failure}, h.errs, c.method)

			h.do[c.method] = func(d *core.Dispatcher) error { d.WantWrite(false); panic("a mistake") }
			d.WantWrite(c.got == core.Write)
			d.Requeue(c.got)
			k.passes(1)
			require.Len(t, h.errs, 2, c.method)
			var p *core.PanicError
			require.ErrorAs(t, h.errs[1], &p)
			require.Equal(t, "a mistake", p.Value)

			require.False(t, d.Closed(), "HandleError decides")
			require.NoError(t, d.Close())
			k.passes(1)
		}
	})
}

// TestA2ReadWrite: every single condition leads to exactly one method; ExitNow and other errors as in A1. Deliberately
// different: hang-up and error lead to the reader and not to HandleClose, which follows when the reading says so.
func TestA2ReadWrite(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		for _, c := range conditions {
			s, _ := k.pair("unix")
			h := &hooks{do: map[string]func(*core.Dispatcher) error{
				"HandleRead": func(d *core.Dispatcher) error {
					_, err := d.RecvShared()
					require.ErrorIs(t, err, core.ErrWouldBlock)
					return err
				},
				"HandleWrite": func(d *core.Dispatcher) error { d.WantWrite(false); return nil },
			}}
			d := k.attach(s, h)
			d.WantWrite(c.got == core.Write)
			d.Requeue(c.got)
			k.passes(3)
			require.Equal(t, []string{c.method}, h.calls, "%v", c.got)

			h.do[c.method] = func(*core.Dispatcher) error { return core.ExitNow }
			d.WantWrite(c.got == core.Write)
			d.Requeue(c.got)
			require.ErrorIs(t, k.run(), core.ExitNow, "%v", c.got)

			h.do[c.method] = func(*core.Dispatcher) error { return io.ErrUnexpectedEOF }
			d.Requeue(c.got)
			k.passes(1)
			require.Equal(t, []error{io.ErrUnexpectedEOF}, h.errs, "%v", c.got)
			require.NoError(t, d.Close())
			k.passes(1)
		}
	})
}

// TestA3CloseAllSockets: CloseAll closes ten channels and empties the table. Deliberately different: HandleClose is told.
func TestA3CloseAllSockets(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		told := 0
		for range 10 {
			s, _ := k.pair("unix")
			k.attach(s, &core.Funcs{Read: readAll, Close: func(_ *core.Dispatcher, cause error) {
				require.ErrorIs(t, cause, io.ErrClosedPipe)
				told++
			}})
		}
		require.Equal(t, 10, k.loop.Stats().Channels)
		require.NoError(t, k.loop.CloseAll(io.ErrClosedPipe))
		require.Equal(t, 10, told)
		require.Zero(t, k.loop.Stats().Channels)
		for range k.loop.All() {
			t.Error("the table is not empty")
		}
		require.NoError(t, k.run(), "nothing is registered, so Run ends")
	})
}

// TestA4NoDefaultMap: there is no map that loops share; CloseAll of one leaves the other alone.
func TestA4NoDefaultMap(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		other := newKernel(t, k.loop.Backend())
		s, _ := k.pair("unix")
		mine := k.attach(s, reading())
		s, _ = other.pair("unix")
		theirs := other.attach(s, reading())
		require.NoError(t, k.loop.CloseAll(nil))
		require.True(t, mine.Closed())
		require.False(t, theirs.Closed())
	})
}

// panicHere is looked for in a stack.
func panicHere(*core.Dispatcher) error { panic(io.ErrNoProgress) }

// TestA5CompactTraceback: a recovered panic carries its value and the stack of the place, and the log has both.
func TestA5CompactTraceback(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, far := k.pair("unix")
		var cause error
		k.attach(s, &core.Funcs{Read: panicHere, Close: func(_ *core.Dispatcher, c error) { cause = c }})
		_, err := far.Write([]byte("x"))
		require.NoError(t, err)
		k.until("HandleClose", func() bool { return cause != nil })
		var p *core.PanicError
		require.ErrorAs(t, cause, &p)
		require.ErrorIs(t, cause, io.ErrNoProgress, "a panic with an error can be told by it")
		require.Contains(t, string(p.Stack), "panicHere")
		require.Contains(t, string(p.Stack), "asyncore_test.go")
		require.Contains(t, k.logs.String(), "panicHere")
		require.Contains(t, k.logs.String(), io.ErrNoProgress.Error())
	})
}

// TestA6Basic: a bare dispatcher is readable. Deliberately different: it is not writable, as there is nothing to write.
func TestA6Basic(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("unix")
		h := k.unexpected("channel")
		d := k.attach(s, h)
		require.Equal(t, core.Read, d.Interest())
		require.LessOrEqual(t, k.passesWithin(window), aFew, "a socket with room for output is no reason to wake")
	})
}

// TestA7Repr: the text form names the channel, its handler, its state and its peer.
func TestA7Repr(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		require.Contains(t, new(core.Dispatcher).String(), "unattached")
		s, far := k.pair("tcp4")
		d := k.attach(s, &hooks{})
		require.Equal(t, "ch1 *core_test.hooks "+far.LocalAddr().String(), d.String())
		require.NoError(t, d.Close())
		require.Equal(t, "ch1 *core_test.hooks closed "+far.LocalAddr().String(), d.String())

		ln := k.listen(families[0], k.unexpected("listener"))
		require.Equal(t, "ch2 *core.Funcs on "+ln.Addr().String(), ln.Core().String())
		c := k.dial(ln, reading())
		require.Equal(t, "ch3 *core.Funcs connecting "+ln.Addr().String(), c.String())
	})
}

// TestA8Log: without a Logger, what the loop has to say goes to standard error, by way of slog.Default, one line for each.
// A child has a standard error of its own.
func TestA8Log(t *testing.T) {
	for _, backend := range core.Backends() {
		t.Run(backend, func(t *testing.T) {
			nothingLeft(t)
			child := startChild(t, "log", []string{"BACKEND=" + backend})
			require.NotContains(t, child.end(), "handler failed", "not to standard output")
			var lines []string
			for line := range strings.Lines(child.stderr.String()) {
				if strings.Contains(line, "handler failed") {
					lines = append(lines, line)
				}
			}
			require.Len(t, lines, 1)
			require.Contains(t, lines[0], "ERROR")
			require.Contains(t, lines[0], io.ErrNoProgress.Error())
		})
	}
}

func init() {
	children["log"] = func(t *testing.T) {
		l, err := core.NewLoop(core.Options{Backend: os.Getenv("BACKEND")})
		require.NoError(t, err)
		near, far := connPair(t, "unix")
		s, err := core.Adopt(near)
		require.NoError(t, err)
		_, err = core.Attach(l, s, &core.Funcs{Read: func(*core.Dispatcher) error { return io.ErrNoProgress }})
		require.NoError(t, err)
		_, err = far.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, l.Run(t.Context()))
		require.NoError(t, l.Close())
	}
}

// TestA9LogInfo: each line has a level: a handler that failed is an error, one that is slow a warning; whoever wants fewer
// lines asks the Logger for that. Deliberately different: the connections that come and go are not logged at any level.
func TestA9LogInfo(t *testing.T) {
	for level, want := range map[slog.Level]string{
		slog.LevelDebug:     "level=WARN level=ERROR",
		slog.LevelWarn:      "level=WARN level=ERROR",
		slog.LevelError:     "level=ERROR",
		slog.LevelError + 1: "",
	} {
		t.Run(level.String(), func(t *testing.T) {
			logs := new(logBuffer)
			eachBackend(t, func(t *testing.T, k *kernel) {
				logs.b.Reset()
				s, far := k.pair("unix")
				n := 0
				d := k.attach(s, &core.Funcs{Read: func(d *core.Dispatcher) error {
					if n++; n == 2 {
						return io.ErrNoProgress
					}
					for start := time.Now(); time.Since(start) <= 2*time.Millisecond; { // slow, for this loop
					}
					return readAll(d)
				}})
				for i := range 2 {
					_, err := far.Write([]byte("x"))
					require.NoError(t, err)
					k.until("HandleRead", func() bool { return n > i })
				}
				require.True(t, d.Closed())
				require.Equal(t, want, strings.Join(regexp.MustCompile(`level=\w+`).FindAllString(logs.String(), -1), " "))
			}, func(o *core.Options) {
				o.Logger = slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level}))
				o.SlowHandler = time.Millisecond
			})
		})
	}
}

// TestA10Unhandled: there are no default hooks that log a warning. A method that a handler does not have is not called,
// its condition is not waited for, and a handler with none of them is refused.
func TestA10Unhandled(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		s, _ := k.pair("unix")
		_, err := core.Attach(k.loop, s, struct{ Handler int }{})
		require.ErrorContains(t, err, "HandleRead")
		require.Zero(t, k.loop.Stats().Channels)

		d := k.attach(s, &core.Funcs{Read: readAll})
		d.WantWrite(true)
		d.Requeue(core.Write | core.Urgent)
		k.passes(2)
		require.False(t, d.Closed())
		require.Empty(t, k.logs.String())
	})
}

// failing is a socket whose reads fail.
type failing struct {
	core.Socket
	err error
}

func (f *failing) Recv([]byte) (int, error) { return 0, f.err }

// TestA11Strerror: the cause of a failed connection is the system's error, to be told by its number, and says what the
// system says; one with a number that nobody knows says something, too. Any of them is the end of the connection and no
// failure of a handler, where asyncore knows six.
func TestA11Strerror(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		for _, errno := range []syscall.Errno{
			syscall.EPERM, syscall.ECONNRESET, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EIO, 4095,
		} {
			s, far := k.pair("unix")
			h := &hooks{do: map[string]func(*core.Dispatcher) error{"HandleRead": readAll}}
			d := k.attach(&failing{s, errno}, h)
			_, err := far.Write([]byte("x"))
			require.NoError(t, err)
			k.until("HandleClose", func() bool { return h.count("HandleClose") > 0 })
			require.Equal(t, []string{"HandleRead", "HandleClose"}, h.calls)
			require.ErrorIs(t, h.cause, errno)
			require.ErrorIs(t, d.Cause(), errno)
			require.NotEmpty(t, h.cause.Error())
			require.Contains(t, h.cause.Error(), errno.Error())
		}
		require.Contains(t, syscall.EPERM.Error(), "not permitted")
		require.Empty(t, k.logs.String())
	})
}

// TestA12Send: two messages are sent right after the connect, before it is decided; the peer gets both. The buffered
// dispatcher of CPython's test is package buffered's; this is what it stands on: Send says that it would block until
// HandleConnect.
func TestA12Send(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		ln, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		var got []byte
		server := k.peer(func() error {
			c, err := ln.Accept()
			if err != nil {
				return err
			}
			defer c.Close()
			got, err = io.ReadAll(c)
			return err
		})
		send := func(d *core.Dispatcher) error {
			for _, s := range []string{"Suppose there isn't a 16-ton weight?", "Suppose there isn't anything?", "\n"} {
				if n, err := d.Send([]byte(s)); err != nil || n != len(s) {
					return errors.Join(err, io.ErrShortWrite)
				}
			}
			return nil
		}
		d, err := core.Dial(k.loop, "tcp4", ln.Addr().String(), &core.Funcs{Read: readAll, Connect: func(d *core.Dispatcher) error {
			defer d.Close()
			return send(d)
		}})
		require.NoError(t, err)
		_, err = d.Send([]byte("too early"))
		require.ErrorIs(t, err, core.ErrWouldBlock)
		server.wait()
		require.Equal(t, "Suppose there isn't a 16-ton weight?Suppose there isn't anything?\n", string(got))
	})
}

// TestA13Recv: a file's channel has a descriptor of its own and works on after the file is closed; reading after Close is
// an error.
func TestA13Recv(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		name := t.TempDir() + "/file"
		require.NoError(t, os.WriteFile(name, []byte("It's not dead, it's sleeping!"), 0o600))
		f, err := os.Open(name)
		require.NoError(t, err)
		var got []byte
		d, err := core.OpenFile(k.loop, f, &core.Funcs{Read: func(d *core.Dispatcher) error {
			b := make([]byte, 13)
			n, err := d.Recv(b)
			got = append(got, b[:n]...)
			d.WantRead(false)
			return err
		}})
		require.NoError(t, err)
		require.NotEqual(t, int(f.Fd()), d.Socket().FD())
		require.NoError(t, f.Close())
		k.until("the first bytes", func() bool { return len(got) > 0 })
		require.Equal(t, "It's not dead", string(got))
		require.NoError(t, d.Close())
		_, err = d.Recv(make([]byte, 1))
		require.ErrorIs(t, err, core.ErrClosed)
		require.Equal(t, -1, d.Socket().FD())
	})
}

// TestA14Send: what is sent to a file's channel is appended to the file.
func TestA14Send(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		name := t.TempDir() + "/file"
		require.NoError(t, os.WriteFile(name, []byte("Come again?"), 0o600))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
		require.NoError(t, err)
		pieces := []string{"I want to buy some cheese.", " That's all."}
		_, err = core.OpenFile(k.loop, f, &core.Funcs{Write: func(d *core.Dispatcher) error {
			if len(pieces) == 0 {
				return d.Close()
			}
			_, err := d.Send([]byte(pieces[0]))
			pieces = pieces[1:]
			return err
		}})
		require.NoError(t, err)
		require.NoError(t, f.Close())
		for d := range k.loop.All() {
			d.WantWrite(true)
		}
		require.NoError(t, k.run())
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, "Come again?I want to buy some cheese. That's all.", string(content))
	})
}

// TestA15Dispatcher: a regular file is a channel, on every back end: epoll, which refuses it, has it always ready.
func TestA15Dispatcher(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		content := patterned(150_000)
		name := t.TempDir() + "/file"
		require.NoError(t, os.WriteFile(name, content, 0o600))
		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		var got []byte
		var cause error
		_, err = core.OpenFile(k.loop, f, &core.Funcs{
			Read: func(d *core.Dispatcher) error {
				p, err := d.RecvShared()
				got = append(got, p...)
				return err
			},
			Close: func(_ *core.Dispatcher, c error) { cause = c },
		})
		require.NoError(t, err)
		require.NoError(t, k.run())
		require.Equal(t, io.EOF, cause)
		same(t, content, got)
		require.LessOrEqual(t, k.loop.Stats().Passes, uint64(5), "one read of 64 KiB per pass, no more passes than that")
	})
}

// TestA17CloseTwice: when the descriptor was closed behind the channel's back, the first Close says so, the number is
// forgotten all the same, and the second Close does nothing, least of all to whoever has the number now.
func TestA17CloseTwice(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		defer r.Close()
		defer w.Close()
		told := 0
		d, err := core.OpenFile(k.loop, r, &core.Funcs{Read: readAll, Close: func(*core.Dispatcher, error) { told++ }})
		require.NoError(t, err)
		fd := d.Socket().FD()
		require.NoError(t, unix.Close(fd))
		require.ErrorIs(t, d.Close(), unix.EBADF)
		require.Equal(t, -1, d.Socket().FD())
		again, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, fd)
		require.NoError(t, err)
		defer unix.Close(again)
		require.Equal(t, fd, again)
		require.NoError(t, d.Close())
		require.NoError(t, d.Socket().Close())
		_, err = unix.FcntlInt(uintptr(again), unix.F_GETFD, 0)
		require.NoError(t, err, "the number is somebody else's now")
		k.passes(2)
		require.Equal(t, 1, told)
	})
}

// TestA18HandleConnect: the client's HandleConnect is called, once.
func TestA18HandleConnect(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		ln := k.listen(fam, attaching(func() any { return k.unexpected("server") }))
		h := k.unexpected("client")
		connects := 0
		h.Connect = func(d *core.Dispatcher) error {
			connects++
			require.False(t, d.Connecting(), "the state is set before the handler is called")
			require.NotNil(t, d.RemoteAddr())
			return nil
		}
		d := k.dial(ln, h)
		require.Zero(t, connects, "not from inside the call")
		require.True(t, d.Connecting())
		k.until("HandleConnect", func() bool { return connects > 0 })
		k.passes(3)
		require.Equal(t, 1, connects)
	})
}

// TestA19HandleAccept: the listener hears of a client that connects. Deliberately different: there is no handle_accept to
// replace; the first that a program sees of a connection is HandleAccepted.
func TestA19HandleAccept(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		h := k.unexpected("listener")
		accepted := 0
		h.Accepted = func(l *core.Listener, s core.Socket) error {
			accepted++
			return s.Close()
		}
		ln := k.listen(fam, h)
		k.passes(2)
		require.Zero(t, accepted)
		k.dial(ln, reading())
		k.until("HandleAccepted", func() bool { return accepted == 1 })
		require.Equal(t, uint64(1), k.loop.Stats().Accepted)
	})
}

// TestA20HandleAccepted: HandleAccepted gets the new socket, connected, with the client's address.
func TestA20HandleAccepted(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		h := k.unexpected("listener")
		var server *core.Dispatcher
		var listener *core.Listener
		h.Accepted = func(l *core.Listener, s core.Socket) error {
			listener = l
			var err error
			server, err = core.Attach(l.Loop(), s, k.unexpected("server"))
			return err
		}
		ln := k.listen(fam, h)
		connected := false
		client := k.dial(ln, &core.Funcs{Read: readAll, Connect: func(*core.Dispatcher) error { connected = true; return nil }})
		k.until("both ends", func() bool { return server != nil && connected })
		require.Same(t, ln, listener)
		require.False(t, server.Connecting())
		require.Equal(t, ln.Addr().String(), client.RemoteAddr().String())
		if fam.network != "unix" {
			require.Equal(t, client.LocalAddr().String(), server.RemoteAddr().String())
		}
	})
}

// TestA21HandleRead: what the server sends as soon as it has its channel makes the client's HandleRead run.
func TestA21HandleRead(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		ln := k.listen(fam, &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
			d, err := core.Attach(l.Loop(), s, k.unexpected("server"))
			if err == nil {
				_, err = d.Send(make([]byte, 1024))
			}
			return err
		}})
		h := k.unexpected("client")
		var order []string
		got := 0
		h.Connect = func(*core.Dispatcher) error { order = append(order, "connect"); return nil }
		h.Read = func(d *core.Dispatcher) error {
			order = append(order, "read")
			p, err := d.RecvShared()
			got += len(p)
			return err
		}
		k.dial(ln, h)
		k.until("1024 bytes", func() bool { return got == 1024 })
		require.Equal(t, "connect", order[0])
	})
}

// TestA22HandleWrite: the client's HandleWrite runs after connecting. Deliberately different: only once it asked for it.
func TestA22HandleWrite(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		ln := k.listen(fam, attaching(func() any { return k.unexpected("server") }))
		h := k.unexpected("client")
		var order []string
		h.Connect = func(d *core.Dispatcher) error { order = append(order, "connect"); return nil }
		d := k.dial(ln, h)
		k.until("HandleConnect", func() bool { return len(order) > 0 })
		k.passes(3) // HandleWrite would be unexpected
		h.Write = func(d *core.Dispatcher) error { order = append(order, "write"); d.WantWrite(false); return nil }
		d.WantWrite(true)
		k.until("HandleWrite", func() bool { return len(order) > 1 })
		k.passes(3)
		require.Equal(t, []string{"connect", "write"}, order)

		order = nil
		early := k.dial(ln, h)
		early.WantWrite(true) // before the connection is there
		k.until("both", func() bool { return len(order) > 1 })
		require.Equal(t, []string{"connect", "write"}, order)
	})
}

// TestA23HandleClose: the server closes at once; the client's Recv says so and HandleClose follows, with io.EOF.
func TestA23HandleClose(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		ln := k.listen(fam, &core.Funcs{Accepted: func(_ *core.Listener, s core.Socket) error { return s.Close() }})
		h := k.unexpected("client")
		var calls []string
		h.Connect = func(*core.Dispatcher) error { return nil }
		h.Read = func(d *core.Dispatcher) error {
			_, err := d.RecvShared()
			require.Equal(t, io.EOF, err)
			calls = append(calls, "read")
			return nil // what happened is known to the loop
		}
		h.Close = func(_ *core.Dispatcher, cause error) {
			require.Equal(t, io.EOF, cause)
			calls = append(calls, "close")
		}
		k.dial(ln, h)
		k.until("HandleClose", func() bool { return len(calls) > 1 })
		k.passes(3)
		require.Equal(t, []string{"read", "close"}, calls)
	})
}

// TestA24HandleCloseAfterConnBroken: the server reads once and closes while the client goes on sending; the reset or the
// broken pipe ends in HandleClose with the system's error, and never in HandleError.
func TestA24HandleCloseAfterConnBroken(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		ln := k.listen(fam, attaching(func() any {
			return &core.Funcs{Read: func(d *core.Dispatcher) error {
				_, err := d.Recv(make([]byte, 1))
				return errors.Join(err, d.Close())
			}}
		}))
		h := k.unexpected("client")
		var cause error
		h.Read = nil // it only sends
		h.Connect = func(d *core.Dispatcher) error { d.WantWrite(true); return nil }
		h.Write = func(d *core.Dispatcher) error {
			_, err := d.Send(make([]byte, 1024))
			return err
		}
		h.Close = func(_ *core.Dispatcher, c error) { cause = c }
		k.dial(ln, h)
		k.until("HandleClose", func() bool { return cause != nil })
		if !errors.Is(cause, syscall.EPIPE) && !errors.Is(cause, syscall.ECONNRESET) {
			t.Errorf("cause: %v", cause)
		}
	})
}

// TestA25HandleExpt: out-of-band data makes HandleExpt run. Deliberately different: only for a handler that has it.
func TestA25HandleExpt(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		switch {
		case fam.network == "unix":
			t.Skip("no out-of-band data on unix sockets")
		case k.loop.Backend() == "kqueue":
			t.Skip("kqueue reports none")
		}
		var servers []*core.Dispatcher
		ln := k.listen(fam, &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
			d, err := core.Attach(l.Loop(), s, k.unexpected("server"))
			servers = append(servers, d)
			return err
		}})
		h := &hooks{do: map[string]func(*core.Dispatcher) error{}}
		var got []byte
		h.do["HandleExpt"] = func(d *core.Dispatcher) error {
			b := make([]byte, 8)
			n, err := d.RecvUrgent(b)
			got = append(got, b[:n]...)
			return err
		}
		h.do["HandleRead"] = readAll // the urgent byte's place in the stream
		client := k.dial(ln, h)
		k.until("the connection", func() bool { return len(servers) == 1 && !client.Connecting() })
		require.Equal(t, core.Read|core.Urgent, client.Interest())
		n, err := servers[0].SendUrgent([]byte{0xF2})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		k.until("HandleExpt", func() bool { return len(got) > 0 })
		require.Equal(t, []byte{0xF2}, got)
		require.Empty(t, h.errs)
		require.LessOrEqual(t, k.passesWithin(window), aFew, "read once, it is not reported again")
		_, err = client.RecvUrgent(make([]byte, 1))
		require.ErrorIs(t, err, core.ErrWouldBlock, "read already")

		plain := k.dial(ln, reading())
		k.until("the other connection", func() bool { return len(servers) == 2 && !plain.Connecting() })
		require.Equal(t, core.Read, plain.Interest())
		_, err = servers[1].SendUrgent([]byte{0xF2})
		require.NoError(t, err)
		require.LessOrEqual(t, k.passesWithin(window), aFew, "nobody asked, so nobody is woken")
		require.False(t, plain.Closed())
	})
}

// TestA26HandleError: an error of the write method reaches HandleError. Deliberately different: it is handed over as an
// argument, there being no active exception to look at.
func TestA26HandleError(t *testing.T) {
	failure := errors.New("one over zero")
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		ln := k.listen(fam, attaching(func() any { return k.unexpected("server") }))
		h := k.unexpected("client")
		var got []error
		h.Connect = func(d *core.Dispatcher) error { d.WantWrite(true); return nil }
		h.Write = func(d *core.Dispatcher) error { d.WantWrite(false); return failure }
		h.Error = func(_ *core.Dispatcher, err error) { got = append(got, err) }
		d := k.dial(ln, h)
		k.until("HandleError", func() bool { return len(got) > 0 })
		k.passes(3)
		require.Equal(t, []error{failure}, got)
		require.False(t, d.Closed())
	})
}

// TestA27ConnectionAttributes: what listener and client say of themselves before, during and after a connection.
func TestA27ConnectionAttributes(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		accepted := false
		ln := k.listen(fam, &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
			accepted = true
			_, err := core.Attach(l.Loop(), s, reading())
			return err
		}})
		require.False(t, ln.Core().Closed())
		require.False(t, ln.Core().Connecting())
		require.Nil(t, ln.Core().RemoteAddr())
		require.Zero(t, ln.Open())

		d := k.dial(ln, reading())
		require.True(t, d.Connecting())
		require.Equal(t, core.Write, d.Interest(), "a connecting channel waits for write, whatever it wants")
		k.until("the connection", func() bool { return accepted && !d.Connecting() })
		require.False(t, d.Closed())
		require.Nil(t, d.Cause())
		require.Equal(t, core.Read, d.Interest())
		require.Equal(t, 1, ln.Open())

		require.NoError(t, d.Close())
		require.True(t, d.Closed())
		require.False(t, d.Connecting())
		require.Zero(t, d.Interest())
		k.until("the server's end", func() bool { return ln.Open() == 0 })

		addr := ln.Addr()
		require.NoError(t, ln.Close())
		require.True(t, ln.Core().Closed())
		_, err := connectTo(addr)
		require.Error(t, err, "nobody listens any more")
		require.NoError(t, k.run())
	})
}

// TestA28CreateSocket: sockets are streams of the right family, non-blocking, and not inherited by children. All three
// kinds: one that listens, one that was accepted and one that dialled.
func TestA28CreateSocket(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		var server *core.Dispatcher
		ln := k.listen(fam, &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) (err error) {
			server, err = core.Attach(l.Loop(), s, reading())
			return err
		}})
		client := k.dial(ln, reading())
		k.until("the connection", func() bool { return server != nil && !client.Connecting() })
		for who, d := range map[string]*core.Dispatcher{"listener": ln.Core(), "server": server, "client": client} {
			fd := d.Socket().FD()
			typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
			require.NoError(t, err)
			require.Equal(t, unix.SOCK_STREAM, typ, who)
			sa, err := unix.Getsockname(fd)
			require.NoError(t, err)
			switch fam.network {
			case "tcp4":
				require.IsType(t, &unix.SockaddrInet4{}, sa, who)
			case "tcp6":
				require.IsType(t, &unix.SockaddrInet6{}, sa, who)
			case "unix":
				require.IsType(t, &unix.SockaddrUnix{}, sa, who)
			}
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			require.NoError(t, err)
			require.NotZero(t, flags&unix.O_NONBLOCK, "%s: non-blocking", who)
			flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			require.NoError(t, err)
			require.NotZero(t, flags&unix.FD_CLOEXEC, "%s: close-on-exec", who)
		}
	})
}

// TestA29Bind: a second listener on the same port is refused.
func TestA29Bind(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		if fam.network == "unix" {
			t.Skip("CPython's test is for ports; TestKernelListenUnixPath has the paths")
		}
		ln := k.listen(fam, k.unexpected("listener"))
		_, err := core.Listen(k.loop, fam.network, ln.Addr().String(), k.unexpected("second listener"))
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		require.Equal(t, "listen", op.Op)
		require.Equal(t, 1, k.loop.Stats().Channels)
	})
}

// TestA30SetReuseAddr: deliberately different: SO_REUSEADDR is on by default, as in package net, and can be left off.
func TestA30SetReuseAddr(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		if fam.network == "unix" {
			t.Skip("for ports")
		}
		for _, off := range []bool{false, true} {
			c := core.ListenConfig{NoReuseAddr: off}
			ln, err := c.Listen(k.loop, fam.network, fam.address(t), k.unexpected("listener"))
			require.NoError(t, err)
			v, err := unix.GetsockoptInt(ln.Core().Socket().FD(), unix.SOL_SOCKET, unix.SO_REUSEADDR)
			require.NoError(t, err)
			require.Equal(t, !off, v != 0)
		}
	})
}

// TestA31QuickConnect: clients connect and reset at once, before their connection is accepted; the loop goes on, and
// serves the next one.
func TestA31QuickConnect(t *testing.T) {
	eachSocket(t, func(t *testing.T, k *kernel, fam family) {
		if fam.network == "unix" {
			t.Skip("unix sockets have no reset")
		}
		ln := k.listen(fam, attaching(func() any { return echoing() }))
		addr := ln.Addr()
		p := k.peer(func() error {
			for range 20 {
				c, err := connectTo(addr)
				if err != nil {
					return err
				}
				if err := resetConn(c); err != nil {
					return err
				}
			}
			c, err := connectTo(addr)
			if err != nil {
				return err
			}
			defer c.Close()
			return say(c, "still there")
		})
		p.wait()
		k.until("the end of all of them", func() bool { return ln.Open() == 0 })
		require.False(t, ln.Core().Closed())
		if runtime.GOOS == "linux" { // elsewhere accept may report some of them as ECONNABORTED
			require.Equal(t, uint64(21), k.loop.Stats().Accepted)
		}
		require.NotContains(t, strings.ToLower(k.logs.String()), "level=error", "a reset is nobody's mistake")
	})
}

//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core_test

import (
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/core"
)

// TestKernelPipe: both ends of a pipe are channels; what goes in at one comes out at the other, and then its end.
func TestKernelPipe(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		rest := patterned(400_000)
		var got []byte
		var cause error
		writer, err := core.OpenFile(k.loop, w, &core.Funcs{
			Write: func(d *core.Dispatcher) error {
				n, err := d.Send(rest)
				if rest = rest[n:]; len(rest) == 0 {
					return d.Close()
				}
				return err
			},
		})
		require.NoError(t, err)
		reader, err := core.OpenFile(k.loop, r, &core.Funcs{
			Read: func(d *core.Dispatcher) error {
				p, err := d.RecvShared()
				got = append(got, p...)
				return err
			},
			Close: func(_ *core.Dispatcher, c error) { cause = c },
		})
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.NoError(t, w.Close())
		require.Zero(t, writer.Interest(), "the writing end has nothing to read")
		reader.WantWrite(true)
		require.Equal(t, core.Read, reader.Interest(), "the reading end cannot be written")
		require.Nil(t, reader.RemoteAddr())
		require.Contains(t, reader.LocalAddr().String(), "fd ")
		require.ErrorIs(t, writer.CloseWrite(), core.ErrUnsupported)
		writer.WantWrite(true)
		require.NoError(t, k.run())
		require.Equal(t, io.EOF, cause)
		same(t, patterned(400_000), got)
	})
}

// TestKernelPipeReaderGone: the writing end of a pipe whose reader is gone learns of it when it writes, and closes with
// the system's error. Until then it does not keep the loop busy (TestKernelHangupDoesNotSpin).
func TestKernelPipeReaderGone(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		var cause error
		d, err := core.OpenFile(k.loop, w, &core.Funcs{
			Write: func(d *core.Dispatcher) error { _, err := d.Send([]byte("x")); return err },
			Close: func(_ *core.Dispatcher, c error) { cause = c },
			Error: func(_ *core.Dispatcher, err error) { t.Errorf("HandleError(%v)", err) },
		})
		require.NoError(t, err)
		require.NoError(t, w.Close())
		k.passes(1)
		require.NoError(t, r.Close())
		k.passes(2)
		require.False(t, d.Closed())
		d.WantWrite(true)
		require.NoError(t, k.run())
		require.ErrorIs(t, cause, syscall.EPIPE)
	})
}

// TestKernelRegularFile: a regular file is read to its end, one budget a pass, so that a socket beside it is served; it
// waits while it is not wanted, and costs nothing then. (F17)
func TestKernelRegularFile(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		const size = 4 * core.ReadBudget
		name := t.TempDir() + "/file"
		require.NoError(t, os.WriteFile(name, patterned(size), 0o600))
		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		got, ended := 0, false
		file, err := core.OpenFile(k.loop, f, &core.Funcs{
			Read: func(d *core.Dispatcher) error {
				p, err := d.RecvShared()
				same(t, patterned(size)[got:got+len(p)], p)
				got += len(p)
				return err
			},
			Close: func(_ *core.Dispatcher, cause error) { ended = true; require.Equal(t, io.EOF, cause) },
		})
		require.NoError(t, err)
		s, far := k.pair("unix")
		served := 0
		k.attach(s, &core.Funcs{Read: func(d *core.Dispatcher) error { served++; return readAll(d) }})
		for i := range 3 {
			_, err = far.Write([]byte("x"))
			require.NoError(t, err)
			k.passes(1)
			require.Equal(t, i+1, served)
			require.LessOrEqual(t, got, (i+1)*core.ReadBudget)
		}
		require.Positive(t, got)
		file.WantRead(false)
		k.passes(2)
		paused := got
		require.LessOrEqual(t, k.passesWithin(window), aFew)
		require.Equal(t, paused, got)
		file.WantRead(true)
		k.until("the end of the file", func() bool { return ended })
		require.Equal(t, size, got)
	})
}

// TestKernelOpenFileErrors: a directory and a closed file are refused.
func TestKernelOpenFileErrors(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		dir, err := os.Open(t.TempDir())
		require.NoError(t, err)
		defer dir.Close()
		_, err = core.OpenFile(k.loop, dir, reading())
		require.ErrorIs(t, err, syscall.EISDIR)
		var path *os.PathError
		require.ErrorAs(t, err, &path)

		f, err := os.Open(os.DevNull)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		_, err = core.OpenFile(k.loop, f, reading())
		require.Error(t, err)

		f, err = os.Open(os.DevNull)
		require.NoError(t, err)
		defer f.Close()
		_, err = core.OpenFile(k.loop, f, 42)
		require.Error(t, err, "no handler")
		require.Zero(t, k.loop.Stats().Channels)
	})
}

// TestKernelFileMode: while the channel is open, the pipe is in non-blocking mode; Close puts back what was there.
func TestKernelFileMode(t *testing.T) {
	nonblocking := func(t *testing.T, fd uintptr) bool {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		require.NoError(t, err)
		return flags&unix.O_NONBLOCK != 0
	}
	eachBackend(t, func(t *testing.T, k *kernel) {
		for _, blocking := range []bool{true, false} {
			var p [2]int
			require.NoError(t, unix.Pipe(p[:]))
			defer unix.Close(p[1])
			unix.CloseOnExec(p[0])
			unix.CloseOnExec(p[1])
			require.NoError(t, unix.SetNonblock(p[0], !blocking))
			f := os.NewFile(uintptr(p[0]), "pipe")
			defer f.Close()
			d, err := core.OpenFile(k.loop, f, reading())
			require.NoError(t, err)
			require.True(t, nonblocking(t, uintptr(p[0])), "shared with the channel's duplicate")
			flags, err := unix.FcntlInt(uintptr(d.Socket().FD()), unix.F_GETFD, 0)
			require.NoError(t, err)
			require.NotZero(t, flags&unix.FD_CLOEXEC)
			require.NoError(t, d.Close())
			require.Equal(t, !blocking, nonblocking(t, uintptr(p[0])))
		}
	})
}

// TestKernelSocketFile: standard input can be a socket, when inetd started the program.
func TestKernelSocketFile(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		near, far := connPair(t, "unix")
		f, err := near.(interface{ File() (*os.File, error) }).File()
		require.NoError(t, err)
		defer f.Close()
		require.NoError(t, near.Close())
		d, err := core.OpenFile(k.loop, f, echoing())
		require.NoError(t, err)
		k.peer(func() error { return say(far, "a socket") }).wait()
		require.NoError(t, d.CloseWrite(), "it can do what sockets can")
		n, err := far.Read(make([]byte, 1))
		require.Zero(t, n)
		require.Equal(t, io.EOF, err)
	})
}

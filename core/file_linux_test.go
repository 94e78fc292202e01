package core_test

import (
	"io"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/core"
)

// openPTY opens a pair of pseudo terminals in raw mode.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here")
	}
	t.Cleanup(func() { _ = master.Close() })
	raw, err := master.SyscallConn()
	require.NoError(t, err)
	var n int
	var ioctl error
	require.NoError(t, raw.Control(func(fd uintptr) {
		if ioctl = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); ioctl == nil {
			n, ioctl = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}))
	require.NoError(t, ioctl)
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = slave.Close() })
	mode, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	require.NoError(t, err)
	mode.Lflag &^= unix.ECHO | unix.ICANON
	mode.Oflag &^= unix.OPOST
	require.NoError(t, unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, mode))
	return master, slave
}

// TestKernelTerminal: a terminal is opened anew, so that the mode of the shared one stays as it is; what is typed is
// read, and what is sent is shown.
func TestKernelTerminal(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		master, slave := openPTY(t)
		d, err := core.OpenFile(k.loop, slave, echoing())
		require.NoError(t, err)
		flags, err := unix.FcntlInt(slave.Fd(), unix.F_GETFL, 0)
		require.NoError(t, err)
		require.Zero(t, flags&unix.O_NONBLOCK, "the shared one is not touched")
		k.peer(func() error {
			if _, err := master.WriteString("typed"); err != nil {
				return err
			}
			_, err := io.ReadFull(master, make([]byte, len("typed")))
			return err
		}).wait()
		require.NoError(t, d.Close())
	})
}

// TestKernelTerminalMaster: the controlling side of a pseudo terminal stays that of its own terminal, and the end of that
// (EIO) is the end of the input.
func TestKernelTerminalMaster(t *testing.T) {
	eachBackend(t, func(t *testing.T, k *kernel) {
		master, slave := openPTY(t)
		var got []byte
		var cause error
		d, err := core.OpenFile(k.loop, master, &core.Funcs{
			Read: func(d *core.Dispatcher) error {
				p, err := d.RecvShared()
				got = append(got, p...)
				return err
			},
			Close: func(_ *core.Dispatcher, c error) { cause = c },
		})
		require.NoError(t, err)
		_, err = d.Send([]byte("typed"))
		require.NoError(t, err)
		b := make([]byte, 5)
		k.peer(func() error { _, err := io.ReadFull(slave, b); return err }).wait()
		require.Equal(t, "typed", string(b))
		_, err = slave.WriteString("shown")
		require.NoError(t, err)
		require.NoError(t, slave.Close())
		k.until("the end", func() bool { return cause != nil })
		require.Equal(t, "shown", string(got))
		require.Equal(t, io.EOF, cause)
	})
}

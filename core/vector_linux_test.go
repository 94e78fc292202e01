//go:build amd64 || arm64

package core

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// SendVector on a socket of the kernel: whole, short, not at all, and after the peer is gone.
func TestKernelSendVector(t *testing.T) {
	l, err := NewLoop(Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer l.Close()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	require.NoError(t, unix.SetNonblock(fds[0], true))
	d, err := Attach(l, &sysSocket{fd: int32(fds[0]), kind: kindUnix}, ignores{})
	require.NoError(t, err)

	n, err := d.SendVector([][]byte{[]byte("one "), []byte("two "), []byte("three")})
	require.NoError(t, err)
	require.Equal(t, 13, n)
	buf := make([]byte, 1<<20)
	n, err = unix.Read(fds[1], buf)
	require.NoError(t, err)
	require.Equal(t, "one two three", string(buf[:n]))
	require.EqualValues(t, 13, l.Stats().BytesOut)

	pieces := make([][]byte, MaxVector)
	for i := range pieces {
		pieces[i] = bytes.Repeat([]byte{byte('a' + i)}, 100_000)
	}
	want := bytes.Join(pieces, nil)
	n, err = d.SendVector(pieces)
	require.NoError(t, err)
	require.Positive(t, n)
	require.Less(t, n, len(want))
	for {
		more, err := d.SendVector([][]byte{want[n:], []byte("!")})
		if err != nil {
			require.Equal(t, ErrWouldBlock, err)
			break
		}
		n += more
	}
	var got []byte
	for len(got) < n {
		m, err := unix.Read(fds[1], buf)
		require.NoError(t, err)
		got = append(got, buf[:m]...)
	}
	require.True(t, bytes.Equal(want[:n], got))

	require.NoError(t, unix.Close(fds[1]))
	_, err = d.SendVector(pieces[:2])
	require.ErrorIs(t, err, unix.EPIPE)
	_, _ = l.Step(0)
	require.True(t, d.Closed())
	_, err = d.SendVector(pieces[:2])
	require.ErrorIs(t, err, ErrClosed)

	u, err := ListenPacket(l, "udp", "127.0.0.1:0", &Funcs{Read: func(*Dispatcher) error { return nil }})
	require.NoError(t, err)
	_, err = u.SendVector(pieces[:2])
	require.ErrorIs(t, err, ErrUnsupported)
}

// ignores is a handler that takes no input.
type ignores struct{}

func (ignores) HandleRead(d *Dispatcher) error {
	_, err := d.Recv(make([]byte, 1))
	return err
}

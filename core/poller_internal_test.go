//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The back ends by themselves: all of them must answer the same.

func eachPoller(t *testing.T, f func(t *testing.T, p Poller)) {
	t.Helper()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			p, err := b.open()
			require.NoError(t, err)
			require.Equal(t, b.name, p.Name())
			f(t, p)
			require.NoError(t, p.Close())
			require.NoError(t, p.Wake(), "after Close it does nothing")
		})
	}
}

// sockets returns two connected ones, closed when the test is over.
func sockets(t *testing.T) (near, far *sysSocket) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	both := [2]*sysSocket{}
	for i, fd := range fds {
		unix.CloseOnExec(fd)
		require.NoError(t, unix.SetNonblock(fd, true))
		both[i] = &sysSocket{fd: int32(fd), kind: kindUnix}
		t.Cleanup(func() { _ = both[i].Close() })
	}
	return both[0], both[1]
}

// ready waits until the poller has an answer, and returns what it found of the only socket.
func ready(t *testing.T, p Poller, id uint64) Interest {
	t.Helper()
	got, err := wait(p, 10*time.Second)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, id, got[0].ID)
	return got[0].Got
}

// wait is Wait, again when a signal interrupted it: the Go runtime sends itself some.
func wait(p Poller, timeout time.Duration) (got []Ready, err error) {
	for {
		if got, err = p.Wait(timeout, nil); !errors.Is(err, unix.EINTR) {
			return got, err
		}
	}
}

func silent(t *testing.T, p Poller) {
	t.Helper()
	got, err := wait(p, 0)
	require.NoError(t, err)
	require.Empty(t, got)
}

// TestPollerReports: input, room, the end and nothing; level-triggered.
func TestPollerReports(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		near, far := sockets(t)
		const id = 1<<40 | 5 // more than 32 bits
		require.NoError(t, p.Add(near, id, Read))
		silent(t, p)
		_, err := far.Send([]byte("x"))
		require.NoError(t, err)
		require.Equal(t, Read, ready(t, p, id))
		require.Equal(t, Read, ready(t, p, id), "again, as it is there still")
		require.NoError(t, p.Modify(near, id, Write))
		require.Equal(t, Write, ready(t, p, id))
		require.NoError(t, p.Modify(near, id, Read|Write))
		require.Equal(t, Read|Write, ready(t, p, id))
		require.NoError(t, p.Modify(near, id, 0))
		silent(t, p)
		require.NoError(t, p.Modify(near, id, Read))
		require.NoError(t, far.Close())
		require.Equal(t, Read, ready(t, p, id)&Read, "the end is input too")
		_, err = near.Recv(make([]byte, 10))
		require.NoError(t, err)
		require.Equal(t, Read, ready(t, p, id)&Read)
		_, err = near.Recv(make([]byte, 10))
		require.Equal(t, io.EOF, err)
		require.NoError(t, p.Remove(near, id))
		silent(t, p)
	})
}

// TestPollerTable: a descriptor has one id; calls with another one, or with none, are errors and change nothing.
func TestPollerTable(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		near, far := sockets(t)
		const id, other = 1 << 24, 2 << 24
		require.Error(t, p.Modify(near, id, Read), "not there")
		require.Error(t, p.Remove(near, id))
		require.NoError(t, p.Add(near, id, Read))
		require.ErrorIs(t, p.Add(near, other, Read), unix.EEXIST)
		require.ErrorIs(t, p.Add(&sysSocket{fd: -1}, other, Read), unix.EBADF)
		if p.Name() != "epoll" { // the kernel's table knows no id but hands one back
			require.Error(t, p.Modify(near, other, 0))
			require.Error(t, p.Remove(near, other), "the successor of a channel is not its own")
		}
		_, err := far.Send([]byte("x"))
		require.NoError(t, err)
		require.Equal(t, Read, ready(t, p, id))
		require.NoError(t, p.Remove(near, id))
		require.NoError(t, p.Add(near, other, Read), "and again")
		require.Equal(t, Read, ready(t, p, other))
		require.NoError(t, p.Remove(near, other))
	})
}

// TestPollerMany: descriptors come and go, in the middle too, and each answers by its own id.
func TestPollerMany(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		const n = 50
		var near, far [n]*sysSocket
		for i := range n {
			near[i], far[i] = sockets(t)
			require.NoError(t, p.Add(near[i], uint64(i+1), Read))
		}
		for i := 0; i < n; i += 3 {
			require.NoError(t, p.Remove(near[i], uint64(i+1)))
		}
		want := map[uint64]bool{}
		for i := range n {
			_, err := far[i].Send([]byte("x"))
			require.NoError(t, err)
			if i%3 != 0 {
				want[uint64(i+1)] = true
			}
		}
		got, err := wait(p, 0)
		require.NoError(t, err)
		for _, r := range got {
			require.True(t, want[r.ID], "%d", r.ID)
			delete(want, r.ID)
		}
		require.Empty(t, want)
	})
}

// TestPollerWake: a Wake ends the Wait that blocks, or else the next one, and many are one. It is no answer.
func TestPollerWake(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		for range 100 {
			require.NoError(t, p.Wake())
		}
		got, err := wait(p, -1)
		require.NoError(t, err)
		require.Empty(t, got)
		start := time.Now()
		got, err = wait(p, 5*time.Millisecond)
		require.NoError(t, err)
		require.Empty(t, got)
		require.GreaterOrEqual(t, time.Since(start), 5*time.Millisecond, "it was used up")

		for range 50 {
			go func() { _ = p.Wake() }()
			_, err = wait(p, -1)
			require.NoError(t, err)
		}
	})
}

// TestPollerTimeout: never early, and never rounded down to nothing.
func TestPollerTimeout(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		for _, timeout := range []time.Duration{1, time.Microsecond, 100 * time.Microsecond, time.Millisecond, 2300 * time.Microsecond} {
			start := time.Now()
			_, err := wait(p, timeout)
			require.NoError(t, err)
			require.GreaterOrEqual(t, time.Since(start), timeout)
		}
	})
}

func TestRoundUp(t *testing.T) {
	for _, c := range []struct {
		timeout, unit time.Duration
		want          int
	}{
		{0, time.Millisecond, 0},
		{1, time.Millisecond, 1},
		{time.Millisecond, time.Millisecond, 1},
		{time.Millisecond + 1, time.Millisecond, 2},
		{999 * time.Microsecond, time.Microsecond, 999},
		{1, time.Microsecond, 1},
		{-1, time.Millisecond, -1},
		{-1 << 63, time.Millisecond, -1},
		{1<<63 - 1, time.Millisecond, 1<<31 - 1},
		{1<<63 - 1, time.Nanosecond, 1<<31 - 1},
	} {
		require.Equal(t, c.want, roundUp(c.timeout, c.unit), "%d/%d", c.timeout, c.unit)
	}
}

// lateSystem has no descriptor to reserve at first.
type lateSystem struct {
	System
	asked int
}

func (s *lateSystem) Reserve() (io.Closer, error) {
	if s.asked++; s.asked == 1 {
		return os.Open("/nonexistent")
	}
	return os.Open(os.DevNull)
}

// TestReserveIsOpenedLater: a reserve that could not be opened is none, and the next attempt opens it.
func TestReserveIsOpenedLater(t *testing.T) {
	s := &lateSystem{System: operatingSystem}
	var r reserve
	require.Error(t, r.open(s))
	require.NoError(t, r.open(s))
	require.Equal(t, 2, s.asked)
	require.NoError(t, r.c.Close())
}

// clockWatch counts how often the loop asks for the time.
type clockWatch struct {
	System
	reads int
}

func (c *clockWatch) Now() time.Time { c.reads++; return c.System.Now() }

// TestClockReads: the clock is read for a pass, not for each call of a handler, although slow handlers are found.
func TestClockReads(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			clock := &clockWatch{System: operatingSystem}
			l, err := NewLoop(Options{Backend: b.name, System: clock, SlowHandler: time.Hour})
			require.NoError(t, err)
			defer l.Close()
			const channels = 50
			calls := 0
			var far []*sysSocket
			for range channels {
				s, f := sockets(t)
				far = append(far, f)
				d, err := Attach(l, s, &Funcs{Read: func(d *Dispatcher) error {
					calls++
					_, err := d.RecvShared()
					return err
				}})
				require.NoError(t, err)
				d.SetIdleTimeout(time.Hour)
			}
			reads := func(ready int) int {
				for _, f := range far[:ready] {
					_, err := f.Send([]byte("x"))
					require.NoError(t, err)
				}
				before := calls
				clock.reads = 0
				_, err := l.Step(0)
				require.NoError(t, err)
				require.Equal(t, ready, calls-before)
				return clock.reads
			}
			reads(1)
			require.Equal(t, reads(1), reads(channels))
		})
	}
}

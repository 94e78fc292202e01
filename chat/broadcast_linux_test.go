//go:build !race

package chat_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// crowd is a number of conversations on one loop that are each other's peers, two and two, and do not read.
type crowd struct {
	loop  *core.Loop
	conns []*chat.Conn
	fds   []int
	buf   []byte
}

func newCrowd(tb testing.TB, network string, n int) *crowd {
	var files syscall.Rlimit
	require.NoError(tb, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files))
	if uint64(n)+100 > files.Cur {
		tb.Skipf("%d descriptors are too many here", n)
	}
	l, err := core.NewLoop(core.Options{})
	require.NoError(tb, err)
	tb.Cleanup(func() { l.Close() })
	c := &crowd{loop: l, buf: make([]byte, 1<<20)}
	add := func(s core.Socket, err error) {
		require.NoError(tb, err)
		conn, err := chat.Attach(l, s, func(c *chat.Conn) chat.Handler {
			c.Pause()
			return echoLines(c)
		})
		require.NoError(tb, err)
		c.conns = append(c.conns, conn)
		c.fds = append(c.fds, s.FD())
	}
	if network == "tcp" {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(tb, err)
		defer ln.Close()
		for range n / 2 {
			a, err := net.Dial("tcp", ln.Addr().String())
			require.NoError(tb, err)
			b, err := ln.Accept()
			require.NoError(tb, err)
			add(core.Adopt(a))
			add(core.Adopt(b))
		}
	} else {
		for range n / 2 {
			fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
			require.NoError(tb, err)
			for _, fd := range fds {
				f := os.NewFile(uintptr(fd), "pair")
				add(core.FileSocket(f))
				f.Close()
			}
		}
	}
	_, err = l.Step(0)
	require.NoError(tb, err)
	return c
}

// drain reads what everybody was sent: size bytes.
func (c *crowd) drain(tb testing.TB, size int) {
	for _, fd := range c.fds {
		for left := size; left > 0; {
			n, err := syscall.Read(fd, c.buf)
			if n <= 0 {
				tb.Fatalf("%d of %d bytes are missing: %v", left, size, err)
			}
			left -= n
		}
	}
}

// tell says a message to everybody, in one event.
func (c *crowd) tell(m *buffered.Shared) {
	for _, conn := range c.conns {
		_ = conn.PushShared(m)
	}
}

func threadCPU() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano())
}

// BenchmarkBroadcast tells 10,000 conversations a message of 64 bytes, and beside it calls write for the same descriptors.
// An iteration is one of each; the figures are medians of CPU time per message that was delivered.
func BenchmarkBroadcast(b *testing.B) {
	const members = 10_000
	for _, network := range []string{"unix", "tcp"} {
		b.Run(fmt.Sprintf("%s/%d", network, members), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			c := newCrowd(b, network, members)
			text := []byte(strings.Repeat("x", 62) + "\r\n")
			var bare, parley []time.Duration
			say := func() {
				m := buffered.NewShared(text)
				c.tell(m)
				m.Release()
			}
			for b.Loop() {
				start := threadCPU()
				for _, fd := range c.fds {
					n, _, _ := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)))
					if int(n) != len(text) {
						b.Fatal("short write")
					}
				}
				bare = append(bare, threadCPU()-start)
				c.drain(b, len(text))
				start = threadCPU()
				c.loop.Post(say)
				_, _ = c.loop.Step(0)
				parley = append(parley, threadCPU()-start)
				c.drain(b, len(text))
			}
			median := func(d []time.Duration) float64 {
				slices.Sort(d)
				return float64(d[len(d)/2]) / members
			}
			x, y := median(bare), median(parley)
			b.ReportMetric(x, "write-ns/msg")
			b.ReportMetric(y, "broadcast-ns/msg")
			b.ReportMetric(y/x, "ratio")
		})
	}
}

// No allocation per delivery of a broadcast, nor for the message: of one, and of several in an event.
func TestNoAllocationPerBroadcast(t *testing.T) {
	for _, x := range []struct{ messages, size int }{{1, 64}, {5, 64}, {3, 8 << 10}} {
		messages := x.messages
		c := newCrowd(t, "unix", 500)
		text := bytes.Repeat([]byte("x"), x.size)
		say := func() {
			for range messages {
				m := buffered.NewShared(text)
				c.tell(m)
				m.Release()
			}
		}
		round := func() {
			c.loop.Post(say)
			_, _ = c.loop.Step(0)
			c.drain(t, messages*len(text))
		}
		round() // fills the pools
		deliveries := float64(messages * len(c.conns))
		allocs := testing.AllocsPerRun(50, round)
		require.Less(t, allocs/deliveries, 0.001, "%v allocations", allocs)
	}
}

// A member that does not read costs its queue, by reference, and the others nothing.
func TestBroadcastToASlowMember(t *testing.T) {
	c := newCrowd(t, "unix", 20)
	text := bytes.Repeat([]byte("x"), 8<<10)
	sent := 0
	for c.conns[1].Queued() < 1<<20 {
		m := buffered.NewShared(text)
		c.loop.Post(func() { c.tell(m) })
		_, err := c.loop.Step(0)
		require.NoError(t, err)
		m.Release()
		sent += len(text)
		slow := c.fds[0]
		c.fds = c.fds[1:]
		c.drain(t, len(text))
		c.fds = append([]int{slow}, c.fds...)
	}
	require.Less(t, c.conns[1].Queued(), sent, "what the kernel took is not queued")
	for i, conn := range c.conns {
		if i != 1 { // its peer is the one that is not read
			require.Zero(t, conn.Queued())
		}
	}
	got := 0
	for got < sent {
		n, err := syscall.Read(c.fds[0], c.buf)
		require.NoError(t, err)
		require.Positive(t, n)
		got += n
		_, err = c.loop.Step(0)
		require.NoError(t, err)
	}
	require.Zero(t, c.conns[1].Queued())
}

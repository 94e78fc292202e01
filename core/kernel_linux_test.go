package core_test

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/core"
)

// interrupter returns a func that sends a signal to the thread that calls interrupter.
func interrupter() func() error {
	pid, tid := unix.Getpid(), unix.Gettid()
	return func() error { return unix.Tgkill(pid, tid, syscall.SIGUSR1) }
}

// widenPipe makes room for n bytes in a pipe, if it can.
func widenPipe(f *os.File, n int) {
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, n) })
	}
}

// checkKeepAliveTimes: what package net sets.
func checkKeepAliveTimes(t *testing.T, fd int) {
	t.Helper()
	for option, want := range map[int]int{unix.TCP_KEEPIDLE: 15, unix.TCP_KEEPINTVL: 15, unix.TCP_KEEPCNT: 9} {
		got, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, option)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// TestKernelBacklog: without a number, as many clients wait as the system allows; the kernel tells the bound of a listening
// socket in the field for selective acknowledgements.
func TestKernelBacklog(t *testing.T) {
	most, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	require.NoError(t, err)
	k := newKernel(t, "")
	for _, backlog := range []int{0, 7} {
		c := core.ListenConfig{Backlog: backlog}
		ln, err := c.Listen(k.loop, "tcp4", "127.0.0.1:0", k.unexpected("listener"))
		require.NoError(t, err)
		info, err := unix.GetsockoptTCPInfo(ln.Core().Socket().FD(), unix.IPPROTO_TCP, unix.TCP_INFO)
		require.NoError(t, err)
		want := strconv.Itoa(backlog)
		if backlog == 0 {
			want = strings.TrimSpace(string(most))
		}
		require.Equal(t, want, strconv.Itoa(int(info.Sacked)))
	}
}

//go:build !race && (darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package http1_test

import (
	"log/slog"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

func heap() int64 {
	runtime.GC()
	runtime.GC() // pools give up what they keep in two steps
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What a connection costs that waits for its next request.
func TestMemoryPerIdle(t *testing.T) {
	const conns = 300
	l, err := core.NewLoop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer l.Close()
	srv := handle(hello)
	fds := make([]int, 0, 2*conns)
	connect := func() {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		require.NoError(t, err)
		f := os.NewFile(uintptr(pair[0]), "pair")
		s, err := core.FileSocket(f)
		require.NoError(t, err)
		f.Close()
		_, err = srv.Serve(l, s)
		require.NoError(t, err)
		fds = append(fds, pair[1])
	}
	answer := make([]byte, 1000)
	ask := func(fd int) {
		_, err := syscall.Write(fd, []byte(getRequest))
		require.NoError(t, err)
		_, err = l.Step(0)
		require.NoError(t, err)
		n, err := syscall.Read(fd, answer)
		require.NoError(t, err)
		require.Contains(t, string(answer[:n]), "200 OK")
	}
	connect()
	ask(fds[0])
	before := heap()
	for range conns {
		connect()
	}
	fresh := (heap() - before) / conns
	for _, fd := range fds[1:] {
		ask(fd)
	}
	spoke := (heap() - before) / conns
	t.Logf("%d bytes fresh, %d after a request", fresh, spoke)
	require.Less(t, fresh, int64(800))
	require.Less(t, spoke, fresh+200)
	for _, fd := range fds {
		syscall.Close(fd)
	}
	runtime.KeepAlive(srv)
}

// A body that is streamed, or dropped, holds little of it.
func TestMemoryOfALargeBody(t *testing.T) {
	const piece = 32 << 10
	total := 20 << 20
	for _, wanted := range []bool{true, false} {
		var got int64
		srv := handle(func(w *http1.ResponseWriter, r *http1.Request) error {
			r.SetBodyLimit(-1)
			if !wanted {
				return nil
			}
			return r.OnBody(func(p []byte, _ bool) error { got += int64(len(p)); return nil })
		})
		srv.Limits.Drain = -1
		s := newScene(t, srv, sim.Config{Untraced: true})
		text := "8000\r\n" + strings.Repeat("x", piece) + "\r\n"
		s.p.Say("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + text)
		s.Settle()
		before, most := heap(), int64(0)
		for n := piece; n < total; n += piece {
			s.p.Say(text)
			s.Settle()
			if n%(total/4) == 0 {
				most = max(most, heap()-before)
			}
		}
		require.Less(t, most, int64(256<<10))
		s.p.Say("0\r\n\r\n")
		require.Contains(t, s.p.Read(), "200 OK")
		if wanted {
			require.EqualValues(t, total, got)
		}
	}
}

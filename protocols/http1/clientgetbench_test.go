//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package http1_test

import (
	"context"
	"io"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/http1"
)

// BenchmarkGet is a GET of a few octets over loopback, 32 under way at a time, by Client and by net/http's, from the same
// Server in this process. cpu-us/op is the CPU time of all of it.
func BenchmarkGet(b *testing.B) {
	const atATime = 32
	loop, err := core.NewLoop(core.Options{})
	require.NoError(b, err)
	srv := &http1.Server{Handler: http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		_, err := w.WriteString("Hello, World!\n")
		return err
	})}
	l, err := srv.Listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- loop.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
		_ = loop.Close()
	}()
	target := "http://" + l.Addr().String() + "/"

	b.Run("Client", func(b *testing.B) {
		loop, err := core.NewLoop(core.Options{})
		require.NoError(b, err)
		defer loop.Close()
		cl := &http1.Client{Loop: loop, Limits: http1.ClientLimits{ConnsPerHost: atATime, IdlePerHost: atATime}}
		out := &http1.Outgoing{URL: exampleURL(target)}
		left := b.N
		var h *again
		h = &again{next: func() {
			if left--; left < 0 {
				if cl.Stats().Active == 0 {
					loop.Stop()
				}
				return
			}
			if _, err := cl.Do(out, h); err != nil {
				panic(err)
			}
		}}
		loop.AfterFunc(0, func() {
			for range atATime {
				h.next()
			}
		})
		measured(b, func() { err = loop.Run(context.Background()) })
		require.NoError(b, err)
		require.NoError(b, h.err)
	})
	b.Run("net/http", func(b *testing.B) {
		c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atATime, DisableCompression: true}}
		defer c.CloseIdleConnections()
		measured(b, func() {
			var all sync.WaitGroup
			for i := range atATime {
				all.Go(func() {
					for range (b.N + i) / atATime {
						r, err := c.Get(target)
						if err != nil {
							panic(err)
						}
						_, _ = io.Copy(io.Discard, r.Body)
						_ = r.Body.Close()
					}
				})
			}
			all.Wait()
		})
	})
}

// again is a handler that begins the next call.
type again struct {
	next func()
	done int
	err  error
}

func (a *again) HandleResponse(*http1.Call, *http1.Response) error { return nil }
func (a *again) HandleBody(*http1.Call, []byte) error              { return nil }

func (a *again) HandleDone(_ *http1.Call, err error) {
	if a.done++; err != nil {
		a.err = err
	}
	if a.next != nil {
		a.next()
	}
}

func measured(b *testing.B, f func()) {
	cpu := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	f()
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/1e3/float64(b.N), "cpu-us/op")
}

// A GET on a connection that is kept costs the Call and the two strings of where it goes, and nothing besides.
func TestClientGetAllocations(t *testing.T) {
	if underRace {
		t.Skip("the race detector allocates, too")
	}
	loop, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	defer loop.Close()
	l, err := (&http1.Server{Handler: http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		_, err := w.WriteString("Hello, World!\n")
		return err
	})}).Listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cl, h := &http1.Client{Loop: loop}, new(again)
	out := &http1.Outgoing{URL: exampleURL("http://" + l.Addr().String() + "/")}
	get := func() {
		before := h.done
		if _, err := cl.Do(out, h); err != nil {
			t.Fatal(err)
		}
		for h.done == before {
			if _, err := loop.Step(-1); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 10 {
		get()
	}
	require.LessOrEqual(t, testing.AllocsPerRun(200, get), 4.0)
	require.NoError(t, h.err)
	require.Equal(t, uint64(1), cl.Stats().Dialled)
}

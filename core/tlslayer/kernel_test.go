//go:build unix

package tlslayer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
)

// running is a loop on real sockets.
func running(t *testing.T, start func(*core.Loop)) (stop func()) {
	l, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	start(l)
	done := make(chan error)
	go func() { done <- l.Run(context.Background()) }()
	return sync.OnceFunc(func() {
		l.Shutdown(10 * time.Second)
		require.NoError(t, <-done)
		require.NoError(t, l.Close())
	})
}

// Go's own client and server at the other end, on tcp and unix, with the handshake on the loop and off it.
func TestGoClient(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for name, version := range versions {
			for _, off := range []bool{false, true} {
				t.Run(network+"/"+name, func(t *testing.T) {
					server, client := configs(version)
					addr := "127.0.0.1:0"
					if network == "unix" {
						addr = filepath.Join(t.TempDir(), "s")
					}
					stop := running(t, func(l *core.Loop) {
						lc := core.ListenConfig{Wrap: func(s core.Socket) (core.Layered, error) {
							l := tlslayer.Server(s, server)
							l.SetOffLoop(off)
							return l, nil
						}}
						ln, err := lc.Listen(l, network, addr, chat.Accept(func(*chat.Conn) chat.Handler {
							return chat.Data(func(c *chat.Conn, p []byte) error { return c.Push(p) })
						}))
						require.NoError(t, err)
						addr = ln.Addr().String()
					})
					defer stop()
					var clients sync.WaitGroup
					for range 8 {
						clients.Go(func() {
							c, err := tls.Dial(network, addr, client)
							if err != nil {
								t.Error(err)
								return
							}
							exchange(t, c, 300_000)
						})
					}
					clients.Wait()
					stop()
				})
			}
		}
	}
}

// exchange has random bytes echoed, and ends the stream both ways.
func exchange(t *testing.T, c *tls.Conn, n int) {
	defer c.Close()
	text := make([]byte, n)
	_, _ = rand.Read(text)
	var sending sync.WaitGroup
	sending.Go(func() {
		for p := text; len(p) > 0; {
			m := min(len(p), 1+len(p)/3)
			if _, err := c.Write(p[:m]); err != nil {
				t.Error(err)
				return
			}
			p = p[m:]
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(text, got) {
		t.Errorf("got %d of %d bytes: %v", len(got), n, err)
	}
	sending.Wait()
}

func TestGoServer(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			server, client := configs(version)
			ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
			require.NoError(t, err)
			served := make(chan error)
			go func() {
				c, err := ln.Accept()
				if err == nil {
					_, err = io.Copy(c, c)
					_ = c.Close()
				}
				served <- err
			}()
			text := make([]byte, 500_000)
			_, _ = rand.Read(text)
			h := &collect{closed: make(chan error, 1)}
			stop := running(t, func(l *core.Loop) {
				_, err := chat.DialTLS(l, "tcp", ln.Addr().String(), client, func(c *chat.Conn) chat.Handler {
					require.NoError(t, c.PushProducer(buffered.Bytes(text, 10_000)))
					require.NoError(t, c.CloseWrite())
					return h
				})
				require.NoError(t, err)
			})
			require.NoError(t, <-served)
			require.Equal(t, io.EOF, <-h.closed)
			stop()
			require.True(t, bytes.Equal(text, h.got), "%d bytes", len(h.got))
			require.NoError(t, ln.Close())
		})
	}
}

type collect struct {
	got    []byte
	closed chan error
}

func (h *collect) CollectIncomingData(_ *chat.Conn, p []byte) error {
	h.got = append(h.got, p...)
	return nil
}
func (h *collect) FoundTerminator(*chat.Conn) error      { return nil }
func (h *collect) HandleClose(_ *chat.Conn, cause error) { h.closed <- cause }

// A channel that closes while a worker has its handshake: the work ends, and with it everything.
func TestCloseWhileOffLoop(t *testing.T) {
	server, client := configs(tls.VersionTLS13)
	before := runtime.NumGoroutine()
	cfg := server.Clone()
	begun, goOn := make(chan struct{}), make(chan struct{})
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		close(begun)
		<-goOn
		return nil, nil
	}
	var loop *core.Loop
	var addr string
	conns := make(chan *chat.Conn, 1)
	stop := running(t, func(l *core.Loop) {
		loop = l
		lc := core.ListenConfig{Wrap: func(s core.Socket) (core.Layered, error) {
			layer := tlslayer.Server(s, cfg)
			layer.SetOffLoop(true)
			return layer, nil
		}}
		ln, err := lc.Listen(l, "tcp", "127.0.0.1:0", chat.Accept(func(c *chat.Conn) chat.Handler {
			conns <- c
			return chat.Data(func(*chat.Conn, []byte) error { return nil })
		}))
		require.NoError(t, err)
		addr = ln.Addr().String()
	})
	shaken := make(chan error)
	go func() {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			err = tls.Client(c, client).Handshake()
			_ = c.Close()
		}
		shaken <- err
	}()
	<-begun
	closed := make(chan struct{})
	loop.Post(func() {
		_ = (<-conns).Close()
		close(closed)
	})
	<-closed
	close(goOn)
	require.Error(t, <-shaken)
	stop()
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 5*time.Second, time.Millisecond, "this func is one")
}

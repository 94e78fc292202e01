package proxyproto_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/proxyproto"
)

// kernel serves on the machine's sockets until the test is over.
func kernel(t *testing.T, backend, network, address string, newHandler func(*chat.Conn) chat.Handler) net.Addr {
	t.Helper()
	loop, err := core.NewLoop(core.Options{Backend: backend, Strict: true})
	require.NoError(t, err)
	ln, err := new(core.ListenConfig).Listen(loop, network, address, proxyproto.Accept(newHandler, proxyproto.Options{From: proxyproto.Anybody}))
	require.NoError(t, err)
	addr := ln.Addr()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.NoError(t, loop.Close())
	})
	return addr
}

// A header, a greeting, and a file by sendfile where there is one, on each back end.
func TestKernel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	newHandler := func(c *chat.Conn) chat.Handler {
		_ = c.Printf("220 %v\r\n", c.RemoteAddr())
		return chat.Lines(func(c *chat.Conn, line []byte) error {
			f, err := os.Open(file)
			if err != nil {
				return err
			}
			if err := c.PushProducer(buffered.File(f, 0, int64(len(content)))); err != nil {
				return err
			}
			c.CloseWhenDone()
			return nil
		})
	}
	for _, backend := range core.Backends() {
		for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "socket")} {
			t.Run(backend+" "+network, func(t *testing.T) {
				addr := kernel(t, backend, network, address, newHandler)
				conn, err := net.Dial(network, addr.String())
				require.NoError(t, err)
				defer conn.Close()
				require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
				for i := range len(v1Line) {
					_, err := io.WriteString(conn, v1Line[i:i+1])
					require.NoError(t, err)
				}
				want := "220 198.51.100.77:56324\r\n"
				got := make([]byte, len(want))
				_, err = io.ReadFull(conn, got)
				require.NoError(t, err)
				require.Equal(t, want, string(got))
				_, err = io.WriteString(conn, "go\n")
				require.NoError(t, err)
				all, err := io.ReadAll(conn)
				require.NoError(t, err)
				require.True(t, bytes.Equal(content, all), "%d of %d bytes", len(all), len(content))

				conn, err = net.Dial(network, addr.String())
				require.NoError(t, err)
				defer conn.Close()
				require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
				_, err = io.WriteString(conn, "EHLO client.example\r\n")
				require.NoError(t, err)
				all, _ = io.ReadAll(conn) // the end, or a reset
				require.Empty(t, all)
			})
		}
	}
}

// curl says where it comes from.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	switch {
	case len(core.Backends()) == 0:
		t.Skip("no back end")
	case err != nil && os.Getenv("PARLEY_REQUIRE_CLIENTS") != "":
		t.Fatal("curl is not installed")
	case err != nil:
		t.Skip("curl is not installed")
	}
	addr := kernel(t, "", "tcp", "127.0.0.1:0", func(c *chat.Conn) chat.Handler {
		return chat.Lines(func(c *chat.Conn, line []byte) error {
			if len(line) > 0 {
				return nil
			}
			layer := c.Core().Socket().(*proxyproto.Layer)
			same := layer.RemoteAddr().String() == layer.Inner().RemoteAddr().String() // no proxy stands between
			body := "unlike"
			if h, ok := proxyproto.From(layer); ok && h.Version == 1 && h.Network == "tcp" && same {
				body = "alike"
			}
			err := c.Printf("HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			c.CloseWhenDone()
			return err
		})
	})
	url := "http://" + addr.String() + "/"
	out, err := exec.Command(curl, "-sS", "--noproxy", "*", "--max-time", "30", "--haproxy-protocol", url).CombinedOutput()
	if err != nil && strings.Contains(string(out), "haproxy-protocol") {
		t.Skipf("curl is too old: %s", out)
	}
	require.NoError(t, err, string(out))
	require.Equal(t, "alike", string(out))
	require.Error(t, exec.Command(curl, "-sS", "--noproxy", "*", "--max-time", "30", url).Run(), "without a header")
}

//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package http1_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/protocols/http1"
)

// onKernel runs a server on the kernel's sockets while the client is at work.
func onKernel(t *testing.T, srv *http1.Server, secure bool, client func(addr string)) {
	loop, err := core.NewLoop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	listen := srv.Listen
	if secure {
		listen = srv.ListenTLS
	}
	l, err := listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer cancel()
		client(l.Addr().(*net.TCPAddr).String())
	}()
	require.ErrorIs(t, loop.Run(ctx), context.Canceled)
	<-ended
	require.NoError(t, loop.Close())
	require.Zero(t, srv.Open())
}

// Go's own client, in the clear and over TLS: bodies both ways, files by sendfile, connections that are used again.
func TestNetHTTPClient(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, text, 0o600))
	cert, err := tlslayer.SelfSigned("127.0.0.1")
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	for _, secure := range []bool{false, true} {
		srv := &http1.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
		srv.Handler = http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
			if secure != (r.TLS() != nil) || secure && r.TLS().NegotiatedProtocol != "http/1.1" {
				return &http1.Error{Status: 500, Text: "TLS"}
			}
			switch string(r.Path()) {
			case "/file":
				f, err := os.Open(name)
				if err != nil {
					return err
				}
				return w.SendFile(f, 0, int64(len(text)))
			case "/stream":
				return r.OnBody(func(p []byte, last bool) error {
					_, err := w.Write(p)
					return err
				})
			}
			return tell(w, r)
		})
		onKernel(t, srv, secure, func(addr string) {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, NextProtos: []string{"h2", "http/1.1"}}}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}
			url := "http://" + addr
			if secure {
				url = "https://" + addr
			}
			body := func(resp *http.Response, err error) string {
				if err != nil {
					return err.Error()
				}
				defer resp.Body.Close()
				text, err := io.ReadAll(resp.Body)
				return fmt.Sprint(resp.StatusCode, " ", resp.ContentLength, " ", string(text), err)
			}
			for range 3 {
				want := fmt.Sprintf("200 %d GET /x host=%s body=\n<nil>", len("GET /x host= body=\n")+len(addr), addr)
				if got := body(client.Get(url + "/x")); got != want {
					t.Errorf("%q instead of %q", got, want)
				}
				if got := body(client.Get(url + "/file")); got != fmt.Sprintf("200 %d %s<nil>", len(text), text) {
					t.Errorf("file: %d octets: %.100q", len(got), got)
				}
				// A body without a length goes out in chunks, and so does what comes back.
				if got := body(client.Post(url+"/stream", "", io.MultiReader(bytes.NewReader(text)))); got != fmt.Sprintf("200 -1 %s<nil>", text) {
					t.Errorf("stream: %d octets: %.100q", len(got), got)
				}
			}
			req, _ := http.NewRequest("PUT", url+"/expected", strings.NewReader("hello"))
			req.Header.Set("Expect", "100-continue")
			if got := body(client.Do(req)); !strings.Contains(got, "body=hello") {
				t.Errorf("%q", got)
			}
		})
		require.EqualValues(t, 1, srv.Counters().Conns, "the connection is used again")
	}
}

// More connections than there may be get 503.
func TestConnsLimit(t *testing.T) {
	for _, limits := range []http1.Limits{{Conns: 1}, {ConnsPerAddr: 1}} {
		srv := &http1.Server{Handler: http1.HandlerFunc(tell), Limits: limits}
		onKernel(t, srv, false, func(addr string) {
			first, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer first.Close()
			_, _ = io.WriteString(first, getRequest)
			if _, err := first.Read(make([]byte, 1)); err != nil { // it is accepted
				t.Error(err)
			}
			second, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer second.Close()
			text, err := io.ReadAll(second)
			if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 503 Service Unavailable\r\n") || !strings.HasSuffix(string(text), "\r\n\r\nToo many connections\n") {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}

// Errors of what is configured.
func TestConfiguration(t *testing.T) {
	loop, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	defer loop.Close()
	_, err = new(http1.Server).Listen(loop, "tcp", "127.0.0.1:0")
	require.ErrorContains(t, err, "Handler")
	_, err = handle(tell).ListenTLS(loop, "tcp", "127.0.0.1:0")
	require.ErrorContains(t, err, "TLSConfig")
	_, err = (&http1.Server{Handler: http1.HandlerFunc(tell), TLSConfig: new(tls.Config)}).Listen(loop, "tcp", "127.0.0.1:0")
	require.Error(t, err)
}

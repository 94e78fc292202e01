//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package http1

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
)

// clientLoop is a Client on a loop of the operating system's, which runs on a goroutine of its own.
type clientLoop struct {
	t    testing.TB
	loop *core.Loop
	cl   *Client
}

func newClientLoop(t testing.TB, cl *Client) *clientLoop {
	loop, err := core.NewLoop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	cl.Loop = loop
	ctx, cancel := context.WithCancel(context.Background())
	loop.AfterFunc(time.Hour, func() {}) // it runs while there is something
	done := make(chan error)
	go func() { done <- loop.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = loop.Close()
	})
	return &clientLoop{t, loop, cl}
}

// result is what Collect was told.
type result struct {
	status   int
	header   http.Header
	trailers http.Header
	body     []byte
	tls      *tls.ConnectionState
	err      error
}

// fetch makes a request and waits for its end.
func (l *clientLoop) fetch(out Outgoing, target string) result {
	l.t.Helper()
	u, err := url.Parse(target)
	require.NoError(l.t, err)
	out.URL = u
	results := make(chan result, 1)
	require.True(l.t, l.loop.Post(func() {
		_, err := l.cl.Do(&out, Collect(-1, func(r *Response, body []byte, err error) {
			res := result{body: bytes.Clone(body), err: err}
			if r != nil {
				res.status, res.header, res.tls = r.Status(), r.Header(), r.TLS()
				if f := r.Trailers(); f != nil && err == nil {
					res.trailers = f.Header()
				}
			}
			results <- res
		}))
		if err != nil {
			results <- result{err: err}
		}
	}))
	select {
	case r := <-results:
		return r
	case <-time.After(30 * time.Second):
		l.t.Fatal("no end")
		panic("")
	}
}

func (l *clientLoop) stats() (s ClientStats) {
	done := make(chan struct{})
	l.loop.Post(func() { s = l.cl.Stats(); close(done) })
	<-done
	return s
}

// testSite is a server of net/http.
func testSite() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") })
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) {
		for i := range 1000 {
			_, _ = fmt.Fprintf(w, "%1000d", i)
		}
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Length", strconv.FormatInt(r.ContentLength, 10))
		w.Header().Set("X-Method", r.Method)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		w.Header().Set("X-Trailer", r.Trailer.Get("Sum"))
		_, _ = w.Write(body)
	})
	mux.HandleFunc("/duplex", func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		buf := make([]byte, 10_000)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			_ = c.Flush()
			if err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/trailers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		_, _ = io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		w.Header().Set("Sum", "42")
	})
	mux.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
		panic(http.ErrAbortHandler)
	})
	mux.HandleFunc("/short", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "20000")
		_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "x")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "hinted")
	})
	mux.HandleFunc("/to/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		_, _ = io.Copy(io.Discard, r.Body)
		http.Redirect(w, r, "/echo", code)
	})
	mux.HandleFunc("/close", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, "closing")
	})
	return mux
}

// Against the server of net/http, in the clear and by TLS.
func TestClientNetHTTP(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			site := httptest.NewUnstartedServer(testSite())
			site.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
			cl := &Client{Redirects: 3}
			if secure {
				site.StartTLS()
				roots := x509.NewCertPool()
				roots.AddCert(site.Certificate())
				cl.TLSConfig = &tls.Config{RootCAs: roots, ServerName: "example.com"}
			} else {
				site.Start()
			}
			defer site.Close()
			l := newClientLoop(t, cl)
			get := func(path string) result {
				t.Helper()
				r := l.fetch(Outgoing{}, site.URL+path)
				require.NoError(t, r.err)
				return r
			}
			r := get("/hello")
			require.Equal(t, "hello", string(r.body))
			require.Equal(t, secure, r.tls != nil)
			if secure {
				require.Equal(t, "http/1.1", r.tls.NegotiatedProtocol)
			}
			require.Len(t, get("/large").body, 1_000_000)
			require.Empty(t, l.fetch(Outgoing{Method: "HEAD"}, site.URL+"/large").body)
			require.Equal(t, 404, get("/nothing").status)
			require.Equal(t, http.Header{"Sum": {"42"}}, get("/trailers").trailers)
			require.Equal(t, "hinted", string(get("/hints").body))
			require.Equal(t, uint64(1), l.stats().Dialled)
			require.Equal(t, "closing", string(get("/close").body))

			text := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
			for name, out := range map[string]Outgoing{
				"memory":  {Body: bytes.NewReader(text)},
				"chunked": {Body: io.MultiReader(bytes.NewReader(text))},
				"length":  {Body: io.MultiReader(bytes.NewReader(text)), Length: int64(len(text))},
				"file":    {Body: file(t, string(text))},
				"expect":  {Body: bytes.NewReader(text), Expect: true},
				"trailer": {Body: bytes.NewReader(text), Trailer: http.Header{"Sum": {"7"}}},
			} {
				for _, path := range []string{"/echo", "/duplex", "/to/307"} {
					out.Method = "POST"
					r := l.fetch(out, site.URL+path)
					if path == "/to/307" && (name == "chunked" || name == "length") {
						require.ErrorIs(t, r.err, ErrReplay)
						continue
					}
					require.NoError(t, r.err, "%s %s", name, path)
					require.Equal(t, sha256.Sum256(text), sha256.Sum256(r.body), "%s %s", name, path)
					if path != "/duplex" {
						require.Equal(t, name == "chunked" || name == "trailer", r.header.Get("X-Length") == "-1")
						require.Equal(t, name == "trailer", r.header.Get("X-Trailer") == "7")
					}
					if s, ok := out.Body.(io.Seeker); ok {
						_, _ = s.Seek(0, io.SeekStart)
					} else {
						out.Body = io.MultiReader(bytes.NewReader(text))
					}
				}
			}
			for _, code := range []int{301, 302, 303} {
				r := l.fetch(Outgoing{Method: "POST", Body: strings.NewReader("x")}, site.URL+"/to/"+strconv.Itoa(code))
				require.NoError(t, r.err)
				require.Equal(t, "GET", r.header.Get("X-Method"))
				require.Empty(t, r.body)
			}
			for _, path := range []string{"/cut", "/short"} {
				r := l.fetch(Outgoing{}, site.URL+path)
				require.ErrorIs(t, r.err, io.ErrUnexpectedEOF, path)
				require.Equal(t, 200, r.status)
			}
			// A server that answers and goes, while much is on its way to it: the answer is heard.
			r = l.fetch(Outgoing{Method: "POST", Body: bytes.NewReader(bytes.Repeat(text, 64))}, site.URL+"/early")
			require.NoError(t, r.err)
			require.Equal(t, 413, r.status)
			require.Zero(t, l.stats().Active)
		})
	}
}

// A certificate is looked at, with the name of the URL; a stream of TLS that is cut is no end of a body.
func TestClientTLS(t *testing.T) {
	cert, err := tlslayer.SelfSigned("127.0.0.1", "localhost")
	require.NoError(t, err)
	var cut atomic.Bool
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer raw.Close()
				c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}})
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nhello")
				if !cut.Load() {
					_ = c.Close()
				}
			}()
		}
	}()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	_, port, _ := net.SplitHostPort(ln.Addr().String())

	r := newClientLoop(t, new(Client)).fetch(Outgoing{}, "https://127.0.0.1:"+port+"/")
	require.ErrorIs(t, r.err, tlslayer.ErrHandshake)
	l := newClientLoop(t, &Client{TLSConfig: &tls.Config{RootCAs: roots}})
	for _, host := range []string{"127.0.0.1", "localhost"} {
		r = l.fetch(Outgoing{}, "https://"+host+":"+port+"/")
		require.NoError(t, r.err)
		require.Equal(t, "hello", string(r.body))
		require.Equal(t, "http/1.1", r.tls.NegotiatedProtocol)
	}
	cut.Store(true)
	r = l.fetch(Outgoing{}, "https://127.0.0.1:"+port+"/")
	require.ErrorIs(t, r.err, io.ErrUnexpectedEOF)
	require.Equal(t, "hello", string(r.body))

	other := newClientLoop(t, &Client{TLSConfig: &tls.Config{RootCAs: roots, ServerName: "www.example.com"}})
	require.ErrorIs(t, other.fetch(Outgoing{}, "https://127.0.0.1:"+port+"/").err, tlslayer.ErrHandshake)
	require.ErrorIs(t, l.fetch(Outgoing{}, "http://127.0.0.1:"+port+"/").err, io.ErrUnexpectedEOF)

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	slow := newClientLoop(t, &Client{Timeouts: ClientTimeouts{TLS: 50 * time.Millisecond}})
	r = slow.fetch(Outgoing{}, "https://"+silent.Addr().String()+"/")
	require.ErrorIs(t, r.err, core.ErrTimeout)
	require.ErrorContains(t, r.err, "handshake")
}

// tunnelProxy is a proxy that takes CONNECT alone. It counts tunnels.
func tunnelProxy(t *testing.T, count *atomic.Int32) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth(); user != "tim" || password != "secret" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		far, err := net.Dial("tcp", r.Host)
		if r.Method != http.MethodConnect || err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		count.Add(1)
		near, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); _ = far.(*net.TCPConn).CloseWrite() }()
		_, _ = io.Copy(near, far)
		_ = near.Close()
		_ = far.Close()
	})
}

// https by way of a proxy, which may be asked by TLS itself.
func TestClientTunnel(t *testing.T) {
	site := httptest.NewTLSServer(testSite())
	defer site.Close()
	for _, secure := range []bool{false, true} {
		var count atomic.Int32
		proxy := httptest.NewUnstartedServer(tunnelProxy(t, &count))
		roots := x509.NewCertPool()
		roots.AddCert(site.Certificate())
		if secure {
			proxy.StartTLS()
			roots.AddCert(proxy.Certificate())
		} else {
			proxy.Start()
		}
		user := mustURL(t, proxy.URL)
		user.User = url.UserPassword("tim", "secret")
		l := newClientLoop(t, &Client{Proxy: func(*url.URL) (*url.URL, error) { return user, nil }, TLSConfig: &tls.Config{RootCAs: roots}})
		for range 3 {
			r := l.fetch(Outgoing{Method: "POST", Body: strings.NewReader("text")}, site.URL+"/echo")
			require.NoError(t, r.err)
			require.Equal(t, "text", string(r.body))
			require.NotNil(t, r.tls)
		}
		require.Len(t, l.fetch(Outgoing{}, site.URL+"/large").body, 1_000_000)
		require.EqualValues(t, 1, count.Load())

		nobody := mustURL(t, proxy.URL)
		l = newClientLoop(t, &Client{Proxy: func(*url.URL) (*url.URL, error) { return nobody, nil }, TLSConfig: &tls.Config{RootCAs: roots}})
		var refused *ConnectError
		require.ErrorAs(t, l.fetch(Outgoing{}, site.URL+"/echo").err, &refused)
		require.Equal(t, 407, refused.Status)
		proxy.Close()
	}
}

// Many calls at a time, on few connections; no goroutine is left behind.
func TestClientMany(t *testing.T) {
	before := runtime.NumGoroutine()
	site := httptest.NewServer(testSite())
	loop, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	cl := &Client{Loop: loop, Limits: ClientLimits{ConnsPerHost: 5}}
	got := 0
	for i := range 300 {
		text := strings.Repeat(strconv.Itoa(i), 100)
		u := mustURL(t, site.URL+"/echo")
		var body io.Reader = strings.NewReader(text)
		if i%3 == 0 {
			body = io.MultiReader(body) // read on another goroutine
		}
		_, err := cl.Do(&Outgoing{Method: "POST", URL: u, Body: body}, Collect(0, func(_ *Response, body []byte, err error) {
			require.NoError(t, err)
			require.Equal(t, text, string(body))
			got++
		}))
		require.NoError(t, err)
	}
	cl.Shutdown(nil)
	require.NoError(t, loop.Run(context.Background())) // ends by itself
	require.Equal(t, 300, got)
	s := cl.Stats()
	require.LessOrEqual(t, s.Dialled, uint64(5)+s.Retried)
	require.Zero(t, s.Open)
	require.NoError(t, loop.Close())
	site.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before)
}

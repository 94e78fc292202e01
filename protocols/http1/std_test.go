//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package http1_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/protocols/http1"
)

const patience = 20 * time.Second

// stdServer is a server on the kernel's sockets: what runs behind Std has goroutines of its own.
type stdServer struct {
	t    testing.TB
	addr string
	loop *core.Loop
	std  *http1.StdHandler
	log  *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func startStd(t testing.TB, h http.Handler, change ...func(*http1.Server, *http1.StdHandler)) *stdServer {
	t.Helper()
	return startStdWith(t, core.Options{}, h, change...)
}

func startStdWith(t testing.TB, o core.Options, h http.Handler, change ...func(*http1.Server, *http1.StdHandler)) *stdServer {
	t.Helper()
	s := &stdServer{t: t, std: http1.Std(h), log: new(syncBuffer)}
	o.Logger, o.SlowHandler = slog.New(slog.NewTextHandler(s.log, nil)), -1
	loop, err := core.NewLoop(o)
	require.NoError(t, err)
	s.loop = loop
	srv := &http1.Server{Handler: s.std}
	for _, f := range change {
		f(srv, s.std)
	}
	listen := srv.Listen
	if srv.TLSConfig != nil {
		listen = srv.ListenTLS
	}
	ln, err := listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.NoError(t, loop.Close())
		require.Eventually(t, func() bool { return s.std.Running() == 0 }, patience, time.Millisecond, "every handler returns")
	})
	return s
}

func dialRaw(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c.(*net.TCPConn)
}

// say sends a request and returns everything that comes back until the connection ends.
func say(t testing.TB, addr, request string) string {
	t.Helper()
	c := dialRaw(t, addr)
	_, err := io.WriteString(c, request)
	require.NoError(t, err)
	all, _ := io.ReadAll(c) // a reset is an end, too
	return string(all)
}

// lines are those of a head, sorted, without Date, and what comes behind.
func lines(answer string) (status string, fields []string, body string) {
	head, body, _ := strings.Cut(answer, "\r\n\r\n")
	all := strings.Split(head, "\r\n")
	for _, f := range all[1:] {
		if !strings.HasPrefix(f, "Date: ") {
			fields = append(fields, f)
		}
	}
	slices.Sort(fields)
	return all[0], fields, body
}

// What a handler does has the same effect as with net/http's own server.
func TestStdAsNetHTTP(t *testing.T) {
	get := "GET /p?q=1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
	post := func(fields, body string) string {
		return "POST /p HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + fields + "\r\n" + body
	}
	chunked := post("Transfer-Encoding: chunked\r\nTrailer: X-T, X-U\r\n", "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: t\r\n\r\n")
	sized := post("Content-Length: 5\r\n", "abcde")
	head := strings.Replace(get, "GET", "HEAD", 1)
	old := "GET /p HTTP/1.0\r\n\r\n"
	echo := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%q %v trailer %v", body, err, r.Trailer)
	}
	large := strings.Repeat(alphabet+"\n", 10_000)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-T")
		_, _ = io.Copy(w, r.Body)
		fmt.Fprint(w, r.Header.Get("X-Forwarded-For"), r.Trailer, large)
		w.Header().Set("X-T", "t")
	}))
	defer backend.Close()
	toBackend, err := url.Parse(backend.URL)
	require.NoError(t, err)
	for _, x := range []struct {
		name     string
		requests []string
		handler  http.HandlerFunc
	}{
		{"nothing", []string{get, head, old}, func(http.ResponseWriter, *http.Request) {}},
		{"short", []string{get, head, old}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>hello") }},
		{"WriteString", []string{get}, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }},
		{"binary", []string{get}, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte{0, 1, 2, 3}) }},
		{"no sniffing", []string{get}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			fmt.Fprint(w, "hello")
		}},
		{"encoded", []string{get}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			fmt.Fprint(w, "hello")
		}},
		{"large", []string{get, old}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, large) }},
		{"large, with its length", []string{get, head, old}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			fmt.Fprint(w, large)
		}},
		{"io.Copy", []string{get}, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, strings.NewReader(large)) }},
		{"more than its length", []string{get}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			_, _ = w.Write([]byte("abc"))
			_, err := w.Write([]byte("d"))
			if !errors.Is(err, http.ErrContentLength) {
				panic(err)
			}
		}},
		{"fields", []string{get}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Add("X-A", "1")
			w.Header().Add("X-A", "2")
			w.Header().Set("X-B", "line\r\nSet-Cookie: evil")
			w.Header()["not a token"] = []string{"x"}
			http.SetCookie(w, &http.Cookie{Name: "c", Value: "v"})
			w.WriteHeader(http.StatusCreated)
			w.Header().Set("X-Late", "x")
		}},
		{"late fields", []string{get}, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "x")
			w.Header().Set("X-Late", "x")
			w.WriteHeader(http.StatusTeapot)
		}},
		{"204", []string{get}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			if _, err := fmt.Fprint(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		}},
		{"304", []string{get}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Length", "10")
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		}},
		{"error", []string{get}, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }},
		{"redirect", []string{get}, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }},
		{"flush", []string{get, head}, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "one")
			w.(http.Flusher).Flush()
			fmt.Fprint(w, "two")
		}},
		{"flush first", []string{get}, func(w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				panic(err)
			}
			fmt.Fprint(w, "one")
		}},
		{"early hints", []string{get}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.Header().Set("X-B", "a\nb")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusProcessing)
			w.Header().Set("X-More", "x")
			fmt.Fprint(w, "x")
		}},
		{"trailers", []string{get}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-One, x-two, X-Three")
			w.Header().Set("X-One", "early")
			fmt.Fprint(w, "x")
			w.Header().Set("X-One", "1")
			w.Header().Set("X-Two", "2")
			w.Header().Set("X-Undeclared", "x")
		}},
		{"undeclared trailers", []string{get}, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Four", "4")
		}},
		{"body", []string{sized, chunked, post("", ""), post("Content-Length: 0\r\n", ""), get}, echo},
		{"expect", []string{
			post("Content-Length: 5\r\nExpect: 100-continue\r\n", "abcde"),
			strings.Replace(post("Content-Length: 5\r\nExpect: 100-continue\r\n", "abcde"), "HTTP/1.1", "HTTP/1.0", 1),
		}, echo},
		{"request", []string{get, chunked, old, "GET http://other:80/x%2fy?z HTTP/1.1\r\nHost: h\r\nConnection: close\r\nA: b\r\nA: c\r\n\r\n"},
			func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintln(w, r.Method, r.URL, r.URL.RawPath, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Header, r.ContentLength, r.TransferEncoding, r.Close,
					r.Host, r.Trailer, r.RequestURI, r.TLS, r.Body == http.NoBody)
				host, _, err := net.SplitHostPort(r.RemoteAddr)
				fmt.Fprintln(w, host, err, r.Context().Value(http.LocalAddrContextKey).(net.Addr).Network())
			}},
		{"body closed", []string{sized}, func(w http.ResponseWriter, r *http.Request) {
			_ = r.Body.Close()
			_, err := r.Body.Read(make([]byte, 10))
			fmt.Fprint(w, err)
		}},
		{"body not read", []string{sized, chunked}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") }},
		{"MaxBytesReader", []string{sized}, func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 3))
			fmt.Fprint(w, err)
		}},
		{"ParseForm", []string{post("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n", "a=b&c=d")},
			func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.FormValue("c"), r.Form) }},
		{"too short", []string{get}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "abc")
		}},
		{"ErrAbortHandler", []string{get}, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"closing", []string{strings.Replace(get, "Connection: close\r\n", "", 1)}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "close")
			fmt.Fprint(w, "x")
		}},
		{"ServeContent", []string{get, head, strings.Replace(get, "\r\n\r\n", "\r\nRange: bytes=3-5\r\n\r\n", 1)},
			func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "a.html", fileTime, strings.NewReader(large))
			}},
		{"mux", []string{get, strings.Replace(get, "/p", "/none", 1), strings.Replace(get, "/p", "/a/../p", 1), strings.Replace(sized, "/p", "/get", 1),
			strings.Replace(get, "/p", "/v/17", 1)},
			func() http.HandlerFunc {
				mux := http.NewServeMux()
				mux.HandleFunc("/p", echo)
				mux.HandleFunc("GET /get", echo)
				mux.HandleFunc("/v/{id}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.PathValue("id")) })
				return mux.ServeHTTP
			}()},
		{"ReverseProxy", []string{get, sized, chunked, old}, httputil.NewSingleHostReverseProxy(toBackend).ServeHTTP},
		{"TimeoutHandler", []string{get}, http.TimeoutHandler(http.HandlerFunc(echo), time.Minute, "").ServeHTTP},
	} {
		t.Run(x.name, func(t *testing.T) {
			theirs := httptest.NewUnstartedServer(x.handler)
			theirs.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
			theirs.Start()
			defer theirs.Close()
			ours := startStd(t, x.handler)
			for _, r := range x.requests {
				want, got := say(t, theirs.Listener.Addr().String(), r), say(t, ours.addr, r)
				if x.name == "early hints" && r == get {
					for range 2 {
						a, b, _ := strings.Cut(want, "\r\n\r\n")
						c, d, _ := strings.Cut(got, "\r\n\r\n")
						wantStatus, wantFields, _ := lines(a)
						gotStatus, gotFields, _ := lines(c)
						require.Equal(t, wantStatus, gotStatus)
						require.Equal(t, wantFields, gotFields)
						want, got = b, d
					}
				}
				if rest, ok := strings.CutPrefix(want, "HTTP/1.1 100 Continue\r\n\r\n"); ok {
					want = rest
					got, ok = strings.CutPrefix(got, "HTTP/1.1 100 Continue\r\n\r\n")
					require.True(t, ok)
				}
				wantStatus, wantFields, wantBody := lines(want)
				gotStatus, gotFields, gotBody := lines(got)
				if strings.Contains(r, "HTTP/1.0") {
					// The version is the server's (RFC 9110 section 6.2), and that it closes can be said.
					wantStatus = strings.Replace(wantStatus, "HTTP/1.0", "HTTP/1.1", 1)
					closes := func(f string) bool { return f == "Connection: close" }
					wantFields, gotFields = slices.DeleteFunc(wantFields, closes), slices.DeleteFunc(gotFields, closes)
				}
				require.Equal(t, wantStatus, gotStatus, r)
				require.Equal(t, wantFields, gotFields, r)
				if slices.Contains(wantFields, "Transfer-Encoding: chunked") {
					wantBody, gotBody = unchunk(t, want), unchunk(t, got)
				}
				require.Equal(t, wantBody, gotBody, r)
			}
		})
	}
}

// unchunk is the body of an answer, and its trailer fields.
func unchunk(t *testing.T, answer string) string {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(r.Body)
	return fmt.Sprint(string(body), err, r.Trailer)
}

// A body of any size goes both ways at a time, and none of it is kept.
func TestStdStreams(t *testing.T) {
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		n, err := io.Copy(w, r.Body)
		if err != nil || n != r.ContentLength && r.ContentLength >= 0 {
			panic(fmt.Sprint(n, err))
		}
	}), func(_ *http1.Server, h *http1.StdHandler) { h.BodyLimit = -1 })
	const size = 20 << 20
	block := []byte(strings.Repeat(alphabet, 1000))
	for _, length := range []int64{size, -1} {
		req, err := http.NewRequest("POST", "http://"+s.addr, io.LimitReader(repeated(block), size))
		require.NoError(t, err)
		req.ContentLength = length
		a, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		in := bufio.NewReader(a.Body)
		var n int64
		want := make([]byte, len(block))
		for {
			m, err := io.ReadFull(in, want)
			require.True(t, bytes.Equal(block[:m], want[:m]), n)
			n += int64(m)
			if err != nil {
				break
			}
		}
		require.EqualValues(t, size, n)
		require.NoError(t, a.Body.Close())
	}
	http.DefaultClient.CloseIdleConnections()
}

type repeatReader struct {
	block []byte
	at    int
}

func repeated(block []byte) io.Reader { return &repeatReader{block: block} }

func (e *repeatReader) Read(p []byte) (int, error) {
	n := copy(p, e.block[e.at:])
	e.at = (e.at + n) % len(e.block)
	return n, nil
}

// A handler waits while its client does not read, and a client while its handler does not.
func TestStdBackPressure(t *testing.T) {
	var mu sync.Mutex
	written := 0
	release := make(chan bool)
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			<-release
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
			return
		}
		block := make([]byte, 16<<10)
		for range 4096 { // 64 MiB
			n, err := w.Write(block)
			mu.Lock()
			written += n
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}), func(_ *http1.Server, h *http1.StdHandler) { h.BodyLimit = -1 })

	c := dialRaw(t, s.addr)
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	now := func() int {
		mu.Lock()
		defer mu.Unlock()
		return written
	}
	last, same := 0, 0
	require.Eventually(t, func() bool { // until it waits
		n := now()
		if same++; n != last || n == 0 {
			last, same = n, 0
		}
		return same > 50
	}, patience, time.Millisecond)
	require.Less(t, now(), 48<<20)
	require.Equal(t, 1, s.std.Running())
	n, err := io.Copy(io.Discard, io.LimitReader(c, 64<<20))
	require.NoError(t, err)
	require.EqualValues(t, 64<<20, n)
	require.Eventually(t, func() bool { return now() == 64<<20 }, patience, time.Millisecond)

	c = dialRaw(t, s.addr)
	const size = 64 << 20
	_, err = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", size)
	require.NoError(t, err)
	block := make([]byte, 64<<10)
	sent := 0
	for {
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
		n, err := c.Write(block)
		sent += n
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			break
		}
	}
	require.Less(t, sent, 48<<20)
	close(release)
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	for sent < size {
		n, err := c.Write(block[:min(len(block), size-sent)])
		require.NoError(t, err)
		sent += n
	}
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(all), fmt.Sprint(size, " <nil>")), string(all))
}

// A handler learns that its client is gone: by its context, its body, and its writes.
func TestStdClientGoes(t *testing.T) {
	results := make(chan error, 1)
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/context":
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			results <- r.Context().Err()
		case "/body":
			_, err := io.ReadAll(r.Body)
			results <- err
		case "/write":
			for {
				if _, err := w.Write(make([]byte, 10_000)); err != nil {
					results <- err
					return
				}
			}
		}
	}))
	for _, x := range []struct {
		request string
		want    error
	}{
		{"GET /context HTTP/1.1\r\nHost: a\r\n\r\n", context.Canceled},
		{"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", io.ErrUnexpectedEOF},
		{"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", io.ErrUnexpectedEOF},
		{"GET /write HTTP/1.1\r\nHost: a\r\n\r\n", nil},
	} {
		for _, rude := range []bool{false, true} {
			c := dialRaw(t, s.addr)
			_, err := io.WriteString(c, x.request)
			require.NoError(t, err)
			if x.want != io.ErrUnexpectedEOF {
				_, err = c.Read(make([]byte, 10))
				require.NoError(t, err)
			}
			if rude {
				require.NoError(t, c.SetLinger(0))
			}
			require.NoError(t, c.Close())
			select {
			case err := <-results:
				require.Error(t, err)
				if x.want != nil {
					require.ErrorIs(t, err, x.want, "%q", x.request)
				}
			case <-time.After(patience):
				t.Fatalf("%q: nothing", x.request)
			}
		}
	}
}

func TestStdDeadlines(t *testing.T) {
	results := make(chan error, 4)
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		switch r.URL.Path {
		case "/read":
			results <- c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := io.ReadAll(r.Body)
			results <- err
			results <- c.SetReadDeadline(time.Now().Add(-time.Second))
			_, err = r.Body.Read(make([]byte, 1))
			results <- err
			fmt.Fprint(w, "sorry")
		case "/write":
			results <- c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			var err error
			for err == nil {
				_, err = w.Write(make([]byte, 100_000))
			}
			results <- err
		case "/reset":
			results <- c.SetWriteDeadline(time.Now().Add(-time.Second))
			results <- c.SetWriteDeadline(time.Time{})
			fmt.Fprint(w, "fine")
		}
	}))
	c := dialRaw(t, s.addr)
	_, err := io.WriteString(c, "POST /read HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\nabc")
	require.NoError(t, err)
	require.NoError(t, <-results)
	require.ErrorIs(t, <-results, os.ErrDeadlineExceeded)
	require.NoError(t, <-results)
	require.ErrorIs(t, <-results, os.ErrDeadlineExceeded)
	a, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, "sorry", text(t, a))

	c = dialRaw(t, s.addr)
	_, err = io.WriteString(c, "GET /write HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, <-results)
	require.ErrorIs(t, <-results, os.ErrDeadlineExceeded)
	a, err = http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, a.Body)
	require.Error(t, err, "the response is cut off")

	require.Contains(t, say(t, s.addr, "GET /reset HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), "fine")
}

// Upgrades by hand, as the WebSocket libraries do it.
func TestStdHijack(t *testing.T) {
	results := make(chan error, 10)
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			results <- err
			return
		}
		defer c.Close()
		_, _, err = w.(http.Hijacker).Hijack()
		results <- err
		_, err = w.Write([]byte("x"))
		results <- err
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n%d buffered\n", buf.Reader.Buffered())
		_ = buf.Flush()
		_, _ = io.Copy(c, buf)
	}))
	c := dialRaw(t, s.addr)
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nahead")
	require.NoError(t, err)
	require.ErrorIs(t, <-results, http.ErrHijacked)
	require.ErrorIs(t, <-results, http.ErrHijacked)
	_, err = io.WriteString(c, " and more")
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Contains(t, string(all), "101 Switching Protocols")
	require.Regexp(t, "\r\n\r\n(0|5) buffered\nahead and more$", string(all))
}

func startTLS(t *testing.T, h http.HandlerFunc) (s *stdServer, dial func() *tls.Conn) {
	t.Helper()
	cert, err := tlslayer.SelfSigned("localhost")
	require.NoError(t, err)
	s = startStd(t, h, func(srv *http1.Server, _ *http1.StdHandler) {
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	})
	return s, func() *tls.Conn {
		return tls.Client(dialRaw(t, s.addr), &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{"http/1.1"}})
	}
}

func TestStdTLS(t *testing.T) {
	s, _ := startTLS(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.ServerName, " ", r.TLS.NegotiatedProtocol)
	})
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}}}
	defer client.CloseIdleConnections()
	a, err := client.Get("https://" + s.addr)
	require.NoError(t, err)
	require.Equal(t, "localhost http/1.1", text(t, a))
	require.NoError(t, a.Body.Close())
}

// TLS cannot be taken off a connection: it stays on the loop, and looks like any other to the handler.
func TestStdHijackTLS(t *testing.T) {
	results := make(chan error, 10)
	const size = 1 << 20
	_, dial := startTLS(t, func(w http.ResponseWriter, r *http.Request) {
		c, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			results <- err
			return
		}
		defer c.Close()
		_, err = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
		results <- err
		switch r.URL.Path {
		case "/echo":
			n, err := io.Copy(c, buf)
			if err == nil && n != size {
				err = io.ErrShortWrite
			}
			results <- err
			results <- c.(interface{ CloseWrite() error }).CloseWrite()
			_, err = c.Write([]byte("x"))
			results <- err
		case "/deadlines":
			results <- c.SetDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := c.Read(make([]byte, 10))
			results <- err
			for err = nil; err == nil; {
				_, err = c.Write(make([]byte, 1<<20))
			}
			results <- err
			results <- c.SetWriteDeadline(time.Now().Add(-time.Second))
			_, err = c.Write([]byte("x"))
			results <- err
			results <- c.SetDeadline(time.Time{})
			results <- c.Close()
			results <- c.Close()
			results <- c.SetReadDeadline(time.Time{})
			_, err = c.Read(make([]byte, 10))
			results <- err
		case "/gone":
			_, err := c.Read(make([]byte, 10))
			results <- err
			for err = nil; err == nil; {
				_, err = c.Write(make([]byte, 100_000))
			}
			if c.RemoteAddr() == nil || c.LocalAddr() == nil {
				err = nil
			}
			results <- err
		}
	})
	upgrade := func(path, more string) (*tls.Conn, *bufio.Reader) {
		c := dial()
		_, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"+more)
		require.NoError(t, err)
		in := bufio.NewReader(c)
		a, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.Equal(t, 101, a.StatusCode)
		require.NoError(t, <-results)
		return c, in
	}
	c, in := upgrade("/echo", alphabet)
	go func() {
		_, _ = io.Copy(c, io.LimitReader(repeated([]byte(alphabet)), size-int64(len(alphabet))))
		_ = c.CloseWrite()
	}()
	all, err := io.ReadAll(in)
	require.NoError(t, err)
	require.Len(t, all, size)
	require.Equal(t, strings.Repeat(alphabet, size/len(alphabet)), string(all[:size/len(alphabet)*len(alphabet)]))
	require.NoError(t, <-results)
	require.NoError(t, <-results)
	require.ErrorIs(t, <-results, net.ErrClosed)

	_, _ = upgrade("/deadlines", "")
	require.NoError(t, <-results)
	require.ErrorIs(t, <-results, os.ErrDeadlineExceeded)
	require.ErrorIs(t, <-results, os.ErrDeadlineExceeded)
	require.NoError(t, <-results)
	require.ErrorIs(t, <-results, os.ErrDeadlineExceeded)
	require.NoError(t, <-results)
	require.NoError(t, <-results)
	for range 3 {
		require.ErrorIs(t, <-results, net.ErrClosed)
	}

	c, _ = upgrade("/gone", "")
	require.NoError(t, c.NetConn().(*net.TCPConn).SetLinger(0))
	require.NoError(t, c.NetConn().Close())
	require.Error(t, <-results)
	require.Error(t, <-results)
}

func TestStdLimits(t *testing.T) {
	entered, release := make(chan bool, 10), make(chan bool)
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		if r.Method == "GET" {
			<-release
			return
		}
		_, err := io.ReadAll(r.Body)
		var tooLarge *http.MaxBytesError
		if !errors.As(err, &tooLarge) || tooLarge.Limit != 10 {
			panic(err)
		}
	}), func(_ *http1.Server, h *http1.StdHandler) { h.MaxWorkers, h.BodyLimit = 2, 10 })
	get := "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	var clients []net.Conn
	for range 2 {
		c := dialRaw(t, s.addr)
		_, err := io.WriteString(c, get)
		require.NoError(t, err)
		<-entered
		clients = append(clients, c)
	}
	busy := say(t, s.addr, get)
	require.Contains(t, busy, "HTTP/1.1 503 Service Unavailable\r\n")
	require.Contains(t, busy, "Retry-After: 1\r\n")
	close(release)
	for _, c := range clients {
		all, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Contains(t, string(all), " 200 OK")
	}
	require.Eventually(t, func() bool { return s.std.Running() == 0 }, patience, time.Millisecond)
	require.Contains(t, say(t, s.addr, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 11\r\n\r\n"), "HTTP/1.1 413 ")
	require.Empty(t, entered, "the handler was not bothered")
	got := say(t, s.addr, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n")
	require.Contains(t, got, "HTTP/1.1 413 ")
	<-entered
	require.NotContains(t, s.log.String(), "panicked")
}

func TestStdPanics(t *testing.T) {
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/late":
			fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
			panic("late")
		case "/goexit":
			runtime.Goexit()
		case "/status":
			w.WriteHeader(99)
		case "/weird":
			w.WriteHeader(777)
		case "/twice":
			w.WriteHeader(202)
			w.WriteHeader(500)
		default:
			panic("early")
		}
	}))
	request := func(path string) string {
		return say(t, s.addr, "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	}
	require.Contains(t, request("/"), "HTTP/1.1 500 ")
	require.Contains(t, s.log.String(), "std_test.go")
	require.NotContains(t, request("/late"), "0\r\n\r\n", "it is cut off")
	require.Empty(t, request("/goexit"))
	require.Contains(t, request("/status"), "HTTP/1.1 500 ")
	require.Contains(t, request("/weird"), "HTTP/1.1 500 ")
	require.NotContains(t, s.log.String(), "superfluous")
	require.Contains(t, request("/twice"), "HTTP/1.1 202 ")
	require.Regexp(t, `superfluous.*TestStdPanics.*std_test.go:\d+`, s.log.String())
}

// What the handler kept is of no use, and no danger, when it has returned.
func TestStdAfterwards(t *testing.T) {
	kept := make(chan func(), 1)
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		kept <- func() {
			_, err := w.Write([]byte("x"))
			require.ErrorIs(t, err, net.ErrClosed)
			require.ErrorIs(t, c.Flush(), net.ErrClosed)
			_, err = r.Body.Read(make([]byte, 1))
			require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
			require.NoError(t, r.Body.Close())
			require.NoError(t, c.SetReadDeadline(time.Now()))
			w.WriteHeader(500)
			w.Header().Set("X", "y")
			require.Panics(t, func() { _, _, _ = c.Hijack() })
			<-r.Context().Done()
		}
	}))
	require.Contains(t, say(t, s.addr, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"), " 200 OK")
	require.Eventually(t, func() bool { return s.std.Running() == 0 }, patience, time.Millisecond)
	(<-kept)()
}

// A client of HTTP/1.0 gets no interim responses and no trailers, and a length where it can be known.
func TestStdHTTP10(t *testing.T) {
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "X-T")
		fmt.Fprint(w, "x")
		w.Header().Set("X-T", "t")
		w.Header().Set(http.TrailerPrefix+"X-U", "u")
	}))
	got := say(t, s.addr, "GET / HTTP/1.0\r\n\r\n")
	require.True(t, strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n"), got)
	require.Contains(t, got, "Content-Length: 1\r\n")
	require.True(t, strings.HasSuffix(got, "\r\n\r\nx"), got)
}

// The client that says "Expect: 100-continue" is told to go on when the body is read, and only then.
func TestStdExpect(t *testing.T) {
	read := make(chan bool)
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		<-read
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	const fields = " HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
	no := say(t, s.addr, "POST /no"+fields)
	require.True(t, strings.HasPrefix(no, "HTTP/1.1 403 "), no)
	require.Contains(t, no, "Connection: close\r\n")
	c := dialRaw(t, s.addr)
	_, err := io.WriteString(c, "POST /yes"+fields)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.std.Running() == 1 }, patience, time.Millisecond)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nothing until it is asked for")
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	close(read)
	in := bufio.NewReader(c)
	line, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 100 Continue\r\n", line)
	_, _ = in.ReadString('\n')
	_, err = io.WriteString(c, "abc")
	require.NoError(t, err)
	a, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, "abc", text(t, a))
}

// Many clients at a time, with all kinds of requests, some of which go away.
func TestStdManyClients(t *testing.T) {
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			_, _ = io.Copy(w, r.Body)
		case "/large":
			for range 100 {
				if _, err := fmt.Fprint(w, strings.Repeat(alphabet, 100)); err != nil {
					return
				}
			}
		default:
			fmt.Fprint(w, r.URL.Path)
		}
	}))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 20 {
				path := fmt.Sprintf("/%d/%d", i, j)
				a, err := client.Get("http://" + s.addr + path)
				if err != nil {
					t.Error(err)
					return
				}
				if got := text(t, a); got != path {
					t.Errorf("%s: %q", path, got)
				}
				body := strings.Repeat(path, j*1000)
				a, err = client.Post("http://"+s.addr+"/echo", "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				if got := text(t, a); got != body {
					t.Errorf("%s: %d octets of %d", path, len(got), len(body))
				}
				ctx, cancel := context.WithCancel(context.Background())
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+s.addr+"/large", nil)
				if a, err = client.Do(req); err != nil {
					t.Error(err)
				} else {
					_, _ = a.Body.Read(make([]byte, 100))
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

// What a handler does not read of a body is dropped, and the connection stays; if that is too much it is closed.
func TestStdUnreadBody(t *testing.T) {
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/some":
			_, _ = io.ReadFull(r.Body, make([]byte, 10))
		case "/closed":
			_ = r.Body.Close()
		}
		fmt.Fprint(w, r.URL.Path)
	}))
	for _, path := range []string{"/some", "/none", "/closed"} {
		c := dialRaw(t, s.addr)
		in := bufio.NewReader(c)
		for i, size := range []int{200_000, 200_000, 1_000_000} {
			body := strings.Repeat("x", size)
			wrote := make(chan error, 1)
			go func() {
				_, err := io.WriteString(c, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, size, body))
				wrote <- err
			}()
			a, err := http.ReadResponse(in, nil)
			require.NoError(t, err, "%s %d", path, i)
			require.Equal(t, path, text(t, a))
			require.Equal(t, size > 256<<10, a.Close, "%s %d", path, i)
			if a.Close {
				_ = c.Close()
			}
			if err := <-wrote; !a.Close {
				require.NoError(t, err)
			}
		}
	}
}

// A loop whose queue of posts is full is asked again.
func TestStdFullLoop(t *testing.T) {
	s := startStdWith(t, core.Options{MaxPosts: 1}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
		}
		_, _ = io.Copy(w, r.Body)
	}))
	stop, stopped := make(chan bool), make(chan bool)
	go func() { // takes the place in the queue again and again
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				s.loop.Post(runtime.Gosched)
			}
		}
	}()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 5 {
				a, err := http.Post("http://"+s.addr, "text/plain", strings.NewReader(alphabet))
				if err != nil {
					t.Error(err)
					return
				}
				if got := text(t, a); got != "xxx"+alphabet {
					t.Error(got)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	<-stopped
	http.DefaultClient.CloseIdleConnections()
}

// A handler that is told that its client is gone, by each of its calls.
func TestStdCallsToNobody(t *testing.T) {
	done := make(chan bool)
	s := startStd(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		<-r.Context().Done()
		c := http.NewResponseController(w)
		var err error
		for err == nil { // what is written before the connection is closed is lost
			_, err = w.Write(make([]byte, 100_000))
		}
		if _, err := io.Copy(w, strings.NewReader("x")); err == nil {
			t.Error("io.Copy")
		}
		if c.Flush() == nil {
			t.Error("Flush")
		}
		if _, _, err := c.Hijack(); err == nil {
			t.Error("Hijack")
		}
	}))
	c := dialRaw(t, s.addr)
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.std.Running() == 1 }, patience, time.Millisecond)
	require.NoError(t, c.SetLinger(0))
	require.NoError(t, c.Close())
	<-done
}

func BenchmarkStd(b *testing.B) {
	s := startStd(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "Hello, World!\n") }))
	c := dialRaw(b, s.addr)
	require.NoError(b, c.SetDeadline(time.Time{}))
	in := bufio.NewReader(c)
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		for n := 0; ; {
			m, err := in.Read(buf[n:])
			if err != nil {
				b.Fatal(err)
			}
			if n += m; bytes.HasSuffix(buf[:n], []byte("World!\n")) {
				break
			}
		}
	}
}

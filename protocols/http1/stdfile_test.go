//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/http1"
)

const stdFileSize = 3<<20 + 12345

// stdFile is a file of bytes that are not like each other.
func stdFile(t testing.TB) (name string, text []byte) {
	t.Helper()
	r := rand.NewChaCha8([32]byte{1})
	text = make([]byte, stdFileSize)
	_, _ = r.Read(text)
	name = filepath.Join(t.TempDir(), "file.bin")
	require.NoError(t, os.WriteFile(name, text, 0o600))
	return name, text
}

// bySendfile counts what goes out by sendfile: of that the trace has no bytes.
func bySendfile(n *atomic.Int64) core.Options {
	return core.Options{Trace: func(e *core.Event) {
		if e.Kind == core.TraceSend && e.Data == nil {
			n.Add(int64(e.N))
		}
	}}
}

// opened calls f with a file, and makes a status of its error.
func opened(name string, f func(w http.ResponseWriter, r *http.Request, f *os.File) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		file, err := os.Open(name)
		if err == nil {
			defer file.Close()
			err = f(w, r, file)
		}
		if err != nil && !errors.Is(err, http.ErrBodyNotAllowed) && !errors.Is(err, http.ErrContentLength) {
			panic(err)
		}
	}
}

// Files go out as they do from net/http's own server, whichever way a handler sends them, and by sendfile where that can be.
func TestStdFile(t *testing.T) {
	name, text := stdFile(t)
	mux := http.NewServeMux()
	mux.Handle("/dir/", http.StripPrefix("/dir/", http.FileServer(http.Dir(filepath.Dir(name)))))
	mux.Handle("/content", opened(name, func(w http.ResponseWriter, r *http.Request, f *os.File) error {
		http.ServeContent(w, r, "x", time.Unix(1e9, 0), f)
		return nil
	}))
	mux.Handle("/copy", opened(name, func(w http.ResponseWriter, _ *http.Request, f *os.File) error {
		_, err := io.Copy(w, f)
		return err
	}))
	mux.Handle("/length", opened(name, func(w http.ResponseWriter, _ *http.Request, f *os.File) error {
		w.Header().Set("Content-Length", fmt.Sprint(stdFileSize))
		_, err := io.Copy(w, f)
		return err
	}))
	mux.Handle("/over", opened(name, func(w http.ResponseWriter, _ *http.Request, f *os.File) error {
		w.Header().Set("Content-Length", fmt.Sprint(stdFileSize+5))
		if _, err := io.Copy(w, f); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "right"); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "too long"); err != http.ErrContentLength {
			return fmt.Errorf("%v is no http.ErrContentLength", err)
		}
		return nil
	}))
	mux.Handle("/between", opened(name, func(w http.ResponseWriter, _ *http.Request, f *os.File) error {
		fmt.Fprint(w, "before ")
		if _, err := f.Seek(1000, io.SeekStart); err != nil {
			return err
		}
		part := &io.LimitedReader{R: f, N: 100_000}
		if n, err := io.Copy(w, part); err != nil || n != 100_000 || part.N != 0 {
			return fmt.Errorf("%d copied, %d left: %w", n, part.N, err)
		}
		if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != 101_000 {
			return fmt.Errorf("at %d: %w", at, err)
		}
		fmt.Fprint(w, " between ")
		if n, err := io.Copy(w, f); err != nil || n != stdFileSize-101_000 {
			return fmt.Errorf("%d copied: %w", n, err)
		}
		fmt.Fprint(w, " behind")
		return nil
	}))
	mux.Handle("/type", opened(name, func(w http.ResponseWriter, _ *http.Request, f *os.File) error {
		w.Header().Set("Content-Type", "application/x-own")
		w.WriteHeader(http.StatusAccepted)
		_, err := io.Copy(w, f)
		return err
	}))
	mux.Handle("/none", opened(name, func(w http.ResponseWriter, _ *http.Request, f *os.File) error {
		w.WriteHeader(http.StatusNoContent)
		_, err := io.Copy(w, f)
		return err
	}))
	own := httptest.NewServer(mux)
	defer own.Close()
	var sent atomic.Int64
	s := startStdWith(t, bySendfile(&sent), mux)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	answer := func(base, method, path, ranges string) (string, []byte) {
		req, err := http.NewRequest(method, base+path, nil)
		require.NoError(t, err)
		if ranges != "" {
			req.Header.Set("Range", ranges)
		}
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		resp.Header.Del("Date")
		if ctype := resp.Header.Get("Content-Type"); strings.HasPrefix(ctype, "multipart/") { // its boundary is made up
			boundary := strings.TrimPrefix(ctype, "multipart/byteranges; boundary=")
			resp.Header.Set("Content-Type", "multipart")
			body = bytes.ReplaceAll(body, []byte(boundary), []byte("boundary"))
		}
		return fmt.Sprint(resp.Status, resp.ContentLength, resp.TransferEncoding, resp.Header), body
	}
	for _, x := range []struct {
		method, path, ranges string
		want                 []byte
		sent                 int
	}{
		{"GET", "/dir/file.bin", "", text, stdFileSize},
		{"HEAD", "/dir/file.bin", "", nil, 0},
		{"GET", "/content", "", text, stdFileSize},
		{"GET", "/content", "bytes=500000-", text[500_000:], stdFileSize - 500_000},
		{"GET", "/content", "bytes=-70000", text[stdFileSize-70_000:], 70_000},
		{"GET", "/content", "bytes=100000-300000", text[100_000:300_001], 200_001},
		{"GET", "/content", "bytes=100-200", text[100:201], 0},
		{"GET", "/content", "bytes=0-99999,200000-299999", nil, 0},
		{"HEAD", "/content", "bytes=500000-", nil, 0},
		{"GET", "/copy", "", text, stdFileSize},
		{"HEAD", "/length", "", nil, 0},
		{"GET", "/length", "", text, stdFileSize},
		{"GET", "/over", "", []byte(string(text) + "right"), stdFileSize},
		{"GET", "/between", "", []byte("before " + string(text[1000:101_000]) + " between " + string(text[101_000:]) + " behind"), stdFileSize - 1000},
		{"GET", "/type", "", text, stdFileSize},
		{"GET", "/none", "", nil, 0},
	} {
		t.Run(fmt.Sprint(x.method, x.path, " ", x.ranges), func(t *testing.T) {
			sent.Store(0)
			wantHead, wantBody := answer(own.URL, x.method, x.path, x.ranges)
			head, body := answer("http://"+s.addr, x.method, x.path, x.ranges)
			require.Equal(t, wantHead, head)
			require.True(t, bytes.Equal(wantBody, body), "%d octets instead of %d", len(body), len(wantBody))
			if x.want != nil {
				require.True(t, bytes.Equal(x.want, body))
			}
			if runtime.GOOS == "linux" {
				require.Eventually(t, func() bool { return sent.Load() == int64(x.sent) }, patience, time.Millisecond, "the client may be first")
			}
		})
	}
	require.Empty(t, s.log.String())
	old := say(t, s.addr, "GET /copy HTTP/1.0\r\n\r\n") // ends with the connection
	_, _, body := lines(old)
	require.True(t, body == string(text))
}

// A large file goes out in several parts, each of them a chunk.
func TestStdFileInParts(t *testing.T) {
	name, text := stdFile(t)
	most := http1.SetMostFile(1 << 20)
	var sent atomic.Int64
	t.Cleanup(func() { http1.SetMostFile(most) }) // when the server has ended
	s := startStdWith(t, bySendfile(&sent), opened(name, func(w http.ResponseWriter, _ *http.Request, f *os.File) error {
		_, err := io.Copy(w, f)
		return err
	}))
	answer := say(t, s.addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.True(t, bytes.Equal(text, body))
	if runtime.GOOS == "linux" {
		require.Equal(t, 3, strings.Count(answer, "\r\n100000\r\n"))
		require.EqualValues(t, 3<<20, sent.Load(), "the last 12 KB are copied")
	}
}

// Over TLS, and from what is no plain file, it is copied.
func TestStdFileIsCopied(t *testing.T) {
	name, text := stdFile(t)
	var sent atomic.Int64
	h := func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(name)
		if err != nil {
			panic(err)
		}
		defer f.Close()
		var src io.Reader = f
		switch r.URL.Path {
		case "/hidden":
			src = struct{ io.Reader }{f}
		case "/own": // its Read is not the file's
			src = &io.LimitedReader{R: upside{f}, N: stdFileSize}
		case "/pipe":
			pr, pw, err := os.Pipe()
			if err != nil {
				panic(err)
			}
			defer pr.Close()
			go func() {
				_, _ = pw.Write(text)
				_ = pw.Close()
			}()
			src = pr
		}
		if _, err := io.Copy(w, src); err != nil {
			panic(err)
		}
	}
	s := startStdWith(t, bySendfile(&sent), http.HandlerFunc(h))
	get := func(path string) []byte {
		resp, err := http.Get("http://" + s.addr + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return body
	}
	require.True(t, bytes.Equal(text, get("/hidden")))
	require.True(t, bytes.Equal(text, get("/pipe")))
	turned := bytes.Clone(text)
	for i := range turned {
		turned[i] ^= 0xff
	}
	require.True(t, bytes.Equal(turned, get("/own")))
	http.DefaultClient.CloseIdleConnections()
	require.Zero(t, sent.Load())

	_, dial := startTLS(t, h)
	c := dial()
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.True(t, bytes.Equal(text, body))
}

// upside is a file that is read otherwise.
type upside struct{ *os.File }

func (u upside) Read(p []byte) (int, error) {
	n, err := u.File.Read(p)
	for i := range p[:n] {
		p[i] ^= 0xff
	}
	return n, err
}

// fileCopy is what io.Copy of a file in a handler came to.
type fileCopy struct {
	n, at int64
	err   error
	ctx   error
}

// copying is a server that copies a file of 64 MiB, too much for the system's buffers, and says what came of it.
func copying(t *testing.T, before func(w http.ResponseWriter)) (s *stdServer, name string, outcome func() fileCopy) {
	results := make(chan fileCopy, 1)
	logged := make(chan int64, 1)
	name = filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	require.NoError(t, os.Truncate(name, 64<<20))
	s = startStd(t, opened(name, func(w http.ResponseWriter, r *http.Request, f *os.File) error {
		before(w)
		n, err := io.Copy(w, f)
		at, seekErr := f.Seek(0, io.SeekCurrent)
		if err != nil {
			<-r.Context().Done()
		}
		results <- fileCopy{n, at, err, r.Context().Err()}
		return seekErr
	}), func(srv *http1.Server, _ *http1.StdHandler) {
		srv.Limits.WriteTimeout = time.Hour
		srv.Log = func(e *http1.Entry) { logged <- e.Octets }
	})
	return s, name, func() (r fileCopy) {
		t.Helper()
		select {
		case r = <-results:
		case <-time.After(patience):
			require.FailNow(t, "the handler waits")
		}
		require.Equal(t, r.n, r.at)
		if r.err != nil { // the response is over
			select { // the handler may hear of the end before the log does
			case octets := <-logged:
				require.Equal(t, r.n, octets, "Entry.Octets")
			case <-time.After(patience):
				require.FailNow(t, "the response is not over")
			}
		}
		return r
	}
}

// A handler that sends a file waits while the client does not take it, and hears of it when the client goes.
func TestStdFileClientGoes(t *testing.T) {
	s, _, outcome := copying(t, func(http.ResponseWriter) {})
	c := dialRaw(t, s.addr)
	_, err := io.WriteString(c, getRequest)
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 1<<20))
	require.NoError(t, err)
	require.Equal(t, 1, s.std.Running(), "it waits")
	require.NoError(t, c.Close())
	r := outcome()
	require.Error(t, r.err)
	require.Error(t, r.ctx)
	require.Less(t, r.n, int64(64<<20))
}

// Nor does it wait for ever when the loop closes the connection.
func TestStdFileLoopCloses(t *testing.T) {
	s, _, outcome := copying(t, func(http.ResponseWriter) {})
	c := dialRaw(t, s.addr)
	_, err := io.WriteString(c, getRequest)
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 1<<20))
	require.NoError(t, err)
	require.True(t, s.loop.Post(func() {
		for d := range s.loop.All() {
			if c, ok := chat.Of(d); ok {
				_ = c.CloseWith(core.ErrShutdown)
			}
		}
	}))
	r := outcome()
	require.ErrorIs(t, r.err, core.ErrShutdown)
}

// A write deadline holds for files, too.
func TestStdFileDeadline(t *testing.T) {
	s, _, outcome := copying(t, func(w http.ResponseWriter) {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			panic(err)
		}
	})
	c := dialRaw(t, s.addr)
	_, err := io.WriteString(c, getRequest)
	require.NoError(t, err)
	r := outcome()
	require.ErrorIs(t, r.err, os.ErrDeadlineExceeded)
	require.Error(t, r.ctx)
	n, err := io.Copy(io.Discard, c)
	require.True(t, err != nil || n < 64<<20)
}

// A file that becomes shorter while it is sent ends the connection, one that becomes longer is sent up to its new end.
func TestStdFileChanges(t *testing.T) {
	for _, size := range []int64{0, 64<<20 + 100_000} {
		s, name, outcome := copying(t, func(http.ResponseWriter) {})
		c := dialRaw(t, s.addr)
		_, err := io.WriteString(c, getRequest)
		require.NoError(t, err)
		in := bufio.NewReader(c)
		resp, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(name, size))
		n, err := io.Copy(io.Discard, resp.Body)
		require.NoError(t, c.Close()) // it would linger
		r := outcome()
		if size == 0 {
			require.Error(t, err)
			require.Error(t, r.err)
			require.Less(t, n, int64(64<<20))
			continue
		}
		require.NoError(t, err)
		require.NoError(t, r.err)
		require.Equal(t, size, n)
		require.Equal(t, size, r.n)
	}
}

// BenchmarkStdFile: a file from a handler of net/http, as it is and hidden; b.SetBytes counts its octets.
func BenchmarkStdFile(b *testing.B) {
	for _, size := range []int64{64 << 10, 16 << 20} {
		name := filepath.Join(b.TempDir(), "file")
		require.NoError(b, os.WriteFile(name, make([]byte, size), 0o600))
		for _, hidden := range []bool{false, true} {
			b.Run(fmt.Sprint(size, " hidden=", hidden), func(b *testing.B) {
				s := startStd(b, opened(name, func(w http.ResponseWriter, _ *http.Request, f *os.File) error {
					w.Header().Set("Content-Length", fmt.Sprint(size))
					var src io.Reader = f
					if hidden {
						src = struct{ io.Reader }{f}
					}
					_, err := io.Copy(w, src)
					return err
				}))
				c := dialRaw(b, s.addr)
				require.NoError(b, c.SetDeadline(time.Time{}))
				in := bufio.NewReaderSize(c, 256<<10)
				b.SetBytes(size)
				for b.Loop() {
					_, err := io.WriteString(c, getRequest)
					require.NoError(b, err)
					for line := ""; line != "\r\n"; {
						line, err = in.ReadString('\n')
						require.NoError(b, err)
					}
					_, err = io.CopyN(io.Discard, in, size)
					require.NoError(b, err)
				}
			})
		}
	}
}

// What follows the head of a 2xx answer to CONNECT is no body: a file is no more sent there than bytes are.
func TestStdFileIsNoTunnel(t *testing.T) {
	name, _ := stdFile(t)
	var sent atomic.Int64
	s := startStdWith(t, bySendfile(&sent), opened(name, func(w http.ResponseWriter, _ *http.Request, f *os.File) error {
		_, err := io.Copy(w, f)
		return err
	}), func(srv *http1.Server, _ *http1.StdHandler) { srv.AllowConnect = true })
	answer := say(t, s.addr, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n")
	head, rest, _ := strings.Cut(answer, "\r\n\r\n")
	require.Contains(t, head, "HTTP/1.1 200 ")
	require.Empty(t, rest)
	require.Zero(t, sent.Load())
}

//go:build unix

package smoke

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// depot is a server with a file that it can be made to stop sending in the middle.
type depot struct {
	*httptest.Server
	mu      sync.Mutex // of data, which a test may change
	data    []byte
	etag    atomic.Value // of the file, with its quotes
	stop    atomic.Int64 // how many octets it sends before it waits; 0: all
	release chan struct{}
	ranges  chan string
}

func newDepot(t *testing.T) *depot {
	d := &depot{data: make([]byte, 300_000), release: make(chan struct{}), ranges: make(chan string, 100)}
	_, _ = rand.Read(d.data)
	d.etag.Store(`"v1"`)
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		d.ranges <- r.Header.Get("Range") + " " + r.Header.Get("If-Range")
		d.mu.Lock()
		data := d.data
		d.mu.Unlock()
		w.Header().Set("ETag", d.etag.Load().(string))
		if n := d.stop.Load(); n > 0 {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
			_, _ = w.Write(data[:n])
			w.(http.Flusher).Flush()
			select {
			case <-d.release:
			case <-r.Context().Done():
			}
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "file", time.Time{}, bytes.NewReader(data))
	})
	mux.HandleFunc("/text/{name}", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "text of "+r.PathValue("name")) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/text/there", http.StatusFound) })
	mux.HandleFunc("/around", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/around", http.StatusFound) })
	mux.HandleFunc("/request", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.Host, r.Header.Get("X"), r.Header.Get("Content-Type"), body)
	})
	mux.HandleFunc("/lying/{how}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Range", r.PathValue("how"))
		if strings.HasPrefix(r.PathValue("how"), "none") {
			w.Header().Del("Content-Range")
		}
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write([]byte("xxxxx"))
	})
	d.Server = httptest.NewServer(mux)
	t.Cleanup(d.Close)
	return d
}

func (d *depot) asked(t *testing.T) string {
	select {
	case r := <-d.ranges:
		return r
	case <-time.After(patience):
		t.Fatal("no request")
		return ""
	}
}

func TestFetch(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	dir := t.TempDir()
	get := func(args ...string) *process {
		t.Helper()
		return start(t, "fetch", args...)
	}
	whole := func(args ...string) string {
		t.Helper()
		p := get(args...)
		p.wantExit(0)
		require.Empty(t, p.stderr.String())
		return p.stdout.String()
	}
	require.True(t, whole(d.URL+"/file") == string(d.data))
	require.Equal(t, "text of a", whole("-o", "-", d.URL+"/text/a"))
	name := filepath.Join(dir, "mine")
	require.Empty(t, whole("-o", name, d.URL+"/text/a"))
	require.Equal(t, "text of a", contents(t, name))
	require.Empty(t, whole("-o", name, d.URL+"/text/b")) // in its place
	require.Equal(t, "text of b", contents(t, name))
	var urls []string
	for i := range 20 {
		urls = append(urls, d.URL+"/text/n"+strconv.Itoa(i))
	}
	require.Empty(t, whole(append([]string{"-parallel", "3", "-dir", dir}, urls...)...))
	for i := range 20 {
		require.Equal(t, "text of n"+strconv.Itoa(i), contents(t, filepath.Join(dir, "n"+strconv.Itoa(i))))
	}
	require.Equal(t, "text of there", whole("-L", d.URL+"/moved"))
	require.Equal(t, "POST "+strings.TrimPrefix(d.URL, "http://")+"  application/x-www-form-urlencoded a=b", whole("-d", "a=b", d.URL+"/request"))
	require.Equal(t, "PUT name y text/plain text of b", whole("-X", "PUT", "-H", "X: y", "-H", "host: name", "-H", "Content-Type: text/plain", "-d", "@"+name, d.URL+"/request"))
	p := startWith(t, strings.NewReader("from stdin"), "fetch", "-d", "@-", "-X", "PATCH", d.URL+"/request")
	p.wantExit(0)
	require.True(t, strings.HasSuffix(p.stdout.String(), "from stdin"))

	for about, args := range map[string][]string{
		"404 Not Found":         {d.URL + "/nothing"},
		"302 Found":             {d.URL + "/moved"},
		"too many redirections": {"-L", d.URL + "/around"},
		"more than 5 octets":    {"-max-size", "5", "-o", filepath.Join(dir, "x"), d.URL + "/text/a"},
		"refused":               {"http://127.0.0.1:" + refusedPort(t) + "/"},
		"no such file":          {"-o", filepath.Join(dir, "no", "file"), d.URL + "/text/a"},
	} {
		get(args...).wantComplaint(1, about)
	}
	p = get("-dir", dir, d.URL+"/text/good", d.URL+"/bad1", d.URL+"/bad2")
	p.wantExit(1)
	require.Equal(t, 2, strings.Count(p.stderr.String(), "404 Not Found\n"), p.stderr.String())
	require.Equal(t, "text of good", contents(t, filepath.Join(dir, "good")))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 22) // and nothing else

	for about, args := range map[string][]string{
		"URL is missing": nil, "for one URL": {"-o", "x", d.URL, d.URL + "/a"}, "would both be": {d.URL + "/a", d.URL + "/b/a"},
		"is a directory": {"-o", dir, d.URL + "/text/a"}, "no file to go on": {"-c", d.URL}, "no colon": {"-H", "X", d.URL}, "malformed header field": {"-H", "X: a\r\nY: b", d.URL},
		"is not for": {"-H", "Content-Length: 5", d.URL}, "-proxy": {"-proxy", "socks5://x", d.URL}, "-timeout": {"-timeout", "0s", d.URL},
		"-max-time": {"-max-time", "-1s", d.URL}, "-max-size": {"-max-size", "-1", d.URL}, "-parallel": {"-parallel", "0", d.URL},
		"-d: open": {"-d", "@/no such file", d.URL}, "iocp": {"-backend", "iocp", d.URL},
	} {
		get(args...).wantComplaint(2, about)
	}
}

func contents(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(text)
}

// A download that is cut short or interrupted is gone on with, if it is still a part of the same thing.
func TestFetchResume(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	part := name + ".part"
	interrupted := func(n int64) {
		t.Helper()
		d.stop.Store(n)
		p := start(t, "fetch", "-o", name, d.URL+"/file")
		require.Equal(t, " ", d.asked(t))
		require.Eventually(t, func() bool { info, err := os.Stat(part); return err == nil && info.Size() == n }, patience, time.Millisecond)
		p.signal(syscall.SIGINT)
		p.wantComplaint(1, fmt.Sprintf("interrupted; %d of 300000 octets are in %s", n, part))
		require.NoFileExists(t, name)
		require.Equal(t, string(d.data[:n]), contents(t, part))
		d.stop.Store(0)
	}
	resumed := func(want string) {
		t.Helper()
		p := start(t, "fetch", "-c", "-o", name, d.URL+"/file")
		p.wantExit(0)
		require.Empty(t, p.stderr.String())
		require.Equal(t, want, d.asked(t))
		require.True(t, contents(t, name) == string(d.data))
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.NoError(t, os.Remove(name))
	}
	interrupted(100_000)
	resumed(`bytes=100000- "v1"`)

	interrupted(200_000) // it changes meanwhile
	d.etag.Store(`"v2"`)
	d.mu.Lock()
	d.data = append([]byte{d.data[0] + 1}, d.data[1:]...)
	d.mu.Unlock()
	resumed(`bytes=200000- "v1"`)
	d.etag.Store(`"v1"`)

	resumed(" ") // there is nothing to go on with
	interrupted(1000)
	require.NoError(t, os.WriteFile(part, d.data, 0o600)) // all of it came, and was not renamed
	resumed(`bytes=300000- "v1"`)

	interrupted(1000)
	require.NoError(t, os.WriteFile(part, append(d.data[:len(d.data):len(d.data)], "and more"...), 0o600))
	p := start(t, "fetch", "-c", "-o", name, d.URL+"/file")
	p.wantExit(0)
	require.Equal(t, `bytes=300008- "v1"`, d.asked(t))
	require.Equal(t, " ", d.asked(t)) // from the beginning
	require.True(t, contents(t, name) == string(d.data))
	require.NoError(t, os.Remove(name))

	interrupted(1000)
	require.NoError(t, os.Remove(part+".from")) // nobody can say whether it is still the same
	resumed(" ")

	d.etag.Store(`W/"v1"`) // RFC 9110 section 13.1.5: no weak one
	interrupted(1000)
	resumed(" ")
	d.etag.Store(`"v1"`)

	// A server that breaks off is no end, and no reason to lose what came.
	d.stop.Store(5000)
	p = start(t, "fetch", "-o", name, d.URL+"/file")
	require.Equal(t, " ", d.asked(t))
	d.release <- struct{}{}
	p.wantComplaint(1, "5000 of 300000 octets")
	d.stop.Store(0)
	resumed(`bytes=5000- "v1"`)

	p = start(t, "fetch", d.URL+"/file")
	_ = d.asked(t)
	p.wantExit(0)
	d.stop.Store(5000)
	p = start(t, "fetch", "-timeout", "1s", "-o", name, d.URL+"/file")
	p.wantComplaint(1, "timeout; 5000 of 300000 octets")
}

// What a server says about a range is checked against what was asked for.
func TestFetchLyingRanges(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	for _, how := range []string{"bytes 4-8/10", "bytes 5-8/10", "bytes 5-9/11", "bytes 5-9/*", "bytes 5-10/11", "octets 5-9/10", "none"} {
		name := filepath.Join(t.TempDir(), "x")
		target := d.URL + "/lying/" + url.PathEscape(how)
		u, err := url.Parse(target)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(name+".part", []byte("01234"), 0o600))
		require.NoError(t, os.WriteFile(name+".part.from", []byte(fmt.Sprintf(`{"URL":%q,"ETag":"\"v1\"","Size":10}`, u.String())), 0o600))
		p := start(t, "fetch", "-c", "-o", name, target)
		p.wantExit(1)
		require.Equal(t, 1, strings.Count(p.stderr.String(), "\n"), p.stderr.String())
		require.NoFileExists(t, name)
		require.Equal(t, "01234", contents(t, name+".part"), how)
	}
	p := start(t, "fetch", "-o", filepath.Join(t.TempDir(), "x"), d.URL+"/lying/bytes%205-9%2F10") // nobody asked for a part
	p.wantComplaint(1, "206 Partial Content")
}

// A certificate is looked at unless one says otherwise; a proxy is asked for everything.
func TestFetchTLSAndProxy(t *testing.T) {
	t.Parallel()
	site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "secure") }))
	defer site.Close()
	start(t, "fetch", site.URL).wantComplaint(1, "certificate")
	p := start(t, "fetch", "-k", site.URL)
	p.wantExit(0)
	require.Equal(t, "secure", p.stdout.String())

	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			_, _ = io.WriteString(w, "proxied "+r.RequestURI+" "+r.Header.Get("Proxy-Authorization"))
			return
		}
		far, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		near, _, _ := w.(http.Hijacker).Hijack()
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
		_, _ = io.Copy(near, far)
		_ = near.Close()
	}))
	defer proxy.Close()
	p = start(t, "fetch", "-k", "-proxy", proxy.URL, site.URL)
	p.wantExit(0)
	require.Equal(t, "secure", p.stdout.String())
	p = start(t, "fetch", "-proxy", strings.Replace(proxy.URL, "http://", "http://u:p@", 1), "http://www.example.com/x")
	p.wantExit(0)
	require.Equal(t, "proxied http://www.example.com/x Basic dTpw", p.stdout.String())
}

// Who reads slowly, or goes away, is no harm.
func TestFetchSlowReader(t *testing.T) {
	t.Parallel()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 200 {
			_, _ = w.Write(make([]byte, 64<<10))
		}
	}))
	defer site.Close()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	p := startTo(t, w, "fetch", "-timeout", "2s", site.URL)
	_ = w.Close()
	one := make([]byte, 1<<20)
	total := 0
	for {
		n, err := r.Read(one)
		if total += n; err != nil {
			require.Equal(t, io.EOF, err)
			break
		}
	}
	require.Equal(t, 200<<16, total)
	p.wantExit(0)

	r, w, err = os.Pipe()
	require.NoError(t, err)
	p = startTo(t, w, "fetch", site.URL)
	_ = w.Close()
	_, err = r.Read(one)
	require.NoError(t, err)
	_ = r.Close() // it ends as others do: by SIGPIPE
	<-p.ended
	require.NotZero(t, p.status)
}

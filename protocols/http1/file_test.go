package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

var fileTime = time.Date(1999, 12, 31, 23, 59, 58, 123456789, time.UTC)

const fileDate = "Fri, 31 Dec 1999 23:59:58 GMT"

func file(text string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(text), ModTime: fileTime, Mode: 0o644}
}

const alphabet = "abcdefghijklmnopqrstuvwxyz"

func tree() fstest.MapFS {
	return fstest.MapFS{
		"index.html":              file("<p>root\n"),
		"a.txt":                   file(alphabet),
		"large.bin":               file(strings.Repeat(alphabet, 10_000)),
		"empty.txt":               file(""),
		"noext":                   file("%PDF-1.4 and so on"),
		"sub/index.html":          file("<p>sub\n"),
		"bare/x & <y>.txt":        file("x"),
		"bare/c:d":                file("c"),
		"bare/.hidden":            file("h"),
		"bare/100%.txt":           file("percent"),
		".secret":                 file("s"),
		".well-known/security.md": file("w"),
		".git/config":             file("g"),
		"pipe":                    {Mode: fs.ModeNamedPipe | 0o644},
	}
}

// ask sends a request to a server and returns the answers.
func ask(t testing.TB, h http1.Handler, requests ...string) []*http.Response {
	t.Helper()
	s := newScene(t, &http1.Server{Handler: h}, sim.Config{})
	var answers []*http.Response
	for _, r := range requests {
		line, fields, _ := strings.Cut(r, "\n")
		if !strings.Contains(line, " ") {
			line = "GET " + line
		}
		if fields != "" {
			fields = strings.ReplaceAll(strings.TrimSpace(fields), "\n", "\r\n") + "\r\n"
		}
		s.p.Say(line + " HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n")
		method, _, _ := strings.Cut(line, " ")
		raw := s.p.Read()
		in := bufio.NewReader(strings.NewReader(raw))
		a, err := http.ReadResponse(in, &http.Request{Method: method})
		require.NoError(t, err, "%s: %.200q", r, raw)
		body, err := io.ReadAll(a.Body)
		require.NoError(t, err, r)
		require.Zero(t, in.Buffered(), "%s: something is left: %.200q", r, raw)
		a.Body = io.NopCloser(bytes.NewReader(body))
		answers = append(answers, a)
	}
	return answers
}

func text(t testing.TB, a *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(a.Body)
	require.NoError(t, err)
	return string(body)
}

// Which names lead to which files, and which to none.
func TestFileNames(t *testing.T) {
	for _, x := range []struct {
		target string
		status int
		want   string // body, or Location
	}{
		{"/", 200, "<p>root\n"},
		{"/a.txt", 200, alphabet},
		{"/a.txt?query", 200, alphabet},
		{"/%61.t%78t", 200, alphabet},
		{"http://elsewhere.example/a.txt", 200, alphabet},
		{"/index.html", 200, "<p>root\n"},
		{"/sub", 301, "/sub/"},
		{"/sub?a=b&c", 301, "/sub/?a=b&c"},
		{"/s%75b", 301, "/s%75b/"},
		{"/sub/", 200, "<p>sub\n"},
		{"/bare/", 404, ""},
		{"/bare/x%20&%20%3Cy%3E.txt", 200, "x"},
		{"/bare/100%25.txt", 200, "percent"},
		{"/.well-known/security.md", 200, "w"},
		{"/none", 404, ""},
		{"/a.txt/", 404, ""},
		{"/a.txt/b", 404, ""},
		{"/pipe", 404, ""},
		{"/.secret", 404, ""},
		{"/%2esecret", 404, ""},
		{"/.git/config", 404, ""},
		{"/bare/.hidden", 404, ""},
		{"/sub/.well-known/x", 404, ""},
		{"//", 404, ""},
		{"//a.txt", 404, ""},
		{"//elsewhere.example/", 404, ""},
		{"//elsewhere.example/%2e%2e", 404, ""},
		{"/sub//index.html", 404, ""},
		{"/..", 400, ""},
		{"/.", 400, ""},
		{"/sub/../a.txt", 400, ""},
		{"/sub/./index.html", 400, ""},
		{"/%2e%2e/a.txt", 400, ""},
		{"/.%2e/.%2e/etc/passwd", 400, ""},
		{"/..%2fa.txt", 400, ""},
		{"/sub%2Findex.html", 400, ""},
		{`/sub\index.html`, 400, ""},
		{"/sub%5cindex.html", 400, ""},
		{`/\elsewhere.example`, 400, ""},
		{"/a.txt%00", 400, ""},
		{"/a.txt%00.html", 400, ""},
		{"/%0d%0aSet-Cookie:x", 400, ""},
		{"/a.txt%7f", 400, ""},
		{"/%252e%252e/a.txt", 404, ""}, // decoded once
		{"/%ff", 404, ""},
	} {
		a := ask(t, http1.FileServer(tree()), x.target)[0]
		require.Equal(t, x.status, a.StatusCode, x.target)
		switch x.status {
		case 200:
			require.Equal(t, x.want, text(t, a), x.target)
		case 301:
			require.Equal(t, x.want, a.Header.Get("Location"), x.target)
		}
	}
}

func TestFileOptions(t *testing.T) {
	h := &http1.Files{FS: tree(), Prefix: "/static/", Index: "a.txt", Dotfiles: true,
		ETag:   func(name string, info fs.FileInfo) string { return fmt.Sprintf("%q", name) },
		Header: func(w *http1.ResponseWriter, name string) { w.Set("Cache-Control", "max-age=60; "+name) },
	}
	for target, status := range map[string]int{
		"/static/": 200, "/static/.secret": 200, "/static/.git/config": 200, "/static": 404, "/": 404, "/a.txt": 404, "/static/sub/": 404,
		"/static/sub/../a.txt": 400,
	} {
		require.Equal(t, status, ask(t, h, target)[0].StatusCode, target)
	}
	a := ask(t, h, "/static/")[0]
	require.Equal(t, alphabet, text(t, a))
	require.Equal(t, `"a.txt"`, a.Header.Get("Etag"))
	require.Equal(t, "max-age=60; a.txt", a.Header.Get("Cache-Control"))
	a = ask(t, h, "/static/a.txt\nIf-None-Match: \"a.txt\"")[0]
	require.Equal(t, 304, a.StatusCode)
	require.Equal(t, "max-age=60; a.txt", a.Header.Get("Cache-Control"))
	require.Equal(t, "/static/sub/", ask(t, h, "/static/sub")[0].Header.Get("Location"))
}

func TestFileMethods(t *testing.T) {
	answers := ask(t, http1.FileServer(tree()), "HEAD /a.txt", "HEAD /large.bin", "HEAD /none", "OPTIONS /a.txt", "POST /a.txt\nContent-Length: 0",
		"DELETE /", "FROBNICATE /a.txt", "/a.txt")
	for i, want := range []int{200, 200, 404, 204, 405, 405, 501, 200} {
		require.Equal(t, want, answers[i].StatusCode, i)
	}
	require.EqualValues(t, len(alphabet), answers[0].ContentLength)
	require.EqualValues(t, 10_000*len(alphabet), answers[1].ContentLength)
	for _, i := range []int{3, 4, 5} {
		require.Equal(t, "GET, HEAD, OPTIONS", answers[i].Header.Get("Allow"))
	}
	get := answers[7]
	for _, name := range []string{"Content-Type", "Last-Modified", "Etag", "Accept-Ranges"} {
		require.NotEmpty(t, get.Header.Get(name), name)
		require.Equal(t, get.Header.Get(name), answers[0].Header.Get(name), name)
	}
}

// RFC 9110 section 13.2.2.
func TestFilePreconditions(t *testing.T) {
	const before, after = "Fri, 31 Dec 1999 23:59:57 GMT", "Fri, 31 Dec 1999 23:59:59 GMT"
	a := ask(t, http1.FileServer(tree()), "/a.txt")[0]
	require.Equal(t, fileDate, a.Header.Get("Last-Modified"))
	tag := a.Header.Get("Etag")
	require.Regexp(t, `^"[0-9a-z]+-q"$`, tag)
	for _, x := range []struct {
		fields string
		want   int
	}{
		{"If-Match: " + tag, 200},
		{"If-Match: *", 200},
		{"If-Match: \"x\", " + tag, 200},
		{"If-Match: \"x\"\nIf-Match: " + tag, 200},
		{"If-Match: \"x\"", 412},
		{"If-Match: W/" + tag, 412},
		{"If-Match: x", 412},
		{"If-Match: \"x\"\nIf-Unmodified-Since: " + after, 412},
		{"If-Match: " + tag + "\nIf-Unmodified-Since: " + before, 200},
		{"If-Unmodified-Since: " + fileDate, 200},
		{"If-Unmodified-Since: " + before, 412},
		{"If-Unmodified-Since: yesterday", 200},
		{"If-None-Match: " + tag, 304},
		{"If-None-Match: W/" + tag, 304},
		{"If-None-Match: *", 304},
		{"If-None-Match: \"a,b\" , ,\"\",W/\"x\"," + tag, 304},
		{"If-None-Match: \"x\"", 200},
		{"If-None-Match: \"x\"\nIf-Modified-Since: " + after, 200},
		{"If-None-Match: " + tag + "\nIf-Modified-Since: " + before, 304},
		{"If-None-Match: \"unclosed, " + tag, 200},
		{"If-Modified-Since: " + fileDate, 304},
		{"If-Modified-Since: " + after, 304},
		{"If-Modified-Since: Friday, 31-Dec-99 23:59:58 GMT", 304},
		{"If-Modified-Since: Fri Dec 31 23:59:58 1999", 304},
		{"If-Modified-Since: " + before, 200},
		{"If-Modified-Since: whenever", 200},
		{"If-Match: " + tag + "\nIf-None-Match: " + tag, 304},
		{"If-Match: \"x\"\nIf-None-Match: " + tag, 412},
		{"If-None-Match: " + tag + "\nRange: bytes=0-1", 304},
		{"If-Match: \"x\"\nRange: bytes=0-1", 412},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := ask(t, http1.FileServer(tree()), method+" /a.txt\n"+x.fields)[0]
			want := x.want
			require.Equal(t, want, a.StatusCode, "%s %s", method, x.fields)
			if want == 304 {
				require.Equal(t, tag, a.Header.Get("Etag"))
				require.Equal(t, fileDate, a.Header.Get("Last-Modified"))
				require.Empty(t, a.Header.Get("Content-Type"))
				require.Empty(t, a.Header.Get("Content-Length"))
			}
		}
	}
}

// What changed less than a second ago may change again unseen, and what comes from the future did not change then.
func TestFileChangedLately(t *testing.T) {
	s := newScene(t, handle(nil), sim.Config{})
	now := s.loop.Now()
	for _, m := range []time.Time{now.Add(-time.Second / 2), now.Add(time.Hour)} {
		fsys := fstest.MapFS{"a": {Data: []byte(alphabet), ModTime: m}}
		a := ask(t, http1.FileServer(fsys), "/a")[0]
		tag := a.Header.Get("Etag")
		require.Regexp(t, `^W/"[0-9a-z]+-q"$`, tag)
		modified, err := http.ParseTime(a.Header.Get("Last-Modified"))
		require.NoError(t, err)
		require.False(t, modified.After(now))
		require.Equal(t, 304, ask(t, http1.FileServer(fsys), "/a\nIf-None-Match: "+tag)[0].StatusCode)
		require.Equal(t, 412, ask(t, http1.FileServer(fsys), "/a\nIf-Match: "+tag)[0].StatusCode)
		require.Equal(t, 200, ask(t, http1.FileServer(fsys), "/a\nRange: bytes=1-2\nIf-Range: "+tag)[0].StatusCode)
		require.Equal(t, 200, ask(t, http1.FileServer(fsys), "/a\nRange: bytes=1-2\nIf-Range: "+a.Header.Get("Last-Modified"))[0].StatusCode)
		require.Equal(t, 206, ask(t, http1.FileServer(fsys), "/a\nRange: bytes=1-2")[0].StatusCode)
	}
	a := ask(t, http1.FileServer(fstest.MapFS{"a": {Data: []byte(alphabet)}}), "/a\nIf-Modified-Since: "+fileDate)[0]
	require.Equal(t, 200, a.StatusCode)
	require.Empty(t, a.Header.Get("Etag"))
	require.Empty(t, a.Header.Get("Last-Modified"))
}

func TestFileRange(t *testing.T) {
	tag := ask(t, http1.FileServer(tree()), "/a.txt")[0].Header.Get("Etag")
	for _, x := range []struct {
		fields string
		status int
		want   string // parts, and what they are of
	}{
		{"Range: bytes=0-4", 206, "0-4 abcde"},
		{"Range: BYTES=0-4", 206, "0-4 abcde"},
		{"Range: bytes=5-", 206, "5-25 fghijklmnopqrstuvwxyz"},
		{"Range: bytes=-3", 206, "23-25 xyz"},
		{"Range: bytes=-100", 206, "0-25 " + alphabet},
		{"Range: bytes=25-100", 206, "25-25 z"},
		{"Range: bytes=0-0", 206, "0-0 a"},
		{"Range: bytes=0-99999999999999999999999", 200, ""},
		{"Range: bytes=26-", 416, ""},
		{"Range: bytes=-0", 416, ""},
		{"Range: bytes=26-30,99-", 416, ""},
		{"Range: bytes=26-30,1-2", 206, "1-2 bc"},
		{"Range: bytes=3-1", 200, ""},
		{"Range: bytes=", 200, ""},
		{"Range: bytes=,", 200, ""},
		{"Range: bytes=a-b", 200, ""},
		{"Range: bytes=-", 200, ""},
		{"Range: bytes=1", 200, ""},
		{"Range: bytes=+1-2", 200, ""},
		{"Range: bytes 0-1", 200, ""},
		{"Range: lines=0-1", 200, ""},
		{"Range: bytes=0-1,5-6", 206, "0-1 ab|5-6 fg"},
		{"Range: bytes= 20-21 ,, 5-6 ", 206, "20-21 uv|5-6 fg"},
		{"Range: bytes=0-1,2-3", 206, "0-3 abcd"},
		{"Range: bytes=4-6,0-5,-2", 206, "0-6 abcdefg|24-25 yz"},
		{"Range: bytes=0-1,4-5,1-4", 206, "0-5 abcdef"},
		{"Range: bytes=" + strings.Repeat("0-,", 15) + "0-", 206, "0-25 " + alphabet},
		{"Range: bytes=" + strings.Repeat("0-,", 16) + "0-", 200, ""},
		{"Range: bytes=0-1\nIf-Range: " + tag, 206, "0-1 ab"},
		{"Range: bytes=0-1\nIf-Range: \"x\"", 200, ""},
		{"Range: bytes=0-1\nIf-Range: W/" + tag, 200, ""},
		{"Range: bytes=0-1\nIf-Range: " + fileDate, 206, "0-1 ab"},
		{"Range: bytes=0-1\nIf-Range: Fri, 31 Dec 1999 23:59:59 GMT", 200, ""},
		{"Range: bytes=0-1\nIf-Range: nonsense", 200, ""},
		{"Range: bytes=99-\nIf-Range: \"x\"", 200, ""},
	} {
		a := ask(t, http1.FileServer(tree()), "/a.txt\n"+x.fields)[0]
		require.Equal(t, x.status, a.StatusCode, x.fields)
		body := text(t, a)
		switch x.status {
		case 200:
			require.Equal(t, alphabet, body, x.fields)
			require.Equal(t, "bytes", a.Header.Get("Accept-Ranges"))
			continue
		case 416:
			require.Equal(t, "bytes */26", a.Header.Get("Content-Range"), x.fields)
			continue
		}
		var got []string
		if ctype, params, err := mime.ParseMediaType(a.Header.Get("Content-Type")); ctype == "multipart/byteranges" {
			require.NoError(t, err)
			require.Empty(t, a.Header.Get("Content-Range"))
			for parts := multipart.NewReader(strings.NewReader(body), params["boundary"]); ; {
				p, err := parts.NextPart()
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
				require.Equal(t, "text/plain; charset=utf-8", p.Header.Get("Content-Type"))
				data, err := io.ReadAll(p)
				require.NoError(t, err)
				got = append(got, strings.TrimSuffix(strings.TrimPrefix(p.Header.Get("Content-Range"), "bytes "), "/26")+" "+string(data))
			}
		} else {
			got = append(got, strings.TrimSuffix(strings.TrimPrefix(a.Header.Get("Content-Range"), "bytes "), "/26")+" "+body)
		}
		require.Equal(t, x.want, strings.Join(got, "|"), x.fields)
	}
	// Range is of GET alone.
	require.Equal(t, 200, ask(t, http1.FileServer(tree()), "HEAD /a.txt\nRange: bytes=0-1")[0].StatusCode)
	require.Equal(t, 416, ask(t, http1.FileServer(tree()), "/empty.txt\nRange: bytes=0-1")[0].StatusCode)
	require.Equal(t, 200, ask(t, &http1.Files{FS: tree(), MaxRanges: 1}, "/a.txt\nRange: bytes=0-1,5-6")[0].StatusCode)
}

// Kinds of files, by what they can do.
type (
	fileKind struct {
		fstest.MapFS
		wrap func(fs.File) fs.File
	}
	seekFile struct {
		fs.File
		io.Seeker
	}
	plainFile struct{ fs.File }
)

func (k fileKind) Open(name string) (fs.File, error) {
	f, err := k.MapFS.Open(name)
	if _, dir := f.(fs.ReadDirFile); dir || err != nil {
		return f, err
	}
	return k.wrap(f), nil
}

func kinds() map[string]fs.FS {
	return map[string]fs.FS{
		"io.ReaderAt": tree(),
		"io.Seeker":   fileKind{tree(), func(f fs.File) fs.File { return seekFile{f, f.(io.Seeker)} }},
		"plain":       fileKind{tree(), func(f fs.File) fs.File { return plainFile{f} }},
	}
}

func TestFileKinds(t *testing.T) {
	large := strings.Repeat(alphabet, 10_000)
	for name, fsys := range kinds() {
		t.Run(name, func(t *testing.T) {
			for _, offLoop := range []bool{false, true} {
				h := &http1.Files{FS: fsys, OffLoop: offLoop, List: true}
				a := ask(t, h, "/a.txt", "/noext", "/large.bin", "/empty.txt", "/sub/", "/none", "/..", "/bare/", "/sub")
				require.Equal(t, alphabet, text(t, a[0]))
				require.Equal(t, "%PDF-1.4 and so on", text(t, a[1]))
				require.Equal(t, "application/pdf", a[1].Header.Get("Content-Type"))
				require.Equal(t, large, text(t, a[2]))
				require.Empty(t, text(t, a[3]))
				require.Equal(t, "<p>sub\n", text(t, a[4]))
				require.Equal(t, []int{404, 400, 200, 301}, []int{a[5].StatusCode, a[6].StatusCode, a[7].StatusCode, a[8].StatusCode})
				a = ask(t, h, "/large.bin\nRange: bytes=100000-180000", "/large.bin\nRange: bytes=200000-250000,30-40,100000-180000")
				if name == "plain" {
					require.Equal(t, large, text(t, a[0]))
					require.Equal(t, "none", a[0].Header.Get("Accept-Ranges"))
					continue
				}
				require.Equal(t, large[100_000:180_001], text(t, a[0]))
				body := text(t, a[1])
				require.Contains(t, body, "\r\n\r\n"+large[30:41]+"\r\n--")
				require.Contains(t, body, "\r\n\r\n"+large[100_000:180_001]+"\r\n--")
				require.Contains(t, body, "\r\n\r\n"+large[200_000:250_001]+"\r\n--")
			}
		})
	}
}

// Every file is closed, whatever becomes of the response.
func TestFilesAreClosed(t *testing.T) {
	open := 0
	fsys := fileKind{tree(), func(f fs.File) fs.File { open++; return &countedFile{f, &open} }}
	for _, offLoop := range []bool{false, true} {
		h := &http1.Files{FS: fsys, OffLoop: offLoop, List: true}
		ask(t, h, "/a.txt", "HEAD /a.txt", "/large.bin", "HEAD /large.bin", "/a.txt\nIf-Modified-Since: "+fileDate, "/a.txt\nIf-Match: \"x\"",
			"/a.txt\nRange: bytes=99-", "/bare/", "/a.txt\nRange: bytes=0-1,4-5", "/pipe", "/empty.txt")
		require.Zero(t, open)

		s := newScene(t, &http1.Server{Handler: h}, sim.Config{Work: time.Second})
		s.p.Stall(true)
		s.p.Say("GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
		s.Advance(time.Second)
		require.Equal(t, 1, open)
		s.p.Reset()
		s.Advance(time.Second)
		require.Zero(t, open)

		p := s.client() // gone before there is something to answer with
		p.Say("GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n")
		p.Reset()
		s.Advance(2 * time.Second)
		for range 100 { // context.AfterFunc has a goroutine of its own
			runtime.Gosched()
		}
		require.Zero(t, open)
	}
}

type countedFile struct {
	fs.File
	open *int
}

func (f *countedFile) Close() error {
	*f.open--
	return f.File.Close()
}

func TestFileErrors(t *testing.T) {
	for err, want := range map[error]int{
		fs.ErrNotExist: 404, fs.ErrPermission: 403, syscall.EMFILE: 503, syscall.ENOTDIR: 404, syscall.ENAMETOOLONG: 404, syscall.EIO: 500,
		errors.New("weird"): 500,
		&fs.PathError{Op: "openat", Path: "x", Err: errors.New("path escapes from parent")}: 404,
		&fs.PathError{Op: "openat", Path: "x", Err: syscall.EIO}:                            500,
	} {
		a := ask(t, http1.FileServer(brokenFS{err}), "/x")[0]
		require.Equal(t, want, a.StatusCode, err)
		require.NotContains(t, text(t, a), err.Error())
	}
}

type brokenFS struct{ err error }

func (b brokenFS) Open(string) (fs.File, error) { return nil, b.err }

// A file that becomes shorter while it is sent: the client sees that it is not whole.
func TestFileShrinks(t *testing.T) {
	short := fileKind{tree(), func(f fs.File) fs.File { return shortFile{f} }}
	s := newScene(t, &http1.Server{Handler: http1.FileServer(short)}, sim.Config{})
	s.p.Say("GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\nGET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n")
	s.Advance(time.Second)
	require.True(t, s.p.Ended())
	a, err := http.ReadResponse(bufio.NewReader(strings.NewReader(s.p.Read())), nil)
	require.NoError(t, err)
	_, err = io.ReadAll(a.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, 500, ask(t, http1.FileServer(short), "/a.txt")[0].StatusCode)
}

type shortFile struct{ fs.File }

func (f shortFile) ReadAt(p []byte, at int64) (int, error) {
	if at > 0 {
		return 0, io.EOF
	}
	return f.File.(io.ReaderAt).ReadAt(p[:min(10, len(p))], at)
}

func TestFileList(t *testing.T) {
	h := &http1.Files{FS: tree(), List: true}
	a := ask(t, h, "/bare/", "HEAD /bare/", "/")
	page := text(t, a[0])
	require.Equal(t, "text/html; charset=utf-8", a[0].Header.Get("Content-Type"))
	require.Contains(t, page, `<a href="./x%20&amp;%20%3Cy%3E.txt">x &amp; &lt;y&gt;.txt</a>`)
	require.Contains(t, page, `<a href="./100%25.txt">100%.txt</a>`)
	require.Contains(t, page, `<a href="./c:d">c:d</a><td>1<td>1999-12-31 23:59`)
	require.NotContains(t, page, "hidden")
	require.NotContains(t, page, "<y>")
	require.EqualValues(t, len(page), a[1].ContentLength)
	require.Equal(t, "<p>root\n", text(t, a[2]), "an index comes first")

	many := fstest.MapFS{"d/.x": file("")}
	for i := range 2001 {
		many[fmt.Sprintf("d/f%d", i)] = file("")
	}
	page = text(t, ask(t, &http1.Files{FS: many, List: true}, "/d/")[0])
	require.Equal(t, 2001, strings.Count(page, "<a "), "with the parent")
	require.Contains(t, page, "more than 2000")
}

func TestFilePrecompressed(t *testing.T) {
	fsys := tree()
	for _, name := range []string{"a.txt.gz", "a.txt.br", "large.bin.gz", "noext.gz"} {
		fsys[name] = file(name)
	}
	old := file("old")
	old.ModTime = fileTime.Add(-time.Second)
	fsys["empty.txt.gz"] = old
	h := &http1.Files{FS: fsys, Precompressed: true}
	tags := make(map[string]bool)
	for _, x := range []struct{ accept, coding string }{
		{"", ""},
		{"gzip", "gzip"},
		{"x-gzip", "gzip"},
		{"GZIP", "gzip"},
		{"gzip, br", "br"},
		{"gzip;q=1.0, br;q=0.9", "gzip"},
		{"gzip;q=0.001", "gzip"},
		{"gzip;q=0", ""},
		{"gzip; q = 0.5 ,identity", ""},
		{"gzip;q=0.5, identity;q=0.4", "gzip"},
		{"*", "br"},
		{"*;q=0", ""},
		{"*, br;q=0", "gzip"},
		{"zstd", ""},
		{"gzip;q=2", ""},
		{"gzip;q=0.1234", ""},
		{"gzip;x=1", ""},
		{"deflate, gzip\nAccept-Encoding: br", "br"},
	} {
		fields := ""
		if x.accept != "" {
			fields = "\nAccept-Encoding: " + x.accept
		}
		a := ask(t, h, "/a.txt"+fields)[0]
		require.Equal(t, x.coding, a.Header.Get("Content-Encoding"), x.accept)
		require.Equal(t, "Accept-Encoding", a.Header.Get("Vary"))
		require.Equal(t, "text/plain; charset=utf-8", a.Header.Get("Content-Type"))
		want := map[string]string{"": alphabet, "gzip": "a.txt.gz", "br": "a.txt.br"}[x.coding]
		require.Equal(t, want, text(t, a), x.accept)
		tags[a.Header.Get("Etag")] = true
		require.Equal(t, 304, ask(t, h, "/a.txt"+fields+"\nIf-None-Match: "+a.Header.Get("Etag"))[0].StatusCode)
	}
	require.Len(t, tags, 3)
	for _, name := range []string{"/empty.txt", "/noext"} {
		a := ask(t, h, name+"\nAccept-Encoding: gzip")[0]
		require.Empty(t, a.Header.Get("Content-Encoding"), name)
		require.NotContains(t, []string{"old", "noext.gz"}, text(t, a))
	}
	require.Empty(t, ask(t, http1.FileServer(fsys), "/a.txt\nAccept-Encoding: gzip")[0].Header.Get("Content-Encoding"))
}

// Nothing outside of a directory is reached, by whatever name; what leads to a place within is.
func TestDir(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "root")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(top, "secret"), []byte("secret"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", "a.txt"), []byte(alphabet), 0o600))
	large := bytes.Repeat([]byte(alphabet), 20_000)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "large.bin"), large, 0o600))
	for name, to := range map[string]string{
		"absolute": filepath.Join(top, "secret"), "relative": "../secret", "up": "..", "parent": top, "inside": "sub/a.txt", "twice": "relative", "loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	fsys, err := http1.Dir(dir)
	require.NoError(t, err)
	h := http1.FileServer(fsys)
	for _, target := range []string{"/absolute", "/relative", "/twice", "/up", "/up/", "/up/secret", "/parent/secret", "/loop", "/sub/a.txt/x",
		"/" + strings.Repeat("x", 300)} {
		a := ask(t, h, target)[0]
		require.Equal(t, 404, a.StatusCode, target)
		require.NotContains(t, text(t, a), "secret")
	}
	require.Equal(t, alphabet, text(t, ask(t, h, "/inside")[0]))
	require.Equal(t, string(large), text(t, ask(t, h, "/large.bin")[0]))
	require.Equal(t, string(large[5:400_000]), text(t, ask(t, h, "/large.bin\nRange: bytes=5-399999")[0]))
	require.Equal(t, string(large[5:10]), text(t, ask(t, h, "/large.bin\nRange: bytes=5-9")[0]))
	_, err = http1.Dir(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = http1.Dir(filepath.Join(dir, "large.bin"))
	require.Error(t, err)
}

// Whatever the target: it is answered, with nothing that is hidden, and no redirect leads away.
func FuzzFileServer(f *testing.F) {
	for _, target := range []string{"/", "/a.txt", "//x/", "/%2e%2e/a", "/sub", "/.git/config", "/sub%2f", "/a%00", "/.well-known/security.md", `/\x`, "/%5c"} {
		f.Add(target, "bytes=0-1,2-3", "gzip;q=0.5")
	}
	clean := func(s string) bool {
		return !slices.ContainsFunc([]byte(s), func(b byte) bool { return b < ' ' || b == 0x7f })
	}
	f.Fuzz(func(t *testing.T, target, ranges, accept string) {
		if target == "" || strings.ContainsAny(target, " \"#\n\r") || !clean(target) || !clean(ranges) || !clean(accept) {
			return
		}
		s := newScene(t, &http1.Server{Handler: &http1.Files{FS: tree(), List: true, Precompressed: true}}, sim.Config{})
		s.p.Say("GET " + target + " HTTP/1.1\r\nHost: a\r\nRange: " + ranges + "\r\nAccept-Encoding: " + accept + "\r\n\r\n")
		a, err := http.ReadResponse(bufio.NewReader(strings.NewReader(s.p.Read())), nil)
		require.NoError(t, err)
		body := text(t, a)
		require.NotContains(t, []string{"s", "g", "h"}, body)
		require.NotContains(t, body, ".hidden")
		if to := a.Header.Get("Location"); to != "" {
			require.False(t, strings.HasPrefix(to, "//") || to[0] != '/' || strings.Contains(to, `\`), to)
		}
		if a.StatusCode == http.StatusPartialContent {
			require.Less(t, len(body), 16*200+26+10_000*26)
		}
	})
}

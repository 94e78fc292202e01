package main

import (
	"bytes"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// A server, or who wrote the URL, has no say in where a file goes.
func TestFileName(t *testing.T) {
	for target, want := range map[string]string{
		"http://h/a/b.txt?c=d#e":  "b.txt",
		"http://h":                "index.html",
		"http://h/":               "index.html",
		"http://h/a/":             "index.html",
		"http://h/a%20b":          "a b",
		"http://h/..":             "_.",
		"http://h/a/%2e%2e":       "_.",
		"http://h/.":              "index.html",
		"http://h/.bashrc":        "_bashrc",
		"http://h/a%2F..%2Fb":     "b",
		"http://h/..%5C..%5Cx":    "_._.._x",
		"http://h/c:%5Cx":         "c__x",
		"http://h/a%00b%0A%1B[1m": "a_b__[1m",
		"http://h/%C3%BC%FF":      "ü_",
		"http://h/" + strings.Repeat("%C3%BC", 150): strings.Repeat("ü", 100),
		"http://h/a?x=/../../etc/passwd":            "a",
	} {
		u, err := url.Parse(target)
		require.NoError(t, err)
		require.Equal(t, want, fileName(u), target)
	}
}

func FuzzFileName(f *testing.F) {
	for _, s := range []string{"/a/b", "/..", "/%2e%2e%2fx", "/\x00", "/a\\b", "/" + strings.Repeat("ü", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		name := fileName(&url.URL{Scheme: "http", Host: "h", Path: path})
		require.NotEmpty(t, name)
		require.NotContains(t, name, "/")
		require.NotContains(t, name, "\\")
		require.False(t, strings.HasPrefix(name, "."))
		require.LessOrEqual(t, len(name), 200)
		require.True(t, utf8.ValidString(name))
	})
}

func TestContentRange(t *testing.T) {
	first, last, total, err := contentRange([]byte("bytes 5-9/10"))
	require.NoError(t, err)
	require.Equal(t, []int64{5, 9, 10}, []int64{first, last, total})
	_, _, total, err = contentRange([]byte("bytes 0-0/*"))
	require.NoError(t, err)
	require.EqualValues(t, -1, total)
	for _, bad := range []string{"", "bytes", "bytes */10", "bytes 5-4/10", "bytes 5-10/10", "bytes -5-9/10", "bytes +5-9/10", "octets 5-9/10", "bytes 5-9",
		"bytes 5-9/", "bytes 5-9/-1", "bytes 5 - 9/10", "bytes 5-9/9223372036854775808", "bytes a-b/c", "bytes=5-9/10"} {
		_, _, _, err := contentRange([]byte(bad))
		require.Error(t, err, bad)
	}
}

// The command line, and what it amounts to.
func TestPlan(t *testing.T) {
	plan := func(output string, resume bool, urls ...string) (*job, error) {
		j := &job{resume: resume}
		return j, j.plan(urls, output, "dir")
	}
	j, err := plan("", false, "http://h/a", "https://h/b")
	require.NoError(t, err)
	require.Equal(t, "dir/a", strings.ReplaceAll(j.downloads[0].name, `\`, "/"))
	for output, name := range map[string]string{"": "", "-": "", "x": "x"} {
		j, err = plan(output, false, "http://h/a")
		require.NoError(t, err)
		require.Equal(t, name, j.downloads[0].name)
	}
	for about, f := range map[string]func() (*job, error){
		"missing":        func() (*job, error) { return plan("", false) },
		"for one URL":    func() (*job, error) { return plan("x", false, "http://h/a", "http://h/b") },
		"would both be":  func() (*job, error) { return plan("", false, "http://tim:secret@h/a", "http://i/a") },
		"no http://":     func() (*job, error) { return plan("", false, "h/a") },
		"no file":        func() (*job, error) { return plan("", true, "http://h/a") },
		"invalid":        func() (*job, error) { return plan("", false, "http://h/%zz") },
		"no https":       func() (*job, error) { return plan("", false, "file:///etc/passwd") },
		"argument \"ftp": func() (*job, error) { return plan("", false, "ftp://h/") },
	} {
		_, err := f()
		require.Error(t, err)
		if about != "no https" {
			require.ErrorContains(t, err, about)
		}
		require.NotContains(t, err.Error(), "secret")
	}
}

// The lines of a display are as wide as they should be, and are drawn over each other.
func TestDisplay(t *testing.T) {
	require.Equal(t, "name                     [########--------]  50%     500 B      10 B/s      50s", bar("name", 500, 1000, 10))
	for _, x := range []struct {
		have, total int64
		speed       float64
	}{{0, 0, 0}, {0, 1 << 40, 0}, {1 << 39, 1 << 40, 1 << 30}, {5, 1, 1}, {999, 1000, 1e-3}, {1 << 50, -1, 1 << 50}} {
		for _, name := range []string{"", "x", strings.Repeat("ü", 100), "a\x1b[31m\n"} {
			line := bar(name, x.have, x.total, x.speed)
			require.LessOrEqual(t, utf8.RuneCountInString(line), displayWidth, line)
			require.NotContains(t, line, "\x1b")
			require.NotContains(t, line, "\n")
		}
	}
	var out bytes.Buffer
	d, e := &download{name: "one", begun: true, total: 100}, &download{name: "two", begun: true, total: -1}
	s := &display{w: &out, job: &job{downloads: []*download{d, e, {name: "three"}}}, rates: make(map[*download]*rate)}
	now := time.Unix(0, 0)
	s.draw(now)
	require.Equal(t, 2, strings.Count(out.String(), "\n"))
	require.NotContains(t, out.String(), "three")
	out.Reset()
	d.have = 50
	s.draw(now.Add(time.Second))
	require.True(t, strings.HasPrefix(out.String(), "\x1b[2A\r"))
	require.Contains(t, out.String(), "50%")
	require.Contains(t, out.String(), "50 B/s")
	out.Reset()
	d.over, e.over = true, true
	s.close()
	require.Equal(t, "\x1b[2A\r\x1b[J", out.String())
}

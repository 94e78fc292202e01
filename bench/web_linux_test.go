package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/bench/internal/load"
)

// needNginx returns the program, or skips the test.
func needNginx(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	program, err := findNginx(t.Context(), installed(), filepath.Join(cache, "parley-bench"))
	if err != nil {
		if os.Getenv(requireClients) != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return program
}

// TestWebServers has every server of the table that answers requests do what the scenarios ask of it.
func TestWebServers(t *testing.T) {
	chosen := slices.DeleteFunc(slices.Clone(servers), func(s server) bool { return s.kind != web || s.nginx })
	dir := t.TempDir()
	built, err := build(t.Context(), chosen, found{}, dir, os.Stderr)
	require.NoError(t, err)
	i := slices.IndexFunc(servers, func(s server) bool { return s.nginx })
	for _, s := range append(built.servers, servers[i]) {
		t.Run(s.name, func(t *testing.T) {
			if s.nginx {
				s.binary, s.dir = needNginx(t), dir
			}
			p, err := start(t.Context(), s, -1)
			require.NoError(t, err)
			defer p.stop()
			t.Run("requests at once", func(t *testing.T) { testPipeline(t, p) })
			t.Run("requests cut by reads", func(t *testing.T) { testRequestCuts(t, p) })
			t.Run("end of input", func(t *testing.T) { testRequestEnd(t, p) })
			if s.source == "" { // which does not look at what it is asked
				t.Run("not HTTP", func(t *testing.T) { testNotHTTP(t, p) })
			}
			require.False(t, p.ended())
			t.Run("SIGTERM", func(t *testing.T) { testTerm(t, p) })
		})
	}
}

const get = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

// expectHello reads a response.
func expectHello(t *testing.T, r *bufio.Reader) {
	h, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	body, err := io.ReadAll(h.Body)
	require.NoError(t, err)
	require.Equal(t, load.Body, string(body))
	require.Equal(t, http.StatusOK, h.StatusCode)
	require.EqualValues(t, len(load.Body), h.ContentLength)
	require.Equal(t, "text/plain; charset=utf-8", h.Header.Get("Content-Type"))
	require.NotEmpty(t, h.Header.Get("Date"))
	require.False(t, h.Close)
}

func testPipeline(t *testing.T, p *process) {
	conn := dial(t, p)
	r := bufio.NewReader(conn)
	for range 3 {
		put(t, conn, strings.Repeat(get, 100))
		for range 100 {
			expectHello(t, r)
		}
	}
}

func testRequestCuts(t *testing.T, p *process) {
	conn, other := dial(t, p), dial(t, p)
	r, o := bufio.NewReader(conn), bufio.NewReader(other)
	for cut := 1; cut < len(get); cut++ {
		put(t, conn, get[:cut])
		put(t, other, get)
		expectHello(t, o) // so that the pieces are received one by one
		put(t, conn, get[cut:])
		expectHello(t, r)
	}
}

// testRequestEnd half-closes: what was asked for is still answered, and the server ends its side, too.
func testRequestEnd(t *testing.T, p *process) {
	conn := dial(t, p)
	r := bufio.NewReader(conn)
	put(t, conn, get)
	expectHello(t, r)
	require.NoError(t, conn.CloseWrite())
	_, err := r.ReadByte()
	require.Equal(t, io.EOF, err)
}

func testNotHTTP(t *testing.T, p *process) {
	conn := dial(t, p)
	put(t, conn, "What is this?\r\n\r\n")
	h, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil { // nginx takes the first line for HTTP/0.9 and answers without a head
		require.Equal(t, http.StatusBadRequest, h.StatusCode)
	}
	other := dial(t, p) // it goes on
	put(t, other, get)
	expectHello(t, bufio.NewReader(other))
}

func TestFindNginx(t *testing.T) {
	tools, dir, cache := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "cache")
	t.Setenv("PATH", "/nowhere")
	script(t, filepath.Join(dir, "nginx"), "echo >&2 error while loading shared libraries; exit 127")
	_, err := findNginx(t.Context(), []string{dir}, cache)
	require.EqualError(t, err, "there is no apt-get to get it with")
	script(t, filepath.Join(dir, "nginx"), "echo >&2 nginx version: nginx/1")
	program, err := findNginx(t.Context(), []string{t.TempDir(), dir}, cache)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "nginx"), program)
	_, err = os.Stat(cache)
	require.ErrorIs(t, err, fs.ErrNotExist)

	t.Setenv("PATH", tools+":/usr/bin:/bin")
	script(t, filepath.Join(tools, "apt-get"), `test "$2" = nginx && : > nginx_1_all.deb`)
	script(t, filepath.Join(tools, "dpkg"), `
test "$1" = -x && test -f "$2" || exit 1
mkdir -p "$3/usr/sbin"
echo '#!/bin/sh' > "$3/usr/sbin/nginx"
echo 'echo >&2 nginx version: nginx/2' >> "$3/usr/sbin/nginx"
chmod +x "$3/usr/sbin/nginx"`)
	want := filepath.Join(cache, "nginx/usr/sbin/nginx")
	program, err = findNginx(t.Context(), nil, cache)
	require.NoError(t, err)
	require.Equal(t, want, program)

	script(t, want, "exit 127") // it does not run any more: it is fetched again
	program, err = findNginx(t.Context(), nil, cache)
	require.NoError(t, err)
	require.Equal(t, want, program)

	script(t, filepath.Join(tools, "apt-get"), `exit 1`)
	_, err = findNginx(t.Context(), nil, cache)
	require.NoError(t, err, "it is there")
}

func TestLeaveOutNginx(t *testing.T) {
	var log strings.Builder
	m := &measurement{options: parsed(t, "-scenarios", "http"), log: &log}
	cause := fmt.Errorf("there is no apt-get to get it with")
	t.Setenv(requireClients, "1")
	require.EqualError(t, m.leaveOutNginx(cause), "no nginx: there is no apt-get to get it with")
	require.Len(t, m.servers, 5)

	t.Setenv(requireClients, "")
	require.NoError(t, m.leaveOutNginx(cause))
	require.Equal(t, "without nginx: there is no apt-get to get it with\n", log.String())
	require.Equal(t, "parleyhttp,nethttp,fasthttp,chttp", join(m.servers, serverName))
}

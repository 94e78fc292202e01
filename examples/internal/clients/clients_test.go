//go:build unix

package clients

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
)

const patience = 30 * time.Second

var binaries string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if len(core.Backends()) == 0 {
			return 0
		}
		dir, err := os.MkdirTemp("", "parley-clients")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./...")
		build.Dir = filepath.Join("..", "..")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		binaries = dir
		return m.Run()
	}())
}

// need finds a client, or skips the test.
func need(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("PARLEY_REQUIRE_CLIENTS") != "" {
		t.Fatalf("%s is not installed", strings.Join(names, " or "))
	}
	t.Skipf("%s is not installed", strings.Join(names, " or "))
	return ""
}

// serve starts an example and returns where it listens.
func serve(t *testing.T, name string, args ...string) (host, port string) {
	t.Helper()
	addrs, _ := serveAt(t, 1, name, append(args, "-listen", "127.0.0.1:0")...)
	host, port, err := net.SplitHostPort(addrs[0])
	require.NoError(t, err)
	return host, port
}

// serveAt starts an example that listens on n addresses, and returns them. It ends with the test, in order, or when end is
// called.
func serveAt(t *testing.T, n int, name string, args ...string) (addrs []string, end func()) {
	t.Helper()
	cmd := exec.Command(filepath.Join(binaries, name), args...)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	for len(addrs) < n {
		require.True(t, lines.Scan())
		if addr, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			addr, _, _ = strings.Cut(addr, ",")
			addrs = append(addrs, addr)
		}
	}
	drained := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stderr)
		close(drained)
	}()
	end = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		require.NoError(t, cmd.Wait(), "the server ends in order")
	})
	t.Cleanup(end)
	return addrs, end
}

// talk runs a client, says something to it, and waits until it printed each of the wanted texts in turn.
type talk struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	output chan []byte
	seen   bytes.Buffer
}

func start(t *testing.T, path string, args ...string) *talk {
	t.Helper()
	c := &talk{t: t, cmd: exec.Command(path, args...), output: make(chan []byte)}
	in, err := c.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.cmd.Stderr = c.cmd.Stdout
	require.NoError(t, c.cmd.Start())
	c.in = in
	go func() {
		defer close(c.output)
		buf := make([]byte, 64<<10)
		for {
			n, err := out.Read(buf)
			if n > 0 {
				c.output <- bytes.Clone(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		for range c.output {
		}
		_ = c.cmd.Wait()
	})
	return c
}

func (c *talk) say(text string) {
	c.t.Helper()
	_, err := io.WriteString(c.in, text)
	require.NoError(c.t, err)
}

// want waits for a text, behind what was wanted before.
func (c *talk) want(text string) {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		if i := strings.Index(c.seen.String(), text); i >= 0 {
			c.seen.Next(i + len(text))
			return
		}
		select {
		case p, ok := <-c.output:
			if !ok {
				c.t.Fatalf("want %q, got %q and the end", text, c.seen.String())
			}
			c.seen.Write(p)
		case <-timeout:
			c.t.Fatalf("want %q, got %q", text, c.seen.String())
		}
	}
}

// wantEnd waits until the client prints no more.
func (c *talk) wantEnd() {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case p, ok := <-c.output:
			if !ok {
				return
			}
			c.seen.Write(p)
		case <-timeout:
			c.t.Fatalf("the client does not end; it printed %q", c.seen.String())
		}
	}
}

// Somebody in the room, by each client that speaks lines; they hear each other.
func TestChatByEveryClient(t *testing.T) {
	host, port := serve(t, "chat")
	ours := start(t, filepath.Join(binaries, "chatclient"), net.JoinHostPort(host, port))
	ours.want("nickname")
	ours.say("ours\n")
	ours.want("Hello, ours")
	for _, client := range []struct {
		name string
		path string
		args []string
	}{
		{"nc", need(t, "nc.openbsd", "nc"), []string{host, port}},
		{"ncat", need(t, "ncat"), []string{host, port}},
		{"telnet", need(t, "inetutils-telnet", "telnet"), []string{host, port}},
		{"curl", need(t, "curl"), []string{"-sN", "telnet://" + net.JoinHostPort(host, port)}},
	} {
		c := start(t, client.path, client.args...)
		c.want("nickname")
		c.say(client.name + "\n")
		c.want("Hello, " + client.name)
		ours.want(client.name + " has joined")
		c.say("hello from " + client.name + " äöü\n")
		ours.want("<" + client.name + "> hello from " + client.name + " äöü")
		ours.say("hello to " + client.name + "\n")
		c.want("<ours> hello to " + client.name)
		c.say("/quit bye\n")
		ours.want(client.name + " has left")
		_ = c.in.Close() // some stay until their input ends, too
		c.wantEnd()
	}
}

// A large file through the echo server by nc, byte for byte: bytes as they come, and lines.
func TestEchoByNc(t *testing.T) {
	nc := need(t, "nc.openbsd", "nc")
	var data bytes.Buffer
	for i := range 200_000 {
		fmt.Fprintf(&data, "line %d %s\r\n", i, strings.Repeat("x", i%97))
	}
	for _, args := range [][]string{nil, {"-raw"}, {"-backend", "poll"}, {"-backend", "select"}} {
		host, port := serve(t, "echo", args...)
		cmd := exec.Command(nc, "-N", host, port)
		cmd.Stdin = bytes.NewReader(data.Bytes())
		got, err := cmd.Output()
		require.NoError(t, err)
		require.True(t, bytes.Equal(data.Bytes(), got), "%v: %d of %d bytes", args, len(got), data.Len())
	}
}

// The echo server of the asyncore documentation and ours give Python's own client the same.
func TestEchoByPython(t *testing.T) {
	python := need(t, "python3")
	host, port := serve(t, "echocore")
	out, err := exec.Command(python, "-c", `
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
s.sendall(b"hello\n" * 10000)
s.shutdown(socket.SHUT_WR)
n = 0
while True:
    d = s.recv(65536)
    if not d:
        break
    n += len(d)
print(n)
`, host, port).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "60000\n", string(out))
}

// Our HTTP client and Python's web server.
func TestHTTPGetFromPython(t *testing.T) {
	python := need(t, "python3")
	dir := t.TempDir()
	page := strings.Repeat("0123456789", 100_000)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "page"), []byte(page), 0o600))
	server := exec.Command(python, "-u", "-c", `
import http.server, sys
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: http.server.SimpleHTTPRequestHandler(*a, directory=sys.argv[1]))
print(s.server_port, flush=True)
s.serve_forever()
`, dir)
	out, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	url := "http://127.0.0.1:" + strings.TrimSpace(line) + "/page"
	got, err := exec.Command(filepath.Join(binaries, "httpget"), url).Output()
	require.NoError(t, err)
	require.Equal(t, page, string(got))
	require.Error(t, exec.Command(filepath.Join(binaries, "httpget"), "-fail", url+"-not").Run())
}

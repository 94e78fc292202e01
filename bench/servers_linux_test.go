package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const longest = 2 << 20 // the longest line that all servers take, without its end

// client is our end of a connection, with TLS or without.
type client struct {
	net.Conn
	socket *net.TCPConn
}

// CloseWrite ends the stream, with TLS only there.
func (c client) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// dial connects to a server, for no longer than a test may take.
func dial(t *testing.T, p *process) client {
	conn, err := net.Dial("tcp", p.addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	c := client{conn, conn.(*net.TCPConn)}
	if p.kind == secured {
		c.Conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	return c
}

func put(t *testing.T, conn net.Conn, s string) {
	_, err := conn.Write([]byte(s))
	require.NoError(t, err)
}

func expect(t *testing.T, conn net.Conn, want string) {
	got := make([]byte, len(want))
	_, err := io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

// TestServers has every server of the table that echoes lines do what it must.
func TestServers(t *testing.T) {
	echoes := slices.DeleteFunc(slices.Clone(servers), func(s server) bool {
		return s.kind == mail || s.kind == web || s.kind == telling
	})
	built, err := build(t.Context(), echoes, found{}, t.TempDir(), os.Stderr)
	require.NoError(t, err)
	for _, s := range built.servers {
		t.Run(s.name, func(t *testing.T) {
			p, err := start(t.Context(), s, -1)
			require.NoError(t, err)
			defer p.stop()
			t.Run("lines cut by reads", func(t *testing.T) { testCuts(t, p) })
			t.Run("every length", func(t *testing.T) { testLengths(t, p) })
			t.Run("the longest line", func(t *testing.T) { testLongest(t, p) })
			t.Run("a line too long", func(t *testing.T) { testTooLong(t, p) })
			t.Run("a peer that reads late", func(t *testing.T) { testLateReader(t, p) })
			if !s.hasty {
				t.Run("end of input", func(t *testing.T) { testEnd(t, p) })
			}
			t.Run("a reset", func(t *testing.T) { testReset(t, p) })
			require.False(t, p.ended())
			t.Run("SIGTERM", func(t *testing.T) { testTerm(t, p) })
		})
	}
}

// testCuts sends a text cut at every place, and has another connection's echo between the pieces, so that they are
// received one by one. A line is echoed when its end is there, whatever else is.
func testCuts(t *testing.T, p *process) {
	conn, other := dial(t, p), dial(t, p)
	const text = "one\n\ntwo\r\nthree"
	for cut := range len(text) {
		put(t, conn, text[:cut])
		put(t, other, "between\n")
		expect(t, other, "between\n")
		whole := bytes.LastIndexByte([]byte(text[:cut]), '\n') + 1
		expect(t, conn, text[:whole]) // before the rest is sent
		put(t, conn, text[cut:]+"\n")
		expect(t, conn, text[whole:]+"\n")
	}
}

// testLengths sends lines of lengths around the sizes of buffers, one by one and all at once.
func testLengths(t *testing.T, p *process) {
	var all bytes.Buffer
	conn := dial(t, p)
	for _, size := range []int{4 << 10, 8 << 10, 64 << 10, 128 << 10, 256 << 10} {
		for n := size - 2; n <= size+2; n++ {
			line := append(bytes.Repeat([]byte{byte(n)}, n), '\n')
			line = bytes.ReplaceAll(line[:n], []byte{'\n'}, []byte{0})
			line = append(line, '\n')
			put(t, conn, string(line))
			expect(t, conn, string(line))
			all.Write(line)
		}
	}
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(all.Bytes())
		sent <- err
	}()
	expect(t, conn, all.String())
	require.NoError(t, <-sent)
}

func testLongest(t *testing.T, p *process) {
	conn := dial(t, p)
	line := string(bytes.Repeat([]byte("0123456789abcdef"), longest/16)) + "\n"
	for range 2 {
		put(t, conn, line) // nothing comes back before its end is there
		expect(t, conn, line)
	}
}

func testTooLong(t *testing.T, p *process) {
	conn := dial(t, p)
	_, _ = conn.Write(make([]byte, longest+256<<10)) // fails when the server closes
	n, err := io.Copy(io.Discard, conn)
	require.Zero(t, n)
	if err != nil {
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
}

// testLateReader does not read while it sends, so that the server's writes come out short.
func testLateReader(t *testing.T, p *process) {
	conn := dial(t, p)
	require.NoError(t, conn.socket.SetReadBuffer(256<<10))
	var text bytes.Buffer
	for n := 0; text.Len() < 16<<20; n++ {
		fmt.Fprintf(&text, "%d %*d\n", n, n%9000, n)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(text.Bytes())
		sent <- err
	}()
	other := dial(t, p)
	for range 100 { // the others are served meanwhile
		put(t, other, "x\n")
		expect(t, other, "x\n")
	}
	want := bufio.NewReader(&text)
	got := bufio.NewReaderSize(conn, 1<<10)
	for n := 0; ; n++ {
		line, err := want.ReadString('\n')
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		echo, err := got.ReadString('\n')
		require.NoError(t, err)
		if line != echo {
			t.Fatalf("line %d differs", n)
		}
	}
	require.NoError(t, <-sent)
}

// testEnd half-closes: the answer still comes, without the line that has no end.
func testEnd(t *testing.T, p *process) {
	conn := dial(t, p)
	put(t, conn, "whole\nhalf")
	require.NoError(t, conn.CloseWrite())
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "whole\n", string(got))
}

func testReset(t *testing.T, p *process) {
	conn := dial(t, p)
	put(t, conn, "x\n")
	require.NoError(t, conn.socket.SetLinger(0))
	require.NoError(t, conn.socket.Close())
	other := dial(t, p) // it goes on
	put(t, other, "y\n")
	expect(t, other, "y\n")
	require.NoError(t, other.CloseWrite())
	_, err := io.Copy(io.Discard, other)
	require.NoError(t, err)
}

func testTerm(t *testing.T, p *process) {
	p.stop()
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.NotEqual(t, syscall.SIGKILL, status.Signal(), "it had to be killed")
}

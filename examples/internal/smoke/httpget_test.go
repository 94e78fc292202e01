//go:build unix

package smoke

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// website accepts one connection, reads a request, and has answer deal with the connection.
func website(t *testing.T, answer func(conn *net.TCPConn)) (addr string, request <-chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	requests := make(chan string, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		var text strings.Builder
		for r := bufio.NewReader(conn); !strings.HasSuffix(text.String(), "\r\n\r\n"); {
			line, err := r.ReadString('\n')
			text.WriteString(line)
			if err != nil {
				break
			}
		}
		requests <- text.String()
		answer(conn.(*net.TCPConn))
	}()
	return ln.Addr().String(), requests
}

func TestHTTPGet(t *testing.T) {
	say := func(text string) func(*net.TCPConn) {
		return func(c *net.TCPConn) { _, _ = io.WriteString(c, text) }
	}
	for _, test := range []struct {
		name   string
		args   []string
		answer func(*net.TCPConn)
		page   string
		status int
		err    string
	}{
		{"until close", nil, say("HTTP/1.0 200 OK\r\n\r\nhello\n"), "hello\n", 0, ""},
		{"large", nil, say("HTTP/1.0 200 OK\r\n\r\n" + strings.Repeat("0123456789", 100_000)), strings.Repeat("0123456789", 100_000), 0, ""},
		{"length, and the server stays", nil, func(c *net.TCPConn) {
			say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")(c)
			_, _ = c.Read(make([]byte, 1)) // until the client goes
		}, "hello\n", 0, ""},
		{"header too", []string{"-head"}, say("HTTP/1.0 200 OK\r\nA: b\r\n\r\nhello\n"), "HTTP/1.0 200 OK\r\nA: b\r\n\r\nhello\n", 0, ""},
		{"not found", nil, say("HTTP/1.0 404 Not Found\r\n\r\nno\n"), "no\n", 0, ""},
		{"not found, -fail", []string{"-fail"}, say("HTTP/1.0 404 Not Found\r\n\r\nno\n"), "no\n", 1, "404 Not Found"},
		{"found, -fail", []string{"-fail"}, say("HTTP/1.0 200 OK\r\n\r\nyes\n"), "yes\n", 0, ""},
		{"cut short", nil, say("HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nhello\n"), "hello\n", 1, "6 of 7"},
		{"cut in the header", nil, say("HTTP/1.0 200 OK\r\nContent-Le"), "", 1, "within its header"},
		{"no answer", nil, say(""), "", 1, "without an answer"},
		{"not HTTP", nil, say("220 mail ESMTP\r\n"), "", 1, "not HTTP"},
		{"reset", nil, func(c *net.TCPConn) {
			say("HTTP/1.0 200 OK\r\n\r\n")(c)
			_ = c.SetLinger(0)
		}, "", 1, "reset"},
		{"silence", []string{"-timeout", "500ms"}, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1)) }, "", 1, "timeout after 500ms"},
		{"silence in the page", []string{"-timeout", "1s"}, func(c *net.TCPConn) {
			say("HTTP/1.0 200 OK\r\n\r\nhel")(c)
			_, _ = c.Read(make([]byte, 1))
		}, "hel", 1, "timeout after 1s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			addr, request := website(t, test.answer)
			p := start(t, "httpget", append(test.args, "http://"+addr+"/a%20page?q=1#here")...)
			if test.err == "" {
				p.wantExit(test.status)
				require.Empty(t, p.stderr.String())
			} else {
				p.wantComplaint(test.status, test.err)
			}
			select {
			case got := <-request:
				require.Equal(t, "GET /a%20page?q=1 HTTP/1.0\r\nHost: "+addr+"\r\n\r\n", got)
			case <-time.After(patience):
				require.Fail(t, "no request")
			}
			require.Equal(t, test.page, p.stdout.String())
		})
	}
}

// refusedPort is a port of 127.0.0.1 that is taken, so that nobody else can listen there, and does not listen.
func refusedPort(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	addr, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	return strconv.Itoa(addr.(*syscall.SockaddrInet4).Port)
}

func TestHTTPGetWithoutAnswer(t *testing.T) {
	port := refusedPort(t)
	for _, test := range []struct {
		name   string
		args   []string
		status int
		err    string
	}{
		{"no URL", nil, 2, "URL is missing"},
		{"https", []string{"https://localhost/"}, 2, "https is not supported"},
		{"another scheme", []string{"ftp://localhost/"}, 2, "http://"},
		{"no scheme", []string{"localhost/page"}, 2, "http://"},
		{"host and port alone", []string{"localhost:80"}, 2, "http://"},
		{"no host", []string{"http:///page"}, 2, "names no host"},
		{"bad port", []string{"http://localhost:http/"}, 2, "invalid port"},
		{"impossible port", []string{"http://localhost:65536/"}, 1, "invalid port"},
		{"password", []string{"http://me:secret@localhost/"}, 2, "not supported"},
		{"control character", []string{"http://localhost/\r\nX: y"}, 2, "invalid control character"},
		{"no time", []string{"-timeout", "0s", "http://localhost/"}, 2, "-timeout"},
		{"refused", []string{"http://127.0.0.1:" + port + "/"}, 1, "refused"},
		{"refused on every address", []string{"http://localhost:" + port + "/"}, 1, "refused"},
		{"no such name", []string{"-timeout", "20s", "http://no-such-host.invalid/"}, 1, "no-such-host.invalid"}, // RFC 2606, section 2
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "httpget", test.args...)
			p.wantComplaint(test.status, test.err)
			require.Empty(t, p.stdout.String())
			require.NotContains(t, p.stderr.String(), "secret")
		})
	}
}

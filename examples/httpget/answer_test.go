package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each answer is taken apart in the same way however it was cut into reads.
func TestAnswer(t *testing.T) {
	const page = "<p>hello</p>\n"
	for _, test := range []struct {
		name   string
		head   bool
		answer string
		want   string // written
		err    string // part of it
	}{
		// RFC 1945, section 7.2.2: without a length the end of the connection is the end of the page.
		{"until close", false, "HTTP/1.0 200 OK\r\nServer: x\r\n\r\n" + page, page, ""},
		{"until close, empty", false, "HTTP/1.0 200 OK\r\n\r\n", "", ""},
		{"no reason", false, "HTTP/1.1 200\r\n\r\n" + page, page, ""},
		{"length", false, "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + page, page, ""},
		{"length in lower case", false, "HTTP/1.1 200 OK\r\ncontent-length:13 \r\n\r\n" + page, page, ""},
		{"length and more", false, "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n" + page + "more", page, ""},
		{"length 0", false, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", ""},
		{"one short", false, "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n" + page, page, "cut short: 13 of 14 bytes"},
		{"no body at all", false, "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n", "", "cut short: 0 of 14 bytes"},
		{"status without a body", false, "HTTP/1.1 304 Not Modified\r\nContent-Length: 14\r\n\r\n", "", ""},
		{"not found", false, "HTTP/1.0 404 Not Found\r\n\r\n" + page, page, ""},
		// RFC 1945, appendix B: a line may end in LF alone.
		{"bare LF", false, "HTTP/1.0 200 OK\nContent-Length: 13\n\n" + page, page, ""},
		{"LF, and CRLF in the page", false, "HTTP/1.0 200 OK\n\na\r\n\r\nb", "a\r\n\r\nb", ""},
		{"with the header", true, "HTTP/1.0 200 OK\r\nA: b\r\n\r\n" + page, "HTTP/1.0 200 OK\r\nA: b\r\n\r\n" + page, ""},
		{"large header", false, "HTTP/1.0 200 OK\r\nA: " + strings.Repeat("x", 60_000) + "\r\n\r\n" + page, page, ""},

		{"nothing", false, "", "", "without an answer"},
		{"half a header", false, "HTTP/1.0 200 OK\r\nA: b\r\n", "", "within its header"},
		{"not HTTP", false, "220 mail.example ESMTP\r\n", "", "not HTTP"},
		{"the request, echoed", false, "GET / HTTP/1.0\r\n\r\n", "", "not HTTP"},
		{"no status", false, "HTTP/1.0 OK\r\n\r\n", "", "not HTTP"},
		{"status of four digits", false, "HTTP/1.0 2000 OK\r\n\r\n", "", "not HTTP"},
		{"transfer encoding", false, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", "", "transfer encoding"},
		{"two lengths", false, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "", "2 lengths"},
		{"bad length", false, "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na", "", "bad Content-Length"},
		{"bad header", false, "HTTP/1.1 200 OK\r\nno colon\r\n\r\na", "", "bad header"},
		{"header without end", false, "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", maxHeader), "", "larger than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for cut := 0; cut <= min(len(test.answer), 200); cut++ {
				got, err := take(test.head, test.answer[:cut], test.answer[cut:])
				require.Equal(t, test.want, got, "cut at %d", cut)
				check(t, test.err, err)
			}
			if len(test.answer) > 1000 {
				return
			}
			got, err := take(test.head, strings.Split(test.answer, "")...)
			require.Equal(t, test.want, got, "one byte at a time")
			check(t, test.err, err)
		})
	}
}

// take gives an answer its pieces as the client would.
func take(head bool, pieces ...string) (written string, err error) {
	var out strings.Builder
	a := answer{out: &out, head: head}
	for _, p := range pieces {
		if p == "" {
			continue
		}
		if _, err := a.Write([]byte(p)); err != nil {
			return out.String(), err
		}
		if a.complete() {
			return out.String(), nil
		}
	}
	return out.String(), a.finish()
}

func check(t *testing.T, want string, err error) {
	t.Helper()
	if want == "" {
		require.NoError(t, err)
		return
	}
	require.ErrorContains(t, err, want)
}

type fullDisk struct{}

var errFull = errors.New("no space left")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

// A page that cannot be written is not whole.
func TestAnswerNotWritten(t *testing.T) {
	for _, head := range []bool{false, true} {
		a := answer{out: fullDisk{}, head: head}
		_, err := a.Write([]byte("HTTP/1.0 200 OK\r\n\r\npage"))
		require.ErrorIs(t, err, errFull)
	}
}

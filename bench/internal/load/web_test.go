package load

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const hello = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: x\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 14\r\n\r\nHello, World!\n"

var helloDate = time.Date(1994, time.November, 6, 8, 49, 37, 0, time.UTC)

func TestNewResponse(t *testing.T) {
	r, err := newResponse([]byte(hello), helloDate)
	require.NoError(t, err)
	require.Equal(t, "Sun, 06 Nov 1994 08:49:37 GMT", hello[r.date:][:len(dateShape)])
	for n := range len(hello) {
		require.False(t, complete([]byte(hello[:n])))
	}
	require.True(t, complete([]byte(hello)))

	for _, c := range []struct{ old, new, want string }{
		{"200 OK", "404 Not Found", "not 200"},
		{"200 OK", "200 Well", "not 200"},
		{"HTTP/1.1", "HTTP/1.0", "not 200"},
		{"HTTP", "SMTP", "malformed"},
		{"Hello", "Hullo", "not the one to come"},
		{"Content-Length: 14", "X: 14", "length -1"},
		{"Content-Length: 14", "Content-Length: 13", "length 13"},
		{"Content-Length: 14", "Content-Length: 15", "unexpected EOF"},
		{"text/plain", "text/html", "Content-Type"},
		{"World!\n", "World!\nx", "more than was asked for"},
		{"Server: x", "Connection: close", "closed after the first"},
		{"Date:", "Dato:", `Date is ""`},
		{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Date"},
		{"1994", "1993", `Date is "Sun, 06 Nov 1993 08:49:37 GMT" at 1994-11-06`},
	} {
		_, err := newResponse([]byte(strings.Replace(hello, c.old, c.new, 1)), helloDate)
		require.ErrorContains(t, err, c.want, c.new)
	}
}

// What is compared: everything, and of a date its form, however the stream is cut.
func TestCheckResponses(t *testing.T) {
	r, err := newResponse([]byte(hello), helloDate)
	require.NoError(t, err)
	later := strings.Replace(hello, "Sun, 06 Nov 1994 08:49:37", "Mon, 07 Dec 2026 19:50:48", 1)
	all := []byte(hello + later + hello)
	for from := range all {
		for to := from; to <= len(all); to += 7 {
			require.NoError(t, r.check(all[from:to], from, len(all)))
		}
	}
	inDate := func(i int) bool { i -= r.date; return 0 <= i && i < len(dateShape) }
	for i := range hello {
		wrong := bytes.Clone(all)
		wrong[len(hello)+i] ^= 0x80
		err := r.check(wrong, 0, len(wrong))
		require.ErrorContains(t, err, "wrong byte")
		if !inDate(i) {
			wrong[len(hello)+i] ^= 0x81
			require.ErrorContains(t, r.check(wrong, 0, len(wrong)), "wrong byte", "of the same class")
		}
	}
	require.EqualError(t, r.check([]byte("HTTp"), 0, len(hello)),
		"wrong byte 0x70 instead of 0x50 at offset 3 of a response, 3 of 142")
	require.EqualError(t, r.check([]byte("sun"), len(hello)+r.date, 2*len(hello)),
		"wrong byte 0x73 in a date, at offset 23 of a response, 165 of 284")
	require.EqualError(t, r.check(all, 0, len(all)-3), "3 bytes more than were asked for")
	require.ErrorContains(t, r.check(append([]byte("x"), all...), 0, len(all)), "wrong byte 0x78")
}

func TestRequests(t *testing.T) {
	text := newRequests(3)
	batch, next := text.batch(text.start(7))
	require.Equal(t, strings.Repeat(request, 3), string(batch))
	require.Zero(t, next)
	text.answer = &response{text: []byte(hello)}
	require.Equal(t, 0, text.due(len(request)-1))
	require.Equal(t, len(hello), text.due(len(request)))
	require.Equal(t, 3*len(hello), text.due(len(batch)))
}

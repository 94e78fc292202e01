package http1

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
)

// answer is what a server says to one request, and what becomes of the call.
type answer struct {
	name   string
	method string // GET if ""
	said   string // with LF for CRLF, and "¶" for a bare LF
	eof    bool   // the server ends its stream then
	want   string // an outcome; "!" and then a part of the error
	open   bool   // the connection can be used again
}

const whole200 = `interim []; 200; `

var answers = []answer{
	// RFC 9112 section 6.3
	{"length", "", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", false, whole200 + `length 5; "hello"; trailers map[]`, true},
	{"length 0", "", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", false, whole200 + `length 0; ""; trailers map[]`, true},
	{"length, blanks", "", "HTTP/1.1 200 OK\ncontent-length: \t5 \t\n\nhello", false, whole200 + `length 5; "hello"; trailers map[]`, true},
	{"no reason", "", "HTTP/1.1 200\nContent-Length: 1\n\nx", false, whole200 + `length 1; "x"; trailers map[]`, true},
	{"empty reason", "", "HTTP/1.1 200 \nContent-Length: 1\n\nx", false, whole200 + `length 1; "x"; trailers map[]`, true},
	{"1.0", "", "HTTP/1.0 200 OK\nContent-Length: 1\n\nx", false, whole200 + `length 1; "x"; trailers map[]`, false},
	{"1.0, keep-alive", "", "HTTP/1.0 200 OK\nConnection: Keep-Alive\nContent-Length: 1\n\nx", false, whole200 + `length 1; "x"; trailers map[]`, true},
	{"close", "", "HTTP/1.1 200 OK\nConnection: foo, CLOSE\nContent-Length: 1\n\nx", false, whole200 + `length 1; "x"; trailers map[]`, false},
	{"until close", "", "HTTP/1.1 200 OK\n\nhello", true, whole200 + `length -1; "hello"; trailers map[]`, false},
	{"until close, nothing", "", "HTTP/1.0 200 OK\n\n", true, whole200 + `length -1; ""; trailers map[]`, false},
	{"length, then the end", "", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", true, whole200 + `length 5; "hello"; trailers map[]`, false},
	{"head only", "HEAD", "HTTP/1.1 200 OK\nContent-Length: 5\n\n", false, whole200 + `length 5; ""; trailers map[]`, true},
	{"head only, chunked", "HEAD", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", false, whole200 + `length -1; ""; trailers map[]`, true},
	{"204", "", "HTTP/1.1 204 No Content\n\n", false, `interim []; 204; length 0; ""; trailers map[]`, true},
	{"204 with a length", "", "HTTP/1.1 204 No Content\nContent-Length: 5\n\n", false, `interim []; 204; length 0; ""; trailers map[]`, true},
	{"304", "", "HTTP/1.1 304 Not Modified\nContent-Length: 5\n\n", false, `interim []; 304; length 5; ""; trailers map[]`, true},
	{"404", "", "HTTP/1.1 404 Not Found\nContent-Length: 2\n\nno", false, `interim []; 404; length 2; "no"; trailers map[]`, true},
	{"999", "", "HTTP/1.1 999 ?\nContent-Length: 2\n\nno", false, `interim []; 999; length 2; "no"; trailers map[]`, true},
	{"redirection, not followed", "", "HTTP/1.1 302 Found\nLocation: /x\nContent-Length: 2\n\nno", false, `interim []; 302; length 2; "no"; trailers map[]`, true},
	{"interim", "", "HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\nLink: x\n\nHTTP/1.1 200 OK\nContent-Length: 1\n\nx", false, `interim [100 103]; 200; length 1; "x"; trailers map[]`, true},
	{"eight interim", "", strings.Repeat("HTTP/1.1 102 Processing\n\n", 8) + "HTTP/1.1 200 OK\nContent-Length: 1\n\nx", false, `interim [102 102 102 102 102 102 102 102]; 200; length 1; "x"; trailers map[]`, true},
	{"nine interim", "", strings.Repeat("HTTP/1.1 102 Processing\n\n", 9), false, "!too many interim responses", false},

	// RFC 9112 section 7.1
	{"chunked", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n6\n world\n0\n\n", false, whole200 + `length -1; "hello world"; trailers map[]`, true},
	{"chunked, nothing", "", "HTTP/1.1 200 OK\nTransfer-Encoding: Chunked\n\n0\n\n", false, whole200 + `length -1; ""; trailers map[]`, true},
	{"chunked, extensions", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5;a=b;c=\"d\\\"e\"\nhello\n000;x\n\n", false, whole200 + `length -1; "hello"; trailers map[]`, true},
	{"chunked, trailers", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\nX: y\nx:z \n\n", false, whole200 + `length -1; "hello"; trailers map[X:[y z]]`, true},
	{"chunked data that looks like framing", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n7\n\n0\n\n\n0\n\n", false, whole200 + `length -1; "\r\n0\r\n\r\n"; trailers map[]`, true},
	{"upper case size", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nA\n0123456789\n0\n\n", false, whole200 + `length -1; "0123456789"; trailers map[]`, true},

	// Cut short: never a success.
	{"nothing at all", "", "", true, "!without a response", false},
	{"cut in the head", "", "HTTP/1.1 200 OK\nContent-", true, "!within its head", false},
	{"cut before the empty line", "", "HTTP/1.1 200 OK\nContent-Length: 0\n", true, "!within its head", false},
	{"cut after an interim response", "", "HTTP/1.1 100 Continue\n\n", true, "!within its head", false},
	{"cut in the body", "", "HTTP/1.1 200 OK\nContent-Length: 6\n\nhello", true, "!5 of 6 octets", false},
	{"cut before the body", "", "HTTP/1.1 200 OK\nContent-Length: 6\n\n", true, "!0 of 6 octets", false},
	{"cut in a chunk", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n6\nhello", true, "!after 5 octets", false},
	{"cut behind a chunk", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello", true, "!after 5 octets", false},
	{"cut before the last chunk", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n", true, "!after 5 octets", false},
	{"cut in the last chunk", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0", true, "!after 5 octets", false},
	{"cut before the end of the trailers", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\n", true, "!after 5 octets", false},
	{"cut in the trailers", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\nX: y\n", true, "!after 5 octets", false},

	// No responses.
	{"SMTP", "", "220 mx ESMTP\n", false, "!not HTTP", false},
	{"HTTP/0.9", "", "<html>", false, "!not HTTP", false},
	{"an empty line first", "", "\nHTTP/1.1 200 OK\n\n", false, "!not HTTP", false},
	{"HTTP/2", "", "HTTP/2.0 200 OK\n\n", false, "!HTTP Version Not Supported", false},
	{"HTTP/1.10", "", "HTTP/1.10 200 OK\n\n", false, "!malformed HTTP version", false},
	{"lower case", "", "http/1.1 200 OK\n\n", false, "!not HTTP", false},
	{"ICY", "", "ICY 200 OK\n\n", false, "!not HTTP", false},
	{"status of two digits", "", "HTTP/1.1 20 OK\n\n", false, "!malformed status line", false},
	{"status of four digits", "", "HTTP/1.1 2000 OK\n\n", false, "!malformed status line", false},
	{"status below 100", "", "HTTP/1.1 099 OK\n\n", false, "!malformed status line", false},
	{"status not a number", "", "HTTP/1.1 2x0 OK\n\n", false, "!malformed status line", false},
	{"two blanks", "", "HTTP/1.1  200 OK\n\n", false, "!malformed status line", false},
	{"101", "", "HTTP/1.1 101 Switching Protocols\nUpgrade: x\nConnection: upgrade\n\n", false, "!101", false},

	// RFC 9112 section 5
	{"obs-fold", "", "HTTP/1.1 200 OK\nX: a\n b\nContent-Length: 0\n\n", false, "!folded", false},
	{"obs-fold first", "", "HTTP/1.1 200 OK\n X: a\nContent-Length: 0\n\n", false, "!folded", false},
	{"bare LF in the status line", "", "HTTP/1.1 200 OK¶Content-Length: 0\n\n", false, "!line feed", false},
	{"bare LF in a field", "", "HTTP/1.1 200 OK\nX: y¶Content-Length: 0\n\n", false, "!line feed", false},
	{"bare LF for the empty line", "", "HTTP/1.1 200 OK\nContent-Length: 0\n¶", false, "!line feed", false},
	{"bare CR", "", "HTTP/1.1 200 OK\nX: a\rb\nContent-Length: 0\n\n", false, "!malformed header field value", false},
	{"NUL", "", "HTTP/1.1 200 OK\nX: a\x00b\nContent-Length: 0\n\n", false, "!malformed header field value", false},
	{"blank before the colon", "", "HTTP/1.1 200 OK\nContent-Length : 0\n\n", false, "!malformed header field name", false},
	{"no colon", "", "HTTP/1.1 200 OK\nX\nContent-Length: 0\n\n", false, "!malformed header field name", false},
	{"no name", "", "HTTP/1.1 200 OK\n: x\nContent-Length: 0\n\n", false, "!malformed header field name", false},

	// RFC 9112 section 6
	{"length and coding", "", "HTTP/1.1 200 OK\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n", false, "!both Content-Length and Transfer-Encoding", false},
	{"coding and length", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n", false, "!both Content-Length and Transfer-Encoding", false},
	{"two lengths", "", "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 6\n\nhello", false, "!more than one Content-Length", false},
	{"equal lengths", "", "HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 5\n\nhello", false, "!more than one Content-Length", false},
	{"list of lengths", "", "HTTP/1.1 200 OK\nContent-Length: 5, 5\n\nhello", false, "!malformed Content-Length", false},
	{"signed length", "", "HTTP/1.1 200 OK\nContent-Length: +5\n\nhello", false, "!malformed Content-Length", false},
	{"negative length", "", "HTTP/1.1 200 OK\nContent-Length: -5\n\nhello", false, "!malformed Content-Length", false},
	{"hexadecimal length", "", "HTTP/1.1 200 OK\nContent-Length: 0x5\n\nhello", false, "!malformed Content-Length", false},
	{"empty length", "", "HTTP/1.1 200 OK\nContent-Length:\n\nhello", false, "!malformed Content-Length", false},
	{"length beyond 63 bits", "", "HTTP/1.1 200 OK\nContent-Length: 9223372036854775808\n\nhello", false, "!malformed Content-Length", false},
	{"coding not chunked", "", "HTTP/1.1 200 OK\nTransfer-Encoding: identity\n\nhello", true, "!unknown transfer coding", false},
	{"coding gzip", "", "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n0\n\n", false, "!unknown transfer coding", false},
	{"chunked not last", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked, gzip\n\n0\n\n", false, "!malformed Transfer-Encoding", false},
	{"chunked twice", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n", false, "!malformed Transfer-Encoding", false},
	{"chunked by HTTP/1.0", "", "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n0\n\n", false, "!Transfer-Encoding in HTTP/1.0", false},
	{"bad chunk size", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0x5\nhello\n0\n\n", false, "!malformed chunk", false},
	{"no chunk size", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n\nhello\n0\n\n", false, "!malformed chunk size", false},
	{"blank before a chunk size", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n 5\nhello\n0\n\n", false, "!malformed chunk size", false},
	{"blank behind a chunk size", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5 \nhello\n0\n\n", false, "!malformed chunk extension", false},
	{"chunk size of 17 digits", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n00000000000000005\nhello\n0\n\n", false, "!malformed chunk size", false},
	{"chunk size beyond 63 bits", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n8000000000000000\nhello\n0\n\n", false, "!malformed chunk size", false},
	{"LF behind a chunk size", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5¶hello\n0\n\n", false, "!line feed", false},
	{"LF in a chunk extension", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5;a¶hello\n0\n\n", false, "!line feed", false},
	{"CR in a chunk extension", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5;a\rb\nhello\n0\n\n", false, "!malformed chunk extension", false},
	{"chunk too long", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nhello\n0\n\n", false, "!does not end where it should", false},
	{"chunk too short", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n6\nhello\n0\n\n", false, "!does not end where it should", false},
	{"LF behind a chunk", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello¶0\n\n", false, "!does not end where it should", false},
	{"LF behind the last chunk", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0¶¶", false, "!line feed", false},
	{"LF behind a trailer", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\nX: y¶\n", false, "!line feed", false},
	{"trailer without a colon", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\nX y\n\n", false, "!malformed header field name", false},
	{"folded trailer", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\nX: y\n z\n\n", false, "!folded", false},

	// Response splitting: what nobody asked for is not an answer to the next request.
	{"more than the length", "", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhelloHTTP/1.1 200 OK\nContent-Length: 4\n\nevil", false, whole200 + `length 5; "hello"; trailers map[]`, false},
	{"two responses", "", "HTTP/1.1 200 OK\nContent-Length: 0\n\nHTTP/1.1 200 OK\nContent-Length: 4\n\nevil", false, whole200 + `length 0; ""; trailers map[]`, false},
	{"more than the last chunk", "", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\nHTTP/1.1 200 OK\nContent-Length: 4\n\nevil", false, whole200 + `length -1; "hello"; trailers map[]`, false},
	{"a body in answer to HEAD", "HEAD", "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", false, whole200 + `length 5; ""; trailers map[]`, false},
	{"a body with 304", "", "HTTP/1.1 304 Not Modified\n\nhello", false, `interim []; 304; length -1; ""; trailers map[]`, false},
}

func (a *answer) wire() string { return strings.ReplaceAll(crlf(a.said), "¶", "\n") }

func (a *answer) check(t *testing.T, got, how string) {
	t.Helper()
	if part, ok := strings.CutPrefix(a.want, "!"); ok {
		require.Contains(t, got, "error: ", how)
		require.Contains(t, got, part, how)
	} else {
		require.Equal(t, a.want, got, how)
	}
}

// play has a server say an answer, and looks at whether the connection lives on.
func (a *answer) play(t *testing.T, net sim.Config, cut int) (text string, open bool) {
	s := newClientScene(t, net, nil)
	o := s.do(Outgoing{Method: a.method}, "/")
	srv := s.ln.Accept()
	method := a.method
	if method == "" {
		method = "GET"
	}
	srv.Want(method + strings.TrimPrefix(getRequest("/"), "GET"))
	said := a.wire()
	if cut >= 0 {
		srv.Say(said[:cut])
		s.Settle()
		said = said[cut:]
	}
	srv.Say(said)
	if a.eof {
		srv.CloseWrite()
	}
	if !s.Until(func() bool { return o.done > 0 }) {
		return "not done", true
	}
	if strings.HasPrefix(o.text(), "interim") && o.err != nil {
		if a.eof && strings.Contains(a.want, "cut") {
			require.ErrorIs(t, o.err, io.ErrUnexpectedEOF)
		}
	}
	s.Settle()
	require.Zero(t, s.cl.Stats().Active)
	require.Equal(t, s.cl.Stats().Idle == 1, !srv.Ended())
	return o.text(), s.cl.Stats().Idle == 1
}

// Every answer, at every cut: the outcome does not depend on it.
func TestClientAnswers(t *testing.T) {
	for _, a := range answers {
		t.Run(a.name, func(t *testing.T) {
			got, open := a.play(t, sim.Config{}, -1)
			a.check(t, got, "as written")
			require.Equal(t, a.open, open)
			for cut := range len(a.wire()) {
				again, open := a.play(t, sim.Config{Untraced: cut%2 == 0}, cut)
				require.Equal(t, got, again, "cut at %d", cut)
				require.Equal(t, a.open, open, "cut at %d", cut)
			}
			for seed := range uint64(4) {
				r := rand.New(rand.NewPCG(seed, 2))
				again, open := a.play(t, sim.Config{Seed: seed, MaxRecv: 1 + int(seed)*3, RandomCuts: seed%2 == 0, Latency: time.Millisecond,
					Jitter: time.Millisecond, Again: float64(r.IntN(3)) / 10, Spurious: float64(r.IntN(3)) / 10}, -1)
				require.Equal(t, got, again, "seed %d", seed)
				require.Equal(t, a.open, open, "seed %d", seed)
			}
		})
	}
}

// The error of a response that is cut short or malformed can be told apart.
func TestClientErrors(t *testing.T) {
	for _, a := range answers {
		part, ok := strings.CutPrefix(a.want, "!")
		if !ok {
			continue
		}
		s := newClientScene(t, sim.Config{}, nil)
		o := s.do(Outgoing{Method: a.method}, "/")
		srv := s.ln.Accept()
		srv.Say(a.wire())
		if a.eof {
			srv.CloseWrite()
		}
		s.Settle()
		require.Error(t, o.err)
		var e *Error
		if strings.Contains(part, "of 6") || strings.Contains(part, "after") || strings.Contains(part, "with") {
			require.ErrorIs(t, o.err, io.ErrUnexpectedEOF, a.name)
			require.NotErrorIs(t, o.err, ErrResponse)
		} else {
			require.ErrorIs(t, o.err, ErrResponse, a.name)
			require.ErrorAs(t, o.err, &e)
			require.Equal(t, 502, e.Status, fmt.Sprint(a.name))
		}
	}
}

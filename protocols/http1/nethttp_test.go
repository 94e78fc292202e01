//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package http1_test

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// The same answers of both servers, by path.
func ourTwin(w *http1.ResponseWriter, r *http1.Request) error {
	return r.ReadAll(0, func(body []byte) error {
		switch string(r.Path()) {
		case "/nothing":
		case "/204":
			w.SetStatus(204)
		case "/304":
			w.SetStatus(304)
			w.Set("ETag", `"x"`)
		case "/404":
			return w.Error(404, "not here")
		case "/teapot":
			w.SetStatus(418)
			w.Set("X-Two", "1")
			w.Add("X-Two", "2")
			_, _ = w.WriteString("short and stout")
		case "/stream":
			for i := range 3 {
				fmt.Fprintf(w, "piece %d\n", i)
				_ = w.Flush()
			}
		case "/long":
			_, _ = w.WriteString(strings.Repeat("0123456789", 1000))
		case "/length":
			w.Set("Content-Length", "10")
			_, _ = w.WriteString("0123456789")
		case "/close":
			w.Set("Connection", "close")
			_, _ = w.WriteString("bye")
		default:
			fmt.Fprintf(w, "%s %s host=%s x=%q body=%q", r.Method(), r.Target(), r.Host(), r.Field("X"), body)
		}
		return nil
	})
}

func theirTwin(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	switch r.URL.Path {
	case "/nothing":
	case "/204":
		w.WriteHeader(204)
	case "/304":
		w.Header().Set("ETag", `"x"`)
		w.WriteHeader(304)
	case "/404":
		http.Error(w, "not here", 404)
	case "/teapot":
		w.Header().Set("X-Two", "1")
		w.Header().Add("X-Two", "2")
		w.WriteHeader(418)
		io.WriteString(w, "short and stout")
	case "/stream":
		for i := range 3 {
			fmt.Fprintf(w, "piece %d\n", i)
			w.(http.Flusher).Flush()
		}
	case "/long":
		io.WriteString(w, strings.Repeat("0123456789", 1000))
	case "/length":
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "0123456789")
	case "/close":
		w.Header().Set("Connection", "close")
		io.WriteString(w, "bye")
	default:
		fmt.Fprintf(w, "%s %s host=%s x=%q body=%q", r.Method, r.RequestURI, r.Host, r.Header.Get("X"), body)
	}
}

// twinRequests are sent to both servers, each on a connection of its own, which the client ends behind it. why says what is
// different, and why; without it nothing may be.
var twinRequests = []struct{ says, why string }{
	// What is answered.
	{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /a/b?c=d&e HTTP/1.1\r\nHost: a:80\r\n\r\n", ""},
	{"GET /%41%2f%20 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET //x/y HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /a|b{c}^\"<>`\\ HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /304 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /404 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /teapot HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /long HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /length HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /close HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"HEAD /404 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"HEAD /length HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"HEAD /204 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"HEAD /long HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", ""},
	{"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", ""},
	{"PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\r\n\n", ""},
	{"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"get / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", ""},
	{"GET http://b/x?y HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET HTTP://b:80 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET http://[::1]:80/ HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost:\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nhOST:a\r\nx: \t y \t \r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\tz\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~: y\r\n\r\n", ""},
	// Connections.
	{"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /1 HTTP/1.0\r\n\r\nGET /2 HTTP/1.0\r\n\r\n", ""},
	{"GET /1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n", ""},
	{"HEAD /1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n", ""},
	{"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", ""},
	{"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n", ""},
	{"GET /long HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi", ""},
	{"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nExpect: something\r\nContent-Length: 2\r\n\r\nhi", ""},
	{"GET / HTTP/1.2\r\nHost: a\r\n\r\n", ""},
	// Chunks.
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0;c\r\n\r\n", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Y\r\n\r\n2\r\nhi\r\n0\r\nY: z\r\n\r\n", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nhi\r\n0\r\n\r\n", "no blank behind the size: RFC 9112 section 7.1"},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;a=\"\x00\"\r\nhi\r\n0\r\n\r\n", "no NUL in an extension: RFC 9112 section 7.1.1"},
	// A body that is malformed reaches neither handler as whole. net/http's handler hears of it, and has nothing to say here.
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n", "400 is said, the handler is not asked"},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nhi\r\n0\r\n\r\n", "the same"},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n", "the same"},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\n0\r\n\r\n", "the same"},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi", "the same"},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhi", "the same"},
	// What is refused.
	{"GET / HTTP/1.1\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nX(: y\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", ""},
	{"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", "a folded line is refused: RFC 9112 section 5.2"},
	{"GET / HTTP/1.1\r\n Host: a\r\n\r\n", ""},
	{"GET / HTTP/1.1\nHost: a\n\n", "a line ends in CRLF: RFC 9112 section 2.2 allows to refuse a bare LF"},
	{"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "an empty line before is skipped: RFC 9112 section 2.2"},
	{"GET /\r\n\r\n", ""},
	{"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", ""},
	{"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{" GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET / http/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET / HTTP/11.1\r\nHost: a\r\n\r\n", ""},
	{"GET / HTTP/2.0\r\nHost: a\r\n\r\n", ""},
	{"GET / HTTP/0.9\r\nHost: a\r\n\r\n", ""},
	{"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET a HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /% HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /?%zz HTTP/1.1\r\nHost: a\r\n\r\n", "percent-encoding is checked in the query, too: RFC 3986 section 2.1"},
	{"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", "a target has no fragment: RFC 9112 section 3.2"},
	{"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", ""},
	{"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", "a target is ASCII: RFC 3986"},
	{"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "\"*\" is for OPTIONS: RFC 9112 section 3.2.4"},
	{"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "this is no server of FTP"},
	{"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "this is no proxy: 501"},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\nhi", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\nhi", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\nhi", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "refused, as RFC 9110 section 8.6 allows"},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nhi", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"refused: RFC 9112 section 6.3; net/http answers, and keeps the connection"},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ""},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\nhi", "400, as chunked has to be last: RFC 9112 section 6.3; 501 there"},
	{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"400, as the framing is wrong and no coding unknown: RFC 9112 section 6.3; 501 there"},
	{"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "refused: RFC 9112 section 6.1; net/http overlooks the field"},
	{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ""},
	{"GET / HT", "a head that is cut off gets no answer"},
}

// seen is what is compared of a response. The words of an error are each server's own.
type seen struct {
	Status   int
	Length   int64
	Encoding []string
	Close    bool
	Fields   string
	Body     string
}

func responses(t *testing.T, text, says string) (all []seen) {
	r := bufio.NewReader(strings.NewReader(text))
	for method, _, _ := strings.Cut(says, " "); ; method = http.MethodGet { // as all that come second are
		if _, err := r.Peek(1); err != nil {
			return all
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		require.NoError(t, err, "%q: %q", says, text)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		s := seen{resp.StatusCode, resp.ContentLength, resp.TransferEncoding, resp.Close, "", string(body)}
		for _, name := range []string{"Etag", "X-Two", "Allow", "Trailer"} {
			s.Fields += fmt.Sprint(resp.Header[name])
		}
		if s.Status >= 400 && s.Status != 418 && s.Body != "not here\n" && method != http.MethodHead {
			s.Length, s.Body, s.Encoding = 0, "", nil
		}
		all = append(all, s)
	}
}

func TestLikeNetHTTP(t *testing.T) {
	theirs := httptest.NewUnstartedServer(http.HandlerFunc(theirTwin))
	theirs.Config.ErrorLog = log.New(io.Discard, "", 0)
	theirs.Start()
	defer theirs.Close()
	require.Greater(t, len(twinRequests), 100)
	for i, x := range twinRequests {
		c, err := net.Dial("tcp", theirs.Listener.Addr().String())
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
		_, err = io.WriteString(c, x.says)
		require.NoError(t, err)
		require.NoError(t, c.(*net.TCPConn).CloseWrite())
		text, _ := io.ReadAll(c) // a reset is how net/http may end a connection it has not read to its end
		c.Close()
		their := responses(t, string(text), x.says)

		s := newScene(t, &http1.Server{Handler: http1.HandlerFunc(ourTwin)}, sim.Config{})
		s.p.Say(x.says)
		s.p.CloseWrite()
		s.Advance(time.Second)
		our := responses(t, s.p.Read(), x.says)
		if x.why == "" {
			assert.Equal(t, their, our, "request %d: %q", i, x.says)
		} else {
			assert.NotEqual(t, their, our, "request %d: %q is not different any more: %s", i, x.says, x.why)
		}
	}
}

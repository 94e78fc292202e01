package http1_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

const (
	getRequest  = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	getAndClose = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	date        = "Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
)

// The body of a response whose length is not known goes out in chunks, or up to the end of the connection.
func TestUnknownLength(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 300)
	srv := handle(func(w *http1.ResponseWriter, r *http1.Request) error {
		_, _ = w.WriteString("ab")
		if string(r.Path()) == "/flush" {
			require.NoError(t, w.Flush())
		}
		_, _ = w.WriteString(long)
		w.SetTrailer("X-Sum", "1")
		w.Set("X-Late", "not sent")
		_, err := w.WriteString("cd")
		return err
	})
	s := newScene(t, srv, sim.Config{})
	s.p.Say("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	s.p.Want("HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n12c0\r\n" + long + "\r\n2\r\ncd\r\n0\r\nX-Sum: 1\r\n\r\n")
	s.p.Say("GET /flush HTTP/1.1\r\nHost: a\r\n\r\n")
	s.p.Want("HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n12c0\r\n" + long + "\r\n2\r\ncd\r\n0\r\nX-Sum: 1\r\n\r\n")
	s.p.Say("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
	s.p.Want("HTTP/1.1 200 OK\r\n" + date + "\r\n")
	s.p.Say("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + getRequest)
	s.p.Want("HTTP/1.1 200 OK\r\n" + date + "Connection: close\r\n\r\nab" + long + "cd")
	s.p.WantClosed()
}

// What a handler may do about length, status and fields, and what it may not.
func TestResponses(t *testing.T) {
	const fail500 = "HTTP/1.1 500 Internal Server Error\r\n" + date + "Content-Type: text/plain; charset=utf-8\r\n" +
		"X-Content-Type-Options: nosniff\r\nContent-Length: 22\r\n\r\nInternal Server Error\n"
	for name, x := range map[string]struct {
		handler http1.HandlerFunc
		want    string
		closed  bool
	}{
		"nothing": {func(*http1.ResponseWriter, *http1.Request) error { return nil },
			"HTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\n\r\n", false},
		"204": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.SetStatus(204)
			_, err := w.WriteString("x")
			require.ErrorIs(t, err, http.ErrBodyNotAllowed)
			return nil
		}, "HTTP/1.1 204 No Content\r\n" + date + "\r\n", false},
		"304": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.SetStatus(304)
			w.Set("ETag", `"x"`)
			w.SetLength(5)
			return nil
		}, "HTTP/1.1 304 Not Modified\r\n" + date + "ETag: \"x\"\r\nContent-Length: 5\r\n\r\n", false},
		"status unknown": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.SetStatus(299)
			return nil
		}, "HTTP/1.1 299 \r\n" + date + "Content-Length: 0\r\n\r\n", false},
		"status wrong": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.SetStatus(600)
			return nil
		}, fail500, false},
		"fields": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.Add("A", "1")
			w.Add("a", "2")
			w.Set("B", "3")
			w.Set("A", "4")
			w.Add("Ab", "5")
			w.Set("b", "6")
			w.Del("AB")
			w.Set("Transfer-Encoding", "gzip")
			w.Set("Connection", "keep-alive, X")
			w.Set("Date", "today")
			w.SetHeader(http.Header{"C": {"7", "8"}})
			return nil
		}, "HTTP/1.1 200 OK\r\nA: 4\r\nb: 6\r\nDate: today\r\nC: 7\r\nC: 8\r\nContent-Length: 0\r\n\r\n", false},
		"close": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.Set("connection", "x, CLOSE")
			return nil
		}, "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\nConnection: close\r\n\r\n", true},
		"splitting": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.Set("X", "a\r\nY: b")
			_, err := w.WriteString("x")
			require.ErrorIs(t, err, http1.ErrHeader)
			return nil
		}, fail500, false},
		"name": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.Add("X Y", "a")
			return nil
		}, fail500, false},
		"trailer": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.SetTrailer("Content-Length", "5")
			return nil
		}, fail500, false},
		"length wrong": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.Set("Content-Length", "+5")
			return nil
		}, fail500, false},
		"too much": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.Set("Content-Length", "5")
			_, err := w.WriteString("hello!")
			require.ErrorIs(t, err, http.ErrContentLength)
			_, err = w.WriteString("hello")
			return err
		}, "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 5\r\n\r\nhello", false},
		"too little": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.SetLength(5)
			_, err := w.WriteString("hell")
			return err
		}, "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 5\r\n\r\nhell", true},
		"nothing of 5": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.SetLength(5)
			return nil
		}, fail500, false},
		"an Error": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			_, _ = w.WriteString("dropped")
			return fmt.Errorf("wrapped: %w", &http1.Error{Status: 404, Text: "no such page"})
		}, "HTTP/1.1 404 Not Found\r\n" + date + "Content-Type: text/plain; charset=utf-8\r\n" +
			"X-Content-Type-Options: nosniff\r\nContent-Length: 13\r\n\r\nno such page\n", false},
		"an error": {func(*http1.ResponseWriter, *http1.Request) error { return errors.New("secret") }, fail500, false},
		"an error late": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			_, _ = w.WriteString("ab")
			_ = w.Flush()
			require.ErrorIs(t, w.Error(500, ""), http1.ErrSent)
			return errors.New("secret")
		}, "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", true},
		"panic": {func(*http1.ResponseWriter, *http1.Request) error { panic("secret") },
			strings.Replace(fail500, "22\r\n", "22\r\nConnection: close\r\n", 1), true},
		"inform": {func(w *http1.ResponseWriter, _ *http1.Request) error {
			require.Error(t, w.Inform(200, nil))
			require.Error(t, w.Inform(101, nil))
			require.ErrorIs(t, w.Inform(103, http.Header{"A": {"\n"}}), http1.ErrHeader)
			return w.Inform(103, http.Header{"Link": {"</a>"}})
		}, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\n\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, handle(x.handler), sim.Config{})
			s.p.Say(getRequest)
			s.p.Want(x.want)
			if x.closed {
				s.p.WantClosed()
			} else {
				s.p.Say(getRequest) // and again
				s.p.Want(x.want)
			}
			require.NotContains(t, x.want, "secret")
		})
	}
}

// A response that is cut off must not look whole: to a client of HTTP/1.0 it ends with a reset.
func TestCutForHTTP10(t *testing.T) {
	s := newScene(t, handle(func(w *http1.ResponseWriter, _ *http1.Request) error {
		_, _ = w.WriteString("ab")
		_ = w.Flush()
		w.Defer()
		w.OnDrain(func() error { return errors.New("broken") })
		return nil
	}), sim.Config{})
	s.p.Say("GET / HTTP/1.0\r\n\r\n")
	s.p.WantReset()
}

func TestAbortHandler(t *testing.T) {
	s := newScene(t, handle(func(*http1.ResponseWriter, *http1.Request) error { panic(http.ErrAbortHandler) }), sim.Config{})
	s.p.Say(getRequest)
	s.p.WantReset()
	require.NotContains(t, s.log.String(), "panic")
}

// The body is streamed to the handler, which can hold it back.
func TestStreamedBody(t *testing.T) {
	for name, says := range map[string]string{
		"length": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789",
		"chunks": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			var req *http1.Request
			lasts, calls := 0, 0
			s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
				req = r
				r.Pause()
				err := r.OnBody(func(p []byte, last bool) error {
					got.Write(p)
					if last {
						lasts++
						require.Empty(t, p)
						_, err := w.WriteString(got.String())
						return err
					}
					calls++
					r.Pause()
					return nil
				})
				require.ErrorIs(t, r.OnBody(func([]byte, bool) error { return nil }), http1.ErrNoBody)
				return err
			}), sim.Config{MaxRecv: 3})
			s.p.Say(says)
			s.Advance(time.Hour) // a pause does not time out
			require.Empty(t, got.String())
			for range 3 {
				before := calls
				req.Resume()
				s.Settle()
				require.LessOrEqual(t, calls, before+1)
			}
			require.Equal(t, 1, lasts)
			require.Equal(t, "0123456789", got.String())
			s.p.Want("HTTP/1.1 200 OK\r\nDate: Sat, 01 Jan 2000 01:00:00 GMT\r\nContent-Length: 10\r\n\r\n0123456789")
		})
	}
}

// A response may wait: the next request is not looked at before, and a client that goes away is noticed.
func TestDeferred(t *testing.T) {
	var ws []*http1.ResponseWriter
	var ctx context.Context
	var ends []error
	s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
		w.Defer()
		ws = append(ws, w)
		ctx = r.Context()
		w.OnDone(func(err error) { ends = append(ends, err) })
		return nil
	}), sim.Config{})
	s.p.Say(getRequest + getRequest)
	s.Advance(time.Hour)
	require.Len(t, ws, 1)
	s.p.WantNothing()
	_, _ = ws[0].WriteString("one")
	ws[0].Finish(nil)
	require.Empty(t, ends)
	s.p.Want("HTTP/1.1 200 OK\r\nDate: Sat, 01 Jan 2000 01:00:00 GMT\r\nContent-Length: 3\r\n\r\none")
	require.Len(t, ws, 2)
	require.Equal(t, []error{nil}, ends)

	ws[0].Finish(errors.New("again")) // no harm
	_, err := ws[0].WriteString("x")
	require.ErrorIs(t, err, core.ErrClosed)
	require.ErrorIs(t, ws[0].Flush(), core.ErrClosed)

	require.NoError(t, ctx.Err())
	s.p.Say("GET /ahead")
	s.p.CloseWrite()
	s.Settle()
	require.Equal(t, io.EOF, context.Cause(ctx))
	ws[1].Finish(&http1.Error{Status: 410})
	s.p.Want("HTTP/1.1 410 Gone\r\n")
	s.p.Read()
	s.p.WantClosed()
	require.Len(t, ends, 2)

	s.p = s.client()
	s.p.Say(getRequest)
	s.Settle()
	s.p.Reset()
	s.Settle()
	require.Len(t, ends, 3)
	require.Error(t, ends[2])
	require.Error(t, ctx.Err())
	ws[2].Finish(nil)
	s.Settle()
	require.Zero(t, s.srv.Open())
	require.EqualValues(t, 3, s.srv.Counters().Responses[2]+s.srv.Counters().Responses[4]+s.srv.Counters().Responses[0])
}

// While a response waits, at most some 64 KiB are read ahead.
func TestReadAheadIsBounded(t *testing.T) {
	var w *http1.ResponseWriter
	s := newScene(t, handle(func(rw *http1.ResponseWriter, _ *http1.Request) error {
		w = rw
		w.Defer()
		return nil
	}), sim.Config{Window: 4096})
	s.p.Say(strings.Repeat(getRequest, 20_000)) // 560 KB
	s.Settle()
	require.Greater(t, s.p.Unread(), -1)
	n := 0
	for range 3 {
		w.Finish(nil)
		s.Settle()
		n++
	}
	require.Equal(t, 3, strings.Count(s.p.Read(), "200 OK"))
}

// The body of a request can be asked for while the response waits.
func TestBodyLater(t *testing.T) {
	var w *http1.ResponseWriter
	var r *http1.Request
	s := newScene(t, handle(func(rw *http1.ResponseWriter, req *http1.Request) error {
		w, r = rw, req
		w.Defer()
		return nil
	}), sim.Config{})
	s.p.Say("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	s.p.WantNothing()
	require.NoError(t, r.ReadAll(0, func(body []byte) error {
		_, err := w.Write(body)
		return err
	}))
	s.p.Want("HTTP/1.1 100 Continue\r\n\r\n")
	s.p.Say("hello")
	s.p.WantNothing()
	w.Finish(nil)
	s.p.Want("HTTP/1.1 200 OK\r\n" + date + "Content-Length: 5\r\n\r\nhello")
}

// Bodies that nobody asks for are dropped, or the connection is closed: they are never the next request.
func TestUnwantedBodies(t *testing.T) {
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	for name, x := range map[string]struct {
		says   string
		closed bool
	}{
		"length":      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\n" + smuggled, false},
		"get":         {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\n\r\n" + smuggled, false},
		"chunks":      {"DELETE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n23\r\n" + smuggled + "\r\n0\r\n\r\n", false},
		"too long":    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1035\r\n\r\n" + strings.Repeat("\r\n", 500) + smuggled, true},
		"too long ch": {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n40b\r\n" + strings.Repeat("\r\n", 500) + smuggled, true},
		"expected":    {"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 35\r\n\r\n" + smuggled, true},
		"malformed":   {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n" + smuggled, true},
	} {
		t.Run(name, func(t *testing.T) {
			var paths []string
			srv := handle(func(w *http1.ResponseWriter, r *http1.Request) error {
				paths = append(paths, string(r.Path()))
				return nil
			})
			srv.Limits.Drain = 1000
			s := newScene(t, srv, sim.Config{})
			s.p.Say(x.says)
			s.Settle()
			s.p.Say("GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
			text := s.p.Read()
			if x.closed {
				require.Equal(t, []string{"/"}, paths)
				s.Advance(5 * time.Second)
				s.p.WantClosed()
			} else {
				require.Equal(t, []string{"/", "/next"}, paths)
				require.Equal(t, 2, strings.Count(text, "HTTP/1.1 200 OK\r\n"))
			}
		})
	}
}

// A body that is cut off never reaches the handler as whole.
func TestCutBody(t *testing.T) {
	for _, says := range []string{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n",
	} {
		for _, how := range []string{"shut", "close", "reset"} {
			whole, ends := false, []error(nil)
			s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
				w.OnDone(func(err error) { ends = append(ends, err) })
				return r.OnBody(func(_ []byte, last bool) error {
					whole = whole || last
					return nil
				})
			}), sim.Config{})
			s.p.Say(says)
			s.Settle()
			switch how {
			case "shut":
				s.p.CloseWrite()
				s.p.Want("HTTP/1.1 400 Bad Request\r\n")
				s.p.Read()
				s.p.WantClosed()
			case "close":
				s.p.Close()
			case "reset":
				s.p.Reset()
			}
			s.Advance(time.Minute)
			require.False(t, whole, how)
			require.Len(t, ends, 1, how)
			require.Error(t, ends[0], how)
			require.Zero(t, s.srv.Open())
		}
	}
}

// The bound of a body is the handler's, if it likes.
func TestBodyLimit(t *testing.T) {
	srv := handle(func(w *http1.ResponseWriter, r *http1.Request) error {
		limit := int64(0)
		if string(r.Path()) == "/more" {
			limit = 20
		}
		return r.ReadAll(limit, func(body []byte) error {
			_, err := fmt.Fprintf(w, "%d", len(body))
			return err
		})
	})
	srv.Limits.Body = 10
	s := newScene(t, srv, sim.Config{})
	const post = "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s"
	s.p.Say(fmt.Sprintf(post, "/", 10, strings.Repeat("a", 10)))
	s.p.Want("HTTP/1.1 200 OK\r\n")
	s.p.Read()
	s.p.Say(fmt.Sprintf(post, "/more", 20, strings.Repeat("a", 20)))
	s.p.Want("HTTP/1.1 200 OK\r\n")
	s.p.Read()
	s.p.Say(fmt.Sprintf(post, "/", 11, strings.Repeat("a", 11))) // little enough to be dropped
	s.p.Want("HTTP/1.1 413 Request Entity Too Large\r\n")
	s.p.Read()
	s.p.Say(fmt.Sprintf(post, "/more", int64(1)<<40, "a"))
	s.p.Want("HTTP/1.1 413 Request Entity Too Large\r\n")
	require.Contains(t, s.p.Read(), "Connection: close\r\n")
	s.Advance(3 * time.Second)
	s.p.WantClosed()
}

// slowly makes pieces, each when it is asked again.
type slowly struct {
	pieces []string
	wait   bool
	closed int
}

func (p *slowly) More(int) ([]byte, error) {
	if len(p.pieces) == 0 {
		return nil, io.EOF
	}
	if p.wait = !p.wait; p.wait {
		return nil, core.ErrWouldBlock
	}
	piece := p.pieces[0]
	p.pieces = p.pieces[1:]
	return []byte(piece), nil
}

func (p *slowly) Close() error { p.closed++; return nil }

// Producers make bodies of known and of unknown length.
func TestProducers(t *testing.T) {
	for _, x := range []struct {
		length int64
		says   string
		want   string
		cut    bool
	}{
		{-1, getRequest, "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", false},
		{5, getRequest, "Content-Length: 5\r\n\r\nabcde", false},
		{6, getRequest, "Content-Length: 6\r\n\r\nabcde", true},
		{4, getRequest, "Content-Length: 4\r\n\r\nab", true},
		{-1, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n", false},
		{5, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "Content-Length: 5\r\n\r\n", false},
		{-1, "GET / HTTP/1.0\r\n\r\n", "Connection: close\r\n\r\nabcde", true},
	} {
		p := &slowly{pieces: []string{"ab", "cde"}}
		var ends []error
		s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
			if string(r.Path()) == "/next" {
				return nil
			}
			w.SetLength(x.length)
			w.OnDone(func(err error) { ends = append(ends, err) })
			err := w.SendProducer(p)
			if r.Method() == "GET" {
				_, err := w.WriteString("x")
				require.ErrorIs(t, err, core.ErrClosed)
			}
			return err
		}), sim.Config{})
		var c *chat.Conn
		for d := range s.loop.All() {
			c, _ = chat.Of(d)
		}
		s.p.Say(x.says + "GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
		for range 5 {
			s.Settle()
			c.ResumeProducer()
		}
		s.p.Want("HTTP/1.1 200 OK\r\n" + date + x.want)
		s.Advance(3 * time.Second) // a connection that ends drops what it was sent ahead
		require.Equal(t, 1, p.closed)
		require.Len(t, ends, 1)
		if x.cut {
			s.p.WantClosed()
		} else {
			s.p.Want("HTTP/1.1 200 OK\r\n" + date + "Content-Length: 0\r\n\r\n")
			require.NoError(t, ends[0])
		}
	}
}

func TestSendFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	text := strings.Repeat("0123456789", 30_000)
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	srv := handle(func(w *http1.ResponseWriter, _ *http1.Request) error {
		f, err := os.Open(name)
		require.NoError(t, err)
		return w.SendFile(f, 5, int64(len(text)-10))
	})
	var last http1.Entry
	srv.Log = func(e *http1.Entry) { last = *e }
	s := newScene(t, srv, sim.Config{Window: 10_000})
	s.p.Say(getRequest + "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
	s.p.Want("HTTP/1.1 200 OK\r\n" + date + "Content-Length: 299990\r\n\r\n" + text[5:len(text)-5])
	s.p.Want("HTTP/1.1 200 OK\r\n" + date + "Content-Length: 299990\r\n\r\n")
	require.Zero(t, last.Octets)
	s.p.Stall(true)
	s.p.Say(getRequest)
	s.Settle()
	s.p.Reset()
	s.Advance(time.Minute)
	require.Error(t, last.Err)
	require.Zero(t, s.srv.Open())
	require.Positive(t, last.Octets)
	require.LessOrEqual(t, last.Octets, int64(100_000), "what was sent, and the block under way")
	require.EqualValues(t, len(text)-10+int(last.Octets), s.srv.Counters().Octets)
}

// A file goes out up to its end without anybody saying how long it is; one that is shorter than said is an error, and what
// came of it is counted.
func TestSendFileLength(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, []byte("0123456789"), 0o600))
	length := int64(-1)
	var f *os.File
	srv := handle(func(w *http1.ResponseWriter, _ *http1.Request) (err error) {
		f, err = os.Open(name)
		require.NoError(t, err)
		return w.SendFile(f, 4, length)
	})
	var last http1.Entry
	srv.Log = func(e *http1.Entry) { last = *e }
	s := newScene(t, srv, sim.Config{})
	s.p.Say(getRequest)
	s.p.Want("HTTP/1.1 200 OK\r\n" + date + "Content-Length: 6\r\n\r\n456789")
	s.Settle()
	require.EqualValues(t, 6, last.Octets)
	require.ErrorIs(t, f.Close(), os.ErrClosed)
	length = 100
	s.p.Say(getRequest)
	s.p.Want("HTTP/1.1 200 OK\r\n" + date + "Content-Length: 100\r\n\r\n456789")
	s.p.WantClosed()
	s.Advance(buffered.LingerTimeout)
	require.EqualValues(t, 6, last.Octets)
	require.ErrorIs(t, last.Err, io.ErrUnexpectedEOF)
	require.EqualValues(t, 12, srv.Counters().Octets)
	require.ErrorIs(t, f.Close(), os.ErrClosed)
}

// Who makes a large body by hand stops when the client does not take it.
func TestBackPressure(t *testing.T) {
	const pieces = 1000
	made, most := 0, 0
	s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
		w.Defer()
		var more func() error
		more = func() error {
			for made < pieces && !w.Full() {
				_, err := w.WriteString(strings.Repeat("x", 1000))
				require.NoError(t, err)
				made++
			}
			most = max(most, r.Conn().Queued())
			if made == pieces {
				w.Finish(nil)
				return nil
			}
			w.OnDrain(more)
			return nil
		}
		return more()
	}), sim.Config{Window: 3000})
	s.p.Stall(true)
	s.p.Say(getRequest)
	s.Advance(time.Second)
	require.Less(t, made, 200)
	s.p.Stall(false)
	text := s.p.Read()
	require.Equal(t, pieces, made)
	require.Equal(t, pieces*1000, strings.Count(text, "x"))
	require.True(t, strings.HasSuffix(text, "0\r\n\r\n"))
	require.LessOrEqual(t, most, buffered.DefaultMarks.High+8000)
}

// What each timeout does.
func TestTimeouts(t *testing.T) {
	post := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
	for name, x := range map[string]struct {
		says  string
		every time.Duration // one octet more
		after time.Duration
		want  string
	}{
		"first byte": {"", 0, 10 * time.Second, ""},
		"head":       {"GET / HT", 0, 10 * time.Second, "408"},
		"slow head":  {"GET / HT", time.Second, 10 * time.Second, "408"},
		"body":       {post, 0, 30 * time.Second, "408"},
		"slow body":  {post, time.Second, time.Minute, "408"},
		"idle":       {getRequest, 0, time.Minute, "200"},
		"head again": {getRequest + "G", 0, 10 * time.Second, "408"},
		"unwanted":   {strings.Replace(post, "/", "/drop", 1), 0, 30 * time.Second, "200"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
				if r.Method() == "GET" || string(r.Path()) == "/drop" {
					return nil
				}
				return tell(w, r)
			}), sim.Config{})
			s.p.Say(x.says)
			s.Settle()
			passed := time.Duration(0)
			for x.every > 0 && passed+x.every < x.after {
				passed += x.every
				s.Advance(x.every)
				s.p.Say("x")
			}
			s.Advance(x.after - passed - 100*time.Millisecond)
			require.False(t, s.p.Ended())
			s.Advance(3 * time.Second) // and what is dropped when it closes
			text := s.p.Read()
			require.Contains(t, text, x.want)
			require.Equal(t, x.want == "", text == "")
			s.p.WantClosed()
		})
	}
}

// A client that does not read its response is closed.
func TestWriteTimeout(t *testing.T) {
	s := newScene(t, handle(func(w *http1.ResponseWriter, _ *http1.Request) error {
		_, err := w.WriteString(strings.Repeat("x", 100_000))
		return err
	}), sim.Config{Window: 1000})
	s.p.Stall(true)
	s.p.Say(getRequest)
	s.Advance(29 * time.Second)
	require.Equal(t, 1, s.srv.Open())
	s.Advance(2 * time.Second)
	require.Zero(t, s.srv.Open())
}

// Timeouts that are off do not close.
func TestNoTimeouts(t *testing.T) {
	srv := handle(hello2)
	srv.Limits = http1.Limits{FirstByteTimeout: -1, IdleTimeout: -1, HeadTimeout: -1, BodyTimeout: -1, BodyRate: -1}
	s := newScene(t, srv, sim.Config{})
	s.Advance(time.Hour)
	s.p.Say("GET / HTTP")
	s.Advance(time.Hour)
	s.p.Say("/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
	s.Advance(time.Hour)
	s.p.Say("x")
	s.p.Want("HTTP/1.1 200 OK\r\n")
	s.p.Read()
	s.Advance(time.Hour)
	require.False(t, s.p.Ended())
}

func hello2(w *http1.ResponseWriter, r *http1.Request) error {
	return r.ReadAll(0, func([]byte) error {
		_, err := w.WriteString("Hello, World!\n")
		return err
	})
}

// The last request of a connection says so.
func TestRequestsLimit(t *testing.T) {
	srv := handle(hello2)
	srv.Limits.Requests = 2
	s := newScene(t, srv, sim.Config{})
	s.p.Say(getRequest + getRequest + getRequest)
	text := s.p.Read()
	require.Equal(t, 2, strings.Count(text, "200 OK"))
	require.Equal(t, 1, strings.Count(text, "Connection: close"))
	s.p.WantClosed()
}

// Shutdown: what is idle is closed, what is under way is answered with "Connection: close".
func TestShutdown(t *testing.T) {
	var w *http1.ResponseWriter
	s := newScene(t, handle(func(rw *http1.ResponseWriter, r *http1.Request) error {
		if string(r.Path()) == "/later" {
			w = rw
			w.Defer()
		}
		return nil
	}), sim.Config{})
	idle, head, later := s.p, s.client(), s.client()
	idle.Say(getRequest)
	idle.Want("HTTP/1.1 200 OK\r\n")
	head.Say("GET / HTTP/1.1\r\nHo")
	later.Say("GET /later HTTP/1.1\r\nHost: a\r\n\r\n" + getRequest)
	s.Settle()
	idle.Read()
	s.loop.Shutdown(time.Minute)
	idle.WantClosed()
	head.Say("st: a\r\n\r\n")
	head.Want("HTTP/1.1 200 OK\r\n")
	require.Contains(t, head.Read(), "Connection: close\r\n")
	head.WantClosed()
	require.False(t, later.Ended())
	w.Finish(nil)
	later.Want("HTTP/1.1 200 OK\r\n")
	text := later.Read()
	require.Contains(t, text, "Connection: close\r\n")
	require.NotContains(t, text, "HTTP/1.1")
	later.WantClosed()
	s.Advance(3 * time.Second) // what it had sent ahead is dropped
	require.Zero(t, s.srv.Open())
}

// The end of a client's stream: what it asked for before is answered.
func TestHalfClosed(t *testing.T) {
	for _, says := range []string{strings.Repeat(getRequest, 3), strings.Repeat(getRequest, 3) + "GET /"} {
		for later := range 2 {
			s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
				if later == 1 {
					w.Defer()
					r.Conn().AfterFunc(time.Second, func() { w.Finish(nil) })
				}
				return nil
			}), sim.Config{})
			s.p.Say(says)
			s.p.CloseWrite()
			s.Advance(10 * time.Second)
			require.Equal(t, 3, strings.Count(s.p.Read(), "200 OK"))
			s.p.WantClosed()
			require.Zero(t, s.srv.Open())
		}
	}
}

// Upgrade and Hijack hand the connection over, with what the client has sent.
func TestUpgrade(t *testing.T) {
	echo := func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.Line)
		return chat.Lines(func(c *chat.Conn, line []byte) error { return c.Printf("<%s>\n", line) })
	}
	srv := handle(func(w *http1.ResponseWriter, r *http1.Request) error {
		if r.Method() == http.MethodConnect {
			if err := w.Flush(); err != nil {
				return err
			}
			return w.Hijack(echo)
		}
		w.Set("X", "y")
		err := w.Upgrade("echo", echo)
		if errors.Is(err, http1.ErrNoUpgrade) {
			return &http1.Error{Status: http.StatusUpgradeRequired}
		}
		return err
	})
	srv.AllowConnect = true
	s := newScene(t, srv, sim.Config{})
	s.p.Say(getRequest)
	s.p.Want("HTTP/1.1 426 Upgrade Required\r\n")
	s.p.Read()
	s.p.Say("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Upgrade\r\nUpgrade: other, Echo\r\n\r\none\ntwo\n")
	s.p.Want("HTTP/1.1 101 Switching Protocols\r\n" + date + "X: y\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n<one>\n<two>\n")
	s.Advance(time.Hour)
	s.p.Say("three\n")
	s.p.Want("<three>\n")
	require.Zero(t, s.srv.Open())
	require.EqualValues(t, 1, s.srv.Counters().Responses[1])
	s.p.Close()

	s.p = s.client()
	s.p.Say("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\none\n")
	s.p.Want("HTTP/1.1 200 OK\r\n")
	require.True(t, strings.HasSuffix(s.p.Read(), "<one>\n"))
}

// The log hears of every request, good or bad.
func TestLog(t *testing.T) {
	var lines []string
	srv := handle(func(w *http1.ResponseWriter, r *http1.Request) error {
		if string(r.Path()) == "/wait" {
			w.Defer()
			r.Conn().AfterFunc(1500*time.Millisecond, func() { w.Finish(nil) })
		}
		return hello(w, r)
	})
	srv.Log = func(e *http1.Entry) {
		lines = append(lines, fmt.Sprintf("%s %s %s %d %d %v %s %v", e.Start.Format(time.TimeOnly), e.Request.Method(), e.Request.Target(), e.Status,
			e.Octets, e.Duration, e.Request.Field("User-Agent"), e.Err))
		require.NotNil(t, e.Request.RemoteAddr())
	}
	s := newScene(t, srv, sim.Config{})
	s.p.Say("GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\n\r\nHEAD /wait HTTP/1.1\r\nHost: a\r\n\r\nGET\r\n\r\n")
	s.Advance(10 * time.Second)
	require.Equal(t, []string{
		"00:00:00 GET /a 200 14 0s me <nil>",
		"00:00:00 HEAD /wait 200 0 1.5s  <nil>",
		"00:00:01   400 17 0s  http1: 400 malformed method",
	}, lines)
}

func TestCounters(t *testing.T) {
	s := newScene(t, handle(tell), sim.Config{})
	s.p.Say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET")
	s.Advance(time.Minute)
	c := s.srv.Counters()
	require.EqualValues(t, 1, c.Conns)
	require.Zero(t, c.Open)
	require.Equal(t, [6]int64{0, 0, 1, 0, 1, 0}, c.Responses)
	require.EqualValues(t, 5, c.Received)
	require.EqualValues(t, len("POST / host=a body=hello\n")+len("Request Timeout\n"), c.Octets)
	require.EqualValues(t, 1, c.Refused)
	require.EqualValues(t, 1, c.Timeouts)
	require.Zero(t, c.Cut)
}

// Date changes once a second.
func TestDate(t *testing.T) {
	s := newScene(t, handle(hello2), sim.Config{})
	for i := range 30 {
		s.p.Say(getRequest)
		s.Settle()
		want := s.Now().UTC().Format(http.TimeFormat)
		require.Contains(t, s.p.Read(), "Date: "+want+"\r\n", i)
		s.Advance(300 * time.Millisecond)
	}
}

// What a handler does with a response that is over, which it must not, changes nothing of anybody else's.
func TestLateCallsDoNotReachOthers(t *testing.T) {
	var first *http1.ResponseWriter
	s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
		if first == nil {
			first = w
		}
		return hello(w, r)
	}), sim.Config{})
	const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	s.p.Say(request)
	want := s.p.Read()
	require.Contains(t, want, "Hello")
	s.loop.Post(func() {
		first.Set("Set-Cookie", "mine")
		first.Add("Set-Cookie", "mine")
		first.Del("Date")
		first.SetTrailer("X-Mine", "mine")
		first.SetLength(3)
		first.SetStatus(404)
		require.Error(t, first.Error(404, "mine"))
		_, err := first.WriteString("mine")
		require.Error(t, err)
		first.OnDone(func(error) { t.Error("OnDone of what is over") })
		first.OnDrain(func() error { t.Error("OnDrain of what is over"); return nil })
		first.OnShutdown(func() { t.Error("OnShutdown of what is over") })
		first.Defer()
		first.Finish(nil)
	})
	s.Settle()
	other := s.client()
	other.Say(request + request)
	require.Equal(t, want+want, other.Read())
	s.loop.Shutdown(time.Second)
	s.Advance(2 * time.Second)
}

// Responses that end with their connections count, however many loops end with them.
func TestCountersOfManyLoops(t *testing.T) {
	const loops = 20 // more than the server remembers
	srv := handle(func(w *http1.ResponseWriter, _ *http1.Request) error {
		w.Defer()
		return nil
	})
	w := sim.New(sim.Config{T: t})
	for range loops {
		l := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
		sock, p := w.Pair()
		_, err := srv.Serve(l, sock)
		require.NoError(t, err)
		p.Say("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		w.Settle()
		t.Cleanup(func() { _ = l.Close() })
		defer func() { require.NoError(t, l.CloseAll(nil)) }()
	}
	t.Cleanup(func() { require.EqualValues(t, loops, srv.Counters().Responses[0]) })
}

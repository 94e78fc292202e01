package http1_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// not go with what was written must not put octets where the next response is expected.
func TestLengthAfterWrite(t *testing.T) {
	const fail500 = "HTTP/1.1 500 Internal Server Error\r\n" + date + "Content-Type: text/plain; charset=utf-8\r\n" +
		"X-Content-Type-Options: nosniff\r\nContent-Length: 22\r\n\r\nInternal Server Error\n"
	for name, x := range map[string]struct {
		handler func(w *http1.ResponseWriter)
		want    string
	}{
		"length between": {func(w *http1.ResponseWriter) {
			_, _ = w.WriteString("ab")
			w.SetLength(4)
			_, _ = w.WriteString("cd")
		}, "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 4\r\n\r\nabcd"},
		"length flushed": {func(w *http1.ResponseWriter) {
			_, _ = w.WriteString("ab")
			w.SetLength(4)
			_ = w.Flush()
			_, _ = w.WriteString("cd")
		}, "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 4\r\n\r\nabcd"},
		"length too short": {func(w *http1.ResponseWriter) {
			_, _ = w.WriteString("abcd")
			w.Set("Content-Length", "2")
		}, fail500},
		"length too short, flushed": {func(w *http1.ResponseWriter) {
			_, _ = w.WriteString("abcd")
			w.SetLength(2)
			_ = w.Flush()
		}, fail500},
		"204": {func(w *http1.ResponseWriter) {
			_, _ = w.WriteString("HTTP/1.1 200 OK\r\n\r\n")
			w.SetStatus(204)
		}, "HTTP/1.1 204 No Content\r\n" + date + "\r\n"},
		"304": {func(w *http1.ResponseWriter) {
			_, _ = w.WriteString("abcd")
			w.SetStatus(304)
		}, "HTTP/1.1 304 Not Modified\r\n" + date + "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, handle(func(w *http1.ResponseWriter, _ *http1.Request) error {
				x.handler(w)
				return nil
			}), sim.Config{})
			s.p.Say(getRequest + getRequest)
			s.p.Want(x.want + x.want)
			s.p.WantNothing()
		})
	}
}

// OnDrain's func waits for nothing when the response is complete or the connection closes: the loop rests.
func TestOnDrainAtTheEnd(t *testing.T) {
	for name, x := range map[string]struct {
		says   string
		result error
		flush  bool
	}{
		"dropped body": {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n", nil, false},
		"hung up":      {getRequest, errors.New("broken"), true},
	} {
		t.Run(name, func(t *testing.T) {
			var w *http1.ResponseWriter
			drained := 0
			s := newScene(t, handle(func(rw *http1.ResponseWriter, _ *http1.Request) error {
				w = rw
				w.Defer()
				if x.flush {
					_, _ = w.WriteString(strings.Repeat("x", 50_000))
				}
				return nil
			}), sim.Config{Window: 1000})
			s.p.Stall(true)
			s.p.Say(x.says)
			s.Settle()
			w.Finish(x.result)
			w.OnDrain(func() error { drained++; return nil })
			before := s.loop.Stats().Passes
			s.Advance(time.Second)
			require.Less(t, s.loop.Stats().Passes, before+20)
			require.LessOrEqual(t, drained, 1)
		})
	}
}

// the minute's end.
func TestLongUpload(t *testing.T) {
	for _, gap := range []time.Duration{300 * time.Millisecond, 7 * time.Second, 29 * time.Second} {
		srv := handle(func(w *http1.ResponseWriter, r *http1.Request) error {
			n := 0
			return r.OnBody(func(p []byte, last bool) error {
				n += len(p)
				if last {
					_, _ = fmt.Fprintf(w, "%d", n)
				}
				return nil
			})
		})
		srv.Limits.Body = -1
		s := newScene(t, srv, sim.Config{})
		piece := strings.Repeat("x", int(gap.Seconds()*2000))
		count := int(3 * time.Minute / gap)
		s.p.Say(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", len(piece)*count))
		for range count {
			s.Advance(gap)
			s.p.Say(piece)
		}
		s.p.Want("HTTP/1.1 200 OK\r\n")
		require.True(t, strings.HasSuffix(s.p.Read(), fmt.Sprint(len(piece)*count)), gap)
	}
}

// A client that takes its response slowly is not timed for the body that it cannot send meanwhile.
func TestSlowReaderIsNotTimed(t *testing.T) {
	srv := handle(func(w *http1.ResponseWriter, r *http1.Request) error {
		return r.OnBody(func(p []byte, last bool) error {
			if len(p) > 0 {
				_, err := w.WriteString(strings.Repeat("x", 100_000))
				return err
			}
			return nil
		})
	})
	srv.Limits.WriteTimeout, srv.Limits.WriteRate = -1, -1
	s := newScene(t, srv, sim.Config{Window: 1000})
	s.p.Stall(true)
	s.p.Say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
	s.Advance(10 * time.Minute)
	s.p.Stall(false)
	s.Advance(time.Second)
	s.p.Say("b")
	s.Settle()
	require.Equal(t, 200_000, strings.Count(s.p.Read(), "x"))
}

// A HEAD request for a stream of events is answered, and the connection goes on.
func TestEventStreamHead(t *testing.T) {
	var e *http1.EventStream
	done := 0
	s := newScene(t, handle(func(w *http1.ResponseWriter, _ *http1.Request) (err error) {
		e, err = w.EventStream(time.Second)
		w.OnDone(func(error) { done++ })
		return err
	}), sim.Config{})
	s.p.Say("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
	s.p.Want("HTTP/1.1 200 OK\r\n")
	s.p.Read()
	s.p.CloseWrite()
	s.Advance(time.Hour)
	require.Equal(t, 1, done)
	require.Error(t, e.Send(http1.Event{Data: "x"}))
	e.Close()
	s.p.WantClosed()
	require.Zero(t, s.srv.Open())
}

// A response that a handler's own close cuts off is not called whole.
func TestHandlerCloses(t *testing.T) {
	for name, length := range map[string]int64{"unknown": -1, "known": 2} {
		var ends []error
		s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
			w.SetLength(length)
			w.OnDone(func(err error) { ends = append(ends, err) })
			_, _ = w.WriteString("ab")
			return r.Conn().Close()
		}), sim.Config{})
		s.p.Say(getRequest)
		s.Settle()
		s.p.WantClosed()
		require.Len(t, ends, 1, name)
		require.Error(t, ends[0], name)
		require.Zero(t, s.srv.Open())
	}
}

// Whatever func of a handler's panics, or closes the connection: it is over, it is counted once, and the server goes on.
func TestCallbacksThatPanic(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
	type setup func(w *http1.ResponseWriter, r *http1.Request, bang func()) error
	for name, f := range map[string]setup{
		"handler": func(_ *http1.ResponseWriter, _ *http1.Request, bang func()) error { bang(); return nil },
		"OnBody": func(_ *http1.ResponseWriter, r *http1.Request, bang func()) error {
			return r.OnBody(func([]byte, bool) error { bang(); return nil })
		},
		"OnBody, flushed": func(w *http1.ResponseWriter, r *http1.Request, bang func()) error {
			_ = w.Flush()
			return r.OnBody(func([]byte, bool) error { bang(); return nil })
		},
		"OnBody, last": func(_ *http1.ResponseWriter, r *http1.Request, bang func()) error {
			return r.OnBody(func(_ []byte, last bool) error {
				if last {
					bang()
				}
				return nil
			})
		},
		"OnDone": func(w *http1.ResponseWriter, _ *http1.Request, bang func()) error {
			w.OnDone(func(error) { bang() })
			return nil
		},
		"OnDone, of a client that is gone": func(w *http1.ResponseWriter, r *http1.Request, bang func()) error {
			w.Defer()
			w.OnDone(func(error) { bang() })
			return r.Conn().Close()
		},
		"OnDrain": func(w *http1.ResponseWriter, _ *http1.Request, bang func()) error {
			w.Defer()
			w.OnDrain(func() error { bang(); return nil })
			return nil
		},
		"OnShutdown": func(w *http1.ResponseWriter, _ *http1.Request, bang func()) error {
			w.Defer()
			w.OnShutdown(bang)
			return nil
		},
		"Hijack": func(w *http1.ResponseWriter, _ *http1.Request, bang func()) error {
			return w.Hijack(func(*chat.Conn) chat.Handler { bang(); return nil })
		},
		"OnDone of Hijack": func(w *http1.ResponseWriter, _ *http1.Request, bang func()) error {
			w.OnDone(func(error) { bang() })
			return w.Hijack(func(*chat.Conn) chat.Handler { return chat.Lines(func(*chat.Conn, []byte) error { return nil }) })
		},
	} {
		for _, how := range []string{"panic", "close", "abort"} {
			t.Run(name+": "+how, func(t *testing.T) {
				s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
					if string(r.Path()) == "/fine" {
						return hello(w, r)
					}
					return f(w, r, func() {
						switch how {
						case "panic":
							panic("secret")
						case "abort":
							panic(http.ErrAbortHandler)
						}
						if c := r.Conn(); c != nil {
							_ = c.Close()
						}
					})
				}), sim.Config{})
				s.p.Say(post)
				s.Settle()
				other := s.client()
				other.Say("GET /fine HTTP/1.1\r\nHost: a\r\n\r\n")
				other.Want("HTTP/1.1 200 OK\r\n")
				s.loop.Shutdown(time.Second)
				s.Advance(time.Minute)
				require.Zero(t, s.srv.Open())
				require.EqualValues(t, 2, s.srv.Counters().Conns)
				require.NotContains(t, s.p.Read(), "secret")
				n := int64(0)
				for _, r := range s.srv.Counters().Responses {
					n += r
				}
				require.EqualValues(t, 2, n)
			})
		}
	}
}

// A stream that begins when the loop is about to end already is told so, too: the grace is not waited for.
func TestEventStreamAtShutdown(t *testing.T) {
	s := newScene(t, handle(func(w *http1.ResponseWriter, _ *http1.Request) error {
		_, err := w.EventStream(0)
		return err
	}), sim.Config{})
	s.p.Say("GET / HTTP/1.1\r\nHo")
	s.Settle()
	s.loop.Shutdown(time.Hour)
	s.Settle()
	s.p.Say("st: a\r\n\r\n")
	s.p.Want("HTTP/1.1 200 OK\r\n")
	require.True(t, strings.HasSuffix(s.p.Read(), "\r\n\r\n0\r\n\r\n"))
	s.p.WantClosed()
	require.Zero(t, s.srv.Open())
}

package http1_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// chaos is a handler that does whatever handlers may do, at any time, to clients that do whatever they can.
type chaos struct {
	rng   *rand.Rand
	ends  []int // how often OnDone was called, for each request
	calls int
}

// body has letters that no head begins with, so that an octet in the wrong place shows.
func (h *chaos) body() string { return strings.Repeat("z", h.rng.IntN(3)*h.rng.IntN(4000)) }

func (h *chaos) ServeHTTP(w *http1.ResponseWriter, r *http1.Request) error {
	n := len(h.ends)
	h.ends = append(h.ends, 0)
	w.OnDone(func(error) {
		h.ends[n]++
		h.some(w, r)
	})
	if h.rng.IntN(2) == 0 {
		err := r.OnBody(func(p []byte, last bool) error {
			if h.rng.IntN(4) == 0 {
				r.Pause()
				r.Conn().AfterFunc(time.Duration(h.rng.IntN(1000))*time.Millisecond, r.Resume)
			}
			return h.some(w, r)
		})
		if err != nil {
			return err
		}
		w.Defer()
		r.Conn().AfterFunc(time.Duration(h.rng.IntN(3000))*time.Millisecond, func() { w.Finish(nil) })
	}
	for range h.rng.IntN(4) {
		if err := h.some(w, r); err != nil {
			return err
		}
	}
	return nil
}

// some is something that may be done to a response, in time or not.
func (h *chaos) some(w *http1.ResponseWriter, r *http1.Request) error {
	if h.calls++; h.calls > 3000 {
		return nil
	}
	switch h.rng.IntN(32) {
	case 0:
		w.SetLength(int64(h.rng.IntN(9000)))
	case 1:
		w.SetStatus([]int{200, 204, 304, 404, 299}[h.rng.IntN(5)])
	case 2, 3, 4, 5:
		_, _ = w.WriteString(h.body())
	case 6, 7:
		_ = w.Flush()
	case 8, 9:
		w.Defer()
		c := r.Conn()
		if c == nil {
			return nil
		}
		c.AfterFunc(time.Duration(h.rng.IntN(2000))*time.Millisecond, func() {
			_ = h.some(w, r)
			w.Finish(nil)
			if h.rng.IntN(4) == 0 {
				w.Finish(errors.New("again"))
			}
			_ = h.some(w, r)
		})
	case 10:
		w.Defer()
		w.OnDrain(func() error { return h.some(w, r) })
		if c := r.Conn(); c != nil {
			c.AfterFunc(time.Second, func() { w.Finish(nil) })
		}
	case 11:
		_ = w.SendProducer(buffered.Reader(io.LimitReader(zeros{}, int64(h.rng.IntN(200_000)))))
	case 12:
		return &http1.Error{Status: 400 + h.rng.IntN(20)}
	case 13:
		if h.rng.IntN(4) == 0 {
			return errors.New("an error")
		}
	case 14:
		if h.rng.IntN(6) == 0 {
			panic("a panic")
		}
	case 15:
		if c := r.Conn(); c != nil && h.rng.IntN(6) == 0 {
			_ = c.Close()
		}
	case 16:
		e, err := w.EventStream(time.Second)
		if err != nil {
			return err
		}
		r.Conn().AfterFunc(time.Duration(h.rng.IntN(5000))*time.Millisecond, func() {
			_ = e.Send(http1.Event{Data: "z"})
			e.Close()
		})
	case 17:
		w.SetTrailer("X-End", "1")
	case 18:
		_ = r.Context()
	case 19:
		_ = w.Inform(103, http.Header{"Link": {"</a>"}})
	case 20:
		if h.rng.IntN(4) == 0 {
			panic(http.ErrAbortHandler)
		}
	case 21:
		if h.rng.IntN(6) == 0 {
			_ = w.Hijack(func(*chat.Conn) chat.Handler {
				return chat.Lines(func(c *chat.Conn, _ []byte) error { return c.Close() })
			})
		}
	case 22:
		w.OnShutdown(func() { w.Finish(nil) })
	case 24: // more than the client takes at once
		_, _ = w.WriteString(strings.Repeat("z", 70_000))
		if w.Full() {
			w.Defer()
			w.OnDrain(func() error {
				w.Finish(nil)
				return h.some(w, r)
			})
		}
	case 23:
		w.Set("Connection", "close")
	}
	return nil
}

// zeros are octets without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'z'
	}
	return len(p), nil
}

// Whatever handlers do, and whenever: OnDone comes once, no connection stays, the loop rests, and what a client gets is
// one response after the other, of which at most the last one is cut.
func TestChaos(t *testing.T) {
	seeds := 300
	for seed := range seeds {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { runChaos(t, uint64(seed)+1) }) {
			return
		}
	}
}

func runChaos(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	h := &chaos{rng: rng}
	srv := &http1.Server{Handler: h, Limits: http1.Limits{Drain: 5000, Body: 20_000}}
	s := newScene(t, srv, sim.Config{Seed: seed, MaxRecv: rng.IntN(3) * 50, Window: []int{0, 700, 5000}[rng.IntN(3)]})
	var methods []string
	for range 1 + rng.IntN(5) {
		m := []string{"GET", "HEAD", "POST", "PUT"}[rng.IntN(4)]
		methods = append(methods, m)
		text := m + " / HTTP/1.1\r\nHost: a\r\n"
		if rng.IntN(5) == 0 {
			text += "Expect: 100-continue\r\n"
		}
		switch n := rng.IntN(3) * rng.IntN(8000); {
		case m == "GET" || m == "HEAD":
			text += "\r\n"
		case rng.IntN(2) == 0:
			text += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", n, strings.Repeat("b", n))
		default:
			text += fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX: y\r\n\r\n", n+1, strings.Repeat("b", n+1))
		}
		s.p.Say(text)
		if rng.IntN(3) == 0 {
			s.Advance(time.Duration(rng.IntN(2000)) * time.Millisecond)
		}
	}
	stalled := rng.IntN(4) == 0
	s.p.Stall(stalled)
	switch rng.IntN(6) {
	case 0:
		s.p.CloseWrite()
	case 1:
		s.p.Reset()
		stalled = true
	case 2:
		s.loop.Shutdown(5 * time.Second)
	}
	passes := s.loop.Stats().Passes
	s.Advance(10 * time.Second)
	s.p.Stall(false)
	text := s.p.Read()
	s.Advance(5 * time.Minute)
	text += s.p.Read()
	require.Less(t, s.loop.Stats().Passes-passes, uint64(20_000), "the loop does not rest")
	require.Zero(t, srv.Open())
	for i, n := range h.ends {
		require.Equal(t, 1, n, "request %d of %d", i, len(h.ends))
	}
	if !stalled {
		checkResponses(t, text, methods)
	}
}

func checkResponses(t *testing.T, text string, methods []string) {
	t.Helper()
	r := bufio.NewReader(strings.NewReader(text))
	for i := 0; ; i++ {
		if _, err := r.Peek(1); err != nil {
			return
		}
		require.Less(t, i, len(methods)+1)
		req := &http.Request{Method: "GET"}
		if i < len(methods) {
			req.Method = methods[i]
		}
		for {
			resp, err := http.ReadResponse(r, req)
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return
			}
			require.NoError(t, err, "response %d of %q", i, text)
			_, err = io.Copy(io.Discard, resp.Body)
			if err != nil {
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				return
			}
			if resp.StatusCode >= 200 {
				break
			}
		}
	}
}

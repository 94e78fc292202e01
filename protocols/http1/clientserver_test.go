package http1_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// Client and Server with each other, in random worlds: each request has its own response, whole.
func TestClientAndServer(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := sim.New(sim.Config{T: t, Seed: seed, Window: 1 + r.IntN(5000), MaxRecv: 1 + r.IntN(3000), RandomCuts: true, Latency: time.Millisecond,
			Jitter: time.Millisecond, Again: 0.1, Spurious: 0.1, Interrupt: 0.1, Work: time.Millisecond})
		loop := w.Loop(core.Options{})
		srv := &http1.Server{Handler: http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
			switch string(r.Path()) {
			case "/moved":
				w.SetStatus(http.StatusTemporaryRedirect)
				w.Set("Location", "/echo?"+string(r.RawQuery()))
				return nil
			case "/none":
				w.SetStatus(http.StatusNoContent)
				return nil
			}
			return r.ReadAll(0, func(body []byte) error {
				if len(body)%2 == 0 { // chunked, with a trailer
					w.SetTrailer("Sum", fmt.Sprint(len(body)))
					if err := w.Flush(); err != nil {
						return err
					}
				}
				if _, err := w.Write(body); err != nil {
					return err
				}
				_, err := fmt.Fprintf(w, " in answer to %s %s", r.Method(), r.RawQuery())
				return err
			})
		})}
		_, err := srv.Listen(loop, "tcp", "server:80")
		require.NoError(t, err)
		c := &http1.Client{Loop: w.Loop(core.Options{}), Redirects: 1, Limits: http1.ClientLimits{ConnsPerHost: 1 + r.IntN(4)}}
		const calls = 40
		done := 0
		for i := range calls {
			text := strings.Repeat("0123456789", r.IntN(700))
			if r.IntN(2) == 0 {
				text += "x"
			}
			path := []string{"/echo", "/moved", "/none"}[r.IntN(3)]
			out := &http1.Outgoing{Method: []string{"POST", "PUT", "HEAD", "GET"}[r.IntN(4)], URL: exampleURL(fmt.Sprintf("http://server%s?%d", path, i)),
				Expect: r.IntN(2) == 0}
			bodied := out.Method == "POST" || out.Method == "PUT"
			switch r.IntN(3) {
			case 0:
				out.Body = strings.NewReader(text)
			case 1:
				out.Body, out.Length = strings.NewReader(text), -1
			default:
				out.Body = io.MultiReader(strings.NewReader(text))
				out.GetBody = func() (io.Reader, error) { return io.MultiReader(strings.NewReader(text)), nil }
			}
			if !bodied {
				out.Body, text = nil, ""
			}
			_, err := c.Do(out, http1.Collect(-1, func(resp *http1.Response, body []byte, err error) {
				done++
				require.NoError(t, err, "seed %d call %d", seed, i)
				switch {
				case path == "/none":
					require.Equal(t, 204, resp.Status())
					require.Empty(t, body)
				case out.Method == "HEAD":
					require.Equal(t, 200, resp.Status())
					require.Empty(t, body)
				default:
					require.Equal(t, 200, resp.Status())
					require.Equal(t, text+fmt.Sprintf(" in answer to %s %d", out.Method, i), string(body))
					if len(text)%2 == 0 {
						require.Equal(t, fmt.Sprint(len(text)), resp.Trailers().Header().Get("Sum"))
					}
				}
			}))
			require.NoError(t, err)
		}
		require.True(t, w.Until(func() bool { return done == calls }), "seed %d: %d", seed, done)
		s := c.Stats()
		require.EqualValues(t, calls, s.Whole)
		c.Close()
		w.Settle()
		require.NoError(t, loop.Close())
		require.NoError(t, c.Loop.Close())
	}
}

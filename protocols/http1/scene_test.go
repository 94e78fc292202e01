package http1_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// scene is a server on a simulated network, with one client.
type scene struct {
	*sim.World
	t    testing.TB
	loop *core.Loop
	srv  *http1.Server
	p    *sim.Peer
	log  strings.Builder
}

func newScene(t testing.TB, srv *http1.Server, c sim.Config) *scene {
	t.Helper()
	c.T = t
	s := &scene{World: sim.New(c), t: t, srv: srv}
	s.loop = s.World.Loop(core.Options{Logger: slog.New(slog.NewTextHandler(&s.log, nil)), Strict: true})
	t.Cleanup(func() { _ = s.loop.Close() })
	s.p = s.client()
	return s
}

// client connects another client.
func (s *scene) client() *sim.Peer {
	s.t.Helper()
	sock, p := s.Pair()
	_, err := s.srv.Serve(s.loop, sock)
	require.NoError(s.t, err)
	return p
}

// handle is a server with a handler and nothing else.
func handle(f http1.HandlerFunc) *http1.Server { return &http1.Server{Handler: f} }

func TestHello(t *testing.T) {
	s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
		w.Set("Content-Type", "text/plain")
		_, err := w.WriteString("Hello, " + string(r.Path()) + "\n")
		return err
	}), sim.Config{})
	s.p.Say("GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\nHEAD /b HTTP/1.0\r\n\r\n")
	text := s.p.Read()
	t.Log(text)
	require.Equal(t, 3, strings.Count(text, "HTTP/1.1 200 OK\r\n"))
	s.p.WantClosed()
}

func hello(w *http1.ResponseWriter, _ *http1.Request) error {
	w.Set("Content-Type", "text/plain")
	_, err := w.WriteString("Hello, World!\n")
	return err
}

package http1_test

import (
	"crypto/tls"
	"fmt"
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
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/protocols/http1"
)

// A client that takes a little of its response every ten seconds is closed after the first minute in which that is less than
// WriteRate, however the response is made; one that takes as much as that gets all of it.
func TestWriteRate(t *testing.T) {
	const size = 300_000
	text := strings.Repeat("x", size)
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	for kind, h := range map[string]http1.HandlerFunc{
		"written": func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.SetLength(size)
			_, err := w.WriteString(text)
			return err
		},
		"in chunks": func(w *http1.ResponseWriter, _ *http1.Request) error {
			_, err := w.WriteString(text)
			return err
		},
		"a producer": func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.SetLength(size)
			return w.SendProducer(buffered.Bytes([]byte(text), 100))
		},
		"a file": func(w *http1.ResponseWriter, _ *http1.Request) error {
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			return w.SendFile(f, 0, size)
		},
		"the last": func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.Set("Connection", "close")
			_, err := w.WriteString(text)
			return err
		},
	} {
		for limit, x := range map[int64]struct {
			take  int // every ten seconds
			whole bool
		}{0: {2550, false}, 256: {2560, true}, 5000: {2560, false}, 5: {50, true}, -1: {1, true}} {
			t.Run(fmt.Sprint(kind, " ", limit), func(t *testing.T) {
				srv := handle(h)
				srv.Limits.WriteRate = limit
				var entry http1.Entry
				srv.Log = func(e *http1.Entry) { entry = *e }
				s := newScene(t, srv, sim.Config{Window: 2000, Untraced: true})
				s.p.Stall(true)
				s.p.Say(getRequest)
				s.Advance(5 * time.Second)
				for range 30 {
					s.p.Take(x.take)
					s.Advance(10 * time.Second)
				}
				require.Equal(t, x.whole, s.srv.Open() == 1)
				if !x.whole {
					if kind == "a producer" || kind == "a file" { // of the others all was queued long ago
						require.ErrorIs(t, entry.Err, core.ErrTimeout)
					}
					return
				}
				s.p.Stall(false)
				s.Settle()
				require.Equal(t, size, strings.Count(s.p.Read(), "x"))
			})
		}
	}
}

// A response whose end is that of the connection does not look whole when it was cut.
func TestWriteTimeoutIsNoEnd(t *testing.T) {
	s := newScene(t, handle(func(w *http1.ResponseWriter, _ *http1.Request) error {
		_, err := w.WriteString(strings.Repeat("x", 100_000))
		return err
	}), sim.Config{Window: 1000})
	s.p.Stall(true)
	s.p.Say("GET / HTTP/1.0\r\n\r\n")
	s.Advance(time.Minute)
	s.p.Stall(false)
	s.p.WantReset()
}

// What comes slowly because it is made slowly is not held against the client: events, and a producer that has nothing yet.
func TestWriteRateOfWhatIsMadeSlowly(t *testing.T) {
	s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
		if string(r.Path()) == "/events" {
			_, err := w.EventStream(15 * time.Second)
			return err
		}
		c, n := r.Conn(), 0
		return w.SendProducer(more(func() ([]byte, error) {
			if n++; n%2 == 0 {
				return []byte("x"), nil
			}
			c.AfterFunc(20*time.Second, c.ResumeProducer)
			return nil, core.ErrWouldBlock
		}))
	}), sim.Config{Window: 1000, Untraced: true})
	other := s.client()
	s.p.Say("GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
	other.Say("GET /made HTTP/1.1\r\nHost: a\r\n\r\n")
	s.Advance(time.Hour)
	require.Equal(t, 2, s.srv.Open())
	require.Equal(t, 3600/15, strings.Count(s.p.Read(), ":\n\n"))
	require.Equal(t, 3600/20, strings.Count(other.Read(), "1\r\nx\r\n"))
}

type more func() ([]byte, error)

func (f more) More(int) ([]byte, error) { return f() }

// A connection that was handed over is nobody's to time.
func TestWriteRateEndsWithHijack(t *testing.T) {
	s := newScene(t, handle(func(w *http1.ResponseWriter, _ *http1.Request) error {
		return w.Hijack(func(c *chat.Conn) chat.Handler {
			_ = c.Push(make([]byte, 10_000))
			return chat.Data(func(*chat.Conn, []byte) error { return nil })
		})
	}), sim.Config{Window: 1000})
	s.p.Stall(true)
	s.p.Say(getRequest)
	s.Advance(time.Hour)
	s.p.Stall(false)
	s.Settle()
	require.Len(t, s.p.Read(), 10_000)
}

// sip is a socket of which no more is received than is allowed.
type sip struct {
	core.Socket
	allow int
	d     *core.Dispatcher
}

func (s *sip) Attached(d *core.Dispatcher)           { s.d = d }
func (s *sip) Inner() core.Socket                    { return s.Socket }
func (s *sip) Pending() bool                         { return false }
func (s *sip) Ready(got core.Interest) core.Interest { return got }
func (s *sip) Interest(w core.Interest) core.Interest {
	if s.allow <= 0 {
		w &^= core.Read
	}
	return w
}

func (s *sip) Recv(p []byte) (int, error) {
	if s.allow <= 0 {
		return 0, core.ErrWouldBlock
	}
	n, err := s.Socket.Recv(p[:min(len(p), s.allow)])
	s.allow -= n
	return n, err
}

// By TLS it is the same: what its layer has encrypted already was not taken.
func TestWriteRateTLS(t *testing.T) {
	cert, err := tlslayer.SelfSigned("example.com")
	require.NoError(t, err)
	for take, whole := range map[int]bool{2400: false, 2700: true} { // every ten seconds
		srv := handle(func(w *http1.ResponseWriter, _ *http1.Request) error {
			w.Set("Connection", "close")
			_, err := w.WriteString(strings.Repeat("x", 100_000))
			return err
		})
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
		w := sim.New(sim.Config{T: t, Window: 1000, Untraced: true})
		l := w.Loop(core.Options{})
		ln, err := srv.ListenTLS(l, "tcp", "10.0.0.1:443")
		require.NoError(t, err)
		var slow *sip
		got := 0
		c, err := chat.DialWith(&core.Dialer{Wrap: func(s core.Socket) (core.Layered, error) {
			slow = &sip{Socket: s, allow: 1 << 20}
			return tlslayer.Client(slow, &tls.Config{InsecureSkipVerify: true}), nil
		}}, l, "tcp", ln.Addr().String(), func(c *chat.Conn) chat.Handler {
			return chat.Data(func(_ *chat.Conn, p []byte) error {
				got += strings.Count(string(p), "x")
				return nil
			})
		})
		require.NoError(t, err)
		w.Advance(time.Second)
		slow.allow = 0
		l.Post(func() { _ = c.PushString(getRequest) })
		w.Advance(time.Second)
		for range 12 {
			l.Post(func() {
				slow.allow += take
				c.Core().Refresh()
			})
			w.Advance(10 * time.Second)
		}
		require.Equal(t, whole, srv.Open() == 1, take)
		if whole {
			l.Post(func() {
				slow.allow = 1 << 20
				c.Core().Refresh()
			})
			w.Advance(time.Minute)
			require.Equal(t, 100_000, got)
		}
		require.NoError(t, l.Close())
	}
}

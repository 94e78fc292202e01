package http1_test

import (
	"log/slog"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// Behind a proxy that speaks the PROXY protocol the client is who that says.
func TestProxyFrom(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	defer loop.Close()
	srv := handle(func(w *http1.ResponseWriter, r *http1.Request) error {
		_, err := w.WriteString(r.RemoteAddr().String())
		return err
	})
	srv.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	_, err := srv.Listen(loop, "tcp", "192.0.2.1:80")
	require.NoError(t, err)
	p := w.DialFrom("tcp", "10.1.2.3:4567", "192.0.2.1:80")
	p.Say("PROXY TCP4 198.51.100.7 192.0.2.1 5678 80\r\n" + getRequest)
	p.Want("HTTP/1.1 200 OK\r\n" + date + "Content-Length: 17\r\n\r\n198.51.100.7:5678")
	stranger := w.DialFrom("tcp", "172.16.0.1:4567", "192.0.2.1:80")
	stranger.Say(getRequest)
	stranger.WantReset()
}

// Who is over a bound gets 503 with the date of the moment, which is made once a second; behind a proxy, too.
func TestRefusalHasDate(t *testing.T) {
	for _, proxied := range []bool{false, true} {
		w := sim.New(sim.Config{T: t})
		loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
		srv := handle(hello)
		srv.Limits.ConnsPerAddr = 1
		header := ""
		if proxied {
			srv.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
			header = "PROXY TCP4 198.51.100.7 192.0.2.1 5678 80\r\n"
		}
		_, err := srv.Listen(loop, "tcp", "192.0.2.1:80")
		require.NoError(t, err)
		w.DialFrom("tcp", "10.1.2.3:0", "192.0.2.1:80").Say(header + getRequest)
		for range 3 {
			w.Advance(900 * time.Millisecond)
			p := w.DialFrom("tcp", "10.1.2.3:0", "192.0.2.1:80")
			p.Say(header)
			p.Want("HTTP/1.1 503 Service Unavailable\r\nDate: " + w.Now().UTC().Format(http.TimeFormat) +
				"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\nRetry-After: 10\r\nConnection: close\r\n\r\n" +
				"Too many connections\n")
			p.WantClosed()
		}
		require.NoError(t, loop.Close())
		now := w.Now()
		require.Zero(t, testing.AllocsPerRun(100, func() { srv.Refusal(now) }))
	}
}

// One Server on several loops, which come and go.
func TestManyLoops(t *testing.T) {
	srv := handle(hello)
	for range 40 {
		s := newScene(t, srv, sim.Config{})
		s.p.Say(getRequest)
		s.p.Want("HTTP/1.1 200 OK\r\n")
		s.p.Close()
		s.Settle()
	}
	require.EqualValues(t, 40, srv.Counters().Responses[2])
	require.Zero(t, srv.Open())
	require.LessOrEqual(t, srv.Workers(), 17)
}

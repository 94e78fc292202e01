package http1_test

import (
	"log/slog"
	"net/netip"
	"testing"

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

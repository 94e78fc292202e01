package smtp_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// On a Group, sessions are spread over the loops, the limits hold for all of them together, and so does a shutdown.
func TestServerOnAGroup(t *testing.T) {
	w := sim.New(sim.Config{T: t, Latency: time.Millisecond})
	g := w.Group(2, core.Options{Logger: slog.New(slog.DiscardHandler)})
	srv := &smtp.Server{Limits: smtp.Limits{Conns: 4, ConnsPerAddr: 2}}
	rec := fill(srv)
	ln, err := srv.Listen(g, "tcp", address)
	require.NoError(t, err)
	var clients []*sim.Peer
	for _, from := range []string{"198.51.100.1:0", "198.51.100.1:0", "198.51.100.2:0", "198.51.100.3:0"} {
		p := w.DialFrom("tcp", from, address)
		p.Want("220 mx.example.org ESMTP\r\n")
		clients = append(clients, p)
	}
	for _, l := range g.Loops() {
		require.EqualValues(t, 2, l.Stats().Accepted)
	}
	refusal := "421 4.7.0 mx.example.org Too many connections, try again later\r\n"
	w.DialFrom("tcp", "198.51.100.4:0", address).Want(refusal)
	clients[3].Close()
	w.Settle()
	w.DialFrom("tcp", "198.51.100.1:0", address).Want(refusal)
	require.Equal(t, 3, srv.Open())

	for _, p := range clients[:3] {
		p.Say("HELO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n")
		w.Settle()
		p.Say("Subject: x\r\n\r\n.\r\n")
		require.Contains(t, p.Read(), "250 2.0.0")
	}
	require.Len(t, rec.mails, 3)
	g.Shutdown(time.Minute)
	require.NoError(t, g.Run(t.Context()))
	for _, p := range clients[:3] {
		require.Contains(t, p.Read(), "421 ")
		p.WantClosed()
	}
	require.Zero(t, ln.Open())
	require.Zero(t, srv.Open())
}

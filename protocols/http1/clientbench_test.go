package http1

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core/sim"
)

// nothing is a handler that keeps nothing.
type nothing struct {
	octets int
	done   int
	err    error
}

func (n *nothing) HandleResponse(*Call, *Response) error { return nil }
func (n *nothing) HandleBody(_ *Call, p []byte) error    { n.octets += len(p); return nil }
func (n *nothing) HandleDone(_ *Call, err error)         { n.done++; n.err = err }

// A body is handed on without an allocation, however long it is and in however many chunks.
func TestClientBodyAllocations(t *testing.T) {
	s := newClientScene(t, sim.Config{Untraced: true}, nil)
	h := new(nothing)
	_, err := s.cl.Do(&Outgoing{URL: mustURL(t, "http://server/")}, h)
	require.NoError(t, err)
	srv := s.ln.Accept()
	srv.Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	s.Settle()
	var cc *clientConn
	for d := range s.loop.All() {
		if conn, ok := chat.Of(d); ok {
			cc = conn.Handler().(*clientConn)
		}
	}
	require.NotNil(t, cc)
	line, data, end := []byte("3e8"), make([]byte, 1000), []byte("\r\n")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = cc.CollectIncomingData(cc.c, line)
		_ = cc.FoundTerminator(cc.c)
		_ = cc.CollectIncomingData(cc.c, data)
		_ = cc.FoundTerminator(cc.c)
		_ = cc.CollectIncomingData(cc.c, end)
		_ = cc.FoundTerminator(cc.c)
	}))
	require.Equal(t, 101_000, h.octets)
	require.Zero(t, h.done)
}

// The head of a request, and that of a response, cost little memory: the Call, its key, and what the scene itself needs.
func TestClientHeadAllocations(t *testing.T) {
	s := newClientScene(t, sim.Config{Untraced: true}, nil)
	h := new(nothing)
	out := &Outgoing{URL: mustURL(t, "http://server/a?b"), Header: http.Header{"Accept": {"*/*"}, "X": {"y"}}}
	_, err := s.cl.Do(out, h)
	require.NoError(t, err)
	s.ln.Accept().Say(okay)
	s.Settle()
	c := &Call{cl: s.cl, out: out, h: h}
	require.NoError(t, c.prepare())
	cc := &clientConn{cl: s.cl, host: &clientHost{}}
	p := make([]byte, 0, 1000)
	require.Zero(t, testing.AllocsPerRun(100, func() { p = c.appendHead(p[:0], cc) }))
	require.True(t, strings.HasSuffix(string(p), "\r\n\r\n"))
}

// BenchmarkClient is a GET on a connection that is kept, with the server played by the test.
func BenchmarkClient(b *testing.B) {
	s := newClientScene(b, sim.Config{Untraced: true}, nil)
	u, err := url.Parse("http://server/")
	require.NoError(b, err)
	out, h := &Outgoing{URL: u}, new(nothing)
	var srv *sim.Peer
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.cl.Do(out, h); err != nil {
			b.Fatal(err)
		}
		if srv == nil {
			srv = s.ln.Accept()
		}
		s.Settle()
		srv.Read()
		srv.Say(okay)
		s.Settle()
		if h.err != nil {
			b.Fatal(h.err)
		}
	}
}

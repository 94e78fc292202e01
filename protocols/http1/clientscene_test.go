package http1

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// clientScene is a Client in a world, with a server at http://server/ that the test plays.
type clientScene struct {
	*sim.World
	t    testing.TB
	loop *core.Loop
	cl   *Client
	ln   *sim.PeerListener
}

func newClientScene(t testing.TB, net sim.Config, cl *Client) *clientScene {
	if cl == nil {
		cl = new(Client)
	}
	if net.T == nil {
		net.T = t.(interface {
			Helper()
			Fatalf(format string, args ...any)
		})
	}
	w := sim.New(net)
	s := &clientScene{World: w, t: t, cl: cl, loop: w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})}
	s.ln = w.Listen("tcp", "server:80")
	cl.Loop = s.loop
	cl.UserAgent = "test"
	t.Cleanup(func() { _ = s.loop.Close() })
	return s
}

// outcome is what a handler was told.
type outcome struct {
	t         testing.TB
	call      *Call
	responses int
	status    int
	length    int64
	header    map[string][]string
	trailers  map[string][]string
	body      strings.Builder
	done      int
	err       error
	interim   []int
	redirects []string

	onResponse func(r *Response) error
	onBody     func(p []byte) error
	onDone     func()
	onRedirect func(to *url.URL) error
}

func (o *outcome) HandleResponse(c *Call, r *Response) error {
	require.Same(o.t, o.call, c)
	require.Zero(o.t, o.done)
	o.responses++
	o.status, o.length, o.header = r.Status(), r.ContentLength(), r.Header()
	if o.onResponse != nil {
		return o.onResponse(r)
	}
	return nil
}

func (o *outcome) HandleBody(c *Call, p []byte) error {
	require.Equal(o.t, 1, o.responses)
	require.Zero(o.t, o.done)
	require.NotEmpty(o.t, p)
	o.body.Write(p)
	if o.onBody != nil {
		return o.onBody(p)
	}
	return nil
}

func (o *outcome) HandleDone(c *Call, err error) {
	o.done++
	o.err = err
	require.Equal(o.t, 1, o.done)
	require.True(o.t, c.Over())
	if o.responses > 0 {
		require.Equal(o.t, o.status, c.resp.Status())
		if err == nil {
			if f := c.resp.Trailers(); f != nil {
				o.trailers = f.Header()
			}
		}
	}
	if o.onDone != nil {
		o.onDone()
	}
}

func (o *outcome) HandleInterim(_ *Call, r *Response) error {
	o.interim = append(o.interim, r.Status())
	return nil
}

func (o *outcome) HandleRedirect(_ *Call, r *Response, to *url.URL) error {
	o.redirects = append(o.redirects, fmt.Sprint(r.Status(), " ", to))
	if o.onRedirect != nil {
		return o.onRedirect(to)
	}
	return nil
}

// text is an outcome in one line, without what may depend on cuts.
func (o *outcome) text() string {
	if o.done != 1 {
		return fmt.Sprintf("done %d times", o.done)
	}
	if o.err != nil {
		return fmt.Sprintf("interim %v; error: %v", o.interim, o.err)
	}
	return fmt.Sprintf("interim %v; %d; length %d; %q; trailers %v", o.interim, o.status, o.length, o.body.String(), o.trailers)
}

func mustURL(t testing.TB, s string) *url.URL {
	u, err := url.Parse(s)
	require.NoError(t, err)
	return u
}

// do makes a request; "http://server" is put before a path.
func (s *clientScene) do(out Outgoing, target string) *outcome {
	s.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = "http://server" + target
	}
	out.URL = mustURL(s.t, target)
	o := &outcome{t: s.t}
	c, err := s.cl.Do(&out, o)
	require.NoError(s.t, err)
	o.call = c
	return o
}

func (s *clientScene) get(target string) *outcome {
	s.t.Helper()
	return s.do(Outgoing{}, target)
}

// crlf makes line ends what they are on the wire.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func getRequest(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: server\r\nUser-Agent: test\r\n\r\n"
}

func TestClientGet(t *testing.T) {
	s := newClientScene(t, sim.Config{}, nil)
	o := s.get("/a%20b?q=\u00fc x%")
	srv := s.ln.Accept()
	srv.Want(getRequest("/a%20b?q=%C3%BC%20x%25"))
	srv.Say(crlf("HTTP/1.1 200 OK\nContent-Length: 5\nX: y\n\nhello"))
	s.Settle()
	require.Equal(t, `interim []; 200; length 5; "hello"; trailers map[]`, o.text())
	require.Equal(t, map[string][]string{"Content-Length": {"5"}, "X": {"y"}}, o.header)
	o = s.get("/2")
	srv.Want(getRequest("/2"))
	srv.Say(crlf("HTTP/1.1 204 No\n\n"))
	s.Settle()
	require.Equal(t, `interim []; 204; length 0; ""; trailers map[]`, o.text())
	st := s.cl.Stats()
	require.Equal(t, ClientStats{Calls: 2, Whole: 2, Dialled: 1, Reused: 1, Received: 5, Open: 1, Idle: 1}, st)
	s.cl.Close()
	srv.WantClosed()
	_, err := s.cl.Do(&Outgoing{URL: mustURL(t, "http://server/")}, o)
	require.ErrorIs(t, err, core.ErrClosed)
}

package http1

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

func proxied(t testing.TB, proxy string) *Client {
	u := mustURL(t, proxy)
	return &Client{Redirects: 2, Proxy: func(*url.URL) (*url.URL, error) { return u, nil }}
}

// RFC 9112 section 3.2.2: a proxy for http gets the whole URL, of whatever host, on the same connections.
func TestClientProxy(t *testing.T) {
	s := newClientScene(t, sim.Config{}, proxied(t, "http://tim:secret@server:80"))
	o := s.get("http://www.example.com:8080/a?b#c")
	srv := s.ln.Accept()
	const auth = "User-Agent: test\r\nProxy-Authorization: Basic dGltOnNlY3JldA==\r\n\r\n"
	srv.Want("GET http://www.example.com:8080/a?b HTTP/1.1\r\nHost: www.example.com:8080\r\n" + auth)
	srv.Say(okay)
	s.Settle()
	wantOkay(t, o)
	o = s.get("http://user@www.example.org")
	srv.Want("GET http://www.example.org/ HTTP/1.1\r\nHost: www.example.org\r\n" + strings.Replace(auth, "Proxy", "Authorization: Basic dXNlcjo=\r\nProxy", 1))
	srv.Say(okay)
	s.Settle()
	wantOkay(t, o)
}

func TestClientProxyTargets(t *testing.T) {
	s := newClientScene(t, sim.Config{}, proxied(t, "http://server"))
	s.do(Outgoing{Method: "OPTIONS"}, "http://www.example.com/*")
	s.ln.Accept().Want("OPTIONS http://www.example.com/* HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: test\r\n\r\n")
	u := mustURL(t, "http://www.example.com")
	u.Path = "*"
	_, err := s.cl.Do(&Outgoing{Method: "OPTIONS", URL: u}, &outcome{t: t})
	require.NoError(t, err)
	s.ln.Accept().Want("OPTIONS http://www.example.com HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: test\r\n\r\n")
}

// What a proxy answers to CONNECT; a tunnel that is refused gives nobody anything to read.
func TestClientConnect(t *testing.T) {
	const request = "CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443\r\nUser-Agent: test\r\nProxy-Authorization: Basic OnB3\r\n\r\n"
	for _, x := range []struct {
		said string
		eof  bool
		want string
	}{
		{"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", false, "407 Proxy Authentication Required"},
		{"HTTP/1.1 302 Found\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n", false, "302 Found"},
		{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\n\r\n", false, "503 No"},
		{strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 9), false, "too many interim"},
		{"HTTP/1.1 101 Upgrade\r\n\r\n", false, "101"},
		{"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", false, "between the answer to CONNECT"},
		{"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03", false, "between the answer to CONNECT"},
		{"220 mx\r\n", false, "not HTTP"},
		{"HTTP/1.1 200 OK\nX: y\r\n\r\n", false, "line feed"},
		{"HTTP/1.1 20", true, "CONNECT: unexpected EOF"},
		{"", true, "CONNECT: unexpected EOF"},
	} {
		s := newClientScene(t, sim.Config{}, proxied(t, "http://:pw@server"))
		o := s.get("https://tim:secret@www.example.com/x")
		srv := s.ln.Accept()
		srv.Want(request)
		srv.Say(x.said)
		if x.eof {
			srv.CloseWrite()
		}
		s.Settle()
		require.Equal(t, 1, o.done, x.said)
		require.ErrorContains(t, o.err, x.want)
		require.Zero(t, o.responses)
		require.True(t, srv.Ended())
		require.NotContains(t, srv.Read(), "GET ") // nothing of the request was said
		var refused *ConnectError
		require.Equal(t, strings.Contains(x.want, "40") || strings.Contains(x.want, "302") || x.want == "101" || strings.Contains(x.want, "503"), errors.As(o.err, &refused))
	}
	s := newClientScene(t, sim.Config{}, proxied(t, "http://server"))
	o := s.get("https://www.example.com/x")
	s.Advance(60e9)
	require.ErrorIs(t, o.err, core.ErrTimeout)
	require.ErrorContains(t, o.err, "CONNECT")
}

// A proxy that cannot be one is an error of Do; so is what Proxy says.
func TestClientBadProxies(t *testing.T) {
	for _, proxy := range []string{"socks5://server:1080", "server:80", "http:///", "http://a b", "//server"} {
		u, err := url.Parse(proxy)
		if err != nil {
			continue
		}
		s := newClientScene(t, sim.Config{}, &Client{Proxy: func(*url.URL) (*url.URL, error) { return u, nil }})
		_, err = s.cl.Get("http://server/", nil)
		require.Error(t, err, proxy)
	}
	errMine := errors.New("mine")
	asked := 0
	s := newClientScene(t, sim.Config{}, &Client{Redirects: 1, Proxy: func(u *url.URL) (*url.URL, error) {
		if asked++; u.Host != "server" {
			return nil, errMine
		}
		return nil, nil
	}})
	_, err := s.cl.Get("http://other/", nil)
	require.Equal(t, errMine, err)
	o := s.get("/")
	s.ln.Accept().Say(movedTo("302", "http://other/"))
	s.Settle()
	require.Equal(t, errMine, o.err)
	require.Equal(t, 3, asked)
	require.Zero(t, s.cl.Stats().Active)
}

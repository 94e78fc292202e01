package http1

import (
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
)

// movedTo is a redirection.
func movedTo(status, location string) string {
	return "HTTP/1.1 " + status + " Moved\r\nLocation: " + location + "\r\nContent-Length: 5\r\n\r\nmoved"
}

// RFC 9110 section 15.4: what method and body become.
func TestClientRedirects(t *testing.T) {
	for _, x := range []struct {
		status, method string
		body           io.Reader
		want           string // the next request line's method
		again          bool   // the body is sent again
		err            error
	}{
		{"301", "GET", nil, "GET", false, nil},
		{"302", "HEAD", nil, "HEAD", false, nil},
		{"303", "HEAD", nil, "HEAD", false, nil},
		{"301", "POST", strings.NewReader("body"), "GET", false, nil},
		{"302", "POST", strings.NewReader("body"), "GET", false, nil},
		{"303", "PUT", strings.NewReader("body"), "GET", false, nil},
		{"303", "POST", onceReader("body"), "GET", false, nil},
		{"307", "POST", strings.NewReader("body"), "POST", true, nil},
		{"308", "PUT", strings.NewReader("body"), "PUT", true, nil},
		{"307", "GET", nil, "GET", false, nil},
		{"307", "POST", onceReader("body"), "", false, ErrReplay},
	} {
		t.Run(x.status+" "+x.method, func(t *testing.T) {
			s := newClientScene(t, sim.Config{}, &Client{Redirects: 1})
			o := s.do(Outgoing{Method: x.method, Body: x.body, Header: http.Header{"Content-Type": {"text/plain"}, "X": {"y"}}}, "/a/b?c")
			srv := s.ln.Accept()
			got := ""
			s.Until(func() bool {
				got += srv.Read()
				return strings.HasSuffix(got, "\r\n\r\n") && x.body == nil || strings.Contains(got, "body")
			})
			require.Contains(t, got, "Content-Type")
			if s.Settle(); x.method == "HEAD" {
				srv.Say(strings.TrimSuffix(movedTo(x.status, "../d?e#f"), "moved"))
			} else {
				srv.Say(movedTo(x.status, "../d?e#f"))
			}
			if x.err != nil {
				s.Settle()
				require.ErrorIs(t, o.err, x.err)
				return
			}
			got = ""
			s.Until(func() bool {
				got += srv.Read()
				return strings.HasSuffix(got, "\r\n\r\n") && !x.again || strings.Contains(got, "body")
			})
			require.True(t, strings.HasPrefix(got, x.want+" /d?e HTTP/1.1\r\n"), got)
			require.Contains(t, got, "X: y\r\n")
			require.Equal(t, x.again || x.body == nil, strings.Contains(got, "Content-Type"))
			require.Equal(t, x.again, strings.HasSuffix(got, "\r\n\r\nbody"))
			if x.method == "HEAD" {
				srv.Say(strings.TrimSuffix(okay, "ok"))
			} else {
				srv.Say(okay)
			}
			s.Settle()
			require.NoError(t, o.err)
			require.Equal(t, 1, o.done)
			require.Equal(t, "http://server/d?e#f", o.call.URL().String())
			require.Equal(t, uint64(1), s.cl.Stats().Dialled) // the same connection
			require.Len(t, o.redirects, 1)
		})
	}
}

// Their number is bounded, also in a circle; none are followed unless one says so.
func TestClientRedirectsAreBounded(t *testing.T) {
	for limit := range 4 {
		s := newClientScene(t, sim.Config{}, &Client{Redirects: limit})
		o := s.get("/")
		srv := s.ln.Accept()
		for range limit + 1 {
			srv.Want(getRequest("/"))
			srv.Say(movedTo("302", "/"))
		}
		s.Settle()
		require.Equal(t, 1, o.done)
		if limit == 0 {
			require.NoError(t, o.err)
			require.Equal(t, 302, o.status)
			require.Equal(t, "moved", o.body.String())
		} else {
			require.ErrorIs(t, o.err, ErrRedirects)
			require.Len(t, o.redirects, limit)
		}
	}
}

// Where a redirection cannot lead is an error; where there is none to be seen, it is a response.
func TestClientRedirectTargets(t *testing.T) {
	for location, want := range map[string]string{
		"ftp://server/":     "neither http nor https",
		"file:///etc/x":     "neither http nor https",
		"http://":           "malformed host",
		"http://a b/":       "invalid character",
		"/%zz":              "invalid URL escape",
		"http:opaque":       "malformed host",
		"javascript:1":      "neither http nor https",
		"http://:pw@:80/":   "malformed host",
		"http://ser\tver/x": "invalid control character",
	} {
		s := newClientScene(t, sim.Config{}, &Client{Redirects: 5})
		o := s.get("/")
		s.ln.Accept().Say(movedTo("301", location))
		s.Settle()
		require.ErrorContains(t, o.err, want, location)
	}
	for _, said := range []string{"HTTP/1.1 302 Found\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 304 Not Modified\r\nLocation: /x\r\n\r\n",
		"HTTP/1.1 300 Multiple Choices\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 201 Created\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nok"} {
		s := newClientScene(t, sim.Config{}, &Client{Redirects: 5})
		o := s.get("/")
		s.ln.Accept().Say(said)
		s.Settle()
		require.NoError(t, o.err)
		require.Equal(t, 1, o.responses)
	}
}

// Credentials stay with whom they are for, and do not come back from elsewhere.
func TestClientRedirectCredentials(t *testing.T) {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	jar.SetCookies(mustURL(t, "http://server/"), []*http.Cookie{{Name: "j", Value: "1"}})
	s := newClientScene(t, sim.Config{}, &Client{Redirects: 5, Jar: jar})
	s.Host("elsewhere", "192.0.2.3")
	other := s.Listen("tcp", "elsewhere:80")
	port := s.Listen("tcp", "server:8080")
	o := s.do(Outgoing{Host: "name", Header: http.Header{"Cookie": {"a=b"}, "X": {"y"}}}, "http://tim:secret@server/")
	srv := s.ln.Accept()
	const auth = "Authorization: Basic dGltOnNlY3JldA==\r\n"
	srv.Want("GET / HTTP/1.1\r\nHost: name\r\nX: y\r\nUser-Agent: test\r\n" + auth + "Cookie: a=b; j=1\r\n\r\n")
	srv.Say(movedTo("302", "/here"))
	srv.Want("GET /here HTTP/1.1\r\nHost: name\r\nX: y\r\nUser-Agent: test\r\n" + auth + "Cookie: a=b; j=1\r\n\r\n")
	srv.Say(movedTo("302", "//eve:pw@elsewhere/there"))
	far := other.Accept()
	far.Want("GET /there HTTP/1.1\r\nHost: elsewhere\r\nX: y\r\nUser-Agent: test\r\n\r\n")
	far.Say(movedTo("302", "http://server/back"))
	srv.Want("GET /back HTTP/1.1\r\nHost: server\r\nX: y\r\nUser-Agent: test\r\nCookie: j=1\r\n\r\n")
	srv.Say(okay)
	s.Settle()
	wantOkay(t, o)

	o = s.do(Outgoing{Header: http.Header{"Authorization": {"Bearer x"}}}, "http://server/")
	srv.Read()
	srv.Say(movedTo("307", "http://server:8080/"))
	p := port.Accept()
	p.Want("GET / HTTP/1.1\r\nHost: server:8080\r\nUser-Agent: test\r\nCookie: j=1\r\n\r\n")
	p.Say(okay)
	s.Settle()
	wantOkay(t, o)
}

func TestSameOrigin(t *testing.T) {
	for _, x := range []struct {
		from, to string
		want     bool
	}{
		{"http://a/", "http://a/x", true}, {"http://a/", "http://A:80/", true}, {"http://a/", "http://b/", false},
		{"http://a/", "http://a:81/", false}, {"http://a/", "https://a/", true}, {"https://a/", "http://a/", false},
		{"http://a:8080/", "https://a/", false}, {"http://a/", "https://a:8443/", false}, {"http://a.b/", "http://x.a.b/", false},
		{"https://a/", "https://a:443/", true}, {"http://[::1]/", "http://[::1]:80/", true}, {"http://a:443/", "https://a:443/", false},
	} {
		require.Equal(t, x.want, sameOrigin(mustURL(t, x.from), mustURL(t, x.to)), "%s %s", x.from, x.to)
	}
}

// A handler may have the redirection itself, or none of it.
func TestClientRedirectHandler(t *testing.T) {
	errMine := errors.New("mine")
	for _, want := range []error{http.ErrUseLastResponse, errMine, nil} {
		s := newClientScene(t, sim.Config{}, &Client{Redirects: 5})
		o := s.get("/")
		o.onRedirect = func(to *url.URL) error {
			require.Equal(t, "http://server/x", to.String())
			return want
		}
		srv := s.ln.Accept()
		srv.Say(movedTo("302", "/x"))
		s.Settle()
		switch want {
		case nil:
			srv.Read()
			srv.Say(okay)
			s.Settle()
			wantOkay(t, o)
		case errMine:
			require.Equal(t, errMine, o.err)
			require.Zero(t, o.responses)
		default:
			require.NoError(t, o.err)
			require.Equal(t, 302, o.status)
			require.Equal(t, "moved", o.body.String())
		}
	}
}

// A handler may give up when it is asked.
func TestClientCancelInHandleRedirect(t *testing.T) {
	for _, said := range []string{movedTo("302", "/x"), "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n"} {
		s := newClientScene(t, sim.Config{}, &Client{Redirects: 5})
		o := s.get("/")
		o.onRedirect = func(*url.URL) error { o.call.Cancel(); return nil }
		srv := s.ln.Accept()
		srv.Say(said)
		s.Settle()
		require.ErrorContains(t, o.err, "canceled")
		require.True(t, srv.Ended())
		require.Equal(t, uint64(1), s.cl.Stats().Dialled)
	}
}

// The body of a redirection is dropped if it is short; otherwise the connection is.
func TestClientRedirectBodies(t *testing.T) {
	for _, x := range []struct {
		said string
		same bool
	}{
		{"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 100\r\n\r\n" + strings.Repeat("x", 100), true},
		{"HTTP/1.1 302 Found\r\nLocation: /x\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + strings.Repeat("x", 100) + "\r\n0\r\n\r\n", true},
		{"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 101\r\n\r\n", false},
		{"HTTP/1.1 302 Found\r\nLocation: /x\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + strings.Repeat("x", 101), false},
		{"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", false},
		{"HTTP/1.1 302 Found\r\nLocation: /x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false},
	} {
		s := newClientScene(t, sim.Config{MaxRecv: 10}, &Client{Redirects: 5, Limits: ClientLimits{Drain: 100, Body: 50}})
		o := s.get("/")
		o.call.Pause() // what is dropped is not held up
		srv := s.ln.Accept()
		srv.Want(getRequest("/"))
		srv.Say(x.said)
		s.Settle()
		if !x.same {
			require.True(t, srv.Ended())
			srv = s.ln.Accept()
		}
		srv.Want(getRequest("/x"))
		o.call.Resume()
		srv.Say(okay)
		s.Settle()
		wantOkay(t, o)
	}
	// cut short, it is no redirection
	s := newClientScene(t, sim.Config{}, &Client{Redirects: 5})
	o := s.get("/")
	srv := s.ln.Accept()
	srv.Say(strings.TrimSuffix(movedTo("302", "/x"), "ed"))
	srv.CloseWrite()
	s.Settle()
	require.ErrorIs(t, o.err, io.ErrUnexpectedEOF)
}

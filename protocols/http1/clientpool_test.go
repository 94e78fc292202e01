package http1

import (
	"errors"
	"net/http"
	"net/http/cookiejar"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

const okay = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// wantOkay checks that a call got okay.
func wantOkay(t *testing.T, o *outcome) {
	t.Helper()
	require.Equal(t, `interim []; 200; length 2; "ok"; trailers map[]`, o.text())
}

// Calls to one host share connections, up to a bound, and wait for one in their order.
func TestClientPool(t *testing.T) {
	s := newClientScene(t, sim.Config{}, &Client{Limits: ClientLimits{ConnsPerHost: 2, IdlePerHost: 1}})
	var calls []*outcome
	for i := range 5 {
		calls = append(calls, s.get("/"+strconv.Itoa(i)))
	}
	a, b := s.ln.Accept(), s.ln.Accept()
	s.Settle()
	require.Equal(t, 2, s.cl.Stats().Open)
	require.Equal(t, 3, s.cl.Stats().Waiting)
	a.Want(getRequest("/0"))
	b.Want(getRequest("/1"))
	b.Say(okay)
	b.Want(getRequest("/2"))
	b.Say(okay)
	b.Want(getRequest("/3"))
	a.Say(okay)
	a.Want(getRequest("/4"))
	b.Say(okay)
	s.Settle()
	require.Equal(t, 1, s.cl.Stats().Idle)
	a.Say(okay)
	s.Settle()
	for _, o := range calls {
		wantOkay(t, o)
	}
	a.WantClosed() // one is enough to be kept
	require.Equal(t, ClientStats{Calls: 5, Whole: 5, Dialled: 2, Reused: 3, Received: 10, Open: 1, Idle: 1}, s.cl.Stats())
	s.Advance(29 * time.Second)
	require.Equal(t, 1, s.cl.Stats().Open)
	s.Advance(time.Second)
	b.WantClosed()
	require.Zero(t, s.cl.Stats().Open)
	require.Empty(t, s.cl.hosts)
	require.Empty(t, s.cl.idle)
}

// What is waiting for a connection has none taken from other hosts but those that nobody uses.
func TestClientPoolInAll(t *testing.T) {
	s := newClientScene(t, sim.Config{}, &Client{Limits: ClientLimits{Conns: 2}})
	other := s.Listen("tcp", "client:80")
	a, b := s.get("/a"), s.get("/b")
	c := s.get("http://client/c")
	srvA, srvB := s.ln.Accept(), s.ln.Accept()
	srvA.Want(getRequest("/a"))
	srvB.Want(getRequest("/b"))
	s.Settle()
	require.Equal(t, 2, s.cl.Stats().Open)
	srvB.Say(okay)
	srvB.WantClosed() // it makes room
	srvC := other.Accept()
	srvC.Want(strings.Replace(getRequest("/c"), "server", "client", 1))
	d := s.get("http://client/d")
	s.Settle()
	require.Equal(t, 2, s.cl.Stats().Open)
	srvC.Say(okay)
	srvC.Want(strings.Replace(getRequest("/d"), "server", "client", 1))
	srvC.Say(okay)
	srvA.Say(okay)
	s.Settle()
	for _, o := range []*outcome{a, b, c, d} {
		wantOkay(t, o)
	}
	require.Equal(t, 2, s.cl.Stats().Idle)
	s.cl.CloseIdle()
	s.Settle()
	require.Zero(t, s.cl.Stats().Open)
}

// Nothing is kept if nothing is to be.
func TestClientKeepsNothing(t *testing.T) {
	for _, cl := range []*Client{{NoKeepAlive: true}, {Limits: ClientLimits{Idle: -1}}, {Limits: ClientLimits{IdlePerHost: -1}}} {
		s := newClientScene(t, sim.Config{}, cl)
		o := s.get("/")
		srv := s.ln.Accept()
		want := getRequest("/")
		if cl.NoKeepAlive {
			want = strings.TrimSuffix(want, "\r\n") + "Connection: close\r\n\r\n"
		}
		srv.Want(want)
		srv.Say(okay)
		srv.WantClosed()
		wantOkay(t, o)
	}
	s := newClientScene(t, sim.Config{}, nil)
	o := s.do(Outgoing{Header: http.Header{"Connection": {"close"}}}, "/")
	srv := s.ln.Accept()
	srv.Want(strings.TrimSuffix(getRequest("/"), "\r\n") + "Connection: close\r\n\r\n")
	srv.Say(okay)
	srv.WantClosed()
	wantOkay(t, o)
}

// RFC 9112 section 9.3.1: a connection that ends just when it is used again is no failure, if to ask twice does no harm.
func TestClientRetry(t *testing.T) {
	for _, x := range []struct {
		name string
		out  Outgoing
		end  func(p *sim.Peer)
		want bool
	}{
		{"GET, closed", Outgoing{}, (*sim.Peer).Close, true},
		{"GET, shut", Outgoing{}, (*sim.Peer).CloseWrite, true},
		{"GET, reset", Outgoing{}, (*sim.Peer).Reset, true},
		{"DELETE", Outgoing{Method: "DELETE"}, (*sim.Peer).Reset, true},
		{"PUT", Outgoing{Method: "PUT", Body: strings.NewReader("body")}, (*sim.Peer).Reset, true},
		{"PUT, read once", Outgoing{Method: "PUT", Body: onceReader("body")}, (*sim.Peer).Reset, false},
		{"POST", Outgoing{Method: "POST", Body: strings.NewReader("body")}, (*sim.Peer).Reset, false},
		{"POST, idempotent", Outgoing{Method: "POST", Body: strings.NewReader("body"), Idempotent: true}, (*sim.Peer).Reset, true},
		{"PATCH", Outgoing{Method: "PATCH"}, (*sim.Peer).Close, false},
		{"an octet came", Outgoing{}, func(p *sim.Peer) { p.Say("H"); p.CloseWrite() }, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newClientScene(t, sim.Config{Work: time.Millisecond}, nil)
			first := s.get("/")
			srv := s.ln.Accept()
			srv.Say(okay)
			s.Settle()
			wantOkay(t, first)
			srv.Read()
			o := s.do(x.out, "/again")
			require.True(t, s.Until(func() bool { return strings.Contains(srv.Read(), " /again ") }))
			s.Settle()
			x.end(srv)
			s.Settle()
			if !x.want {
				require.Error(t, o.err)
				require.Equal(t, uint64(0), s.cl.Stats().Retried)
				require.Equal(t, uint64(1), s.cl.Stats().Dialled)
				return
			}
			require.Zero(t, o.done)
			srv = s.ln.Accept()
			got := ""
			s.Until(func() bool {
				got += srv.Read()
				return strings.HasSuffix(got, "\r\n\r\n") || strings.HasSuffix(got, "body")
			})
			require.Contains(t, got, " /again HTTP/1.1\r\n")
			require.Equal(t, x.out.Body != nil, strings.HasSuffix(got, "\r\n\r\nbody"))
			srv.Reset() // and that is the end of it
			s.Settle()
			require.ErrorIs(t, o.err, syscall.ECONNRESET)
			require.Equal(t, uint64(1), s.cl.Stats().Retried)
		})
	}
}

// RFC 9110 section 15.5.9: a server that says 408 when it closes an idle connection has not seen the request.
func TestClientRetryAfter408(t *testing.T) {
	const timeout = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	for _, method := range []string{"GET", "POST"} {
		s := newClientScene(t, sim.Config{}, nil)
		s.get("/")
		srv := s.ln.Accept()
		srv.Say(okay)
		s.Settle()
		o := s.do(Outgoing{Method: method}, "/again")
		s.Until(func() bool { return strings.Contains(srv.Read(), "/again") })
		srv.Say(timeout)
		s.Settle()
		if method == "POST" {
			require.Equal(t, 408, o.status)
			continue
		}
		require.Zero(t, o.done)
		srv = s.ln.Accept()
		srv.Want(getRequest("/again"))
		srv.Say(timeout)
		s.Settle()
		require.NoError(t, o.err)
		require.Equal(t, 408, o.status)
	}
}

// A first request on a connection is not made again.
func TestClientNoRetryOnFirst(t *testing.T) {
	s := newClientScene(t, sim.Config{}, nil)
	o := s.get("/")
	s.ln.Accept().CloseWrite()
	s.Settle()
	require.ErrorContains(t, o.err, "without a response")
	require.Equal(t, uint64(1), s.cl.Stats().Dialled)
}

// Whatever a server says when nothing was asked for ends the connection, and is not the answer to what is asked next.
func TestClientUnasked(t *testing.T) {
	s := newClientScene(t, sim.Config{}, nil)
	s.get("/")
	srv := s.ln.Accept()
	srv.Say(okay)
	s.Settle()
	srv.Say(strings.Replace(okay, "ok", "no", 1))
	s.Settle()
	require.True(t, srv.Ended())
	o := s.get("/")
	srv = s.ln.Accept()
	srv.Say(okay)
	s.Settle()
	wantOkay(t, o)
}

// Cancel ends a call wherever it is; nothing but HandleDone follows, and others are not harmed.
func TestClientCancel(t *testing.T) {
	for _, x := range []struct {
		name string
		said string
	}{{"waiting", ""}, {"connected", ""}, {"head", "HTTP/1.1 200 OK\r\nX"}, {"body", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\no"},
		{"chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"}} {
		t.Run(x.name, func(t *testing.T) {
			s := newClientScene(t, sim.Config{}, &Client{Limits: ClientLimits{ConnsPerHost: 1}})
			o, other := s.get("/1"), s.get("/2")
			if x.name != "waiting" {
				srv := s.ln.Accept()
				srv.Want(getRequest("/1"))
				srv.Say(x.said)
				s.Settle()
			}
			require.Zero(t, o.done)
			o.call.Cancel()
			o.call.Cancel()
			require.Zero(t, o.done) // not from here
			s.Settle()
			require.Equal(t, 1, o.done)
			require.ErrorContains(t, o.err, "canceled")
			srv := s.ln.Accept()
			srv.Want(getRequest("/2"))
			srv.Say(okay)
			s.Settle()
			wantOkay(t, other)
		})
	}
}

// A call that is given up while it connects, or looks a name up, leaves nothing behind.
func TestClientCancelWhileConnecting(t *testing.T) {
	for _, target := range []string{"http://hole/", "http://server/"} {
		for _, end := range []func(*clientScene, *outcome){func(_ *clientScene, o *outcome) { o.call.Cancel() }, func(s *clientScene, _ *outcome) { s.cl.Close() }} {
			s := newClientScene(t, sim.Config{Work: time.Second, Latency: time.Second}, nil)
			s.Host("hole", "192.0.2.9")
			s.BlackHole("192.0.2.9")
			o := s.get(target)
			s.Advance(10 * time.Millisecond)
			require.Equal(t, 1, s.cl.Stats().Open)
			end(s, o)
			s.Advance(time.Minute)
			require.Equal(t, 1, o.done)
			require.Error(t, o.err)
			require.Zero(t, s.cl.Stats().Open)
			require.Zero(t, s.Files())
		}
	}
}

// A handler may cancel, close the Client, or begin calls, from wherever it is.
func TestClientFromWithinHandlers(t *testing.T) {
	for name, act := range map[string]func(*clientScene, *outcome){
		"Cancel":   func(_ *clientScene, o *outcome) { o.call.Cancel() },
		"Close":    func(s *clientScene, _ *outcome) { s.cl.Close() },
		"Shutdown": func(s *clientScene, _ *outcome) { s.cl.Shutdown(nil) },
		"Pause":    func(_ *clientScene, o *outcome) { o.call.Pause(); o.call.Resume() },
		"panic":    func(*clientScene, *outcome) { panic("on purpose") },
		"Loop":     func(s *clientScene, _ *outcome) { _ = s.loop.CloseAll(core.ErrShutdown) },
	} {
		for _, where := range []string{"response", "body", "done"} {
			t.Run(name+" in "+where, func(t *testing.T) {
				s := newClientScene(t, sim.Config{}, &Client{Limits: ClientLimits{ConnsPerHost: 1}})
				o, other := s.get("/"), s.get("/")
				switch where {
				case "response":
					o.onResponse = func(*Response) error { act(s, o); return nil }
				case "body":
					o.onBody = func([]byte) error { act(s, o); return nil }
				case "done":
					o.onDone = func() { act(s, o) }
				}
				srv := s.ln.Accept()
				srv.Say(okay)
				s.Settle()
				require.Equal(t, 1, o.done)
				if name == "Pause" || name == "Shutdown" || where == "done" {
					require.NoError(t, o.err)
				} else {
					require.Error(t, o.err)
				}
				if other.done == 0 {
					if srv.Ended() {
						srv = s.ln.Accept()
					}
					srv.Say(okay)
					s.Settle()
					wantOkay(t, other)
				} else {
					require.True(t, name == "Close" || name == "Loop", name)
					require.Error(t, other.err)
				}
				require.Zero(t, s.cl.Stats().Active)
			})
		}
	}
}

// Each call ends when the Client, or its loop, does.
func TestClientCloses(t *testing.T) {
	for name, end := range map[string]func(*clientScene) error{
		"Close":      func(s *clientScene) error { s.cl.Close(); return core.ErrClosed },
		"CloseAll":   func(s *clientScene) error { _ = s.loop.CloseAll(core.ErrShutdown); return core.ErrShutdown },
		"Loop.Close": func(s *clientScene) error { _ = s.loop.Close(); return core.ErrClosed },
	} {
		t.Run(name, func(t *testing.T) {
			s := newClientScene(t, sim.Config{}, &Client{Limits: ClientLimits{ConnsPerHost: 1}})
			calls := []*outcome{s.get("/1"), s.get("/2"), s.get("/3")}
			s.ln.Accept().Want(getRequest("/1"))
			want := end(s)
			if name != "Loop.Close" {
				s.Settle()
			}
			for _, o := range calls {
				require.Equal(t, 1, o.done)
				require.ErrorIs(t, o.err, want)
			}
			require.Zero(t, s.cl.Stats().Active)
		})
	}
}

// Shutdown of the Client lets what was begun end; that of the loop only what has a connection.
func TestClientShutdown(t *testing.T) {
	s := newClientScene(t, sim.Config{}, &Client{Limits: ClientLimits{ConnsPerHost: 1}})
	calls := []*outcome{s.get("/1"), s.get("/2")}
	srv := s.ln.Accept()
	done := 0
	s.cl.Shutdown(func() { done++ })
	_, err := s.cl.Do(&Outgoing{URL: mustURL(t, "http://server/")}, calls[0])
	require.ErrorIs(t, err, core.ErrClosed)
	srv.Want(getRequest("/1"))
	require.Zero(t, done)
	srv.Say(okay)
	srv.Want(getRequest("/2"))
	srv.Say(okay)
	srv.WantClosed()
	s.Settle()
	require.Equal(t, 1, done)
	wantOkay(t, calls[0])
	wantOkay(t, calls[1])

	s = newClientScene(t, sim.Config{}, &Client{Limits: ClientLimits{ConnsPerHost: 1}})
	calls = []*outcome{s.get("/1"), s.get("/2")}
	srv = s.ln.Accept()
	srv.Want(getRequest("/1"))
	s.loop.Shutdown(time.Minute)
	s.Settle()
	require.Zero(t, calls[0].done)
	require.ErrorIs(t, calls[1].err, core.ErrShutdown)
	srv.Say(okay)
	srv.WantClosed()
	wantOkay(t, calls[0])
}

// What is wrong with a request is an error of Do.
func TestClientRefusesRequests(t *testing.T) {
	s := newClientScene(t, sim.Config{}, &Client{Limits: ClientLimits{Waiting: 2}})
	bad := func(out Outgoing, target string) error {
		t.Helper()
		if target != "" {
			out.URL = mustURL(t, target)
		}
		_, err := s.cl.Do(&out, &outcome{t: t})
		require.Error(t, err)
		return err
	}
	for _, target := range []string{"", "/relative", "ftp://server/", "http:///x", "http:opaque", "http://:80/", "http://exa mple/", "http://[::1%25eth0]/", "http://server:99999/"} {
		if u, err := http.NewRequest("GET", target, nil); target != "" && (err != nil || u == nil) {
			continue // not a URL at all
		}
		bad(Outgoing{}, target)
	}
	for _, method := range []string{"GET /", "GE\nT", "CONNECT", "\x00"} {
		bad(Outgoing{Method: method}, "http://server/")
	}
	for name, value := range map[string]string{"X\r\nY": "z", "X:": "y", "": "x", "X Y": "z", "X": "a\r\nb: c", "Y": "a\x00b", "Z": "a\nb",
		"Content-Length": "5", "transfer-encoding": "chunked", "Trailer": "x", "Expect": "100-continue", "Upgrade": "x", "Host": "x",
		"Keep-Alive": "x", "Te": "trailers", "Proxy-Authorization": "Basic x", "Connection": "upgrade"} {
		require.ErrorIs(t, bad(Outgoing{Header: http.Header{name: {value}}}, "http://server/"), ErrHeader, name)
	}
	bad(Outgoing{Method: "TRACE", Body: strings.NewReader("x")}, "http://server/")
	for _, host := range []string{"a b", "a/b", "u@h", "a\r\nX: y"} {
		require.ErrorIs(t, bad(Outgoing{Host: host}, "http://server/"), ErrHeader)
	}
	for _, name := range []string{"Content-Length", "Authorization", "X Y", "Transfer-Encoding", "Content-Type"} {
		require.ErrorIs(t, bad(Outgoing{Trailer: http.Header{name: nil}}, "http://server/"), ErrHeader, name)
	}
	s.get("/1")
	s.get("/2")
	require.ErrorIs(t, bad(Outgoing{}, "http://server/"), core.ErrOverflow)
	require.Error(t, func() error { _, err := new(Client).Get("http://x/", nil); return err }())
	require.ErrorIs(t, func() error { _, err := (&Client{Loop: s.loop, UserAgent: "a\r\nb"}).Get("http://x/", nil); return err }(), ErrHeader)
}

// A URL that a program made, and that Parse would not have, does no harm either.
func TestClientTargets(t *testing.T) {
	for _, x := range []struct{ path, query, want string }{
		{"", "", "/"}, {"/a b", "", "/a%20b"}, {"/a?b", "c#d", "/a%3Fb?c%23d"}, {"x", "", "/x"},
		{"/\r\nX: y", "a\r\nb HTTP/1.1", "/%0D%0AX:%20y?a%0D%0Ab%20HTTP/1.1"}, {"/%", "%zz%41", "/%25?%25zz%41"}, {"//x", "", "//x"},
		{"*", "", "/*"},
	} {
		s := newClientScene(t, sim.Config{}, nil)
		u := mustURL(t, "http://server")
		u.Path, u.RawQuery = x.path, x.query
		o := &outcome{t: t}
		_, err := s.cl.Do(&Outgoing{URL: u}, o)
		require.NoError(t, err)
		s.ln.Accept().Want(getRequest(x.want))
	}
	s := newClientScene(t, sim.Config{}, nil)
	u := mustURL(t, "http://server")
	u.Path = "*"
	_, err := s.cl.Do(&Outgoing{Method: "OPTIONS", URL: u}, &outcome{t: t})
	require.NoError(t, err)
	s.ln.Accept().Want("OPTIONS" + strings.TrimPrefix(getRequest("*"), "GET"))
}

// The fields of a request, in a fixed order.
func TestClientFields(t *testing.T) {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	jar.SetCookies(mustURL(t, "http://server/"), []*http.Cookie{{Name: "j", Value: "1"}})
	s := newClientScene(t, sim.Config{}, &Client{Jar: jar})
	o := s.do(Outgoing{Method: "POST", Host: "other:8080", Header: http.Header{"X": {"1", "2"}, "accept": {"*/*"}, "User-Agent": nil, "Cookie": {"a=b"}}},
		"http://tim:sec%20ret@server:80/#fragment")
	srv := s.ln.Accept()
	srv.Want(crlf("POST / HTTP/1.1\nHost: other:8080\nX: 1\nX: 2\naccept: */*\nAuthorization: Basic dGltOnNlYyByZXQ=\nCookie: a=b; j=1\nContent-Length: 0\n\n"))
	srv.Say(crlf("HTTP/1.1 200 OK\nSet-Cookie: k=\"2\"; Path=/\nSet-Cookie: ;;=\nSet-Cookie: far=1; Domain=example.org\nContent-Length: 0\n\n"))
	s.Settle()
	require.NoError(t, o.err)
	s.do(Outgoing{Header: http.Header{"Authorization": {"Bearer x"}, "User-Agent": {"me"}}}, "http://tim@server/")
	srv.Want(crlf("GET / HTTP/1.1\nHost: server\nAuthorization: Bearer x\nUser-Agent: me\nCookie: j=1; k=\"2\"\n\n"))
}

// The bounds of what a server can send.
func TestClientLimits(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, x := range []struct {
		name   string
		limits ClientLimits
		good   string
		bad    string
	}{
		{"StatusLine", ClientLimits{StatusLine: 100}, "HTTP/1.1 200 " + long[:87] + "\n\n", "HTTP/1.1 200 " + long[:88] + "\n\n"},
		{"FieldLine", ClientLimits{FieldLine: 100}, "HTTP/1.1 200 OK\nX: " + long[:97] + "\n\n", "HTTP/1.1 200 OK\nX: " + long[:98] + "\n\n"},
		{"Fields", ClientLimits{Fields: 2}, "HTTP/1.1 200 OK\nA: b\nC: d\n\n", "HTTP/1.1 200 OK\nA: b\nC: d\nE: f\n\n"},
		{"FieldBytes", ClientLimits{FieldBytes: 21}, "HTTP/1.1 200 OK\nA: 3456789\nX: 3456\n\n", "HTTP/1.1 200 OK\nA: 3456789\nX: 34567\n\n"},
		{"head without end", ClientLimits{FieldBytes: 1000, Fields: -1}, "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK\n" + strings.Repeat("X: y\n", 5000)},
		{"Interim", ClientLimits{Interim: 1}, "HTTP/1.1 102 x\n\nHTTP/1.1 200 OK\n\n", "HTTP/1.1 102 x\n\nHTTP/1.1 102 x\n\nHTTP/1.1 200 OK\n\n"},
		{"ChunkLine", ClientLimits{ChunkLine: 10}, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1;34567890\nx\n0\n\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1;345678901\nx\n0\n\n"},
		{"ChunkExtensions", ClientLimits{ChunkExtensions: 4}, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1;a\nx\n1;b\nx\n0\n\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1;a\nx\n1;b\nx\n0;c\n\n"},
		{"Trailers", ClientLimits{Trailers: 10}, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\nA:b\nC:d\n\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\nA:b\nC:de\n\n"},
		{"one trailer", ClientLimits{Trailers: 10}, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\n\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\nA:" + long},
		{"Body, length", ClientLimits{Body: 5}, "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "HTTP/1.1 200 OK\nContent-Length: 6\n\n"},
		{"Body, chunk", ClientLimits{Body: 5}, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nhell\n1\no\n0\n\n", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nhell\n2\n"},
		{"Body, until close", ClientLimits{Body: 5}, "HTTP/1.1 200 OK\n\nhello", "HTTP/1.1 200 OK\n\nhello!"},
	} {
		t.Run(x.name, func(t *testing.T) {
			for said, good := range map[string]bool{x.good: true, x.bad: false} {
				for _, limits := range []ClientLimits{x.limits, {}} {
					for _, most := range []int{0, 1, 7} {
						s := newClientScene(t, sim.Config{MaxRecv: most}, &Client{Limits: limits})
						o := s.get("/")
						srv := s.ln.Accept()
						srv.Say(crlf(said))
						s.Settle()
						if good {
							srv.CloseWrite()
							s.Settle()
							require.NoError(t, o.err)
							require.Equal(t, 1, o.done)
							continue
						}
						if limits == x.limits {
							require.Equal(t, 1, o.done)
							if strings.HasPrefix(x.name, "Body") {
								require.ErrorIs(t, o.err, core.ErrTooLong)
							} else {
								require.ErrorIs(t, o.err, ErrResponse)
							}
						} else if x.name != "head without end" {
							require.NoError(t, o.err)
						}
					}
				}
			}
		})
	}
}

// Negative limits are none, where that is possible.
func TestClientNoLimits(t *testing.T) {
	s := newClientScene(t, sim.Config{}, &Client{Limits: ClientLimits{StatusLine: -1, FieldLine: -1, Fields: -1, FieldBytes: -1, Interim: -1, ChunkLine: -1,
		ChunkExtensions: -1, Trailers: -1, Body: -1, Drain: -1, Conns: -1, ConnsPerHost: -1, Waiting: -1}})
	o := s.get("/")
	srv := s.ln.Accept()
	long := strings.Repeat("x", 100_000)
	srv.Say(crlf(strings.Repeat("HTTP/1.1 102 x\n\n", 20) + "HTTP/1.1 200 " + long + "\n" + strings.Repeat("X: y\n", 1000) + "Long: " + long +
		"\nTransfer-Encoding: chunked\n\n1;" + long + "\nx\n0\n" + strings.Repeat("X: y\n", 5000) + "\n"))
	s.Settle()
	require.NoError(t, o.err)
	require.Equal(t, "x", o.body.String())
	require.Len(t, o.interim, 20)
	require.Len(t, o.trailers["X"], 5000)
	for range 300 {
		s.get("/")
	}
	s.Settle()
	require.Equal(t, 300, s.cl.Stats().Open)
}

// Outgoing.BodyLimit is for one call, and Collect has one of its own.
func TestClientBodyLimit(t *testing.T) {
	s := newClientScene(t, sim.Config{}, nil)
	o := s.do(Outgoing{BodyLimit: 1}, "/")
	s.ln.Accept().Say(okay)
	s.Settle()
	require.ErrorIs(t, o.err, core.ErrTooLong)

	for _, x := range []struct {
		limit int64
		said  string
		want  string
		good  bool
	}{
		{2, okay, "ok", true}, {1, okay, "", false}, {-1, okay, "ok", true}, {0, okay, "ok", true},
		{2, "HTTP/1.0 200 OK\r\n\r\nok", "ok", true}, {1, "HTTP/1.0 200 OK\r\n\r\nok", "", false},
		{2, "HTTP/1.0 200 O", "", false},
	} {
		calls := 0
		_, err := s.cl.Do(&Outgoing{URL: mustURL(t, "http://server/")}, Collect(x.limit, func(r *Response, body []byte, err error) {
			calls++
			require.Equal(t, x.want, string(body))
			require.Equal(t, x.good, err == nil)
			if r == nil {
				require.Error(t, err)
			} else {
				require.Equal(t, 200, r.Status())
				require.Equal(t, "http://server/", r.URL().String())
				require.Equal(t, "OK", string(r.Reason()))
			}
		}))
		require.NoError(t, err)
		srv := s.ln.Accept()
		srv.Say(x.said)
		srv.CloseWrite()
		s.Settle()
		require.Equal(t, 1, calls)
	}
	calls := 0
	_, err := s.cl.Get("http://server/", func(_ *Response, body []byte, err error) {
		calls++
		require.ErrorIs(t, err, core.ErrTooLong)
	})
	require.NoError(t, err)
	s.ln.Accept().Say("HTTP/1.1 200 OK\r\nContent-Length: 10485761\r\n\r\n")
	s.Settle()
	require.Equal(t, 1, calls)
	_, err = s.cl.Get("http://a b/", nil)
	require.Error(t, err)
}

// What ends a call early is an error of a handler, too.
func TestClientHandlerErrors(t *testing.T) {
	errMine := errors.New("mine")
	for _, where := range []string{"response", "body"} {
		s := newClientScene(t, sim.Config{}, nil)
		o := s.get("/")
		if where == "body" {
			o.onBody = func([]byte) error { return errMine }
		} else {
			o.onResponse = func(*Response) error { return errMine }
		}
		srv := s.ln.Accept()
		srv.Say(okay)
		srv.Want(getRequest("/"))
		s.Settle()
		require.True(t, srv.Ended())
		require.Equal(t, errMine, o.err)
	}
}

package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
)

// read is what became of what a server said, and how many octets belong to it.
type read struct {
	text    string
	status  int
	body    string
	header  map[string][]string
	err     error
	interim int
}

// readByClient has a Client read a response.
func readByClient(t *testing.T, method string, said []byte, net sim.Config) read {
	s := newClientScene(t, net, nil)
	o := s.do(Outgoing{Method: method}, "/")
	srv := s.ln.Accept()
	srv.Say(string(said))
	srv.CloseWrite()
	s.Settle()
	require.Equal(t, 1, o.done)
	require.Zero(t, s.cl.Stats().Active)
	require.Zero(t, s.cl.Stats().Open)
	require.NoError(t, s.loop.Close())
	return read{text: o.text(), status: o.status, body: o.body.String(), header: o.header, err: o.err, interim: len(o.interim)}
}

// readByNetHTTP has net/http read a response, with interim ones before it.
func readByNetHTTP(method string, said []byte) (r read, err error) {
	in := bufio.NewReader(bytes.NewReader(said))
	req := &http.Request{Method: method}
	for {
		resp, err := http.ReadResponse(in, req)
		if err != nil {
			return r, err
		}
		if resp.StatusCode/100 == 1 {
			r.interim++
			continue
		}
		body, err := io.ReadAll(resp.Body)
		r.status, r.header, r.body = resp.StatusCode, resp.Header, string(body)
		return r, err
	}
}

// refusedByNetHTTP are what net/http refuses, and we do not.
var refusedByNetHTTP = []string{
	"bad trailer key",   // Trailer: Content-Length is a bad promise (RFC 9110 section 6.5.1), and what comes is not obeyed
	"too much non-data", // its bound on chunk framing is in proportion to the data, ours is ClientLimits.ChunkExtensions
	"transfer encoding", // unsupported, or too many, of a body that does not come: HEAD, 204, 304; RFC 9112 section 6.3 does not look at it
}

// FuzzClientResponse: whatever bytes a server says, a call has one end, which does not depend on how they are cut; nothing
// panics. What is read as a whole response net/http reads in the same way, but for what it refuses by the table above.
func FuzzClientResponse(f *testing.F) {
	for i, a := range answers {
		f.Add([]byte(a.wire()), uint64(i), a.method == "HEAD")
	}
	f.Fuzz(func(t *testing.T, said []byte, seed uint64, head bool) {
		method := "GET"
		if head {
			method = "HEAD"
		}
		ours := readByClient(t, method, said, sim.Config{Seed: seed, Window: 1 << 20})
		cut := readByClient(t, method, said, sim.Config{Seed: seed, Window: 1 << 20, MaxRecv: 1 + int(seed%50), RandomCuts: true, Again: 0.1, Spurious: 0.1})
		require.Equal(t, ours.text, cut.text)
		if ours.err != nil {
			require.True(t, errors.Is(ours.err, ErrResponse) || errors.Is(ours.err, io.ErrUnexpectedEOF), "%v", ours.err)
			return
		}
		theirs, err := readByNetHTTP(method, said)
		if err != nil {
			for _, known := range refusedByNetHTTP {
				if strings.Contains(err.Error(), known) {
					return
				}
			}
			t.Fatalf("net/http refuses it: %v\n%q", err, said)
		}
		require.Equal(t, theirs.status, ours.status)
		require.Equal(t, theirs.interim, ours.interim)
		require.Equal(t, theirs.body, ours.body)
	})
}

// FuzzClientRequest: whatever a request is made of, it is refused or one request to whoever reads it, with the body that it
// was given.
func FuzzClientRequest(f *testing.F) {
	f.Add("GET", "http://server/a?b", "", "X", "y", "", false)
	f.Add("POST", "http://tim:pw@server/%2e%2e?q=\u00fc #f", "host", "Cookie", "a=b", "body", true)
	f.Add("PUT", "http://server//x", "", "Connection", "close", "body", false)
	f.Add("OPTIONS", "http://server/*", "a\r\nb", "X\r\nY", "a\r\nb: c", "GET / HTTP/1.1\r\n\r\n", true)
	f.Fuzz(func(t *testing.T, method, target, host, name, value, body string, chunked bool) {
		s := newClientScene(t, sim.Config{Window: 1 << 20}, nil)
		defer s.loop.Close()
		u, err := http.NewRequest("GET", target, nil)
		if err != nil || u.URL.Host != "server" {
			return
		}
		out := &Outgoing{Method: method, URL: u.URL, Host: host, Header: http.Header{name: {value}}}
		if body != "" {
			out.Body = strings.NewReader(body)
		}
		if chunked {
			out.Length = -1
		}
		o := &outcome{t: t}
		if o.call, err = s.cl.Do(out, o); err != nil {
			return
		}
		srv := s.ln.Accept()
		wire := srv.Read()
		in := bufio.NewReader(strings.NewReader(wire))
		r, err := http.ReadRequest(in)
		require.NoError(t, err, "%q", wire)
		if method == "" {
			method = "GET"
		}
		require.Equal(t, method, r.Method)
		if host == "" {
			host = "server"
		}
		require.Equal(t, host, r.Host)
		got, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Equal(t, body, string(got))
		require.Zero(t, in.Buffered(), "%q", wire)
		require.LessOrEqual(t, len(r.Header), 6)
	})
}

package http1

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// onceReader is a body that can be read once.
func onceReader(s string) io.Reader { return &once{s} }

type once struct{ rest string }

func (o *once) Read(p []byte) (int, error) {
	if o.rest == "" {
		return 0, io.EOF
	}
	n := copy(p, o.rest)
	o.rest = o.rest[n:]
	return n, nil
}

func file(t testing.TB, text string) *os.File {
	name := filepath.Join(t.TempDir(), "body")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	f, err := os.Open(name)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

const postHead = "POST / HTTP/1.1\r\nHost: server\r\nUser-Agent: test\r\n"

// Bodies of requests, as they go out.
func TestClientRequestBodies(t *testing.T) {
	const text = "0123456789"
	at := func(r io.ReadSeeker, n int64) io.Reader {
		_, err := r.Seek(n, io.SeekStart)
		require.NoError(t, err)
		return r
	}
	for _, x := range []struct {
		name string
		out  Outgoing
		want string
	}{
		{"bytes.Reader", Outgoing{Body: bytes.NewReader([]byte(text))}, "Content-Length: 10\r\n\r\n" + text},
		{"strings.Reader, from 3", Outgoing{Body: at(strings.NewReader(text), 3)}, "Content-Length: 7\r\n\r\n3456789"},
		{"bytes.Buffer", Outgoing{Body: bytes.NewBufferString(text)}, "Content-Length: 10\r\n\r\n" + text},
		{"file", Outgoing{Body: file(t, text)}, "Content-Length: 10\r\n\r\n" + text},
		{"file, from 4", Outgoing{Body: at(file(t, text), 4)}, "Content-Length: 6\r\n\r\n456789"},
		{"empty", Outgoing{Body: strings.NewReader("")}, "Content-Length: 0\r\n\r\n"},
		{"none", Outgoing{}, "Content-Length: 0\r\n\r\n"},
		{"reader", Outgoing{Body: onceReader(text)}, "Transfer-Encoding: chunked\r\n\r\na\r\n" + text + "\r\n0\r\n\r\n"},
		{"reader, empty", Outgoing{Body: onceReader("")}, "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"reader, direct", Outgoing{Body: onceReader(text), Direct: true}, "Transfer-Encoding: chunked\r\n\r\na\r\n" + text + "\r\n0\r\n\r\n"},
		{"reader, data with EOF", Outgoing{Body: iotest.DataErrReader(onceReader(text))}, "Transfer-Encoding: chunked\r\n\r\na\r\n" + text + "\r\n0\r\n\r\n"},
		{"reader, one byte", Outgoing{Body: iotest.OneByteReader(onceReader("abc"))}, "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"},
		{"reader, length", Outgoing{Body: onceReader(text), Length: 10}, "Content-Length: 10\r\n\r\n" + text},
		{"reader, shorter length", Outgoing{Body: onceReader(text), Length: 4}, "Content-Length: 4\r\n\r\n0123"},
		{"chunked all the same", Outgoing{Body: strings.NewReader(text), Length: -1}, "Transfer-Encoding: chunked\r\n\r\na\r\n" + text + "\r\n0\r\n\r\n"},
		{"trailers", Outgoing{Body: strings.NewReader(text), Trailer: http.Header{"X": {"1", "2"}, "A": nil}}, "Transfer-Encoding: chunked\r\nTrailer: A, X\r\n\r\na\r\n" + text + "\r\n0\r\nX: 1\r\nX: 2\r\n\r\n"},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newClientScene(t, sim.Config{Work: time.Millisecond}, nil)
			x.out.Method = "POST"
			o := s.do(x.out, "/")
			srv := s.ln.Accept()
			srv.Want(postHead + x.want)
			srv.Say(okay)
			s.Settle()
			wantOkay(t, o)
			require.Equal(t, 1, s.cl.Stats().Idle)
			require.Equal(t, uint64(o.call.Sent()), s.cl.Stats().Sent)
		})
	}
}

// A large body goes out as the server takes it, and little of it is held.
func TestClientLargeBody(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		s := newClientScene(t, sim.Config{Window: 1000}, nil)
		text := strings.Repeat("0123456789abcdef", 1<<16)
		body := &counted{Reader: strings.NewReader(text)}
		out := Outgoing{Method: "POST", Body: body, Direct: true}
		if !chunked {
			out.Length = int64(len(text))
		}
		o := s.do(out, "/")
		srv := s.ln.Accept()
		srv.Stall(true)
		s.Settle()
		require.LessOrEqual(t, body.n, 100<<10)
		srv.Take(200)
		srv.Stall(false)
		s.Settle()
		got := srv.Read()
		require.Equal(t, int64(len(text)), o.call.Sent())
		if !chunked {
			require.True(t, strings.HasSuffix(got, text))
		}
		srv.Say(okay)
		s.Settle()
		wantOkay(t, o)
	}
}

type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// What is wrong with a body ends the call; the server never takes a part for the whole.
func TestClientBadBodies(t *testing.T) {
	errDisk := errors.New("disk failure")
	shrunk := file(t, "0123456789")
	for _, x := range []struct {
		name string
		out  Outgoing
		want error
	}{
		{"error", Outgoing{Body: io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(errDisk))}, errDisk},
		{"error at once", Outgoing{Body: iotest.ErrReader(errDisk)}, errDisk},
		{"error on the loop", Outgoing{Body: iotest.ErrReader(errDisk), Direct: true}, errDisk},
		{"error, length", Outgoing{Body: iotest.ErrReader(errDisk), Length: 5}, errDisk},
		{"too short", Outgoing{Body: onceReader("abc"), Length: 4}, io.ErrUnexpectedEOF},
		{"too short, in memory", Outgoing{Body: strings.NewReader("abc"), Length: 4}, io.ErrUnexpectedEOF},
		{"no progress", Outgoing{Body: stuckReader{}}, io.ErrNoProgress},
		{"panic", Outgoing{Body: panicReader{}}, nil},
		{"panic on the loop", Outgoing{Body: panicReader{}, Direct: true}, nil},
		{"trailer", Outgoing{Body: strings.NewReader("abc"), Trailer: http.Header{"X": {"a\r\nb"}}}, ErrHeader},
		{"shrunk", Outgoing{Body: shrunk}, io.ErrUnexpectedEOF},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newClientScene(t, sim.Config{Work: time.Millisecond}, nil)
			x.out.Method = "POST"
			o := s.do(x.out, "/")
			if x.name == "shrunk" {
				require.NoError(t, os.Truncate(shrunk.Name(), 5))
			}
			srv := s.ln.Accept()
			require.True(t, s.Until(func() bool { return o.done > 0 }))
			s.Settle()
			require.Error(t, o.err)
			if x.want != nil {
				require.ErrorIs(t, o.err, x.want)
			} else {
				var p *core.PanicError
				require.ErrorAs(t, o.err, &p)
			}
			require.True(t, srv.Ended())
			require.NotContains(t, srv.Read(), "\r\n0\r\n")
		})
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("on purpose") }

// valve is a body that comes when the test lets it.
type valve struct {
	text string
	err  error
}

func (v *valve) Read(p []byte) (int, error) {
	n := copy(p, v.text)
	if v.text = v.text[n:]; n > 0 {
		return n, nil
	}
	if v.err != nil {
		return 0, v.err
	}
	return 0, core.ErrWouldBlock
}

// A body that comes bit by bit, while the response does, too.
func TestClientDuplex(t *testing.T) {
	s := newClientScene(t, sim.Config{}, nil)
	v := new(valve)
	o := s.do(Outgoing{Method: "POST", Body: v, Direct: true}, "/")
	srv := s.ln.Accept()
	srv.Want(postHead + "Transfer-Encoding: chunked\r\n\r\n")
	srv.Say(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n"))
	for _, piece := range []string{"one", "two", "three"} {
		v.text = piece
		o.call.ResumeBody()
		s.Settle()
		got := srv.WantLine()
		got += srv.WantLine()
		srv.Say(got)
		s.Settle()
		require.True(t, strings.HasSuffix(o.body.String(), piece))
	}
	require.Zero(t, o.done)
	v.err = io.EOF
	o.call.ResumeBody()
	srv.Want("0\r\n\r\n")
	srv.Say("0\r\n\r\n")
	s.Settle()
	require.NoError(t, o.err)
	require.Equal(t, "onetwothree", o.body.String())
	require.Equal(t, 1, s.cl.Stats().Idle)
}

// A server may answer before it has the whole request: the response counts, and the connection is not used again.
func TestClientEarlyResponse(t *testing.T) {
	for _, chunked := range []int64{-1, 1 << 30} {
		s := newClientScene(t, sim.Config{}, nil)
		o := s.do(Outgoing{Method: "POST", Body: new(valve), Direct: true, Length: chunked}, "/")
		srv := s.ln.Accept()
		s.Settle()
		srv.Say("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
		s.Settle()
		require.Equal(t, `interim []; 413; length 2; "no"; trailers map[]`, o.text())
		require.True(t, srv.Ended())
		require.Zero(t, s.cl.Stats().Open)
	}
}

// RFC 9110 section 10.1.1
func TestClientExpect(t *testing.T) {
	const head = "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"
	begin := func(cl *Client) (*clientScene, *outcome, *sim.Peer) {
		s := newClientScene(t, sim.Config{}, cl)
		o := s.do(Outgoing{Method: "POST", Body: strings.NewReader("body"), Expect: true}, "/")
		srv := s.ln.Accept()
		srv.Want(postHead + head)
		s.Settle()
		srv.WantNothing()
		return s, o, srv
	}
	t.Run("continue", func(t *testing.T) {
		s, o, srv := begin(nil)
		srv.Say("HTTP/1.1 103 Early Hints\r\n\r\n")
		s.Settle()
		srv.WantNothing()
		srv.Say("HTTP/1.1 100 Continue\r\n\r\n")
		srv.Want("body")
		srv.Say(okay)
		s.Settle()
		require.Equal(t, []int{103, 100}, o.interim)
		require.NoError(t, o.err)
		require.Equal(t, 1, s.cl.Stats().Idle)
	})
	t.Run("silence", func(t *testing.T) {
		s, o, srv := begin(&Client{Timeouts: ClientTimeouts{Continue: time.Minute}})
		s.Advance(time.Minute - time.Millisecond)
		srv.WantNothing()
		s.Advance(time.Millisecond)
		srv.Want("body")
		srv.Say("HTTP/1.1 100 Continue\r\n\r\n" + okay)
		s.Settle()
		require.NoError(t, o.err)
	})
	t.Run("refused", func(t *testing.T) {
		s, o, srv := begin(nil)
		srv.Say("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		s.Settle()
		require.NoError(t, o.err)
		require.Equal(t, 403, o.status)
		require.True(t, srv.Ended()) // it may wait for the body all the same
	})
	t.Run("417", func(t *testing.T) {
		s, o, srv := begin(nil)
		srv.Say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
		s.Settle()
		require.True(t, srv.Ended())
		srv = s.ln.Accept()
		srv.Want(postHead + "Content-Length: 4\r\n\r\nbody")
		srv.Say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
		s.Settle()
		require.NoError(t, o.err)
		require.Equal(t, 417, o.status)
	})
	t.Run("no body", func(t *testing.T) {
		s := newClientScene(t, sim.Config{}, nil)
		s.do(Outgoing{Expect: true}, "/")
		s.ln.Accept().Want(getRequest("/"))
	})
}

// Back-pressure: what is paused is not read, and not timed, and nothing gets lost.
func TestClientPause(t *testing.T) {
	text := strings.Repeat("0123456789", 100_000)
	for name, head := range map[string]string{"length": "Content-Length: 1000000\r\n\r\n", "close": "\r\n"} {
		t.Run(name, func(t *testing.T) {
			s := newClientScene(t, sim.Config{Window: 10_000}, nil)
			o := s.get("/")
			o.call.Pause()
			srv := s.ln.Accept()
			srv.Say("HTTP/1.1 200 OK\r\n" + head + text)
			s.Settle()
			require.Equal(t, 1, o.responses)
			require.Zero(t, o.body.Len())
			o.onBody = func([]byte) error { o.call.Pause(); return nil }
			last := 0
			for o.body.Len() < len(text) {
				s.Advance(10 * time.Minute) // Timeouts.Read does not count
				require.Zero(t, o.done)
				require.Equal(t, last, o.body.Len())
				o.call.Resume()
				s.Settle()
				require.Greater(t, o.body.Len(), last)
				last = o.body.Len()
			}
			o.call.Resume()
			srv.CloseWrite()
			s.Settle()
			require.Equal(t, 1, o.done)
			require.NoError(t, o.err)
			require.True(t, o.body.String() == text)
		})
	}
}

// Chunks that wait while a call is paused are not lost, and neither is the connection.
func TestClientPauseChunks(t *testing.T) {
	s := newClientScene(t, sim.Config{}, nil)
	o := s.get("/")
	o.onBody = func([]byte) error { o.call.Pause(); return nil }
	srv := s.ln.Accept()
	srv.Say(crlf("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\na\n1\nb\n1\nc\n0\n\n"))
	for i := range 3 {
		s.Settle()
		require.Equal(t, "abc"[:i+1], o.body.String())
		require.Zero(t, o.done)
		o.call.Resume()
	}
	s.Settle()
	require.NoError(t, o.err)
	require.Equal(t, 1, s.cl.Stats().Idle)
	o = s.get("/again")
	srv.Want(getRequest("/") + getRequest("/again"))
	srv.Say(okay)
	s.Settle()
	wantOkay(t, o)
}

// Each time-out, at its time.
func TestClientTimeouts(t *testing.T) {
	type timeouts = ClientTimeouts
	for _, x := range []struct {
		name string
		t    timeouts
		out  Outgoing
		said string
		want time.Duration
		text string
	}{
		{"Head", timeouts{}, Outgoing{}, "", time.Minute, "the response: "},
		{"Head, slowly", timeouts{Head: 5 * time.Second}, Outgoing{}, "HTTP/1.1 102 x\r\n\r\nHTTP/1.1 ", 5 * time.Second, "the response: "},
		{"Read", timeouts{}, Outgoing{}, "HTTP/1.1 200 OK\r\n\r\nx", time.Minute, "body: "},
		{"Read, length", timeouts{Read: time.Second}, Outgoing{}, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx", time.Second, "body: "},
		{"Read, chunks", timeouts{Read: time.Second}, Outgoing{}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n", time.Second, "body: "},
		{"Write", timeouts{}, Outgoing{Method: "PUT", Body: strings.NewReader(strings.Repeat("x", 1<<20))}, "", 30 * time.Second, "takes nothing"},
		{"Total", timeouts{Total: time.Second}, Outgoing{}, "HTTP/1.1 200 OK\r\n\r\nx", time.Second, "the whole call"},
		{"Total, none", timeouts{Head: -1}, Outgoing{}, "", 0, ""},
		{"Head counts from the end of the request", timeouts{}, Outgoing{Method: "PUT", Body: new(valve), Direct: true}, "", 0, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newClientScene(t, sim.Config{}, &Client{Timeouts: x.t})
			o := s.do(x.out, "/")
			srv := s.ln.Accept()
			srv.Stall(x.name == "Write")
			srv.Say(x.said)
			s.Settle()
			if x.want == 0 {
				s.Advance(50 * time.Minute)
				require.Zero(t, o.done)
				return
			}
			s.Advance(x.want - time.Millisecond)
			require.Zero(t, o.done)
			s.Advance(time.Millisecond)
			require.Equal(t, 1, o.done)
			require.ErrorIs(t, o.err, core.ErrTimeout)
			require.ErrorContains(t, o.err, x.text)
			require.Zero(t, s.cl.Stats().Open)
		})
	}
	t.Run("connecting", func(t *testing.T) {
		s := newClientScene(t, sim.Config{}, &Client{Dialer: core.Dialer{Timeout: time.Second}})
		s.Host("hole", "192.0.2.9")
		s.BlackHole("192.0.2.9")
		o := s.get("http://hole/")
		s.Advance(time.Second)
		require.ErrorIs(t, o.err, core.ErrTimeout)
	})
	t.Run("waiting", func(t *testing.T) {
		s := newClientScene(t, sim.Config{}, &Client{Timeouts: timeouts{Total: time.Second}, Limits: ClientLimits{ConnsPerHost: 1}})
		a, b := s.get("/"), s.get("/")
		s.Advance(time.Second)
		require.ErrorIs(t, a.err, core.ErrTimeout)
		require.ErrorIs(t, b.err, core.ErrTimeout)
		require.Zero(t, s.cl.Stats().Waiting)
	})
	t.Run("trickle", func(t *testing.T) {
		s := newClientScene(t, sim.Config{}, &Client{Timeouts: timeouts{Read: time.Second}})
		o := s.get("/")
		srv := s.ln.Accept()
		srv.Say("HTTP/1.0 200 OK\r\n\r\n")
		for range 10 {
			s.Advance(900 * time.Millisecond)
			srv.Say("x")
		}
		s.Settle()
		srv.CloseWrite()
		s.Settle()
		require.NoError(t, o.err)
	})
}

// A name that has several addresses: they are tried in turn. One that has none is an error.
func TestClientAddresses(t *testing.T) {
	s := newClientScene(t, sim.Config{}, nil)
	s.Host("many", "192.0.2.77", "192.0.2.1")
	o := s.get("http://many/")
	srv := s.ln.Accept()
	srv.Want(strings.Replace(getRequest("/"), "server", "many", 1))
	srv.Say(okay)
	s.Settle()
	wantOkay(t, o)
	o = s.get("http://nobody/")
	s.Settle()
	require.Error(t, o.err)
	o = s.get("http://server:81/")
	s.Settle()
	require.ErrorContains(t, o.err, "refused")
	require.Equal(t, 1, s.cl.Stats().Open)
}

// A context ends a call with its cause.
func TestClientContext(t *testing.T) {
	s := newClientScene(t, sim.Config{}, nil)
	ctx, cancel := context.WithCancelCause(context.Background())
	o := s.do(Outgoing{Context: ctx}, "/")
	srv := s.ln.Accept()
	srv.Want(getRequest("/"))
	why := errors.New("why")
	cancel(why)
	for o.done == 0 { // it is told by another goroutine
		runtime.Gosched()
		_, err := s.loop.Step(0)
		require.NoError(t, err)
	}
	require.Equal(t, why, o.err)
	s.Settle()
	require.True(t, srv.Ended())
}

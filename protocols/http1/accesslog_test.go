package http1_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// logged makes some requests: whole, refused, malformed, cut off, and one that wants to forge a line.
func logged(t *testing.T, log func(*http1.Entry), srv *http1.Server) {
	t.Helper()
	srv.Log = log
	srv.Handler = http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		switch string(r.Path()) {
		case "/none":
			return &http1.Error{Status: http.StatusNotFound}
		case "/late":
			w.Defer()
			return nil
		}
		_, err := w.WriteString("hello\n")
		return err
	})
	s := newScene(t, srv, sim.Config{})
	s.p.Say("GET /a?b=c HTTP/1.1\r\nHost: a\r\nReferer: https://example.org/\r\nUser-Agent: a \"b\\ \x80\r\n\r\n" +
		"HEAD /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" +
		"FROB /\" HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /a b HTTP/1.1\r\nHost: a\r\n\r\n")
	s.p.Read()
	p := s.client()
	p.Say("GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
	p.Read()
	p.Reset()
	s.Advance(5 * time.Second)
}

func TestCombinedLog(t *testing.T) {
	var out bytes.Buffer
	logged(t, http1.CombinedLog(&out), new(http1.Server))
	var got []string
	for line := range strings.Lines(out.String()) {
		client, rest, ok := strings.Cut(line, " - - [01/Jan/2000:00:00:00 +0000] ")
		require.True(t, ok, line)
		require.Regexp(t, `^[0-9a-z.:]+$`, client)
		got = append(got, strings.TrimSuffix(rest, "\n"))
	}
	require.Equal(t, []string{
		`"GET /a?b=c HTTP/1.1" 200 6 "https://example.org/" "a \x22b\x5C \x80"`,
		`"HEAD /a HTTP/1.1" 200 0 "-" "-"`,
		`"POST /none HTTP/1.1" 404 10 "-" "-"`,
		`"FROB /\x22 HTTP/1.0" 200 6 "-" "-"`,
	}, got[:4])
	require.Contains(t, got[4], ` 400 `)
	require.Equal(t, `"GET /late HTTP/1.1" - 0 "-" "-"`, got[5])
	require.Len(t, got, 6)
}

func TestSlogLog(t *testing.T) {
	var out bytes.Buffer
	l := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "client" {
			return slog.Attr{}
		}
		return a
	}}))
	logged(t, http1.SlogLog(l), new(http1.Server))
	lines := strings.Split(out.String(), "\n")
	require.Equal(t, `level=INFO msg=request method=GET target="/a?b=c" proto=HTTP/1.1 status=200 octets=6 duration=0s `+
		`referer=https://example.org/ agent="a \"b\\ \x80"`, lines[0])
	require.Contains(t, lines[2], "status=404")
	require.Contains(t, lines[5], "status=0")
	require.Contains(t, lines[5], "error=")
	out.Reset()
	logged(t, http1.SlogLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))), new(http1.Server))
	require.Empty(t, out.String())
}

func TestMetrics(t *testing.T) {
	m := new(http1.Metrics)
	m.Server = new(http1.Server)
	count := 0
	logged(t, http1.Logs(nil, m.Log, func(*http1.Entry) { count++ }), m.Server)
	require.Equal(t, 6, count)
	a := ask(t, m, "/metrics", "HEAD /metrics", "POST /metrics\nContent-Length: 0")
	require.Equal(t, "text/plain; version=0.0.4; charset=utf-8", a[0].Header.Get("Content-Type"))
	got := text(t, a[0])
	for _, want := range []string{
		`parley_http_requests_total{method="GET",code="2xx"} 1`,
		`parley_http_requests_total{method="GET",code="0xx"} 1`,
		`parley_http_requests_total{method="HEAD",code="2xx"} 1`,
		`parley_http_requests_total{method="POST",code="4xx"} 1`,
		`parley_http_requests_total{method="other",code="2xx"} 1`,
		`parley_http_request_duration_seconds_bucket{le="0.0001"} 6`,
		`parley_http_request_duration_seconds_bucket{le="+Inf"} 6`,
		`parley_http_request_duration_seconds_sum 0`,
		`parley_http_request_duration_seconds_count 6`,
		`parley_http_connections_total 2`,
		`parley_http_connections_open 0`,
		`parley_http_refused_total 1`,
		`# TYPE parley_http_connections_open gauge`,
		`# TYPE parley_http_request_duration_seconds histogram`,
	} {
		require.Contains(t, got, want+"\n")
	}
	for line := range strings.Lines(got) {
		require.Regexp(t, `^(# (HELP|TYPE) parley_http_\w+ .+|parley_http_\w+(\{\w+="[^"]+"(,\w+="[^"]+")*\})? [0-9.e+-]+)\n$`, line)
	}
	require.EqualValues(t, len(got), a[1].ContentLength)
	require.Equal(t, 405, a[2].StatusCode)
	require.NotContains(t, text(t, ask(t, new(http1.Metrics), "/")[0]), "connections")
}

func TestLogs(t *testing.T) {
	require.Nil(t, http1.Logs())
	require.Nil(t, http1.Logs(nil, nil))
}

// What is counted costs no memory, and what is logged that of the address, which the simulated network makes anew each time.
func TestLogAllocs(t *testing.T) {
	m := new(http1.Metrics)
	e := new(http1.Entry)
	srv := handle(func(w *http1.ResponseWriter, _ *http1.Request) error { return nil })
	combined := http1.CombinedLog(io.Discard)
	logs, counts := -1.0, -1.0
	srv.Log = func(e2 *http1.Entry) {
		*e = *e2
		logs = testing.AllocsPerRun(100, func() { combined(e) })
		counts = testing.AllocsPerRun(100, func() { m.Log(e) })
	}
	s := newScene(t, srv, sim.Config{})
	s.p.Say(fmt.Sprintf("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: %s\r\n\r\n", alphabet))
	s.p.Read()
	require.Zero(t, counts)
	require.GreaterOrEqual(t, logs, 0.0)
	require.LessOrEqual(t, logs, 2.0)
}

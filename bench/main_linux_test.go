package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/bench/internal/load"
	"github.com/parley-go/parley/core/tlslayer"
)

// mistake names the mistake that the test binary makes when it is started as a server.
const mistake = "PARLEY_BENCH_MISTAKE"

func TestMain(m *testing.M) {
	if what := os.Getenv(mistake); what != "" && len(os.Args) == 3 && os.Args[1] == "-listen" {
		fmt.Fprintln(os.Stderr, mistaken(what))
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// mistaken is a server that does something wrong.
func mistaken(what string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if what, ok := strings.CutSuffix(what, " on the web"); ok {
		fmt.Fprintln(os.Stderr, "listening on", ln.Addr())
		return mistakenWeb(what, ln)
	}
	if what == "does not start" {
		return fmt.Errorf("no")
	}
	fmt.Fprintln(os.Stderr, "listening on", ln.Addr())
	if strings.HasSuffix(what, "mail") {
		return mistakenMail(what, ln)
	}
	if what, ok := strings.CutSuffix(what, " in a room"); ok {
		return mistakenRoom(what, ln)
	}
	if inner, ok := strings.CutSuffix(what, " over TLS"); ok {
		cert, err := tlslayer.SelfSigned("localhost")
		if err != nil {
			return err
		}
		what, ln = inner, tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}})
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		if what == "dies" {
			return fmt.Errorf("so long")
		}
		go func() {
			buf := make([]byte, 32)
			for n := 0; ; n++ {
				if _, err := io.ReadFull(conn, buf); err != nil {
					_ = conn.Close()
					return
				}
				if what == "flips a bit" && n == 100 {
					buf[0] ^= 1
				}
				if _, err := conn.Write(buf); err != nil {
					return
				}
			}
		}()
	}
}

// mistakenRoom is a room in which something is wrong with what the second member hears of the tenth line.
func mistakenRoom(what string, ln net.Listener) error {
	var (
		mu      sync.Mutex
		members []net.Conn
		said    int
	)
	tell := func(line []byte) {
		mu.Lock()
		defer mu.Unlock()
		said++
		for i, m := range members {
			if said == 10 && i == 1 {
				switch what {
				case "flips a bit":
					line[0] ^= 1
					_, _ = m.Write(line)
					line[0] ^= 1
				case "tells two lines at once":
					_, _ = m.Write(append(line[:len(line):len(line)], line...))
				}
				continue
			}
			_, _ = m.Write(line)
		}
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		mu.Lock()
		members = append(members, conn)
		mu.Unlock()
		go func() {
			defer conn.Close()
			for r := bufio.NewReader(conn); ; {
				line, err := r.ReadBytes('\n')
				if err != nil {
					return
				}
				tell(line)
			}
		}()
	}
}

// mistakenWeb is an HTTP server that does something wrong.
func mistakenWeb(what string, ln net.Listener) error {
	var requests atomic.Int64
	return http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		n := requests.Add(1)
		switch {
		case what == "knows nothing":
			w.WriteHeader(http.StatusNotFound)
		case what == "counts" && n == 100:
			w.Header().Set("X-Count", "100")
		}
		_, _ = io.WriteString(w, load.Body)
	}))
}

// mistakenMail is a mail server that does something wrong, with the fourth message of each connection or with all.
func mistakenMail(what string, ln net.Listener) error {
	var messages, octets atomic.Int64
	go func() {
		end := make(chan os.Signal, 1)
		signal.Notify(end, syscall.SIGTERM)
		<-end
		fmt.Fprintf(os.Stderr, "took %d messages, %d octets\n", messages.Load(), octets.Load())
		os.Exit(0)
	}()
	serve := func(conn *textproto.Conn) {
		defer conn.Close()
		_ = conn.PrintfLine("220 hello")
		for n := 1; ; {
			line, err := conn.ReadLine()
			if err != nil {
				return
			}
			answer := "250 fine"
			switch {
			case line == "DATA" && what == "refuses mail" && n == 4:
				answer = "554 no"
			case line == "DATA":
				_ = conn.PrintfLine("354 go on")
				text, err := conn.ReadDotBytes() // with "\n" for "\r\n"
				if err != nil {
					return
				}
				if what == "loses octets of mail" {
					text = text[:len(text)/2]
				}
				if what != "forgets mail" || n != 4 {
					messages.Add(1)
					octets.Add(int64(len(text) + bytes.Count(text, []byte("\n"))))
				}
				n++
			case line == "QUIT":
				_ = conn.PrintfLine("221 bye")
				return
			}
			_ = conn.PrintfLine("%s", answer)
		}
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go serve(textproto.NewConn(conn))
	}
}

func parsed(t *testing.T, args ...string) *options {
	o, err := parse(args)
	require.NoError(t, err)
	return o
}

func TestParse(t *testing.T) {
	o := parsed(t)
	require.Equal(t, scenarios, o.scenarios)
	require.Equal(t, servers, o.servers)
	require.Equal(t, 3, o.rounds)
	require.Equal(t, 2.0, o.seconds)

	o = parsed(t, "-scenarios", "b,a", "-servers", "c,parley", "-rounds", "7", "-seconds", "0.5", "-also", "old=/bin/old")
	require.Equal(t, "a,b", join(o.scenarios, scenarioName))
	require.Equal(t, "parley,c,old", join(o.servers, serverName))
	require.Equal(t, "/bin/old", o.servers[2].binary)
	require.Equal(t, 7, o.rounds)
	require.Equal(t, 0.5, o.seconds)

	o = parsed(t, "-servers", "parleytls,parleysmtp", "-also", "smtp:old=/bin/old")
	require.Equal(t, "tls,tls12,tlsidle,tls12idle,smtp,smtpd,smtpmem", join(o.scenarios, scenarioName))
	require.Equal(t, "parleytls,parleysmtp,old", join(o.servers, serverName))
	require.Equal(t, mail, o.servers[2].kind)
	o = parsed(t, "-scenarios", "tls,smtp")
	require.Equal(t, "parleytls,goroutinetls,parleysmtp,gosmtp,smtp-sink", join(o.servers, serverName))
	_, err := parse([]string{"-scenarios", "a,smtp", "-servers", "parley"})
	require.EqualError(t, err, `-scenarios "a,smtp": no server is left for smtp`)

	o = parsed(t, "-short")
	require.Equal(t, 1, o.rounds)
	require.Less(t, o.seconds, 1.0)
	for _, s := range o.scenarios {
		require.LessOrEqual(t, s.conns+s.idle, 500)
		require.Positive(t, s.conns+s.idle)
	}
	require.Equal(t, 50, scenarios[0].conns, "the table itself stays")
	o = parsed(t, "-short", "-rounds", "2", "-seconds", "1")
	require.Equal(t, 2, o.rounds)
	require.Equal(t, 1.0, o.seconds)

	_, err = parse([]string{"-help"})
	require.ErrorIs(t, err, flag.ErrHelp)
	for _, bad := range []string{
		"-rounds=0", "-seconds=0", "-seconds=NaN", "-seconds=601", "-scenarios=x", "-scenarios=a,,b", "-servers=x", "-also=x",
		"-also=x=", "-also==x", "-also=c=/bin/x", "-also=ftp:x=/bin/x", "-also=tls:=/bin/x", "-x", "x",
	} {
		_, err := parse([]string{bad})
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "\n", bad)
	}
}

func TestTables(t *testing.T) {
	for _, ref := range references {
		_, err := choose("", ref, servers, serverName)
		require.NoError(t, err)
	}
	for _, s := range scenarios {
		require.Equal(t, s.kind != web, s.length > 0, s.name)
		require.True(t, slices.ContainsFunc(servers, func(p server) bool { return p.kind == s.kind }), s.name)
		require.Equal(t, s.kind == secured, s.tls != "", s.name)
		require.Equal(t, s.kind == secured && s.memory, s.settle, s.name)
		if s.kind != mail {
			require.Equal(t, s.memory || s.flood, s.conns == 0, s.name)
		}
		for _, s := range []scenario{s, s.short()} {
			require.Equal(t, s.kind == mail && s.memory, s.messages > 0 && s.large > 0, s.name)
		}
	}
	for _, s := range servers {
		require.Contains(t, kinds, s.kind, s.name)
	}
}

func TestFit(t *testing.T) {
	idle := scenario{idle: 15_000, memory: true}
	require.Equal(t, idle, idle.fit(1<<20))
	require.Equal(t, idle, idle.fit(20_000))
	require.Equal(t, 864, idle.fit(1024).idle)
	require.Equal(t, 814, scenario{conns: 50, idle: 10_000}.fit(1024).idle)
	require.Zero(t, scenario{conns: 50}.fit(16).idle)
	crowd := scenario{kind: telling, conns: 10_000}
	require.Equal(t, crowd, crowd.fit(20_000))
	require.Equal(t, 864, crowd.fit(1024).conns)
	require.Equal(t, 1, crowd.fit(16).conns)
}

func TestDigits(t *testing.T) {
	for x, want := range map[float64]string{
		0.06912: "0.06912", 0.1234567: "0.1235", 3.7219: "3.722", 45.678: "45.68", 123.45: "123.5", 12345: "12345", 1: "1.000", 0: "0",
	} {
		require.Equal(t, want, digits(x))
	}
}

func TestLoadTable(t *testing.T) {
	var r report
	for round, us := range [][2]float64{{4, 5}, {8, 12}, {4, 4}} {
		for i, server := range []string{"c", "parley"} {
			r.add(sample{Scenario: "a", Server: server, Round: round, Result: &load.Result{
				Lines: 1000, Elapsed: time.Second, CPU: time.Duration(us[i] * 1e6), User: 10, System: 30,
			}})
		}
	}
	var out strings.Builder
	r.table(&out, scenario{name: "a", conns: 50, depth: 1, length: 32})
	require.Equal(t, `
a: 50 connections, depth 1, lines of 32 bytes
  server  µs/line    min    max   / c  lines/s  busy  user
       c    4.000  4.000  8.000  1.00     1000    0%   25%
  parley    5.000  4.000  12.00  1.25     1000    0%   25%
`, out.String())

	r = report{}
	for i, server := range []string{"nginx", "parleyhttp"} {
		r.add(sample{Scenario: "httppipe", Server: server, Result: &load.Result{
			Lines: 1000, Elapsed: time.Second, CPU: time.Duration(4-i) * time.Millisecond, User: 10, System: 30,
		}})
	}
	out.Reset()
	r.table(&out, scenario{name: "httppipe", kind: web, conns: 50, depth: 16})
	require.Equal(t, `
httppipe: 50 connections, depth 16, requests
      server  µs/request    min    max  / nginx  requests/s  busy  user
       nginx       4.000  4.000  4.000     1.00        1000    0%   25%
  parleyhttp       3.000  3.000  3.000     0.75        1000    0%   25%
`, out.String())
}

func TestBroadcastTable(t *testing.T) {
	var r report
	for i, server := range []string{"parleyroom", "gosend", "csend"} {
		for _, us := range []int{8, 4, 2} { // the machine was slower at first, for all
			r.add(sample{Scenario: "broadcast", Server: server, Result: &load.Result{
				Lines: 1000, Elapsed: time.Second, CPU: time.Duration(us*(5-i)) * time.Millisecond, User: 10, System: 30,
			}})
		}
	}
	var out strings.Builder
	r.table(&out, scenario{name: "broadcast", kind: telling, conns: 10_000, depth: 1, length: 64})
	require.Equal(t, `
broadcast: 10000 members of a room, a message of 64 bytes to all of them
      server  µs/delivery    min    max  / gosend  / csend  deliveries/s  busy  user
  parleyroom        20.00  10.00  40.00      1.25     1.67          1000    2%   25%
      gosend        16.00  8.000  32.00      1.00     1.33          1000    2%   25%
       csend        12.00  6.000  24.00      0.75     1.00          1000    1%   25%
`, out.String())
}

func TestAcceptTables(t *testing.T) {
	var r report
	for round, us := range [][2]int{{4, 5}, {8, 12}, {4, 4}} {
		for i, server := range []string{"c", "parley"} {
			cpu := time.Duration(us[i]) * time.Millisecond
			r.add(sample{Scenario: "accept", Server: server, Round: round, Result: &load.Result{
				Lines: 1000, Elapsed: time.Second, CPU: cpu, User: 10, System: 30,
			}})
			r.add(sample{Scenario: "flood", Server: server, Round: round, Flood: &load.Flood{
				Conns: 1000, Up: cpu * 10, Resent: i * round, CPU: cpu,
			}})
		}
	}
	var out strings.Builder
	r.table(&out, scenario{name: "accept", kind: plain, conns: 50, length: 32, calls: true})
	r.table(&out, scenario{name: "flood", kind: plain, idle: 1000, length: 32, flood: true})
	require.Equal(t, `
accept: 50 connections, each for one line of 32 bytes
  server  µs/connection    min    max   / c  connections/s  busy  user
       c          4.000  4.000  8.000  1.00           1000    0%   25%
  parley          5.000  4.000  12.00  1.25           1000    0%   25%

flood: 1000 connections at once, a line of 32 bytes on each
  server  resent  min  max  up in ms  min  max  µs/connection   / c
       c       0    0    0        40   40   80          4.000  1.00
  parley       1    0    2        50   40  120          5.000  1.25
`, out.String())
}

func TestMemoryTable(t *testing.T) {
	var r report
	for round, m := range []load.Memory{
		{Conns: 10, Base: 1000, Fresh: 1100, Spoke: 1200, SettledBase: 900, Settled: 950},
		{Conns: 10, Base: 1000, Fresh: 1300, Spoke: 1200, SettledBase: 900, Settled: 970},
	} {
		r.add(sample{Scenario: "idle", Server: "parley", Round: round, Memory: &m})
	}
	var out strings.Builder
	s := scenario{name: "idle", idle: 10, memory: true}
	r.table(&out, s)
	s.tls, s.settle = "1.3", true
	r.table(&out, s)
	require.Equal(t, `
idle: resident bytes for each of 10 idle connections
  server  fresh  min  max  spoke  min  max
  parley     20   10   30     20   20   20

idle: resident bytes for each of 10 idle connections, TLS 1.3
  server  fresh  min  max  spoke  min  max  settled  min  max
  parley     20   10   30     20   20   20        6    5    7
`, out.String())
}

func TestMailTable(t *testing.T) {
	var r report
	for round, ms := range [][2]time.Duration{{50, 40}, {100, 60}, {50, 50}} {
		for i, server := range []string{"smtp-sink", "parleysmtp"} {
			r.add(sample{Scenario: "smtp", Server: server, Round: round, Result: &load.Result{
				Lines: 500, Elapsed: time.Second, CPU: ms[i] * time.Millisecond, User: 10, System: 30,
			}})
		}
	}
	var out strings.Builder
	r.table(&out, scenario{name: "smtp", kind: mail, conns: 10, length: 4096})
	require.Equal(t, `
smtp: CPU seconds for 1000 messages of 4096 bytes, 10 at a time, a connection for each message
      server   CPU s      min     max  / smtp-sink  messages/s  busy  user
   smtp-sink  0.1000   0.1000  0.2000         1.00         500    5%   25%
  parleysmtp  0.1000  0.08000  0.1200         0.80         500    5%   25%
`, out.String())
}

func TestPeakTable(t *testing.T) {
	var r report
	for round, mb := range [][2]int64{{8, 9}, {7, 9}, {8, 8}} {
		r.add(sample{Scenario: "smtpmem", Server: "parleysmtp", Round: round, Peak: &peak{
			Messages: 5000, Short: mb[0] << 20, Long: mb[1] << 20,
		}})
	}
	var out strings.Builder
	r.table(&out, scenario{name: "smtpmem", kind: mail, memory: true, length: 4096, messages: 5000, large: 3, larger: 50 << 20})
	require.Equal(t, `
smtpmem: most MiB resident, after 5000 messages of 4096 bytes, and after 3 of 50 MiB
      server  short   min   max  long   min   max  more   min   max
  parleysmtp   8.00  7.00  8.00  9.00  8.00  9.00  1.00  0.00  2.00
`, out.String())
}

// wrongServer is options that measure this test binary with a mistake in it, in one scenario.
func wrongServer(t *testing.T, scenario, what string) *options {
	t.Setenv(mistake, what)
	self, err := os.Executable()
	require.NoError(t, err)
	o := parsed(t, "-short", "-scenarios", scenario)
	o.servers = []server{{name: "wrong", kind: o.scenarios[0].kind, title: self, binary: self}}
	return o
}

// What is wrong with a server fails the run, in one line, and nothing is left behind.
func TestRunFails(t *testing.T) {
	for _, c := range []struct{ scenario, what, want string }{
		{"a", "flips a bit", "scenario a: wrong: connection .*: wrong byte .* at offset 0 of 32"},
		{"a", "does not start", "scenario a: wrong ended by itself: exit status 3: no"},
		{"a", "dies", "scenario a: wrong ended by itself: exit status 3: so long"},
		{"tls", "flips a bit over TLS", "scenario tls: wrong: connection .*: wrong byte .* at offset 0 of 32"},
		{"broadcast", "flips a bit in a room", "scenario broadcast: wrong: connection 1: wrong byte .* at offset 0 of 64"},
		{"broadcast", "tells two lines at once in a room",
			"scenario broadcast: wrong: connection 1: .*(not sent|more than were sent|wrong byte)"},
		{"http", "knows nothing on the web", `scenario http: wrong: the first response: not 200: "404 Not Found"`},
		{"httppipe", "counts on the web", "scenario httppipe: wrong: connection .*: wrong byte .* of a response"},
		{"smtpd", "refuses mail", "scenario smtpd: wrong: .*smtp-source: fatal: .*554 no"},
		{"smtpd", "forgets mail", `scenario smtpd: wrong: took \d+ messages, but was sent \d+`},
		{"smtpd", "loses octets of mail", `scenario smtpd: wrong: took \d+ octets, but was sent \d+`},
		{"smtpd", "dies", "scenario smtpd: wrong ended by itself: exit status 3: so long"},
	} {
		t.Run(c.scenario+": "+c.what, func(t *testing.T) {
			o := wrongServer(t, c.scenario, c.what)
			want := c.want
			if o.scenarios[0].kind == mail {
				needPostfix(t)
			}
			dir := t.TempDir()
			t.Setenv("TMPDIR", dir)
			err := run(t.Context(), o, io.Discard)
			require.Error(t, err)
			require.Regexp(t, want, err.Error())
			require.NotContains(t, err.Error(), "\n")
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			for _, entry := range left { // the go command has folders of its own
				require.NotContains(t, entry.Name(), "parley-bench")
			}
		})
	}
}

func TestRunIsInterrupted(t *testing.T) {
	o := wrongServer(t, "a", "nothing")
	o.seconds = 600
	ctx, cancel := context.WithCancel(t.Context())
	out := writerFunc(func(p []byte) { // the first that it prints comes before the first turn
		cancel()
	})
	err := run(ctx, o, out)
	require.ErrorIs(t, err, context.Canceled)
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

func TestRunWritesJSON(t *testing.T) {
	o := wrongServer(t, "a", "nothing")
	o.rounds = 2
	o.json = filepath.Join(t.TempDir(), "out.json")
	require.NoError(t, run(t.Context(), o, io.Discard))
	text, err := os.ReadFile(o.json)
	require.NoError(t, err)
	var r report
	require.NoError(t, json.Unmarshal(text, &r))
	require.Len(t, r.Samples, 2)
	require.Equal(t, 1, r.Samples[1].Round)
	require.Positive(t, r.Samples[1].Result.Lines)
	require.Positive(t, r.Samples[1].Result.CPU)
}

func TestRunWritesJSONOfLatency(t *testing.T) {
	o := wrongServer(t, "latency", "nothing")
	o.json = filepath.Join(t.TempDir(), "out.json")
	require.NoError(t, run(t.Context(), o, io.Discard))
	text, err := os.ReadFile(o.json)
	require.NoError(t, err)
	var r report
	require.NoError(t, json.Unmarshal(text, &r))
	require.Len(t, r.Samples, shortPasses)
	for i, s := range r.Samples {
		require.Equal(t, i, s.Pass)
		require.Equal(t, "wrong", s.Pacer, "the first, because there is no goroutine")
		require.Equal(t, r.Samples[0].Rate, s.Rate)
		require.GreaterOrEqual(t, s.Result.Elapsed.Seconds(), sliceSeconds)
		require.InDelta(t, s.Rate*s.Result.Elapsed.Seconds(), float64(s.Result.Latency.Lines), 2)
		require.Positive(t, s.Result.Latency.P50)
		if w := s.Result.Waits; w != nil {
			require.GreaterOrEqual(t, w.Server, time.Duration(0))
			require.GreaterOrEqual(t, w.Generator, time.Duration(0))
		}
	}
}

func TestRunWritesJSONOfMail(t *testing.T) {
	needPostfix(t)
	for _, scenario := range []string{"smtp", "smtpmem"} {
		o := wrongServer(t, scenario, "nothing that matters to mail")
		o.json = filepath.Join(t.TempDir(), "out.json")
		require.NoError(t, run(t.Context(), o, io.Discard))
		text, err := os.ReadFile(o.json)
		require.NoError(t, err)
		var r report
		require.NoError(t, json.Unmarshal(text, &r))
		require.Len(t, r.Samples, 1)
		if scenario == "smtp" {
			require.Equal(t, 750.0, r.Samples[0].Result.Lines)
			require.Positive(t, r.Samples[0].Result.CPU)
			require.Positive(t, r.Samples[0].Result.Elapsed)
		} else {
			require.Equal(t, 500, r.Samples[0].Peak.Messages)
			require.Positive(t, r.Samples[0].Peak.Short)
			require.GreaterOrEqual(t, r.Samples[0].Peak.Long, r.Samples[0].Peak.Short)
		}
	}
}

func TestCharts(t *testing.T) {
	var r report
	for i, server := range []string{"c", "parley"} {
		cpu := time.Duration(4+i) * time.Millisecond
		for _, name := range []string{"a", "accept"} {
			r.add(sample{Scenario: name, Server: server, Result: &load.Result{Lines: 1000, Elapsed: time.Second, CPU: cpu}})
		}
		r.add(sample{Scenario: "idle", Server: server, Memory: &load.Memory{Conns: 10, Spoke: int64(1000 * (i + 1))}})
		r.add(sample{Scenario: "flood", Server: server, Flood: &load.Flood{Conns: 10, Up: cpu}})
		r.add(sample{Scenario: "latency", Server: server, Result: &load.Result{Latency: &load.Latency{P99: cpu}}})
		r.add(sample{Scenario: "smtp", Server: server, Result: &load.Result{Lines: 1000, CPU: cpu}})
		r.add(sample{Scenario: "smtpmem", Server: server, Peak: &peak{Long: 1 << 20}})
		r.add(sample{Scenario: "http", Server: server, Result: &load.Result{Lines: 1000, CPU: cpu}})
	}
	for _, name := range []string{"fds10", "fds100"} {
		r.add(sample{Scenario: name, Server: "epoll", Result: &load.Result{Lines: 1000, CPU: time.Millisecond}})
	}
	dir := filepath.Join(t.TempDir(), "charts")
	require.NoError(t, r.charts(dir, scenarios))
	files, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	require.NoError(t, err)
	var names []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		require.Len(t, elements(t, string(text), "svg"), 1)
		require.NotContains(t, string(text), "NaN")
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".svg"))
	}
	require.Equal(t, "a,accept,fds,flood,http,idle,latency,smtp,smtpmem", strings.Join(names, ","))
	text, err := os.ReadFile(filepath.Join(dir, "a.svg"))
	require.NoError(t, err)
	require.Contains(t, string(text), "5.000, 1.25 × c")
}

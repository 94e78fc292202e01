package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/bench/internal/load"
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
	if what == "does not start" {
		return fmt.Errorf("no")
	}
	fmt.Fprintln(os.Stderr, "listening on", ln.Addr())
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

	_, err := parse([]string{"-help"})
	require.ErrorIs(t, err, flag.ErrHelp)
	for _, bad := range []string{
		"-rounds=0", "-seconds=0", "-seconds=NaN", "-seconds=601", "-scenarios=x", "-scenarios=a,,b", "-servers=x", "-also=x",
		"-also=x=", "-also==x", "-also=c=/bin/x", "-x", "x",
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
		require.Equal(t, s.memory, s.conns == 0, s.name)
		require.Positive(t, s.length, s.name)
	}
}

func TestFit(t *testing.T) {
	idle := scenario{idle: 15_000, memory: true}
	require.Equal(t, idle, idle.fit(1<<20))
	require.Equal(t, idle, idle.fit(20_000))
	require.Equal(t, 864, idle.fit(1024).idle)
	require.Equal(t, 814, scenario{conns: 50, idle: 10_000}.fit(1024).idle)
	require.Zero(t, scenario{conns: 50}.fit(16).idle)
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
}

// wrongServer is options that measure this test binary with a mistake in it.
func wrongServer(t *testing.T, what string) *options {
	t.Setenv(mistake, what)
	self, err := os.Executable()
	require.NoError(t, err)
	o := parsed(t, "-short", "-scenarios", "a", "-servers", "goroutine", "-also", "wrong="+self)
	o.servers = o.servers[1:]
	return o
}

// What is wrong with a server fails the run, in one line, and nothing is left behind.
func TestRunFails(t *testing.T) {
	for what, want := range map[string]string{
		"flips a bit":    "scenario a: wrong: connection .*: wrong byte .* at offset 0 of 32",
		"does not start": "scenario a: wrong ended by itself: exit status 3: no",
		"dies":           "scenario a: wrong ended by itself: exit status 3: so long",
	} {
		t.Run(what, func(t *testing.T) {
			o := wrongServer(t, what)
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
	o := wrongServer(t, "nothing")
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
	o := wrongServer(t, "nothing")
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

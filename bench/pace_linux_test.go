package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/bench/internal/load"
)

const ms = time.Millisecond

// slice is one server's slice of 100 ms at 900 lines per second, each of which took d.
func slice(server string, pass int, d time.Duration, w *load.Waits) sample {
	l := load.Merge([]*load.Latency{{Lines: 90, Max: d, Buckets: []load.Bucket{{Highest: d, Lines: 90}}}})
	return sample{Scenario: "latency", Server: server, Pass: pass, Rate: 900, Pacer: "goroutine", Result: &load.Result{
		Lines: 90, Elapsed: 100 * ms, CPU: 400 * time.Microsecond, Latency: l, Waits: w,
	}}
}

func TestPasses(t *testing.T) {
	require.Equal(t, 60, parsed(t).passes())
	require.Equal(t, 50, parsed(t, "-rounds", "5", "-seconds", "1").passes())
	require.Equal(t, leastPasses, parsed(t, "-rounds", "1", "-seconds", "0.1").passes())
	require.Equal(t, shortPasses, parsed(t, "-short").passes())
}

func TestDisturbed(t *testing.T) {
	require.Empty(t, disturbed(nil))
	require.Empty(t, disturbed([]sample{slice("c", 0, ms, nil)}), "not known")
	w := func(server, generator, stolen time.Duration) *load.Waits {
		return &load.Waits{Elapsed: 100 * ms, Server: server, Generator: generator, Stolen: stolen}
	}
	all := func(all ...[2]*load.Waits) (samples []sample) {
		for pass, both := range all {
			for i, server := range []string{"c", "parley"} {
				samples = append(samples, slice(server, pass, ms, both[i]))
			}
		}
		return samples
	}
	calm := [2]*load.Waits{w(0, 0, 0), w(20*ms, 0, 0)} // the threads of one server wait for each other
	for name, x := range map[string]struct {
		pass [2]*load.Waits
		want bool
	}{
		"calm":                  {calm, false},
		"a little of all":       {[2]*load.Waits{w(ms/2, ms/2, 0), w(40*ms+ms/2, ms/2, 0)}, false},
		"a server waited":       {[2]*load.Waits{w(ms+1, 0, 0), calm[1]}, true},
		"not for others":        {[2]*load.Waits{calm[0], w(40*ms, ms, 0)}, false},
		"more than its own":     {[2]*load.Waits{calm[0], w(41*ms+1, 0, 0)}, true},
		"less than its own":     {[2]*load.Waits{calm[0], w(5*ms, ms, 0)}, false},
		"the generator waited":  {[2]*load.Waits{calm[0], w(5*ms, ms+1, 0)}, true},
		"the host was busy":     {[2]*load.Waits{w(0, 0, 10*ms), calm[1]}, true},
		"each a part, together": {[2]*load.Waits{w(ms/2, ms/2+1, 0), calm[1]}, true},
	} {
		got := disturbed(all(calm, calm, x.pass, calm))
		require.Equal(t, x.want, got[2], name)
		delete(got, 2)
		require.Empty(t, got, name)
	}
}

func TestLeaveOut(t *testing.T) {
	leaveOut(nil, 5)
	samples := func(disturbed ...int) (all []sample) {
		for pass := range 8 {
			w := load.Waits{Elapsed: 100 * ms}
			if slices.Contains(disturbed, pass) {
				w.Generator = 50 * ms
			}
			all = append(all, slice("c", pass, ms, &load.Waits{Elapsed: 100 * ms}), slice("parley", pass, ms, &w))
		}
		return all
	}
	out := func(all []sample, enough int) (passes []int) {
		leaveOut(all, enough)
		for i, s := range all {
			require.Equal(t, all[i/2*2].LeftOut, s.LeftOut, "all servers alike")
			if s.LeftOut && i%2 == 0 {
				passes = append(passes, s.Pass)
			}
		}
		return passes
	}
	require.Empty(t, out(samples(), 5))
	require.Equal(t, []int{1, 4}, out(samples(1, 4), 5))
	require.Equal(t, []int{0, 1, 2, 3, 4}, out(samples(0, 1, 2, 3, 4), 6), "half of what is enough is left")
	require.Empty(t, out(samples(0, 1, 2, 3, 4), 7), "too little is left")
	require.Empty(t, out(samples(0, 1, 2, 3, 4, 5, 6, 7), 1))
}

func TestLatencyTable(t *testing.T) {
	s := scenario{name: "latency", kind: plain, conns: 50, depth: 1, length: 32, paced: true}
	table := func(waits func(pass int) *load.Waits) string {
		r := new(report)
		for pass, us := range []int{50, 80, 9000, 50, 60, 40} {
			for i, server := range []string{"goroutine", "parley"} {
				r.add(slice(server, pass, time.Duration(us*(2-i))*time.Microsecond, waits(pass)))
			}
		}
		leaveOut(r.Samples, 5)
		var out strings.Builder
		r.table(&out, s)
		return out.String()
	}
	const head = `
latency: 50 connections, 900 lines of 32 bytes per second, 70 % of goroutine's most: µs until a line is back, `
	require.Equal(t, head+`5 slices
     server    p50    p90    p99     q1     q3  p99 / goroutine  all: p99  p99.9   most  lines/s  µs/line  busy
  goroutine  100.0  100.0  100.0  100.0  120.0             1.00     160.0  160.0  160.0      900    4.444    0%
     parley  50.00  50.00  50.00  50.00  60.00             0.50     80.00  80.00  80.00      900    4.444    0%
Left out, of all servers alike: 1 of 6 passes, in which others had more than 1 % of a slice.
`, table(func(pass int) *load.Waits {
		return &load.Waits{Stolen: time.Duration(pass/2%2) * 50 * ms * time.Duration(1-pass%2)}
	}))

	// A server that stops for a while shows, though its median slice is as good as ever.
	calm := table(func(int) *load.Waits { return &load.Waits{Elapsed: 100 * ms} })
	require.Equal(t, head+`6 slices
     server    p50    p90    p99     q1     q3  p99 / goroutine  all: p99  p99.9   most  lines/s  µs/line  busy
  goroutine  110.0  110.0  110.0  100.0  150.0             1.00     18000  18000  18000      900    4.444    0%
     parley  55.00  55.00  55.00  50.00  75.00             0.50      9000   9000   9000      900    4.444    0%
In none of 6 passes others had more than 1 % of a slice.
`, calm)
	busy := table(func(pass int) *load.Waits {
		return &load.Waits{Elapsed: 100 * ms, Generator: time.Duration(pass%4) * 2 * ms}
	})
	require.Contains(t, busy, "6 slices\n")
	require.True(t, strings.HasSuffix(busy,
		"In 4 of 6 passes others had more than 1 % of a slice. That is too many to leave them out: p99 is theirs, too.\n"), busy)
	require.Contains(t, table(func(int) *load.Waits { return nil }), "Whether others had the CPUs is not known here.\n")
}

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/parley-go/parley/bench/internal/load"
)

const (
	pacer = "goroutine" // whose load a scenario with a pace has; the first server's if that does not take part
	share = 0.7         // of what saturates it

	// What else happens on a machine comes in moments, of which each spoils the p99 of the time that it falls into. So that
	// is divided into short slices.
	sliceSeconds = 0.1
	leastPasses  = 20 // slices of each server, taking turns, unless it is to be short
	shortPasses  = 3

	// disturbance is what part of a slice may go to others: from there on p99 is theirs.
	disturbance = 0.01
)

// passes returns how many slices each server has: as long together as its turns in another scenario.
func (o *options) passes() int {
	least := leastPasses
	if o.short {
		least = shortPasses
	}
	return max(least, int(math.Round(float64(o.rounds)*o.seconds/sliceSeconds)))
}

// pacing measures latency: all servers are up, and take turns at one rate, slice by slice; the rate is found anew in each
// round. For a pass that was disturbed there is another one, up to as many again.
func (m *measurement) pacing(ctx context.Context, s scenario) error {
	defer m.stop()
	if err := m.startAll(ctx, s); err != nil {
		return err
	}
	first := m.running[max(slices.IndexFunc(m.running, func(p *process) bool { return p.name == pacer }), 0)]
	enough := m.passes()
	most := 2 * enough
	if m.short {
		most = enough
	}
	perRound := (enough + m.rounds - 1) / m.rounds
	rate, began := 0.0, len(m.report.Samples)
	for pass := range most {
		round := pass / perRound
		if pass%perRound == 0 {
			if err := m.quiet(ctx); err != nil {
				return err
			}
			full, err := m.load(ctx, s, first, 0, m.seconds)
			if err != nil {
				return err
			}
			rate = max(full.Lines/full.Elapsed.Seconds()*share, 1)
		}
		for _, p := range m.running {
			if err := m.quiet(ctx); err != nil {
				return err
			}
			r, err := m.load(ctx, s, p, rate, min(m.seconds, sliceSeconds))
			if err != nil {
				return err
			}
			m.report.add(sample{Scenario: s.name, Server: p.name, Round: round, Pass: pass,
				Result: r, Rate: rate, Pacer: first.name})
		}
		if pass+1-len(disturbed(m.report.Samples[began:])) >= enough {
			break
		}
	}
	leaveOut(m.report.Samples[began:], enough)
	return nil
}

// disturbed returns the passes in which a server, or the generator with it, waited for others in more than a small part of
// its slice. The threads of a server wait for each other as well, which its calmer slices tell, since others only add to
// it: twice as much is still its own.
func disturbed(all []sample) map[int]bool {
	waits := map[string][]float64{}
	for _, s := range all {
		if w := s.Result.Waits; w != nil {
			waits[s.Server] = append(waits[s.Server], float64(w.Server))
		}
	}
	own := map[string]float64{}
	for server, xs := range waits {
		own[server] = 2 * quantile(xs, 0.25)
	}
	passes := map[int]bool{}
	for _, s := range all {
		w := s.Result.Waits
		if w == nil {
			continue
		}
		others := max(float64(w.Server)-own[s.Server], 0) + float64(w.Generator+w.Stolen)
		if others > disturbance*float64(w.Elapsed) {
			passes[s.Pass] = true
		}
	}
	return passes
}

// leaveOut marks the disturbed passes, of all servers alike: they do not count. Where they are so many that less than half
// of what is enough would be left, all count.
func leaveOut(all []sample, enough int) {
	if len(all) == 0 {
		return
	}
	out := disturbed(all)
	if passes := all[len(all)-1].Pass + 1; 2*(passes-len(out)) < enough {
		return
	}
	for i := range all {
		all[i].LeftOut = out[all[i].Pass]
	}
}

// The latencies of a slice, in µs.
func p50(s sample) float64 { return micros(s.Result.Latency.P50) }
func p90(s sample) float64 { return micros(s.Result.Latency.P90) }
func p99(s sample) float64 { return micros(s.Result.Latency.P99) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func offered(s sample) float64 { return s.Rate }

// together returns the latency of the lines of all slices of a server that count.
func (r *report) together(scenario, server string) *load.Latency {
	var all []*load.Latency
	for _, s := range r.Samples {
		if s.Scenario == scenario && s.Server == server && !s.LeftOut {
			all = append(all, s.Result.Latency)
		}
	}
	return load.Merge(all)
}

func (r *report) latencyTable(out io.Writer, s scenario) {
	names, refs := r.measured(s.name), r.compared(s.name)
	var all []sample
	for _, t := range r.Samples {
		if t.Scenario == s.name {
			all = append(all, t)
		}
	}
	counted := len(r.column(s.name, names[0], p99))
	rate := median(r.column(s.name, names[0], offered))
	fmt.Fprintf(out, "\n%s: %d connections, %.0f lines of %d bytes per second, %.0f %% of %s's most: "+
		"µs until a line is back, %d slices\n", s.name, s.conns, rate, s.length, 100*share, all[0].Pacer, counted)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "server\tp50\tp90\tp99\tq1\tq3\t")
	for _, ref := range refs {
		fmt.Fprintf(w, "p99 / %s\t", ref)
	}
	fmt.Fprint(w, "all: p99\tp99.9\tmost\tlines/s\tµs/line\tbusy\t\n")
	for _, name := range names {
		column := func(figure func(sample) float64) []float64 { return r.column(s.name, name, figure) }
		p99s := column(p99)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t", name, digits(median(column(p50))), digits(median(column(p90))),
			digits(median(p99s)), digits(quantile(p99s, 0.25)), digits(quantile(p99s, 0.75)))
		for _, ref := range refs {
			fmt.Fprintf(w, "%.2f\t", ratio(p99s, r.column(s.name, ref, p99)))
		}
		together := r.together(s.name, name)
		fmt.Fprintf(w, "%s\t%s\t%s\t", digits(micros(together.P99)), digits(micros(together.P999)), digits(micros(together.Max)))
		fmt.Fprintf(w, "%.0f\t%s\t%s\t\n", median(column(lineRate)), digits(median(column(perLine))),
			percent(median(column(busy))))
	}
	_ = w.Flush()
	passes, others := all[len(all)-1].Pass+1, len(disturbed(all))
	const what = "others had more than %.0f %% of a slice"
	switch {
	case slices.ContainsFunc(all, func(s sample) bool { return s.Result.Waits == nil }):
		fmt.Fprintln(out, "Whether others had the CPUs is not known here.")
	case others == 0:
		fmt.Fprintf(out, "In none of %d passes "+what+".\n", passes, 100*disturbance)
	case counted == passes:
		fmt.Fprintf(out, "In %d of %d passes "+what+". That is too many to leave them out: p99 is theirs, too.\n",
			others, passes, 100*disturbance)
	default:
		fmt.Fprintf(out, "Left out, of all servers alike: %d of %d passes, in which "+what+".\n", others, passes, 100*disturbance)
	}
}

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

const (
	pacer = "goroutine" // whose load a scenario with a pace has; the first server's if that does not take part
	share = 0.7         // of what saturates it
)

// pacing measures latency: all servers are up, and take turns at one rate, which is found anew in each round.
func (m *measurement) pacing(ctx context.Context, s scenario) error {
	defer m.stop()
	if err := m.startAll(ctx, s); err != nil {
		return err
	}
	first := m.running[max(slices.IndexFunc(m.running, func(p *process) bool { return p.name == pacer }), 0)]
	for round := range m.rounds {
		if err := m.quiet(ctx); err != nil {
			return err
		}
		full, err := m.load(ctx, s, first, 0)
		if err != nil {
			return err
		}
		rate := max(full.Lines/full.Elapsed.Seconds()*share, 1)
		for _, p := range m.running {
			if err := m.quiet(ctx); err != nil {
				return err
			}
			r, err := m.load(ctx, s, p, rate)
			if err != nil {
				return err
			}
			m.report.add(sample{Scenario: s.name, Server: p.name, Round: round, Result: r, Rate: rate, Pacer: first.name})
		}
	}
	return nil
}

// The latencies of a turn, in µs.
func p50(s sample) float64  { return micros(s.Result.Latency.P50) }
func p90(s sample) float64  { return micros(s.Result.Latency.P90) }
func p99(s sample) float64  { return micros(s.Result.Latency.P99) }
func p999(s sample) float64 { return micros(s.Result.Latency.P999) }
func most(s sample) float64 { return micros(s.Result.Latency.Max) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func offered(s sample) float64 { return s.Rate }

func (r *report) latencyTable(out io.Writer, s scenario) {
	names, refs := r.measured(s.name), r.compared(s.name)
	pacer := ""
	for _, t := range r.Samples {
		if t.Scenario == s.name {
			pacer = t.Pacer
		}
	}
	rate := median(r.column(s.name, names[0], offered))
	fmt.Fprintf(out, "\n%s: %d connections, %.0f lines of %d bytes per second, %.0f %% of %s's most: "+
		"µs until a line is back\n", s.name, s.conns, rate, s.length, 100*share, pacer)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "server\tp50\tp90\tp99\tmin\tmax\tp99.9\tmost\t")
	for _, ref := range refs {
		fmt.Fprintf(w, "p99 / %s\t", ref)
	}
	fmt.Fprint(w, "lines/s\tµs/line\tbusy\t\n")
	for _, name := range names {
		column := func(figure func(sample) float64) []float64 { return r.column(s.name, name, figure) }
		p99s := column(p99)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t", name, digits(median(column(p50))), digits(median(column(p90))),
			digits(median(p99s)), digits(slices.Min(p99s)), digits(slices.Max(p99s)),
			digits(median(column(p999))), digits(median(column(most))))
		for _, ref := range refs {
			fmt.Fprintf(w, "%.2f\t", ratio(p99s, r.column(s.name, ref, p99)))
		}
		fmt.Fprintf(w, "%.0f\t%s\t%s\t\n", median(column(lineRate)), digits(median(column(perLine))),
			percent(median(column(busy))))
	}
	_ = w.Flush()
}

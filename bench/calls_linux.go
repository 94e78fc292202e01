package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/parley-go/parley/bench/internal/load"
)

// flooding measures what becomes of many connections at once: all servers are up, and take turns.
func (m *measurement) flooding(ctx context.Context, s scenario) error {
	defer m.stop()
	if err := m.startAll(ctx, s); err != nil {
		return err
	}
	for round := range m.rounds {
		for _, p := range m.running {
			if err := m.quiet(ctx); err != nil {
				return err
			}
			f, err := generate[load.Flood](ctx, m.pins.generator, time.Minute, m.programs.lineload,
				"-connect", p.addr, "-pid", strconv.Itoa(p.cmd.Process.Pid), "-flood",
				"-idle", strconv.Itoa(s.idle), "-length", strconv.Itoa(s.length))
			if err := p.check(err); err != nil {
				return err
			}
			m.report.add(sample{Scenario: s.name, Server: p.name, Round: round, Flood: f})
		}
	}
	return nil
}

// The figures of a flood.
func resent(s sample) float64  { return float64(s.Flood.Resent) }
func upMS(s sample) float64    { return micros(s.Flood.Up) / 1e3 }
func perConn(s sample) float64 { return micros(s.Flood.CPU) / float64(s.Flood.Conns) }

func (r *report) floodTable(out io.Writer, s scenario) {
	names, refs := r.measured(s.name), r.compared(s.name)
	fmt.Fprintf(out, "\n%s: %d connections at once, a line of %d bytes on each\n", s.name, s.idle, s.length)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "server\tresent\tmin\tmax\tup in ms\tmin\tmax\tµs/connection\t")
	for _, ref := range refs {
		fmt.Fprintf(w, "/ %s\t", ref)
	}
	fmt.Fprintln(w)
	for _, name := range names {
		fmt.Fprintf(w, "%s\t", name)
		for _, figure := range []func(sample) float64{resent, upMS} {
			xs := r.column(s.name, name, figure)
			fmt.Fprintf(w, "%.0f\t%.0f\t%.0f\t", median(xs), slices.Min(xs), slices.Max(xs))
		}
		us := r.column(s.name, name, perConn)
		fmt.Fprintf(w, "%s\t", digits(median(us)))
		for _, ref := range refs {
			fmt.Fprintf(w, "%.2f\t", ratio(us, r.column(s.name, ref, perConn)))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
}

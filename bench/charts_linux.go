package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// headline is what a chart of a scenario shows: the figure to look at first.
func headline(s scenario) (title, unit string, figure func(sample) float64) {
	switch {
	case s.kind == mail && s.memory:
		return "Memory for long messages", "most MiB resident, after messages of 50 MiB", longPeak
	case s.kind == mail:
		how := "a connection for each"
		if s.reuse {
			how = "connections used again"
		}
		return "Mail, " + how, fmt.Sprintf("CPU seconds for 1000 messages of %d bytes", s.length), perThousand
	case s.memory:
		return fmt.Sprintf("%d idle connections%s", s.idle, over(s)), "resident bytes for each, after it has spoken", spoke
	case s.flood:
		return fmt.Sprintf("%d connections at once", s.idle), "ms until each has had a line echoed", upMS
	case s.paced:
		return fmt.Sprintf("Latency at %.0f %% of what the goroutine server can do", 100*share), "p99 in µs: the median of the slices, and their quartiles", p99
	case s.calls:
		return "A connection for each line", "CPU µs for each", perLine
	case s.kind == telling:
		return fmt.Sprintf("A message of %d bytes to %d members of a room", s.length, s.conns), "CPU µs for each delivery", perLine
	case s.kind == web:
		return fmt.Sprintf("HTTP: %d connections, depth %d", s.conns, s.depth), "CPU µs for each request", perLine
	}
	title = fmt.Sprintf("%d connections, depth %d, lines of %d bytes%s", s.conns, s.depth, s.length, over(s))
	if s.idle > 0 {
		title += fmt.Sprintf(", %d idle beside", s.idle)
	}
	return title, "CPU µs for each line", perLine
}

// charts draws what was measured, a file for each scenario; the scenarios of the back ends are in one.
func (r *report) charts(dir string, all []scenario) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	var polls []scenario
	for _, s := range all {
		if s.kind == polling {
			polls = append(polls, s)
			continue
		}
		if text := r.chart(s); text != "" {
			if err := os.WriteFile(filepath.Join(dir, s.name+".svg"), []byte(text), 0o666); err != nil {
				return err
			}
		}
	}
	if text := r.pollChart(polls); text != "" {
		return os.WriteFile(filepath.Join(dir, "fds.svg"), []byte(text), 0o666)
	}
	return nil
}

// chart draws a scenario; "": nothing was measured.
func (r *report) chart(s scenario) string {
	title, unit, figure := headline(s)
	refs := r.compared(s.name)
	var bars []bar
	for _, name := range r.measured(s.name) {
		xs := r.column(s.name, name, figure)
		b := bar{name: name, value: median(xs), low: slices.Min(xs), high: slices.Max(xs)}
		if s.paced {
			b.low, b.high = quantile(xs, 0.25), quantile(xs, 0.75)
		}
		b.ours = strings.HasPrefix(name, "parley")
		if len(refs) > 0 && name != refs[0] {
			b.note = fmt.Sprintf(", %.2f × %s", ratio(xs, r.column(s.name, refs[0], figure)), refs[0])
		}
		bars = append(bars, b)
	}
	if len(bars) == 0 {
		return ""
	}
	return barChart(title, unit, bars)
}

// pollChart draws what the back ends cost over the number of descriptors.
func (r *report) pollChart(all []scenario) string {
	var curves []curve
	for _, s := range all {
		for _, name := range r.measured(s.name) {
			i := slices.IndexFunc(curves, func(c curve) bool { return c.name == name })
			if i < 0 {
				i = len(curves)
				curves = append(curves, curve{name: name})
			}
			p := point{float64(s.idle), median(r.column(s.name, name, perLine))}
			curves[i].points = append(curves[i].points, p)
		}
	}
	if len(curves) == 0 {
		return ""
	}
	const title = "One connection speaks, the others do not"
	return lineChart(title, "CPU µs for each line", "connections that say nothing", curves)
}

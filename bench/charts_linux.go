package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// headline is what a chart of a scenario shows: the figure to look at first.
func headline(s scenario) (title, unit string, figure func(sample) float64) {
	switch {
	case s.kind == mail && s.memory:
		return "Memory for long messages", fmt.Sprintf("most MiB resident, after messages of %d MiB", s.larger>>20), longPeak
	case s.kind == mail:
		how := "a connection for each"
		if s.reuse {
			how = "connections used again"
		}
		return "Mail, " + how, fmt.Sprintf("CPU seconds for 1,000 messages of %s bytes", count(s.length)), perThousand
	case s.memory:
		return fmt.Sprintf("%s idle connections%s", count(s.idle), over(s)), "resident bytes for each, after it has spoken", spoke
	case s.flood:
		return fmt.Sprintf("%s connections at once", count(s.idle)), "ms until each has had a line echoed", upMS
	case s.paced:
		return fmt.Sprintf("Latency of lines at a fixed rate: %.0f %% of what saturates the goroutine server", 100*share), "p99 in µs", p99
	case s.calls:
		return fmt.Sprintf("A connection for each line, %d at a time", s.conns), "CPU µs for each", perLine
	case s.kind == telling:
		title := fmt.Sprintf("A message of %d bytes to %s members of a room", s.length, count(s.conns))
		return title, "CPU µs for each delivery", perLine
	case s.kind == web:
		return fmt.Sprintf("HTTP: %d connections, depth %d", s.conns, s.depth), "CPU µs for each request", perLine
	}
	title = fmt.Sprintf("%s connections, depth %d, lines of %s bytes%s", count(s.conns), s.depth, count(s.length), over(s))
	if s.idle > 0 {
		title += fmt.Sprintf(", %s idle beside", count(s.idle))
	}
	if s.work > 0 {
		title += fmt.Sprintf(", %v of work with each", s.work)
	}
	return title, "CPU µs for each line", perLine
}

func count(n int) string { return grouped(float64(n)) }

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
			b.note = fmt.Sprintf(", %s × %s", factor(ratio(xs, r.column(s.name, refs[0], figure))), refs[0])
		}
		bars = append(bars, b)
	}
	if len(bars) == 0 {
		return ""
	}
	n := len(r.column(s.name, bars[0].name, figure))
	switch {
	case s.paced:
		unit += fmt.Sprintf(": median of %d slices; thin lines: the quartiles", n)
	case n > 1:
		unit += fmt.Sprintf(": median of %d rounds; thin lines: from the least to the most", n)
	}
	return barChart(title, unit, bars)
}

// factor prints a ratio.
func factor(x float64) string {
	if x >= 10 {
		return grouped(math.Round(x))
	}
	return fmt.Sprintf("%.2f", x)
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
	const title = "What a line costs with other connections beside it that say nothing"
	return lineChart(title, "CPU µs for each line, by kind of poller; select has room for 1,024 descriptors",
		"connections that say nothing", curves)
}

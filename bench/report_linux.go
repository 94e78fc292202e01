package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/bench/internal/load"
)

// report is what is known at the end; its JSON is for programs.
type report struct {
	Machine string   `json:"machine"`
	Go      string   `json:"go"`
	Pinned  bool     `json:"pinned"`
	Rounds  int      `json:"rounds"`
	Seconds float64  `json:"seconds"`
	Short   bool     `json:"short,omitempty"`
	Samples []sample `json:"samples"`
}

// sample is one server's turn.
type sample struct {
	Scenario string       `json:"scenario"`
	Server   string       `json:"server"`
	Round    int          `json:"round"`
	Result   *load.Result `json:"load,omitempty"`
	Memory   *load.Memory `json:"memory,omitempty"`
}

func (r *report) describe(m *measurement) {
	r.Go = runtime.Version()
	r.Pinned = m.pins.server >= 0
	r.Rounds, r.Seconds, r.Short = m.rounds, m.seconds, m.short
	system := "Linux"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
		system += " " + release
	}
	where := "not pinned"
	if r.Pinned {
		where = fmt.Sprintf("servers on CPU %d, generator on CPU %d", m.pins.server, m.pins.generator)
	}
	compilers := r.Go
	if m.programs.cc != "" {
		compilers += ", " + m.programs.cc
	}
	r.Machine = fmt.Sprintf("%s/%s, %d CPUs, %s; %s; rounds of %v s: %d", system, runtime.GOARCH, runtime.NumCPU(), compilers,
		where, m.seconds, m.rounds)
}

func (r *report) add(s sample) { r.Samples = append(r.Samples, s) }

// column returns a figure of each round of a server, in order.
func (r *report) column(scenario, server string, figure func(sample) float64) []float64 {
	var xs []float64
	for _, s := range r.Samples {
		if s.Scenario == scenario && s.Server == server {
			xs = append(xs, figure(s))
		}
	}
	return xs
}

// measured returns the servers that a scenario has figures of, in the order of their first turn.
func (r *report) measured(scenario string) []string {
	var names []string
	for _, s := range r.Samples {
		if s.Scenario == scenario && !slices.Contains(names, s.Server) {
			names = append(names, s.Server)
		}
	}
	return names
}

func (r *report) table(out io.Writer, s scenario) {
	if s.memory {
		r.memoryTable(out, s)
	} else {
		r.loadTable(out, s)
	}
}

// The figures of a turn.
func perLine(s sample) float64 { return float64(s.Result.CPU) / s.Result.Lines / 1e3 } // µs
func busy(s sample) float64    { return float64(s.Result.CPU) / float64(s.Result.Elapsed) }
func userShare(s sample) float64 {
	return float64(s.Result.User) / float64(s.Result.User+s.Result.System)
}
func lineRate(s sample) float64 { return s.Result.Lines / s.Result.Elapsed.Seconds() }
func fresh(s sample) float64    { f, _ := s.Memory.PerConn(); return f }
func spoke(s sample) float64    { _, f := s.Memory.PerConn(); return f }

func (r *report) loadTable(out io.Writer, s scenario) {
	names := r.measured(s.name)
	var refs []string
	for _, ref := range references {
		if slices.Contains(names, ref) {
			refs = append(refs, ref)
		}
	}
	idle := ""
	if s.idle > 0 {
		idle = fmt.Sprintf(" and %d idle", s.idle)
	}
	fmt.Fprintf(out, "\n%s: %d connections%s, depth %d, lines of %d bytes\n", s.name, s.conns, idle, s.depth, s.length)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "server\tµs/line\tmin\tmax\t")
	for _, ref := range refs {
		fmt.Fprintf(w, "/ %s\t", ref)
	}
	fmt.Fprint(w, "lines/s\tbusy\tuser\t\n")
	for _, name := range names {
		us := r.column(s.name, name, perLine)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t", name, digits(median(us)), digits(slices.Min(us)), digits(slices.Max(us)))
		for _, ref := range refs {
			fmt.Fprintf(w, "%.2f\t", ratio(us, r.column(s.name, ref, perLine)))
		}
		fmt.Fprintf(w, "%.0f\t%s\t%s\t\n", median(r.column(s.name, name, lineRate)),
			percent(median(r.column(s.name, name, busy))), percent(median(r.column(s.name, name, userShare))))
	}
	_ = w.Flush()
}

func (r *report) memoryTable(out io.Writer, s scenario) {
	fmt.Fprintf(out, "\n%s: resident bytes for each of %d idle connections\n", s.name, s.idle)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "server\tfresh\tmin\tmax\tspoke\tmin\tmax\t\n")
	for _, name := range r.measured(s.name) {
		fmt.Fprintf(w, "%s\t", name)
		for _, figure := range []func(sample) float64{fresh, spoke} {
			xs := r.column(s.name, name, figure)
			fmt.Fprintf(w, "%.0f\t%.0f\t%.0f\t", median(xs), slices.Min(xs), slices.Max(xs))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
}

// digits prints with four digits, in any magnitude.
func digits(x float64) string {
	if x <= 0 || math.IsNaN(x) {
		return fmt.Sprint(x)
	}
	return fmt.Sprintf("%.*f", max(0, 3-int(math.Floor(math.Log10(x)))), x)
}

func percent(x float64) string {
	if math.IsNaN(x) { // an interval without a tick
		return "-"
	}
	return fmt.Sprintf("%.0f%%", 100*x)
}

// writeJSON writes everything that was measured, also if the run failed on the way.
func (r *report) writeJSON(file string, out io.Writer) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if file == "-" {
		_, err = out.Write(text)
		return err
	}
	return os.WriteFile(file, text, 0o666)
}

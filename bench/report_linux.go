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
	Shares  []shares `json:"shares,omitempty"`
}

// shares are the parts of the lines of all turns of a scenario that each loop of a server had.
type shares struct {
	Scenario string `json:"scenario"`
	Server   string `json:"server"`
	Loops    string `json:"loops"`
}

// sample is one server's turn.
type sample struct {
	Scenario string       `json:"scenario"`
	Server   string       `json:"server"`
	Round    int          `json:"round"`
	Result   *load.Result `json:"load,omitempty"`
	Memory   *load.Memory `json:"memory,omitempty"`
	Rate     float64      `json:"lines_per_second,omitempty"` // offered
	Pacer    string       `json:"pacer,omitempty"`            // whose most it is a share of
	Pass     int          `json:"pass,omitempty"`             // of the slices at that rate, through all rounds
	LeftOut  bool         `json:"left_out,omitempty"`         // because others had the CPU in this pass
	Flood    *load.Flood  `json:"flood,omitempty"`
	Peak     *peak        `json:"peak,omitempty"`
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

// column returns a figure of each turn of a server that counts, in order.
func (r *report) column(scenario, server string, figure func(sample) float64) []float64 {
	var xs []float64
	for _, s := range r.Samples {
		if s.Scenario == scenario && s.Server == server && !s.LeftOut {
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
	switch {
	case s.kind == mail && s.memory:
		r.peakTable(out, s)
	case s.kind == mail:
		r.mailTable(out, s)
	case s.flood:
		r.floodTable(out, s)
	case s.paced:
		r.latencyTable(out, s)
	case s.memory:
		r.memoryTable(out, s)
	default:
		r.loadTable(out, s)
	}
}

// The figures of a turn.
func perLine(s sample) float64 { return float64(s.Result.CPU) / s.Result.Lines / 1e3 } // µs
func busy(s sample) float64    { return float64(s.Result.CPU) / float64(s.Result.Elapsed) }
func userShare(s sample) float64 {
	return float64(s.Result.User) / float64(s.Result.User+s.Result.System)
}
func lineRate(s sample) float64    { return s.Result.Lines / s.Result.Elapsed.Seconds() }
func perThousand(s sample) float64 { return s.Result.CPU.Seconds() / s.Result.Lines * 1000 } // s
func fresh(s sample) float64       { f, _ := s.Memory.PerConn(); return f }
func spoke(s sample) float64       { _, f := s.Memory.PerConn(); return f }
func settled(s sample) float64     { return s.Memory.PerConnSettled() }

// The figures of a peak, in MiB.
func shortPeak(s sample) float64 { return float64(s.Peak.Short) / (1 << 20) }
func longPeak(s sample) float64  { return float64(s.Peak.Long) / (1 << 20) }
func growth(s sample) float64    { return longPeak(s) - shortPeak(s) }

// compared returns the references that a scenario has figures of.
func (r *report) compared(scenario string) []string {
	var refs []string
	for _, ref := range references {
		if slices.Contains(r.measured(scenario), ref) {
			refs = append(refs, ref)
		}
	}
	return refs
}

// over says what stands below the lines of a scenario.
func over(s scenario) string {
	if s.tls == "" {
		return ""
	}
	return ", TLS " + s.tls
}

func (r *report) loadTable(out io.Writer, s scenario) {
	idle := ""
	if s.work > 0 {
		idle = fmt.Sprintf(", %v of work with each line", s.work)
	}
	if s.idle > 0 {
		idle = fmt.Sprintf(" and %d idle", s.idle)
	}
	what := fmt.Sprintf("lines of %d bytes", s.length)
	if s.kind == web {
		what = "requests"
	}
	how := fmt.Sprintf("depth %d, %s", s.depth, what)
	if s.calls {
		how = fmt.Sprintf("each for one line of %d bytes", s.length)
	}
	connections := "connections"
	switch {
	case s.kind == telling:
		connections, how = "members of a room", fmt.Sprintf("a message of %d bytes to all of them", s.length)
	case s.conns == 1:
		connections = "connection"
	}
	fmt.Fprintf(out, "\n%s: %d %s%s, %s%s\n", s.name, s.conns, connections, idle, how, over(s))
	r.cpuTable(out, s, "µs/"+s.unit(), perLine)
	for _, x := range r.Shares {
		if x.Scenario == s.name && strings.Contains(x.Loops, " ") {
			fmt.Fprintf(out, "%s: parts of the lines that the loops had: %s\n", x.Server, x.Loops)
		}
	}
}

// cpuTable prints what CPU time each server needed, by the references', and how busy it was.
func (r *report) cpuTable(out io.Writer, s scenario, unit string, figure func(sample) float64) {
	refs := r.compared(s.name)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "server\t%s\tmin\tmax\t", unit)
	for _, ref := range refs {
		fmt.Fprintf(w, "/ %s\t", ref)
	}
	fmt.Fprintf(w, "%s/s\tbusy\tuser\t\n", s.units())
	for _, name := range r.measured(s.name) {
		cpu := r.column(s.name, name, figure)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t", name, digits(median(cpu)), digits(slices.Min(cpu)), digits(slices.Max(cpu)))
		for _, ref := range refs {
			fmt.Fprintf(w, "%.2f\t", ratio(cpu, r.column(s.name, ref, figure)))
		}
		fmt.Fprintf(w, "%.0f\t%s\t%s\t\n", median(r.column(s.name, name, lineRate)),
			percent(median(r.column(s.name, name, busy))), percent(median(r.column(s.name, name, userShare))))
	}
	_ = w.Flush()
}

func (r *report) memoryTable(out io.Writer, s scenario) {
	fmt.Fprintf(out, "\n%s: resident bytes for each of %d idle connections%s\n", s.name, s.idle, over(s))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	figures := []func(sample) float64{fresh, spoke}
	fmt.Fprint(w, "server\tfresh\tmin\tmax\tspoke\tmin\tmax\t")
	if s.settle {
		figures = append(figures, settled)
		fmt.Fprint(w, "settled\tmin\tmax\t")
	}
	fmt.Fprintln(w)
	for _, name := range r.measured(s.name) {
		fmt.Fprintf(w, "%s\t", name)
		for _, figure := range figures {
			xs := r.column(s.name, name, figure)
			fmt.Fprintf(w, "%.0f\t%.0f\t%.0f\t", median(xs), slices.Min(xs), slices.Max(xs))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
}

func (r *report) mailTable(out io.Writer, s scenario) {
	how := "a connection for each message"
	if s.reuse {
		how = "connections are used again"
	}
	fmt.Fprintf(out, "\n%s: CPU seconds for 1000 messages of %d bytes, %d at a time, %s\n", s.name, s.length, s.conns, how)
	r.cpuTable(out, s, "CPU s", perThousand)
}

func (r *report) peakTable(out io.Writer, s scenario) {
	fmt.Fprintf(out, "\n%s: most MiB resident, after %d messages of %d bytes, and after %d of %d MiB\n",
		s.name, s.messages, s.length, s.large, s.larger>>20)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "server\tshort\tmin\tmax\tlong\tmin\tmax\tmore\tmin\tmax\t\n")
	for _, name := range r.measured(s.name) {
		fmt.Fprintf(w, "%s\t", name)
		for _, figure := range []func(sample) float64{shortPeak, longPeak, growth} {
			xs := r.column(s.name, name, figure)
			fmt.Fprintf(w, "%.2f\t%.2f\t%.2f\t", median(xs), slices.Min(xs), slices.Max(xs))
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

// Package trace keeps what a loop did and prints it as a ladder: one line for each thing that went over the wire or
// reached a handler.
//
//	rec := trace.NewRecorder(1000)
//	loop, err := core.NewLoop(core.Options{Trace: rec.Record})
//	…
//	rec.Ladder(os.Stdout)
//
// A line of the ladder is: time since the first event, number of the pass, channel, and what happened:
//
//	15ms p9   ch1   --> 9    "O x\r\nDATA"     nine bytes came from the peer
//	15ms p9   ch1       CollectIncomingData("O x")
//	15ms p9   ch1       FoundTerminator "\r\n"
//	15ms p9   ch1   <-- 12   "250 EHLO X\r\n"  twelve went to it
package trace

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parley-go/parley/core"
)

// Excerpt is how many bytes of an event's data are kept.
const Excerpt = 48

// Record is a kept copy of a core.Event.
type Record struct {
	Kind core.TraceKind
	Time time.Time
	Pass uint64
	Chan uint64 // number of the channel, 0: none
	Name string
	N    int
	Data []byte // the first Excerpt bytes
	Want core.Interest
	Got  core.Interest
	Dur  time.Duration
	Err  error
}

// Recorder keeps the last events of a loop. Record runs on the loop's goroutine, the rest on any.
type Recorder struct {
	mu      sync.Mutex
	ring    []Record
	next    int
	dropped uint64
	start   time.Time
	verbose bool
}

// NewRecorder returns a recorder of the last n events; n is at least 1. Its Record goes into core.Options.Trace.
func NewRecorder(n int) *Recorder { return &Recorder{ring: make([]Record, 0, max(n, 1))} }

// Verbose has the ladder also show passes, waits, readiness, interest and handler calls, with how long they took.
func (r *Recorder) Verbose(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verbose = on
}

// Record keeps a copy of an event.
func (r *Recorder) Record(e *core.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.start.IsZero() {
		r.start = e.Time
	}
	rec := Record{Kind: e.Kind, Time: e.Time, Pass: e.Pass, Name: e.Name, N: e.N, Want: e.Want, Got: e.Got, Dur: e.Dur,
		Err: e.Err}
	if e.Chan != nil {
		rec.Chan = e.Chan.ID()
	}
	if len(r.ring) < cap(r.ring) {
		rec.Data = append(rec.Data, e.Data[:min(len(e.Data), Excerpt)]...)
		r.ring = append(r.ring, rec)
		return
	}
	old := &r.ring[r.next]
	rec.Data = append(old.Data[:0], e.Data[:min(len(e.Data), Excerpt)]...)
	*old = rec
	r.next = (r.next + 1) % len(r.ring)
	r.dropped++
}

// Records returns copies of what is kept, oldest first.
func (r *Recorder) Records() []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Record, 0, len(r.ring))
	for i := range r.ring {
		rec := r.ring[(r.next+i)%len(r.ring)]
		rec.Data = append([]byte(nil), rec.Data...)
		out = append(out, rec)
	}
	return out
}

// Reset forgets everything.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring, r.next, r.dropped, r.start = r.ring[:0], 0, 0, time.Time{}
}

// Ladder prints what is kept as text.
func (r *Recorder) Ladder(w io.Writer) error {
	records := r.Records()
	r.mu.Lock()
	start, dropped, verbose := r.start, r.dropped, r.verbose
	r.mu.Unlock()
	var b strings.Builder
	if dropped > 0 {
		fmt.Fprintf(&b, "(%d earlier events are not kept)\n", dropped)
	}
	for i := range records {
		if text, ok := records[i].text(verbose); ok {
			ch := ""
			if records[i].Chan != 0 {
				ch = "ch" + strconv.FormatUint(records[i].Chan, 10)
			}
			line := fmt.Sprintf("%8v p%-4d%-6s%s", records[i].Time.Sub(start).Round(time.Microsecond), records[i].Pass, ch, text)
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// String is the ladder.
func (r *Recorder) String() string {
	var b strings.Builder
	_ = r.Ladder(&b)
	return b.String()
}

func (r *Record) text(verbose bool) (string, bool) {
	switch r.Kind {
	case core.TraceOpen:
		return "== open  ==", true
	case core.TraceClose:
		if r.Err != nil {
			return "== close == " + r.Err.Error(), true
		}
		return "== close ==", true
	case core.TraceRecv:
		return fmt.Sprintf("--> %-4d %s", r.N, r.quoted()), true
	case core.TraceSend:
		return fmt.Sprintf("<-- %-4d %s", r.N, r.quoted()), true
	case core.TraceCollect:
		return fmt.Sprintf("    CollectIncomingData(%s)", r.quoted()), true
	case core.TraceFound:
		return "    FoundTerminator " + r.Name, true
	case core.TraceTimer, core.TracePost:
		return "    " + r.Name, true
	case core.TraceNote:
		return "    " + r.Name + count(r.N), true
	}
	if !verbose {
		return "", false
	}
	switch r.Kind {
	case core.TraceWait:
		return fmt.Sprintf("wait: %d ready (%s)", r.N, r.Name), true
	case core.TraceReady:
		return fmt.Sprintf("    ready %v of %v", r.Got, r.Want), true
	case core.TraceInterest:
		return fmt.Sprintf("    waits for %v, was %v", r.Want, r.Got), true
	case core.TraceCall:
		return fmt.Sprintf("    %s took %v", r.Name, r.Dur), true
	}
	return "", false
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return " " + strconv.Itoa(n)
}

func (r *Record) quoted() string {
	s := strconv.Quote(string(r.Data))
	if r.N > len(r.Data) {
		s += "…"
	}
	if r.N > 0 && len(r.Data) == 0 {
		return "(from a file)"
	}
	return s
}

package core

import (
	"time"
)

// TraceKind says what an Event is about.
type TraceKind uint8

// The kinds of events. Those from TraceCollect on come from package chat.
const (
	TracePass     TraceKind = iota // a turn of the loop begins
	TraceWait                      // the poller answered: Name is its name, N how many are ready
	TraceReady                     // an event is delivered: Got, and Want as the channel has it
	TraceCall                      // a handler method returned: Name, Dur
	TraceRecv                      // N bytes were received: Data
	TraceSend                      // N bytes were sent: Data (nil if they came from a file)
	TraceInterest                  // the poller was told what to wait for: Want, and Got what it was before
	TraceOpen                      // a channel was attached, or its connection is there: Name
	TraceClose                     // a channel closed: Err is the cause
	TraceTimer                     // a timer fires
	TracePost                      // a post runs
	TraceCollect                   // CollectIncomingData was given Data, N bytes
	TraceFound                     // FoundTerminator: Name is the terminator
	TraceNote                      // a layer has something to say: Name, N
)

var traceKinds = [...]string{"pass", "wait", "ready", "call", "recv", "send", "interest", "open", "close", "timer",
	"post", "collect", "found", "note"}

func (k TraceKind) String() string { return traceKinds[k] }

// Event is one thing that a loop did. The func in Options.Trace gets a pointer that is good until it returns, Data
// likewise; package core/trace keeps copies.
type Event struct {
	Kind TraceKind
	Time time.Time // on the loop's clock
	Pass uint64    // number of the pass
	Loop int       // number of the loop in its Group
	Chan *Dispatcher
	Name string
	N    int
	Data []byte
	Want Interest
	Got  Interest
	Dur  time.Duration
	Err  error
}

// trace fills in time and pass. Callers test Options.Trace first, so that an event costs nothing when nobody looks.
func (l *Loop) trace(e Event) {
	l.event = e
	l.event.Time = l.epoch.Add(time.Duration(l.clock()))
	l.event.Pass = l.stats.Passes
	l.event.Loop = l.index
	l.opts.Trace(&l.event)
}

// Tracing tells whether the loop has a trace hook, for a layer that has something to say to it.
func (d *Dispatcher) Tracing() bool { return d.loop != nil && d.loop.opts.Trace != nil }

// Trace gives an event of a layer to the trace hook; call it only if Tracing.
func (d *Dispatcher) Trace(e Event) {
	e.Chan = d
	d.loop.trace(e)
}

package sim

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/trace"
)

// Config says what a World is like. The zero value is a perfect network without latency.
type Config struct {
	// T is told of failures (a *testing.T); without it they panic.
	T interface {
		Helper()
		Fatalf(format string, args ...any)
	}

	Seed uint64

	// Latency is the time of one way; Jitter adds up to that much at random, without reordering one direction.
	Latency time.Duration
	Jitter  time.Duration

	// Window bounds the bytes of one direction that are under way or unread; 64 KiB if 0. What is over it makes Send
	// short.
	Window int

	// MaxRecv bounds what one Recv returns; RandomCuts makes it less at random.
	MaxRecv    int
	RandomCuts bool

	// Again is how often, of 1, the first Recv, Send or Accept after an event answers ErrWouldBlock all the same; Spurious
	// how often a Wait reports a channel that has nothing; Interrupt how often a Wait ends with EINTR.
	Again     float64
	Spurious  float64
	Interrupt float64

	// Work is the longest that core.Go and name resolution take.
	Work time.Duration

	// Files is the limit of descriptors for the loops' side; 0: none. Above it Accept, Listen and Connect answer EMFILE.
	Files int

	// Loss is how often, of 1, a datagram is lost.
	Loss float64

	// Patience is how much virtual time Want and its kind wait at most; an hour if 0.
	Patience time.Duration

	// Untraced leaves the loops without the world's trace hook, so that they take the ways that a program in production
	// takes: package chat has a shorter one for whole tokens, and slow handlers are found by their passes. Ladder is empty
	// then. A test of what is the same with and without a hook runs both ways, as Dialog does.
	Untraced bool
}

const (
	defaultWindow   = 64 << 10
	defaultPatience = time.Hour
	ladderEvents    = 400
	stillTurns      = 1000
	maxTurns        = 5_000_000 // of one Want: more is a loop that spins
)

// ErrDeadlock is the error of a loop that waits for something that nothing could ever bring.
var ErrDeadlock = errors.New("sim: the loop waits, and nothing is under way that could end that")

// World is a network with a clock. It is for one goroutine.
type World struct {
	c         Config
	rng       *rand.Rand
	now       time.Time
	start     time.Time
	calendar  calendar
	seq       uint64
	loops     []*poller
	hosts     map[string][]netip.Addr
	listeners map[string]*listener
	packets   map[string]*packetConn
	holes     map[netip.Addr]bool
	files     int
	lastPort  uint16
	recorder  *trace.Recorder
	still     int // passes since something else happened
}

// New returns a world at midnight of 1 January 2000, UTC. "localhost" is known in it, and "server" and "client" are
// 192.0.2.1 and 192.0.2.2.
func New(c Config) *World {
	if c.Window <= 0 {
		c.Window = defaultWindow
	}
	if c.Patience <= 0 {
		c.Patience = defaultPatience
	}
	w := &World{
		c: c, rng: rand.New(rand.NewPCG(c.Seed, 0x9E3779B97F4A7C15)),
		now:       time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		hosts:     make(map[string][]netip.Addr),
		listeners: make(map[string]*listener),
		packets:   make(map[string]*packetConn),
		holes:     make(map[netip.Addr]bool),
		lastPort:  49151,
		recorder:  trace.NewRecorder(ladderEvents),
	}
	w.start = w.now
	w.Host("localhost", "127.0.0.1", "::1")
	w.Host("server", "192.0.2.1")
	w.Host("client", "192.0.2.2")
	return w
}

// Loop returns a loop that lives in this world. Options.System and Strict are set; a Trace hook of the caller's is called
// besides the world's own, see Ladder.
func (w *World) Loop(o core.Options) *core.Loop {
	l, err := core.NewLoop(w.options(o))
	if err != nil {
		w.fatalf("%v", err)
	}
	w.loops[len(w.loops)-1].loop = l
	return l
}

// options are what a loop of this world needs.
func (w *World) options(o core.Options) core.Options {
	o.System = &system{w}
	o.Strict = true
	record := w.recorder.Record
	switch hook := o.Trace; {
	case w.c.Untraced:
	case hook != nil:
		o.Trace = func(e *core.Event) { record(e); hook(e) }
	default:
		o.Trace = record
	}
	return o
}

// Group is Loop for a core.Group of n loops. They are stepped in an order that the seed picks, also by Group.Run.
func (w *World) Group(n int, o core.Options) *core.Group {
	first := len(w.loops)
	o = w.options(o)
	g, err := core.NewGroup(n, o)
	if err != nil {
		w.fatalf("%v", err)
	}
	for i, l := range g.Loops() {
		w.loops[first+i].loop = l
	}
	return g
}

// Now is the virtual time.
func (w *World) Now() time.Time { return w.now }

// Elapsed is the virtual time since New.
func (w *World) Elapsed() time.Duration { return w.now.Sub(w.start) }

// Rand is the world's random source; drawing from it is part of what the seed decides.
func (w *World) Rand() *rand.Rand { return w.rng }

// Configure changes the configuration from now on, for instance to let a fault begin: w.Configure(func(c *sim.Config) {
// c.Files = 3 }).
func (w *World) Configure(change func(*Config)) { change(&w.c) }

// Host names a machine, with its addresses in the order of the resolver's answer.
func (w *World) Host(name string, addrs ...string) {
	w.hosts[name] = nil
	for _, a := range addrs {
		w.hosts[name] = append(w.hosts[name], netip.MustParseAddr(a))
	}
}

// BlackHole makes an address swallow everything that is sent to it.
func (w *World) BlackHole(addr string) { w.holes[netip.MustParseAddr(addr)] = true }

// Busy lets time pass without anything happening: call it in a handler that is meant to be slow.
func (w *World) Busy(d time.Duration) { w.now = w.now.Add(d) }

// Advance lets d pass, with everything that happens meanwhile.
func (w *World) Advance(d time.Duration) {
	until := w.now.Add(d)
	for w.now.Before(until) || w.workNow(nil) {
		w.turn(nil, until)
	}
}

// Settle lets happen what is under way, up to the next thing that only a timer would bring.
func (w *World) Settle() {
	for n := 0; ; n++ {
		if n > maxTurns {
			w.fatalf("the world does not settle")
		}
		if !w.workNow(nil) && len(w.calendar) == 0 {
			return
		}
		w.turn(nil, time.Time{})
	}
}

// Until lets things happen until cond holds, and answers false if it still does not when nothing more can happen or
// Config.Patience is over.
func (w *World) Until(cond func() bool) bool {
	limit := w.now.Add(w.c.Patience)
	for n := 0; !cond(); n++ {
		if n > maxTurns || w.now.After(limit) || !w.turn(nil, time.Time{}) {
			return cond()
		}
	}
	return true
}

// Ladder returns what the loops of this world did last, as text.
func (w *World) Ladder() string { return w.recorder.String() }

// Trace returns the recorder behind Ladder.
func (w *World) Trace() *trace.Recorder { return w.recorder }

func (w *World) fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if ladder := strings.TrimRight(w.Ladder(), "\n"); ladder != "" {
		msg += "\n" + ladder
	}
	if w.c.T == nil {
		panic("sim: " + msg)
	}
	w.c.T.Helper()
	w.c.T.Fatalf("%s", msg)
}

// turn makes one thing happen: a pass of a loop that has something to do now, or else what is next on the calendar or on
// another loop's timers, if that is not after the deadline (zero: none). It answers false if there is nothing. self is
// the loop that waits, if it is one.
func (w *World) turn(self *poller, deadline time.Time) bool {
	due := len(w.calendar) > 0 && !w.calendar[0].at.After(w.now)
	if p := w.pickLoop(self); p != nil && (!due || w.rng.IntN(2) == 0) {
		w.tick()
		w.pass(p)
		return true
	}
	w.still = 0
	next, ok := w.nextTime(self)
	switch {
	case !ok && deadline.IsZero():
		return false
	case !ok || !deadline.IsZero() && next.After(deadline):
		if deadline.After(w.now) {
			w.now = deadline
		}
		return true
	}
	if next.After(w.now) {
		w.now = next
	}
	if len(w.calendar) > 0 && !w.calendar[0].at.After(w.now) {
		heap.Pop(&w.calendar).(*entry).f()
	}
	return true
}

// tick counts a pass: a loop that is always busy takes time, too.
func (w *World) tick() {
	if w.still++; w.still > stillTurns {
		w.now = w.now.Add(time.Microsecond)
	}
}

// happen lets happen what is due.
func (w *World) happen() {
	w.tick()
	for len(w.calendar) > 0 && !w.calendar[0].at.After(w.now) {
		w.still = 0
		heap.Pop(&w.calendar).(*entry).f()
	}
}

// workNow tells whether something can happen without time passing.
func (w *World) workNow(self *poller) bool {
	if len(w.calendar) > 0 && !w.calendar[0].at.After(w.now) {
		return true
	}
	for _, p := range w.loops {
		if p != self && p.hasWork() {
			return true
		}
	}
	return false
}

func (w *World) pickLoop(self *poller) *poller {
	n := len(w.loops)
	if n == 0 {
		return nil
	}
	first := 0
	if n > 1 {
		first = w.rng.IntN(n)
	}
	for i := range n {
		if p := w.loops[(first+i)%n]; p != self && p.hasWork() {
			return p
		}
	}
	return nil
}

func (w *World) nextTime(self *poller) (t time.Time, ok bool) {
	if len(w.calendar) > 0 {
		t, ok = w.calendar[0].at, true
	}
	for _, p := range w.loops {
		if p == self || p.waiting || p.closed {
			continue
		}
		if d, has := p.loop.Next(); has {
			if at := w.now.Add(d); !ok || at.Before(t) {
				t, ok = at, true
			}
		}
	}
	return t, ok
}

// pass steps another loop.
func (w *World) pass(p *poller) {
	p.stepped = true
	more, err := p.loop.Step(0)
	p.stepped = false
	if !more {
		p.woken.Store(false) // nothing is left to wake it for
	}
	if err != nil {
		if errors.Is(err, core.ExitNow) {
			p.closed = true
			return
		}
		p.closed = true
		w.fatalf("loop failed: %v", err)
	}
}

// at puts something on the calendar.
func (w *World) at(t time.Time, f func()) {
	w.seq++
	heap.Push(&w.calendar, &entry{at: t, seq: w.seq, f: f})
}

// delay is the time of one way for the next packet.
func (w *World) delay() time.Duration {
	d := w.c.Latency
	if w.c.Jitter > 0 {
		d += time.Duration(w.rng.Int64N(int64(w.c.Jitter) + 1))
	}
	return d
}

func (w *World) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// openFile counts a descriptor; it answers false at the limit.
func (w *World) openFile() bool {
	if w.c.Files > 0 && w.files >= w.c.Files {
		return false
	}
	w.files++
	return true
}

// Files returns how many descriptors the loops' side has open.
func (w *World) Files() int { return w.files }

type entry struct {
	at  time.Time
	seq uint64
	f   func()
}

type calendar []*entry

func (c calendar) Len() int { return len(c) }
func (c calendar) Less(i, j int) bool {
	if !c[i].at.Equal(c[j].at) {
		return c[i].at.Before(c[j].at)
	}
	return c[i].seq < c[j].seq
}
func (c calendar) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *calendar) Push(x any)   { *c = append(*c, x.(*entry)) }
func (c *calendar) Pop() any {
	old := *c
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*c = old[:len(old)-1]
	return e
}

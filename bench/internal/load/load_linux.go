package load

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/bench/internal/proc"
)

// generator is one run.
type generator struct {
	Config
	addr   netip.AddrPort
	text   *text
	ep     int
	events [512]unix.EpollEvent
	buf    []byte
	conns  []conn
	idle   []link

	verified int64 // bytes, from the beginning
	result   Result
	phase    phase
	due      time.Time // when the phase ends
	extended bool      // that of counting was put off
	open     int       // connections that are not lost or closed
	busy     int       // of these, with a batch under way
	begun    snapshot
	ended    time.Time // when counting did
	pace     pace
	waits    *Waits // with a pace: until it began; nil: not known
	said     int    // lines that were broadcast
	dialed   int    // connections that were opened
}

type phase int

const (
	warming  phase = iota
	counting       // lines are counted
	draining       // nothing new is sent; what is on its way comes back
	ending         // our ends are closed; the server's follow
	over
)

// snapshot is the state of the counters at one moment.
type snapshot struct {
	at       time.Time
	verified int64
	used     proc.Usage
}

// Run opens the connections, keeps them busy and counts. An error is about the run itself: that the server does not accept,
// say. What goes wrong on single connections is in the Result; the others go on.
func Run(config Config) (*Result, error) {
	g := &generator{Config: config, ep: -1}
	if err := g.check(); err != nil {
		return nil, err
	}
	defer g.close()
	if err := g.setUp(); err != nil {
		return nil, err
	}
	if g.Rate > 0 {
		runtime.LockOSThread() // whose waits are read
		defer runtime.UnlockOSThread()
		var err error
		if g.waits, err = g.readWaits(); err != nil {
			return nil, err
		}
	}
	if err := g.run(); err != nil {
		return nil, err
	}
	return &g.result, nil
}

func (g *generator) setUp() (err error) {
	if err := g.prepare(); err != nil {
		return err
	}
	if err := g.openIdle(g.Idle); err != nil {
		return err
	}
	g.conns = make([]conn, 0, g.Conns)
	for i := range g.Conns {
		l, err := g.dial()
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		g.conns = append(g.conns, conn{link: l, line: g.text.start(i)})
		g.open++
		if g.Broadcast && (len(g.conns)%group == 0 || i == g.Conns-1) {
			if err := g.gather(); err != nil {
				return err
			}
		}
	}
	for i := range g.conns {
		if err := g.conns[i].setNonblock(); err != nil {
			return err
		}
		if err := g.watch(unix.EPOLL_CTL_ADD, i, unix.EPOLLIN); err != nil {
			return err
		}
	}
	return nil
}

// dial opens the next connection.
func (g *generator) dial() (link, error) {
	g.dialed++
	return dial(g.addr, g.dialed-1, g.Patience, g.TLS)
}

// prepare does what comes before the first connection.
func (g *generator) prepare() (err error) {
	if g.addr, err = netip.ParseAddrPort(g.Addr); err != nil {
		return fmt.Errorf("address %q: %w", g.Addr, err)
	}
	if g.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if g.HTTP {
		g.text = newRequests(g.Depth)
		if err := g.learn(); err != nil {
			return err
		}
	} else {
		g.text = newText(g.Length, g.Depth)
	}
	g.buf = make([]byte, 256<<10)
	return nil
}

// close ends whatever is still open.
func (g *generator) close() {
	for i := range g.conns {
		if g.conns[i].fd >= 0 {
			g.conns[i].closeHard()
		}
	}
	for _, l := range g.idle {
		l.closeHard()
	}
	if g.ep >= 0 {
		_ = unix.Close(g.ep)
	}
}

// watch tells epoll about the i-th connection, whose number the events carry.
func (g *generator) watch(op, i int, events uint32) error {
	err := unix.EpollCtl(g.ep, op, g.conns[i].fd, &unix.EpollEvent{Events: events, Fd: int32(i)})
	return os.NewSyscallError("epoll_ctl", err)
}

func (g *generator) run() error {
	now := time.Now()
	g.phase, g.due = warming, now.Add(g.Warmup)
	switch {
	case g.Rate > 0:
		g.pace.every, g.pace.began = float64(time.Second)/g.Rate, now
	case g.Broadcast:
		g.say()
	default:
		for i := range g.conns {
			g.start(i)
		}
	}
	for g.phase != over {
		n, err := g.wait(g.due.Sub(now))
		if err != nil {
			return err
		}
		for _, ev := range g.events[:n] {
			g.serve(int(ev.Fd), ev.Events)
		}
		now = time.Now()
		if g.Rate > 0 {
			g.release(now)
		}
		if g.Broadcast && !g.between(now) {
			continue
		}
		for before := phase(-1); before != g.phase; {
			before = g.phase
			if err := g.turn(now); err != nil {
				return err
			}
		}
		if g.Broadcast && g.phase < draining && g.busy == 0 {
			g.say()
		}
	}
	return nil
}

// wait asks without blocking first: while the server keeps up, which is what it is here for, the answer is never empty.
func (g *generator) wait(timeout time.Duration) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(g.ep), uintptr(unsafe.Pointer(&g.events)),
		uintptr(len(g.events)), 0, 0, 0)
	if errno == 0 && n > 0 {
		return int(n), nil
	}
	// The next line is due sooner than a sleeper wakes; and to wake one would be the dearest part of a broadcast.
	if timeout <= 0 || (g.Rate > 0 || g.Broadcast) && g.phase < draining {
		return 0, nil
	}
	blocked, err := unix.EpollWait(g.ep, g.events[:], int(timeout.Milliseconds())+1)
	if err == unix.EINTR {
		return 0, nil
	}
	return blocked, os.NewSyscallError("epoll_wait", err)
}

// turn goes on to the next phase when it is time.
func (g *generator) turn(now time.Time) error {
	late := !now.Before(g.due)
	switch g.phase {
	case warming:
		if late || g.open == 0 {
			s, err := g.snapshot(now)
			if err != nil {
				return err
			}
			g.begun = s
			g.phase, g.due = counting, now.Add(g.Interval)
		}
	case counting:
		if late && g.verified == g.begun.verified && !g.extended && g.open > 0 {
			// On a crowded machine a process may wait for its CPU that long. It is given time, as for any answer.
			g.extended, g.due = true, now.Add(g.Patience)
			return nil
		}
		if late || g.extended && g.verified > g.begun.verified || g.open == 0 {
			if err := g.count(now); err != nil {
				return err
			}
			if g.Rate > 0 {
				g.overdue(now)
			}
			g.phase, g.due = draining, now.Add(g.Patience)
		}
	case draining:
		if late {
			g.failRest(func(c *conn) error {
				if c.done() {
					return nil
				}
				return fmt.Errorf("no answer within %v: %d of %d bytes came back", g.Patience, c.got, c.due)
			})
		}
		if g.busy == 0 || late {
			g.shutdown()
			g.phase, g.due = ending, now.Add(g.Patience)
		}
	case ending:
		if g.Rate > 0 && g.result.Latency == nil {
			g.result.Latency = g.pace.taken.latency()
			if err := g.waited(); err != nil {
				return err
			}
		}
		if late {
			g.failRest(func(*conn) error {
				return fmt.Errorf("the server did not close within %v after the end of the input", g.Patience)
			})
		}
		if g.open == 0 {
			g.phase = over
		}
	}
	return nil
}

// snapshot reads the counters.
func (g *generator) snapshot(now time.Time) (s snapshot, err error) {
	s = snapshot{at: now, verified: g.verified}
	if g.PID != 0 {
		s.used, err = proc.Used(g.PID)
	}
	return s, err
}

// count notes what came of the interval that ended now.
func (g *generator) count(now time.Time) error {
	end, err := g.snapshot(now)
	if err != nil {
		return err
	}
	g.ended = now
	used := end.used.Since(g.begun.used)
	r := &g.result
	r.Lines = float64(end.verified-g.begun.verified) / float64(g.Length)
	r.Elapsed = now.Sub(g.begun.at)
	r.CPU, r.User, r.System = used.CPU, used.User, used.System
	return nil
}

// serve deals with an event of the i-th connection.
func (g *generator) serve(i int, events uint32) {
	c := &g.conns[i]
	if c.fd < 0 {
		return
	}
	if events&^unix.EPOLLOUT != 0 {
		before := c.done()
		n, err := c.receive(g.text, g.buf)
		switch {
		case err == io.EOF:
			g.lose(c)
			return
		case err != nil:
			g.fail(i, err)
			return
		}
		g.verified += int64(n)
		if !before && c.done() {
			if g.Rate > 0 {
				g.paced(i)
				return
			}
			if g.Broadcast || g.phase >= draining {
				g.busy--
				return
			}
			c.begin(g.text)
		}
	}
	g.advance(i)
}

// advance sends on the i-th connection, and has epoll say when there is room for the rest.
func (g *generator) advance(i int) {
	c := &g.conns[i]
	if c.stuck() {
		if err := c.send(); err != nil {
			g.fail(i, err)
			return
		}
	}
	if waits := c.stuck(); waits != c.writes {
		c.writes = waits
		events := uint32(unix.EPOLLIN)
		if waits {
			events |= unix.EPOLLOUT
		}
		if err := g.watch(unix.EPOLL_CTL_MOD, i, events); err != nil {
			g.fail(i, err)
		}
	}
}

// fail notes what went wrong on the i-th connection and closes it.
func (g *generator) fail(i int, err error) {
	c := &g.conns[i]
	g.note(i, err)
	if !c.done() {
		g.busy--
	}
	g.lose(c)
}

// note keeps what went wrong on the i-th connection, for the Result.
func (g *generator) note(i int, err error) {
	if g.result.Errors == 0 {
		g.result.First = fmt.Sprintf("connection %d: %v", i, err)
	}
	g.result.Errors++
}

func (g *generator) lose(c *conn) {
	_ = unix.Close(c.fd)
	c.fd = -1
	g.open--
}

// failRest fails the connections of which why says so.
func (g *generator) failRest(why func(*conn) error) {
	for i := range g.conns {
		if c := &g.conns[i]; c.fd >= 0 {
			if err := why(c); err != nil {
				g.fail(i, err)
			}
		}
	}
}

// shutdown ends our side of every connection. That the server then ends its own, and sends nothing before, is the last
// thing that is checked; and when Run returns, the server is done with them.
func (g *generator) shutdown() {
	for i := range g.conns {
		c := &g.conns[i]
		if c.fd < 0 {
			continue
		}
		c.ended = true
		if err := c.end(); err != nil {
			g.fail(i, err)
		}
	}
}

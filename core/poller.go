package core

import (
	"fmt"
	"strings"
	"time"
)

// Interest is a set of conditions: what a channel waits for, or what a poller found.
type Interest uint8

// The conditions. A channel asks for the first three; Hangup and Failed are only ever reported.
const (
	Read   Interest = 1 << iota // input, a connection to accept, or the end of the input
	Write                       // room for output, or a connect that is decided
	Urgent                      // out-of-band data
	Hangup                      // the peer is gone in both directions
	Failed                      // an error is pending on the descriptor
)

func (i Interest) String() string {
	if i == 0 {
		return "-"
	}
	var b strings.Builder
	for bit, c := range "RWUHF" {
		if i&(1<<bit) != 0 {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// Ready is one answer of a Poller.
type Ready struct {
	ID  uint64   // as given to Add
	Got Interest // never empty
}

// Poller is the synchronous event demultiplexer below a Loop: level-triggered, one descriptor one id. A loop calls all
// but Wake on its own goroutine. The real ones are select, poll, epoll and kqueue; core/sim has one in memory.
type Poller interface {
	// Name is the back end's name, as Options.Backend takes it.
	Name() string

	// Add registers a socket under an id that is never 0. An empty want watches for Hangup and Failed alone, where
	// the system can. ErrAlwaysReady: see there.
	Add(s Socket, id uint64, want Interest) error

	// Modify replaces what a registered socket waits for; Remove takes it out. Both are called before the descriptor
	// is closed.
	Modify(s Socket, id uint64, want Interest) error
	Remove(s Socket, id uint64) error

	// Wait appends what is ready to ready and returns it: at once with a timeout of 0, after the timeout at the
	// latest (rounded up to what the system measures in), with a negative one only when something is ready. It may
	// return early with nothing, after a Wake or a signal.
	Wait(timeout time.Duration, ready []Ready) ([]Ready, error)

	// Wake makes a Wait that blocks, or else the next one, return early. It may be called from any goroutine, and
	// after Close.
	Wake() error

	Close() error
}

// cheapPoller is a Poller whose Wait with a timeout of 0 costs next to nothing, whatever the number of descriptors. The
// loop asks it first with 0: a call that cannot block need not tell Go's scheduler.
type cheapPoller interface{ cheapWait() }

// backend is one row of a platform's table of pollers.
type backend struct {
	name string
	open func() (Poller, error)
}

// Backends returns the names that Options.Backend takes on this platform, best first.
func Backends() []string {
	names := make([]string, len(backends))
	for i, b := range backends {
		names[i] = b.name
	}
	return names
}

func newPoller(name string) (Poller, error) {
	if len(backends) == 0 {
		return nil, fmt.Errorf("parley: no poller on this platform: %w", ErrUnsupported)
	}
	if name == "" || name == "auto" {
		return backends[0].open()
	}
	for _, b := range backends {
		if b.name == name {
			return b.open()
		}
	}
	return nil, fmt.Errorf("parley: back end %q: %w (there is %s)", name, ErrUnsupported, strings.Join(Backends(), ", "))
}

// roundUp converts a timeout to whole units, upwards, so that a timer is never polled for before it is due; a negative
// timeout stays negative. The result fits an int32.
func roundUp(timeout, unit time.Duration) int {
	if timeout < 0 {
		return -1
	}
	n := timeout / unit
	if timeout%unit != 0 {
		n++
	}
	return int(min(n, 1<<31-1))
}

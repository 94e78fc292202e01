package load

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/bench/internal/proc"
	"github.com/parley-go/parley/bench/internal/settle"
)

// group is how many connections are opened before it is seen to that the server has accepted them.
const group = 500

// openIdle opens connections that say nothing, in groups: after each, one more connection asks something. Servers accept in
// order, so its answer says that they have accepted the whole group, and their queues never overflow.
func (g *generator) openIdle(n int) error {
	for i := range n {
		l, err := g.dial()
		if err != nil {
			if errors.Is(err, unix.EMFILE) {
				return fmt.Errorf("idle connection %d of %d: too many open files; see ulimit -Hn", i, n)
			}
			return fmt.Errorf("idle connection %d of %d: %w", i, n, err)
		}
		g.idle = append(g.idle, l)
		if len(g.idle)%group == 0 || i == n-1 {
			if err := g.probe(); err != nil {
				return fmt.Errorf("after %d idle connections: %w", len(g.idle), err)
			}
		}
	}
	return nil
}

// probe opens a connection, has one line echoed and closes it.
func (g *generator) probe() error {
	l, err := g.dial()
	if err != nil {
		return err
	}
	defer l.closeHard()
	return l.ask(g.text.line(0))
}

// MeasureMemory opens config.Idle connections and reads the server's resident memory before, when all are accepted, and when
// each has had one line echoed. What a server allocates once, at its first connections, is part of the state before. Of the
// rest of the Config it needs Addr, PID, TLS, Length and Patience.
func MeasureMemory(config Config) (*Memory, error) {
	config.Conns, config.Depth, config.Interval = 1, 1, 1
	g := &generator{Config: config, ep: -1}
	if err := g.check(); err != nil {
		return nil, err
	}
	if g.Idle < 1 || g.PID == 0 {
		return nil, errors.New("the memory of idle connections needs at least 1, and the server's process")
	}
	defer g.close()
	n := g.Idle
	g.Idle = 0
	if err := g.setUp(); err != nil {
		return nil, err
	}
	const first = 64
	for range first {
		if err := g.probe(); err != nil {
			return nil, err
		}
	}
	m := &Memory{Conns: n}
	var err error
	if m.Base, err = proc.RSS(g.PID); err != nil {
		return nil, err
	}
	if g.Settle {
		if m.SettledBase, err = g.settled(); err != nil {
			return nil, err
		}
	}
	if err := g.openIdle(n); err != nil {
		return nil, err
	}
	if m.Fresh, err = proc.RSS(g.PID); err != nil {
		return nil, err
	}
	for i, l := range g.idle {
		if err := l.ask(g.text.line(i % g.text.count)); err != nil {
			return nil, fmt.Errorf("idle connection %d: %w", i, err)
		}
	}
	if m.Spoke, err = proc.RSS(g.PID); err != nil {
		return nil, err
	}
	if g.Settle {
		if m.Settled, err = g.settled(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// settled has the server give its garbage back, waits until it is done and returns what is resident then.
func (g *generator) settled() (int64, error) {
	const step, enough, quiet = 20 * time.Millisecond, 200 * time.Microsecond, 10
	if err := unix.Kill(g.PID, settle.Signal); err != nil {
		return 0, os.NewSyscallError("kill", err)
	}
	var last time.Duration
	for due, calm := time.Now().Add(g.Patience), 0; calm < quiet && time.Now().Before(due); {
		time.Sleep(step)
		used, err := proc.CPU(g.PID)
		if err != nil {
			return 0, err
		}
		if calm++; used-last > enough {
			calm = 0
		}
		last = used
	}
	return proc.RSS(g.PID)
}

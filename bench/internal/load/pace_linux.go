package load

import (
	"errors"
	"io/fs"
	"time"

	"github.com/parley-go/parley/bench/internal/proc"
)

// pace is a load of a fixed rate: the n-th line of all is due at a moment that is known beforehand, whatever the server
// does, and goes out on the n-th connection in turn; later if that still waits for the line before.
type pace struct {
	every float64 // nanoseconds from one line to the next
	began time.Time
	due   int // lines that were due so far
	taken histogram
}

// at returns when the n-th line is due.
func (p *pace) at(n int) time.Time { return p.began.Add(time.Duration(float64(n) * p.every)) }

// release starts the lines that are due.
func (g *generator) release(now time.Time) {
	for p := &g.pace; g.phase < draining && !p.at(p.due).After(now); p.due++ {
		i := p.due % len(g.conns)
		c := &g.conns[i]
		if c.fd < 0 {
			continue
		}
		if c.late++; c.late == 1 {
			g.start(i)
		}
	}
}

// start sends the next line of the i-th connection, which waits for none.
func (g *generator) start(i int) {
	g.conns[i].begin(g.text)
	g.busy++
	g.advance(i)
}

// paced is called when a line of the i-th connection is back.
func (g *generator) paced(i int) {
	c := &g.conns[i]
	g.take(i, c.lines, time.Now())
	c.lines++
	c.late--
	g.busy--
	if c.late > 0 && g.phase < draining {
		g.start(i)
	}
}

// take notes how long the k-th line of the i-th connection took, if it was due while lines are counted.
func (g *generator) take(i, k int, now time.Time) {
	due := g.pace.at(i + k*len(g.conns))
	if g.phase == warming || due.Before(g.begun.at) || g.phase > counting && !due.Before(g.ended) {
		return
	}
	g.pace.taken.add(now.Sub(due))
}

// overdue notes the lines that were due in the counted interval and are not sent, at its end: they would have taken even
// longer.
func (g *generator) overdue(now time.Time) {
	for i := range g.conns {
		if c := &g.conns[i]; c.fd >= 0 {
			for k := c.lines + 1; k < c.lines+c.late; k++ { // the first of them is on its way
				g.take(i, k, now)
			}
		}
	}
}

// readWaits reads how long everybody waited so far; nil: the kernel does not tell, or there is nobody to ask about.
func (g *generator) readWaits() (*Waits, error) {
	if g.PID == 0 {
		return nil, nil
	}
	var errs [4]error
	var w Waits
	var ours, theirs time.Duration
	w.Server, errs[0] = proc.Waited(g.PID)
	w.Generator, errs[1] = proc.ThreadWaited()
	theirs, errs[2] = proc.Stolen(g.PID)
	ours, errs[3] = proc.Stolen(0)
	w.Stolen = ours + theirs // counts twice what is stolen from a CPU that both may use
	switch err := errors.Join(errs[:]...); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &w, nil
}

// waited notes how long everybody waited since the pace began.
func (g *generator) waited() error {
	now, err := g.readWaits()
	if err != nil || now == nil || g.waits == nil {
		return err
	}
	g.result.Waits = &Waits{
		Elapsed:   time.Since(g.pace.began),
		Server:    max(now.Server-g.waits.Server, 0), // a thread that ended takes its waits with it
		Generator: now.Generator - g.waits.Generator,
		Stolen:    now.Stolen - g.waits.Stolen,
	}
	return nil
}

package load

import (
	"fmt"
	"time"
)

// gather sees to it that the server has accepted all connections so far: the last one says something, which comes back to
// everybody. Servers accept in order.
func (g *generator) gather() error {
	n := len(g.conns) - 1
	line := g.text.line(g.text.start(n))
	if err := g.conns[n].put(line); err != nil {
		return err
	}
	for i := range g.conns {
		if err := g.conns[i].expect(line); err != nil {
			return fmt.Errorf("connection %d, when %d said something: %w", i, n, err)
		}
	}
	return nil
}

// say has the next member say something, which is due on all connections.
func (g *generator) say() {
	speaker := g.said % len(g.conns)
	for g.conns[speaker].fd < 0 {
		speaker = (speaker + 1) % len(g.conns)
	}
	line := g.text.start(g.said)
	g.said++
	for i := range g.conns {
		c := &g.conns[i]
		if c.fd < 0 {
			continue
		}
		c.line = line
		c.begin(g.text)
		if i != speaker {
			c.sent = len(c.batch) // by the speaker
		}
		g.busy++
	}
	g.advance(speaker)
}

// between tells whether a broadcast is over, so that counting can begin or end: only whole ones are counted. One that
// takes longer than it may is over, too.
func (g *generator) between(now time.Time) bool {
	return g.phase >= draining || g.busy == 0 || now.After(g.due.Add(g.Patience))
}

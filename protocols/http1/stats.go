package http1

import "sync/atomic"

// Counters count what happened in a Server.
type Counters struct {
	Conns     int64    // connections
	Open      int64    // of these, open now
	Responses [6]int64 // by the first digit of their status; 0: requests that got none
	Octets    int64    // of their bodies
	Received  int64    // octets of the bodies of requests
	Refused   int64    // requests that were malformed, too large or too slow
	Timeouts  int64    // of these, too slow; a client that was too slow to take its response is in Cut
	Cut       int64    // responses that are not whole
}

// totals are what is counted for all loops together: it does not happen with each request.
type totals struct {
	conns, open, refused, timeouts atomic.Int64
}

// counts are what a worker counts. Only its loop adds to them: loops do not wait for each other's memory.
type counts struct {
	responses             [6]atomic.Int64
	octets, received, cut atomic.Int64
}

// count counts a request that is over.
func (n *counts) count(x *exchange, cause error) {
	class := 0
	if x.flags&xHeadSent != 0 {
		class = x.w.status / 100
		if cause != nil && x.flags&xFinished == 0 {
			n.cut.Add(1)
		}
	}
	n.responses[class].Add(1)
	if x.w.written > 0 && !x.bodiless() {
		n.octets.Add(x.w.written)
	}
	if x.req.received > 0 {
		n.received.Add(x.req.received)
	}
}

// addTo adds what was counted to c.
func (n *counts) addTo(c *Counters) {
	for i := range n.responses {
		c.Responses[i] += n.responses[i].Load()
	}
	c.Octets += n.octets.Load()
	c.Received += n.received.Load()
	c.Cut += n.cut.Load()
}

// Counters returns what happened so far. From any goroutine.
func (srv *Server) Counters() Counters {
	t := &srv.totals
	srv.mu.Lock()
	defer srv.mu.Unlock()
	c := srv.before
	for _, w := range srv.workers {
		w.counts.addTo(&c)
	}
	c.Conns, c.Open, c.Refused, c.Timeouts = t.conns.Load(), t.open.Load(), t.refused.Load(), t.timeouts.Load()
	return c
}

// Open returns how many connections there are at the moment. From any goroutine.
func (srv *Server) Open() int { return int(srv.totals.open.Load()) }

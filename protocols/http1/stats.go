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
	Timeouts  int64    // of these, too slow
	Cut       int64    // responses that are not whole
}

type totals struct {
	conns, open, octets, received, refused, timeouts, cut atomic.Int64
	responses                                             [6]atomic.Int64
}

// count counts a request that is over.
func (t *totals) count(x *exchange, cause error) {
	class := 0
	if x.flags&xHeadSent != 0 {
		class = x.w.status / 100
		if cause != nil && x.flags&xFinished == 0 {
			t.cut.Add(1)
		}
	}
	t.responses[class].Add(1)
	if x.w.written > 0 && !x.bodiless() {
		t.octets.Add(x.w.written)
	}
	if x.req.received > 0 {
		t.received.Add(x.req.received)
	}
}

// Counters returns what happened so far. From any goroutine.
func (srv *Server) Counters() Counters {
	t := &srv.totals
	c := Counters{Conns: t.conns.Load(), Open: t.open.Load(), Octets: t.octets.Load(), Received: t.received.Load(),
		Refused: t.refused.Load(), Timeouts: t.timeouts.Load(), Cut: t.cut.Load()}
	for i := range c.Responses {
		c.Responses[i] = t.responses[i].Load()
	}
	return c
}

// Open returns how many connections there are at the moment. From any goroutine.
func (srv *Server) Open() int { return int(srv.totals.open.Load()) }

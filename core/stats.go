package core

// Stats counts what a loop did since it was made.
type Stats struct {
	Passes   uint64 // turns of the loop
	Events   uint64 // events delivered to channels
	Opened   uint64 // channels registered
	Accepted uint64 // connections accepted
	Refused  uint64 // connections closed by a listener's limit, or shed for want of a descriptor
	BytesIn  uint64 // received
	BytesOut uint64 // sent
	Panics   uint64 // recovered

	Channels int // registered now
	Timers   int // pending now
	Posts    int // waiting now
	Work     int // Go and name resolution: out now
}

func (s *Stats) add(o Stats) {
	s.Passes += o.Passes
	s.Events += o.Events
	s.Opened += o.Opened
	s.Accepted += o.Accepted
	s.Refused += o.Refused
	s.BytesIn += o.BytesIn
	s.BytesOut += o.BytesOut
	s.Panics += o.Panics
	s.Channels += o.Channels
	s.Timers += o.Timers
	s.Posts += o.Posts
	s.Work += o.Work
}

// Stats returns the counters, on the loop's goroutine.
func (l *Loop) Stats() Stats {
	s := l.stats
	s.Channels, s.Timers, s.Posts, s.Work = l.open, len(l.timers.heap), l.box.len(), l.pool.busy()
	return s
}

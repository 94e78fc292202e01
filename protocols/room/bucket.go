package room

import "time"

// bucket is a token bucket that can go into debt: a line costs a token, tokens come back with time. It never holds more
// than burst, and a member that is burst in debt does not stop.
type bucket struct {
	burst, rate float64 // tokens; tokens per second
	level       float64
	at          time.Time // when level was right
}

// verdict is what a bucket says to one line more.
type verdict uint8

const (
	inTime   verdict = iota
	tooFast          // not this one
	flooding         // and no more at all
)

func newBucket(burst int, rate float64, now time.Time) bucket {
	return bucket{burst: float64(burst), rate: rate, level: float64(burst), at: now}
}

func (b *bucket) take(now time.Time) verdict {
	b.level = min(b.burst, b.level+b.rate*now.Sub(b.at).Seconds()) - 1
	b.at = now
	switch {
	case b.level >= 0:
		return inTime
	case b.level >= -b.burst:
		return tooFast
	}
	return flooding
}

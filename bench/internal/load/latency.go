package load

import (
	"math/bits"
	"time"
)

// Latency is how long lines took: from the moment when each was to be sent, whether or not its connection was free by
// then, to the moment when all of it was back. So a server that stops for a while is charged with every line that was due
// meanwhile, and not only with those that it kept waiting on the wire: nothing is omitted because the generator had to
// wait, too.
type Latency struct {
	Lines int64         `json:"lines"` // that were due in the counted interval
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p999_ns"`
	Max   time.Duration `json:"max_ns"`

	Buckets []Bucket `json:"buckets"` // all of them
}

// Bucket counts lines that took about as long: one is kept to within 1/128 of its time.
type Bucket struct {
	Highest time.Duration `json:"ns"`
	Lines   int64         `json:"n"`
}

// Merge returns the latency of the lines of several.
func Merge(several []*Latency) *Latency {
	h := new(histogram)
	for _, l := range several {
		for _, b := range l.Buckets {
			h.counts[bucket(uint64(b.Highest))] += b.Lines
		}
		h.total += l.Lines
		h.most = max(h.most, l.Max)
	}
	return h.latency()
}

// histogram counts durations; each is kept to within 1/128 of itself.
type histogram struct {
	counts [(64 - 7 + 1) << 7]int64
	total  int64
	most   time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.total++
	h.most = max(h.most, d)
}

// bucket returns the number of the bucket that x falls into: one for each up to 255, then 128 for each doubling.
func bucket(x uint64) int {
	shift := max(bits.Len64(x)-8, 0)
	return shift<<7 + int(x>>shift)
}

// highest returns the largest number of a bucket.
func highest(bucket int) uint64 {
	shift := max(bucket>>7-1, 0)
	return uint64(bucket-shift<<7+1)<<shift - 1
}

// quantile returns the duration that a share of all of them is not above; 0 if there is none.
func (h *histogram) quantile(share float64) time.Duration {
	rank, seen := int64(share*float64(h.total)), int64(0)
	for i, n := range h.counts {
		if seen += n; n > 0 && seen > rank {
			return min(time.Duration(highest(i)), h.most)
		}
	}
	return h.most
}

func (h *histogram) latency() *Latency {
	var buckets []Bucket
	for i, n := range h.counts {
		if n > 0 {
			buckets = append(buckets, Bucket{time.Duration(highest(i)), n})
		}
	}
	return &Latency{
		Lines: h.total, Max: h.most, Buckets: buckets,
		P50: h.quantile(0.5), P90: h.quantile(0.9), P99: h.quantile(0.99), P999: h.quantile(0.999),
	}
}

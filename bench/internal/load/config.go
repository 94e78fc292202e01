// Package load makes clients of a line echo server, or of an HTTP server: many connections on one thread, each with some
// lines or requests on their way, and every byte that comes back compared with what is due.
package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// Config says what to do to a server.
type Config struct {
	Addr   string // IP:PORT
	Conns  int    // connections that speak
	Depth  int    // lines that each of them sends at a time; the next ones follow when all are back
	Length int    // of a line in bytes, with its "\n"; not with HTTP
	Idle   int    // connections beside them that say nothing

	// Rate is how many lines are sent in a second, on all connections together, whether or not the server keeps up; 0: each
	// connection sends its next lines when those before are back. It wants depth 1.
	Rate float64

	// Broadcast has the connections be members of a room: a line that one of them sends is due on all of them, and when it
	// is there, the next one sends another. It wants depth 1.
	Broadcast bool

	TLS  uint16 // its version, tls.VersionTLS12 or 13; 0: in the clear
	HTTP bool   // the lines are requests: see Body

	Warmup   time.Duration // before counting begins
	Interval time.Duration // counted; longer if nothing came back in it
	Patience time.Duration // how long to wait for an answer that is due; 5 s if 0

	Settle bool // at last, ask the server to give its garbage back: see package settle
	PID    int  // the server's process, whose CPU time and memory are read; 0: not read
}

// defaultPatience is Config.Patience unless told.
const defaultPatience = 5 * time.Second

// maxBatch bounds what one connection sends at a time, in bytes.
const maxBatch = 64 << 20

func (c *Config) check() error {
	if c.Patience <= 0 {
		c.Patience = defaultPatience
	}
	switch {
	case c.Conns < 1:
		return fmt.Errorf("%d connections: at least 1", c.Conns)
	case c.Rate != 0 && (!(c.Rate >= 1 && c.Rate <= 1e7) || c.Depth != 1):
		return fmt.Errorf("%v lines per second at depth %d: from 1 to 10 million, at depth 1", c.Rate, c.Depth)
	case c.Broadcast && (c.Depth != 1 || c.Rate != 0 || c.Idle > 0 || c.HTTP):
		return errors.New("broadcast: depth 1, no rate, no idle connections, no HTTP")
	case c.Depth < 1:
		return fmt.Errorf("depth %d: at least 1", c.Depth)
	case c.HTTP && (c.Length != 0 || c.Idle > 0 || c.Depth > maxBatch/len(request)/16):
		return errors.New("HTTP: no length, no idle connections, and there is a bound to the depth")
	case !c.HTTP && (c.Length < 2 || c.Length > maxBatch/c.Depth):
		return fmt.Errorf("lines of %d bytes at depth %d: at least 2, and together at most %d", c.Length, c.Depth, maxBatch)
	case c.Idle < 0:
		return fmt.Errorf("%d idle connections", c.Idle)
	case c.TLS != 0 && c.TLS != tls.VersionTLS12 && c.TLS != tls.VersionTLS13:
		return fmt.Errorf("TLS %#x: a version that is not known here", c.TLS)
	case c.Interval <= 0 || c.Warmup < 0:
		return fmt.Errorf("warm-up %v, interval %v: not a time to count in", c.Warmup, c.Interval)
	}
	return nil
}

// Result is what came of it.
type Result struct {
	Lines   float64       `json:"lines"`      // or responses, copies, messages; by the length of one, as bytes are compared
	Elapsed time.Duration `json:"elapsed_ns"` // how long the interval really was
	CPU     time.Duration `json:"cpu_ns"`     // that the server used in it
	User    time.Duration `json:"user_ns"`    // the kernel's estimate, in steps of 10 ms, of how CPU divides
	System  time.Duration `json:"system_ns"`

	Latency *Latency `json:"latency,omitempty"` // with Config.Rate
	Waits   *Waits   `json:"waits,omitempty"`   // with Config.Rate and PID, where the kernel tells them

	Errors int    `json:"errors"`                // connections that got wrong bytes, or none in time, or were lost; at any time
	First  string `json:"first_error,omitempty"` // of these
}

// Err returns the errors as one, or nil if there was none.
func (r *Result) Err() error {
	switch r.Errors {
	case 0:
		return nil
	case 1:
		return errors.New(r.First)
	}
	return fmt.Errorf("%s (and %d more connections failed)", r.First, r.Errors-1)
}

// Waits is how long what was measured had to wait for others, from the beginning of the warm-up until the last line was
// back: the threads of the server and the one of the generator, for a CPU; and the CPUs of both, for the host. Threads of a
// server wait for each other, too.
type Waits struct {
	Elapsed   time.Duration `json:"elapsed_ns"`
	Server    time.Duration `json:"server_ns"`
	Generator time.Duration `json:"generator_ns"`
	Stolen    time.Duration `json:"stolen_ns"` // in steps of 10 ms
}

// Memory is what idle connections cost the server.
type Memory struct {
	Conns int   `json:"conns"`       // how many there were
	Base  int64 `json:"base_bytes"`  // resident before the first
	Fresh int64 `json:"fresh_bytes"` // when all were accepted
	Spoke int64 `json:"spoke_bytes"` // when each had one line echoed

	// With Config.Settle also without garbage.
	SettledBase int64 `json:"settled_base_bytes,omitempty"`
	Settled     int64 `json:"settled_bytes,omitempty"`
}

// PerConn returns bytes per connection, fresh and after it spoke.
func (m *Memory) PerConn() (fresh, spoke float64) {
	n := float64(m.Conns)
	return float64(m.Fresh-m.Base) / n, float64(m.Spoke-m.Base) / n
}

// PerConnSettled returns bytes per connection without garbage.
func (m *Memory) PerConnSettled() float64 { return float64(m.Settled-m.SettledBase) / float64(m.Conns) }

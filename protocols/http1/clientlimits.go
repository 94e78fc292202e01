package http1

import (
	"time"

	"github.com/parley-go/parley/buffered"
)

// ClientTimeouts are how long a Client waits. 0 is the default; negative is for ever, unless the comment says otherwise.
// The time for connecting is that of Client.Dialer.
type ClientTimeouts struct {
	// TLS is for a handshake: 10 seconds.
	TLS time.Duration

	// Head is from the end of the request to the end of the response's head, interim responses included; of a proxy to
	// that of its answer to CONNECT: 60 seconds.
	Head time.Duration

	// Read is for the next octets of a body: 60 seconds. While a call is paused it does not count.
	Read time.Duration

	// Write is how long the server may take nothing of the request: 30 seconds.
	Write time.Duration

	// Continue is how long to wait for "100 Continue" before the body is sent without: 1 second. See Outgoing.Expect. A
	// server may be older than that: RFC 9110 section 10.1.1 has the client not wait for ever.
	Continue time.Duration

	// Total is for a whole call, from Do on, with its redirections: none if 0.
	Total time.Duration

	// Idle is how long a connection is kept without a request: 30 seconds.
	Idle time.Duration
}

func (t *ClientTimeouts) setDefaults() {
	or(&t.TLS, 10*time.Second)
	or(&t.Head, time.Minute)
	or(&t.Read, time.Minute)
	or(&t.Write, 30*time.Second)
	or(&t.Continue, time.Second)
	or(&t.Idle, 30*time.Second)
}

// ClientLimits bound what a Client holds, and what a server can send. A field that is 0 has the default that its comment
// gives; a negative one is no bound, unless the comment says otherwise. A response that is over a bound is an error:
// ErrResponse, or for the body core.ErrTooLong.
type ClientLimits struct {
	// StatusLine is the longest status line, FieldLine the longest header field, in octets without CRLF, Fields how many a
	// response can have, and FieldBytes how long they can be all together: 8,192, 16,384, 200 and 65,536. What is no bound
	// is 1 MiB, but for Fields.
	StatusLine int
	FieldLine  int
	Fields     int
	FieldBytes int

	// Interim is how many interim responses (1xx) may come before a final one: 8.
	Interim int

	// ChunkLine is the longest line in front of a chunk, in octets without its CRLF, ChunkExtensions how long all chunk
	// extensions of a body can be together, Trailers how long the trailer section: 256, 16,384 and 8,192. What is no bound
	// is 1 MiB.
	ChunkLine       int
	ChunkExtensions int
	Trailers        int

	// Body is the largest body of a response, in octets: no bound if 0, as it is handed on and not held.
	// Outgoing.BodyLimit is one for a single call.
	Body int64

	// Drain is how much of a body that nobody wants (that of a redirection) is read and dropped, in octets, so that the
	// connection can be used again: 64 KiB.
	Drain int64

	// Conns is how many connections there are at a time, ConnsPerHost how many to one host: 256 and 8.
	Conns        int
	ConnsPerHost int

	// Idle is how many connections are kept without a request, IdlePerHost how many to one host: 64 and 4. Negative is none.
	Idle        int
	IdlePerHost int

	// Waiting is how many calls may have no connection yet: 10,000.
	Waiting int
}

func (l *ClientLimits) setDefaults() {
	or(&l.StatusLine, 8192)
	or(&l.FieldLine, 16<<10)
	or(&l.Fields, 200)
	or(&l.FieldBytes, 64<<10)
	or(&l.Interim, 8)
	or(&l.ChunkLine, 256)
	or(&l.ChunkExtensions, 16<<10)
	or(&l.Trailers, 8<<10)
	or(&l.Drain, 64<<10)
	or(&l.Conns, 256)
	or(&l.ConnsPerHost, 8)
	or(&l.Idle, 64)
	or(&l.IdlePerHost, 4)
	or(&l.Waiting, 10_000)
	for _, n := range []*int{&l.StatusLine, &l.FieldLine, &l.FieldBytes, &l.ChunkLine, &l.ChunkExtensions, &l.Trailers} {
		if *n < 0 { // what is collected lies in memory: some bound there must be
			*n = 1 << 20
		}
	}
	l.Conns, l.ConnsPerHost = atLeastOne(l.Conns), atLeastOne(l.ConnsPerHost)
}

func atLeastOne(n int) int {
	if n < 0 {
		return 1<<31 - 1
	}
	return n
}

func (l *ClientLimits) head() headLimits {
	return headLimits{startLine: l.StatusLine, fieldLine: l.FieldLine, all: l.FieldBytes, fields: max(l.Fields, 0)}
}

// clientMarks let a connection be read while a request is sent: a server that has something to say in the middle of a
// request is heard, and one that answers as it reads is not in its own way.
var clientMarks = &buffered.Marks{Low: 128 << 10, High: 256 << 10, Limit: buffered.DefaultMarks.Limit}

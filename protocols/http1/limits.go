package http1

import "time"

// Limits bound what one client can ask of a Server. A field that is 0 has the default that its comment gives; a negative one
// is no bound, unless the comment says otherwise. No bound is 1 MiB for what has to be collected: a line, the fields, the
// trailers.
type Limits struct {
	// RequestLine is the longest request line, in octets without its CRLF: 8,192; RFC 9112 section 3 wants 8,000 or more. A
	// longer one is answered with 414.
	RequestLine int

	// FieldLine is the longest header field, Fields is how many a request can have, and FieldBytes is how long they can be all
	// together, in octets: 16,384, 200 and 65,536. More is answered with 431.
	FieldLine  int
	Fields     int
	FieldBytes int

	// ChunkLine is the longest line in front of a chunk, in octets without its CRLF: 256. ChunkExtensions is how long all chunk
	// extensions of a body can be together: 16,384. More is answered with 400. Trailers is how long the trailer section can
	// be: 8,192; more is answered with 431.
	ChunkLine       int
	ChunkExtensions int
	Trailers        int

	// Body is the largest body of a request, in octets: 10 MiB. A larger one is answered with 413. A handler can set another
	// bound for its request: Request.SetBodyLimit.
	Body int64

	// Drain is how much of a body that no handler asked for is read and dropped, in octets, so that the connection can be used
	// for the next request: 256 KiB. When there is more the connection is closed after the response.
	Drain int64

	// FirstByteTimeout is how long a new connection may be silent: 10 seconds. IdleTimeout is how long it may be silent after a
	// response: 60 seconds. Then it is closed without a word. TLSTimeout is how long the handshake of TLS may take: 10
	// seconds.
	FirstByteTimeout time.Duration
	IdleTimeout      time.Duration
	TLSTimeout       time.Duration

	// HeadTimeout is how long a head may take from its first octet to its last: 10 seconds. BodyTimeout is how long the next
	// octets of a body may take: 30 seconds. Then the request is answered with 408. What a handler takes is not counted.
	HeadTimeout time.Duration
	BodyTimeout time.Duration

	// BodyRate is how many octets of a body have to come in a second, on an average over each minute: 1,024. Fewer are
	// answered with 408.
	BodyRate int64

	// WriteTimeout is how long a client may take nothing of a response that waits for it: 30 seconds. WriteRate is how many
	// octets of it the client has to take in a second, on an average over each minute in which some wait for it all the time:
	// 256, as several responses may share a slow line. Then the connection is closed. What the system's buffers hold does not
	// wait, but see core.Dispatcher.SetWriteTimeout; nor does what a handler has not made yet, such as an event.
	WriteTimeout time.Duration
	WriteRate    int64

	// Requests is how many requests a connection can have: no bound. The last is answered with "Connection: close".
	Requests int

	// Conns is how many connections a listener has open at a time: 10,000; ConnsPerAddr how many of them from one address
	// (core.Limit): 512. Further ones get 503, in the clear also where TLS is spoken, and are closed.
	Conns        int
	ConnsPerAddr int
}

func (l *Limits) setDefaults() {
	or(&l.RequestLine, 8192)
	or(&l.FieldLine, 16<<10)
	or(&l.Fields, 200)
	or(&l.FieldBytes, 64<<10)
	or(&l.ChunkLine, 256)
	or(&l.ChunkExtensions, 16<<10)
	or(&l.Trailers, 8<<10)
	or(&l.Body, 10<<20)
	or(&l.Drain, 256<<10)
	or(&l.FirstByteTimeout, 10*time.Second)
	or(&l.IdleTimeout, time.Minute)
	or(&l.TLSTimeout, 10*time.Second)
	or(&l.HeadTimeout, 10*time.Second)
	or(&l.BodyTimeout, 30*time.Second)
	or(&l.BodyRate, 1024)
	or(&l.WriteTimeout, 30*time.Second)
	or(&l.WriteRate, 256)
	or(&l.Requests, -1)
	or(&l.Conns, 10_000)
	or(&l.ConnsPerAddr, 512)
	for _, n := range []*int{&l.RequestLine, &l.FieldLine, &l.FieldBytes, &l.ChunkLine, &l.Trailers} {
		if *n < 0 { // what is collected lies in memory: some bound there must be
			*n = 1 << 20
		}
	}
}

// head is what the parser needs of the limits.
func (l *Limits) head() headLimits {
	return headLimits{startLine: l.RequestLine, fieldLine: l.FieldLine, all: l.FieldBytes, fields: max(l.Fields, 0)}
}

// headToken is the longest head: beyond it nothing is collected. What is longer and could be told more exactly, is.
func (l *Limits) headToken() int { return l.RequestLine + l.FieldBytes + 4 }

// or gives *v a value if it has none.
func or[T comparable](v *T, otherwise T) {
	var none T
	if *v == none {
		*v = otherwise
	}
}

// exceeds tells whether n is more than a limit that may be no bound.
func exceeds[T int | int64](n, limit T) bool { return limit >= 0 && n > limit }

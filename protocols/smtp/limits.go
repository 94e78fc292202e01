package smtp

import (
	"strconv"
	"time"
)

// Limits bound what one client can ask of a Server. A field that is 0 has the default that its comment gives; a negative
// one is no bound, unless the comment says otherwise.
type Limits struct {
	// CommandLine is the longest command, in octets with its CRLF: 4,096; the floor of RFC 5321 section 4.5.3.1.4 is 512
	// and what extensions add. A longer one is dropped and answered with 500. ExactCommandLine makes it 512, and for MAIL
	// and RCPT what the extensions add that are offered.
	CommandLine      int
	ExactCommandLine bool

	// AuthLine is CommandLine for AUTH and what the client answers in it: 12,288 (RFC 4954 section 4).
	AuthLine int

	// TextLine is the longest line of a message, in octets with its CRLF: 65,536. 1,000 is what RFC 5321 section 4.5.3.1.6
	// demands to take, and many send more. A message with a longer one is read to its end and refused with 554.
	TextLine int

	// MessageSize is the largest message, in octets: 25 MiB. It is what SIZE announces; a larger one is refused with 552,
	// at MAIL if that says so, otherwise at the end. It counts what the client sends, without dot-stuffing.
	MessageSize int64

	// Recipients is how many recipients a message can have: 1,000. LIMITS announces it; the next is answered with 452,
	// and those before stay.
	Recipients int

	// Transactions is how many MAIL a connection can have: 1,000. LIMITS announces it; the next is answered with 421, and
	// the connection is closed.
	Transactions int

	// Commands is how many commands a connection can have, of any kind: 100,000. At the next it is closed with 421.
	Commands int

	// Errors is how many wrong commands a connection can have: 10; Junk how many that do nothing (NOOP, RSET, VRFY, EXPN,
	// HELP, EHLO again): 100. At the next it is closed with 421. A message that is accepted forgives both. What a hook
	// refuses is no wrong command.
	Errors int
	Junk   int

	// AuthFailures is how many failed AUTH a connection can have: 3. The last is answered with 421, and the connection is
	// closed. AuthDelay is how long the answer to a failed one takes: 1 second.
	AuthFailures int
	AuthDelay    time.Duration

	// Hops is how many Received header fields a message can have when it comes: 100. With more it is refused with 554,
	// as it goes in a circle (RFC 5321 section 6.3).
	Hops int

	// IdleTimeout is how long the client may take for its next command, and in a message for its next octets: 5 minutes
	// (RFC 5321 section 4.5.3.2.7). DataTimeout is how long a whole message may take: 10 minutes. TLSTimeout is how long
	// the handshake of TLS may take: 10 seconds. Then the connection is closed, with 421 where that can be said. What a
	// hook takes is not counted.
	IdleTimeout time.Duration
	DataTimeout time.Duration
	TLSTimeout  time.Duration

	// Conns is how many connections a listener has open at a time: 1,000; ConnsPerAddr how many of them from one address
	// (core.Limit): 50. Further ones get 421 and are closed.
	Conns        int
	ConnsPerAddr int
}

// The lengths of what an address consists of, in octets. RFC 5321 section 4.5.3.1 demands 64, 255 and 256.
const (
	MaxLocalPart = 256
	MaxDomain    = 255
	MaxPath      = 1024 // with brackets and source route
)

const rfcCommandLine = 512

func (l *Limits) setDefaults() {
	or(&l.CommandLine, 4096)
	or(&l.AuthLine, 12288)
	or(&l.TextLine, 65536)
	or(&l.MessageSize, 25<<20)
	or(&l.Recipients, 1000)
	or(&l.Transactions, 1000)
	or(&l.Commands, 100_000)
	or(&l.Errors, 10)
	or(&l.Junk, 100)
	or(&l.AuthFailures, 3)
	or(&l.AuthDelay, time.Second)
	or(&l.Hops, 100)
	or(&l.IdleTimeout, 5*time.Minute)
	or(&l.DataTimeout, 10*time.Minute)
	or(&l.TLSTimeout, 10*time.Second)
	or(&l.Conns, 1000)
	or(&l.ConnsPerAddr, 50)
	if l.CommandLine < 0 { // what is collected lies in memory: some bound there must be
		l.CommandLine = 1 << 20
	}
	if l.AuthLine < 0 {
		l.AuthLine = 1 << 20
	}
}

// or gives *v a value if it has none.
func or[T comparable](v *T, otherwise T) {
	var none T
	if *v == none {
		*v = otherwise
	}
}

// exceeds tells whether n is more than a limit that may be no bound.
func exceeds[T int | int64](n, limit T) bool { return limit >= 0 && n > limit }

// announced is what LIMITS says: RFC 9422 section 4, which has six digits for a number.
func (l *Limits) announced() (text string) {
	if n := l.Transactions; n > 0 && n < 1_000_000 {
		text += " MAILMAX=" + strconv.Itoa(n)
	}
	if n := l.Recipients; n > 0 && n < 1_000_000 {
		text += " RCPTMAX=" + strconv.Itoa(n)
	}
	return text
}

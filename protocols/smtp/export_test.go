package smtp

import (
	"crypto/tls"
	"time"

	"github.com/parley-go/parley/chat"
)

// FakeTLS replaces what STARTTLS does until restore is called.
func FakeTLS(upgrade func(c *chat.Conn, cfg *tls.Config) (int, error)) (restore func()) {
	was := upgradeTLS
	upgradeTLS = upgrade
	return func() { upgradeTLS = was }
}

// FixRandom makes challenges foreseeable until restore is called.
func FixRandom() (restore func()) {
	was := random
	random = func(p []byte) { clear(p) }
	return func() { random = was }
}

// For fuzzing.
var ParseSize = parseSize

// Held is how many octets the session keeps of what the client sent.
func (s *Session) Held() int { return cap(s.buf) }

// FakeClientTLS replaces what a Client does for TLS until restore is called.
func FakeClientTLS(start func(c *chat.Conn, cfg *tls.Config) (int, error)) (restore func()) {
	was := startClientTLS
	startClientTLS = start
	return func() { startClientTLS = was }
}

// ParseReply reads a reply from lines, and answers how many of them it read.
func ParseReply(lines []string) (r *Reply, n int, err error) {
	var p replyParser
	for _, line := range lines {
		n++
		if r, err = p.line([]byte(line)); r != nil || err != nil {
			break
		}
	}
	if r != nil {
		r.takeEnhanced()
	}
	return r, n, err
}

var ReadOffers = readOffers

// Stuff returns what is sent of a message that comes in these pieces, and whether a CR or LF stood by itself in it.
func Stuff(dots bool, pieces ...[]byte) (out []byte, bare bool) {
	d := stuffer{dots: dots}
	for _, p := range pieces {
		out = d.append(out, p)
	}
	return d.end(out), d.bare
}

// StuffTo is for the benchmark.
func StuffTo(out, text []byte) []byte {
	d := stuffer{dots: true}
	return d.end(d.append(out, text))
}

// ClientHeld is how many octets a Client keeps of what the server said.
func ClientHeld(c *Client) int {
	n := cap(c.buf)
	for _, l := range c.reply.lines {
		n += len(l)
	}
	return n
}

// WaitForAborts waits until what was given up is removed.
func WaitForAborts() { aborts.Wait() }

// DefaultRelayLimits are those of a Relay that has none.
func DefaultRelayLimits() (l RelayLimits) {
	l.setDefaults()
	return l
}

// RelayQueue is what a Relay asks of its queue.
type RelayQueue = relayQueue

// WrapRelayQueue puts something between Relays and their queues until restore is called.
func WrapRelayQueue(wrap func(RelayQueue) RelayQueue) (restore func()) {
	was := openRelayQueue
	openRelayQueue = func(dir string) (relayQueue, error) {
		q, err := was(dir)
		if err != nil {
			return nil, err
		}
		return wrap(q), nil
	}
	return func() { openRelayQueue = was }
}

// ParseHead reads an envelope, and answers how it would be written.
func ParseHead(head []byte) ([]byte, error) {
	m, err := parseHead(head)
	if err != nil {
		return nil, err
	}
	return m.appendHead(nil)
}

// ParseNote reads the note of a message of n recipients, and answers how it would be written.
func ParseNote(n int, note []byte) ([]byte, error) {
	m := &held{to: make([]Recipient, n), done: make([]bool, n)}
	if err := m.applyNote(note); err != nil {
		return nil, err
	}
	return m.note(), nil
}

// ReadHead reads from the beginning of a file.
var ReadHead = readHead

// MakeHead writes an envelope.
func MakeHead(id string, at time.Time, e *Envelope) ([]byte, error) {
	_, head, err := newHeld(id, at, e)
	return head, err
}

// ReadEnvelope reads one.
func ReadEnvelope(head []byte) (*Envelope, error) {
	m, err := parseHead(head)
	if err != nil {
		return nil, err
	}
	return &Envelope{From: m.from, To: m.to, Params: m.params}, nil
}

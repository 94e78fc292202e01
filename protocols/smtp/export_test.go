package smtp

import (
	"crypto/tls"

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

// WaitForAborts waits until what was given up is removed.
func WaitForAborts() { aborts.Wait() }

package echo

import (
	"net"
	"net/netip"
	"time"

	"github.com/parley-go/parley/core"
)

const (
	// MinSourcePort is the lowest port that a datagram may come from to be answered. Below it are the ports of services,
	// which answer what we answer; no client sends from there.
	MinSourcePort = 1024

	// DefaultRate is how many datagrams a second are answered unless Guard.Rate says otherwise.
	DefaultRate = 1000
)

// Guard decides which datagrams are answered. The source address of a datagram is what its sender wrote there. So one
// that is forged to come from the chargen port of another machine, sent to an echo service, has the two answer each other
// until somebody pulls a plug (CERT advisory CA-1996-01), and one that bears a victim's address has us send the victim
// what the attacker would not send itself. Therefore:
//
//   - A datagram from a port below MinSourcePort is not answered: echo, discard, daytime, chargen, time, DNS and their
//     like are there.
//   - Nor is one from the port that it was sent to: the same service on another machine, or this very one.
//   - At most Rate datagrams a second are answered. That bounds a loop with a service on a high port, which nobody can
//     tell from a client, and what a victim gets.
//   - No answer of this package is longer than its question, but for the time of day.
//
// What is not answered is dropped without a word, and so is an answer that cannot be sent at once: the RFCs promise
// nothing else, and a queue of answers is what a flood would fill.
//
// It does not see where a datagram was sent to. A service that is bound to all addresses also hears broadcasts, and then
// every machine of a network answers one forged question: bind it to an address of its own.
type Guard struct {
	// Rate is the most datagrams that are answered in a second, as the loop's clock counts them: DefaultRate if 0,
	// any number if negative.
	Rate int

	second time.Time // when the current second began
	used   int       // of its Rate
}

// answer sends p, unless the rules above say no.
func (g *Guard) answer(d *core.Dispatcher, p []byte, to netip.AddrPort) {
	if to.Port() < MinSourcePort || to.Port() == ownPort(d) || !g.withinRate(d.Loop().Now()) {
		return
	}
	// An error is that of this datagram, or the loop's business: returning it would close the channel for all.
	_ = d.SendTo(p, to)
}

func (g *Guard) withinRate(now time.Time) bool {
	rate := g.Rate
	if rate == 0 {
		rate = DefaultRate
	}
	if now.Sub(g.second) >= time.Second {
		g.second, g.used = now, 0
	}
	g.used++
	return rate < 0 || g.used <= rate
}

// ownPort is 0 for a channel that has none, such as a unixgram one.
func ownPort(d *core.Dispatcher) uint16 {
	if a, ok := d.LocalAddr().(*net.UDPAddr); ok {
		return uint16(a.Port)
	}
	return 0
}

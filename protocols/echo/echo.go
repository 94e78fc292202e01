package echo

import (
	"net/netip"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// Stream is a newHandler, for chat.Listen, whose conversations send back whatever arrives, as it arrives: RFC 862, "TCP
// Based Echo Service". The service is over when the peer ends its stream; what came before is still echoed.
//
// No terminator is set, so there are no tokens: data is whatever one read gave, and is pushed before it is forgotten.
// When the peer does not read its echoes they queue up; above buffered.Marks.High it is not read from any more, until
// the queue is down to the low mark. So it is the peer that stops, and the memory that it costs is bounded.
func Stream(c *chat.Conn) chat.Handler {
	c.SetIdleTimeout(DefaultIdleTimeout)
	return chat.Data(func(c *chat.Conn, p []byte) error { return c.Push(p) })
}

// Packets is a handler, for core.ListenPacket, that sends each datagram back to where it came from: RFC 862, "UDP Based
// Echo Service". The zero value is ready for use, by one channel.
type Packets struct{ Guard }

// HandlePacket echoes p, also an empty one.
func (h *Packets) HandlePacket(d *core.Dispatcher, p []byte, from netip.AddrPort) error {
	h.answer(d, p, from)
	return nil
}

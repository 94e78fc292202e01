package echo

import (
	"net/netip"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// Discard is a newHandler, for chat.Listen, whose conversations read and say nothing: RFC 863, "TCP Based Discard
// Service". The service is over when the peer ends its stream.
//
// Reading is what makes it a service: the loop takes the bytes from the kernel, the peer's window opens, and it can send
// on. A handler that wanted no input would stop its peer instead; see chat.Conn.Pause.
func Discard(c *chat.Conn) chat.Handler {
	c.SetIdleTimeout(DefaultIdleTimeout)
	return chat.Data(discard)
}

// discard has borrowed the bytes and does nothing with them. That is all there is to throwing them away.
func discard(*chat.Conn, []byte) error { return nil }

// DiscardPackets is a handler, for core.ListenPacket, that takes every datagram and answers none: RFC 863, "UDP Based
// Discard Service". It can be used by any number of channels.
type DiscardPackets struct{}

// HandlePacket does nothing. The one service here that needs no Guard.
func (DiscardPackets) HandlePacket(*core.Dispatcher, []byte, netip.AddrPort) error { return nil }

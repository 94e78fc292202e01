package echo

import (
	"net/netip"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// DaytimeLayout is how the time is told, for time.Time.Format: the first of the two syntaxes under "Daytime Syntax" of RFC
// 867, and a CRLF. In UTC it is at most 44 bytes long.
const DaytimeLayout = "Monday, January 2, 2006 15:04:05-MST\r\n"

// Daytime is a newHandler, for chat.Listen, whose conversations tell the time in UTC, and close: RFC 867, "TCP Based
// Daytime Service". Nothing that the peer says is looked at.
//
// CloseWhenDone and not Close: the time is queued here and sent when this event is over, and Close would drop it. It also
// sees to it that input which is there already does not turn the close into a reset, which could destroy the answer, and
// that a peer that does not take the answer is not waited for longer than buffered.DefaultCloseTimeout.
func Daytime(c *chat.Conn) chat.Handler {
	_ = c.Push(daytime(c.Loop())) // refused only when c is closed already
	c.CloseWhenDone()
	return chat.Data(discard)
}

// daytime asks the loop and not package time, so that under core/sim the answer is the test's to decide. The loop's clock
// is the machine's as it was when the loop was made, and runs on evenly: it does not see when that is set later.
func daytime(l *core.Loop) []byte { return l.Now().UTC().AppendFormat(nil, DaytimeLayout) }

// DaytimePackets is a handler, for core.ListenPacket, that answers each datagram with the time in UTC: RFC 867, "UDP Based
// Daytime Service". The zero value is ready for use, by one channel.
//
// An answer is longer than a question that is empty: with the headers of IPv4 and UDP, 72 octets for 28. A question that
// were required to be as long would be safer, and no client sends one.
type DaytimePackets struct{ Guard }

// HandlePacket does not look at the datagram at all.
func (h *DaytimePackets) HandlePacket(d *core.Dispatcher, _ []byte, from netip.AddrPort) error {
	h.answer(d, daytime(d.Loop()), from)
	return nil
}

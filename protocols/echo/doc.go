// Package echo holds the smallest protocols there are, one file each. They are the small servers that a machine used to
// run so that its network could be tried out, and still the shortest way to see how a conversation is written.
//
// Each comes as a newHandler for chat.Listen, and as a handler for core.ListenPacket. The table of contents, in the order
// in which the files are meant to be read, with what each has to teach:
//
//   - lines.go: [Lines], the echo of lines. A terminator, and a handler that is a func.
//   - echo.go: [Stream] and [Packets], RFC 862. Data is handed on as it comes; who does not read the answers is held back
//     by the marks of the output queue.
//   - discard.go: [Discard] and [DiscardPackets], RFC 863. Reading only: a handler that never writes.
//   - chargen.go: [Chargen] and [ChargenPackets], RFC 864. A producer is asked when the peer took what came before, so that
//     an endless stream needs no memory; input comes all the same, and goes nowhere.
//   - daytime.go: [Daytime] and [DaytimePackets], RFC 867. Push and CloseWhenDone, and the loop's clock, which a test sets.
//   - guard.go: [Guard]. What not to answer.
//
// The RFCs are of May 1983, two pages each, without numbered sections: comments cite their headings.
//
// # Limits
//
// Stream, Discard and Chargen close with core.ErrTimeout when nothing was sent and nothing received for
// [DefaultIdleTimeout]. It is set before newHandler returns, so that a newHandler around it can set another one:
//
//	func(c *chat.Conn) chat.Handler {
//		h := echo.Stream(c)
//		c.SetIdleTimeout(time.Minute)
//		return h
//	}
//
// How many connections there may be is the listener's to bound: see core.Limit.
//
// # Datagrams on the open internet
//
// Whoever answers datagrams from anywhere sends them wherever a forged source address points, and two such services can
// be made to answer each other for ever. [Guard] tells which datagrams get no answer for that reason; it bounds the
// harm, and does not undo it. Bind these services to an address of a network that you trust, not to all addresses.
package echo

import "time"

// DefaultIdleTimeout is how long Stream, Discard and Chargen stay open without a byte in either direction. A peer that
// reads nothing of its answers sends nothing either, as soon as those are held back, and so it is bounded by this, too.
const DefaultIdleTimeout = 5 * time.Minute

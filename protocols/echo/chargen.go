package echo

import (
	"io"
	"net/netip"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

const (
	// DefaultChargenLimit is how many bytes one connection to Chargen is sent unless told otherwise: 1 GiB.
	DefaultChargenLimit = 1 << 30

	// MaxChargenPacket is the most characters in a datagram of chargen: RFC 864, "UDP Based Character Generator Service".
	MaxChargenPacket = 512
)

// Chargen returns a newHandler, for chat.Listen, whose conversations send lines of characters for as long as the peer
// reads them, and throw away what it sends: RFC 864, "TCP Based Character Generator Service". After limit bytes the
// connection is closed; 0 means DefaultChargenLimit, negative never, which is what the RFC has.
//
// The characters come from a producer (buffered.Producer). Nothing is made ahead: it is asked for a block when the peer
// took the one before, so an endless stream costs no more memory than a short one.
//
// The RFC tells the two ways in which the peer ends it, "the carefull close or the rude abort". After the first, the end
// of its stream, it is sent the rest of the block that is under way, and the end. After the second nothing can be sent,
// and the connection closes with the error of the attempt.
func Chargen(limit int64) func(*chat.Conn) chat.Handler {
	if limit == 0 {
		limit = DefaultChargenLimit
	}
	return func(c *chat.Conn) chat.Handler {
		c.SetIdleTimeout(DefaultIdleTimeout)
		g := &generator{c: c, left: limit}
		_ = c.PushProducer(g) // refused only when c is closed already
		return g
	}
}

// generator is both ends of the service: the conversation's handler, and the producer of its output.
type generator struct {
	c     *chat.Conn
	at    int   // in pattern
	left  int64 // negative: endless
	cause error // why it ends, for HandleClose
}

// More gives the next block, and none any more when the service is over.
func (g *generator) More(limit int) ([]byte, error) {
	if g.left == 0 {
		return nil, io.EOF
	}
	block := pattern[g.at:min(g.at+limit, len(pattern))]
	if g.left > 0 {
		block = block[:min(int64(len(block)), g.left)]
		g.left -= int64(len(block))
	}
	g.at = (g.at + len(block)) % len(pattern)
	return block, nil
}

// Close is called when the producer has ended, or because the connection is closed. It is the place to ask for the close
// and not before: the close timeout runs from CloseWhenDone on, and would be the end of a peer that reads slowly.
func (g *generator) Close() error {
	g.c.CloseWhenDoneWith(g.cause)
	return nil
}

// CollectIncomingData throws the input away. It is read all the same: it must not pile up in the peer's kernel, and the
// end of it is how the peer says that it has had enough.
func (g *generator) CollectIncomingData(*chat.Conn, []byte) error { return nil }

// FoundTerminator is never called: there is no terminator.
func (g *generator) FoundTerminator(*chat.Conn) error { return nil }

// HandleEOF is the careful close. Without it the connection would be closed when all output is sent, which an endless
// producer never comes to.
func (g *generator) HandleEOF(c *chat.Conn) error {
	g.end(io.EOF)
	return nil
}

// HandleShutdown ends the stream in the same way.
func (g *generator) HandleShutdown(c *chat.Conn) error {
	g.end(core.ErrShutdown)
	return nil
}

// end lets the producer run out. From here on the close timeout is wanted: the peer may have stopped reading.
func (g *generator) end(cause error) {
	g.left, g.cause = 0, cause
	g.c.CloseWhenDoneWith(cause)
}

// ChargenPackets is a handler, for core.ListenPacket, that answers each datagram with characters: RFC 864, "UDP Based
// Character Generator Service". The zero value is ready for use, by one channel.
//
// The RFC has a random number of characters, between 0 and 512. Here it is the number of octets that came, and at most
// 512: within the RFC, and never more than the asker spent. With 512 for every question, a forged empty one would be
// worth nineteen times its size to whoever wants to flood its supposed sender.
type ChargenPackets struct{ Guard }

// HandlePacket looks at no more than the length of p. Each answer begins with the first line.
func (h *ChargenPackets) HandlePacket(d *core.Dispatcher, p []byte, from netip.AddrPort) error {
	h.answer(d, pattern[:min(len(p), MaxChargenPacket)], from)
	return nil
}

const (
	chars       = 95 // from space to "~": the printing characters of ASCII
	charsInLine = 72
)

// pattern is the one that RFC 864 recommends under "Data Syntax": line n holds 72 characters of the ring, from number n
// on. After 95 lines it repeats. It is shared by all conversations and never written to.
var pattern = makePattern()

func makePattern() []byte {
	p := make([]byte, 0, chars*(charsInLine+len("\r\n")))
	for line := range chars {
		for i := range charsInLine {
			p = append(p, byte(' '+(line+i)%chars))
		}
		p = append(p, "\r\n"...)
	}
	return p
}

package room

import (
	"fmt"
	"time"

	"github.com/parley-go/parley/buffered"
)

// Kind is what a Message tells.
type Kind uint8

// The kinds of messages.
const (
	Said    Kind = iota // From says Text to the room
	Acted               // From does Text: /me
	Told                // From says Text to one member alone
	Joined              // From has come into the room
	Left                // From has left the room; Text is why, or ""
	Renamed             // From is called Text now
)

// Message is something that was said, or that happened, in a room. All who hear it share one: it must not be changed, and
// may be kept. A House has rendered it before anybody hears it.
type Message struct {
	Time time.Time // on the loop's clock
	Kind Kind
	Room string // "" for Told
	From string // a nickname
	Via  string // the protocol by which somebody spoke who is no member: see House.Post
	Text string // clean: see Clean

	line *buffered.Shared
}

// Line returns the message as a line for a terminal, with CR LF. It is rendered once: everybody gets the same bytes, which
// must not be changed.
func (m *Message) Line() []byte { return m.Shared().Bytes() }

// Shared is Line for chat.Conn.PushShared: all who hear the message have the same bytes. Whoever keeps it calls Retain.
func (m *Message) Shared() *buffered.Shared {
	if m.line == nil {
		m.line = buffered.NewShared(m.render())
	}
	return m.line
}

func (m *Message) render() []byte {
	p := m.Time.AppendFormat(make([]byte, 0, len(m.From)+len(m.Text)+32), "[15:04] ")
	switch m.Kind {
	case Said:
		p = fmt.Appendf(p, "<%s> %s", m.who(), m.Text)
	case Acted:
		p = fmt.Appendf(p, "* %s %s", m.who(), m.Text)
	case Told:
		p = fmt.Appendf(p, "(%s, to you alone) %s", m.who(), m.Text)
	case Joined:
		p = fmt.Appendf(p, "-- %s has joined", m.From)
	case Left:
		p = fmt.Appendf(p, "-- %s has left", m.From)
		if m.Text != "" {
			p = fmt.Appendf(p, " (%s)", m.Text)
		}
	case Renamed:
		p = fmt.Appendf(p, "-- %s is now called %s", m.From, m.Text)
	}
	return append(p, "\r\n"...)
}

// who is the speaker. A member's name has no spaces, so that nobody outside can pass for one.
func (m *Message) who() string {
	if m.Via == "" {
		return m.From
	}
	return m.From + " via " + m.Via
}

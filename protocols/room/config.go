package room

import (
	"time"

	"github.com/parley-go/parley/buffered"
)

// Config configures a House; the zero value is good. A field that is 0 stands for its default.
type Config struct {
	// Name is what the house calls itself when it greets: "Parley chat".
	Name string

	// Motd is what it says then, one line or several, before it asks for a nickname.
	Motd string

	// Lobby is the room that everybody enters first: "lobby". It is there also while nobody is in it.
	Lobby string

	// NameLength is the most characters of a nickname or of the name of a room: 20.
	NameLength int

	// MaxLine is the longest line, in bytes without its end: 1,024. Of a longer one nothing is said; the member is told,
	// and the conversation goes on behind it.
	MaxLine int

	// MaxRooms is how many rooms there can be at a time, the lobby among them: 100. Further ones are refused.
	MaxRooms int

	// History is how many lines of a room are kept, and shown to those who come: 20; negative: none. A room's history
	// goes with the room.
	History int

	// FloodBurst is how many lines a member may send at once, and FloodRate how many a second after that: 20 and 2. A
	// line beyond is not said, and the member is warned; when FloodBurst lines in debt it is disconnected. /quit is
	// always heard. FloodBurst negative: no bound.
	FloodBurst int
	FloodRate  float64

	// NickTimeout is how long somebody has to choose a nickname: 1 minute. Then they are disconnected.
	NickTimeout time.Duration

	// IdleTimeout is how long a member may be silent: 30 minutes; negative: for ever. Then it is disconnected. It is
	// warned IdleWarning before: 1 minute, and at most half of IdleTimeout. Any line counts, also an empty one; half a
	// line does not.
	IdleTimeout time.Duration
	IdleWarning time.Duration

	// SkipAbove is how many bytes wait for a member that does not take them before messages to it are skipped: 128 KiB.
	// It is told how many when it has caught up. With less than 128 KiB, what is said within one event can be too much
	// also for somebody who is not slow; the queues of all members together stay below twice that times MaxConns.
	SkipAbove int

	// DropAbove is how many bytes a member may be behind, waiting and skipped ones together, before it is dropped: 1 MiB.
	DropAbove int

	// StallTimeout is how long a member may take nothing at all while something waits for it: 2 minutes. StallRate is how
	// many bytes of it the member has to take in a second, on an average over each minute in which some wait for it all the
	// time: 5, which a teletype of 45 baud manages; negative: one now and then is enough. Who does not is dropped.
	StallTimeout time.Duration
	StallRate    int64

	// MaxConns is how many connections a listener has open at a time, and MaxPerAddr how many of them from one address
	// (core.Limit): 1,000 and 32; negative: no bound. Further ones are told so and closed.
	MaxConns   int
	MaxPerAddr int
}

func (c *Config) setDefaults() {
	or(&c.Name, "Parley chat")
	or(&c.Lobby, "lobby")
	or(&c.NameLength, 20)
	or(&c.MaxLine, 1024)
	or(&c.MaxRooms, 100)
	or(&c.History, 20)
	or(&c.FloodBurst, 20)
	or(&c.FloodRate, 2)
	or(&c.NickTimeout, time.Minute)
	or(&c.IdleTimeout, 30*time.Minute)
	or(&c.IdleWarning, time.Minute)
	c.IdleWarning = min(c.IdleWarning, max(c.IdleTimeout, 0)/2)
	or(&c.SkipAbove, 128<<10)
	or(&c.DropAbove, 1<<20)
	or(&c.StallTimeout, 2*time.Minute)
	or(&c.StallRate, 5)
	or(&c.MaxConns, 1000)
	or(&c.MaxPerAddr, 32)
}

func or[T comparable](v *T, otherwise T) {
	var none T
	if *v == none {
		*v = otherwise
	}
}

// marks are those of a member's output: messages are skipped above High and said again below it; see session.Hear.
func (c *Config) marks() *buffered.Marks {
	return &buffered.Marks{Low: c.SkipAbove / 4, High: c.SkipAbove / 2, Limit: c.DropAbove}
}

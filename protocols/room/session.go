package room

import (
	"errors"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/telnet"
)

// Causes with which a line session closes, besides those of package core.
var (
	errQuit     = errors.New("quit")
	errFlooding = errors.New("flooding")
	errIdle     = errors.New("idle")
	errNoNick   = errors.New("chose no nickname")
	errTooSlow  = errors.New("too slow to take what is said")
)

// session is somebody who sends lines: the conversation, and the Outlet of its member. What it asks of the house, which may
// be on another loop, is done by its seat.
type session struct {
	chat.Buffer
	house *House
	c     *chat.Conn
	loop  *core.Loop // the conversation's
	wire  *wire      // to the house
	seat  *seat      // there
	peer  string     // the address of the other side, for the log
	nick  bool       // one is chosen
	done  bool       // what comes now is not heard any more

	flood   bucket
	refused int // lines that were too many, since the last one that was not

	heard  time.Time // when the last line came
	timer  *core.Timer
	warned bool // of being idle

	tooLong bool // the line that is coming in

	skipped int // messages, since it was behind
	missing int // their bytes
}

// NewSession is a newHandler, for chat.Listen and its kind: it greets, asks for a nickname and enters the member. The
// conversation may be on any loop of the Group.
func (h *House) NewSession(c *chat.Conn) chat.Handler {
	l := c.Loop()
	now := l.Now()
	s := &session{house: h, c: c, loop: l, wire: h.from(l), peer: peer(c), heard: now,
		flood: newBucket(h.c.FloodBurst, h.c.FloodRate, now)}
	s.seat = &seat{s: s, house: h}
	s.SetBufferLimit(h.c.MaxLine)
	if _, err := c.Upgrade(telnet.Wrap, true); err != nil {
		_ = c.CloseWith(err)
		return s
	}
	c.SetTerminator(chat.Line)
	c.SetLimit(h.c.MaxLine)
	c.SetMarks(h.marks)
	c.SetWriteTimeout(h.c.StallTimeout)
	c.SetWriteRate(h.c.StallRate)
	s.timer = c.AfterFunc(h.c.NickTimeout, s.silent)
	s.tell("Welcome to %s.", Clean(h.c.Name))
	if motd := strings.TrimRight(h.c.Motd, "\n"); motd != "" {
		for line := range strings.SplitSeq(motd, "\n") {
			s.tell("%s", Clean(line))
		}
	}
	s.tell("Your nickname, please: letters, digits, - and _, at most %d.", h.c.NameLength)
	return s
}

// tell says something to this member alone. An error need not be looked at: the connection is closed or closing then.
func (s *session) tell(format string, args ...any) {
	_ = s.c.Printf("-- "+format+"\r\n", args...)
}

// Loop is where the member hears: see Outlet.
func (s *session) Loop() *core.Loop { return s.loop }

// entered is called when a nickname is chosen.
func (s *session) entered() {
	s.nick = true
	s.rearm()
}

// FoundTerminator: a line has come.
func (s *session) FoundTerminator(c *chat.Conn) error {
	line := strings.TrimRight(edited(string(s.Take())), " ")
	s.heard = s.loop.Now()
	s.warned = false
	command, args := parse(line)
	switch wasTooLong := s.tooLong; {
	case s.done:
	case command == "quit" && !wasTooLong:
		s.quit(args)
	case !s.inTime():
	case wasTooLong:
	case !s.wire.offer(func() { s.seat.line(line, command, args) }):
		s.tell("There is too much to do at the moment; that line was not said.")
	}
	s.tooLong = false
	return nil
}

// edited returns the line clean, and as somebody meant it whose terminal sends each key: BS and DEL take a character back.
func edited(line string) string {
	i := strings.IndexAny(line, "\b\x7f")
	if i < 0 {
		return Clean(line)
	}
	var out []byte
	for ; i >= 0; i = strings.IndexAny(line, "\b\x7f") {
		out = append(out, Clean(line[:i])...)
		_, size := utf8.DecodeLastRune(out)
		out = out[:len(out)-size]
		line = line[i+1:]
	}
	return string(append(out, Clean(line)...))
}

// HandleTooLong: the rest of the line is dropped, and the conversation goes on behind it.
func (s *session) HandleTooLong(c *chat.Conn) error {
	s.tooLong = true
	s.tell("That line is longer than %d bytes; it was not said.", s.house.c.MaxLine)
	c.SkipToken()
	return nil
}

// inTime asks the bucket about a line.
func (s *session) inTime() bool {
	if s.house.c.FloodBurst < 0 {
		return true
	}
	switch s.flood.take(s.heard) {
	case tooFast:
		if s.refused == 0 {
			s.tell("Not so fast! Your lines are not said. If it goes on, you will be disconnected.")
		}
		s.refused++
		return false
	case flooding:
		s.end(errFlooding, "flooding", "You are disconnected because of flooding.")
		return false
	}
	s.tellRefused()
	return true
}

// tellRefused tells how many lines were not said.
func (s *session) tellRefused() {
	if s.refused > 0 {
		s.tell("%d of your lines were not said.", s.refused)
		s.refused = 0
	}
}

// Hear queues a message, unless too much waits already.
func (s *session) Hear(m *Message) bool {
	line := m.Shared()
	c := s.house.c
	if s.skipped == 0 && s.c.Queued()+line.Len() <= c.SkipAbove {
		return s.c.PushShared(line) == nil
	}
	if s.skipped == 0 {
		// The queue may be over the mark only until this event is flushed. If it is not then, HandleLow will come.
		s.c.AfterFunc(0, func() {
			if s.c.Queued() <= s.house.marks.High {
				s.caughtUp()
			}
		})
	}
	s.skipped++
	s.missing += line.Len()
	if s.c.Queued()+s.missing > c.DropAbove {
		_ = s.c.CloseWith(errTooSlow)
	}
	return false
}

// HandleHigh: the connection is slow. It is not read from until HandleLow, and Hear looks at the queue.
func (s *session) HandleHigh(*chat.Conn) error { return nil }

// HandleLow: the connection has caught up.
func (s *session) HandleLow(*chat.Conn) error {
	s.caughtUp()
	return nil
}

func (s *session) caughtUp() {
	if s.skipped > 0 {
		s.tell("Your connection is slow: %d messages to you were skipped.", s.skipped)
		s.skipped, s.missing = 0, 0
	}
}

// rearm sets the timer to when silence matters next.
func (s *session) rearm() {
	c := &s.house.c
	switch {
	case !s.nick: // runs since the connection was made
	case c.IdleTimeout < 0:
		s.timer.Stop()
	case s.warned:
		s.timer.Reset(c.IdleTimeout - s.silence())
	default:
		s.timer.Reset(c.IdleTimeout - c.IdleWarning - s.silence())
	}
}

func (s *session) silence() time.Duration { return s.loop.Now().Sub(s.heard) }

// silent is called by the timer. Lines do not touch it: it looks at when the last one came.
func (s *session) silent() {
	c := &s.house.c
	switch silence := s.silence(); {
	case !s.nick:
		s.end(errNoNick, "", "You are disconnected: no nickname for %s.", short(c.NickTimeout))
		return
	case silence >= c.IdleTimeout:
		s.end(errIdle, "idle", "You are disconnected: nothing from you for %s.", short(c.IdleTimeout))
		return
	case silence >= c.IdleTimeout-c.IdleWarning && !s.warned:
		s.warned = true
		s.tell("Still there? In %s you will be disconnected. An empty line is enough to stay.", short(c.IdleTimeout-silence))
	}
	s.rearm()
}

// short writes a duration without the parts that are 0.
func short(d time.Duration) string {
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// finally does something when the house has answered everything that was asked of it.
func (s *session) finally(f func()) {
	s.done = true
	s.wire.send(func() { s.seat.answer(f) })
}

func (s *session) quit(text string) {
	s.tellRefused()
	s.finally(func() { s.end(errQuit, text, "Goodbye!") })
}

// leave takes the member out of the house.
func (s *session) leave(cause error, why string) {
	s.wire.send(func() { s.seat.leave(cause, why) })
}

// end says a last word and closes the connection when that is out. why is for the others.
func (s *session) end(cause error, why, format string, args ...any) {
	s.tell(format, args...)
	s.leave(cause, why)
	s.c.CloseWhenDoneWith(cause)
}

// HandleEOF: the peer will say nothing more; it still gets what waits for it. A line without an end is not said.
func (s *session) HandleEOF(c *chat.Conn) error {
	s.finally(func() {
		s.leave(io.EOF, "")
		c.CloseWhenDoneWith(io.EOF)
	})
	return nil
}

// HandleShutdown: the others leave too, so that is not told.
func (s *session) HandleShutdown(*chat.Conn) error {
	s.wire.send(func() { s.house.closing = true })
	s.finally(func() { s.end(core.ErrShutdown, "", "The server shuts down. Goodbye!") })
	return nil
}

// HandleClose: the member leaves, if it has not yet.
func (s *session) HandleClose(_ *chat.Conn, cause error) {
	switch {
	case errors.Is(cause, errTooSlow), errors.Is(cause, core.ErrOverflow), errors.Is(cause, core.ErrTimeout):
		s.leave(errTooSlow, "too slow")
	default:
		s.leave(cause, "connection lost")
	}
}

// peer is the address of the other side, for the log.
func peer(c *chat.Conn) string {
	if a := c.RemoteAddr(); a != nil {
		return a.String()
	}
	return "unknown"
}

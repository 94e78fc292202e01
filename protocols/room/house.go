package room

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// Errors of a House and its members; their texts are written for the person who did something. See also ErrName and
// ErrTaken.
var (
	// ErrNobody: no member has that nickname.
	ErrNobody = errors.New("nobody has that name")

	// ErrMissed: the member is there, but so slow at the moment that it will not see the message.
	ErrMissed = errors.New("not delivered: their connection is too slow at the moment")

	// ErrNoRoom: there is no room of that name.
	ErrNoRoom = errors.New("there is no such room")

	// ErrTooManyRooms: there are Config.MaxRooms of them.
	ErrTooManyRooms = errors.New("there are too many rooms already")

	// ErrLeft: the member is in the house no more.
	ErrLeft = errors.New("you have left")
)

// House is a set of rooms and the members in them. It lives on one loop, the first one of a Group: all methods but NewSession
// are for that loop's goroutine, those of its rooms and members too. Members may be on any loop of the Group: see Outlet.
type House struct {
	c       Config
	runner  core.Runner
	loop    *core.Loop
	out     map[*core.Loop]*wire // to other loops
	in      map[*core.Loop]*wire // from them, each for its own goroutine
	marks   *buffered.Marks
	rooms   map[string]*Room   // by lower-case name
	members map[string]*Member // by the skeleton of the nickname
	lobby   *Room
	closing bool // the loop shuts down: nobody enters, and leaving is not news
}

// Outlet is how a member is reached. A line session is one; another protocol brings its own.
type Outlet interface {
	// Hear is called for each message that the member should see, in order. It answers whether the member will see it. It
	// is called from within a call of another member: it must not call the house, and not wait; what does not fit a
	// queue is to be skipped.
	//
	// An Outlet that has a method Loop() *core.Loop, and answers with another loop than the house's, hears on that loop's
	// goroutine. A message goes to each loop once, however many members hear it there.
	Hear(m *Message) bool
}

// Room is a room of a House. An empty one is not kept, but for the lobby.
type Room struct {
	name    string
	members []*Member // in the order of coming
	groups  []group   // the same, by loop
	history []*Message
}

// group are those members of a room whose outlets are on one loop. That loop reads members beside the house's: what a slice
// holds that was handed over never changes.
type group struct {
	loop    *core.Loop
	members []*Member
}

// Member is somebody in a House, in one room at a time.
type Member struct {
	house *House
	nick  string
	room  *Room // nil: left
	out   Outlet
	loop  *core.Loop // where out hears
}

// New returns a house with an empty lobby, on a loop or on a Group.
func New(r core.Runner, c Config) *House {
	c.setDefaults()
	h := &House{c: c, runner: r, loop: r.Loops()[0], marks: c.marks(), rooms: make(map[string]*Room), members: make(map[string]*Member)}
	h.out, h.in = make(map[*core.Loop]*wire), make(map[*core.Loop]*wire)
	for _, l := range r.Loops() {
		h.out[l], h.in[l] = &wire{from: h.loop, to: l}, &wire{from: l, to: h.loop}
	}
	h.lobby = &Room{name: c.Lobby}
	h.rooms[strings.ToLower(c.Lobby)] = h.lobby
	return h
}

// Listen accepts people who send lines, on all loops, within Config.MaxConns and Config.MaxPerAddr: see core.Listen for networks and
// addresses.
func (h *House) Listen(network, address string) (*core.Listener, error) {
	lc := core.ListenConfig{Limit: core.Limit{
		Total:   h.c.MaxConns,
		PerAddr: h.c.MaxPerAddr,
		Refusal: "-- There are too many connections at the moment. Please try again later.\r\n",
	}}
	return lc.Listen(h.runner, network, address, chat.Accept(h.NewSession))
}

// Config returns the configuration, with its defaults filled in.
func (h *House) Config() Config { return h.c }

// Room returns the room of that name, whatever its case, or nil.
func (h *House) Room(name string) *Room { return h.rooms[strings.ToLower(name)] }

// Rooms returns the rooms, by name.
func (h *House) Rooms() []*Room {
	rooms := make([]*Room, 0, len(h.rooms))
	for _, r := range h.rooms {
		rooms = append(rooms, r)
	}
	slices.SortFunc(rooms, func(a, b *Room) int { return strings.Compare(a.name, b.name) })
	return rooms
}

// Enter lets somebody in, under a nickname, into the lobby, whose other members are told. Errors: ErrName, ErrTaken,
// core.ErrShutdown. What the newcomer should know first (Room.Members, Room.History) is the caller's to show.
func (h *House) Enter(nick string, out Outlet) (*Member, error) {
	if h.closing {
		return nil, core.ErrShutdown
	}
	m := &Member{house: h, nick: nick, out: out, loop: h.loop}
	if o, ok := out.(interface{ Loop() *core.Loop }); ok {
		m.loop = o.Loop()
	}
	if err := h.free(nick, m); err != nil {
		return nil, err
	}
	h.members[skeleton(nick)] = m
	h.admit(m, h.lobby)
	return m, nil
}

// free tells whether m can have a nickname.
func (h *House) free(nick string, m *Member) error {
	if err := CheckName(nick, h.c.NameLength); err != nil {
		return err
	}
	switch other := h.members[skeleton(nick)]; {
	case other == nil || other == m:
		return nil
	case strings.EqualFold(other.nick, nick):
		return ErrTaken
	default:
		return fmt.Errorf("%w: it looks too much like %s, who is here", ErrTaken, other.nick)
	}
}

// Post says a line in a room for somebody who is no member: the sender of a mail, say. from is a name as CheckName has it,
// via the protocol; members see both. Errors: ErrNoRoom, ErrName, core.ErrTooLong.
func (h *House) Post(room, from, via, text string) error {
	r := h.Room(room)
	if r == nil {
		return ErrNoRoom
	}
	if err := errors.Join(CheckName(from, h.c.NameLength), CheckName(via, h.c.NameLength)); err != nil {
		return err
	}
	return h.speak(&Message{Kind: Said, Room: r.name, From: from, Via: via}, text, func(m *Message) {
		h.say(r, m, nil)
	})
}

// speak completes a message with a text, and hands it on unless that is empty.
func (h *House) speak(m *Message, text string, publish func(*Message)) error {
	if len(text) > h.c.MaxLine {
		return fmt.Errorf("%w: at most %d bytes", core.ErrTooLong, h.c.MaxLine)
	}
	if m.Text = strings.TrimRight(Clean(text), " "); m.Text != "" {
		m.Time = h.loop.Now()
		publish(m)
	}
	return nil
}

// say tells a room what somebody in it said or did, and remembers it.
func (h *House) say(r *Room, m *Message, except *Member) {
	if limit := h.c.History; limit > 0 {
		if len(r.history) >= limit {
			r.history = slices.Delete(r.history, 0, len(r.history)-limit+1)
		}
		r.history = append(r.history, m)
	}
	h.tell(r, m, except)
}

// news tells a room what happened in it.
func (h *House) news(r *Room, kind Kind, from, text string, except *Member) {
	h.tell(r, &Message{Time: h.loop.Now(), Kind: kind, Room: r.name, From: from, Text: text}, except)
}

// tell hands a message to the members of a room, once for each loop.
func (h *House) tell(r *Room, m *Message, except *Member) {
	m.Shared()
	for _, g := range r.groups {
		members := g.members
		if len(members) == 0 || len(members) == 1 && members[0] == except {
			continue
		}
		h.to(g.loop).offer(func() { // a loop that is so far behind misses it
			for _, member := range members {
				if member != except {
					member.out.Hear(m)
				}
			}
		})
	}
}

// to is the wire to a loop.
func (h *House) to(l *core.Loop) *wire {
	w := h.out[l]
	if w == nil {
		w = &wire{from: h.loop, to: l}
		h.out[l] = w
	}
	return w
}

// from is the wire from a loop, for that loop's goroutine.
func (h *House) from(l *core.Loop) *wire {
	if w := h.in[l]; w != nil {
		return w
	}
	return &wire{from: l, to: h.loop}
}

// add puts a member into the lists.
func (r *Room) add(m *Member) {
	r.members = append(r.members, m)
	i := slices.IndexFunc(r.groups, func(g group) bool { return g.loop == m.loop })
	if i < 0 {
		i = len(r.groups)
		r.groups = append(r.groups, group{loop: m.loop})
	}
	r.groups[i].members = append(r.groups[i].members, m) // behind what others read
}

// remove takes it out of them.
func (r *Room) remove(m *Member) {
	i := slices.Index(r.members, m)
	r.members = slices.Delete(r.members, i, i+1)
	i = slices.IndexFunc(r.groups, func(g group) bool { return g.loop == m.loop })
	g := &r.groups[i]
	without := make([]*Member, 0, len(g.members))
	for _, o := range g.members {
		if o != m {
			without = append(without, o)
		}
	}
	g.members = without
}

// admit puts a member into a room.
func (h *House) admit(m *Member, r *Room) {
	h.news(r, Joined, m.nick, "", nil)
	m.room = r
	r.add(m)
}

// depart takes a member out of its room, and the room out of the house if it is empty then.
func (h *House) depart(m *Member, why string) {
	r := m.room
	m.room = nil
	r.remove(m)
	if len(r.members) == 0 && r != h.lobby {
		delete(h.rooms, strings.ToLower(r.name))
	}
	if !h.closing {
		h.news(r, Left, m.nick, why, nil)
	}
}

// Name returns the room's name, as it was written by the member who made it.
func (r *Room) Name() string { return r.name }

// Members returns the nicknames of those in the room, in the order of their coming.
func (r *Room) Members() []string {
	nicks := make([]string, len(r.members))
	for i, m := range r.members {
		nicks[i] = m.nick
	}
	return nicks
}

// History returns what was said in the room last, at most Config.History messages, the oldest first.
func (r *Room) History() []*Message { return slices.Clone(r.history) }

// Nick returns the member's nickname.
func (m *Member) Nick() string { return m.nick }

// Room returns the room that the member is in, nil after Leave.
func (m *Member) Room() *Room { return m.room }

// Say says a line to everybody else in the room. An empty one is not said. Errors: core.ErrTooLong, ErrLeft.
func (m *Member) Say(text string) error {
	if m.room == nil {
		return ErrLeft
	}
	return m.house.speak(&Message{Kind: Said, Room: m.room.name, From: m.nick}, text, func(msg *Message) {
		m.house.say(m.room, msg, m)
	})
}

// Act tells everybody in the room, the member too, what the member does. Errors as Say's.
func (m *Member) Act(text string) error {
	if m.room == nil {
		return ErrLeft
	}
	return m.house.speak(&Message{Kind: Acted, Room: m.room.name, From: m.nick}, text, func(msg *Message) {
		m.house.say(m.room, msg, nil)
	})
}

// Tell says a line to one other member, in whatever room that is. It returns the nickname as that member writes it. Errors:
// ErrNobody, ErrMissed (of a member on another loop that is not known, if only its own connection is slow), those of Say.
func (m *Member) Tell(nick, text string) (to string, err error) {
	if m.room == nil {
		return "", ErrLeft
	}
	other := m.house.members[skeleton(nick)]
	if other == nil || !strings.EqualFold(other.nick, nick) {
		return "", ErrNobody
	}
	heard := true
	err = m.house.speak(&Message{Kind: Told, From: m.nick}, text, func(msg *Message) {
		msg.Shared()
		if other.loop == m.house.loop {
			heard = other.out.Hear(msg)
			return
		}
		heard = m.house.to(other.loop).offer(func() { other.out.Hear(msg) })
	})
	if !heard {
		err = ErrMissed
	}
	return other.nick, err
}

// Rename gives the member another nickname; everybody in the room is told, the member too. Errors: ErrName, ErrTaken,
// ErrLeft.
func (m *Member) Rename(nick string) error {
	h := m.house
	if m.room == nil {
		return ErrLeft
	}
	if err := h.free(nick, m); err != nil {
		return err
	}
	if nick == m.nick {
		return nil
	}
	delete(h.members, skeleton(m.nick))
	h.members[skeleton(nick)] = m
	was := m.nick
	m.nick = nick
	h.news(m.room, Renamed, was, nick, nil)
	return nil
}

// Join takes the member to another room, which is made if there is none of that name; the others in both rooms are told.
// Nothing happens if it is in that room already. Errors: ErrName, ErrTooManyRooms, ErrLeft.
func (m *Member) Join(name string) error {
	h := m.house
	if m.room == nil {
		return ErrLeft
	}
	r := h.Room(name)
	if r == m.room {
		return nil
	}
	if r == nil {
		if err := CheckName(name, h.c.NameLength); err != nil {
			return err
		}
		if len(h.rooms) >= h.c.MaxRooms {
			return ErrTooManyRooms
		}
		r = &Room{name: name}
		h.rooms[strings.ToLower(name)] = r
	}
	h.depart(m, "gone to "+r.name)
	h.admit(m, r)
	return nil
}

// Leave takes the member out of the house; the others in the room are told why, if why is not empty. After it the
// member hears nothing more. Leaving twice does nothing.
func (m *Member) Leave(why string) {
	if m.room == nil {
		return
	}
	delete(m.house.members, skeleton(m.nick))
	m.house.depart(m, strings.TrimRight(Clean(truncate(why, m.house.c.MaxLine)), " "))
}

func truncate(s string, n int) string { return s[:min(len(s), n)] }

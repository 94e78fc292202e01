package room

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// helpText is what /help says. The commands are those of session.run.
const helpText = `/who [ROOM]       who is here, or in another room
/msg NICK TEXT    say something to one person alone
/me TEXT          do something: * you TEXT
/nick NAME        be called NAME from now on
/join ROOM        go to another room; if there is none of that name it is made
/rooms            which rooms there are (also /list)
/quit [TEXT]      leave
Anything else is said to the room. To begin a line with a slash, type two.`

// parse takes a command apart; command is "" if the line is none.
func parse(line string) (command, args string) {
	if !strings.HasPrefix(line, "/") || strings.HasPrefix(line, "//") {
		return "", line
	}
	command, args, _ = strings.Cut(line[1:], " ")
	if command == "" {
		command = " " // a slash alone, which is no command that there is
	}
	return strings.ToLower(command), strings.TrimSpace(args)
}

// seat is the house's half of a session: its member, and what that asks of the house. It is touched on the house's loop; what it
// has to say goes to the session's loop.
type seat struct {
	s      *session
	house  *House
	member *Member // nil until a nickname is chosen, and again when it has left
}

// answer does something for the session, on its loop.
func (t *seat) answer(f func()) { t.house.to(t.s.loop).send(f) }

// tell says something to this member alone.
func (t *seat) tell(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	t.answer(func() { t.s.tell("%s", text) })
}

// line is a line that is none of the session's own business.
func (t *seat) line(line, command, args string) {
	switch {
	case t.member == nil:
		t.introduce(line, command)
	case command != "":
		t.run(command, args)
	default:
		if strings.HasPrefix(line, "//") {
			line = line[1:]
		}
		t.report(t.member.Say(line))
	}
}

// run does what a command says.
func (t *seat) run(command, args string) {
	switch command {
	case "who":
		t.who(args)
	case "msg":
		t.message(args)
	case "me":
		t.needs(args, "/me TEXT", func() error { return t.member.Act(args) })
	case "nick":
		t.needs(args, "/nick NAME", func() error { return t.member.Rename(args) })
	case "join":
		t.needs(args, "/join ROOM", func() error { return t.join(strings.TrimPrefix(args, "#")) })
	case "rooms", "list":
		t.rooms()
	case "help":
		for line := range strings.SplitSeq(helpText, "\n") {
			t.tell("%s", line)
		}
	default:
		t.tell("There is no command /%s. /help lists those that there are.", strings.TrimSpace(command))
	}
}

// needs runs f, or shows how a command is written that came without its argument.
func (t *seat) needs(args, usage string, f func() error) {
	if args == "" {
		t.tell("Write it so: %s", usage)
		return
	}
	t.report(f())
}

// report tells the member of an error, as a sentence.
func (t *seat) report(err error) {
	if err == nil {
		return
	}
	text := err.Error()
	first, size := utf8.DecodeRuneInString(text)
	t.tell("%s%s.", strings.ToUpper(string(first)), text[size:])
}

func (t *seat) who(name string) {
	r := t.member.room
	if name != "" {
		if r = t.house.Room(strings.TrimPrefix(name, "#")); r == nil {
			t.report(ErrNoRoom)
			return
		}
	}
	words := make([]string, 0, len(r.members))
	for _, m := range r.members {
		if m == t.member {
			words = append(words, m.nick+" (you)")
		} else {
			words = append(words, m.nick)
		}
	}
	t.list(fmt.Sprintf("In %s (%d):", r.name, len(words)), words)
}

func (t *seat) rooms() {
	rooms := t.house.Rooms()
	words := make([]string, 0, len(rooms))
	for _, r := range rooms {
		words = append(words, fmt.Sprintf("%s (%d)", r.name, len(r.members)))
	}
	t.list("Rooms:", words)
}

const listWidth = 72

// list shows words with commas, in as many lines as they need.
func (t *seat) list(title string, words []string) {
	line := title
	for i, w := range words {
		if i < len(words)-1 {
			w += ","
		}
		if len(line)+1+len(w) > listWidth {
			t.tell("%s", line)
			line = "   " + w
			continue
		}
		line += " " + w
	}
	t.tell("%s", line)
}

func (t *seat) message(args string) {
	nick, text, _ := strings.Cut(args, " ")
	text = strings.TrimSpace(text)
	if text == "" {
		t.tell("Write it so: /msg NICK TEXT")
		return
	}
	to, err := t.member.Tell(nick, text)
	switch {
	case errors.Is(err, ErrNobody):
		t.tell("Nobody here is called %s.", nick)
	case err != nil:
		t.report(err)
	default:
		t.tell("To %s alone: %s", to, text)
	}
}

func (t *seat) join(name string) error {
	was := t.member.room
	if err := t.member.Join(name); err != nil {
		return err
	}
	if t.member.room == was {
		t.tell("You are in %s already.", was.name)
		return nil
	}
	t.tell("%s", t.place())
	t.showHistory()
	return nil
}

// introduce takes the line as a nickname.
func (t *seat) introduce(line, command string) {
	h := t.house
	nick := strings.TrimSpace(line)
	switch {
	case nick == "":
		t.tell("Please type a nickname.")
		return
	case command != "":
		t.tell("Please choose a nickname first; or /quit.")
		return
	}
	m, err := h.Enter(nick, t.s)
	if err != nil {
		t.report(err)
		t.tell("Please try another nickname.")
		return
	}
	t.member = m
	h.loop.Logger().Info("joined", "nick", nick, "peer", t.s.peer)
	t.answer(t.s.entered)
	t.tell("Hello, %s. %s", nick, t.place())
	t.tell("What you type goes to everybody in the room. /help lists the commands, /quit leaves.")
	t.showHistory()
}

// place says where the member is, and with whom.
func (t *seat) place() string {
	r := t.member.room
	var others []string
	for _, m := range r.members {
		if m != t.member {
			others = append(others, m.nick)
		}
	}
	const most = 5
	switch n := len(others); {
	case n == 0:
		return fmt.Sprintf("You are in %s; nobody else is here yet.", r.name)
	case n == 1:
		return fmt.Sprintf("You are in %s, with %s.", r.name, others[0])
	case n > most:
		return fmt.Sprintf("You are in %s, with %s and %d more.", r.name, strings.Join(others[:most], ", "), n-most)
	default:
		return fmt.Sprintf("You are in %s, with %s and %s.", r.name, strings.Join(others[:n-1], ", "), others[n-1])
	}
}

func (t *seat) showHistory() {
	history := t.member.room.history
	if len(history) == 0 {
		return
	}
	t.tell("Said here before you came:")
	said := slices.Clone(history)
	t.answer(func() {
		for _, m := range said {
			_ = t.s.c.PushShared(m.Shared())
		}
	})
}

// leave takes the member out of the house.
func (t *seat) leave(cause error, why string) {
	if t.member == nil {
		return
	}
	log := t.house.loop.Logger().Info
	if errors.Is(cause, errFlooding) || errors.Is(cause, errTooSlow) {
		log = t.house.loop.Logger().Warn
	}
	log("left", "nick", t.member.nick, "peer", t.s.peer, "cause", cause)
	t.member.Leave(why)
	t.member = nil
}

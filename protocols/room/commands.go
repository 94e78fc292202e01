package room

import (
	"errors"
	"fmt"
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

// run does what a command says.
func (s *session) run(command, args string) {
	switch command {
	case "who":
		s.who(args)
	case "msg":
		s.message(args)
	case "me":
		s.needs(args, "/me TEXT", func() error { return s.member.Act(args) })
	case "nick":
		s.needs(args, "/nick NAME", func() error { return s.member.Rename(args) })
	case "join":
		s.needs(args, "/join ROOM", func() error { return s.join(strings.TrimPrefix(args, "#")) })
	case "rooms", "list":
		s.rooms()
	case "help":
		for line := range strings.SplitSeq(helpText, "\n") {
			s.tell("%s", line)
		}
	default:
		s.tell("There is no command /%s. /help lists those that there are.", strings.TrimSpace(command))
	}
}

// needs runs f, or shows how a command is written that came without its argument.
func (s *session) needs(args, usage string, f func() error) {
	if args == "" {
		s.tell("Write it so: %s", usage)
		return
	}
	s.report(f())
}

// report tells the member of an error, as a sentence.
func (s *session) report(err error) {
	if err == nil {
		return
	}
	text := err.Error()
	first, size := utf8.DecodeRuneInString(text)
	s.tell("%s%s.", strings.ToUpper(string(first)), text[size:])
}

func (s *session) who(name string) {
	r := s.member.room
	if name != "" {
		if r = s.house.Room(strings.TrimPrefix(name, "#")); r == nil {
			s.report(ErrNoRoom)
			return
		}
	}
	words := make([]string, 0, len(r.members))
	for _, m := range r.members {
		if m == s.member {
			words = append(words, m.nick+" (you)")
		} else {
			words = append(words, m.nick)
		}
	}
	s.list(fmt.Sprintf("In %s (%d):", r.name, len(words)), words)
}

func (s *session) rooms() {
	rooms := s.house.Rooms()
	words := make([]string, 0, len(rooms))
	for _, r := range rooms {
		words = append(words, fmt.Sprintf("%s (%d)", r.name, len(r.members)))
	}
	s.list("Rooms:", words)
}

const listWidth = 72

// list shows words with commas, in as many lines as they need.
func (s *session) list(title string, words []string) {
	line := title
	for i, w := range words {
		if i < len(words)-1 {
			w += ","
		}
		if len(line)+1+len(w) > listWidth {
			s.tell("%s", line)
			line = "   " + w
			continue
		}
		line += " " + w
	}
	s.tell("%s", line)
}

func (s *session) message(args string) {
	nick, text, _ := strings.Cut(args, " ")
	text = strings.TrimSpace(text)
	if text == "" {
		s.tell("Write it so: /msg NICK TEXT")
		return
	}
	to, err := s.member.Tell(nick, text)
	switch {
	case errors.Is(err, ErrNobody):
		s.tell("Nobody here is called %s.", nick)
	case err != nil:
		s.report(err)
	default:
		s.tell("To %s alone: %s", to, text)
	}
}

func (s *session) join(name string) error {
	was := s.member.room
	if err := s.member.Join(name); err != nil {
		return err
	}
	if s.member.room == was {
		s.tell("You are in %s already.", was.name)
		return nil
	}
	s.tell("%s", s.place())
	s.showHistory()
	return nil
}

func (s *session) quit(text string) {
	s.tellRefused()
	s.end(errQuit, text, "Goodbye!")
}

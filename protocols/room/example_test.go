package room_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/room"
)

// Two people on a simulated network. On a real one it is core.NewLoop, House.Listen and Loop.Run.
func Example() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	house := room.New(loop, room.Config{Name: "the lounge"})
	if _, err := house.Listen("tcp", "server:6667"); err != nil {
		panic(err)
	}

	alice := w.Dial("tcp", "server:6667")
	alice.Say("alice\n")
	w.Settle()
	bob := w.Dial("tcp", "server:6667")
	bob.Say("bob\nhello, everybody\n/me waves\n/quit tea time\n")
	w.Settle()
	fmt.Print(strings.ReplaceAll(alice.Read(), "\r\n", "\n"))
	// Output:
	// -- Welcome to the lounge.
	// -- Your nickname, please: letters, digits, - and _, at most 20.
	// -- Hello, alice. You are in lobby; nobody else is here yet.
	// -- What you type goes to everybody in the room. /help lists the commands, /quit leaves.
	// [00:00] -- bob has joined
	// [00:00] <bob> hello, everybody
	// [00:00] * bob waves
	// [00:00] -- bob has left (tea time)
}

// Every field has a default, and may be 0.
func ExampleConfig() {
	w := sim.New(sim.Config{})
	house := room.New(w.Loop(core.Options{}), room.Config{History: 100, IdleTimeout: -1})
	c := house.Config()
	fmt.Println("lines kept:", c.History)
	fmt.Println("longest line:", c.MaxLine)
	fmt.Println("silence is fine:", c.IdleTimeout < 0)
	fmt.Println("time to choose a nickname:", c.NickTimeout)
	// Output:
	// lines kept: 100
	// longest line: 1024
	// silence is fine: true
	// time to choose a nickname: 1m0s
}

// printer hears for somebody who came by another protocol.
type printer struct{}

func (printer) Hear(m *room.Message) bool {
	switch m.Kind {
	case room.Said:
		fmt.Printf("%s in %s at %s: %s\n", m.From, m.Room, m.Time.Format(time.TimeOnly), m.Text)
	case room.Joined:
		fmt.Printf("%s is here\n", m.From)
	case room.Left:
		fmt.Printf("%s is gone\n", m.From)
	}
	return true
}

// An Outlet is all that another protocol needs to have its people in the same rooms.
func ExampleOutlet() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	house := room.New(loop, room.Config{})
	web, err := house.Enter("web", printer{})
	if err != nil {
		panic(err)
	}

	sock, client := w.Pair()
	if _, err := chat.Attach(loop, sock, house.NewSession); err != nil {
		panic(err)
	}
	client.Say("carol\nis anybody here?\n/quit\n")
	w.Settle()
	if err := web.Say("yes, by the web"); err != nil {
		panic(err)
	}
	for _, m := range web.Room().History() {
		fmt.Print(strings.TrimSuffix(string(m.Line()), "\r\n"), "\n")
	}
	// Output:
	// carol is here
	// carol in lobby at 00:00:00: is anybody here?
	// carol is gone
	// [00:00] <carol> is anybody here?
	// [00:00] <web> yes, by the web
}

// A single line from somebody who does not stay: the sender of a mail, say.
func ExampleHouse_Post() {
	w := sim.New(sim.Config{})
	house := room.New(w.Loop(core.Options{}), room.Config{})
	fmt.Println(house.Post("lobby", "dave", "mail", "I am late"))
	fmt.Println(house.Post("cellar", "dave", "mail", "I am late"))
	for _, m := range house.Room("lobby").History() {
		fmt.Printf("%q\n", m.Line())
	}
	// Output:
	// <nil>
	// there is no such room
	// "[00:00] <dave via mail> I am late\r\n"
}

// What a message is, and how a terminal shows it.
func ExampleMessage() {
	w := sim.New(sim.Config{})
	house := room.New(w.Loop(core.Options{}), room.Config{})
	alice, _ := house.Enter("alice", printer{})
	_ = alice.Say("hello")
	_ = alice.Act("waves")
	for _, m := range house.Room("lobby").History() {
		fmt.Printf("%v %s %q: %q\n", m.Kind == room.Said, m.From, m.Text, m.Line())
	}
	// Output:
	// true alice "hello": "[00:00] <alice> hello\r\n"
	// false alice "waves": "[00:00] * alice waves\r\n"
}

// A room is found by its name, whatever the case.
func ExampleRoom() {
	w := sim.New(sim.Config{})
	house := room.New(w.Loop(core.Options{}), room.Config{History: 1})
	alice, _ := house.Enter("alice", printer{})
	_ = alice.Say("one")
	_ = alice.Say("two")
	lobby := house.Room("LOBBY")
	fmt.Println(lobby.Name(), lobby.Members(), len(lobby.History()), lobby.History()[0].Text)
	// Output: lobby [alice] 1 two
}

// A member by itself: rooms are made when somebody goes there, and gone when nobody is left.
func ExampleMember() {
	w := sim.New(sim.Config{})
	house := room.New(w.Loop(core.Options{}), room.Config{})
	alice, _ := house.Enter("alice", printer{})
	_, _ = house.Enter("bob", printer{})
	if err := alice.Join("tea"); err != nil {
		panic(err)
	}
	show := func() {
		for _, r := range house.Rooms() {
			fmt.Println(r.Name(), r.Members())
		}
	}
	show()
	fmt.Println(alice.Rename("B0B"))
	alice.Leave("")
	show()
	// Output:
	// bob is here
	// alice is gone
	// lobby [bob]
	// tea [alice]
	// that name is taken: it looks too much like bob, who is here
	// lobby [bob]
}

func ExampleClean() {
	fmt.Println(room.Clean("\x1b[31mred\x1b[0m \u202Etxet\a \xffgr\u00FC\u00DFe"))
	// Output: red txet �grüße
}

func ExampleCheckName() {
	fmt.Println(room.CheckName("alice", 20))
	fmt.Println(room.CheckName("al ice", 20))
	// Output:
	// <nil>
	// that is no name: use letters, digits, - and _, at most 20, a letter or digit first
}

// A Client with a terminal that is played here: chat.StdioConn gives a real one.
func ExampleClient() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	if _, err := room.New(loop, room.Config{}).Listen("tcp", "server:6667"); err != nil {
		panic(err)
	}
	terminal, person := w.Pair()
	client := &room.Client{
		Nick: "alice",
		OpenTerminal: func(newHandler func(*chat.Conn) chat.Handler) (*chat.Conn, error) {
			return chat.Attach(loop, terminal, newHandler)
		},
	}
	if _, err := chat.Dial(loop, "tcp", "server:6667", client.Server); err != nil {
		panic(err)
	}
	person.Say("/who\n/quit\n")
	fmt.Print(person.Read())
	fmt.Println(client.Err())
	// Output:
	// -- Welcome to Parley chat.
	// -- Your nickname, please: letters, digits, - and _, at most 20.
	// -- Hello, alice. You are in lobby; nobody else is here yet.
	// -- What you type goes to everybody in the room. /help lists the commands, /quit leaves.
	// -- In lobby (1): alice (you)
	// -- Goodbye!
	// <nil>
}

// An outlet that is not a terminal shows each kind of message in its own way.
func ExampleKind() {
	for _, m := range []room.Message{
		{Kind: room.Said, From: "alice", Text: "hello"},
		{Kind: room.Joined, From: "bob"},
		{Kind: room.Renamed, From: "bob", Text: "rob"},
	} {
		switch m.Kind {
		case room.Said:
			fmt.Printf("<p><b>%s</b> %s</p>\n", m.From, m.Text)
		case room.Joined, room.Left:
			fmt.Println("<hr>")
		case room.Renamed:
			fmt.Printf("<p>%s is now %s</p>\n", m.From, m.Text)
		}
	}
	// Output:
	// <p><b>alice</b> hello</p>
	// <hr>
	// <p>bob is now rob</p>
}

// Parleyroom is a room in which everybody hears what anybody says, the speaker too: chat.Conn, a handler that gets lines,
// and one buffered.Shared for all members, as in protocols/room.
//
//	parleyroom -listen 127.0.0.1:0
package main

import (
	"context"

	"github.com/parley-go/parley/bench/internal/serving"
	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

func main() { serving.Main(serve) }

// serve returns when the loop cannot go on: the program ends by a signal.
func serve(address string) error {
	loop, err := core.NewLoop(core.Options{})
	if err != nil {
		return err
	}
	ln, err := chat.Listen(loop, "tcp", address, new(room).enter)
	if err != nil {
		return err
	}
	serving.At(ln.Addr())
	return loop.Run(context.Background())
}

type room struct{ members []*member }

// member is a conversation's handler.
type member struct {
	chat.Buffer
	room  *room
	conn  *chat.Conn
	place int // in room.members
}

// enter is called for each connection.
func (r *room) enter(c *chat.Conn) chat.Handler {
	m := &member{room: r, conn: c, place: len(r.members)}
	r.members = append(r.members, m)
	c.SetTerminator(chat.Literal("\n"))
	return m
}

// FoundTerminator tells everybody the line.
func (m *member) FoundTerminator(*chat.Conn) error {
	line := buffered.NewShared(append(m.Take(), '\n'))
	defer line.Release()
	for _, other := range m.room.members {
		_ = other.conn.PushShared(line) // one that cannot take it is closed, which the others need not know
	}
	return nil
}

// HandleClose is called when the member's connection is gone.
func (m *member) HandleClose(*chat.Conn, error) {
	r := m.room
	last := r.members[len(r.members)-1]
	r.members[m.place], last.place = last, m.place
	r.members = r.members[:len(r.members)-1]
}

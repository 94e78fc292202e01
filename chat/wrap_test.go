package chat_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// wrapper adds a HandleClose to a handler: what it has not itself is looked for below it.
type wrapper struct {
	chat.Handler
	closed bool
}

func (w *wrapper) Unwrap() any { return w.Handler }

func (w *wrapper) HandleClose(*chat.Conn, error) { w.closed = true }

// The adapters of this package need more of the conversation than a handler of somebody else's can ask for. They get it
// also when they are wrapped: a line that was cut by a read stays whole, and the body of a Talk runs, and closes.
func TestWrappedAdapters(t *testing.T) {
	for name, newHandler := range map[string]func() chat.Handler{
		"Lines": func() chat.Handler {
			return chat.Lines(func(c *chat.Conn, line []byte) error {
				if err := c.Printf("%s!\n", line); err != nil {
					return err
				}
				c.CloseWhenDone()
				return nil
			})
		},
		"Talk": func() chat.Handler {
			return chat.Talk(func(t *chat.Talker) error {
				line, err := t.ReadLine()
				if err != nil {
					return err
				}
				return t.Printf("%s!\n", line)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := sim.New(sim.Config{T: t})
			s, peer := w.Pair()
			h := &wrapper{Handler: newHandler()}
			_, err := chat.Attach(w.Loop(core.Options{}), s, func(*chat.Conn) chat.Handler { return h })
			require.NoError(t, err)
			peer.Say("half a")
			w.Settle()
			peer.Say(" line\n")
			peer.Want("half a line!\n")
			peer.WantClosed()
			peer.Close()
			w.Settle()
			require.True(t, h.closed)
		})
	}
}

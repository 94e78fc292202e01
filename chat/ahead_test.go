package chat_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// endNoticed is a session that hears of the end of its input.
type endNoticed struct {
	session
	ends int
}

func (e *endNoticed) HandleEOF(*chat.Conn) error {
	e.ends++
	return nil
}

// PauseAhead holds input back as Pause does, but the end of the stream is noticed, and what came before it is worked on after
// Resume.
func TestPauseAhead(t *testing.T) {
	for _, ahead := range []bool{true, false} {
		s := &endNoticed{}
		s.found = func(c *chat.Conn, token string) error {
			if token != "wait" {
				return nil
			}
			if c.PauseAhead(); !ahead {
				c.Pause()
			}
			return nil
		}
		w := converse(t, sim.Config{MaxRecv: 7}, s)
		w.peer.Say("wait\r\ntwo\r\nthree\r\nfo")
		w.Settle()
		w.peer.CloseWrite()
		w.Settle()
		require.Equal(t, []string{"wait"}, s.log)
		require.True(t, w.conn.Paused())
		require.Equal(t, ahead, s.ends == 1)
		w.conn.Resume()
		w.Settle()
		require.Equal(t, []string{"wait", "two", "three"}, s.log)
		require.Equal(t, 1, s.ends)
		require.Equal(t, "fo", string(s.Take()))
		require.NoError(t, w.conn.Close())
	}
}

// What is read ahead is bounded.
func TestPauseAheadIsBounded(t *testing.T) {
	s := &endNoticed{}
	s.found = func(c *chat.Conn, token string) error {
		if token == "wait" {
			c.PauseAhead()
		}
		return nil
	}
	w := converse(t, sim.Config{Window: 10_000, MaxRecv: 1000}, s)
	const line = "0123456789abcd\r\n"
	lines := 4 * chat.ReadAhead / len(line)
	w.peer.Say("wait\r\n" + strings.Repeat(line, lines))
	w.Settle()
	took := 0
	for _, e := range w.Trace().Records() {
		if e.Kind == core.TraceRecv {
			took += e.N
		}
	}
	require.Positive(t, took)
	require.LessOrEqual(t, took, chat.ReadAhead+2000)
	w.conn.Resume()
	w.Settle()
	require.Len(t, s.log, 1+lines)
}

package echo_test

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/echo"
)

// closing is a conversation of a service whose end the test sees.
type closing struct {
	chat.Handler
	cause error
	times int
}

func (h *closing) Unwrap() any { return h.Handler }

func (h *closing) HandleClose(_ *chat.Conn, cause error) { h.cause, h.times = cause, h.times+1 }

// serve attaches a service to one end of a connection and gives the test the other.
func serve(t *testing.T, c sim.Config, newHandler func(*chat.Conn) chat.Handler) (*sim.World, *chat.Conn, *sim.Peer, *closing) {
	t.Helper()
	c.T = t
	w := sim.New(c)
	s, peer := w.Pair()
	h := new(closing)
	conn, err := chat.Attach(w.Loop(core.Options{}), s, func(c *chat.Conn) chat.Handler {
		h.Handler = newHandler(c)
		return h
	})
	require.NoError(t, err)
	return w, conn, peer, h
}

// A peer that sends and does not read is not read from any more: what it costs is what the marks say, and the windows of
// the connection. When it reads, everything comes back.
func TestStreamHoldsBackWhoDoesNotRead(t *testing.T) {
	const window = 4 << 10
	w, c, peer, _ := serve(t, sim.Config{Window: window}, echo.Stream)
	text := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	peer.Stall(true)
	peer.Say(text)
	w.Settle()
	marks := buffered.DefaultMarks
	require.Greater(t, c.Queued(), marks.High)
	require.LessOrEqual(t, c.Queued(), marks.High+window, "one read beyond the mark at most")
	require.Equal(t, core.Interest(0), c.Core().Interest()&core.Read)

	peer.Stall(false)
	peer.Want(text)
	peer.WantNothing()
	require.Zero(t, c.Queued())
}

// Who neither reads nor, held back, sends is idle.
func TestStreamIdleTimeoutOfWhoDoesNotRead(t *testing.T) {
	w, _, peer, h := serve(t, sim.Config{}, echo.Stream)
	peer.Stall(true)
	peer.Say(strings.Repeat("x", 1<<20))
	w.Settle()
	w.Advance(echo.DefaultIdleTimeout + time.Second)
	require.Equal(t, 1, h.times)
	require.ErrorIs(t, h.cause, core.ErrTimeout)
}

// The idle timeout is a default: a newHandler around the service's own replaces it.
func TestIdleTimeoutCanBeReplaced(t *testing.T) {
	for name, newHandler := range map[string]func(*chat.Conn) chat.Handler{
		"stream": echo.Stream, "discard": echo.Discard,
	} {
		t.Run(name, func(t *testing.T) {
			w, _, _, h := serve(t, sim.Config{}, func(c *chat.Conn) chat.Handler {
				own := newHandler(c)
				c.SetIdleTimeout(time.Second)
				return own
			})
			w.Advance(2 * time.Second)
			require.ErrorIs(t, h.cause, core.ErrTimeout)
		})
	}
}

// A conversation ends when the loop shuts down, after what is under way.
func TestShutdown(t *testing.T) {
	for _, test := range []struct {
		name       string
		newHandler func(*chat.Conn) chat.Handler
		say, want  string
	}{
		{"lines", echo.Lines(lineLimit), "one\ntwo\n", "one\ntwo\n"},
		{"stream", echo.Stream, "one", "one"},
		{"discard", echo.Discard, "one", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, c, peer, h := serve(t, sim.Config{}, test.newHandler)
			peer.Say(test.say)
			w.Settle()
			c.Loop().Shutdown(time.Second)
			peer.Want(test.want)
			peer.WantClosed()
			peer.Close()
			w.Settle()
			require.ErrorIs(t, h.cause, core.ErrShutdown)
		})
	}
}

// A line that is under way when the loop shuts down may still be finished.
func TestLinesShutdownWaitsForTheLine(t *testing.T) {
	w, c, peer, _ := serve(t, sim.Config{}, echo.Lines(lineLimit))
	peer.Say("half a")
	w.Settle()
	c.Loop().Shutdown(time.Minute)
	w.Advance(time.Second)
	peer.Say(" line\nand more\n")
	peer.Want("half a line\n")
	peer.WantClosed()
}

func TestLinesTooLongIsTheCause(t *testing.T) {
	w, _, peer, h := serve(t, sim.Config{}, echo.Lines(lineLimit))
	peer.Say(strings.Repeat("x", lineLimit+1))
	peer.WantClosed()
	peer.Close()
	w.Settle()
	require.ErrorIs(t, h.cause, core.ErrTooLong)
}

// RFC 863: the service takes what it is sent at once, so that the peer is never stopped.
func TestDiscardKeepsReading(t *testing.T) {
	w, c, peer, h := serve(t, sim.Config{Window: 1 << 10}, echo.Discard)
	peer.Say(strings.Repeat("x", 1<<20))
	peer.CloseWrite() // goes out behind everything
	peer.WantClosed()
	w.Settle()
	require.Equal(t, uint64(1<<20), c.Loop().Stats().BytesIn)
	require.Zero(t, c.Loop().Stats().BytesOut)
	require.ErrorIs(t, h.cause, io.EOF)
}

// A service outlives whatever its client does, and tells why it ended.
func TestRudeClients(t *testing.T) {
	for name, newHandler := range map[string]func(*chat.Conn) chat.Handler{
		"lines": echo.Lines(lineLimit), "stream": echo.Stream, "discard": echo.Discard, "chargen": echo.Chargen(-1),
	} {
		t.Run(name, func(t *testing.T) {
			w, _, peer, h := serve(t, sim.Config{}, newHandler)
			peer.Stall(true)
			peer.Say("half a")
			w.Settle()
			peer.Reset()
			w.Settle()
			require.Equal(t, 1, h.times)
			require.ErrorIs(t, h.cause, syscall.ECONNRESET)
		})
	}
}

// RFC 867: the answer is the loop's time, whatever zone the machine is in, and nothing that the peer sends matters: not
// even input that is there before the service looks.
func TestDaytime(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	l := w.Loop(core.Options{})
	_, err := chat.Listen(l, "tcp", "server:13", echo.Daytime)
	require.NoError(t, err)
	for _, test := range []struct {
		after time.Duration
		want  string
	}{
		{0, "Saturday, January 1, 2000 00:00:00-UTC\r\n"},
		{90 * time.Second, "Saturday, January 1, 2000 00:01:30-UTC\r\n"},
		{59 * 24 * time.Hour, "Tuesday, February 29, 2000 00:01:30-UTC\r\n"},
	} {
		w.Advance(test.after)
		client := w.Dial("tcp", "server:13")
		client.Say("what time is it?\r\n") // sent with the first packet that it can
		client.Want(test.want)
		client.WantClosed()
		client.Close()
	}
	w.Settle()
	require.Equal(t, 1, l.Stats().Channels, "the listener alone")
}

// Who does not take the answer is not waited for without end.
func TestDaytimeNotTaken(t *testing.T) {
	w, _, peer, h := serve(t, sim.Config{Window: 10}, echo.Daytime)
	peer.Stall(true)
	w.Advance(buffered.DefaultCloseTimeout + time.Second)
	require.ErrorIs(t, h.cause, core.ErrTimeout)
}

// The syntax is the one of RFC 867's first example.
func TestDaytimeLayout(t *testing.T) {
	pst := time.FixedZone("PST", -8*60*60)
	example := time.Date(1982, time.February, 22, 17, 37, 43, 0, pst)
	// The 22nd was a Monday. The example says Tuesday.
	require.Equal(t, "Monday, February 22, 1982 17:37:43-PST\r\n", example.Format(echo.DaytimeLayout))
	longest := time.Date(2026, time.September, 30, 23, 59, 59, 0, time.UTC)
	require.Len(t, longest.Format(echo.DaytimeLayout), 44)
}

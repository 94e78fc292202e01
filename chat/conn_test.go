package chat_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// session is a handler made of funcs that also keeps a log.
type session struct {
	chat.Buffer
	log     []string
	found   func(c *chat.Conn, token string) error
	collect func(c *chat.Conn, data []byte) error
	onError func(c *chat.Conn, err error)
	cause   error
	closed  int
}

func (s *session) CollectIncomingData(c *chat.Conn, data []byte) error {
	if s.collect != nil {
		if err := s.collect(c, data); err != nil {
			return err
		}
	}
	return s.Buffer.CollectIncomingData(c, data)
}

func (s *session) FoundTerminator(c *chat.Conn) error {
	token := string(s.Take())
	s.log = append(s.log, token)
	if s.found == nil {
		return nil
	}
	return s.found(c, token)
}

func (s *session) HandleClose(_ *chat.Conn, cause error) {
	s.cause = cause
	s.closed++
	s.log = append(s.log, fmt.Sprintf("close %v", cause))
}

// withError adds HandleError.
type withError struct{ *session }

func (s withError) HandleError(c *chat.Conn, err error) {
	s.log = append(s.log, "error "+err.Error())
	if s.onError != nil {
		s.onError(c, err)
	}
}

// world is a simulated world with one loop and one conversation.
type world struct {
	*sim.World
	loop *core.Loop
	peer *sim.Peer
	conn *chat.Conn
}

func converse(t *testing.T, c sim.Config, h chat.Handler, setup ...func(c *chat.Conn)) *world {
	t.Helper()
	return converseWith(t, c, core.Options{Logger: slog.New(slog.DiscardHandler)}, h, setup...)
}

// untraced has the worlds of converse go without a trace hook.
var untraced bool

func converseWith(t *testing.T, c sim.Config, o core.Options, h chat.Handler, setup ...func(c *chat.Conn)) *world {
	t.Helper()
	c.T, c.Untraced = t, untraced
	w := &world{World: sim.New(c)}
	w.loop = w.Loop(o)
	var s core.Socket
	s, w.peer = w.Pair()
	var err error
	w.conn, err = chat.Attach(w.loop, s, func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.CRLF)
		for _, f := range setup {
			f(c)
		}
		return h
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.loop.Close()) })
	return w
}

func terminator(t chat.Terminator) func(*chat.Conn) {
	return func(c *chat.Conn) { c.SetTerminator(t) }
}

func TestGreetingAndLines(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error { return c.Printf("<%s>\r\n", token) }
	w := converse(t, sim.Config{}, s, func(c *chat.Conn) { c.PushString("hello\r\n") })
	w.peer.Want("hello\r\n")
	w.peer.Say("a\r\n\r\nb")
	w.peer.Want("<a>\r\n<>\r\n")
	w.peer.Say("c\r\n")
	w.peer.Want("<bc>\r\n")
	w.peer.CloseWrite()
	w.peer.WantClosed()
	require.Equal(t, []string{"a", "", "bc", "close EOF"}, s.log)
}

// An answer to a batch of lines leaves in one send, when the event is over.
func TestPushesOfOneEventAreOneSend(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error { return c.PushString(token) }
	sends := 0
	w := converseWith(t, sim.Config{}, core.Options{Trace: func(e *core.Event) {
		if e.Kind == core.TraceSend {
			sends++
		}
	}}, s)
	w.peer.Say("a\r\nb\r\nc\r\n")
	w.peer.Want("abc")
	require.Equal(t, 1, sends)
}

// Whatever the socket takes of what an event pushed, and of a shared message, the rest follows.
func TestPushesInPieces(t *testing.T) {
	for _, size := range []int{1, 20, buffered.SharedMin - 1, buffered.SharedMin, buffered.SharedMin + 20} {
		m := buffered.NewShared(bytes.Repeat([]byte("m"), size))
		own := strings.Repeat("o", size)
		for _, answer := range []struct {
			want string
			push func(c *chat.Conn)
		}{
			{own, func(c *chat.Conn) { c.PushString(own) }},
			{string(m.Bytes()), func(c *chat.Conn) { c.PushShared(m) }},
			{string(m.Bytes()) + own, func(c *chat.Conn) { c.PushShared(m); c.PushString(own) }},
			{own + string(m.Bytes()), func(c *chat.Conn) { c.PushString(own); c.PushShared(m) }},
		} {
			s := &session{}
			s.found = func(c *chat.Conn, _ string) error { answer.push(c); return nil }
			w := converse(t, sim.Config{}, s)
			for n := range len(answer.want) + 1 {
				w.peer.PlanSends(n)
				w.peer.Say("x\r\n")
				w.peer.Want(answer.want)
			}
			require.Zero(t, w.conn.Queued())
		}
		m.Release()
		require.Panics(t, m.Release, "that was the last one")
	}
}

func TestSwitchingTerminators(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		switch token {
		case "count":
			c.SetTerminator(chat.Count(4))
		case "dot":
			c.SetTerminator(chat.Dot)
		case "line":
			c.SetTerminator(chat.Line)
		case "aab":
			c.SetTerminator(chat.Literal("aab"))
		case "empty":
			c.SetTerminator(chat.Count(0))
		case "split":
			c.SetTerminator(chat.Split(bufio.ScanWords))
		default:
			c.SetTerminator(chat.CRLF)
		}
		return nil
	}
	const in = "count\r\n1\r\n2dot\r\n.\r\ndot\r\n..x\r\n.y\r\n.\r\nline\r\nl1\naab\r\naaabempty\r\nempty\r\nsplit\r\n  word  end\r\n"
	want := []string{"count", "1\r\n2", "dot", "", "dot", ".x\r\ny\r\n", "line", "l1", "aab", "a", "empty", "", "empty", "", "split",
		"word", " end"}
	for cut := 0; cut <= len(in); cut++ {
		s.log = nil
		w := converse(t, sim.Config{}, s)
		w.peer.Say(in[:cut])
		w.Settle()
		w.peer.Say(in[cut:])
		w.Settle()
		require.Equal(t, want, s.log, "cut at %d\n%s", cut, w.Ladder())
	}
}

// A million pipelined counted items neither grow the stack nor copy the rest for each.
func TestMillionCountedItems(t *testing.T) {
	const items = 1_000_000
	n := 0
	depth := 0
	s := &counter{f: func(c *chat.Conn) {
		if n++; n%100_000 == 0 {
			depth = max(depth, strings.Count(string(debug.Stack()), "\n"))
		}
		c.SetTerminator(chat.Count(1))
	}}
	w := converse(t, sim.Config{Window: 1 << 20}, s, terminator(chat.Count(1)))
	w.peer.Say(strings.Repeat("x", items))
	w.Settle()
	require.Equal(t, items, n)
	require.Less(t, depth, 80, "lines of stack")
}

type counter struct{ f func(c *chat.Conn) }

func (*counter) CollectIncomingData(*chat.Conn, []byte) error { return nil }
func (h *counter) FoundTerminator(c *chat.Conn) error         { h.f(c); return nil }

// Count(0) is found at once, also where no input would ever come; a handler that sets it for ever is stopped.
func TestEmptyCount(t *testing.T) {
	n := 0
	h := &counter{f: func(c *chat.Conn) {
		if n++; n < 500 {
			c.SetTerminator(chat.Count(0))
		}
	}}
	w := converse(t, sim.Config{}, h, terminator(chat.Count(0)))
	w.Settle()
	require.Equal(t, 500, n)

	endless := &counter{f: func(c *chat.Conn) { c.SetTerminator(chat.Count(0)) }}
	w = converse(t, sim.Config{}, endless, terminator(chat.Count(0)))
	w.peer.WantClosed()
}

func TestCountIsOneShot(t *testing.T) {
	s := &session{}
	w := converse(t, sim.Config{}, s, terminator(chat.Count(3)))
	w.peer.Say("ab")
	w.Settle()
	require.EqualValues(t, 1, w.conn.Missing())
	require.True(t, w.conn.MidToken())
	w.peer.Say("cdefg")
	w.Settle()
	require.Equal(t, []string{"abc"}, s.log)
	require.Equal(t, chat.None, w.conn.Terminator())
	require.Equal(t, "defg", string(s.Collected()))
}

// SetTerminator outside of FoundTerminator: within Collect it acts behind the data, elsewhere also on what is held back.
func TestSetTerminatorElsewhere(t *testing.T) {
	s := &session{}
	s.collect = func(c *chat.Conn, data []byte) error {
		if string(data) == "abc" {
			c.SetTerminator(chat.Literal("r"))
		}
		return nil
	}
	w := converse(t, sim.Config{}, s)
	w.peer.Say("abc\r\nr")
	w.Settle()
	require.Equal(t, []string{"abc\r\n"}, s.log)

	s = &session{}
	w = converse(t, sim.Config{}, s, terminator(chat.Literal("\r\n.\r\n")))
	w.peer.Say("x\r\n.")
	w.Settle()
	require.Equal(t, "x", string(s.Collected()), "a possible terminator is held back")
	w.loop.Post(func() { w.conn.SetTerminator(chat.Literal("\n")) })
	w.Settle()
	require.Equal(t, []string{"x\r"}, s.log, "what was held back is scanned anew")
	require.Equal(t, ".", string(s.Collected()))
}

// What a handler collected before SetTerminator stays with it: the next FoundTerminator has it too, wherever the reads
// were cut.
func TestLinesAcrossSetTerminator(t *testing.T) {
	var got []string
	w := converse(t, sim.Config{}, chat.Lines(func(_ *chat.Conn, line []byte) error {
		got = append(got, string(line))
		return nil
	}))
	w.peer.Say("begun ")
	w.Settle()
	w.loop.Post(func() { w.conn.SetTerminator(chat.Literal("\n")) })
	w.Settle()
	w.peer.Say("here\nand\n")
	w.Settle()
	require.Equal(t, []string{"begun here", "and"}, got)
}

// Long lines are collected in memory that is kept for the next one; the beginning of a short line never gets it.
func TestLongLinesAreWhole(t *testing.T) {
	var got []int
	long := strings.Repeat("x", 300<<10)
	w := converse(t, sim.Config{}, chat.Lines(func(_ *chat.Conn, line []byte) error {
		got = append(got, len(line))
		if string(line) != long[:len(line)] {
			return errors.New("not what was sent")
		}
		return nil
	}), func(c *chat.Conn) { c.SetLimit(1 << 20) })
	for range 3 {
		w.peer.Say(long + "\r\nxx\r\n" + long[:100<<10] + "\r\n")
	}
	w.Settle()
	require.Equal(t, []int{300 << 10, 2, 100 << 10, 300 << 10, 2, 100 << 10, 300 << 10, 2, 100 << 10}, got)
}

func TestPauseInTheMiddleOfABuffer(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		if token == "pause" {
			c.Pause()
		}
		return nil
	}
	w := converse(t, sim.Config{}, s)
	w.peer.Say("a\r\npause\r\nb\r\nc\r\npause\r\nd")
	w.Settle()
	require.Equal(t, []string{"a", "pause"}, s.log)
	require.True(t, w.conn.Paused())
	w.peer.Say("e\r\n")
	w.Settle()
	require.Equal(t, []string{"a", "pause"}, s.log)
	w.loop.Post(w.conn.Resume)
	w.Settle()
	require.Equal(t, []string{"a", "pause", "b", "c", "pause"}, s.log)
	w.loop.Post(w.conn.Resume)
	w.Settle()
	require.Equal(t, []string{"a", "pause", "b", "c", "pause", "de"}, s.log)
}

// While it is paused the peer's end is not read, and so not lost either.
func TestPausedThenEOF(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		c.Pause()
		c.AfterFunc(time.Minute, c.Resume)
		return c.PushString(token + ";")
	}
	w := converse(t, sim.Config{}, s)
	w.peer.Say("a\r\nb\r\nc\r\n")
	w.peer.CloseWrite()
	w.Advance(time.Hour)
	w.peer.Want("a;b;c;")
	w.peer.WantClosed()
	require.Equal(t, []string{"a", "b", "c", "close EOF"}, s.log)
}

// readable is a handler with the predicate of asyncore.
type readable struct {
	*session
	ok bool
}

func (r *readable) Readable() bool { return r.ok }

func TestReadablePredicate(t *testing.T) {
	r := &readable{session: &session{}}
	w := converse(t, sim.Config{}, r)
	w.peer.Say("a\r\n")
	w.Settle()
	require.Empty(t, r.log)
	r.ok = true
	w.loop.Post(func() {})
	w.Settle()
	require.Equal(t, []string{"a"}, r.log)
}

// --- limits

type tooLong struct {
	*session
	f func(c *chat.Conn) error
}

func (h *tooLong) HandleTooLong(c *chat.Conn) error {
	h.log = append(h.log, "too long: "+string(h.Take()))
	return h.f(c)
}

func TestTooLongClosesByDefault(t *testing.T) {
	s := &session{}
	w := converse(t, sim.Config{}, s, func(c *chat.Conn) { c.SetLimit(4) })
	w.peer.Say("abcd\r\nabcde\r\n")
	w.Advance(buffered.LingerTimeout)
	require.Equal(t, []string{"abcd", "close parley: token too long"}, s.log)
	require.ErrorIs(t, s.cause, core.ErrTooLong)
}

// A server whose handler has no HandleClose still says in its log why the connection went.
func TestTooLongIsLogged(t *testing.T) {
	var out bytes.Buffer
	w := converseWith(t, sim.Config{}, core.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))},
		chat.Lines(func(*chat.Conn, []byte) error { return nil }), func(c *chat.Conn) { c.SetLimit(10) })
	w.peer.Say("a line without end")
	w.Advance(buffered.LingerTimeout)
	require.Contains(t, out.String(), "token too long")

	out.Reset()
	w = converseWith(t, sim.Config{Window: 10}, core.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))},
		chat.Lines(func(c *chat.Conn, _ []byte) error {
			for c.PushString(strings.Repeat("x", 1<<20)) == nil {
			}
			return nil
		}))
	w.peer.Stall(true)
	w.peer.Say("go\r\n")
	w.Settle()
	require.Contains(t, out.String(), core.ErrOverflow.Error())
}

func TestSkipToken(t *testing.T) {
	const in = "abcdefgh\r\nok\r\n12345\r\n"
	for cut := 0; cut < len(in); cut++ {
		h := &tooLong{session: &session{}, f: func(c *chat.Conn) error { c.SkipToken(); return nil }}
		w := converse(t, sim.Config{}, h, func(c *chat.Conn) { c.SetLimit(4) })
		w.peer.Say(in[:cut])
		w.Settle()
		w.peer.Say(in[cut:])
		w.Settle()
		require.Equal(t, []string{"too long: abcd", "", "ok", "too long: 1234", ""}, h.log, "cut at %d", cut)
	}
}

func TestTooLongSetsAnotherTerminator(t *testing.T) {
	const in = "ab\raab\r\n"
	for cut := 0; cut < len(in); cut++ {
		h := &tooLong{session: &session{}, f: func(c *chat.Conn) error {
			c.SetLimit(10)
			c.SetTerminator(chat.Literal("b"))
			return nil
		}}
		w := converse(t, sim.Config{}, h, func(c *chat.Conn) { c.SetLimit(2) })
		w.peer.Say(in[:cut])
		w.Settle()
		w.peer.Say(in[cut:])
		w.Settle()
		require.Equal(t, []string{"too long: ab", "\raa"}, h.log, "cut at %d\n%s", cut, w.Ladder())
	}
}

// The answers to what came before go out, wherever the reads were cut: rule 10.
func TestAnswersBeforeAFailureGoOut(t *testing.T) {
	for name, x := range map[string]struct{ bad, answer string }{
		"too long": {"abcdef\r\n", "<a>"},
		"error":    {"err\r\n", "<a>"},
		"panic":    {"pan\r\n", "<a>"},
	} {
		in := "a\r\n" + x.bad + "b\r\n"
		for cut := 0; cut <= len(in); cut++ {
			s := &session{}
			s.found = func(c *chat.Conn, token string) error {
				switch token {
				case "err":
					return errors.New("E")
				case "pan":
					panic("P")
				}
				return c.Printf("<%s>", token)
			}
			w := converse(t, sim.Config{}, s, func(c *chat.Conn) { c.SetLimit(4) })
			w.peer.Say(in[:cut])
			w.Settle()
			w.peer.Say(in[cut:])
			w.peer.Want(x.answer)
			w.peer.WantClosed()
			require.NotContains(t, s.log, "b", name)
		}
	}
}

func TestTooLongWithoutDecisionCloses(t *testing.T) {
	h := &tooLong{session: &session{}, f: func(*chat.Conn) error { return nil }}
	w := converse(t, sim.Config{}, h, func(c *chat.Conn) { c.SetLimit(1) })
	w.peer.Say("abc")
	w.Advance(buffered.LingerTimeout)
	require.ErrorIs(t, h.cause, core.ErrTooLong)
}

// The defaults are those that the documentation names.
func TestDefaultLimits(t *testing.T) {
	for _, x := range []struct {
		name  string
		term  chat.Terminator
		limit int
		unit  string
	}{
		{"literal", chat.CRLF, chat.DefaultLimit, "x"},
		{"line", chat.Line, chat.DefaultLimit, "x"},
		{"dot line", chat.Dot, chat.DefaultLimit, "x"},
		{"dot block", chat.Dot, chat.DefaultBlockLimit, strings.Repeat("x", 62) + "\r\n"},
		{"split", chat.Split(bufio.ScanLines), chat.DefaultLimit + 1<<10, "x"},
	} {
		t.Run(x.name, func(t *testing.T) {
			total := 0
			d := chat.Data(func(_ *chat.Conn, p []byte) error { total += len(p); return nil })
			w := converse(t, sim.Config{Window: 1 << 20}, d, terminator(x.term))
			for sent := 0; sent < x.limit; sent += len(x.unit) * 512 {
				w.peer.Say(strings.Repeat(x.unit, 512))
				if sent%(1<<20) == 0 {
					w.Settle()
				}
			}
			w.Settle()
			require.False(t, w.conn.Closed())
			w.peer.Say(x.unit)
			w.Advance(buffered.LingerTimeout)
			require.True(t, w.conn.Closed())
			require.ErrorIs(t, w.conn.Core().Cause(), core.ErrTooLong)
			if x.name != "split" {
				require.Equal(t, x.limit, total)
			}
		})
	}
}

// --- closing

func TestCloseWhenDone(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		c.PushString("bye " + token)
		c.CloseWhenDone()
		require.ErrorIs(t, c.PushString("more"), core.ErrClosed)
		require.ErrorIs(t, c.PushProducer(buffered.Bytes(nil, 0)), core.ErrClosed)
		return nil
	}
	w := converse(t, sim.Config{}, s)
	w.peer.Say("QUIT\r\n")
	w.peer.Want("bye QUIT")
	w.peer.WantClosed()
	require.Equal(t, []string{"QUIT", "close <nil>"}, s.log)
}

// What is pipelined behind a QUIT is not executed, and does not reset the connection under its last reply.
func TestCloseWhenDoneLingers(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		c.PushString(token)
		c.CloseWhenDone()
		return nil
	}
	w := converse(t, sim.Config{MaxRecv: 7}, s)
	w.peer.Say("QUIT\r\n" + strings.Repeat("MORE\r\n", 100))
	w.peer.Want("QUIT")
	w.peer.WantClosed()
	require.Equal(t, []string{"QUIT"}, s.log)
	require.Zero(t, s.closed, "input is dropped for a while")
	w.Advance(buffered.LingerTimeout)
	require.Equal(t, 1, s.closed)
	require.NoError(t, w.peer.Err())

	// The peer's end of its stream ends the lingering.
	s.log, s.closed = nil, 0
	w = converse(t, sim.Config{MaxRecv: 7}, s)
	w.peer.Say("QUIT\r\n" + strings.Repeat("MORE\r\n", 100))
	w.peer.Want("QUIT")
	w.peer.CloseWrite()
	w.Settle()
	require.Equal(t, 1, s.closed)

	// More than LingerBytes is not waited for.
	s.log, s.closed = nil, 0
	w = converse(t, sim.Config{}, s)
	w.peer.Say("QUIT\r\n" + strings.Repeat("MORE\r\n", buffered.LingerBytes/3))
	w.Settle()
	require.Equal(t, 1, s.closed)
}

// SetLinger: what the peer says after that does not reset the connection either.
func TestSetLinger(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		c.SetLinger()
		c.PushString(token)
		c.CloseWhenDone()
		return nil
	}
	w := converse(t, sim.Config{}, s)
	w.peer.Say("TOO LONG\r\n")
	w.Settle()
	w.peer.Say("the rest")
	w.Settle()
	w.peer.Want("TOO LONG")
	w.peer.WantClosed()
	require.Zero(t, s.closed)
	w.Advance(buffered.LingerTimeout)
	require.Equal(t, 1, s.closed)
	require.NoError(t, w.peer.Err())
}

func TestCloseWhenDoneDeadline(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		c.PushString(strings.Repeat("x", 100_000))
		c.CloseWhenDone()
		return nil
	}
	w := converse(t, sim.Config{Window: 1000}, s)
	w.peer.Stall(true)
	w.peer.Say("QUIT\r\n")
	w.Advance(buffered.DefaultCloseTimeout - time.Second)
	require.Zero(t, s.closed)
	w.Advance(2 * time.Second)
	require.Equal(t, 1, s.closed)
	require.ErrorIs(t, s.cause, core.ErrTimeout)
}

// A peer that goes on taking what is queued is not cut off, however long it takes.
func TestCloseWhenDoneOfALongDownload(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		c.PushProducer(buffered.Bytes(make([]byte, 100_000), 0))
		c.CloseWhenDone()
		return nil
	}
	w := converse(t, sim.Config{Window: 1000}, s)
	w.peer.Stall(true)
	w.peer.Say("GET\r\n")
	for range 110 {
		w.peer.Take(1000)
		w.Advance(20 * time.Second)
	}
	require.NoError(t, s.cause)
	require.Equal(t, 1, s.closed)
	require.Equal(t, 100_000, w.peer.Unread())
}

func TestDiscardBuffersTakesCloseBack(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		switch token {
		case "big":
			c.PushString(strings.Repeat("x", 5000))
			c.CloseWhenDone()
		default:
			return c.PushString(token)
		}
		return nil
	}
	w := converse(t, sim.Config{Window: 100}, s)
	w.peer.Stall(true)
	w.peer.Say("big\r\n")
	w.Settle()
	require.True(t, w.conn.Closing())
	w.loop.Post(w.conn.DiscardBuffers)
	w.Settle()
	require.False(t, w.conn.Closing())
	w.peer.Stall(false)
	w.peer.Want(strings.Repeat("x", 100))
	w.peer.Say("hello\r\n")
	w.peer.Want("hello")
	w.Advance(time.Hour)
	require.Zero(t, s.closed, "no deadline is left behind")
}

// What a handler drops was read in one go with what it has, and is not handed on; what comes later is.
func TestDiscardBuffersBetweenTokensOfOneRead(t *testing.T) {
	for _, handler := range []string{"session", "lines"} {
		var got []string
		drop := func(c *chat.Conn, token string) {
			got = append(got, token)
			if token == "b" {
				c.DiscardBuffers()
				require.NoError(t, c.PushString("dropped\n"))
			}
		}
		s := &session{found: func(c *chat.Conn, token string) error {
			drop(c, token)
			return nil
		}}
		var h chat.Handler = s
		if handler == "lines" {
			h = chat.Lines(func(c *chat.Conn, line []byte) error {
				drop(c, string(line))
				return nil
			})
		}
		w := converse(t, sim.Config{}, h)
		w.peer.Say("a\r\nb\r\nc\r\nd")
		w.peer.Want("dropped\n")
		w.peer.Say("e\r\nf\r\n")
		w.Settle()
		require.Equal(t, []string{"a", "b", "e", "f"}, got, handler)
	}
}

// Close in a handler ends everything at once: no further token, no output, HandleClose once.
func TestCloseInFound(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		c.PushString("dropped")
		require.NoError(t, c.Close())
		require.NoError(t, c.Close())
		require.ErrorIs(t, c.PushString("x"), core.ErrClosed)
		return nil
	}
	w := converse(t, sim.Config{}, s)
	w.peer.Say("a\r\nb\r\nc\r\n")
	w.peer.WantClosed()
	require.Equal(t, []string{"a", "close <nil>"}, s.log)
}

func TestCloseInCollect(t *testing.T) {
	s := &session{}
	s.collect = func(c *chat.Conn, data []byte) error { return c.Close() }
	w := converse(t, sim.Config{}, s)
	w.peer.Say("a\r\nb\r\n")
	w.Settle()
	require.Equal(t, []string{"close <nil>"}, s.log)
}

func TestAbortResets(t *testing.T) {
	s := &session{found: func(c *chat.Conn, _ string) error { return c.Abort() }}
	w := converse(t, sim.Config{}, s)
	w.peer.Say("a\r\n")
	w.peer.WantReset()
	require.Equal(t, 1, s.closed)
}

// The bytes that could have been the beginning of the terminator are delivered at the end of the input.
func TestHeldBackAtEOF(t *testing.T) {
	for _, x := range []struct {
		term     chat.Terminator
		in, want string
	}{
		{chat.Literal("\r\n.\r\n"), "abc\r\n.", "abc\r\n."},
		{chat.CRLF, "abc\r", "abc\r"},
		{chat.Line, "abc\r", "abc\r"},
		{chat.Dot, "a\r\n.", "a\r\n."},
		{chat.Count(10), "abc", "abc"},
	} {
		s := &session{}
		w := converse(t, sim.Config{}, s, terminator(x.term))
		w.peer.Say(x.in)
		w.peer.CloseWrite()
		w.peer.WantClosed()
		require.Equal(t, x.want, string(s.Collected()), "%v", x.term)
	}
}

func TestSplitAtEOF(t *testing.T) {
	s := &session{}
	w := converse(t, sim.Config{}, s, terminator(chat.Split(bufio.ScanLines)))
	w.peer.Say("one\ntwo\nthree")
	w.peer.CloseWrite()
	w.peer.WantClosed()
	require.Equal(t, []string{"one", "two", "three", "close EOF"}, s.log)
}

func TestSplitFails(t *testing.T) {
	boom := errors.New("boom")
	s := &session{}
	w := converse(t, sim.Config{}, s, terminator(chat.Split(func(p []byte, _ bool) (int, []byte, error) {
		if p[0] == 'x' {
			return 0, nil, boom
		}
		return 1, p[:1], nil
	})))
	w.peer.Say("abxc")
	w.Advance(buffered.LingerTimeout)
	require.Equal(t, []string{"a", "b", "close boom"}, s.log)

	s = &session{}
	w = converse(t, sim.Config{}, s, terminator(chat.Split(func(p []byte, _ bool) (int, []byte, error) {
		return 1, p[:1], bufio.ErrFinalToken
	})))
	w.peer.Say("abc")
	w.Advance(buffered.LingerTimeout)
	require.Equal(t, []string{"a"}, s.log)
	require.Equal(t, "bc", string(s.Collected()), "None afterwards")

	for _, bad := range []int{-1, 100} {
		s = &session{}
		w = converse(t, sim.Config{}, s, terminator(chat.Split(func(p []byte, _ bool) (int, []byte, error) { return bad, nil, nil })))
		w.peer.Say("abc")
		w.Advance(buffered.LingerTimeout)
		require.Equal(t, 1, s.closed)
	}
}

// eof is a handler that goes on after the end of the input.
type eof struct {
	*session
	f func(c *chat.Conn) error
}

func (e *eof) HandleEOF(c *chat.Conn) error { return e.f(c) }

func TestHandleEOF(t *testing.T) {
	e := &eof{session: &session{}}
	e.f = func(c *chat.Conn) error {
		e.log = append(e.log, fmt.Sprintf("eof %v", c.MidToken()))
		c.AfterFunc(time.Second, func() {
			c.PushString("later")
			c.CloseWhenDone()
		})
		return c.PushString("now ")
	}
	w := converse(t, sim.Config{}, e)
	w.peer.Say("a\r\nb")
	w.peer.CloseWrite()
	w.peer.Want("now later")
	w.peer.WantClosed()
	require.Equal(t, []string{"a", "eof true", "close <nil>"}, e.log)
}

// A half-closed peer gets its whole answer, 400,000 octets through a small window. [P-half_close]
func TestHalfClosedPeerGetsItsAnswer(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, _ string) error { return c.PushString(strings.Repeat("0123456789", 40_000)) }
	w := converse(t, sim.Config{Window: 5000, Latency: time.Millisecond}, s)
	w.peer.Say("go\r\n")
	w.peer.CloseWrite()
	w.peer.Want(strings.Repeat("0123456789", 40_000))
	w.peer.WantClosed()
	require.Equal(t, io.EOF, s.cause)
}

// --- errors and panics

func TestErrorInFoundGoesOn(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		switch token {
		case "error":
			return errors.New("E")
		case "panic":
			panic("P")
		case "block":
			return core.ErrWouldBlock
		}
		return nil
	}
	w := converse(t, sim.Config{}, withError{s})
	w.peer.Say("a\r\nerror\r\nb\r\npanic\r\nc\r\nblock\r\nd\r\n")
	w.Settle()
	require.Equal(t, []string{"a", "error", "error E", "b", "panic", "error parley: handler panicked: P", "c", "block", "d"}, s.log)
}

func TestErrorInCollectIsNotRedelivered(t *testing.T) {
	s := &session{}
	first := true
	s.collect = func(*chat.Conn, []byte) error {
		if first {
			first = false
			return errors.New("E")
		}
		return nil
	}
	w := converse(t, sim.Config{}, withError{s})
	w.peer.Say("lost\r\nkept\r\n")
	w.Settle()
	require.Equal(t, []string{"error E", "", "kept"}, s.log)
}

func TestErrorClosesByDefault(t *testing.T) {
	for name, f := range map[string]func(*chat.Conn, string) error{
		"error": func(*chat.Conn, string) error { return errors.New("E") },
		"panic": func(*chat.Conn, string) error { panic("P") },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			s := &session{found: f}
			w := converseWith(t, sim.Config{}, core.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))}, s)
			w.peer.Say("a\r\nb\r\n")
			w.peer.WantClosed()
			w.Advance(buffered.LingerTimeout)
			require.Equal(t, 1, s.closed)
			require.Equal(t, "a", s.log[0])
			require.Len(t, s.log, 2)
			require.Contains(t, out.String(), "handler failed")
			var p *core.PanicError
			require.Equal(t, name == "panic", errors.As(s.cause, &p))
			if p != nil {
				require.Contains(t, string(p.Stack), "conn_test.go", "A5: the stack is that of the panic")
			}
		})
	}
}

// The error hook itself may fail: the channel closes, the loop goes on.
func TestPanicInHandleError(t *testing.T) {
	s := &session{found: func(*chat.Conn, string) error { return errors.New("E") }}
	s.onError = func(*chat.Conn, error) { panic("again") }
	w := converse(t, sim.Config{}, withError{s})
	w.peer.Say("a\r\n")
	w.peer.WantClosed()
	require.Equal(t, 1, s.closed)
	var p *core.PanicError
	require.ErrorAs(t, s.cause, &p)
}

// --- output

// 60,000 one-octet requests answered with 1 KB each to a slow reader: all arrive, and the queue is never above the high
// mark plus one answer. [P-no_backpressure]
func TestBackPressure(t *testing.T) {
	const requests, answer = 60_000, 1024
	reply := strings.Repeat("r", answer)
	highest := 0
	s := &counter{f: func(c *chat.Conn) {
		c.PushString(reply)
		highest = max(highest, c.Queued())
		c.SetTerminator(chat.Count(1))
	}}
	w := converseWith(t, sim.Config{Window: 16 << 10}, core.Options{}, s, terminator(chat.Count(1)))
	w.peer.Stall(true)
	w.peer.Say(strings.Repeat("q", requests))
	w.Settle()
	require.LessOrEqual(t, highest, buffered.DefaultMarks.High+answer)
	total := 0
	for total < requests*answer {
		w.peer.Take(50_000)
		n := len(w.peer.Read())
		require.NotZero(t, n)
		total += n
	}
	require.Equal(t, requests*answer, total)
	require.LessOrEqual(t, highest, buffered.DefaultMarks.High+answer)
}

type levels struct{ *session }

func (l levels) HandleHigh(c *chat.Conn) error {
	l.log = append(l.log, "high")
	return nil
}

func (l levels) HandleLow(c *chat.Conn) error {
	l.log = append(l.log, fmt.Sprintf("low %d", c.Queued()))
	return nil
}

func TestLevels(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error { return c.PushString(strings.Repeat("x", 600)) }
	marks := &buffered.Marks{Low: 100, High: 1000, Limit: 5000}
	w := converse(t, sim.Config{Window: 500}, levels{s}, func(c *chat.Conn) { c.SetMarks(marks) })
	w.peer.Stall(true)
	w.peer.Say("a\r\nb\r\nc\r\nd\r\n")
	w.Settle()
	require.Equal(t, []string{"a", "b", "c", "high"}, s.log, "the fourth waits")
	w.peer.Take(800) // 1300 are queued, 500 are in the window
	w.Settle()
	require.Equal(t, []string{"a", "b", "c", "high"}, s.log)
	w.peer.Take(500)
	w.Settle()
	require.Equal(t, []string{"a", "b", "c", "high", "low 0", "d"}, s.log)
}

// Output that is not an answer holds the peer back, too: a Post's, a timer's, a producer's.
func TestHighMarkOfOtherOutput(t *testing.T) {
	s := &session{}
	w := converse(t, sim.Config{Window: 100}, s)
	w.peer.Stall(true)
	w.loop.Post(func() { w.conn.PushString(strings.Repeat("x", buffered.DefaultMarks.High+200)) })
	w.Settle()
	w.peer.Say("a\r\n")
	w.Settle()
	require.Empty(t, s.log)
	w.peer.Stall(false)
	w.Settle()
	require.Equal(t, []string{"a"}, s.log)
}

func TestOverflowCloses(t *testing.T) {
	s := &session{}
	var errs []error
	s.found = func(c *chat.Conn, token string) error {
		for range 6 {
			errs = append(errs, c.PushString(strings.Repeat("x", 1<<20)))
		}
		return nil
	}
	w := converse(t, sim.Config{Window: 10}, s)
	w.peer.Stall(true)
	w.peer.Say("a\r\n")
	w.Settle()
	require.Equal(t, []error{nil, nil, nil, nil, core.ErrOverflow, core.ErrClosed}, errs)
	require.ErrorIs(t, s.cause, core.ErrOverflow)
}

// counted is a producer of numbered blocks.
type counted struct {
	n, max int
	wait   bool
	fail   error
	closed int
	asked  int
}

func (p *counted) More(limit int) ([]byte, error) {
	p.asked++
	switch {
	case p.wait:
		return nil, core.ErrWouldBlock
	case p.n == p.max && p.fail != nil:
		return nil, p.fail
	case p.n == p.max:
		return nil, io.EOF
	}
	p.n++
	return fmt.Appendf(nil, "%04d", p.n), nil
}

func (p *counted) Close() error { p.closed++; return nil }

func TestProducerOrderAndLaziness(t *testing.T) {
	p := &counted{max: 1000}
	s := &session{}
	s.found = func(c *chat.Conn, _ string) error {
		c.PushString("[")
		require.NoError(t, c.PushProducer(p))
		require.Zero(t, p.asked, "never from inside a handler")
		c.PushString("]")
		c.CloseWhenDone()
		return nil
	}
	w := converse(t, sim.Config{Window: 40}, s)
	w.peer.Stall(true)
	w.peer.Say("go\r\n")
	w.Settle()
	require.LessOrEqual(t, p.asked, 12, "asked only as far as the peer takes")
	w.peer.Stall(false)
	var want strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&want, "%04d", i+1)
	}
	w.peer.Want("[" + want.String() + "]")
	w.peer.WantClosed()
	require.Equal(t, 1, p.closed)
}

func TestProducerWaits(t *testing.T) {
	p := &counted{max: 2, wait: true}
	s := &session{}
	s.found = func(c *chat.Conn, _ string) error {
		c.PushProducer(p)
		return c.PushString("end")
	}
	w := converse(t, sim.Config{}, s)
	w.peer.Say("go\r\n")
	w.peer.WantNothing()
	require.Equal(t, 1, p.asked, "not asked again and again")
	p.wait = false
	w.loop.Post(w.conn.ResumeProducer)
	w.peer.Want("00010002end")
	require.Equal(t, 1, p.closed)
}

// A producer may be resumed while it is being asked: whatever it waited for came at once. It is asked again when others
// had their turn, so that one that always says so holds up nobody.
func TestResumeProducerWithinMore(t *testing.T) {
	for _, times := range []int{1, 2, 1000} {
		asked := 0
		s := &session{}
		s.found = func(c *chat.Conn, _ string) error {
			return c.PushProducer(producerFunc(func(int) ([]byte, error) {
				if asked++; asked <= times {
					c.ResumeProducer()
					return nil, core.ErrWouldBlock
				}
				return []byte("made"), io.EOF
			}))
		}
		w := converse(t, sim.Config{}, s)
		w.peer.Say("go\r\n")
		before := w.loop.Stats().Passes
		w.peer.Want("made")
		require.Equal(t, times+1, asked)
		require.GreaterOrEqual(t, w.loop.Stats().Passes-before, uint64(times/2), "at most twice in a pass")
		w.Settle()
		after := w.loop.Stats().Passes
		w.Advance(time.Hour)
		require.Less(t, w.loop.Stats().Passes-after, uint64(10), "nothing is left to be asked")
	}
}

type producerFunc func(int) ([]byte, error)

func (f producerFunc) More(n int) ([]byte, error) { return f(n) }

// A closing conversation whose producer has nothing yet drops input, and notices when the peer goes.
func TestClosingWhileAProducerWaits(t *testing.T) {
	for _, asked := range []bool{false, true} {
		begin := func() (*world, *session, *counted) {
			p := &counted{max: 2, wait: true}
			r := &readable{session: &session{}, ok: true}
			r.found = func(c *chat.Conn, _ string) error {
				c.PushProducer(p)
				c.CloseWhenDone()
				r.ok = false
				return nil
			}
			var h chat.Handler = r.session
			if asked {
				h = r
			}
			w := converse(t, sim.Config{}, h)
			w.peer.Say("go\r\n")
			w.peer.WantNothing()
			w.peer.Say("ignored\r\n")
			w.Settle()
			require.Equal(t, []string{"go"}, r.log)
			return w, r.session, p
		}

		w, s, p := begin()
		w.peer.Reset()
		w.Settle()
		require.ErrorIs(t, s.cause, syscall.ECONNRESET)
		require.Equal(t, 1, p.closed)

		w, s, p = begin()
		w.peer.CloseWrite()
		w.Settle()
		require.Zero(t, s.closed, "a half-closed peer gets its answer")
		p.wait = false
		w.loop.Post(w.conn.ResumeProducer)
		w.peer.Want("00010002")
		w.peer.WantClosed()
		require.NoError(t, s.cause)
	}
}

func TestProducerFails(t *testing.T) {
	boom := errors.New("boom")
	p := &counted{max: 2, fail: boom}
	behind := &counted{max: 1}
	s := &session{}
	s.found = func(c *chat.Conn, _ string) error {
		c.PushProducer(p)
		return c.PushProducer(behind)
	}
	w := converse(t, sim.Config{}, s)
	w.peer.Say("go\r\n")
	w.peer.Want("00010002")
	w.peer.WantClosed()
	require.ErrorIs(t, s.cause, boom)
	require.Equal(t, []int{1, 1}, []int{p.closed, behind.closed})
	require.Zero(t, behind.asked)
}

func TestProducerIsClosedWithItsChannel(t *testing.T) {
	p := &counted{max: 1 << 30}
	s := &session{found: func(c *chat.Conn, _ string) error { return c.PushProducer(p) }}
	w := converse(t, sim.Config{Window: 100}, s)
	w.peer.Stall(true)
	w.peer.Say("go\r\n")
	w.Settle()
	w.peer.Reset()
	w.Settle()
	require.Equal(t, 1, p.closed)
	require.Equal(t, 1, s.closed)
}

// An endless producer does not starve others.
func TestFlushBudget(t *testing.T) {
	endless := buffered.Reader(zeros{})
	s := &session{found: func(c *chat.Conn, _ string) error { return c.PushProducer(endless) }}
	w := converse(t, sim.Config{Window: 64 << 20}, s)
	sock, other := w.Pair()
	_, err := chat.Attach(w.loop, sock, func(*chat.Conn) chat.Handler {
		return chat.Lines(func(c *chat.Conn, line []byte) error { return c.PushString("served\n") })
	})
	require.NoError(t, err)
	w.peer.Say("go\r\n")
	other.Say("hello\n")
	other.Want("served\n")
	require.Less(t, w.peer.Unread(), 4*buffered.FlushBudget)
	w.conn.Abort()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// The peer closes while we send: what it had sent before is still read. [A24, F5]
func TestInputSurvivesBrokenPipe(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error { c.PushString("reply\r\n"); return nil }
	w := converse(t, sim.Config{MaxRecv: 100}, s)
	sock, peer := w.UnixPair()
	_, err := chat.Attach(w.loop, sock, func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.CRLF)
		return s
	})
	require.NoError(t, err)
	for i := range 1000 {
		peer.Say(fmt.Sprintf("line %d\r\n", i))
	}
	peer.Close()
	w.Settle()
	require.Len(t, s.log, 1001)
	require.Equal(t, "line 999", s.log[999])
	require.ErrorIs(t, s.cause, syscall.EPIPE)
}

// Our end of the stream goes out behind what was pushed, and the conversation goes on in the other direction.
func TestCloseWrite(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		if token == "end" {
			c.PushString(strings.Repeat("x", 1000))
			require.NoError(t, c.CloseWrite())
			require.ErrorIs(t, c.PushString("late"), core.ErrClosed)
		}
		return nil
	}
	w := converse(t, sim.Config{Window: 100}, s)
	w.peer.Say("end\r\n")
	w.peer.Want(strings.Repeat("x", 1000))
	w.peer.WantClosed()
	w.peer.Say("more\r\n")
	w.Settle()
	require.Equal(t, []string{"end", "more"}, s.log)
	w.peer.CloseWrite()
	w.Settle()
	require.Equal(t, io.EOF, s.cause)
	require.ErrorIs(t, w.conn.CloseWrite(), core.ErrClosed)
}

// A send that fails after CloseWhenDone closes the connection: it does not open the input again.
func TestSendFailsAfterCloseWhenDone(t *testing.T) {
	s := &session{}
	w := converse(t, sim.Config{MaxRecv: 3}, s)
	s.found = func(c *chat.Conn, token string) error {
		if token == "1" {
			w.loop.Post(func() {
				w.peer.PlanSends(-1)
				c.PushString("bye")
				c.CloseWhenDone()
				s.log = append(s.log, "bye")
			})
		}
		return nil
	}
	w.peer.Say("1\r\n2\r\n3\r\n4\r\n")
	w.Settle()
	require.Equal(t, []string{"1", "2", "bye", "close " + syscall.EPIPE.Error()}, s.log)
}

// A peer that asks for large answers and does not read them is not asked for more: each waits as a producer, which is more
// than its bytes.
func TestProducersAreBounded(t *testing.T) {
	s := &session{}
	n := 0
	s.found = func(c *chat.Conn, _ string) error {
		n++
		return c.PushProducer(buffered.Bytes(make([]byte, 1000), 0))
	}
	w := converse(t, sim.Config{Window: 1000}, s)
	w.peer.Stall(true)
	for range 100 {
		w.peer.Say(strings.Repeat("GET\r\n", 100))
		w.Settle()
	}
	require.Less(t, n, 100)
	w.peer.Stall(false)
	require.Len(t, w.peer.Read(), 10_000*1000)
	require.Equal(t, 10_000, n)
}

// What a handler refused to collect is no token: one whose beginning was collected would be half a command.
func TestCollectFails(t *testing.T) {
	for _, cut := range []int{0, 1, 4, 9} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			s := &session{}
			s.SetBufferLimit(4)
			w := converse(t, sim.Config{MaxRecv: cut}, s)
			w.peer.Say("123456789\r\nnext\r\n")
			w.Advance(3 * time.Second)
			require.Equal(t, 1, s.closed)
			require.Len(t, s.log, 1, "the close alone")
		})
	}
}

// A handler that makes no progress is closed, also if its HandleError does nothing.
func TestNoProgressCloses(t *testing.T) {
	s := &session{}
	errs := 0
	h := withError{s}
	s.found = func(c *chat.Conn, _ string) error { c.SetTerminator(chat.Count(0)); return nil }
	s.onError = func(c *chat.Conn, err error) {
		if errs++; errs > 1 {
			_ = c.Close()
		}
	}
	w := converse(t, sim.Config{}, h)
	w.peer.Say("a\r\nb")
	w.Settle()
	w.Advance(time.Minute)
	require.Equal(t, 1, errs)
	require.True(t, w.conn.Closed())
}

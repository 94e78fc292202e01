package chat_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// chooser picks a protocol by the first octet.
type chooser struct {
	*session
	first []byte
	f     func(c *chat.Conn, first byte) error
}

func (h *chooser) HandleFirst(c *chat.Conn, first byte) error {
	h.first = append(h.first, first)
	return h.f(c, first)
}

func TestFirstOctetChoosesTheProtocol(t *testing.T) {
	lines := &session{}
	h := &chooser{session: &session{}}
	h.f = func(c *chat.Conn, first byte) error {
		if first == '*' {
			c.SetTerminator(chat.Count(3))
			return c.SetHandler(lines)
		}
		return nil
	}
	for _, x := range []struct{ in, got string }{{"*12\r\n", "*12"}, {"abc\r\n", "abc"}} {
		h.log, lines.log, h.first = nil, nil, nil
		w := converse(t, sim.Config{MaxRecv: 1}, h)
		w.peer.Say(x.in)
		w.Settle()
		require.Equal(t, x.in[:1], string(h.first), "asked once")
		require.Equal(t, []string{x.got}, append(h.log, lines.log...))
	}
}

func TestAskFirst(t *testing.T) {
	h := &chooser{session: &session{}, f: func(*chat.Conn, byte) error { return nil }}
	h.found = func(c *chat.Conn, _ string) error { c.AskFirst(); return nil }
	w := converse(t, sim.Config{}, h)
	w.peer.Say("ab\r\ncd\r\n\r\nef")
	w.Settle()
	require.Equal(t, "ac\re", string(h.first))
	require.Equal(t, []string{"ab", "cd", ""}, h.log)

	// Asking for ever is stopped.
	h = &chooser{session: &session{}, f: func(c *chat.Conn, _ byte) error { c.AskFirst(); return nil }}
	w = converse(t, sim.Config{}, h)
	w.peer.Say("ab\r\n")
	w.peer.WantClosed()
	w.Advance(buffered.LingerTimeout)
	require.Equal(t, 1, h.closed)
}

// A tap between the conversation and its socket sees everything, and changes nothing.
func TestUpgradeWithATap(t *testing.T) {
	var seen bytes.Buffer
	tap := func(s core.Socket) (core.Layered, error) {
		return &sim.Tap{Socket: s, In: func(p []byte) { seen.Write(p) }, Out: func(p []byte) { fmt.Fprintf(&seen, "<%s>", p) }}, nil
	}
	for _, keep := range []bool{true, false} {
		seen.Reset()
		s := &session{}
		dropped := -1
		s.found = func(c *chat.Conn, token string) (err error) {
			c.PushString("ok " + token)
			if token == "tap" {
				dropped, err = c.Upgrade(tap, keep)
			}
			return err
		}
		w := converse(t, sim.Config{}, s)
		w.peer.Say("tap\r\npipelined\r\nhal")
		w.Settle()
		w.peer.Say("f\r\n")
		w.Settle()
		if keep {
			w.peer.Want("ok tapok pipelinedok half")
			require.Equal(t, []string{"tap", "pipelined", "half"}, s.log)
			require.Equal(t, "pipelined\r\nhal<ok pipelined>f\r\n<ok half>", seen.String())
			require.Zero(t, dropped)
		} else {
			w.peer.Want("ok tapok f")
			require.Equal(t, []string{"tap", "f"}, s.log)
			require.Equal(t, "f\r\n<ok f>", seen.String())
			require.Equal(t, len("pipelined\r\nhal"), dropped)
		}
	}
}

// A throttle needs a clock, changes its mind about interest by itself, and loses nothing.
func TestUpgradeWithAThrottle(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error { return c.PushString(token + "\r\n") }
	w := converse(t, sim.Config{}, s)
	w.loop.Post(func() {
		_, err := w.conn.Upgrade(func(s core.Socket) (core.Layered, error) { return &sim.Throttle{Socket: s, Rate: 1000}, nil }, true)
		require.NoError(t, err)
	})
	w.Settle()
	begin := w.Now()
	line := strings.Repeat("x", 998)
	for range 5 {
		w.peer.Say(line + "\r\n")
	}
	for range 5 {
		w.peer.Want(line + "\r\n")
	}
	took := w.Now().Sub(begin)
	require.InDelta(t, 5.0, took.Seconds(), 1.1, "5,000 octets in, 5,000 out, side by side")
}

// Layers on layers, and an upgrade while the input is paused.
func TestUpgradeStack(t *testing.T) {
	s := &session{}
	w := converse(t, sim.Config{}, s)
	var log []string
	for i := range 3 {
		w.loop.Post(func() {
			_, err := w.conn.Upgrade(func(s core.Socket) (core.Layered, error) {
				return &sim.Tap{Socket: s, In: func(p []byte) { log = append(log, fmt.Sprintf("%d:%s", i, p)) }}, nil
			}, true)
			require.NoError(t, err)
		})
	}
	w.Settle()
	w.peer.Say("a\r\n")
	w.Settle()
	require.Equal(t, []string{"0:a\r\n", "1:a\r\n", "2:a\r\n"}, log)
	require.Equal(t, []string{"a"}, s.log)

	w.loop.Post(func() {
		_, err := w.conn.Upgrade(func(core.Socket) (core.Layered, error) { return nil, io.ErrNoProgress }, true)
		require.ErrorIs(t, err, io.ErrNoProgress)
	})
	w.Settle()
	other, _ := w.Pair()
	w.loop.Post(func() {
		require.Error(t, w.conn.Core().Upgrade(&sim.Tap{Socket: other}), "not on this channel's socket")
	})
	w.Settle()
}

// --- what core/sim catches

type keeper struct{ kept [][]byte }

func (k *keeper) CollectIncomingData(_ *chat.Conn, data []byte) error {
	k.kept = append(k.kept, data) // the mistake: data is borrowed
	return nil
}

func (k *keeper) FoundTerminator(*chat.Conn) error { return nil }

func TestKeptSliceShowsPoison(t *testing.T) {
	k := &keeper{}
	w := converse(t, sim.Config{}, k)
	w.peer.Say("secret\r\n")
	w.Settle()
	require.Equal(t, strings.Repeat(string([]byte{core.Poison}), 6), string(k.kept[0]))
}

type misspelt struct{ session }

func (*misspelt) HandleClosed(*chat.Conn, error) {}

type wrongSignature struct{ chat.Buffer }

func (*wrongSignature) FoundTerminator(*chat.Conn) error { return nil }
func (*wrongSignature) HandleClose(c *chat.Conn) error   { return nil }

type otherCase struct{ chat.Buffer }

func (*otherCase) FoundTerminator(*chat.Conn) error { return nil }
func (*otherCase) HandleEof(*chat.Conn) error       { return nil }

func TestMisspeltHandlers(t *testing.T) {
	for _, x := range []struct {
		h    chat.Handler
		want string
	}{
		{&misspelt{}, "HandleClosed is never called: did you mean HandleClose?"},
		{&wrongSignature{}, "HandleClose is never called: its signature is not that of"},
		{&otherCase{}, "HandleEof is never called: did you mean HandleEOF?"},
	} {
		w := sim.New(sim.Config{T: t})
		l := w.Loop(core.Options{})
		s, _ := w.Pair()
		_, err := chat.Attach(l, s, func(*chat.Conn) chat.Handler { return x.h })
		require.ErrorContains(t, err, x.want)
	}
}

// A handler that calls back into the loop is told so.
func TestLoopCalledFromAHandler(t *testing.T) {
	var errs []error
	s := &session{}
	w := converse(t, sim.Config{}, s)
	s.found = func(c *chat.Conn, _ string) error {
		_, err := c.Loop().Step(0)
		errs = append(errs, err, c.Loop().Run(c.Context()), c.Loop().Close())
		return nil
	}
	w.peer.Say("a\r\n")
	w.Settle()
	require.Equal(t, []error{core.ErrRunning, core.ErrRunning, core.ErrRunning}, errs)
	require.False(t, w.conn.Closed())
}

// Interest that was changed behind the conversation's back is found after the event.
func TestAuditFindsWrongInterest(t *testing.T) {
	w := sim.New(sim.Config{})
	l := w.Loop(core.Options{})
	sock, peer := w.Pair()
	_, err := chat.Attach(l, sock, func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.CRLF)
		return &session{found: func(c *chat.Conn, _ string) error {
			c.Core().WantWrite(true)
			c.AfterFunc(time.Second, func() {})
			return nil
		}}
	})
	require.NoError(t, err)
	peer.Say("a\r\n")
	defer func() {
		require.Contains(t, recover(), "audit")
	}()
	w.Settle()
}

// --- shutdown and time

func TestShutdownFinishesTheToken(t *testing.T) {
	idle, busy := &session{}, &session{}
	busy.found = func(c *chat.Conn, token string) error { return c.PushString("answer to " + token) }
	w := converse(t, sim.Config{}, idle)
	sock, peer := w.Pair()
	_, err := chat.Attach(w.loop, sock, func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.CRLF)
		return busy
	})
	require.NoError(t, err)
	peer.Say("hal")
	w.Settle()
	w.loop.Shutdown(time.Minute)
	w.peer.WantClosed()
	require.ErrorIs(t, idle.cause, core.ErrShutdown)
	w.Advance(30 * time.Second)
	require.Zero(t, busy.closed)
	peer.Say("f\r\nmore\r\n")
	peer.Want("answer to half")
	peer.WantClosed()
	require.Equal(t, "half", busy.log[0])
	require.NotContains(t, busy.log, "more")
}

func TestShutdownGraceEnds(t *testing.T) {
	s := &session{}
	w := converse(t, sim.Config{}, s)
	w.peer.Say("half")
	w.Settle()
	w.loop.Shutdown(time.Minute)
	w.Advance(59 * time.Second)
	require.Zero(t, s.closed)
	w.Advance(2 * time.Second)
	require.ErrorIs(t, s.cause, core.ErrShutdown)
	_, err := chat.Attach(w.loop, nil, nil)
	require.Error(t, err)
}

type timed struct{ *session }

func (t timed) HandleTimeout(c *chat.Conn) error {
	t.log = append(t.log, "timeout")
	if len(t.log) == 4 {
		c.PushString("bye")
		c.CloseWhenDone()
	}
	return nil
}

func TestIdleTimeout(t *testing.T) {
	s := &session{}
	w := converse(t, sim.Config{}, s, func(c *chat.Conn) { c.SetIdleTimeout(time.Minute) })
	for range 10 {
		w.Advance(50 * time.Second)
		w.peer.Say("x")
	}
	w.Advance(50 * time.Second)
	require.Zero(t, s.closed)
	w.Advance(20 * time.Second)
	require.ErrorIs(t, s.cause, core.ErrTimeout)

	h := timed{&session{}}
	w = converse(t, sim.Config{}, h, func(c *chat.Conn) { c.SetIdleTimeout(time.Minute) })
	w.Advance(130 * time.Second)
	require.Equal(t, []string{"timeout", "timeout"}, h.log)
	w.peer.Say("a\r\n")
	w.Advance(time.Hour)
	w.peer.Want("bye")
	w.peer.WantClosed()
}

func TestWriteTimeout(t *testing.T) {
	s := &session{found: func(c *chat.Conn, _ string) error { return c.PushString(strings.Repeat("x", 5000)) }}
	w := converse(t, sim.Config{Window: 1000}, s, func(c *chat.Conn) { c.SetWriteTimeout(time.Minute) })
	w.peer.Stall(true)
	w.peer.Say("go\r\n")
	for range 4 {
		w.Advance(50 * time.Second)
		w.peer.Take(100) // slow, but it takes something
	}
	require.Zero(t, s.closed)
	w.Advance(70 * time.Second)
	require.ErrorIs(t, s.cause, core.ErrTimeout)
}

func TestContextEndsWithTheConnection(t *testing.T) {
	s := &session{}
	w := converse(t, sim.Config{}, s)
	ctx := w.conn.Context()
	require.NoError(t, ctx.Err())
	w.loop.Post(func() { w.conn.CloseWith(io.ErrNoProgress) })
	w.Settle()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
	require.ErrorIs(t, context.Cause(ctx), io.ErrNoProgress)
	require.NotNil(t, w.conn.Context().Err(), "also when it is asked for later")
}

func TestSetHandlerErrors(t *testing.T) {
	w := converse(t, sim.Config{}, &session{})
	require.Error(t, w.conn.SetHandler(nil))
	w.loop.Post(func() { w.conn.Close() })
	w.Settle()
	require.ErrorIs(t, w.conn.SetHandler(&session{}), core.ErrClosed)
	_, err := w.conn.Upgrade(func(s core.Socket) (core.Layered, error) { return &sim.Tap{Socket: s}, nil }, true)
	require.ErrorIs(t, err, core.ErrClosed)
}

// A factory that fails does not leave half a conversation.
func TestAttachWithoutHandler(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	l := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	_, err := chat.Listen(l, "tcp", "server:1", func(*chat.Conn) chat.Handler { return nil })
	require.NoError(t, err)
	p := w.Dial("tcp", "server:1")
	p.WantClosed()
	require.Equal(t, 1, l.Stats().Channels, "the listener")
	_, err = chat.Listen(l, "tcp", "server:2", func(*chat.Conn) chat.Handler { panic("P") })
	require.NoError(t, err)
	p = w.Dial("tcp", "server:2")
	p.WantClosed()
	require.Equal(t, 2, l.Stats().Channels)
}

func TestBufferLimit(t *testing.T) {
	s := &session{}
	s.SetBufferLimit(10)
	w := converse(t, sim.Config{}, s, terminator(chat.None))
	w.peer.Say("0123456789")
	w.Settle()
	require.Zero(t, s.closed)
	w.peer.Say("x")
	w.Settle()
	require.ErrorIs(t, s.cause, core.ErrTooLong)
}

// Lines does not copy a line that lies whole within a read, and puts a cut one together.
func TestLines(t *testing.T) {
	for cut := 0; cut <= 12; cut++ {
		var got []string
		w := converse(t, sim.Config{}, chat.Lines(func(_ *chat.Conn, line []byte) error {
			got = append(got, string(line))
			if string(line) == "bad" {
				return errors.New("bad")
			}
			return nil
		}), terminator(chat.None))
		const in = "one\r\n\ntwo\nx"
		w.peer.Say(in[:min(cut, len(in))])
		w.Settle()
		w.peer.Say(in[min(cut, len(in)):])
		w.peer.CloseWrite()
		w.Settle()
		require.Equal(t, []string{"one", "", "two"}, got)
	}
}

// What a handler changes at a token holds for the next one, which lies in the same read: limit and handler.
func TestChangesBetweenLines(t *testing.T) {
	var log []string
	add := func(who string) func(*chat.Conn, []byte) error {
		return func(c *chat.Conn, line []byte) error {
			log = append(log, who+" "+string(line))
			return nil
		}
	}
	second := chat.Lines(add("second"))
	first := chat.Lines(func(c *chat.Conn, line []byte) error {
		if string(line) == "switch" {
			return c.SetHandler(second)
		}
		return add("first")(c, line)
	})
	w := converse(t, sim.Config{}, first, terminator(chat.Line))
	w.peer.Say("a\nswitch\nb\nc\n")
	w.Settle()
	require.Equal(t, []string{"first a", "second b", "second c"}, log)

	log = nil
	w = converse(t, sim.Config{}, chat.Lines(func(c *chat.Conn, line []byte) error {
		c.SetLimit(len(line))
		return add("line")(c, line)
	}), terminator(chat.Line))
	w.peer.Say("long\nabc\nfour\nabc\n")
	w.peer.WantClosed()
	w.Advance(buffered.LingerTimeout)
	require.Equal(t, []string{"line long", "line abc"}, log)
	require.ErrorIs(t, w.conn.Core().Cause(), core.ErrTooLong)
}

// Of finds conversations among the channels of a loop.
func TestOf(t *testing.T) {
	w := converse(t, sim.Config{}, &session{})
	_, err := chat.Listen(w.loop, "tcp", "server:1", func(*chat.Conn) chat.Handler { return &session{} })
	require.NoError(t, err)
	found := 0
	for d := range w.loop.All() {
		if c, ok := chat.Of(d); ok {
			require.Same(t, w.conn, c)
			found++
		}
	}
	require.Equal(t, 1, found)
}

// A handler that is replaced before the first octet is not asked about it, nor is the one that has no HandleFirst.
func TestSetHandlerBeforeTheFirstOctet(t *testing.T) {
	h := &chooser{session: &session{}, f: func(*chat.Conn, byte) error { return nil }}
	s := &session{}
	w := converse(t, sim.Config{}, h)
	w.loop.Post(func() { require.NoError(t, w.conn.SetHandler(s)) })
	w.Settle()
	w.peer.Say("a\r\n")
	w.Settle()
	require.Zero(t, w.loop.Stats().Panics)
	require.Equal(t, []string{"a"}, s.log)
}

// An upgrade that fails gives back the input that it was to keep.
func TestUpgradeFailedKeepsInput(t *testing.T) {
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		if token == "up" {
			_, err := c.Upgrade(func(core.Socket) (core.Layered, error) { return nil, errors.New("no") }, true)
			require.Error(t, err)
		}
		return nil
	}
	w := converse(t, sim.Config{}, s)
	w.peer.Say("up\r\nnext\r\n")
	w.Settle()
	require.Equal(t, []string{"up", "next"}, s.log)
}

// Output that the peer has not taken goes out below the layer, in front of what is pushed after the upgrade.
func TestUpgradeSendsWhatIsQueuedBelow(t *testing.T) {
	s := &session{}
	w := converse(t, sim.Config{Window: 1000}, s)
	w.peer.Stall(true)
	clear := strings.Repeat("clear ", 5000)
	var tapped strings.Builder
	w.loop.Post(func() {
		require.NoError(t, w.conn.PushString(clear))
		_, err := w.conn.Upgrade(func(s core.Socket) (core.Layered, error) {
			return &sim.Tap{Socket: s, Out: func(p []byte) { tapped.Write(p) }}, nil
		}, true)
		require.NoError(t, err)
		require.NoError(t, w.conn.PushString("tapped"))
		require.Equal(t, len(clear)-1000, w.conn.Core().Unsent())
		w.conn.CloseWhenDone()
	})
	w.Settle()
	require.Empty(t, tapped.String())
	w.peer.Stall(false)
	w.peer.Want(clear + "tapped")
	require.Equal(t, "tapped", tapped.String())
	w.peer.WantClosed()
}

// A channel that closes when it is done waits for what a layer holds; its end of the stream does, too.
func TestCloseWaitsForTheLayer(t *testing.T) {
	for name, end := range map[string]func(*chat.Conn){
		"CloseWhenDone": (*chat.Conn).CloseWhenDone,
		"CloseWrite":    func(c *chat.Conn) { require.NoError(t, c.CloseWrite()) },
	} {
		t.Run(name, func(t *testing.T) {
			w := converse(t, sim.Config{Window: 10}, &session{})
			w.peer.Stall(true)
			w.loop.Post(func() {
				require.NoError(t, w.conn.PushString("all of this has to arrive"))
				_, err := w.conn.Upgrade(func(s core.Socket) (core.Layered, error) { return &sim.Tap{Socket: s}, nil }, true)
				require.NoError(t, err)
				end(w.conn)
			})
			w.Settle()
			require.False(t, w.conn.Closed())
			w.peer.Stall(false)
			w.peer.Want("all of this has to arrive")
			w.peer.WantClosed()
			require.NoError(t, w.peer.Err())
		})
	}
}

// An upgrade that is refused because of what is queued leaves the marks to be told of.
func TestUpgradeRefusedTellsOfTheMark(t *testing.T) {
	s := &session{}
	w := converse(t, sim.Config{Window: 1000}, levels{s})
	w.peer.Stall(true)
	w.loop.Post(func() {
		_ = w.conn.Push(make([]byte, 100_000))
		_ = w.conn.PushProducer(buffered.Bytes([]byte("x"), 1))
		_, err := w.conn.Upgrade(func(s core.Socket) (core.Layered, error) { return &sim.Tap{Socket: s}, nil }, true)
		require.ErrorIs(t, err, core.ErrUnsupported)
	})
	w.Settle()
	w.peer.Say("a\r\n")
	w.Settle()
	require.Equal(t, []string{"high"}, s.log)
	w.peer.Stall(false)
	w.Settle()
	require.Equal(t, []string{"high", "low 16000", "a"}, s.log)
}

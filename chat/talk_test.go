package chat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// noCoroutineLeft fails if a coroutine of this test's is left behind.
func noCoroutineLeft(t *testing.T) {
	t.Helper()
	before := coroutines()
	t.Cleanup(func() {
		if after := coroutines(); after > before {
			t.Errorf("%d coroutines are left behind", after-before)
		}
	})
}

func coroutines() int {
	buf := make([]byte, 1<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "chat.(*Talker).run")
}

func TestTalkReadsTopToBottom(t *testing.T) {
	noCoroutineLeft(t)
	body := func(t *chat.Talker) error {
		if err := t.Printf("name? "); err != nil {
			return err
		}
		name, err := t.ReadLine()
		if err != nil {
			return err
		}
		body, err := t.ReadN(5)
		if err != nil {
			return err
		}
		text, err := t.ReadDot()
		if err != nil {
			return err
		}
		word, err := t.ReadUntil(chat.Literal(";"))
		if err != nil {
			return err
		}
		return t.Printf("%s|%s|%q|%s.", name, body, text, word)
	}
	const in = "bob\r\n12345..x\r\n.\r\nw;"
	for cut := 0; cut <= len(in); cut++ {
		w := converse(t, sim.Config{}, chat.Talk(body))
		w.peer.Want("name? ")
		w.peer.Say(in[:cut])
		w.Settle()
		w.peer.Say(in[cut:])
		w.peer.Want("bob|12345|\".x\\r\\n\"|w.")
		w.peer.WantClosed()
	}
}

// The same protocol written as a handler and as a Talk gives the same events.
func TestTalkEqualsHandler(t *testing.T) {
	noCoroutineLeft(t)
	handler := func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.Line)
		c.PushString("ready\n")
		s := &session{}
		inText := false
		s.found = func(c *chat.Conn, token string) error {
			switch {
			case inText:
				inText = false
				c.SetTerminator(chat.Line)
				return c.Printf("got %d\n", len(token))
			case token == "text":
				inText = true
				c.SetTerminator(chat.Dot)
				return c.PushString("go\n")
			case token == "quit":
				c.PushString("bye\n")
				c.CloseWhenDone()
				return nil
			}
			return c.Printf("<%s>\n", token)
		}
		return s
	}
	talk := func(c *chat.Conn) chat.Handler {
		return chat.Talk(func(t *chat.Talker) error {
			t.Printf("ready\n")
			for {
				line, err := t.ReadLine()
				if err != nil {
					return err
				}
				switch line {
				case "text":
					t.Printf("go\n")
					text, err := t.ReadDot()
					if err != nil {
						return err
					}
					t.Printf("got %d\n", len(text))
				case "quit":
					return t.Printf("bye\n")
				default:
					t.Printf("<%s>\n", line)
				}
			}
		})
	}
	run := func(newHandler func(*chat.Conn) chat.Handler, seed uint64, in string) string {
		w := sim.New(sim.Config{T: t, Seed: seed, RandomCuts: true, Latency: time.Millisecond, Again: 0.2})
		l := w.Loop(core.Options{})
		var log []string
		sock, peer := w.Pair()
		_, err := chat.Attach(l, &sim.Tap{Socket: sock, Out: func(p []byte) {
			log = append(log, fmt.Sprintf("%v %q", w.Elapsed(), p))
		}}, newHandler)
		require.NoError(t, err)
		peer.Say(in)
		peer.CloseWrite()
		w.Until(peer.Ended)
		require.NoError(t, l.Close())
		return strings.Join(log, "\n")
	}
	for seed := range uint64(30) {
		for _, in := range []string{
			"a\nb\ntext\nx\r\n.\r\nquit\nmore\n", "text\n.\r\nhalf", "", "quit\n",
		} {
			require.Equal(t, run(handler, seed, in), run(talk, seed, in), "seed %d, %q", seed, in)
		}
	}
}

func TestTalkSleepAndAwait(t *testing.T) {
	noCoroutineLeft(t)
	w := converse(t, sim.Config{Work: time.Second, Seed: 3}, chat.Talk(func(t *chat.Talker) error {
		line, err := t.ReadLine()
		if err != nil {
			return err
		}
		if err := t.Sleep(time.Hour); err != nil {
			return err
		}
		upper, err := chat.Await(t, func(context.Context) (string, error) { return strings.ToUpper(line), nil })
		if err != nil {
			return err
		}
		if err := t.Await(func(context.Context) error { return io.ErrNoProgress }); err != io.ErrNoProgress {
			return err
		}
		next, err := t.ReadLine()
		return errors.Join(err, t.Printf("%s %s", upper, next))
	}))
	w.peer.Say("one\ntwo\n")
	w.Advance(59 * time.Minute)
	w.peer.WantNothing()
	w.Advance(2 * time.Minute)
	w.peer.Want("ONE two")
	w.peer.WantClosed()
}

// Close, timeout, shutdown and the end of the input make the pending call return an error.
func TestTalkPendingCallEnds(t *testing.T) {
	for _, x := range []struct {
		name string
		wait func(t *chat.Talker) error
		end  func(w *world)
		want error
		bye  bool // the body can still say goodbye
	}{
		{"eof", readLine, func(w *world) { w.peer.CloseWrite() }, io.EOF, true},
		{"reset", readLine, func(w *world) { w.peer.Reset() }, nil, false},
		{"close", readLine, func(w *world) { w.loop.Post(func() { w.conn.Close() }) }, core.ErrClosed, false},
		{"closeall", readLine, func(w *world) { w.loop.Post(func() { w.loop.CloseAll(io.ErrNoProgress) }) }, io.ErrNoProgress, false},
		{"timeout", readLine, func(w *world) { w.Advance(2 * time.Minute) }, core.ErrTimeout, true},
		{"shutdown", readLine, func(w *world) { w.loop.Shutdown(time.Minute) }, core.ErrShutdown, true},
		{"shutdown while it sleeps", sleepDay, func(w *world) { w.loop.Shutdown(time.Minute) }, core.ErrShutdown, true},
		{"close while it sleeps", sleepDay, func(w *world) { w.loop.Post(func() { w.conn.Close() }) }, core.ErrClosed, false},
		{"close while it awaits", awaitDay, func(w *world) { w.loop.Post(func() { w.conn.Close() }) }, core.ErrClosed, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			noCoroutineLeft(t)
			var got error
			ended := false
			w := converse(t, sim.Config{Work: 24 * time.Hour}, chat.Talk(func(t *chat.Talker) error {
				got = x.wait(t)
				t.Printf("bye")
				ended = true
				return got
			}), func(c *chat.Conn) { c.SetIdleTimeout(time.Minute) })
			w.Advance(time.Millisecond)
			require.False(t, ended)
			x.end(w)
			w.Advance(time.Millisecond)
			require.True(t, ended)
			if x.want != nil {
				require.ErrorIs(t, got, x.want)
			}
			require.Error(t, got)
			if x.bye {
				w.peer.Want("bye")
				w.peer.WantClosed()
			}
		})
	}
}

func readLine(t *chat.Talker) error {
	_, err := t.ReadLine()
	return err
}

func sleepDay(t *chat.Talker) error { return t.Sleep(24 * time.Hour) }

func awaitDay(t *chat.Talker) error {
	return t.Await(func(ctx context.Context) error { return nil }) // its completion comes after the close
}

func TestTalkTooLong(t *testing.T) {
	noCoroutineLeft(t)
	w := converse(t, sim.Config{}, chat.Talk(func(t *chat.Talker) error {
		t.SetLimit(5)
		for {
			line, err := t.ReadLine()
			if err == core.ErrTooLong {
				line = "too long"
			} else if err != nil {
				return err
			}
			t.Printf("<%s>", line)
			if _, err := t.ReadN(6); err != core.ErrTooLong {
				return errors.New("a count over the limit")
			}
		}
	}))
	w.peer.Say("abc\nabcdefghij\nok\n")
	w.peer.Want("<abc><too long><ok>")
	w.peer.Say("text")
	w.peer.CloseWrite()
	w.peer.WantClosed()

	// The limit is that of a whole block, too.
	w = converse(t, sim.Config{}, chat.Talk(func(t *chat.Talker) error {
		t.SetLimit(10)
		for range 3 {
			p, err := t.ReadDot()
			t.Printf("<%q %v>", p, err)
		}
		return nil
	}))
	w.peer.Say("a\r\nb\r\n.\r\na\r\nb\r\nc\r\nd\r\n.\r\n..\r\n.\r\n")
	w.peer.Want(`<"a\r\nb\r\n" <nil>><"" parley: token too long><".\r\n" <nil>>`)
	w.peer.WantClosed()
}

// Writing waits while the peer does not take it.
func TestTalkBackPressure(t *testing.T) {
	noCoroutineLeft(t)
	written := 0
	w := converse(t, sim.Config{Window: 1000}, chat.Talk(func(t *chat.Talker) error {
		for range 1000 {
			if err := t.Printf("%s", strings.Repeat("x", 1000)); err != nil {
				return err
			}
			written++
		}
		return nil
	}))
	w.peer.Stall(true)
	w.Settle()
	require.Less(t, written, 100)
	w.peer.Stall(false)
	w.peer.Want(strings.Repeat("x", 1_000_000))
	w.peer.WantClosed()
}

func TestTalkPanics(t *testing.T) {
	noCoroutineLeft(t)
	w := converse(t, sim.Config{}, chat.Talk(func(t *chat.Talker) error {
		t.ReadLine()
		panic("P")
	}))
	w.peer.Say("a\n")
	w.peer.WantClosed()
	var p *core.PanicError
	require.ErrorAs(t, w.conn.Core().Cause(), &p)
	require.Contains(t, string(p.Stack), "TestTalkPanics", "the stack is the coroutine's")
}

// A body that ignores every error does not hang the loop.
func TestTalkThatNeverEnds(t *testing.T) {
	noCoroutineLeft(t)
	w := converse(t, sim.Config{}, chat.Talk(func(t *chat.Talker) error {
		for {
			t.ReadLine()
		}
	}))
	w.peer.Say("a\n")
	w.Settle()
	w.peer.Reset()
	w.Settle()
	require.True(t, w.conn.Closed())
}

// A Talk can hand the conversation over to another handler.
func TestTalkThenHandler(t *testing.T) {
	noCoroutineLeft(t)
	s := &session{}
	s.found = func(c *chat.Conn, token string) error { return c.Printf("<%s>", token) }
	w := converse(t, sim.Config{}, chat.Talk(func(t *chat.Talker) error {
		name, err := t.ReadLine()
		if err != nil {
			return err
		}
		t.Printf("hello %s\n", name)
		t.Conn().SetTerminator(chat.CRLF)
		return t.Conn().SetHandler(s)
	}))
	w.peer.Say("bob\na\r\nb\r\n")
	w.peer.Want("hello bob\n<a><b>")
	w.peer.CloseWrite()
	w.peer.WantClosed()
	require.Equal(t, 1, s.closed)
}

// A handler can hand the conversation over to a Talk, with what was pipelined.
func TestHandlerThenTalk(t *testing.T) {
	noCoroutineLeft(t)
	s := &session{}
	s.found = func(c *chat.Conn, token string) error {
		if token != "talk" {
			return c.Printf("<%s>", token)
		}
		return c.SetHandler(chat.Talk(func(t *chat.Talker) error {
			for {
				line, err := t.ReadLine()
				if err != nil {
					return err
				}
				t.Printf("[%s]", line)
			}
		}))
	}
	w := converse(t, sim.Config{}, s)
	w.peer.Say("a\r\ntalk\r\nb\nc\n")
	w.peer.Want("<a>[b][c]")
	w.peer.CloseWrite()
	w.peer.WantClosed()
	require.Equal(t, []string{"a", "talk"}, s.log)
}

// A body that is busy is not idle: the idle timeout ends reading alone.
func TestTalkIsNotIdleWhileItWorks(t *testing.T) {
	noCoroutineLeft(t)
	var errs []error
	w := converse(t, sim.Config{Work: 24 * time.Hour, Seed: 1, Patience: 100 * time.Hour}, chat.Talk(func(t *chat.Talker) error {
		errs = append(errs, t.Sleep(time.Hour))
		errs = append(errs, t.Await(func(context.Context) error { return nil }))
		_, err := t.ReadLine()
		errs = append(errs, err)
		line, err := t.ReadLine() // it may go on
		return errors.Join(err, t.Printf("%s", line))
	}), func(c *chat.Conn) { c.SetIdleTimeout(time.Minute) })
	w.Until(func() bool { return len(errs) == 3 })
	require.Equal(t, []error{nil, nil, core.ErrTimeout}, errs)
	w.peer.Say("still here\n")
	w.peer.Want("still here")
	w.peer.WantClosed()
}

// A shutdown does not interrupt a body that writes: what it has to say still goes out, and the next read ends it.
func TestTalkShutdownWhileItWrites(t *testing.T) {
	noCoroutineLeft(t)
	var errs []error
	w := converse(t, sim.Config{Window: 1000}, chat.Talk(func(t *chat.Talker) error {
		for range 200 {
			if err := t.Printf("%s", strings.Repeat("x", 1000)); err != nil {
				errs = append(errs, err)
				return err
			}
		}
		_, err := t.ReadLine()
		errs = append(errs, err)
		return err
	}))
	w.peer.Stall(true)
	w.Settle()
	w.loop.Shutdown(time.Hour)
	w.Advance(time.Second)
	require.Empty(t, errs)
	w.peer.Stall(false)
	w.peer.Want(strings.Repeat("x", 200_000))
	w.peer.WantClosed()
	require.Equal(t, []error{core.ErrShutdown}, errs)
}

// A Talk on a dialled connection begins when the connection is there.
func TestTalkDial(t *testing.T) {
	noCoroutineLeft(t)
	w := sim.New(sim.Config{T: t, Latency: 10 * time.Millisecond})
	l := w.Loop(core.Options{})
	ln := w.Listen("tcp", "server:25")
	var got string
	_, err := chat.Dial(l, "tcp", "server:25", func(*chat.Conn) chat.Handler {
		return chat.Talk(func(t *chat.Talker) (err error) {
			if !t.Conn().Connected() {
				return errors.New("begun too early")
			}
			t.Printf("hi\n")
			got, err = t.ReadLine()
			return err
		})
	})
	require.NoError(t, err)
	p := ln.Accept()
	p.Want("hi\n")
	p.Say("there\n")
	p.WantClosed()
	require.Equal(t, "there", got)

	ran := false
	c, err := chat.Dial(l, "tcp", "server:26", func(*chat.Conn) chat.Handler {
		return chat.Talk(func(*chat.Talker) error { ran = true; return nil })
	})
	require.NoError(t, err)
	w.Settle()
	require.True(t, c.Closed())
	require.False(t, ran, "no connection, no conversation")
}

// A write that is over the mark because of what is in front of it, and then goes out at once, does not wait for ever.
func TestTalkWritesBehindAProducer(t *testing.T) {
	w := converse(t, sim.Config{Window: 1 << 20}, chat.Talk(func(t *chat.Talker) error {
		if err := t.Conn().PushProducer(buffered.Bytes([]byte("p"), 0)); err != nil {
			return err
		}
		if _, err := t.Write(make([]byte, 100_000)); err != nil {
			return err
		}
		return t.Printf("done")
	}))
	w.Settle()
	got := w.peer.Read()
	require.True(t, strings.HasSuffix(got, "done"), len(got))
}

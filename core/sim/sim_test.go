package sim_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// failures takes the place of a *testing.T to see what is reported.
type failures struct{ texts []string }

func (*failures) Helper() {}

func (f *failures) Fatalf(format string, args ...any) {
	f.texts = append(f.texts, fmt.Sprintf(format, args...))
	panic(f)
}

// failing returns what f reports to a world's T.
func failing(t *testing.T, f func(c sim.Config)) string {
	t.Helper()
	fs := &failures{}
	func() {
		defer func() {
			if v := recover(); v != fs {
				t.Fatalf("want a failure, got %v", v)
			}
		}()
		f(sim.Config{T: fs})
	}()
	return fs.texts[0]
}

func upper(c *chat.Conn) chat.Handler {
	return chat.Lines(func(c *chat.Conn, line []byte) error {
		return c.PushString(strings.ToUpper(string(line)) + "\n")
	})
}

func serve(l *core.Loop, s core.Socket) error {
	_, err := chat.Attach(l, s, upper)
	return err
}

// One seed decides everything: two runs are alike to the last event, and another seed's differs.
func TestOneSeedDecidesEverything(t *testing.T) {
	run := func(seed uint64) string {
		w := sim.New(sim.Config{T: t, Seed: seed, Latency: 3 * time.Millisecond, Jitter: 10 * time.Millisecond, RandomCuts: true,
			Again: 0.3, Spurious: 0.3, Interrupt: 0.2, Window: 50, Work: time.Second, Loss: 0.5})
		l := w.Loop(core.Options{})
		defer l.Close()
		_, err := chat.Listen(l, "tcp", "server:1", upper)
		require.NoError(t, err)
		var peers []*sim.Peer
		for range 5 {
			p := w.Dial("tcp", "server:1")
			p.Say("one\ntwo\nthree\n")
			peers = append(peers, p)
		}
		_, err = core.Dial(l, "tcp", "localhost:1", &core.Funcs{Read: func(*core.Dispatcher) error { return nil }})
		require.NoError(t, err)
		for _, p := range peers {
			p.Want("ONE\nTWO\nTHREE\n")
			p.CloseWrite()
		}
		w.Advance(time.Minute)
		return w.Ladder()
	}
	seen := map[string]bool{}
	for seed := range uint64(10) {
		a := run(seed)
		require.Equal(t, a, run(seed), "seed %d", seed)
		seen[a] = true
	}
	require.Len(t, seen, 10)
}

func TestLatencyIsOneWay(t *testing.T) {
	w := sim.New(sim.Config{T: t, Latency: 10 * time.Millisecond})
	l := w.Loop(core.Options{})
	_, err := chat.Listen(l, "tcp", "server:1", upper)
	require.NoError(t, err)
	p := w.Dial("tcp", "server:1")
	p.Say("a\n")
	p.Want("A\n")
	require.Equal(t, 40*time.Millisecond, w.Elapsed(), "handshake, question, answer")
}

// Jitter never reorders one direction.
func TestJitterKeepsOrder(t *testing.T) {
	for seed := range uint64(20) {
		w := sim.New(sim.Config{T: t, Seed: seed, Jitter: time.Second})
		l := w.Loop(core.Options{})
		s, p := w.Pair()
		require.NoError(t, serve(l, s))
		var want strings.Builder
		for i := range 50 {
			p.Say(fmt.Sprintf("%d\n", i))
			w.Advance(time.Millisecond)
			fmt.Fprintf(&want, "%d\n", i)
		}
		p.Want(want.String())
		p.CloseWrite()
		p.WantClosed()
	}
}

// reader is a core handler that records the sizes of its reads.
type reader struct {
	sizes []int
	data  strings.Builder
	err   error
}

func (r *reader) HandleRead(d *core.Dispatcher) error {
	p, err := d.RecvShared()
	if err == nil {
		r.sizes = append(r.sizes, len(p))
		r.data.Write(p)
	}
	return err
}

func (r *reader) HandleClose(_ *core.Dispatcher, cause error) { r.err = cause }

func TestMaxRecvAndRandomCuts(t *testing.T) {
	for _, c := range []sim.Config{{MaxRecv: 7}, {RandomCuts: true}, {MaxRecv: 7, RandomCuts: true}} {
		c.T = t
		w := sim.New(c)
		l := w.Loop(core.Options{})
		s, p := w.Pair()
		r := &reader{}
		_, err := core.Attach(l, s, r)
		require.NoError(t, err)
		text := strings.Repeat("0123456789", 10)
		p.Say(text)
		w.Settle()
		require.Equal(t, text, r.data.String())
		distinct := map[int]bool{}
		for _, n := range r.sizes[:len(r.sizes)-1] {
			distinct[n] = true
			if c.MaxRecv > 0 {
				require.LessOrEqual(t, n, c.MaxRecv)
			}
		}
		require.Equal(t, c.RandomCuts, len(distinct) > 1)
	}
}

// The window bounds what is under way and unread; sends are short then, and the loop waits for room.
func TestWindow(t *testing.T) {
	w := sim.New(sim.Config{T: t, Window: 100, Latency: time.Millisecond})
	l := w.Loop(core.Options{})
	s, p := w.Pair()
	d, err := core.Attach(l, s, &core.Funcs{Write: func(*core.Dispatcher) error { return nil }})
	require.NoError(t, err)
	p.Stall(true)
	n, err := d.Send(make([]byte, 250))
	require.NoError(t, err)
	require.Equal(t, 100, n)
	_, err = d.Send([]byte("x"))
	require.ErrorIs(t, err, core.ErrWouldBlock)
	w.Settle()
	_, err = d.Send([]byte("x"))
	require.ErrorIs(t, err, core.ErrWouldBlock, "it arrived, but is unread")
	p.Take(30)
	n, err = d.Send(make([]byte, 250))
	require.NoError(t, err)
	require.Equal(t, 30, n)

	// The other way: what a peer says beyond the window goes out as it opens.
	r := &reader{}
	s, p = w.Pair()
	_, err = core.Attach(l, s, r)
	require.NoError(t, err)
	p.Say(strings.Repeat("y", 1000))
	w.Settle()
	require.Equal(t, 1000, r.data.Len())
}

// A reset destroys what was not read, and closing with unread input is one.
func TestResets(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	l := w.Loop(core.Options{})
	s, p := w.Pair()
	r := &reader{}
	d, err := core.Attach(l, s, r)
	require.NoError(t, err)
	d.WantRead(false)
	w.Settle()
	p.Say("never read")
	w.Settle()
	d.Close()
	p.WantReset()
	require.ErrorIs(t, p.Err(), syscall.ECONNRESET)

	s, p = w.Pair()
	d, err = core.Attach(l, s, r)
	require.NoError(t, err)
	_, err = d.Send([]byte("the last reply"))
	require.NoError(t, err)
	w.Settle()
	d.Abort()
	w.Settle()
	require.Zero(t, p.Unread(), "a client that had not read it yet has lost it")

	// Data that reaches a closed end is answered by a reset.
	s, p = w.Pair()
	r = &reader{}
	d, err = core.Attach(l, s, r)
	require.NoError(t, err)
	p.Close()
	w.Settle()
	require.Equal(t, io.EOF, r.err)
	_ = d

	s, p = w.Pair()
	r = &reader{}
	_, err = core.Attach(l, s, r)
	require.NoError(t, err)
	p.Reset()
	w.Settle()
	require.ErrorIs(t, r.err, syscall.ECONNRESET)
}

func TestConnecting(t *testing.T) {
	w := sim.New(sim.Config{T: t, Latency: time.Millisecond})
	l := w.Loop(core.Options{})
	p := w.Dial("tcp", "server:1")
	p.WantReset()
	require.ErrorIs(t, p.Err(), syscall.ECONNREFUSED)

	// A full backlog drops the first packet of a handshake; the client tries again a second later.
	config := core.ListenConfig{Backlog: 1}
	ln, err := config.Listen(l, "tcp", ":1", chat.Accept(upper))
	require.NoError(t, err)
	ln.Core().WantRead(false)
	w.Dial("tcp", "server:1")
	late := w.Dial("tcp", "server:1")
	w.Advance(500 * time.Millisecond)
	ln.Core().WantRead(true)
	late.Say("a\n")
	late.Want("A\n")
	require.Greater(t, w.Elapsed(), time.Second)
	ln.Close()
	w.Settle()
}

func TestFilesAreCounted(t *testing.T) {
	w := sim.New(sim.Config{T: t, Files: 3})
	l := w.Loop(core.Options{})
	_, err := chat.Listen(l, "tcp", "server:1", upper)
	require.NoError(t, err)
	require.Equal(t, 2, w.Files(), "listener and reserve")
	_, err = core.ListenPacket(l, "udp", "server:1", &core.Funcs{Read: func(*core.Dispatcher) error { return nil }})
	require.NoError(t, err)
	_, err = chat.Listen(l, "tcp", "server:2", upper)
	require.ErrorIs(t, err, syscall.EMFILE)
	_, err = core.ListenPacket(l, "udp", "server:2", &core.Funcs{Read: func(*core.Dispatcher) error { return nil }})
	require.ErrorIs(t, err, syscall.EMFILE)
	c, err := chat.Dial(l, "tcp", "server:1", upper)
	require.NoError(t, err)
	w.Settle()
	require.ErrorIs(t, c.Core().Cause(), syscall.EMFILE)
	require.NoError(t, l.Close())
	require.Zero(t, w.Files())
}

func TestDatagramLossAndQueue(t *testing.T) {
	w := sim.New(sim.Config{T: t, Loss: 0.5, Seed: 1})
	a, b := w.ListenPacket("udp", "client:1"), w.ListenPacket("udp", "server:1")
	for i := range 100 {
		a.Send(fmt.Sprint(i), "server:1")
	}
	w.Settle()
	n := 0
	for {
		if _, ok := b.Next(time.Second); !ok {
			break
		}
		n++
	}
	require.InDelta(t, 50, n, 20)
	a.Send("to nobody", "server:99")
	w.Settle()
}

// --- what failures say

func TestWantSaysWhatCame(t *testing.T) {
	got := failing(t, func(c sim.Config) {
		w := sim.New(c)
		l := w.Loop(core.Options{})
		s, p := w.Pair()
		if err := serve(l, s); err != nil {
			t.Fatal(err)
		}
		p.Say("abc\n")
		p.Want("ABD\n")
	})
	require.Contains(t, got, "want \"ABD\\n\"\n got \"ABC\\n\"")
	require.Contains(t, got, `FoundTerminator Line`, "with the ladder")
}

func TestWantGivesUp(t *testing.T) {
	for name, f := range map[string]func(w *sim.World, p *sim.Peer){
		"nothing comes":     func(_ *sim.World, p *sim.Peer) { p.Want("x") },
		"the end comes":     func(_ *sim.World, p *sim.Peer) { p.CloseWrite(); p.Want("x") },
		"no end comes":      func(_ *sim.World, p *sim.Peer) { p.WantClosed() },
		"no reset comes":    func(_ *sim.World, p *sim.Peer) { p.WantReset() },
		"something comes":   func(_ *sim.World, p *sim.Peer) { p.Say("a\n"); p.WantNothing() },
		"text before end":   func(_ *sim.World, p *sim.Peer) { p.Say("a\n"); p.CloseWrite(); p.WantClosed() },
		"reset, not end":    func(_ *sim.World, p *sim.Peer) { p.Reset(); p.WantClosed() },
		"no line comes":     func(_ *sim.World, p *sim.Peer) { p.WantLine() },
		"nobody connects":   func(w *sim.World, _ *sim.Peer) { w.Listen("tcp", "server:9").Accept() },
		"no datagram comes": func(w *sim.World, _ *sim.Peer) { w.ListenPacket("udp", "client:9").Want("x") },
		"no such address":   func(w *sim.World, _ *sim.Peer) { w.Dial("tcp", "nowhere:1") },
	} {
		t.Run(name, func(t *testing.T) {
			require.NotEmpty(t, failing(t, func(c sim.Config) {
				w := sim.New(c)
				l := w.Loop(core.Options{})
				s, p := w.Pair()
				if err := serve(l, s); err != nil {
					t.Fatal(err)
				}
				f(w, p)
			}))
		})
	}
}

// Patience bounds the virtual time of a Want that a periodic timer would keep going for ever.
func TestPatience(t *testing.T) {
	got := failing(t, func(c sim.Config) {
		c.Patience = time.Minute
		w := sim.New(c)
		l := w.Loop(core.Options{})
		s, p := w.Pair()
		d, err := core.Attach(l, s, &reader{})
		if err != nil {
			t.Fatal(err)
		}
		var tick func()
		tick = func() { d.AfterFunc(time.Second, tick) }
		tick()
		p.Want("x")
	})
	require.Contains(t, got, `want "x"`)
}

// Without a T a failure panics, for Examples.
func TestFailureWithoutT(t *testing.T) {
	w := sim.New(sim.Config{})
	_, p := w.Pair()
	require.Panics(t, func() { p.Want("x") })
}

// A loop that fails is a failure of the test, wherever the world goes round.
func TestLoopFailureIsReported(t *testing.T) {
	got := failing(t, func(c sim.Config) {
		w := sim.New(c)
		l := w.Loop(core.Options{})
		s, p := w.Pair()
		_, err := core.Attach(l, s, &auditLiar{})
		if err != nil {
			t.Fatal(err)
		}
		p.Say("x")
		w.Settle()
	})
	require.Contains(t, got, "loop failed: parley: audit")
}

type auditLiar struct{ reader }

func (*auditLiar) AuditInterest(*core.Dispatcher) core.Interest { return core.Write }

// ExitNow is no failure: that loop is over, the world goes on.
func TestExitNowEndsALoopOnly(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	a, b := w.Loop(core.Options{}), w.Loop(core.Options{})
	s, p := w.Pair()
	_, err := core.Attach(a, s, &core.Funcs{Read: func(*core.Dispatcher) error { return core.ExitNow }})
	require.NoError(t, err)
	s, q := w.Pair()
	require.NoError(t, serve(b, s))
	p.Say("exit\n")
	q.Say("on\n")
	q.Want("ON\n")
	p.WantNothing()
}

// Two loops talk to each other through the world.
func TestTwoLoops(t *testing.T) {
	w := sim.New(sim.Config{T: t, Seed: 3, Latency: time.Millisecond})
	server, client := w.Loop(core.Options{}), w.Loop(core.Options{})
	_, err := chat.Listen(server, "tcp", "server:1", upper)
	require.NoError(t, err)
	var got []string
	_, err = chat.Dial(client, "tcp", "server:1", func(c *chat.Conn) chat.Handler {
		c.PushString("one\ntwo\n")
		return chat.Lines(func(c *chat.Conn, line []byte) error {
			if got = append(got, string(line)); len(got) == 2 {
				c.CloseWhenDone()
			}
			return nil
		})
	})
	require.NoError(t, err)
	require.True(t, w.Until(func() bool { return len(got) == 2 }))
	w.Settle()
	require.Zero(t, client.Stats().Channels)
	require.Equal(t, 1, server.Stats().Channels)
	require.Equal(t, []string{"ONE", "TWO"}, got)
}

// --- dialogs

const goodDialog = `
# all forms of a step
eol: lf
C: one
c: t\x77o\n
S: ONE
S~ ^T.O$
T: 5m
C*3: x
S*3: X
eol: crlf
c: tab\there\s\\\n
s: TAB\tHERE \\\n
C! shut
S! closed
`

func TestDialog(t *testing.T) {
	require.NoError(t, sim.RunDialog(goodDialog, serve))
}

func TestDialogFindsTheSmallestCut(t *testing.T) {
	// A handler that takes what a read gives for a line: right as written, wrong at the first cut.
	broken := func(l *core.Loop, s core.Socket) error {
		_, err := chat.Attach(l, s, func(*chat.Conn) chat.Handler {
			return chat.Data(func(c *chat.Conn, p []byte) error {
				return c.PushString(strings.ToUpper(strings.TrimRight(string(p), "\r\n")) + "!\r\n")
			})
		})
		return err
	}
	err := sim.RunDialog("C: hello\nS: HELLO!\n", broken)
	require.ErrorContains(t, err, "cut after 1 bytes: line 2:")
	require.ErrorContains(t, err, `want "HELLO!\r\n"`)
	require.ErrorContains(t, err, `--> 1    "h"`)
}

func TestDialogFails(t *testing.T) {
	for _, x := range []struct{ name, dialog, want string }{
		{"other text", "C: a\nS: B\n", "as written: line 2: want \"B"},
		{"too much", "c: a\\nb\\n\ns: A\\n\n", "got \"B\\n\""},
		{"no match", "c: a\\n\nS~ ^B$\n", "does not match"},
		{"not closed", "c: a\\n\ns: A\\n\nS! closed\n", "want the end"},
		{"closed too early", "C! shut\nS: x\n", "and then the end"},
		{"no reset", "S! reset\n", "want a reset"},
		{"empty", "# nothing\n", "empty"},
		{"no step", "hello\n", "line 1: \"hello\" is no step"},
		{"bad escape", "C: a\\q\n", `unknown escape \q`},
		{"half an escape", "C: a\\x1\n", "two digits"},
		{"bad hex", "C: a\\xzz\n", "hexadecimal"},
		{"open escape", "C: a\\\n", "ends in a backslash"},
		{"bad time", "T: soon\n", "line 1"},
		{"no time", "T: 0s\n", "no time"},
		{"bad eol", "eol: cr\n", "lf or crlf"},
		{"bad action", "C! jump\n", "is no step"},
		{"bad server action", "S! jump\n", "is no step"},
		{"bad expression", "S~ (\n", "missing closing"},
		{"nothing said", "c: \n", "says nothing"},
	} {
		t.Run(x.name, func(t *testing.T) {
			require.ErrorContains(t, sim.RunDialog(x.dialog, serve), x.want)
		})
	}
	require.ErrorContains(t, sim.RunDialog("C: a\n", func(*core.Loop, core.Socket) error { return errors.New("no server") }), "no server")
}

// A client that closes or resets in the middle.
func TestDialogActions(t *testing.T) {
	require.NoError(t, sim.RunDialog("C: a\nS~ A\nC! close\n", serve))
	require.NoError(t, sim.RunDialog("c: half\nC! reset\n", serve))
	abort := func(l *core.Loop, s core.Socket) error {
		_, err := core.Attach(l, s, &core.Funcs{Read: func(d *core.Dispatcher) error { return d.Abort() }})
		return err
	}
	require.NoError(t, sim.RunDialog("C: x\nS! reset\n", abort))
}

// Without a trace hook there is no ladder, and the caller's own hook is called as ever. A dialog is run both ways: what goes
// wrong only where nobody looks is found.
func TestUntraced(t *testing.T) {
	for _, untraced := range []bool{false, true} {
		for _, own := range []bool{false, true} {
			w := sim.New(sim.Config{T: t, Untraced: untraced})
			events := 0
			o := core.Options{}
			if own {
				o.Trace = func(*core.Event) { events++ }
			}
			l := w.Loop(o)
			s, p := w.Pair()
			c, err := chat.Attach(l, s, upper)
			require.NoError(t, err)
			p.Say("a\n")
			p.Want("A\n")
			require.Equal(t, untraced, w.Ladder() == "")
			require.Equal(t, own || !untraced, c.Core().Tracing())
			require.Equal(t, own, events > 0)
		}
	}
	unwatched := func(l *core.Loop, s core.Socket) error {
		_, err := chat.Attach(l, s, func(*chat.Conn) chat.Handler {
			return chat.Lines(func(c *chat.Conn, line []byte) error {
				if !c.Core().Tracing() {
					return c.PushString("wrong\n")
				}
				return c.PushString(strings.ToUpper(string(line)) + "\n")
			})
		})
		return err
	}
	require.ErrorContains(t, sim.RunDialog("eol: lf\nC: a\nS: A\n", unwatched), "without a trace hook: line 3: want \"A\\n\"")
}

// Long streams are cut at some places only, and still near either end.
func TestDialogLongStream(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds")
	}
	require.NoError(t, sim.RunDialog("eol: lf\nc*6000: x\nC: \\s\ns*6000: X\nS: \\s\n", serve))
}

// A transcript is a test.
func ExampleRunDialog() {
	err := sim.RunDialog(`
eol: lf
C: hello
S: HELLO
C! shut
S! closed
`, func(l *core.Loop, s core.Socket) error {
		_, err := chat.Attach(l, s, upper)
		return err
	})
	fmt.Println(err)
	// Output: <nil>
}

// A test of an hour in no time.
func ExampleWorld() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	chat.Listen(loop, "tcp", "server:7", func(c *chat.Conn) chat.Handler {
		c.SetIdleTimeout(time.Hour)
		return upper(c)
	})
	client := w.Dial("tcp", "server:7")
	client.Say("hello\n")
	client.Want("HELLO\n")
	w.Advance(time.Hour)
	client.WantClosed()
	fmt.Println("closed after", w.Elapsed())
	// Output: closed after 1h0m0s
}

package telnet_test

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/telnet"
)

// serve attaches a conversation behind a layer, whose data goes to got.
func serve(t testing.TB, l *core.Loop, s core.Socket, got *strings.Builder) *chat.Conn {
	c, err := chat.Attach(l, s, func(c *chat.Conn) chat.Handler {
		_, err := c.Upgrade(telnet.Wrap, true)
		require.NoError(t, err)
		return chat.Data(func(_ *chat.Conn, p []byte) error {
			got.Write(p)
			return nil
		})
	})
	require.NoError(t, err)
	return c
}

// exchange has a peer say something, in pieces, and returns the data and the answers.
func exchange(t testing.TB, c sim.Config, pieces ...string) (data, answers string) {
	c.T = t
	w := sim.New(c)
	l := w.Loop(core.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	defer l.Close()
	s, peer := w.Pair()
	var got strings.Builder
	serve(t, l, s, &got)
	for _, p := range pieces {
		peer.Say(p)
		w.Settle()
	}
	return got.String(), peer.Read()
}

func TestLayer(t *testing.T) {
	const (
		IAC  = "\xff"
		DONT = IAC + "\xfe"
		DO   = IAC + "\xfd"
		WONT = IAC + "\xfc"
		WILL = IAC + "\xfb"
		SB   = IAC + "\xfa"
		SE   = IAC + "\xf0"
	)
	for _, tt := range []struct{ name, in, data, answers string }{
		{"text", "hello\nworld\n", "hello\nworld\n", ""},
		{"CR LF ends a line", "a\r\nb\r\n\r\n", "a\nb\n\n", ""},
		{"CR NUL ends a line", "a\r\x00b\r\x00", "a\nb\n", ""},
		{"CR ends a line", "a\rb\r", "a\nb\n", ""},
		{"two CR", "a\r\r\nb", "a\n\nb", ""},
		{"NUL elsewhere", "a\x00b\n\x00", "a\x00b\n\x00", ""},
		{"two IAC", "a" + IAC + IAC + "b", "a\xffb", ""},
		{"WILL is refused", WILL + "\x1f" + "hi\n", "hi\n", DONT + "\x1f"},
		{"DO is refused", DO + "\x06" + "hi\n", "hi\n", WONT + "\x06"},
		{"each DO TIMING-MARK", DO + "\x06" + DO + "\x06", "", WONT + "\x06" + WONT + "\x06"},
		{"WONT and DONT need no answer", WONT + "\x01x" + DONT + "\x03y", "xy", ""},
		{"option 255", DO + "\xff" + "x", "x", WONT + "\xff"},
		{"subnegotiation", "a" + SB + "\x1f\x00\x50\x00\x0a" + SE + "b", "ab", ""},
		{"IAC inside of it", SB + "\x18\x00" + IAC + IAC + "\n" + SE + "b\n", "b\n", ""},
		{"AYT", "x" + IAC + "\xf6y", "xy", "\r\n[yes]\r\n"},
		{"interrupt", IAC + "\xf4" + DO + "\x06" + IAC + "\xf2" + "x\n", "x\n", WONT + "\x06"},
		{"other commands", IAC + "\xf1" + IAC + "\xf3" + IAC + "\xf5" + IAC + "\xf7" + IAC + "\xf8" + IAC + "\xf9" + IAC + "\xef" + "x", "x", ""},
		{"IAC before text", "a" + IAC + "bc", "abc", ""},
		{"IAC before a line end", "a" + IAC + "\r\nb", "a\nb", ""},
		{"IAC DM without its IAC", "a\xf2b\r\xf2\n", "ab\n", ""},
		{"between CR and LF", "a\r" + DO + "\x01" + "\nb", "a\nb", WONT + "\x01"},
		{"SE alone", "a" + SE + "b", "ab", ""},
		{"endless subnegotiation", SB + strings.Repeat("x", telnet.MaxSubnegotiation+1) + "hi", "hi", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data, answers := exchange(t, sim.Config{}, tt.in)
			require.Equal(t, tt.data, data)
			require.Equal(t, tt.answers, answers)
			for cut := 1; cut < len(tt.in); cut++ {
				data, answers = exchange(t, sim.Config{}, tt.in[:cut], tt.in[cut:])
				require.Equal(t, tt.data, data, "cut after %d", cut)
				require.Equal(t, tt.answers, answers, "cut after %d", cut)
			}
			for seed := range uint64(5) {
				data, answers = exchange(t, sim.Config{Seed: seed, MaxRecv: 3, RandomCuts: true, Window: 4, Again: 0.2, Spurious: 0.2}, tt.in)
				require.Equal(t, tt.data, data, "seed %d", seed)
				require.Equal(t, tt.answers, answers, "seed %d", seed)
			}
		})
	}
}

// Answers that the peer does not take wait, in front of later output, and are bounded.
func TestAnswersWait(t *testing.T) {
	w := sim.New(sim.Config{T: t, Window: 10})
	l := w.Loop(core.Options{})
	defer l.Close()
	s, peer := w.Pair()
	var got strings.Builder
	c := serve(t, l, s, &got)
	peer.Stall(true)
	const requests = 1000
	for range requests {
		peer.Say("\xff\xfd\x06")
	}
	peer.Say("end")
	w.Settle()
	require.Equal(t, "end", got.String())
	require.NoError(t, c.PushString("text"))
	w.Settle()
	require.Equal(t, 4, c.Queued())
	peer.Stall(false)
	all := peer.Read()
	require.True(t, strings.HasSuffix(all, "text"))
	answers := strings.TrimSuffix(all, "text")
	require.LessOrEqual(t, len(answers), telnet.MaxAnswers+10) // the window took the first ones
	require.Equal(t, answers, strings.Repeat("\xff\xfc\x06", len(answers)/3))
	require.Zero(t, c.Queued())
	peer.Say("\xff\xfd\x06")
	peer.Want("\xff\xfc\x06")
}

func FuzzLayer(f *testing.F) {
	f.Add([]byte("a\r\nb\xff\xfd\x06\r\x00"), uint16(3), uint16(5))
	f.Add([]byte("\xff\xfa\x18\x00xterm\xff\xf0\xff\xff\xffx"), uint16(1), uint16(9))
	f.Fuzz(func(t *testing.T, in []byte, i, j uint16) {
		a, b := int(i)%(len(in)+1), int(j)%(len(in)+1)
		a, b = min(a, b), max(a, b)
		whole, wholeAnswers := exchange(t, sim.Config{}, string(in))
		cut, cutAnswers := exchange(t, sim.Config{}, string(in[:a]), string(in[a:b]), string(in[b:]))
		require.Equal(t, whole, cut)
		require.LessOrEqual(t, len(whole), len(in))
		require.NotContains(t, whole, "\r")
		if len(wholeAnswers) < telnet.MaxAnswers { // over it, it depends on when they were taken
			require.Equal(t, wholeAnswers, cutAnswers)
		}
	})
}

func ExampleLayer() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	sock, client := w.Pair()
	_, err := chat.Attach(loop, sock, func(c *chat.Conn) chat.Handler {
		if _, err := c.Upgrade(telnet.Wrap, true); err != nil {
			_ = c.CloseWith(err)
		}
		return chat.Lines(func(_ *chat.Conn, line []byte) error {
			fmt.Printf("a line: %q\n", line)
			return nil
		})
	})
	if err != nil {
		panic(err)
	}
	client.Say("\xff\xfd\x03hello\r\n\xff\xf4wor\xff\xfd\x06ld\r\x00")
	fmt.Printf("answers: %q\n", client.Read())
	// Output:
	// a line: "hello"
	// a line: "world"
	// answers: "\xff\xfc\x03\xff\xfc\x06"
}

// Commands among the input that is still there at a CloseWhenDone do not end the reading of it: what is left unread would
// turn the close into a reset, and cost the peer the answer.
func TestCloseBehindCommands(t *testing.T) {
	w := sim.New(sim.Config{T: t, MaxRecv: 3})
	s, p := w.Pair()
	_, err := chat.Attach(w.Loop(core.Options{}), s, func(c *chat.Conn) chat.Handler {
		_, err := c.Upgrade(telnet.Wrap, true)
		require.NoError(t, err)
		return chat.Lines(func(c *chat.Conn, line []byte) error {
			err := c.PushString("bye")
			c.CloseWhenDone()
			return err
		})
	})
	require.NoError(t, err)
	p.Say("quit\r\n\xff\xfb\x01\xff\xfb\x03more")
	p.Want("bye\xff\xfe\x01\xff\xfe\x03")
	p.WantClosed()
	require.NoError(t, p.Err())
}

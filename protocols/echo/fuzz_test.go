package echo_test

import (
	"strings"
	"testing"
	"time"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/echo"
)

// FuzzEcho sends any bytes through any network: what comes back is exactly what was sent, or its lines.
func FuzzEcho(f *testing.F) {
	f.Add(uint64(1), "hello\n")
	f.Add(uint64(2), "two\r\nlines\r\n and a half")
	f.Add(uint64(3), "\n\n\r\x00\xff")
	f.Add(uint64(4), "0123456789abcdef\n0123456789abcdefg\nlost")
	f.Fuzz(func(t *testing.T, seed uint64, input string) {
		if len(input) > 10_000 {
			return
		}
		config := sim.Config{T: t, Seed: seed, Untraced: seed%2 == 0, RandomCuts: true, Window: 1 + int(seed%100), Jitter: time.Millisecond,
			Again: 0.2, Spurious: 0.2, Interrupt: 0.2}
		converse(t, config, echo.Stream, input, input)
		whole, tooLong := lines(input)
		if !tooLong { // else the end depends on how much was still under way
			converse(t, config, echo.Lines(lineLimit), input, whole)
		}
	})
}

// lines is what Lines echoes of an input, written in another way; tooLong tells whether the limit ends it.
func lines(input string) (echoed string, tooLong bool) {
	rest := input
	for {
		line, after, found := strings.Cut(rest, "\n")
		if len(line) > lineLimit {
			return "", true
		}
		if !found {
			return strings.TrimSuffix(input, rest), false
		}
		rest = after
	}
}

func converse(t *testing.T, c sim.Config, newHandler func(*chat.Conn) chat.Handler, say, want string) {
	t.Helper()
	w := sim.New(c)
	l := w.Loop(core.Options{})
	defer l.Close()
	s, peer := w.Pair()
	if _, err := chat.Attach(l, s, newHandler); err != nil {
		t.Fatal(err)
	}
	peer.Say(say)
	peer.CloseWrite()
	peer.Want(want)
	peer.WantClosed()
}

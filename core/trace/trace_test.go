package trace_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/core/trace"
)

var midnight = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestRecorderIsBounded(t *testing.T) {
	r := trace.NewRecorder(3)
	for i := range 10 {
		data := []byte(fmt.Sprint(i))
		r.Record(&core.Event{Kind: core.TraceRecv, Time: midnight.Add(time.Duration(i) * time.Second), N: 1, Data: data})
		data[0] = 'X' // the hook's bytes are borrowed
	}
	var got []string
	for _, rec := range r.Records() {
		got = append(got, string(rec.Data))
	}
	require.Equal(t, []string{"7", "8", "9"}, got)
	require.Contains(t, r.String(), "(7 earlier events are not kept)")
	require.Contains(t, r.String(), "9s p0", "time counts from the first event, kept or not")
	r.Reset()
	require.Empty(t, r.Records())
	require.Empty(t, r.String())
}

func TestExcerpt(t *testing.T) {
	r := trace.NewRecorder(1)
	r.Record(&core.Event{Kind: core.TraceSend, Time: midnight, N: 1000, Data: []byte(strings.Repeat("x", 1000))})
	require.Len(t, r.Records()[0].Data, trace.Excerpt)
	require.Contains(t, r.String(), "<-- 1000 \""+strings.Repeat("x", trace.Excerpt)+"\"…")
}

func TestLadderForms(t *testing.T) {
	for _, x := range []struct {
		e       core.Event
		want    string
		verbose bool
	}{
		{core.Event{Kind: core.TraceClose}, "== close ==", false},
		{core.Event{Kind: core.TraceClose, Err: errors.New("why")}, "== close == why", false},
		{core.Event{Kind: core.TraceOpen}, "== open  ==", false},
		{core.Event{Kind: core.TraceSend, N: 5}, "<-- 5    (from a file)", false},
		{core.Event{Kind: core.TraceTimer, Name: "AfterFunc"}, "    AfterFunc", false},
		{core.Event{Kind: core.TraceNote, Name: "dropped", N: 3}, "    dropped 3", false},
		{core.Event{Kind: core.TraceNote, Name: "secure"}, "    secure", false},
		{core.Event{Kind: core.TraceWait, Name: "epoll", N: 2}, "wait: 2 ready (epoll)", true},
		{core.Event{Kind: core.TraceReady, Got: core.Read | core.Hangup, Want: core.Read}, "    ready RH of R", true},
		{core.Event{Kind: core.TraceInterest, Want: core.Read | core.Write}, "    waits for RW, was -", true},
		{core.Event{Kind: core.TraceCall, Name: "HandleRead", Dur: time.Millisecond}, "    HandleRead took 1ms", true},
	} {
		r := trace.NewRecorder(1)
		x.e.Time = midnight
		r.Record(&x.e)
		if x.verbose {
			require.Empty(t, r.String(), "%v", x.e.Kind)
			r.Verbose(true)
		}
		require.Equal(t, "      0s p0         "+x.want+"\n", r.String())
	}
}

// A conversation as a ladder. On core/sim it is the same every time.
func ExampleRecorder() {
	rec := trace.NewRecorder(100)
	w := sim.New(sim.Config{Latency: 5 * time.Millisecond, MaxRecv: 9})
	loop := w.Loop(core.Options{Trace: rec.Record})
	sock, client := w.Pair()
	chat.Attach(loop, sock, func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.CRLF)
		c.PushString("220 ready\r\n")
		return chat.Lines(func(c *chat.Conn, line []byte) error {
			return c.Printf("250 %s\r\n", line)
		})
	})
	client.Say("EHLO x\r\nNOOP\r\n")
	client.Want("220 ready\r\n250 EHLO x\r\n250 NOOP\r\n")
	client.CloseWrite()
	client.WantClosed()
	rec.Ladder(os.Stdout)
	// Output:
	//       0s p0   ch1   == open  ==
	//       0s p1   ch1   <-- 11   "220 ready\r\n"
	//      5ms p2   ch1   --> 9    "EHLO x\r\nN"
	//      5ms p2   ch1       CollectIncomingData("EHLO x")
	//      5ms p2   ch1       FoundTerminator "\r\n"
	//      5ms p2   ch1       CollectIncomingData("N")
	//      5ms p2   ch1   <-- 12   "250 EHLO x\r\n"
	//      5ms p3   ch1   --> 5    "OOP\r\n"
	//      5ms p3   ch1       CollectIncomingData("OOP")
	//      5ms p3   ch1       FoundTerminator "\r\n"
	//      5ms p3   ch1   <-- 10   "250 NOOP\r\n"
	//     15ms p4   ch1   == close == EOF
}

// What is kept can be looked at, not only printed.
func ExampleRecord() {
	rec := trace.NewRecorder(100)
	w := sim.New(sim.Config{})
	sock, client := w.Pair()
	chat.Attach(w.Loop(core.Options{Trace: rec.Record}), sock, func(*chat.Conn) chat.Handler {
		return chat.Lines(func(c *chat.Conn, line []byte) error { return c.Push(line) })
	})
	client.Say("one\ntwo\n")
	w.Settle()
	for _, r := range rec.Records() {
		if r.Kind == core.TraceRecv || r.Kind == core.TraceSend {
			fmt.Printf("%v %d %q\n", r.Kind, r.N, r.Data)
		}
	}
	// Output:
	// recv 8 "one\ntwo\n"
	// send 6 "onetwo"
}

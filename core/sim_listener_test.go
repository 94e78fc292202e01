package core_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// server accepts connections and keeps them.
type server struct {
	conns []*core.Dispatcher
	f     func(l *core.Listener, s core.Socket) error
}

func (h *server) HandleAccepted(l *core.Listener, s core.Socket) error {
	if h.f != nil {
		if err := h.f(l, s); err != nil {
			return err
		}
	}
	d, err := core.Attach(l.Loop(), s, &logged{})
	if err == nil {
		h.conns = append(h.conns, d)
	}
	return err
}

func (h *server) open() (n int) {
	for _, d := range h.conns {
		if !d.Closed() {
			n++
		}
	}
	return n
}

func TestListenerOutlivesItsHandlersFailures(t *testing.T) {
	var out bytes.Buffer
	w, l := simLoop(t, sim.Config{}, core.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	n := 0
	h := &server{f: func(*core.Listener, core.Socket) error {
		switch n++; n {
		case 1:
			return io.ErrNoProgress
		case 2:
			panic("P")
		}
		return nil
	}}
	_, err := core.Listen(l, "tcp", "server:1", h)
	require.NoError(t, err)
	for i := range 4 {
		p := w.Dial("tcp", "server:1")
		if i < 2 {
			p.WantClosed()
		} else {
			p.WantNothing()
		}
	}
	require.Len(t, h.conns, 2)
	require.Contains(t, out.String(), "method=HandleAccepted")
	require.Contains(t, out.String(), "handler panicked: P")
}

// A handler that attached the connection and then fails has it closed as a channel, HandleClose and all.
func TestFailureAfterAttachClosesTheChannel(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &logged{}
	_, err := core.Listen(l, "tcp", "server:1", &core.Funcs{Accepted: func(ln *core.Listener, s core.Socket) error {
		if _, err := core.Attach(ln.Loop(), s, h); err != nil {
			return err
		}
		return io.ErrNoProgress
	}})
	require.NoError(t, err)
	w.Dial("tcp", "server:1").WantClosed()
	require.Equal(t, []string{"close " + io.ErrNoProgress.Error()}, h.log)
	require.Equal(t, 1, l.Stats().Channels)
}

func TestAcceptBudget(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &server{}
	ln, err := core.Listen(l, "tcp", "server:1", h)
	require.NoError(t, err)
	for range 200 {
		w.Dial("tcp", "server:1")
	}
	ln.Core().WantRead(false)
	w.Settle() // all of them wait
	ln.Core().WantRead(true)
	for len(h.conns) < 200 {
		before := len(h.conns)
		l.Step(0)
		require.Equal(t, min(core.AcceptBudget, 200-before), len(h.conns)-before)
	}
	require.EqualValues(t, 200, l.Stats().Accepted)
}

func TestLimitTotalWaits(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &server{}
	ln, err := core.Listen(l, "tcp", "server:1", h)
	require.NoError(t, err)
	ln.SetLimit(core.Limit{Total: 3})
	var peers []*sim.Peer
	for range 5 {
		peers = append(peers, w.Dial("tcp", "server:1"))
	}
	w.Settle()
	require.Equal(t, 3, ln.Open())
	require.Len(t, h.conns, 3)
	passes := l.Stats().Passes
	w.Advance(time.Minute)
	require.LessOrEqual(t, l.Stats().Passes, passes+1, "waiting clients make nobody spin")
	h.conns[1].Close()
	w.Settle()
	require.Len(t, h.conns, 4)
	peers[0].Close()
	w.Settle()
	require.Len(t, h.conns, 5)
	require.Equal(t, 3, ln.Open())
	ln.SetLimit(core.Limit{Total: 10})
	w.Dial("tcp", "server:1")
	w.Settle()
	require.Equal(t, 4, ln.Open())
}

func TestLimitRefusal(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &server{}
	config := core.ListenConfig{Limit: core.Limit{Total: 1, Refusal: "421 too many\r\n"}}
	ln, err := config.Listen(l, "tcp", "server:1", h)
	require.NoError(t, err)
	w.Dial("tcp", "server:1").WantNothing()
	for range 3 {
		p := w.Dial("tcp", "server:1")
		p.Want("421 too many\r\n")
		p.WantClosed()
	}
	require.Equal(t, 1, ln.Open())
	require.EqualValues(t, 3, l.Stats().Refused)
}

// What is made for the moment goes before what is always the same; a panic costs that connection.
func TestLimitRefusalFunc(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{Logger: slog.New(slog.DiscardHandler)})
	var at time.Time
	config := core.ListenConfig{Limit: core.Limit{Total: 1, Refusal: "too many\r\n", RefusalFunc: func(now time.Time) string {
		at = now
		return "too many for " + now.Weekday().String() + "\r\n"
	}}}
	ln, err := config.Listen(l, "tcp", "server:1", &server{})
	require.NoError(t, err)
	w.Dial("tcp", "server:1").WantNothing()
	w.Advance(25 * time.Hour)
	p := w.Dial("tcp", "server:1")
	p.Want("too many for " + w.Now().Weekday().String() + "\r\n")
	p.WantClosed()
	require.WithinDuration(t, w.Now(), at, time.Second)
	ln.SetLimit(core.Limit{Total: 1, RefusalFunc: func(time.Time) string { panic("no words") }})
	w.Dial("tcp", "server:1").WantClosed()
	ln.SetLimit(core.Limit{Total: 2})
	w.Dial("tcp", "server:1").WantNothing()
	require.Equal(t, 2, ln.Open())
	require.EqualValues(t, 2, l.Stats().Refused)
}

func TestLimitPerAddr(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &server{}
	config := core.ListenConfig{Limit: core.Limit{PerAddr: 2}}
	ln, err := config.Listen(l, "tcp", ":1", h)
	require.NoError(t, err)
	dial := func(from string) *sim.Peer {
		to := "server:1"
		if strings.Contains(from, "[") {
			to = "[2001:db8::25]:1"
		}
		return w.DialFrom("tcp", from, to)
	}
	first := dial("198.51.100.7:0")
	dial("198.51.100.7:0").WantNothing()
	dial("198.51.100.7:0").WantClosed()
	dial("198.51.100.8:0").WantNothing()
	dial("[2001:db8:1:2::1]:0").WantNothing()
	dial("[2001:db8:1:2:ffff::9]:0").WantNothing()
	dial("[2001:db8:1:2::3]:0").WantClosed() // IPv6 counts by /64
	dial("[2001:db8:1:3::1]:0").WantNothing()
	require.Equal(t, 6, ln.Open())
	first.Close()
	w.Settle()
	dial("198.51.100.7:0").WantNothing()
	require.EqualValues(t, 2, l.Stats().Refused)
}

// EMFILE: the listener stays, sheds the client with the reserved descriptor, retries after 5 ms doubling to 1 s, and logs
// once per episode.
func TestListenerSurvivesEMFILE(t *testing.T) {
	var out bytes.Buffer
	w, l := simLoop(t, sim.Config{}, core.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	h := &server{}
	_, err := core.Listen(l, "tcp", "server:1", h)
	require.NoError(t, err)
	for range 3 {
		w.Dial("tcp", "server:1")
	}
	w.Settle()
	require.Equal(t, 5, w.Files(), "listener, reserve, three connections")
	w.Configure(func(c *sim.Config) { c.Files = 5 })

	w.Dial("tcp", "server:1").WantClosed()
	require.EqualValues(t, 1, l.Stats().Refused)
	require.Equal(t, 5, w.Files(), "the reserve is back")

	// A flood of clients is shed one per retry, and the pauses get longer.
	for range 12 {
		w.Dial("tcp", "server:1")
	}
	passes := l.Stats().Passes
	begin := w.Now()
	for l.Stats().Refused < 13 {
		w.Advance(time.Millisecond)
	}
	took := w.Now().Sub(begin)
	require.Greater(t, took, 3*time.Second, "5+10+20+…+640 ms, then 1 s each")
	require.Less(t, l.Stats().Passes-passes, uint64(100))
	require.Equal(t, 1, strings.Count(out.String(), "cannot accept"), out.String())

	h.conns[0].Close()
	w.Settle()
	ok := w.Dial("tcp", "server:1")
	w.Advance(2 * time.Second)
	ok.WantNothing()
	require.Equal(t, 3, h.open())

	// After a success the pause is short again, and another episode is logged when it is a minute later.
	w.Advance(2 * time.Minute)
	begin = w.Now()
	for range 3 {
		w.Dial("tcp", "server:1")
	}
	w.Until(func() bool { return l.Stats().Refused == 16 })
	require.Equal(t, 15*time.Millisecond, w.Now().Sub(begin), "5 and 10 ms between the three")
	require.Equal(t, 2, strings.Count(out.String(), "cannot accept"))
}

// A handler of another loop gets connections handed over; their limit still counts.
func TestHandOver(t *testing.T) {
	w, l := simLoop(t, sim.Config{Latency: time.Millisecond}, core.Options{})
	other := w.Loop(core.Options{})
	var h logged
	config := core.ListenConfig{Limit: core.Limit{Total: 1}}
	ln, err := config.Listen(l, "tcp", "server:1", &core.Funcs{Accepted: func(_ *core.Listener, s core.Socket) error {
		if !other.Post(func() {
			d, err := core.Attach(other, s, &h)
			if err == nil {
				d.Send([]byte("from the other loop"))
			}
		}) {
			return core.ErrClosed
		}
		return nil
	}})
	require.NoError(t, err)
	p := w.Dial("tcp", "server:1")
	p.Want("from the other loop")
	q := w.Dial("tcp", "server:1")
	w.Settle()
	require.Equal(t, 1, ln.Open())
	require.Equal(t, 1, other.Stats().Channels)
	p.Close()
	q.Want("from the other loop")
	require.Equal(t, []string{"close EOF"}, h.log)
	require.NoError(t, other.Close())
}

func TestListenErrors(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &server{}
	ln, err := core.Listen(l, "tcp", "server:0", h)
	require.NoError(t, err)
	require.NotContains(t, ln.Addr().String(), ":0")
	addr := ln.Addr().String()
	_, err = core.Listen(l, "tcp", addr, h)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.NoError(t, ln.Close())
	_, err = core.Listen(l, "tcp", addr, h)
	require.NoError(t, err, "a closed listener leaves its address free")
	_, err = core.Listen(l, "tcp", "server:1", &core.Funcs{})
	require.Error(t, err)
	_, err = core.Listen(l, "tcp", "server:1", misspeltAccepter{h})
	require.ErrorContains(t, err, "did you mean HandleAccepted")
	w.Settle()
}

type misspeltAccepter struct{ *server }

func (misspeltAccepter) HandleAcepted(*core.Listener, core.Socket) error { return nil }

// --- datagrams

type packets struct {
	log []string
	f   func(d *core.Dispatcher, p []byte, from netip.AddrPort) error
}

func (h *packets) HandlePacket(d *core.Dispatcher, p []byte, from netip.AddrPort) error {
	h.log = append(h.log, fmt.Sprintf("%s %q", from, p))
	if h.f != nil {
		return h.f(d, p, from)
	}
	return nil
}

func TestDatagrams(t *testing.T) {
	w, l := simLoop(t, sim.Config{Latency: time.Millisecond}, core.Options{})
	h := &packets{f: func(d *core.Dispatcher, p []byte, from netip.AddrPort) error {
		return d.SendTo(append([]byte("re: "), p...), from)
	}}
	d, err := core.ListenPacket(l, "udp", "server:7", h)
	require.NoError(t, err)
	c := w.ListenPacket("udp", "client:1000")
	c.Send("hello", "server:7")
	c.Want("re: hello")
	c.Send("", "server:7")
	c.Want("re: ")
	require.Equal(t, []string{`192.0.2.2:1000 "hello"`, `192.0.2.2:1000 ""`}, h.log)
	require.False(t, d.Closed(), "an empty datagram is no end")

	connected := &packets{}
	e, err := core.Dial(l, "udp", "client:1000", connected)
	require.NoError(t, err)
	w.Settle()
	_, err = e.Send([]byte("dialled"))
	require.NoError(t, err)
	c.Want("dialled")
	require.ErrorIs(t, d.SendToPath([]byte("x"), ""), syscall.EDESTADDRREQ)
}

type unixPackets struct{ log []string }

func (h *unixPackets) HandleUnixPacket(d *core.Dispatcher, p []byte, from string) error {
	h.log = append(h.log, fmt.Sprintf("%s %q", from, p))
	return d.SendToPath(p, from)
}

func TestUnixDatagrams(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &unixPackets{}
	_, err := core.ListenPacket(l, "unixgram", "/server", h)
	require.NoError(t, err)
	c := w.ListenPacket("unixgram", "/client")
	c.Send("hello", "/server")
	c.Want("hello")
	require.Equal(t, []string{`/client "hello"`}, h.log)
}

// A flood of datagrams does not keep the loop from others.
func TestDatagramBudget(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &packets{}
	d, err := core.ListenPacket(l, "udp", "server:7", h)
	require.NoError(t, err)
	d.WantRead(false)
	c := w.ListenPacket("udp", "client:1000")
	for range 200 {
		c.Send("x", "server:7")
	}
	w.Settle() // all of them wait
	d.WantRead(true)
	for len(h.log) < 200 {
		before := len(h.log)
		l.Step(0)
		require.Equal(t, min(core.AcceptBudget, 200-before), len(h.log)-before)
	}
}

// A kept datagram is poison, as any borrowed slice.
func TestKeptDatagramShowsPoison(t *testing.T) {
	w, l := simLoop(t, sim.Config{}, core.Options{})
	var kept []byte
	_, err := core.ListenPacket(l, "udp", "server:7", &packets{f: func(_ *core.Dispatcher, p []byte, _ netip.AddrPort) error {
		kept = p
		return nil
	}})
	require.NoError(t, err)
	w.ListenPacket("udp", "client:1").Send("secret", "server:7")
	w.Settle()
	require.Equal(t, bytes.Repeat([]byte{core.Poison}, 6), kept)
}

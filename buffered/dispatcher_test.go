package buffered_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// handler is a buffered handler that writes down what it is told.
type handler struct {
	log  []string
	read func(d *buffered.Dispatcher, p []byte) error
}

func (h *handler) HandleRead(d *buffered.Dispatcher) error {
	p, err := d.RecvShared()
	if err != nil {
		return err
	}
	h.log = append(h.log, "read "+string(p))
	if h.read != nil {
		return h.read(d, p)
	}
	return nil
}

func (h *handler) HandleHigh(*buffered.Dispatcher) error { h.log = append(h.log, "high"); return nil }
func (h *handler) HandleLow(*buffered.Dispatcher) error  { h.log = append(h.log, "low"); return nil }
func (h *handler) HandleConnect(*buffered.Dispatcher) error {
	h.log = append(h.log, "connect")
	return nil
}
func (h *handler) HandleClose(_ *buffered.Dispatcher, cause error) {
	h.log = append(h.log, fmt.Sprint("close ", cause))
}

func attach(t *testing.T, c sim.Config, h any) (*sim.World, *core.Loop, *buffered.Dispatcher, *sim.Peer) {
	t.Helper()
	c.T = t
	w := sim.New(c)
	l := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	s, p := w.Pair()
	d, err := buffered.Attach(l, s, h)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return w, l, d, p
}

// A12 test_send: what is sent right after connect, before the connection is there, arrives whole.
func TestA12SendRightAfterConnect(t *testing.T) {
	w := sim.New(sim.Config{T: t, Latency: 10 * time.Millisecond})
	l := w.Loop(core.Options{})
	ln := w.Listen("tcp", "server:1")
	h := &handler{}
	d, err := buffered.Dial(l, "tcp", "server:1", h)
	require.NoError(t, err)
	for _, s := range []string{"Suppose there isn't a 16-ton weight?", "Suppose there isn't a 16-ton weight?", "\n"} {
		n, err := io.WriteString(d, s)
		require.NoError(t, err)
		require.Equal(t, len(s), n)
	}
	require.Equal(t, 73, d.Queued())
	p := ln.Accept()
	p.Want(strings.Repeat("Suppose there isn't a 16-ton weight?", 2) + "\n")
	require.Zero(t, d.Queued())
	p.Close()
	w.Settle()
	require.Equal(t, []string{"connect", "close EOF"}, h.log)
	require.NoError(t, l.Close())
}

// 200,000 octets through a small window arrive, and the peer is not read from meanwhile. [P-dws_chunk]
func TestSlowPeer(t *testing.T) {
	big := strings.Repeat("0123456789", 20_000)
	h := &handler{}
	h.read = func(d *buffered.Dispatcher, p []byte) error {
		_, err := d.WriteString(big)
		return err
	}
	w, _, d, p := attach(t, sim.Config{Window: 1000}, h)
	p.Stall(true)
	p.Say("go")
	w.Settle()
	require.Equal(t, []string{"read go", "high"}, h.log)
	p.Say("more")
	w.Settle()
	require.Equal(t, []string{"read go", "high"}, h.log, "no reading above the high mark")
	p.Stall(false)
	p.Want(big + big)
	require.Equal(t, []string{"read go", "high", "low", "read more", "high", "low"}, h.log)
	require.Zero(t, d.Queued())
}

func TestCloseThrowsTheQueueAwayCloseWhenDoneDoesNot(t *testing.T) {
	for _, whenDone := range []bool{true, false} {
		h := &handler{}
		h.read = func(d *buffered.Dispatcher, _ []byte) error {
			d.WriteString(strings.Repeat("x", 10_000))
			if whenDone {
				d.CloseWhenDone()
				_, err := d.WriteString("late")
				require.ErrorIs(t, err, core.ErrClosed)
				return nil
			}
			return d.Close()
		}
		w, _, _, p := attach(t, sim.Config{Window: 100}, h)
		p.Stall(true)
		p.Say("go")
		w.Settle()
		p.Stall(false)
		if whenDone {
			p.Want(strings.Repeat("x", 10_000))
		}
		p.WantClosed()
		require.Equal(t, "close <nil>", h.log[len(h.log)-1])
	}
}

// The peer's end of its stream: what is queued still goes out, and the cause is io.EOF.
func TestEOFFlushesFirst(t *testing.T) {
	h := &handler{}
	h.read = func(d *buffered.Dispatcher, _ []byte) error {
		_, err := d.WriteString(strings.Repeat("x", 400_000))
		return err
	}
	_, _, _, p := attach(t, sim.Config{Window: 8000}, h)
	p.Say("go")
	p.CloseWrite()
	p.Want(strings.Repeat("x", 400_000))
	p.WantClosed()
	require.Equal(t, "close EOF", h.log[len(h.log)-1])
}

func TestSendFails(t *testing.T) {
	h := &handler{}
	h.read = func(d *buffered.Dispatcher, _ []byte) error { _, err := d.WriteString("x"); return err }
	w, _, _, p := attach(t, sim.Config{}, h)
	p.PlanSends(-1)
	p.Say("go")
	w.Settle()
	require.Equal(t, []string{"read go", "close " + syscall.EPIPE.Error()}, h.log)
}

// Output that is dropped for newer, over and over, is no progress: the peer has taken nothing.
func TestDiscardedOutputIsNoProgress(t *testing.T) {
	m := buffered.NewShared([]byte("a new frame"))
	for name, push := range map[string]func(d *buffered.Dispatcher) error{
		"own":    func(d *buffered.Dispatcher) error { _, err := d.WriteString("a new frame"); return err },
		"shared": func(d *buffered.Dispatcher) error { return d.SendShared(m) },
	} {
		for limit, set := range map[time.Duration]func(d *buffered.Dispatcher){
			10 * time.Second:     func(d *buffered.Dispatcher) { d.SetWriteTimeout(10 * time.Second) },
			core.WriteRatePeriod: func(d *buffered.Dispatcher) { d.SetWriteRate(1000) },
		} {
			w, _, d, p := attach(t, sim.Config{Window: 100, Untraced: true}, &handler{})
			set(d)
			p.Stall(true)
			_, err := d.Send(make([]byte, 1000))
			require.NoError(t, err)
			var tick func()
			tick = func() {
				d.DiscardBuffers()
				if err := push(d); err != nil {
					panic(err)
				}
				d.AfterFunc(time.Second, tick)
			}
			d.AfterFunc(time.Second, tick)
			w.Advance(limit - time.Second)
			require.False(t, d.Closed(), "%s %v", name, limit)
			w.Advance(2 * time.Second)
			require.ErrorIs(t, d.Cause(), core.ErrTimeout, "%s %v", name, limit)
		}
	}
}

// A CloseWhenDone that is taken back leaves the write timeout as it was.
func TestDiscardPutsTheWriteTimeoutBack(t *testing.T) {
	w, _, d, p := attach(t, sim.Config{Window: 100}, &handler{})
	d.SetWriteTimeout(time.Hour)
	p.Stall(true)
	_, err := d.Send(make([]byte, 1000))
	require.NoError(t, err)
	d.CloseWhenDone()
	w.Settle()
	require.Equal(t, buffered.DefaultCloseTimeout, d.WriteTimeout())
	d.DiscardBuffers()
	require.Equal(t, time.Hour, d.WriteTimeout())
	_, err = d.Send(make([]byte, 1000))
	require.NoError(t, err)
	w.Advance(time.Hour - time.Second)
	require.False(t, d.Closed())
	w.Advance(2 * time.Second)
	require.ErrorIs(t, d.Cause(), core.ErrTimeout)
}

func TestOverflow(t *testing.T) {
	h := &handler{}
	var errs []error
	h.read = func(d *buffered.Dispatcher, _ []byte) error {
		d.SetMarks(&buffered.Marks{Low: 1, High: 2, Limit: 3})
		for range 4 {
			_, err := d.WriteString("xx")
			errs = append(errs, err)
		}
		return nil
	}
	w, _, _, p := attach(t, sim.Config{Window: 1}, h)
	p.Stall(true)
	p.Say("g")
	w.Settle()
	require.Equal(t, []error{nil, nil, core.ErrOverflow, core.ErrClosed}, errs, "one octet was taken at once")
	require.Equal(t, "close "+core.ErrOverflow.Error(), h.log[len(h.log)-1])
}

func TestProducerOfADispatcher(t *testing.T) {
	h := &handler{}
	producer := &closing{Producer: buffered.Reader(strings.NewReader(strings.Repeat("p", 1000)))}
	h.read = func(d *buffered.Dispatcher, p []byte) error {
		switch string(p) {
		case "go":
			return d.SendProducer(producer)
		case "stop":
			d.DiscardBuffers()
		case "quit":
			d.Close()
			require.ErrorIs(t, d.SendProducer(producer), core.ErrClosed)
		}
		return nil
	}
	w, _, _, p := attach(t, sim.Config{Window: 100}, h)
	p.Stall(true)
	p.Say("go")
	w.Settle()
	p.Say("stop")
	w.Settle()
	require.Equal(t, 1, producer.closed)
	p.Stall(false)
	require.Equal(t, 100, len(p.Read()))
	p.Say("quit")
	w.Settle()
	require.Equal(t, 2, producer.closed, "a producer that is refused is closed, too")
}

// full has every optional method.
type full struct{ *handler }

func (f *full) note(s string) error { f.log = append(f.log, s); return nil }

func (f *full) HandleEOF(d *buffered.Dispatcher) error {
	d.WriteString("bye")
	d.CloseWhenDone()
	return f.note("eof")
}
func (f *full) HandleTimeout(*buffered.Dispatcher) error { return f.note("timeout") }
func (f *full) HandleShutdown(d *buffered.Dispatcher) error {
	d.CloseWhenDone()
	return f.note("shutdown")
}
func (f *full) HandleError(_ *buffered.Dispatcher, err error) {
	f.note("error " + err.Error())
}
func (f *full) HandleExpt(d *buffered.Dispatcher) error {
	var b [1]byte
	d.RecvUrgent(b[:])
	return f.note("urgent " + string(b[:]))
}

func TestOptionalHandlers(t *testing.T) {
	f := &full{handler: &handler{}}
	f.read = func(d *buffered.Dispatcher, p []byte) error { return errors.New(string(p)) }
	w, _, d, p := attach(t, sim.Config{}, f)
	d.SetIdleTimeout(time.Minute)
	p.Say("E")
	p.SayUrgent('!')
	w.Settle()
	w.Advance(90 * time.Second)
	p.CloseWrite()
	p.Want("bye")
	p.WantClosed()
	require.ElementsMatch(t, []string{"read E", "error E", "urgent !", "timeout", "eof", "close <nil>"}, f.log)

	f.log = nil
	w, l, _, p := attach(t, sim.Config{}, f)
	w.Settle()
	l.Shutdown(time.Minute)
	p.WantClosed()
	require.Equal(t, []string{"shutdown", "close <nil>"}, f.log)
}

// Without the optional methods the defaults apply.
type bare struct{ cause error }

func (*bare) HandleRead(d *buffered.Dispatcher) error {
	p, err := d.RecvShared()
	if err == nil && string(p) == "fail" {
		err = io.ErrNoProgress
	}
	return err
}
func (b *bare) HandleClose(_ *buffered.Dispatcher, cause error) { b.cause = cause }

func TestDefaults(t *testing.T) {
	for _, x := range []struct {
		name string
		do   func(w *sim.World, l *core.Loop, d *buffered.Dispatcher, p *sim.Peer)
		want error
	}{
		{"error", func(_ *sim.World, _ *core.Loop, _ *buffered.Dispatcher, p *sim.Peer) { p.Say("fail") }, io.ErrNoProgress},
		{"shutdown", func(_ *sim.World, l *core.Loop, _ *buffered.Dispatcher, _ *sim.Peer) { l.Shutdown(time.Minute) }, core.ErrShutdown},
		{"idle", func(w *sim.World, _ *core.Loop, d *buffered.Dispatcher, _ *sim.Peer) {
			d.SetIdleTimeout(time.Second)
			w.Advance(2 * time.Second)
		}, core.ErrTimeout},
		{"eof", func(_ *sim.World, _ *core.Loop, _ *buffered.Dispatcher, p *sim.Peer) { p.CloseWrite() }, io.EOF},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := &bare{}
			w, l, d, p := attach(t, sim.Config{}, b)
			x.do(w, l, d, p)
			w.Settle()
			require.ErrorIs(t, b.cause, x.want)
		})
	}
}

func TestAttachChecksTheHandler(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	l := w.Loop(core.Options{})
	s, _ := w.Pair()
	_, err := buffered.Attach(l, s, struct{}{})
	require.ErrorContains(t, err, "HandleRead")
	_, err = buffered.Dial(l, "tcp", "server:1", struct{}{})
	require.Error(t, err)
	_, err = buffered.Attach(l, s, &misspelt{})
	require.ErrorContains(t, err, "did you mean HandleHigh?")
	require.Zero(t, l.Stats().Channels)
}

type misspelt struct{ bare }

func (*misspelt) HandleHi(*buffered.Dispatcher) error { return nil }

// An echo server on this layer alone.
func ExampleAttach() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	sock, client := w.Pair()
	buffered.Attach(loop, sock, &handler{read: func(d *buffered.Dispatcher, p []byte) error {
		_, err := d.Send(p)
		return err
	}})
	client.Say("hello")
	fmt.Println(client.Read())
	// Output: hello
}

// A write timeout that is shorter than the one before holds, also if that one still runs.
func TestShorterWriteTimeout(t *testing.T) {
	h := &handler{}
	w, l, d, p := attach(t, sim.Config{Window: 10}, h)
	d.SetWriteTimeout(time.Hour)
	p.Stall(true)
	l.Post(func() { _, _ = d.Send(make([]byte, 20)) })
	w.Settle()
	p.Stall(false)
	w.Settle()
	require.Zero(t, d.Queued())
	l.Post(func() { d.SetWriteTimeout(time.Second) })
	w.Settle()
	p.Stall(true)
	l.Post(func() { _, _ = d.Send(make([]byte, 20)) })
	w.Advance(10 * time.Second)
	require.ErrorIs(t, d.Cause(), core.ErrTimeout)
}

// funcProducer is a producer made of a func, that counts how often it is closed.
type funcProducer struct {
	more   func(limit int) ([]byte, error)
	closed int
}

func (p *funcProducer) More(limit int) ([]byte, error) { return p.more(limit) }
func (p *funcProducer) Close() error                   { p.closed++; return nil }

// A producer that panics costs its connection, also one that is closing already, and is not asked again.
func TestProducerPanics(t *testing.T) {
	for _, closing := range []bool{false, true} {
		h := &handler{}
		w, l, d, _ := attach(t, sim.Config{}, h)
		p := &funcProducer{more: func(int) ([]byte, error) { panic("disk") }}
		l.Post(func() {
			require.NoError(t, d.SendProducer(p))
			if closing {
				d.CloseWhenDone()
			}
		})
		w.Settle()
		require.ErrorAs(t, d.Cause(), new(*core.PanicError))
		require.EqualValues(t, 1, l.Stats().Panics)
		require.Equal(t, 1, p.closed)
	}
}

// A producer may push while it is asked, another producer too; what it answers then is not lost.
func TestProducerPushes(t *testing.T) {
	h := &handler{}
	w, l, d, p := attach(t, sim.Config{Window: 10}, h)
	asked := 0
	first := &funcProducer{more: func(int) ([]byte, error) {
		if asked++; asked > 1 {
			return nil, io.EOF
		}
		require.NoError(t, d.SendProducer(buffered.Bytes([]byte(strings.Repeat("b", 25)), 0)))
		_, err := d.WriteString("c")
		return []byte(strings.Repeat("a", 25)), err
	}}
	l.Post(func() { require.NoError(t, d.SendProducer(first)) })
	p.Want(strings.Repeat("a", 25) + strings.Repeat("b", 25) + "c")
	w.Settle()
	require.Zero(t, d.Queued())
	require.Equal(t, 1, first.closed)
}

// A producer that drops the queue while it is asked is dropped with it, and what it answers then.
func TestProducerDiscards(t *testing.T) {
	h := &handler{}
	w, l, d, p := attach(t, sim.Config{}, h)
	q := &funcProducer{more: func(int) ([]byte, error) {
		d.DiscardBuffers()
		return []byte("dropped"), nil
	}}
	l.Post(func() {
		require.NoError(t, d.SendProducer(q))
		_, _ = d.WriteString("dropped")
	})
	w.Settle()
	require.Zero(t, l.Stats().Panics)
	require.Equal(t, 1, q.closed)
	l.Post(func() { _, _ = d.WriteString("after") })
	p.Want("after")
}

// DiscardBuffers takes a CloseWhenDone back, not the timeout that was set for the next one.
func TestDiscardKeepsCloseTimeout(t *testing.T) {
	h := &handler{}
	w, l, d, p := attach(t, sim.Config{Window: 10}, h)
	p.Stall(true)
	l.Post(func() {
		d.SetCloseTimeout(5 * time.Second)
		d.DiscardBuffers()
		_, _ = d.Send(make([]byte, 200))
		d.CloseWhenDone()
	})
	w.Advance(6 * time.Second)
	require.ErrorIs(t, d.Cause(), core.ErrTimeout)
}

// blocked is attach with a peer that takes nothing for now.
func blocked(t *testing.T, window int) (*sim.World, *core.Loop, *buffered.Dispatcher, *sim.Peer) {
	w, l, d, p := attach(t, sim.Config{Window: window}, &handler{})
	p.Stall(true)
	return w, l, d, p
}

// A peer that takes something now and then, but too little of it over a minute, is closed; one that takes enough is not.
func TestWriteRate(t *testing.T) {
	for _, take := range []int{199, 200} {
		w, l, d, p := blocked(t, 1000)
		d.SetWriteTimeout(30 * time.Second)
		d.SetWriteRate(20)
		l.Post(func() { _, _ = d.Send(make([]byte, 100_000)) })
		w.Settle()
		for range 6 {
			require.False(t, d.Closed())
			w.Advance(9900 * time.Millisecond)
			p.Take(take)
		}
		w.Advance(2 * time.Second)
		require.Equal(t, take < 200, d.Closed())
		if take < 200 {
			require.ErrorIs(t, d.Cause(), core.ErrTimeout)
			p.WantReset() // the system holds nothing for it either
			continue
		}
		p.Take(100_000) // a second minute begins, and what it has at once counts for the whole of it
		w.Advance(time.Hour)
		require.False(t, d.Closed())
		require.Zero(t, d.Queued())
	}
}

// Only a minute counts in which something waits all the time: not what is made slowly, nor what the peer took late but whole.
func TestWriteRateCountsWaitingOnly(t *testing.T) {
	w, l, d, p := blocked(t, 10)
	d.SetWriteTimeout(30 * time.Second)
	d.SetWriteRate(1000)
	for range 100 {
		l.Post(func() { _, _ = d.Send(make([]byte, 20)) })
		w.Advance(25 * time.Second)
		p.Take(20)
		w.Settle()
		require.Zero(t, d.Queued())
		w.Advance(10 * time.Minute)
	}
	require.False(t, d.Closed())
}

// The rate can be set when something waits already, and be taken back.
func TestWriteRateChanges(t *testing.T) {
	w, l, d, p := blocked(t, 10)
	l.Post(func() { _, _ = d.Send(make([]byte, 5000)) })
	w.Advance(time.Hour)
	l.Post(func() { d.SetWriteRate(1) })
	w.Advance(59 * time.Second)
	l.Post(func() { d.SetWriteRate(0) })
	w.Advance(time.Hour)
	require.False(t, d.Closed())
	l.Post(func() { d.SetWriteRate(1) })
	w.Advance(59 * time.Second)
	require.False(t, d.Closed())
	p.Take(60)
	w.Advance(60 * time.Second)
	require.False(t, d.Closed())
	w.Advance(2 * time.Second)
	require.ErrorIs(t, d.Cause(), core.ErrTimeout)
	d.SetWriteRate(1)
}

// lazy is a socket that is not writable for as long as it is told, as one of the system's is while its buffer is nearly full.
type lazy struct {
	core.Socket
	closed bool
}

func (s *lazy) Inner() core.Socket { return s.Socket }
func (s *lazy) Pending() bool      { return false }

func (s *lazy) Ready(got core.Interest) core.Interest { return got }
func (s *lazy) Interest(want core.Interest) core.Interest {
	if s.closed {
		want &^= core.Write
	}
	return want
}

// Taken is also what the peer takes of what was sent before, though nothing more can be sent for now.
func TestWriteTimeoutCountsWhatIsTaken(t *testing.T) {
	w := sim.New(sim.Config{T: t, Window: 50_000})
	l := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	sock, p := w.Pair()
	s := &lazy{Socket: sock, closed: true}
	d, err := buffered.Attach(l, s, &handler{})
	require.NoError(t, err)
	d.SetWriteTimeout(30 * time.Second)
	d.SetWriteRate(5)
	p.Stall(true)
	l.Post(func() { _, _ = d.Send(make([]byte, 100_000)) })
	for range 20 {
		w.Advance(20 * time.Second)
		require.False(t, d.Closed())
		p.Take(200)
	}
	require.Equal(t, 50_000, d.Queued())
	w.Advance(40 * time.Second) // and now nothing, for 30 s twice at most
	require.False(t, d.Closed())
	w.Advance(21 * time.Second)
	require.ErrorIs(t, d.Cause(), core.ErrTimeout)
	require.NoError(t, l.Close())
}

// What a producer's end does with the queue is not done to the producer again.
func TestProducerEndsOnce(t *testing.T) {
	w, l, d, p := blocked(t, 1000)
	f, err := os.Open("dispatcher_test.go")
	require.NoError(t, err)
	ended := 0
	l.Post(func() {
		require.NoError(t, d.SendProducer(buffered.FileFunc(f, 0, 10, func(sent int64) {
			require.EqualValues(t, 10, sent)
			ended++
			d.DiscardBuffers()
		})))
		_, _ = d.Send([]byte("dropped"))
	})
	w.Settle()
	p.Stall(false)
	require.Len(t, p.Read(), 10)
	require.Equal(t, 1, ended)
	require.NoError(t, f.Close())
}

package core_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

func ExampleDispatcher() {
	_, d, peer := pair(reader{})
	d.WantRead(false) // input waits at the peer
	peer.Say("later")
	fmt.Println(d, d.Interest())
	d.Loop().AfterFunc(time.Second, func() { d.WantRead(true) })
	d.AfterFunc(time.Minute, func() { d.Close() }) // dies with the channel
	fmt.Println(d.Loop().Run(context.Background()))
	// Output:
	// ch1 core_test.reader 192.0.2.2:49152 -
	// read "later"
	// closed: <nil>
	// <nil>
}

func ExampleDialer() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	w.Host("far", "198.51.100.1", "198.51.100.2") // tried in turn
	w.BlackHole("198.51.100.1")
	ln := w.Listen("tcp", "198.51.100.2:25")
	dialer := core.Dialer{Timeout: 10 * time.Second} // for the name and all addresses together
	dialer.Attach(new(core.Dispatcher), loop, "tcp", "far:25", caller{})
	fmt.Println(ln.Accept().Read(), w.Elapsed() < 10*time.Second)
	// Output:
	// connected to 198.51.100.2:25
	// hello true
}

func ExampleListenConfig() {
	w := sim.New(sim.Config{})
	c := core.ListenConfig{
		Backlog: 16,
		Limit:   core.Limit{Total: 1000, PerAddr: 50},
	}
	ln, err := c.Listen(w.Loop(core.Options{}), "tcp", "server:0", echoHandler{})
	fmt.Println(ln.Addr().(*net.TCPAddr).Port != 0, err)
	// Output: true <nil>
}

func ExampleLimit() {
	w := sim.New(sim.Config{})
	c := core.ListenConfig{Limit: core.Limit{PerAddr: 1, Refusal: "one at a time\n"}}
	c.Listen(w.Loop(core.Options{}), "tcp", "server:7", echoHandler{})
	w.DialFrom("tcp", "198.51.100.1:1000", "server:7")
	fmt.Print(w.DialFrom("tcp", "198.51.100.1:1001", "server:7").Read())
	other := w.DialFrom("tcp", "198.51.100.2:1000", "server:7")
	other.Say("hello")
	fmt.Println(other.Read())
	// Output:
	// one at a time
	// hello
}

func ExampleOptions() {
	loop, err := core.NewLoop(core.Options{
		Backend:     "auto", // or one of core.Backends
		Logger:      slog.New(slog.DiscardHandler),
		SlowHandler: time.Second,
	})
	if errors.Is(err, core.ErrUnsupported) {
		fmt.Println("only in memory on this platform: see core/sim")
		return
	}
	defer loop.Close()
	loop.AfterFunc(time.Millisecond, func() { fmt.Println("once") })
	fmt.Println(loop.Run(context.Background()))
}

func ExampleTimer() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	var ticks int
	var t *core.Timer
	t = loop.AfterFunc(time.Second, func() {
		if ticks++; ticks < 3 {
			t.Reset(time.Second)
		}
	})
	loop.Run(context.Background())
	fmt.Println(ticks, w.Elapsed())
	// Output: 3 3s
}

func ExampleStats() {
	w, d, peer := pair(echoHandler{})
	peer.Say("four")
	w.Settle()
	s := d.Loop().Stats()
	fmt.Println(s.BytesIn, s.BytesOut, s.Channels)
	// Output: 4 4 1
}

func ExampleInterest() {
	_, d, _ := pair(echoHandler{})
	d.WantWrite(true)
	i := d.Interest()
	fmt.Println(i, i&core.Write != 0)
	// Output: RW true
}

func ExampleEvent() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{Trace: func(e *core.Event) { // e is good until this returns
		if e.Kind == core.TraceRecv {
			fmt.Printf("%v %d %q\n", e.Kind, e.N, e.Data)
		}
	}})
	sock, peer := w.Pair()
	core.Attach(loop, sock, echoHandler{})
	peer.Say("hello")
	w.Settle()
	// Output: recv 5 "hello"
}

func ExampleTraceKind() {
	w := sim.New(sim.Config{})
	count := make(map[core.TraceKind]int)
	loop := w.Loop(core.Options{Trace: func(e *core.Event) { count[e.Kind]++ }})
	sock, peer := w.Pair()
	core.Attach(loop, sock, echoHandler{})
	for range 3 {
		peer.Say("hello")
		w.Settle()
	}
	fmt.Println(core.TraceSend, count[core.TraceSend])
	// Output: send 3
}

func ExampleEndpoint() {
	w := sim.New(sim.Config{})
	d, _ := core.ListenPacket(w.Loop(core.Options{}), "udp", "server:7", &core.Funcs{
		Read: func(d *core.Dispatcher) error { // a handler without HandlePacket receives by itself
			b := make([]byte, 1500)
			n, from, err := d.RecvFrom(b)
			if err == nil {
				fmt.Printf("%q from %v\n", b[:n], from.AddrPort)
			}
			return err
		},
	})
	w.ListenPacket("udp", "client:1000").Send("hello", "server:7")
	w.Settle()
	d.Close()
	// Output: "hello" from 192.0.2.2:1000
}

// rot13 is a layer: what is received and what is sent passes through it.
type rot13 struct{ core.Socket }

func rotate(p []byte) {
	for i, c := range p {
		if c |= ' '; c >= 'a' && c <= 'z' {
			p[i] += byte(13) - byte(26)*((c-'a')/13)
		}
	}
}

func (s rot13) Recv(p []byte) (int, error) {
	n, err := s.Socket.Recv(p)
	rotate(p[:n])
	return n, err
}

func (s rot13) Send(p []byte) (int, error) {
	q := append([]byte(nil), p...) // p is the caller's
	rotate(q)
	return s.Socket.Send(q)
}

func (s rot13) Interest(want core.Interest) core.Interest { return want }
func (s rot13) Ready(got core.Interest) core.Interest     { return got }
func (s rot13) Pending() bool                             { return false }
func (s rot13) Inner() core.Socket                        { return s.Socket }

func ExampleLayered() {
	w, d, peer := pair(reader{})
	if err := d.Upgrade(rot13{d.Socket()}); err != nil {
		fmt.Println(err)
	}
	peer.Say("Uryyb")
	w.Settle()
	d.Send([]byte("Hello"))
	fmt.Println(peer.Read())
	// Output:
	// read "Hello"
	// Uryyb
}

// said is a socket that has something to say and then ends.
type said struct {
	core.Socket // nil: what is not needed here
	text        string
}

func (s *said) Recv(p []byte) (int, error) {
	if s.text == "" {
		return 0, io.EOF
	}
	n := copy(p, s.text)
	s.text = s.text[n:]
	return n, nil
}

func (*said) Close() error         { return nil }
func (*said) LocalAddr() net.Addr  { return nil }
func (*said) RemoteAddr() net.Addr { return nil }
func (*said) FD() int              { return -1 }

// always is a poller that finds everything ready that wants to read, and a clock that jumps to the next timer.
type always struct {
	core.System // nil: what is not needed here
	now         time.Time
	waiting     map[uint64]core.Interest
}

func (a *always) Name() string { return "always" }

func (a *always) Add(_ core.Socket, id uint64, want core.Interest) error {
	a.waiting[id] = want
	return nil
}

func (a *always) Modify(s core.Socket, id uint64, want core.Interest) error {
	return a.Add(s, id, want)
}

func (a *always) Remove(_ core.Socket, id uint64) error {
	delete(a.waiting, id)
	return nil
}

func (a *always) Wait(timeout time.Duration, ready []core.Ready) ([]core.Ready, error) {
	for id, want := range a.waiting {
		if want&core.Read != 0 {
			ready = append(ready, core.Ready{ID: id, Got: core.Read})
		}
	}
	if len(ready) == 0 {
		a.now = a.now.Add(timeout)
	}
	return ready, nil
}

func (a *always) Wake() error  { return nil }
func (a *always) Close() error { return nil }

func (a *always) NewPoller(string) (core.Poller, error) { return a, nil }
func (a *always) Now() time.Time                        { return a.now }
func (a *always) Reserve() (io.Closer, error)           { return nil, core.ErrUnsupported }

func newAlways() *always { return &always{waiting: make(map[uint64]core.Interest)} }

func ExampleSocket() {
	loop, _ := core.NewLoop(core.Options{System: newAlways()})
	core.Attach(loop, &said{text: "hello"}, reader{})
	loop.Run(context.Background())
	// Output:
	// read "hello"
	// closed: EOF
}

func ExamplePoller() {
	a := newAlways()
	loop, _ := core.NewLoop(core.Options{System: a})
	core.Attach(loop, &said{text: "hello"}, reader{})
	loop.Step(0)
	fmt.Println(loop.Backend(), len(a.waiting))
	loop.Step(0)
	fmt.Println(loop.Backend(), len(a.waiting))
	// Output:
	// read "hello"
	// always 1
	// closed: EOF
	// always 0
}

func ExampleReady() {
	a := newAlways()
	a.Add(nil, 7, core.Read)
	ready, _ := a.Wait(0, nil)
	fmt.Println(ready[0].ID, ready[0].Got)
	// Output: 7 R
}

func ExampleSystem() {
	loop, _ := core.NewLoop(core.Options{System: newAlways()})
	begin := loop.Now()
	loop.AfterFunc(time.Hour, func() { fmt.Println("an hour later, at once") })
	loop.Run(context.Background())
	fmt.Println(loop.Now().Sub(begin))
	// Output:
	// an hour later, at once
	// 1h0m0s
}

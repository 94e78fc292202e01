package core_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// echoHandler is the smallest server on this layer: what the socket does not take is lost, which package buffered mends.
type echoHandler struct{}

func (echoHandler) HandleRead(d *core.Dispatcher) error {
	p, err := d.RecvShared()
	if err != nil {
		return err
	}
	_, err = d.Send(p)
	return err
}

func (echoHandler) HandleAccepted(l *core.Listener, s core.Socket) error {
	_, err := core.Attach(l.Loop(), s, echoHandler{})
	return err
}

func (echoHandler) HandleClose(d *core.Dispatcher, cause error) { fmt.Println("closed:", cause) }

func ExampleListen() {
	w := sim.New(sim.Config{}) // or core.NewLoop for real sockets
	loop := w.Loop(core.Options{})
	core.Listen(loop, "tcp", "server:7", echoHandler{})
	client := w.Dial("tcp", "server:7")
	client.Say("hello")
	fmt.Println(client.Read())
	client.Close()
	w.Settle()
	// Output:
	// hello
	// closed: EOF
}

func ExampleDial() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	core.Dial(loop, "tcp", "server:80", &core.Funcs{
		Read: func(d *core.Dispatcher) error { return nil },
		Close: func(_ *core.Dispatcher, cause error) {
			var op *net.OpError
			fmt.Println(errors.As(cause, &op), op.Op, op.Addr, errors.Is(cause, syscall.ECONNREFUSED))
		},
	})
	fmt.Println(loop.Run(context.Background()))
	// Output:
	// true dial 192.0.2.1:80 true
	// <nil>
}

func ExampleLoop_AfterFunc() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	loop.AfterFunc(time.Hour, func() { fmt.Println("an hour later") })
	timer := loop.AfterFunc(time.Minute, func() { fmt.Println("never") })
	timer.Stop()
	loop.Run(context.Background()) // until nothing is pending
	fmt.Println(w.Elapsed())
	// Output:
	// an hour later
	// 1h0m0s
}

func ExampleLoop_Post() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	loop.Post(func() { fmt.Println("on the loop's goroutine") }) // from any other
	loop.Run(context.Background())
	fmt.Println(loop.Post(func() {}))
	// Output:
	// on the loop's goroutine
	// false
}

func ExampleGo() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	sock, _ := w.Pair()
	d, _ := core.Attach(loop, sock, echoHandler{})
	core.Go(d, func(ctx context.Context) (int, error) {
		return 42, nil // on another goroutine: it may block
	}, func(n int, err error) error {
		fmt.Println(n, err) // on the loop's again
		return d.Close()
	})
	loop.Run(context.Background())
	// Output:
	// 42 <nil>
	// closed: <nil>
}

func ExampleListenPacket() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	core.ListenPacket(loop, "udp", "server:7", &core.Funcs{
		Packet: func(d *core.Dispatcher, p []byte, from netip.AddrPort) error { return d.SendTo(p, from) },
	})
	client := w.ListenPacket("udp", "client:1000")
	client.Send("hello", "server:7")
	fmt.Println(client.Next(time.Second))
	// Output: hello true
}

func ExampleListener_SetLimit() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	ln, _ := core.Listen(loop, "tcp", "server:7", echoHandler{})
	ln.SetLimit(core.Limit{Total: 1, Refusal: "come back later\n"})
	w.Dial("tcp", "server:7")
	fmt.Print(w.Dial("tcp", "server:7").Read())
	// Output: come back later
}

// A failing handler costs its own channel.
func ExamplePanicError() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	sock, client := w.Pair()
	core.Attach(loop, sock, &core.Funcs{
		Read: func(d *core.Dispatcher) error {
			d.RecvShared()
			panic("a bug")
		},
		Error: func(d *core.Dispatcher, err error) {
			var p *core.PanicError
			fmt.Println(errors.As(err, &p), err)
			d.CloseWith(err)
		},
	})
	client.Say("x")
	client.WantClosed()
	// Output: true parley: handler panicked: a bug
}

package core_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// hits counts what all connections say. It belongs to one loop; handlers on the others post to it.
type hits struct {
	home *core.Loop
	n    int // touched by home's goroutine alone
}

func (h *hits) HandleAccepted(ln *core.Listener, s core.Socket) error {
	_, err := core.Attach(ln.Loop(), s, h)
	return err
}

// HandleRead asks for a number. The answer is posted back to the connection's own loop, where it may be closed by then.
func (h *hits) HandleRead(d *core.Dispatcher) error {
	if _, err := d.RecvShared(); err != nil {
		return err
	}
	here := d.Loop()
	here.PostTo(h.home, func() {
		h.n++
		n := h.n
		h.home.PostTo(here, func() { fmt.Fprintf(sender{d}, "%d from loop %d", n, here.Index()) })
	})
	return nil
}

type sender struct{ d *core.Dispatcher }

func (s sender) Write(p []byte) (int, error) { return s.d.Send(p) }

func ExampleGroup() {
	w := sim.New(sim.Config{})
	group := w.Group(2, core.Options{}) // in a program: core.NewGroup(0, core.Options{})
	core.Listen(group, "tcp", "server:7000", &hits{home: group.Loop(0)})
	// in a program: group.Run(ctx)

	for range 3 {
		p := w.Dial("tcp", "server:7000")
		p.Say("?")
		fmt.Println(p.Read())
	}
	// Output:
	// 1 from loop 0
	// 2 from loop 1
	// 3 from loop 0
}

// serve is the same for a Loop and a Group.
func serve(r core.Runner, address string) error {
	if _, err := core.Listen(r, "tcp", address, &hits{home: r.Loops()[0]}); err != nil {
		return err
	}
	fmt.Println("loops:", len(r.Loops()))
	return r.Run(context.Background())
}

func ExampleRunner() {
	w := sim.New(sim.Config{})
	quiet := core.Options{Logger: slog.New(slog.DiscardHandler)}
	for _, r := range []core.Runner{w.Loop(quiet), w.Group(3, quiet)} {
		r.Loops()[0].AfterFunc(0, r.Stop)
		fmt.Println(serve(r, "server:0"))
	}
	// Output:
	// loops: 1
	// <nil>
	// loops: 3
	// <nil>
}

func ExampleShare() {
	w := sim.New(sim.Config{})
	group := w.Group(3, core.Options{})
	c := core.ListenConfig{Share: core.ShareRoundRobin}
	c.Listen(group, "unix", "/run/hits", &hits{home: group.Loop(0)})
	for range 4 {
		p := w.Dial("unix", "/run/hits")
		p.Say("?")
		fmt.Println(p.Read())
	}
	// Output:
	// 1 from loop 0
	// 2 from loop 1
	// 3 from loop 2
	// 4 from loop 0
}

package sim_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// shout answers each line.
func shout(c *chat.Conn) chat.Handler {
	return chat.Lines(func(c *chat.Conn, line []byte) error { return c.Printf("%s!\n", line) })
}

// One seed decides everything that is random: the same world twice has the same history.
func ExampleConfig() {
	history := func(seed uint64) string {
		w := sim.New(sim.Config{
			Seed:       seed,
			Latency:    10 * time.Millisecond, // one way
			Jitter:     5 * time.Millisecond,
			RandomCuts: true, // reads get less than there is
			Again:      0.1,  // readiness that comes to nothing
		})
		loop := w.Loop(core.Options{})
		chat.Listen(loop, "tcp", "server:7", shout)
		client := w.Dial("tcp", "server:7")
		client.Say("one\ntwo\nthree\n")
		client.Want("one!\ntwo!\nthree!\n") // however the bytes were cut
		return w.Ladder()
	}
	first := history(1)
	fmt.Println(first == history(1), first == history(2))
	// Output: true false
}

func ExamplePeer() {
	w := sim.New(sim.Config{})
	chat.Listen(w.Loop(core.Options{}), "tcp", "server:7", shout)
	client := w.Dial("tcp", "server:7")
	client.Say("hello\nhalf a li")
	client.Want("hello!\n") // waits for it; anything else fails the test
	client.WantNothing()
	client.Say("ne\n")
	client.Want("half a line!\n")
	client.CloseWrite() // the other direction stays open
	client.WantClosed()
	fmt.Println(client.Ended(), client.Err())
	// Output: true <nil>
}

func ExamplePeerListener() {
	w := sim.New(sim.Config{})
	ln := w.Listen("tcp", "server:25") // a server that the test plays
	chat.Dial(w.Loop(core.Options{}), "tcp", "server:25", func(c *chat.Conn) chat.Handler {
		return chat.Lines(func(c *chat.Conn, line []byte) error { return c.PushString("QUIT\r\n") })
	})
	server := ln.Accept()
	server.Say("220 ready\r\n")
	fmt.Printf("%q\n", server.WantLine())
	// Output: "QUIT\r\n"
}

func ExamplePacketPeer() {
	w := sim.New(sim.Config{Latency: time.Millisecond})
	core.ListenPacket(w.Loop(core.Options{}), "udp", "server:7", &core.Funcs{
		Packet: func(d *core.Dispatcher, p []byte, from netip.AddrPort) error { return d.SendTo(p, from) },
	})
	client := w.ListenPacket("udp", "client:1000")
	client.Send("hello", "server:7")
	fmt.Println(client.Next(time.Second))
	fmt.Println(client.Next(time.Second))
	fmt.Println(w.Elapsed())
	// Output:
	// hello true
	//  false
	// 2ms
}

func ExampleTap() {
	w := sim.New(sim.Config{})
	sock, client := w.Pair()
	tap := &sim.Tap{
		Socket: sock,
		In:     func(p []byte) { fmt.Printf("--> %q\n", p) },
		Out:    func(p []byte) { fmt.Printf("<-- %q\n", p) },
	}
	chat.Attach(w.Loop(core.Options{}), tap, shout)
	client.Say("hello\n")
	client.Want("hello!\n")
	// Output:
	// --> "hello\n"
	// <-- "hello!\n"
}

func ExampleThrottle() {
	w := sim.New(sim.Config{})
	sock, client := w.Pair()
	chat.Attach(w.Loop(core.Options{}), &sim.Throttle{Socket: sock, Rate: 1000}, func(c *chat.Conn) chat.Handler {
		c.Push(make([]byte, 10_000))
		return shout(c)
	})
	w.Advance(5 * time.Second)
	fmt.Println(len(client.Read()))
	w.Advance(5 * time.Second)
	fmt.Println(len(client.Read()))
	// Output:
	// 5010
	// 4990
}

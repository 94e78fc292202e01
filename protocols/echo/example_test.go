package echo_test

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/echo"
)

// A server on a simulated network. The ladder shows what went over the wire and what reached the handler: the line that was
// cut in two is echoed when it is whole.
func ExampleLines() {
	w := sim.New(sim.Config{Latency: 5 * time.Millisecond})
	loop := w.Loop(core.Options{})
	if _, err := chat.Listen(loop, "tcp", "server:7", echo.Lines(1000)); err != nil {
		fmt.Println(err)
		return
	}
	client := w.Dial("tcp", "server:7")
	client.Say("hello\nwor")
	w.Settle()
	client.Say("ld\n")
	client.Want("hello\nworld\n")
	fmt.Print(w.Ladder())
	// Output:
	//       0s p0   ch1   == open  ==
	//      5ms p1   ch2   == open  ==
	//     15ms p2   ch2   --> 9    "hello\nwor"
	//     15ms p2   ch2       CollectIncomingData("hello")
	//     15ms p2   ch2       FoundTerminator "\n"
	//     15ms p2   ch2       CollectIncomingData("wor")
	//     15ms p2   ch2   <-- 6    "hello\n"
	//     25ms p3   ch2   --> 3    "ld\n"
	//     25ms p3   ch2       CollectIncomingData("ld")
	//     25ms p3   ch2       FoundTerminator "\n"
	//     25ms p3   ch2   <-- 6    "world\n"
}

// The same conversation without lines: what came is sent back at once. The peer ends its stream and still gets its echo.
func ExampleStream() {
	w := sim.New(sim.Config{Latency: 5 * time.Millisecond})
	loop := w.Loop(core.Options{})
	if _, err := chat.Listen(loop, "tcp", "server:7", echo.Stream); err != nil {
		fmt.Println(err)
		return
	}
	client := w.Dial("tcp", "server:7")
	client.Say("hello\nwor")
	w.Settle()
	client.Say("ld\n")
	client.CloseWrite()
	client.Want("hello\nworld\n")
	client.WantClosed()
	fmt.Print(w.Ladder())
	// Output:
	//       0s p0   ch1   == open  ==
	//      5ms p1   ch2   == open  ==
	//     15ms p2   ch2   --> 9    "hello\nwor"
	//     15ms p2   ch2       CollectIncomingData("hello\nwor")
	//     15ms p2   ch2   <-- 9    "hello\nwor"
	//     25ms p3   ch2   --> 3    "ld\n"
	//     25ms p3   ch2       CollectIncomingData("ld\n")
	//     25ms p3   ch2   <-- 3    "ld\n"
	//     25ms p4   ch2   == close == EOF
}

func ExamplePackets() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	if _, err := core.ListenPacket(loop, "udp", "server:7", new(echo.Packets)); err != nil {
		fmt.Println(err)
		return
	}
	client := w.ListenPacket("udp", "client:0")
	client.Send("hello", "server:7")
	fmt.Println(client.Next(time.Second))
	// Output: hello true
}

// A forger gives a chargen port for his own, and the two services would talk for ever; there is no answer.
func ExampleGuard() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	service := &echo.Packets{Guard: echo.Guard{Rate: 100}} // a second
	if _, err := core.ListenPacket(loop, "udp", "server:7", service); err != nil {
		fmt.Println(err)
		return
	}
	for _, address := range []string{"client:19", "client:1023", "client:1024"} {
		client := w.ListenPacket("udp", address)
		client.Send("hello", "server:7")
		answer, ok := client.Next(time.Second)
		fmt.Printf("%s %q %v\n", client.Addr(), answer, ok)
	}
	// Output:
	// 192.0.2.2:19 "" false
	// 192.0.2.2:1023 "" false
	// 192.0.2.2:1024 "hello" true
}

func ExampleDiscard() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	if _, err := chat.Listen(loop, "tcp", "server:9", echo.Discard); err != nil {
		fmt.Println(err)
		return
	}
	client := w.Dial("tcp", "server:9")
	client.Say("is anybody there?\r\n")
	fmt.Printf("%q\n", client.Read())
	fmt.Println(loop.Stats().BytesIn, "bytes are gone")
	// Output:
	// ""
	// 19 bytes are gone
}

func ExampleDiscardPackets() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	if _, err := core.ListenPacket(loop, "udp", "server:9", echo.DiscardPackets{}); err != nil {
		fmt.Println(err)
		return
	}
	client := w.ListenPacket("udp", "client:0")
	client.Send("is anybody there?", "server:9")
	_, answered := client.Next(time.Second)
	fmt.Println(answered, loop.Stats().BytesIn)
	// Output: false 17
}

// The stream has no end, but it is made as the client reads it: this one takes three lines, and then nothing for a while.
func ExampleChargen() {
	w := sim.New(sim.Config{Window: 1 << 10})
	loop := w.Loop(core.Options{})
	if _, err := chat.Listen(loop, "tcp", "server:19", echo.Chargen(-1)); err != nil {
		fmt.Println(err)
		return
	}
	client := w.Dial("tcp", "server:19")
	client.Stall(true)
	client.Take(3 * 74)
	for range 3 {
		fmt.Printf("%q\n", client.WantLine())
	}
	w.Advance(time.Minute)
	fmt.Println(loop.Stats().BytesOut, "bytes sent")
	// Output:
	// " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n"
	// "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefgh\r\n"
	// "\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghi\r\n"
	// 1246 bytes sent
}

// No answer is longer than its question.
func ExampleChargenPackets() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	if _, err := core.ListenPacket(loop, "udp", "server:19", new(echo.ChargenPackets)); err != nil {
		fmt.Println(err)
		return
	}
	client := w.ListenPacket("udp", "client:0")
	for _, question := range []string{"abc", "some characters, please"} {
		client.Send(question, "server:19")
		answer, _ := client.Next(time.Second)
		fmt.Printf("%q\n", answer)
	}
	// Output:
	// " !\""
	// " !\"#$%&'()*+,-./0123456"
}

// The clock is the loop's, and so a test can set it.
func ExampleDaytime() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	if _, err := chat.Listen(loop, "tcp", "server:13", echo.Daytime); err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		client := w.Dial("tcp", "server:13")
		fmt.Printf("%q\n", client.WantLine())
		client.WantClosed()
		w.Advance(26 * time.Hour)
	}
	// Output:
	// "Saturday, January 1, 2000 00:00:00-UTC\r\n"
	// "Sunday, January 2, 2000 02:00:00-UTC\r\n"
}

func ExampleDaytimePackets() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	if _, err := core.ListenPacket(loop, "udp", "server:13", new(echo.DaytimePackets)); err != nil {
		fmt.Println(err)
		return
	}
	client := w.ListenPacket("udp", "client:0")
	client.Send("", "server:13")
	answer, _ := client.Next(time.Second)
	fmt.Printf("%q\n", answer)
	// Output: "Saturday, January 1, 2000 00:00:00-UTC\r\n"
}

// All of them on one loop, as a machine of 1983 would have offered them.
func Example() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	for port, newHandler := range map[string]func(*chat.Conn) chat.Handler{
		"7": echo.Stream, "9": echo.Discard, "13": echo.Daytime, "19": echo.Chargen(0),
	} {
		if _, err := chat.Listen(loop, "tcp", "server:"+port, newHandler); err != nil {
			fmt.Println(err)
			return
		}
	}
	loop.AfterFunc(time.Hour, func() { loop.Shutdown(time.Minute) })
	fmt.Println(loop.Run(context.Background()), w.Elapsed())
	// Output: <nil> 1h0m0s
}

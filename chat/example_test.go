package chat_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// talkTo runs a conversation on the simulated network, says a text to it and prints what it answers.
func talkTo(newHandler func(*chat.Conn) chat.Handler, text string) {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	defer loop.Close()
	sock, client := w.Pair()
	if _, err := chat.Attach(loop, sock, newHandler); err != nil {
		fmt.Println(err)
		return
	}
	client.Say(text)
	w.Advance(time.Minute)
	fmt.Print(client.Read())
}

// counterSession reads a header up to an empty line, then a body of as many bytes as that says: the example of asynchat's
// documentation.
type counterSession struct {
	chat.Buffer
	header string
}

func (s *counterSession) FoundTerminator(c *chat.Conn) error {
	if s.header == "" {
		s.header = string(s.Take())
		var n int64
		fmt.Sscanf(s.header, "Content-Length: %d", &n)
		c.SetTerminator(chat.Count(n))
		return nil
	}
	c.SetTerminator(chat.Literal("\r\n\r\n"))
	defer func() { s.header = "" }()
	return c.Printf("%q has the body %q\n", s.header, s.Take())
}

func ExampleConn_SetTerminator() {
	talkTo(func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.Literal("\r\n\r\n"))
		return &counterSession{}
	}, "Content-Length: 5\r\n\r\nhelloContent-Length: 2\r\n\r\nhi")
	// Output:
	// "Content-Length: 5" has the body "hello"
	// "Content-Length: 2" has the body "hi"
}

func ExampleLines() {
	talkTo(func(*chat.Conn) chat.Handler {
		return chat.Lines(func(c *chat.Conn, line []byte) error {
			return c.Printf("%s!\n", line)
		})
	}, "hello\r\nthere\n")
	// Output:
	// hello!
	// there!
}

func ExampleData() {
	talkTo(func(*chat.Conn) chat.Handler {
		return chat.Data(func(c *chat.Conn, p []byte) error { return c.Push(p) })
	}, "whatever comes\n")
	// Output: whatever comes
}

func ExampleTalk() {
	talkTo(func(*chat.Conn) chat.Handler {
		return chat.Talk(func(t *chat.Talker) error {
			t.Printf("Your name? ")
			name, err := t.ReadLine()
			if err != nil {
				return err
			}
			t.Sleep(time.Second) // the loop serves others meanwhile
			return t.Printf("Hello, %s.\n", name)
		})
	}, "Ada\n")
	// Output: Your name? Hello, Ada.
}

func ExampleAwait() {
	talkTo(func(*chat.Conn) chat.Handler {
		return chat.Talk(func(t *chat.Talker) error {
			name, err := t.ReadLine()
			if err != nil {
				return err
			}
			// What blocks runs on another goroutine, and the conversation waits for it.
			found, err := chat.Await(t, func(ctx context.Context) (string, error) { return strings.ToUpper(name), ctx.Err() })
			if err != nil {
				return err
			}
			return t.Printf("%s\n", found)
		})
	}, "ada\n")
	// Output: ADA
}

func ExampleTerminator() {
	for _, t := range []chat.Terminator{chat.CRLF, chat.Line, chat.Count(3), chat.Dot, chat.Literal(";"), chat.Split(bufio.ScanWords)} {
		w := sim.New(sim.Config{})
		loop := w.Loop(core.Options{})
		sock, client := w.Pair()
		s := &session{}
		chat.Attach(loop, sock, func(c *chat.Conn) chat.Handler {
			c.SetTerminator(t)
			return s
		})
		client.Say("a b;c\n..d\r\n.\r\n")
		w.Settle()
		fmt.Printf("%-9v %q\n", t, s.log)
		loop.Close()
	}
	// Output:
	// "\r\n"    ["a b;c\n..d" "."]
	// Line      ["a b;c" "..d" "."]
	// Count(3)  ["a b"]
	// Dot       ["a b;c\n..d\r\n"]
	// ";"       ["a b"]
	// Split     ["a" "b;c" "..d" "."]
}

func ExampleConn_PushProducer() {
	talkTo(func(c *chat.Conn) chat.Handler {
		c.PushString("begin ")
		c.PushProducer(buffered.Reader(strings.NewReader("piece by piece, as the peer takes it")))
		c.PushString(" end\n")
		return chat.Data(func(*chat.Conn, []byte) error { return nil })
	}, "")
	// Output: begin piece by piece, as the peer takes it end
}

// greedySession drops lines that are too long, says so, and goes on.
type greedySession struct {
	chat.Buffer
	tooLong bool
}

func (s *greedySession) HandleTooLong(c *chat.Conn) error {
	s.Take()
	s.tooLong = true
	c.SkipToken()
	return nil
}

func (s *greedySession) FoundTerminator(c *chat.Conn) error {
	if s.tooLong {
		s.tooLong = false
		return c.PushString("500 line too long\n")
	}
	return c.Printf("250 %s\n", s.Take())
}

func ExampleConn_SkipToken() {
	talkTo(func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.Line)
		c.SetLimit(10)
		return &greedySession{}
	}, "short\nfar too long a line\nshort again\nok\n")
	// Output:
	// 250 short
	// 500 line too long
	// 500 line too long
	// 250 ok
}

func ExampleConn_CloseWhenDone() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	sock, client := w.Pair()
	chat.Attach(loop, sock, func(c *chat.Conn) chat.Handler {
		return chat.Lines(func(c *chat.Conn, line []byte) error {
			c.PushString("bye\n")
			c.CloseWhenDone()
			return nil
		})
	})
	client.Say("quit\nignored\n")
	fmt.Print(client.Read())
	fmt.Println(client.Ended(), client.Err())
	w.Trace().Ladder(os.Stdout)
	// Output:
	// bye
	// true <nil>
	//       0s p0   ch1   == open  ==
	//       0s p1   ch1   --> 13   "quit\nignored\n"
	//       0s p1   ch1       CollectIncomingData("quit")
	//       0s p1   ch1       FoundTerminator Line
	//       0s p1   ch1   <-- 4    "bye\n"
}

func ExampleDial() {
	w := sim.New(sim.Config{Latency: 10 * time.Millisecond})
	loop := w.Loop(core.Options{})
	defer loop.Close()
	chat.Listen(loop, "tcp", "server:7", func(*chat.Conn) chat.Handler {
		return chat.Lines(func(c *chat.Conn, line []byte) error { return c.Printf("%s, too\n", line) })
	})
	chat.Dial(loop, "tcp", "server:7", func(*chat.Conn) chat.Handler {
		return chat.Talk(func(t *chat.Talker) error {
			t.Printf("hello\n")
			answer, err := t.ReadLine()
			fmt.Println(answer)
			return err
		})
	})
	w.Settle()
	// Output: hello, too
}

// greeter collects a name by itself.
type greeter struct{ name []byte }

func (g *greeter) CollectIncomingData(_ *chat.Conn, data []byte) error {
	g.name = append(g.name, data...) // data is borrowed
	return nil
}

func (g *greeter) FoundTerminator(c *chat.Conn) error {
	defer func() { g.name = g.name[:0] }()
	return c.Printf("Hello, %s!\n", g.name)
}

func ExampleHandler() {
	talkTo(func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.Literal(";"))
		return &greeter{}
	}, "Alice;Bob;")
	// Output:
	// Hello, Alice!
	// Hello, Bob!
}

// pairs reads keys and values: what is collected is taken when it is complete.
type pairs struct {
	chat.Buffer
	key string
}

func (p *pairs) FoundTerminator(c *chat.Conn) error {
	if c.Terminator() == chat.Literal("=") {
		p.key = string(p.Take()) // the bytes are good until more is collected
		c.SetTerminator(chat.Line)
		return nil
	}
	c.SetTerminator(chat.Literal("="))
	return c.Printf("%s is %q\n", p.key, p.Take())
}

func ExampleBuffer() {
	talkTo(func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.Literal("="))
		return &pairs{}
	}, "color=red\nsize=5 = five\n")
	// Output:
	// color is "red"
	// size is "5 = five"
}

// either is one port for two protocols: the first octet tells which one a client speaks.
type either struct{ chat.Handler }

func (e either) HandleFirst(c *chat.Conn, first byte) error {
	if first == '{' {
		c.SetTerminator(chat.Literal("}"))
		return c.SetHandler(chat.Lines(func(c *chat.Conn, p []byte) error { return c.Printf("object %q\n", p[1:]) }))
	}
	return c.SetHandler(e.Handler)
}

func ExampleFirstHandler() {
	newHandler := func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.Line)
		return either{chat.Lines(func(c *chat.Conn, line []byte) error { return c.Printf("line %q\n", line) })}
	}
	talkTo(newHandler, "{a}")
	talkTo(newHandler, "a\n")
	// Output:
	// object "a"
	// line "a"
}

func ExampleTalker() {
	talkTo(func(c *chat.Conn) chat.Handler {
		return chat.Talk(func(t *chat.Talker) error {
			t.Printf("how many bytes? ")
			line, err := t.ReadLine() // other conversations go on meanwhile
			if err != nil {
				return err
			}
			n := len(line)
			body, err := t.ReadN(n)
			if err != nil {
				return err
			}
			if err := t.Sleep(time.Second); err != nil {
				return err
			}
			return t.Printf("%q\n", body) // the connection closes when the body returns
		})
	}, "xxx\nabcdef")
	// Output: how many bytes? "abc"
}

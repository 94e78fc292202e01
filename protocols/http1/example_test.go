package http1_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// exchange has a server answer to what a client says, and prints it.
func exchange(srv *http1.Server, says string) {
	w := sim.New(sim.Config{T: exampleT{}})
	loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	defer loop.Close()
	sock, p := w.Pair()
	if _, err := srv.Serve(loop, sock); err != nil {
		fmt.Println(err)
		return
	}
	p.Say(strings.ReplaceAll(says, "\n", "\r\n"))
	w.Settle()
	fmt.Println(strings.ReplaceAll(p.Read(), "\r\n", "\n"))
}

type exampleT struct{}

func (exampleT) Helper()                        {}
func (exampleT) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

func ExampleServer() {
	srv := &http1.Server{Handler: http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		w.Set("Content-Type", "text/plain; charset=utf-8")
		_, err := fmt.Fprintf(w, "Hello, %s!\n", r.Field("User-Agent"))
		return err
	})}
	// On the network: srv.Listen(loop, "tcp", ":8080").
	exchange(srv, "GET / HTTP/1.1\nHost: www.example.com\nUser-Agent: World\n\n")
	// Output:
	// HTTP/1.1 200 OK
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Type: text/plain; charset=utf-8
	// Content-Length: 14
	//
	// Hello, World!
}

// greeter is a Handler with state.
type greeter struct{ greeted int }

func (g *greeter) ServeHTTP(w *http1.ResponseWriter, r *http1.Request) error {
	if m := r.Method(); m != http.MethodGet && m != http.MethodHead {
		w.Set("Allow", "GET, HEAD")
		w.SetStatus(http.StatusMethodNotAllowed)
		return nil
	}
	switch string(r.Path()) { // does not allocate
	case "/hello":
		g.greeted++
		_, err := fmt.Fprintf(w, "Hello, number %d!\n", g.greeted)
		return err
	}
	return &http1.Error{Status: http.StatusNotFound}
}

func ExampleHandler() {
	exchange(&http1.Server{Handler: new(greeter)}, "GET /hello HTTP/1.1\nHost: a\n\nDELETE /hello HTTP/1.1\nHost: a\n\n")
	// Output:
	// HTTP/1.1 200 OK
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Length: 17
	//
	// Hello, number 1!
	// HTTP/1.1 405 Method Not Allowed
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Allow: GET, HEAD
	// Content-Length: 0
}

// The body of a request comes after its head: here it is counted piece by piece, however large it is.
func ExampleHandlerFunc() {
	count := http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		octets := 0
		r.SetBodyLimit(1 << 40)
		return r.OnBody(func(p []byte, last bool) error {
			octets += len(p)
			if !last {
				return nil
			}
			_, err := fmt.Fprintln(w, octets, "octets")
			return err
		})
	})
	exchange(&http1.Server{Handler: count}, "POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\nhello\n2\n!!\n0\n\n")
	// Output:
	// HTTP/1.1 200 OK
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Length: 9
	//
	// 7 octets
}

func ExampleRequest() {
	echo := http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		u, err := r.URL()
		if err != nil {
			return err
		}
		name := u.Query().Get("name")
		return r.ReadAll(1<<20, func(body []byte) error {
			_, err := fmt.Fprintf(w, "%s %s for %s: %s=%s", r.Method(), r.Path(), r.Host(), name, body)
			return err
		})
	})
	exchange(&http1.Server{Handler: echo}, "PUT /values?name=caf%C3%A9 HTTP/1.1\nHost: www.example.com\nContent-Length: 4\n\nopen")
	// Output:
	// HTTP/1.1 200 OK
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Length: 43
	//
	// PUT /values for www.example.com: café=open
}

// A response that waits for something, and is made of an unknown amount: it goes out in chunks.
func ExampleResponseWriter() {
	ticker := http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		w.Defer()
		var tick func()
		n := 0
		tick = func() {
			n++
			_, _ = fmt.Fprintln(w, "tick", n)
			_ = w.Flush()
			if n == 2 {
				w.Finish(nil)
				return
			}
			r.Conn().AfterFunc(0, tick)
		}
		tick()
		return nil
	})
	exchange(&http1.Server{Handler: ticker}, "GET / HTTP/1.1\nHost: a\n\n")
	// Output:
	// HTTP/1.1 200 OK
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Transfer-Encoding: chunked
	//
	// 7
	// tick 1
	//
	// 7
	// tick 2
	//
	// 0
}

func ExampleResponseWriter_SendProducer() {
	copied := http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		w.SetLength(11)
		return w.SendProducer(buffered.Reader(io.LimitReader(strings.NewReader("Hello, World, and all"), 11)))
	})
	exchange(&http1.Server{Handler: copied}, "GET / HTTP/1.1\nHost: a\n\n")
	// Output:
	// HTTP/1.1 200 OK
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Length: 11
	//
	// Hello, Worl
}

// A protocol of its own, on a connection that began with HTTP.
func ExampleResponseWriter_Upgrade() {
	shout := http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		return w.Upgrade("shout", func(c *chat.Conn) chat.Handler {
			c.SetTerminator(chat.Line)
			return chat.Lines(func(c *chat.Conn, line []byte) error { return c.Printf("%s!\n", strings.ToUpper(string(line))) })
		})
	})
	exchange(&http1.Server{Handler: shout}, "GET / HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: shout\n\nhello\n")
	// Output:
	// HTTP/1.1 101 Switching Protocols
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Upgrade: shout
	// Connection: Upgrade
	//
	// HELLO!
}

func ExampleFields() {
	list := http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		for name, value := range r.Fields().All() {
			fmt.Fprintf(w, "%s is %q\n", name, value)
		}
		_, err := fmt.Fprintln(w, r.Fields().HasToken("accept-encoding", "gzip"), r.Header()["Accept-Encoding"])
		return err
	})
	exchange(&http1.Server{Handler: list}, "GET / HTTP/1.1\nHOST:a\nAccept-Encoding: br, gzip\n\n")
	// Output:
	// HTTP/1.1 200 OK
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Length: 58
	//
	// HOST is "a"
	// Accept-Encoding is "br, gzip"
	// true [br, gzip]
}

// An Error is what a handler may return.
func ExampleError() {
	closed := http1.HandlerFunc(func(*http1.ResponseWriter, *http1.Request) error {
		return &http1.Error{Status: http.StatusServiceUnavailable, Text: "We open at nine."}
	})
	exchange(&http1.Server{Handler: closed}, "GET / HTTP/1.1\nHost: a\n\n")
	// Output:
	// HTTP/1.1 503 Service Unavailable
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Type: text/plain; charset=utf-8
	// X-Content-Type-Options: nosniff
	// Content-Length: 17
	//
	// We open at nine.
}

// Limits keep what a client can ask for small.
func ExampleLimits() {
	srv := &http1.Server{
		Handler: new(greeter),
		Limits:  http1.Limits{RequestLine: 100, Body: 1000, IdleTimeout: 5 * time.Second, Requests: 100, ConnsPerAddr: 10},
	}
	exchange(srv, "GET /"+strings.Repeat("a", 100)+" HTTP/1.1\nHost: a\n\n")
	// Output:
	// HTTP/1.1 414 Request URI Too Long
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Type: text/plain; charset=utf-8
	// X-Content-Type-Options: nosniff
	// Content-Length: 22
	// Connection: close
	//
	// request line too long
}

// An Entry is what a log of requests is made of.
func ExampleEntry() {
	srv := &http1.Server{Handler: new(greeter), Log: func(e *http1.Entry) {
		fmt.Fprintf(os.Stdout, "%s %s %d %d\n", e.Request.Method(), e.Request.Target(), e.Status, e.Octets)
	}}
	exchange(srv, "GET /hello HTTP/1.0\n\n")
	// Output:
	// GET /hello 200 17
	// HTTP/1.1 200 OK
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Length: 17
	// Connection: close
	//
	// Hello, number 1!
}

func ExampleCounters() {
	srv := &http1.Server{Handler: new(greeter)}
	exchange(srv, "GET /hello HTTP/1.1\nHost: a\n\nGET /hello HTTP/1.1\n\n")
	c := srv.Counters()
	fmt.Println(c.Conns, "connection,", c.Responses[2], "answered,", c.Refused, "refused")
	// Output:
	// HTTP/1.1 200 OK
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Length: 17
	//
	// Hello, number 1!
	// HTTP/1.1 400 Bad Request
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Type: text/plain; charset=utf-8
	// X-Content-Type-Options: nosniff
	// Content-Length: 8
	// Connection: close
	//
	// no Host
	//
	// 1 connection, 1 answered, 1 refused
}

// Server-sent events: what a page's EventSource reads.
func ExampleEventStream() {
	news := http1.HandlerFunc(func(w *http1.ResponseWriter, _ *http1.Request) error {
		events, err := w.EventStream(30 * time.Second)
		if err != nil {
			return err
		}
		_ = events.Send(http1.Event{Name: "greeting", Data: "Hello,\nWorld!"})
		events.Close() // or keep it, and send more from wherever something happens
		return nil
	})
	exchange(&http1.Server{Handler: news}, "GET /events HTTP/1.0\nAccept: text/event-stream\n\n")
	// Output:
	// HTTP/1.1 200 OK
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Type: text/event-stream
	// Cache-Control: no-store
	// Connection: close
	//
	// event: greeting
	// data: Hello,
	// data: World!
}

// An Event with a number lets a client that comes back say where it was: in its Last-Event-ID field.
func ExampleEvent() {
	counter := http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		from, _ := strconv.Atoi(string(r.Field("Last-Event-ID")))
		events, err := w.EventStream(0)
		if err != nil {
			return err
		}
		_ = events.Send(http1.Event{ID: strconv.Itoa(from + 1), Data: "the next"})
		events.Close()
		return nil
	})
	exchange(&http1.Server{Handler: counter}, "GET /events HTTP/1.0\nLast-Event-ID: 41\n\n")
	// Output:
	// HTTP/1.1 200 OK
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Type: text/event-stream
	// Cache-Control: no-store
	// Connection: close
	//
	// id: 42
	// data: the next
}

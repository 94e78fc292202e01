package http1_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// exampleSite is a loop in a world of its own, with a server at http://server/.
func exampleSite() (*sim.World, *core.Loop) {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	srv := &http1.Server{Handler: http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		switch path := string(r.Path()); path {
		case "/old":
			w.SetStatus(http.StatusMovedPermanently)
			w.Set("Location", "/new")
			return nil
		case "/hints":
			if err := w.Inform(http.StatusEarlyHints, http.Header{"Link": {"</style.css>"}}); err != nil {
				return err
			}
		case "/upload":
			return r.ReadAll(0, func(body []byte) error {
				_, err := fmt.Fprintf(w, "%s: %d octets", r.Method(), len(body))
				return err
			})
		}
		_, err := fmt.Fprintf(w, "this is %s", r.Path())
		return err
	})}
	if _, err := srv.Listen(loop, "tcp", "server:80"); err != nil {
		panic(err)
	}
	return w, loop
}

func exampleURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

func ExampleClient() {
	w, loop := exampleSite()
	c := &http1.Client{Loop: loop}
	_, err := c.Get("http://server/page", func(r *http1.Response, body []byte, err error) {
		fmt.Println(r.Status(), string(body), err)
	})
	if err != nil {
		fmt.Println(err)
	}
	w.Settle()
	// Output: 200 this is /page <nil>
}

func ExampleOutgoing() {
	w, loop := exampleSite()
	c := &http1.Client{Loop: loop}
	_, err := c.Do(&http1.Outgoing{
		Method: http.MethodPut,
		URL:    exampleURL("http://server/upload"),
		Header: http.Header{"Content-Type": {"text/plain"}},
		Body:   strings.NewReader("some text"),
	}, http1.Collect(0, func(r *http1.Response, body []byte, err error) { fmt.Println(string(body), err) }))
	if err != nil {
		fmt.Println(err)
	}
	_, err = c.Do(&http1.Outgoing{URL: exampleURL("http://server/"), Header: http.Header{"X": {"a\r\nHost: b"}}}, nil)
	fmt.Println(errors.Is(err, http1.ErrHeader))
	w.Settle()
	// Output:
	// true
	// PUT: 9 octets <nil>
}

// saver writes a body to a file as it comes, and knows in the end whether that is all of it.
type saver struct{ out io.Writer }

func (s *saver) HandleResponse(c *http1.Call, r *http1.Response) error {
	if r.Status() != http.StatusOK {
		return fmt.Errorf("%s: %d", c.URL(), r.Status())
	}
	return nil
}

func (s *saver) HandleBody(_ *http1.Call, p []byte) error {
	_, err := s.out.Write(p)
	return err
}

func (s *saver) HandleDone(c *http1.Call, err error) {
	fmt.Println()
	fmt.Println(c.Received(), "octets, whole:", err == nil)
}

func ExampleResponseHandler() {
	w, loop := exampleSite()
	c := &http1.Client{Loop: loop}
	if _, err := c.Do(&http1.Outgoing{URL: exampleURL("http://server/large")}, &saver{os.Stdout}); err != nil {
		fmt.Println(err)
	}
	w.Settle()
	// Output:
	// this is /large
	// 14 octets, whole: true
}

func ExampleResponseFuncs() {
	w, loop := exampleSite()
	c := &http1.Client{Loop: loop}
	_, err := c.Do(&http1.Outgoing{Method: http.MethodHead, URL: exampleURL("http://server/")}, &http1.ResponseFuncs{
		Response: func(_ *http1.Call, r *http1.Response) error {
			fmt.Println(r.Status(), r.ContentLength())
			return nil
		},
		Done: func(_ *http1.Call, err error) { fmt.Println("done:", err) },
	})
	if err != nil {
		fmt.Println(err)
	}
	w.Settle()
	// Output:
	// 200 9
	// done: <nil>
}

func ExampleCall() {
	w, loop := exampleSite()
	c := &http1.Client{Loop: loop}
	var call *http1.Call
	call, err := c.Get("http://server/", func(_ *http1.Response, _ []byte, err error) {
		fmt.Println(errors.Is(err, context.Canceled), call.Over())
	})
	if err != nil {
		fmt.Println(err)
	}
	call.Cancel() // nobody wants it any more
	w.Settle()
	// Output: true true
}

func ExampleResponse() {
	w, loop := exampleSite()
	c := &http1.Client{Loop: loop}
	_, err := c.Get("http://server/", func(r *http1.Response, _ []byte, _ error) {
		fmt.Println(r.URL(), r.Status(), string(r.Reason()), r.Minor(), r.TLS() != nil)
		fmt.Printf("%s\n", r.Field("content-length"))
		fmt.Println(r.Header().Get("Date"))
	})
	if err != nil {
		fmt.Println(err)
	}
	w.Settle()
	// Output:
	// http://server/ 200 OK 1 false
	// 9
	// Sat, 01 Jan 2000 00:00:00 GMT
}

// guide says where redirections lead.
type guide struct{ http1.ResponseFuncs }

func (g *guide) HandleRedirect(c *http1.Call, r *http1.Response, to *url.URL) error {
	fmt.Println(r.Status(), c.URL(), "->", to)
	return nil
}

func (g *guide) HandleInterim(_ *http1.Call, r *http1.Response) error {
	fmt.Printf("%d %s\n", r.Status(), r.Field("Link"))
	return nil
}

func ExampleRedirectHandler() {
	w, loop := exampleSite()
	c := &http1.Client{Loop: loop, Redirects: 10}
	h := &guide{http1.ResponseFuncs{Body: func(_ *http1.Call, p []byte) error {
		fmt.Println(string(p))
		return nil
	}}}
	if _, err := c.Do(&http1.Outgoing{URL: exampleURL("http://server/old")}, h); err != nil {
		fmt.Println(err)
	}
	w.Settle()
	// Output:
	// 301 http://server/old -> http://server/new
	// this is /new
}

func ExampleInterimHandler() {
	w, loop := exampleSite()
	c := &http1.Client{Loop: loop}
	if _, err := c.Do(&http1.Outgoing{URL: exampleURL("http://server/hints")}, &guide{}); err != nil {
		fmt.Println(err)
	}
	w.Settle()
	// Output: 103 </style.css>
}

func ExampleClientStats() {
	w, loop := exampleSite()
	c := &http1.Client{Loop: loop}
	for range 20 {
		if _, err := c.Get("http://server/", func(*http1.Response, []byte, error) {}); err != nil {
			fmt.Println(err)
		}
	}
	w.Settle()
	s := c.Stats()
	fmt.Printf("%d calls, %d whole, %d connections, %d of them idle\n", s.Calls, s.Whole, s.Dialled, s.Idle)
	c.Shutdown(func() { fmt.Println("over") })
	w.Settle()
	// Output:
	// 20 calls, 20 whole, 8 connections, 4 of them idle
	// over
}

func ExampleClientTimeouts() {
	w := sim.New(sim.Config{})
	ln := w.Listen("tcp", "server:80")
	c := &http1.Client{Loop: w.Loop(core.Options{}), Timeouts: http1.ClientTimeouts{Head: 5 * time.Second}}
	_, err := c.Get("http://server/", func(_ *http1.Response, _ []byte, err error) {
		fmt.Println(err, errors.Is(err, core.ErrTimeout), w.Elapsed())
	})
	if err != nil {
		fmt.Println(err)
	}
	ln.Accept() // and says nothing
	w.Advance(time.Minute)
	// Output: http1: the response: parley: timeout true 5s
}

func ExampleClientLimits() {
	w, loop := exampleSite()
	c := &http1.Client{Loop: loop, Limits: http1.ClientLimits{Body: 10}}
	_, err := c.Get("http://server/a-longer-path", func(_ *http1.Response, _ []byte, err error) { fmt.Println(err) })
	if err != nil {
		fmt.Println(err)
	}
	w.Settle()
	// Output: http1: a response body of more than 10 octets: parley: token too long
}

func ExampleConnectError() {
	w := sim.New(sim.Config{})
	ln := w.Listen("tcp", "server:3128")
	proxy := exampleURL("http://server:3128")
	c := &http1.Client{Loop: w.Loop(core.Options{}), Proxy: func(*url.URL) (*url.URL, error) { return proxy, nil }}
	_, err := c.Get("https://www.example.com/", func(_ *http1.Response, _ []byte, err error) {
		var refused *http1.ConnectError
		fmt.Println(errors.As(err, &refused), err)
	})
	if err != nil {
		fmt.Println(err)
	}
	ln.Accept().Say("HTTP/1.1 403 Forbidden\r\n\r\n")
	w.Settle()
	// Output: true http1: the proxy answers CONNECT with 403 Forbidden
}

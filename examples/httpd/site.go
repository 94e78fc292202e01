package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/http1"
)

// site answers the requests.
type site struct {
	files   *http1.Files // nil: none
	std     *http1.StdHandler
	metrics *http1.Metrics
}

// ServeHTTP chooses by the path.
func (s *site) ServeHTTP(w *http1.ResponseWriter, r *http1.Request) error {
	path := r.Path()
	switch string(path) {
	case "/hello":
		return only(w, r, hello, http.MethodGet, http.MethodHead)
	case "/echo":
		return only(w, r, echo, http.MethodPost, http.MethodPut)
	case "/stream":
		return only(w, r, stream, http.MethodGet, http.MethodHead)
	case "/events":
		return only(w, r, events, http.MethodGet)
	case "/metrics":
		return s.metrics.ServeHTTP(w, r)
	}
	switch {
	case strings.HasPrefix(string(path), "/std/"):
		return s.std.ServeHTTP(w, r)
	case s.files != nil:
		return s.files.ServeHTTP(w, r)
	case string(path) == "/":
		return only(w, r, about, http.MethodGet, http.MethodHead)
	}
	return &http1.Error{Status: http.StatusNotFound}
}

// only answers other methods than those of a resource.
func only(w *http1.ResponseWriter, r *http1.Request, f http1.HandlerFunc, methods ...string) error {
	for _, m := range methods {
		if r.Method() == m {
			return f(w, r)
		}
	}
	err := w.Error(http.StatusMethodNotAllowed, "")
	w.Set("Allow", strings.Join(methods, ", "))
	return err
}

func hello(w *http1.ResponseWriter, _ *http1.Request) error {
	w.Set("Content-Type", "text/plain")
	_, err := w.WriteString("Hello, World!\n")
	return err
}

func about(w *http1.ResponseWriter, _ *http1.Request) error {
	w.Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.WriteString("There are /hello, /echo, /stream, /events, /metrics, /std/, and with -root files.\n")
	return err
}

// echo sends the body back as it comes. A client that does not read is not read from either.
func echo(w *http1.ResponseWriter, r *http1.Request) error {
	if ctype := r.Field("Content-Type"); ctype != nil {
		w.Set("Content-Type", string(ctype))
	} else {
		w.Set("Content-Type", "application/octet-stream")
	}
	w.SetLength(r.ContentLength())
	return r.OnBody(func(p []byte, last bool) error {
		if last {
			return nil
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		if w.Full() {
			r.Pause()
			w.OnDrain(func() error {
				r.Resume()
				return nil
			})
		}
		return nil
	})
}

const pieces = 64

// stream sends pieces as the client takes them.
func stream(w *http1.ResponseWriter, _ *http1.Request) error {
	w.Set("Content-Type", "text/plain")
	return w.SendProducer(new(counter))
}

// counter makes the pieces.
type counter struct{ n int }

func (c *counter) More(int) ([]byte, error) {
	if c.n == pieces {
		return nil, io.EOF
	}
	c.n++
	return fmt.Appendf(nil, "piece %2d of %d %s\n", c.n, pieces, strings.Repeat(".", 1000)), nil
}

const eventPeriod = time.Second

// events tells the time, once a second until the client goes. One that takes nothing misses some.
func events(w *http1.ResponseWriter, r *http1.Request) error {
	stream, err := w.EventStream(0)
	if err != nil {
		return err
	}
	c := r.Conn()
	n := 0
	var tick *core.Timer
	send := func() {
		n++
		_ = stream.Send(http1.Event{ID: strconv.Itoa(n), Name: "time", Data: c.Loop().Now().Format(time.RFC3339)})
		tick.Reset(eventPeriod)
	}
	tick = c.AfterFunc(eventPeriod, send)
	w.OnDone(func(error) { tick.Stop() })
	send()
	return nil
}

// stdMux is a mux of net/http: what exists for that works here, too.
func stdMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /std/hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "Hello, %s!\n", r.PathValue("name"))
	})
	mux.HandleFunc("POST /std/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.Copy(w, r.Body)
	})
	mux.HandleFunc("GET /std/slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(time.Second): // a handler of net/http may block
			fmt.Fprintln(w, "That took a second.")
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("GET /std/{$}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "There are /std/hello/NAME, /std/slow, and /std/echo to post to.")
	})
	return mux
}

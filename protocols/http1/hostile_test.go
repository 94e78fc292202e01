package http1_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// not go with what was written must not put octets where the next response is expected.
func TestLengthAfterWrite(t *testing.T) {
	const fail500 = "HTTP/1.1 500 Internal Server Error\r\n" + date + "Content-Type: text/plain; charset=utf-8\r\n" +
		"X-Content-Type-Options: nosniff\r\nContent-Length: 22\r\n\r\nInternal Server Error\n"
	for name, x := range map[string]struct {
		handler func(w *http1.ResponseWriter)
		want    string
	}{
		"length between": {func(w *http1.ResponseWriter) {
			_, _ = w.WriteString("ab")
			w.SetLength(4)
			_, _ = w.WriteString("cd")
		}, "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 4\r\n\r\nabcd"},
		"length flushed": {func(w *http1.ResponseWriter) {
			_, _ = w.WriteString("ab")
			w.SetLength(4)
			_ = w.Flush()
			_, _ = w.WriteString("cd")
		}, "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 4\r\n\r\nabcd"},
		"length too short": {func(w *http1.ResponseWriter) {
			_, _ = w.WriteString("abcd")
			w.Set("Content-Length", "2")
		}, fail500},
		"length too short, flushed": {func(w *http1.ResponseWriter) {
			_, _ = w.WriteString("abcd")
			w.SetLength(2)
			_ = w.Flush()
		}, fail500},
		"204": {func(w *http1.ResponseWriter) {
			_, _ = w.WriteString("HTTP/1.1 200 OK\r\n\r\n")
			w.SetStatus(204)
		}, "HTTP/1.1 204 No Content\r\n" + date + "\r\n"},
		"304": {func(w *http1.ResponseWriter) {
			_, _ = w.WriteString("abcd")
			w.SetStatus(304)
		}, "HTTP/1.1 304 Not Modified\r\n" + date + "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, handle(func(w *http1.ResponseWriter, _ *http1.Request) error {
				x.handler(w)
				return nil
			}), sim.Config{})
			s.p.Say(getRequest + getRequest)
			s.p.Want(x.want + x.want)
			s.p.WantNothing()
		})
	}
}

// A HEAD request for a stream of events is answered, and the connection goes on.
func TestEventStreamHead(t *testing.T) {
	var e *http1.EventStream
	done := 0
	s := newScene(t, handle(func(w *http1.ResponseWriter, _ *http1.Request) (err error) {
		e, err = w.EventStream(time.Second)
		w.OnDone(func(error) { done++ })
		return err
	}), sim.Config{})
	s.p.Say("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
	s.p.Want("HTTP/1.1 200 OK\r\n")
	s.p.Read()
	s.p.CloseWrite()
	s.Advance(time.Hour)
	require.Equal(t, 1, done)
	require.Error(t, e.Send(http1.Event{Data: "x"}))
	e.Close()
	s.p.WantClosed()
	require.Zero(t, s.srv.Open())
}

package http1_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

func TestEventStream(t *testing.T) {
	var e *http1.EventStream
	var ends []error
	s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) (err error) {
		w.OnDone(func(err error) { ends = append(ends, err) })
		e, err = w.EventStream(20 * time.Second)
		return err
	}), sim.Config{Window: 1 << 20})
	s.p.Say(getRequest)
	s.p.Want("HTTP/1.1 200 OK\r\n" + date + "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n")
	require.NoError(t, e.Send(http1.Event{ID: "7", Name: "news", Data: "a\nb\r\nc\rd\n", Retry: 1500 * time.Millisecond}))
	text := "event: news\nid: 7\nretry: 1500\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"
	s.p.Want(fmt.Sprintf("%x\r\n%s\r\n", len(text), text))
	require.NoError(t, e.Send(http1.Event{}))
	s.p.Want("8\r\ndata: \n\n\r\n")
	s.Advance(41 * time.Second)
	s.p.Want("3\r\n:\n\n\r\n3\r\n:\n\n\r\n")
	require.ErrorIs(t, e.Send(http1.Event{ID: "a\nb"}), http1.ErrHeader)
	require.ErrorIs(t, e.Send(http1.Event{Name: "a\rb"}), http1.ErrHeader)
	e.Close()
	s.p.Want("0\r\n\r\n")
	require.ErrorIs(t, e.Send(http1.Event{}), core.ErrClosed)
	e.Close()
	require.Equal(t, []error{nil}, ends)
	s.Advance(time.Second)
	s.p.WantNothing()

	// A client that does not read is behind, and closed at last.
	s.p.Stall(true)
	s.p.Say(getRequest)
	s.Settle()
	sent := 0
	for ; sent < 10_000; sent++ {
		if err := e.Send(http1.Event{Data: strings.Repeat("x", 1000)}); err != nil {
			require.ErrorIs(t, err, core.ErrWouldBlock)
			break
		}
		s.Settle()
	}
	require.Less(t, sent, 2000)
	s.Advance(time.Minute)
	require.ErrorIs(t, e.Send(http1.Event{}), core.ErrClosed)
	require.Len(t, ends, 2)
	require.ErrorIs(t, ends[1], core.ErrTimeout)
	require.Zero(t, s.srv.Open())
}

// A client that goes away is noticed, and one of HTTP/1.0 reads up to the end of the connection.
func TestEventStreamGone(t *testing.T) {
	var e *http1.EventStream
	var ends []error
	s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) (err error) {
		w.OnDone(func(err error) { ends = append(ends, err) })
		e, err = w.EventStream(0)
		return err
	}), sim.Config{})
	s.p.Say("GET / HTTP/1.0\r\n\r\n")
	s.p.Want("HTTP/1.1 200 OK\r\n" + date + "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n")
	require.NoError(t, e.Send(http1.Event{Data: "a"}))
	s.p.Want("data: a\n\n")
	s.p.Close()
	s.Settle()
	for range 3 {
		_ = e.Send(http1.Event{Data: "a"})
		s.Settle()
	}
	require.Len(t, ends, 1)
	require.Error(t, ends[0])
	e.Close()
	require.ErrorIs(t, e.Send(http1.Event{}), core.ErrClosed)
}

// A shutdown ends streams.
func TestEventStreamShutdown(t *testing.T) {
	s := newScene(t, handle(func(w *http1.ResponseWriter, _ *http1.Request) error {
		_, err := w.EventStream(time.Second)
		return err
	}), sim.Config{})
	s.p.Say(getRequest)
	s.p.Want("HTTP/1.1 200 OK\r\n")
	s.loop.Shutdown(time.Hour)
	require.True(t, strings.HasSuffix(s.p.Read(), "0\r\n\r\n"))
	s.p.WantClosed()
	require.Zero(t, s.srv.Open())
}

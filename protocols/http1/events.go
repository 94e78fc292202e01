package http1

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/parley-go/parley/core"
)

// EventStream is a response that goes on for as long as there are events to tell: server-sent events, as the HTML
// standard has them (section 9.2). Its methods are for the loop's goroutine.
type EventStream struct {
	w     *ResponseWriter
	buf   []byte
	timer *core.Timer
}

// Event is one event. Fields that are empty are left out, but for Data.
type Event struct {
	// ID is what a client that comes back says in its Last-Event-ID field. Name is the type of the event; "" is "message".
	ID   string
	Name string

	// Data is the text of the event, of one line or many.
	Data string

	// Retry is how long the client is to wait before it comes back when the connection is lost, in whole milliseconds.
	Retry time.Duration
}

// EventStream begins a stream of events: the head of the response is sent, and the response is deferred. heartbeat is
// how often a comment is sent, so that a client that is gone is noticed, and proxies see that the connection is alive;
// 0: never. When the stream is over, by Close or because the client went away, OnDone's func is called. Errors: those of Flush. To a HEAD request
// there are no events: the stream is over when the handler returns.
func (w *ResponseWriter) EventStream(heartbeat time.Duration) (*EventStream, error) {
	w.Set("Content-Type", "text/event-stream")
	w.Set("Cache-Control", "no-store")
	w.SetLength(-1)
	if err := w.Flush(); err != nil {
		return nil, err
	}
	w.Defer()
	e := &EventStream{w: w}
	if w.x.bodiless() { // it would be open for ever, as nothing that is sent tells that the client is gone
		e.Close()
		return e, nil
	}
	w.OnShutdown(e.Close)
	if heartbeat > 0 {
		e.timer = w.x.s.c.AfterFunc(heartbeat, func() {
			if w.x.s == nil {
				return
			}
			if !w.Full() {
				_, _ = w.WriteString(":\n\n")
				_ = w.Flush()
			}
			e.timer.Reset(heartbeat)
		})
	}
	return e, nil
}

// Send sends an event. Errors: ErrHeader if ID or Name cannot be sent, as they have a line break or NUL;
// core.ErrWouldBlock if the client is behind (ResponseWriter.Full), and then the event is not sent: leave it out, or
// Close; core.ErrClosed when the stream is over.
func (e *EventStream) Send(ev Event) error {
	switch {
	case e.w.x.s == nil:
		return core.ErrClosed
	case strings.ContainsAny(ev.ID, "\r\n\x00") || strings.ContainsAny(ev.Name, "\r\n"):
		return fmt.Errorf("%w: event %q %q", ErrHeader, ev.ID, ev.Name)
	case e.w.Full():
		return core.ErrWouldBlock
	}
	p := e.buf[:0]
	if ev.Name != "" {
		p = appendLine(p, "event: ", ev.Name)
	}
	if ev.ID != "" {
		p = appendLine(p, "id: ", ev.ID)
	}
	if ev.Retry > 0 {
		p = appendLine(p, "retry: ", strconv.FormatInt(ev.Retry.Milliseconds(), 10))
	}
	for data := ev.Data; ; {
		end := strings.IndexAny(data, "\r\n")
		if end < 0 {
			p = appendLine(p, "data: ", data)
			break
		}
		p = appendLine(p, "data: ", data[:end])
		if strings.HasPrefix(data[end:], "\r\n") {
			end++
		}
		data = data[end+1:]
	}
	e.buf = append(p, '\n')
	if _, err := e.w.Write(e.buf); err != nil {
		return err
	}
	return e.w.Flush()
}

func appendLine(p []byte, field, value string) []byte {
	return append(append(append(p, field...), value...), '\n')
}

// Close ends the stream, as a shutdown of the loop does (ResponseWriter.OnShutdown). Clients come back after a while, unless
// the answer then is 204.
func (e *EventStream) Close() {
	if e.timer != nil {
		e.timer.Stop()
	}
	e.w.Finish(nil)
}

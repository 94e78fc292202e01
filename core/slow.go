package core

import (
	"fmt"
	"reflect"
	"time"
)

// slowWatch finds handlers that keep the loop for too long without reading the clock at every call: it looks at how long
// whole passes take, and times single calls only for a minute after a slow one, or while a trace is on.
type slowWatch struct {
	limit   int64 // nanoseconds; 0: off
	timing  bool  // single calls are timed
	traced  bool  // because of the trace hook
	until   int64 // when timing ends otherwise
	started int64 // when the current pass began to serve, -1 if that is not known
	last    map[reflect.Type]int64
}

const slowPeriod = int64(time.Minute)

func (w *slowWatch) init(o Options) {
	w.limit = int64(max(o.SlowHandler, 0))
	w.traced = o.Trace != nil
	w.timing = w.traced
	w.started = -1
	w.last = make(map[reflect.Type]int64)
}

// passStarted is called when the wait is over.
func (w *slowWatch) passStarted(l *Loop) {
	w.passEnded(l, l.now)
	w.started = l.now
	if w.timing && !w.traced && l.now > w.until {
		w.timing = false
	}
}

// passEnded is called before a wait that blocks, and by passStarted if there was none.
func (w *slowWatch) passEnded(l *Loop, now int64) {
	if w.started < 0 || w.limit == 0 {
		return
	}
	took := now - w.started
	w.started = -1
	if took <= w.limit || w.timing {
		return
	}
	w.timing, w.until = true, now+slowPeriod
	if l.calls == 1 {
		w.report(l, l.cur, l.method, took, now)
		return
	}
	l.log.Warn("slow pass: single handlers are timed for the next minute", "took", time.Duration(took), "calls", l.calls)
}

// called is called after each handler while single calls are timed.
func (w *slowWatch) called(l *Loop, start int64) {
	now := l.clock()
	took := now - start
	if l.opts.Trace != nil {
		l.trace(Event{Kind: TraceCall, Chan: l.cur, Name: l.method, Dur: time.Duration(took)})
	}
	if w.limit > 0 && took > w.limit {
		w.until = max(w.until, now+slowPeriod)
		w.report(l, l.cur, l.method, took, now)
	}
}

// report logs once per handler type and minute.
func (w *slowWatch) report(l *Loop, d *Dispatcher, method string, took, now int64) {
	var h any
	if d != nil {
		h = d.userHandler()
	}
	t := reflect.TypeOf(h)
	if at, ok := w.last[t]; ok && now-at < slowPeriod {
		return
	}
	w.last[t] = now
	name := "a func on the loop"
	if h != nil {
		name = fmt.Sprintf("%T", h)
	}
	l.log.Warn("slow handler: the loop served nobody else meanwhile", "handler", name, "method", method,
		"took", time.Duration(took))
}

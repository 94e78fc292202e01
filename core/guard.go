package core

import "runtime/debug"

type faultRecord struct {
	d      *Dispatcher
	method string
	err    *PanicError
}

// protect runs f, which must take up its work again when it is called after a panic. The recover frame stands around the
// batch and not around each call of a handler.
func (l *Loop) protect(f func(*Loop)) {
	l.busy = true
	for !l.try(f) {
	}
	l.busy = false
	l.wakeOthers()
}

func (l *Loop) try(f func(*Loop)) (done bool) {
	defer l.recovered()
	if r := l.fault; r.err != nil {
		l.fault = faultRecord{}
		l.panicked(r)
	}
	f(l)
	return true
}

// panicked hands a panic to the channel whose handler it was.
func (l *Loop) panicked(r faultRecord) {
	switch {
	case r.d == nil: // a post, a timer
		l.log.Error("a func on the loop panicked", "kind", r.method, "panic", r.err.Value, "stack", string(r.err.Stack))
	case r.method == "HandleError": // the error hook itself: close hard
		l.logFailure(r.d, r.method, r.err)
		r.d.shut(r.err)
	default:
		r.d.Fail(r.method, r.err)
	}
}

// enter and leave stand around every call of a handler.
func (l *Loop) enter(d *Dispatcher, method string) (start int64) {
	l.cur, l.method = d, method
	l.calls++
	if l.slow.timing {
		return l.clock()
	}
	return 0
}

func (l *Loop) leave(start int64) {
	if l.slow.timing {
		l.slow.called(l, start)
	}
}

// call calls one handler method of the channel and deals with its error.
func (d *Dispatcher) call(method string, f func(*Dispatcher) error) {
	l := d.loop
	start := l.enter(d, method)
	err := f(d)
	l.leave(start)
	if err != nil {
		d.Fail(method, err)
	}
}

// invoke is call for one of the handler interfaces.
func invoke[H any](d *Dispatcher, method string, f func(H, *Dispatcher) error) {
	l := d.loop
	start := l.enter(d, method)
	err := f(as[H](d.h), d)
	l.leave(start)
	if err != nil {
		d.Fail(method, err)
	}
}

// recovered is the deferred end of Loop.try.
func (l *Loop) recovered() {
	v := recover()
	if v == nil {
		return
	}
	l.stats.Panics++
	p, ok := v.(*PanicError) // a layer caught it elsewhere and kept the stack of that place
	if !ok {
		p = &PanicError{Value: v, Stack: debug.Stack()}
	}
	l.fault = faultRecord{d: l.cur, method: l.method, err: p}
}

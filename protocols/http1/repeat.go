package http1

import "time"

// Much of HTTP is said again and again: by a client that asks over its connection for one thing after the other, and by a
// server that gives all its answers the same fields. An exchange, which has one request after the other, remembers what the
// last one was like: what is the same, octet by octet, is not worked out again.

const (
	keepSeen   = 2 << 10 // the longest head that is remembered, in octets
	keepFields = 1 << 10 // the header fields of a response, in octets
)

// parse reads the head that lies in x.buf. What it finds, in x.req.head, x.req.framing and x.opening, depends on nothing but
// these octets and the server's Limits.
func (x *exchange) parse() *Error {
	x.seen = x.seen[:0]
	h, l := &x.req.head, &x.s.srv.head
	if err := h.parseRequest(x.buf, l); err != nil {
		if _, first := prescan(x.buf, 0, 0, l); first != nil {
			err = first
			h.begin(nil) // in pieces it would not have been parsed at all, and its method not known
		}
		return err
	}
	framing, err := h.requestFraming()
	if err != nil {
		return err
	}
	x.req.framing, x.opening = framing, 0
	if framing == noBody || framing == lengthBody && h.length == 0 {
		x.opening |= xBodyOver
	}
	if !h.persistent() {
		x.opening |= xClose
	}
	if h.minor == 1 && h.known&(isHEAD|isCONNECT) == 0 {
		x.opening |= xOrdinary
	}
	if h.form == asteriskForm || h.known&(isCONNECT|saysUnexpected) != 0 {
		x.opening |= xUnusual
	}
	if len(x.buf) <= keepSeen {
		x.seen = append(x.seen, x.buf...)
	}
	return nil
}

// again tells whether a head that came whole is the last one's again, octet by octet: what parse found then is still there,
// and the head is in x.buf and x.req as parse would have it. data is without the CRLF of its last line, which x.seen has.
//
// It compares with a copy that no handler is given: what one writes into what it borrowed was not parsed.
func (x *exchange) again(data []byte) bool {
	n := len(x.seen) - len(endOfLine)
	if n != len(data) || string(x.seen[:n]) != string(data) {
		return false
	}
	x.buf = append(x.buf, x.seen...)
	x.req.head.buf = x.buf
	return true
}

// forget has nothing known of a head.
func (x *exchange) forget() {
	x.seen = x.seen[:0]
	x.req.head.begin(nil)
}

// lastFields are the header fields that the last response had, as far as they were set one after the other and none took
// the place of another. Such a one that is set again, after the same ones as last time, is valid, and there is nothing to
// replace.
type lastFields struct {
	fields []lastField
	lines  []byte // what they consist of

	head   []byte        // of an ordinary response with these fields, or the first of them; empty: none
	n      int           // how many of them it has
	length int64         // which it says
	until  time.Duration // as worker.until: when its Date is over
}

type lastField struct {
	line, name, value []byte
	added             bool // by Add: there may be one of that name before it
}

// repeat sets a field if it is the same that the last response had next. As long as w.repeated is not negative, w.fields are
// that many of w.last.
func (w *ResponseWriter) repeat(name, value string, replace bool) bool {
	if uint(w.repeated) >= uint(len(w.last.fields)) {
		return false
	}
	f := &w.last.fields[w.repeated]
	if f.added && replace || string(f.name) != name || string(f.value) != value {
		return false
	}
	w.fields = append(w.fields, f.line...)
	w.repeated++
	return true
}

// remember keeps the last line of w.fields, which begins at from. alone tells that it has taken no other's place, and is
// nothing but a field.
func (w *ResponseWriter) remember(from, name int, replace, alone bool) {
	l, k := &w.last, w.repeated
	if k < 0 || !alone || len(w.fields) > keepFields {
		w.repeated = -1
		return
	}
	l.head = l.head[:0]
	l.lines = append(l.lines[:from], w.fields[from:]...)
	line := l.lines[from:]
	l.fields = append(l.fields[:k], lastField{
		line: line, name: line[:name], value: line[name+len(": ") : len(line)-len(endOfLine)], added: !replace,
	})
	w.repeated++
}

// finishOrdinary is finish where the response is 200 with a short body, and its head is as is usual for that: nearly always.
func (w *ResponseWriter) finishOrdinary() error {
	x, l := w.x, &w.last
	c, wk := x.s.c, x.s.w
	if wk.loop.Lately() >= wk.until {
		wk.clock()
	}
	x.flags |= xHeadSent | xFinished
	if w.length = w.written; l.n != w.repeated || l.length != w.length || l.until != wk.until || len(l.head) == 0 {
		l.head = append(l.head[:0], w.appendHead()...)
		l.n, l.length, l.until = w.repeated, w.length, wk.until
	}
	p := append(l.head, w.body...)
	l.head = p[:len(l.head)]
	return c.Push(p)
}

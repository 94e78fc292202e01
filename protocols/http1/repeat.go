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

// again tells whether a head that came whole is that of the request before, octet by octet: what parse found then is still
// there. Clients that ask again and again, and those that ask one after the other for the same, mostly use the same words.
// It compares with a copy that no handler is ever given, as what a handler writes into what it borrowed is not parsed.
//
// data is without the empty line, and without the end of the line before; x.seen has that.
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

// lastFields are the header fields that the last response had, as far as they were set one after the other and none took the
// place of another. Such a one that is set again, after the same ones as last time, is valid, and there is nothing to replace.
type lastFields struct {
	fields []lastField
	lines  []byte // what they consist of

	head   []byte        // with the first n of them and nothing out of the ordinary; empty: none
	n      int           //
	length int64         // as it says
	until  time.Duration // when its Date is over, as worker.until
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

// finishOrdinary is finish for a short body with 200, and nothing out of the ordinary: nearly always.
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

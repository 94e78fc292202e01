package http1

// keepSeen is the longest head that is remembered, in octets.
const keepSeen = 2 << 10

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

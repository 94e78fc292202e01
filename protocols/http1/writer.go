package http1

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"unsafe"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
)

// ResponseWriter makes the response to a request. Its methods are for the loop's goroutine.
//
// The head of the response goes out with the first of: the response is complete, more than 4 KiB of body are written,
// Flush. The length of what is complete by then is known; what is longer needs SetLength, or else goes out in chunks,
// and to a client of HTTP/1.0 up to the end of the connection. To a HEAD request only the head is sent, whatever is
// written.
type ResponseWriter struct {
	x        *exchange
	fields   []byte // header field lines
	trailers []byte // trailer field lines
	body     []byte // gathered
	last     lastFields
	reply
}

// reply is what a response begins anew with, as exchange.reset has it.
type reply struct {
	status   int
	length   int64 // of the body; negative: not known
	written  int64 // of the body
	repeated int   // how many fields are so far those of the last response; negative: there are others
	err      error // a field that cannot be sent
	onDrain  func() error
	onDone   func(error)
	onEnding func()
}

// gather is how much of a body of unknown length is gathered.
const gather = 4 << 10

// SetStatus sets the status code: 200 unless told. It is for a code from 200 to 599; see Inform and Upgrade for others.
func (w *ResponseWriter) SetStatus(code int) {
	if code < 200 || code > 599 {
		w.fail(fmt.Errorf("http1: status code %d", code))
		return
	}
	if w.x.flags&xHeadSent == 0 {
		w.status = code
	}
}

// Status returns the status code.
func (w *ResponseWriter) Status() int { return w.status }

// Set sets a header field, in place of those with that name, and Add adds one. name must be a token, and value must not
// have CR, LF or other controls: otherwise the response is 500, and Write answers with ErrHeader. Date is set unless you
// do. Of what the connection depends on, Content-Length is SetLength, "Connection: close" closes the connection after
// the response, and everything else in Connection, and Transfer-Encoding, is the server's own business and ignored.
func (w *ResponseWriter) Set(name, value string) { w.set(name, value, true) }

// Add: see Set.
func (w *ResponseWriter) Add(name, value string) { w.set(name, value, false) }

// SetHeader is Set and Add for all fields of h.
func (w *ResponseWriter) SetHeader(h http.Header) {
	for _, name := range slices.Sorted(maps.Keys(h)) { // in an order that does not change from run to run
		for i, v := range h[name] {
			w.set(name, v, i == 0)
		}
	}
}

// Del removes the header fields with that name.
func (w *ResponseWriter) Del(name string) {
	if w.x.flags&xHeadSent != 0 {
		return
	}
	w.fields, w.repeated = without(w.fields, name), -1
	if equalFold([]byte(name), "Date") {
		w.x.flags &^= xHasDate
	}
	if equalFold([]byte(name), "Content-Length") {
		w.length = -1
	}
}

func (w *ResponseWriter) set(name, value string, replace bool) {
	if w.x.flags&xHeadSent == 0 && !w.repeat(name, value, replace) {
		w.setNew(name, value, replace)
	}
}

// setNew is set for a field that is not the one that the last response had here.
func (w *ResponseWriter) setNew(name, value string, replace bool) {
	from := len(w.fields)
	p := appendField(w.fields, name, value)
	w.fields = p[:from]
	if name == "" || nameEnd(p, from) != from+len(name) || valueEnd(p, from+len(name)+2) != len(p)-2 {
		w.fail(fmt.Errorf("%w: %q: %q", ErrHeader, name, value))
		return
	}
	alone := true
	switch len(name) {
	case 4:
		if equalFold([]byte(name), "Date") {
			w.x.flags |= xHasDate
			alone = false
		}
	case 10:
		if equalFold([]byte(name), "Connection") {
			for item, rest, more := nextItem([]byte(value)); ; item, rest, more = nextItem(rest) {
				if equalFold(item, "close") {
					w.x.flags |= xClose
				}
				if !more {
					return
				}
			}
		}
	case 14:
		if equalFold([]byte(name), "Content-Length") {
			n, ok := parseDecimal([]byte(value))
			if !ok {
				w.fail(fmt.Errorf("%w: %q: %q", ErrHeader, name, value))
				return
			}
			w.SetLength(n)
			return
		}
	case 17:
		if equalFold([]byte(name), "Transfer-Encoding") {
			return
		}
	}
	w.fields = p
	if replace && from > 0 {
		kept := without(p[:from], name)
		if len(kept) < from {
			w.fields = append(kept, p[from:]...)
			alone = false
		}
	}
	w.remember(from, len(name), replace, alone)
}

// appendField appends a field line.
func appendField(p []byte, name, value string) []byte {
	p = append(append(p, name...), ": "...)
	return append(append(p, value...), endOfLine...)
}

// without returns field lines without those of a name.
func without(lines []byte, name string) []byte {
	for at := 0; at < len(lines); {
		end := at
		for lines[end] != '\n' {
			end++
		}
		end++
		if n := at + len(name); n < end && lines[n] == ':' && equalFold(lines[at:n], name) {
			lines = append(lines[:at], lines[end:]...)
			continue
		}
		at = end
	}
	return lines
}

// SetTrailer sets a field behind the body. It goes out only with a body in chunks: for a short one call Flush before the
// end. Fields that matter to framing, routing or authentication are not allowed there (RFC 9110 section 6.5.1).
func (w *ResponseWriter) SetTrailer(name, value string) {
	if w.x.s == nil {
		return
	}
	if !isToken.only(name) || !validValue(value) || framingField(name) {
		w.fail(fmt.Errorf("%w: trailer %q: %q", ErrHeader, name, value))
		return
	}
	w.trailers = appendField(without(w.trailers, name), name, value)
}

func framingField(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Content-Length", "Transfer-Encoding", "Host", "Trailer", "Connection", "Authorization", "Set-Cookie", "Content-Type",
		"Content-Encoding", "Content-Range", "Cache-Control", "Expect", "Te", "Upgrade":
		return true
	}
	return false
}

// SetLength says how long the body will be, in octets; negative: not known. To write more is http.ErrContentLength, and if
// more was written already the response is 500; when less was written at the end, the connection is closed.
func (w *ResponseWriter) SetLength(n int64) {
	if w.x.flags&xHeadSent != 0 {
		return
	}
	if w.length = max(n, -1); n >= 0 && n < w.written {
		w.fail(http.ErrContentLength) // the rest would be read as the next response
	}
}

// Written returns how many octets of the body were written so far.
func (w *ResponseWriter) Written() int64 { return w.written }

// fail keeps the first error.
func (w *ResponseWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// Write writes a part of the body. It takes a copy of all of p, or none and returns an error: ErrHeader,
// http.ErrContentLength, http.ErrBodyNotAllowed with a status that has no body, core.ErrClosed when the response is complete
// or the connection closed, core.ErrOverflow when 4 MiB (buffered.Marks.Limit) wait for the client: the connection is closed
// then; see Full.
func (w *ResponseWriter) Write(p []byte) (int, error) {
	x := w.x
	if w.status != http.StatusOK || w.length >= 0 || w.err != nil || len(w.body)+len(p) > gather || x.s == nil ||
		x.flags&(xOrdinary|xHeadSent|xFinished|xProducer) != xOrdinary {
		return w.write(p)
	}
	w.written += int64(len(p)) // nearly always; write does the same
	w.body = append(w.body, p...)
	return len(p), nil
}

func (w *ResponseWriter) write(p []byte) (int, error) {
	x := w.x
	switch {
	case x.s == nil || x.flags&(xFinished|xProducer) != 0:
		return 0, core.ErrClosed
	case w.err != nil:
		return 0, w.err
	case !bodyAllowed(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && w.written+int64(len(p)) > w.length:
		return 0, http.ErrContentLength
	}
	if x.flags&xHeadSent == 0 && w.length >= 0 || len(w.body)+len(p) > gather {
		if err := w.sendHead(); err != nil {
			return 0, err
		}
	}
	w.written += int64(len(p))
	switch {
	case x.bodiless():
		return len(p), nil
	case w.length >= 0 && x.flags&xHeadSent != 0:
		if err := w.sendGathered(); err != nil { // from before the length was known
			return 0, err
		}
		return x.s.c.Write(p)
	case len(w.body)+len(p) <= gather:
		w.body = append(w.body, p...)
		return len(p), nil
	}
	if err := w.sendGathered(); err != nil {
		return 0, err
	}
	if len(p) < gather {
		w.body = append(w.body, p...)
		return len(p), nil
	}
	return len(p), w.sendPiece(p)
}

// WriteString is Write for a string.
func (w *ResponseWriter) WriteString(s string) (int, error) {
	return w.Write(unsafe.Slice(unsafe.StringData(s), len(s)))
}

// sendGathered sends what was gathered of a body whose length is not known.
func (w *ResponseWriter) sendGathered() error {
	p := w.body
	w.body = w.body[:0]
	return w.sendPiece(p)
}

// sendPiece sends a piece of a body whose length is not known.
func (w *ResponseWriter) sendPiece(p []byte) error {
	c := w.x.s.c
	if len(p) == 0 || w.x.bodiless() {
		return nil
	}
	if w.x.flags&xChunked == 0 {
		return c.Push(p)
	}
	wk := w.x.s.w
	wk.scratch = append(strconv.AppendUint(wk.scratch[:0], uint64(len(p)), 16), "\r\n"...)
	if err := c.Push(wk.scratch); err != nil {
		return err
	}
	if err := c.Push(p); err != nil {
		return err
	}
	return c.PushString("\r\n")
}

// Flush sends the head and what was written so far, when the event is over. Errors: those of Write.
func (w *ResponseWriter) Flush() error {
	x := w.x
	switch {
	case x.s == nil || x.flags&xFinished != 0:
		return core.ErrClosed
	case w.err != nil:
		return w.err
	case x.flags&xProducer != 0:
		return nil
	}
	if err := w.sendHead(); err != nil {
		return err
	}
	return w.sendGathered()
}

// Full tells whether more is queued than the client has taken lately, 64 KiB (buffered.Marks.High): whoever makes a large body
// should stop, call OnDrain, and go on when that calls back. A producer knows when by itself.
func (w *ResponseWriter) Full() bool {
	return w.x.s != nil && (w.x.s.high || w.x.s.c.Queued() > buffered.DefaultMarks.High)
}

// OnDrain has f called once, when little is queued: at once (that is, after this event) if that is so already. It is called on
// the loop's goroutine, and what it returns is as of Handler.ServeHTTP. It is for a response that is deferred: after the end it
// is not called any more. A second f replaces one that was not called yet.
func (w *ResponseWriter) OnDrain(f func() error) {
	s := w.x.s
	if s == nil {
		return
	}
	w.onDrain = f
	if !s.high {
		s.soon()
	}
}

// Defer keeps the response open when the handler returns: Finish completes it. r and w may be used until then, and calls
// of their methods afterwards do no harm.
func (w *ResponseWriter) Defer() {
	if w.x.s != nil {
		w.x.flags |= xDeferred | xKept
	}
}

// Finish completes a response that was deferred, when the event is over. err is what a Handler returns. For one that is finished
// it does nothing.
func (w *ResponseWriter) Finish(err error) {
	x := w.x
	if x.s == nil || x.flags&xDeferred == 0 {
		return
	}
	x.flags &^= xDeferred
	x.result = err
	if x.flags&xReturned != 0 {
		x.s.soon()
	}
}

// OnDone has f called once at the end, on the loop's goroutine: with nil when all of the response was handed to the
// connection, or the connection handed over (Hijack, Upgrade, from inside which f is called), or with the reason why not. A
// second f replaces the first.
func (w *ResponseWriter) OnDone(f func(err error)) {
	if w.x.s != nil {
		w.onDone = f
	}
}

// OnShutdown has f called once if the loop shuts down while the response is open: one that would go on for ever, such as a
// stream of events, is to be completed then; if it does so already, f is called after this event. It is called on the
// loop's goroutine.
func (w *ResponseWriter) OnShutdown(f func()) {
	s := w.x.s
	if s == nil {
		return
	}
	w.onEnding = f
	if s.leaving && s.x == w.x {
		s.c.AfterFunc(0, s.tellEnding)
	}
}

// Error makes the response an error of that status with a text for humans, "" for the status text. It returns ErrSent if
// the head was sent. What else was set is dropped, but for fields added afterwards.
func (w *ResponseWriter) Error(status int, text string) error {
	if w.x.flags&xHeadSent != 0 {
		return ErrSent
	}
	w.clear()
	w.SetStatus(status)
	w.Set("Content-Type", "text/plain; charset=utf-8")
	w.Set("X-Content-Type-Options", "nosniff")
	if text == "" {
		text = http.StatusText(status)
	}
	_, _ = w.WriteString(text)
	_, err := w.WriteString("\n")
	return err
}

// Inform sends an interim response with fields of its own, say 103 Early Hints: RFC 9110 section 15.2. A client of
// HTTP/1.0 gets none. It returns an error for a status that is not 100 to 199, or is 101; ErrHeader, ErrSent, core.ErrClosed.
func (w *ResponseWriter) Inform(status int, h http.Header) error {
	x := w.x
	switch {
	case x.s == nil:
		return core.ErrClosed
	case status < 100 || status > 199 || status == http.StatusSwitchingProtocols:
		return fmt.Errorf("http1: Inform(%d)", status)
	case x.flags&xHeadSent != 0:
		return ErrSent
	case x.req.head.minor == 0:
		return nil
	}
	p := appendStatusLine(nil, status)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			if !isToken.only(name) || !validValue(v) {
				return ErrHeader
			}
			p = appendField(p, name, v)
		}
	}
	return x.s.c.Push(append(p, "\r\n"...))
}

// clear forgets what was not sent yet.
func (w *ResponseWriter) clear() {
	w.status, w.fields, w.body, w.trailers = http.StatusOK, w.fields[:0], w.body[:0], w.trailers[:0]
	w.length, w.written, w.repeated, w.err = -1, 0, 0, nil
	w.x.flags &^= xHasDate
}

// bodyAllowed tells whether a response with that status has a body: RFC 9110 section 6.4.1.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

func appendStatusLine(p []byte, status int) []byte {
	p = append(p, "HTTP/1.1 "...)
	p = strconv.AppendInt(p, int64(status), 10)
	p = append(p, ' ')
	p = append(p, http.StatusText(status)...)
	return append(p, "\r\n"...)
}

// sendHead sends the head, once. The length is decided: what is not known is chunked, or ends with the connection.
func (w *ResponseWriter) sendHead() error {
	x := w.x
	if x.flags&xHeadSent != 0 {
		return nil
	}
	if w.err != nil {
		return w.err
	}
	if w.length < 0 && !x.bodiless() {
		if x.req.head.minor > 0 {
			x.flags |= xChunked
		} else {
			x.flags |= xClose | xUntilClose
		}
	}
	return x.s.c.Push(w.appendHead())
}

// appendHead makes the head in the worker's scratch memory.
func (w *ResponseWriter) appendHead() []byte {
	x := w.x
	wk := x.s.w
	x.flags |= xHeadSent
	if wk.loop.Lately() >= wk.until {
		wk.clock()
	}
	p := wk.scratch[:0]
	switch {
	case x.flags&xHasDate != 0:
		p = appendStatusLine(p, w.status)
	case w.status == http.StatusOK:
		p = append(p, wk.ok...)
	default:
		p = append(appendStatusLine(p, w.status), wk.date...)
	}
	p = append(p, w.fields...)
	switch {
	case w.status == http.StatusNoContent || x.tunnel():
	case x.flags&xChunked != 0:
		p = append(p, "Transfer-Encoding: chunked\r\n"...)
	case w.length >= 0:
		p = appendCount(append(p, "Content-Length: "...), w.length)
		p = append(p, "\r\n"...)
	}
	switch {
	case x.flags&xClose != 0:
		p = append(p, "Connection: close\r\n"...)
	case x.req.head.minor == 0:
		p = append(p, "Connection: keep-alive\r\n"...)
	}
	p = append(p, "\r\n"...)
	wk.scratch = p
	return p
}

// appendCount appends a number that is mostly small, and not negative.
func appendCount(p []byte, n int64) []byte {
	switch {
	case n < 10:
		return append(p, byte('0'+n))
	case n < 100:
		return append(p, byte('0'+n/10), byte('0'+n%10))
	case n < 1000:
		return append(p, byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10))
	}
	return strconv.AppendInt(p, n, 10)
}

// finish ends the response: everything is written.
func (w *ResponseWriter) finish() error {
	x := w.x
	if x.flags&(xOrdinary|xHeadSent|xFinished|xClose) == xOrdinary && w.status == http.StatusOK && w.length < 0 &&
		w.err == nil && w.repeated >= 0 && len(w.body) <= keepFields {
		return w.finishOrdinary()
	}
	bodiless := x.bodiless()
	switch {
	case x.flags&xFinished != 0:
		return nil
	case w.err != nil:
		return w.err
	case w.length > w.written && !bodiless && x.flags&xProducer == 0:
		return io.ErrUnexpectedEOF
	}
	x.flags |= xFinished
	c, wk := x.s.c, x.s.w
	if x.flags&xHeadSent == 0 {
		if w.length < 0 && (!bodiless || w.written > 0 && bodyAllowed(w.status)) {
			w.length = w.written
		}
		p := w.appendHead()
		if !bodiless { // the status may have changed since
			p = append(p, w.body...)
			wk.scratch = p
		}
		return c.Push(p)
	}
	if bodiless || w.length >= 0 || x.flags&xProducer != 0 {
		return nil
	}
	if err := w.sendGathered(); err != nil || x.flags&xChunked == 0 {
		return err
	}
	wk.scratch = w.appendLastChunk(wk.scratch[:0])
	return c.Push(wk.scratch)
}

// appendLastChunk appends the end of a body in chunks.
func (w *ResponseWriter) appendLastChunk(p []byte) []byte {
	p = append(p, "0\r\n"...)
	p = append(p, w.trailers...)
	return append(p, "\r\n"...)
}

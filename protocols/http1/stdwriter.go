package http1

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-go/parley/chat"
)

var errDeadline = os.ErrDeadlineExceeded

// pauseBriefly lets the loop work off some posts.
func pauseBriefly() { time.Sleep(time.Millisecond) }

// stdWriter is the http.ResponseWriter that the handler gets.
type stdWriter struct{ b *bridge }

// Header returns the header fields that WriteHeader will send.
func (w *stdWriter) Header() http.Header {
	b := w.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.header == nil {
		b.header = make(http.Header)
	}
	return b.header
}

// WriteHeader decides the status, and the header fields.
func (w *stdWriter) WriteHeader(status int) {
	b := w.b
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.hijacked:
		b.log().Warn("http1: WriteHeader on a hijacked connection", "caller", caller())
		return
	case b.returned:
		return
	case b.wroteHeader:
		b.log().Warn("http1: superfluous WriteHeader", "caller", caller(), "status", status)
		return
	case status < 100 || status > 999:
		panic(fmt.Sprintf("http1: invalid WriteHeader code %v", status))
	case status < 200 && status != http.StatusSwitchingProtocols:
		h := make(http.Header, len(b.header))
		for name, values := range b.header {
			if name == "Content-Length" || name == "Transfer-Encoding" || strings.HasPrefix(name, http.TrailerPrefix) || !isToken.only(name) {
				continue
			}
			for _, v := range values {
				h[name] = append(h[name], clean(v))
			}
		}
		b.informs = append(b.informs, inform{status, h})
		b.post()
		return
	}
	b.writeHeader(status)
}

// clean makes a value that can be sent of one that cannot.
func clean(v string) string {
	v = strings.Trim(v, " \t\r\n")
	if validValue(v) {
		return v
	}
	p := []byte(v)
	for i, c := range p {
		if !isValue.at(c) {
			p[i] = ' '
		}
	}
	return string(p)
}

// writeHeader makes the fields. b.mu is held.
func (b *bridge) writeHeader(status int) {
	b.wroteHeader = true
	if status > 599 || status < 200 {
		b.log().Error("http1: WriteHeader with a status that a response cannot have", "status", status, "caller", caller())
		status = http.StatusInternalServerError
	}
	b.status = status
	var names [24]string
	sorted := names[:0]
	for name := range b.header {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	for _, name := range sorted {
		values := b.header[name]
		switch name {
		case "Connection":
			for _, v := range values {
				b.closing = b.closing || slices.ContainsFunc(strings.Split(v, ","), func(s string) bool {
					return strings.EqualFold(strings.TrimSpace(s), "close")
				})
			}
			continue
		case "Transfer-Encoding":
			b.hasType = true // nobody knows what it is of
			continue
		case "Content-Length":
			if len(values) == 0 || !bodyAllowed(status) {
				continue
			}
			n, ok := parseDecimal([]byte(strings.TrimSpace(values[0])))
			if !ok {
				b.log().Warn("http1: malformed Content-Length", "value", values[0], "target", b.req.RequestURI)
				continue
			}
			b.sendLength = n
			continue
		case "Date":
			b.hasDate = len(values) > 0
		case "Content-Type":
			b.hasType = true
			if status == http.StatusNotModified {
				continue
			}
		case "Content-Encoding":
			b.hasType = b.hasType || len(values) > 0 && values[0] != ""
		case "Trailer":
			for _, v := range values {
				for name := range strings.SplitSeq(v, ",") {
					if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); isToken.only(name) && !framingField(name) {
						b.trailing = append(b.trailing, name)
						b.inTrailers = true
					}
				}
			}
		}
		if !isToken.only(name) {
			if strings.HasPrefix(name, http.TrailerPrefix) {
				b.inTrailers = true
			}
			continue
		}
		for _, v := range values {
			b.fields = appendField(b.fields, name, clean(v))
		}
	}
}

// commit has the head sent: what was written so far decides what type it is. b.mu is held.
func (b *bridge) commit() {
	if b.committed {
		return
	}
	b.committed = true
	if !b.hasType && len(b.out) > 0 && bodyAllowed(b.status) {
		b.fields = appendField(b.fields, "Content-Type", http.DetectContentType(b.out))
	}
}

// takeTrailers collects the trailer fields. b.mu is held.
func (b *bridge) takeTrailers() {
	if b.header == nil || b.req.ProtoMinor == 0 {
		b.inTrailers = false
		return
	}
	add := func(name string, values []string) {
		if !isToken.only(name) || framingField(name) {
			return
		}
		for _, v := range values {
			b.lines = appendField(b.lines, name, clean(v))
		}
	}
	for _, name := range b.trailing {
		add(name, b.header[name])
	}
	for name, values := range b.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			add(name, values)
			b.inTrailers = true
		}
	}
}

// Write sends a part of the body. It waits while the client does not take what was written before.
func (w *stdWriter) Write(p []byte) (int, error) { return write(w.b, p) }

// WriteString is Write for a string.
func (w *stdWriter) WriteString(s string) (int, error) { return write(w.b, s) }

func write[T ~string | ~[]byte](b *bridge, p T) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.hijacked:
		return 0, http.ErrHijacked
	case b.returned:
		return 0, net.ErrClosed
	}
	if !b.wroteHeader {
		b.writeHeader(http.StatusOK)
	}
	switch {
	case len(p) == 0:
		return 0, nil
	case !bodyAllowed(b.status):
		return 0, http.ErrBodyNotAllowed
	case b.sendLength >= 0 && b.written+int64(len(p)) > b.sendLength:
		return 0, http.ErrContentLength
	}
	if b.head && b.committed {
		b.written += int64(len(p))
		return len(p), nil
	}
	for n < len(p) {
		switch {
		case b.returned:
			return n, net.ErrClosed
		case b.ended, b.cause != nil:
			return n, b.gone()
		case b.writeBy.passed:
			return n, errDeadline
		case len(b.out) >= stdHigh:
			b.canWrite.Wait()
			continue
		}
		if b.out == nil {
			b.out = *stdBuffers.Get().(*[]byte)
		}
		m := min(len(p)-n, stdHigh-len(b.out))
		b.out = append(b.out, p[n:n+m]...)
		n += m
		b.written += int64(m)
		if len(b.out) > stdGather || b.committed && b.sendLength == b.written {
			b.commit()
			b.post()
		}
	}
	return n, nil
}

var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// ReadFrom is io.Copy's way of writing. See StdHandler about files.
func (w *stdWriter) ReadFrom(r io.Reader) (n int64, err error) {
	for {
		m, err := w.b.sendFile(r)
		if n += m; err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
	}
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	for {
		m, err := r.Read(buf[:])
		if m > 0 {
			m, werr := w.Write(buf[:m])
			if n += int64(m); werr != nil {
				return n, werr
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// Flush sends what was written so far; FlushError says whether there is still somebody to send it to.
func (w *stdWriter) Flush() { _ = w.FlushError() }

// FlushError: see Flush.
func (w *stdWriter) FlushError() error {
	b := w.b
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.hijacked:
		return http.ErrHijacked
	case b.returned:
		return net.ErrClosed
	case b.ended, b.cause != nil:
		return b.gone()
	case b.writeBy.passed:
		return errDeadline
	}
	if !b.wroteHeader {
		b.writeHeader(http.StatusOK)
	}
	b.commit()
	b.flush = true
	b.post()
	return nil
}

// EnableFullDuplex does nothing: a body can be read after a response has begun.
func (w *stdWriter) EnableFullDuplex() error { return nil }

// SetReadDeadline bounds how long reading the body may wait.
func (w *stdWriter) SetReadDeadline(t time.Time) error {
	return w.b.setDeadline(&w.b.readBy, t, &w.b.canRead)
}

// SetWriteDeadline bounds how long writes may wait. A response that is not written by then ends there.
func (w *stdWriter) SetWriteDeadline(t time.Time) error {
	return w.b.setDeadline(&w.b.writeBy, t, &w.b.canWrite)
}

func (b *bridge) setDeadline(d *deadline, t time.Time, wake *sync.Cond) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.returned {
		d.set(t, &b.mu, wake)
	}
	return nil
}

// deadline is when reads or writes are not to wait any more.
type deadline struct {
	timer  *time.Timer
	sets   int
	passed bool
}

// set sets the deadline, or removes it; those who wait are woken when it passes. mu is held.
func (d *deadline) set(t time.Time, mu *sync.Mutex, wake *sync.Cond) {
	d.stop()
	d.passed = false
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if d.passed = left <= 0; d.passed {
		wake.Broadcast()
		return
	}
	sets := d.sets
	d.timer = time.AfterFunc(left, func() {
		mu.Lock()
		defer mu.Unlock()
		if d.sets == sets {
			d.passed = true
			wake.Broadcast()
		}
	})
}

func (d *deadline) stop() {
	d.sets++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// hijacked is what Hijack returns.
type hijacked struct {
	conn net.Conn
	buf  *bufio.ReadWriter
	err  error
}

// Hijack gives the connection to the handler.
func (w *stdWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	b := w.b
	b.mu.Lock()
	switch {
	case b.returned:
		b.mu.Unlock()
		panic("http1: Hijack called after ServeHTTP finished")
	case b.hijacked || b.hijack != nil:
		b.mu.Unlock()
		return nil, nil, http.ErrHijacked
	case b.ended:
		defer b.mu.Unlock()
		return nil, nil, b.gone()
	}
	if b.wroteHeader {
		b.commit()
		b.flush = true
	}
	answer := make(chan hijacked, 1)
	b.hijack = answer
	b.post()
	b.mu.Unlock()
	a := <-answer
	return a.conn, a.buf, a.err
}

// detach takes the connection off the loop, on whose goroutine it is called.
func (b *bridge) detach(answer chan hijacked) {
	b.mu.Lock()
	if b.ended || b.hijacked {
		b.mu.Unlock()
		return // the answer was given
	}
	w, c := b.w, b.r.Conn()
	b.hijacked = true
	b.hijack = nil
	b.mu.Unlock()
	var a hijacked
	var l *loopConn
	if a.err = w.Hijack(func(c *chat.Conn) chat.Handler { l = newLoopConn(c); return l }); a.err == nil {
		var r io.Reader
		conn, unread, err := c.Detach()
		if err == nil {
			a.conn, r = conn, &unreadFirst{Conn: conn, unread: unread}
		} else { // there is a layer on it: it stays where it is
			a.conn, r = l, l
		}
		a.buf = bufio.NewReadWriter(bufio.NewReaderSize(r, max(4096, len(unread))), bufio.NewWriter(a.conn))
		_, _ = a.buf.Peek(len(unread))
	}
	answer <- a
}

// unreadFirst reads what came before the connection was handed over, and then goes on.
type unreadFirst struct {
	net.Conn
	unread []byte
}

func (r *unreadFirst) Read(p []byte) (int, error) {
	if len(r.unread) > 0 {
		n := copy(p, r.unread)
		r.unread = r.unread[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}

// caller is the place in the handler that called.
func caller() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if !more || !strings.Contains(f.Function, "/http1.(*stdWriter).") && !strings.Contains(f.Function, "/http1.(*bridge).") &&
			!strings.Contains(f.Function, "/http1.write[") {
			return fmt.Sprintf("%s (%s:%d)", f.Function, path.Base(f.File), f.Line)
		}
	}
}

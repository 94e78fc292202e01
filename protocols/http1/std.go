package http1

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/parley-go/parley/core"
)

// Std returns a Handler that runs a handler of net/http, with what the zero values of StdHandler say: any router and any
// middleware of that world does.
//
//	mux := http.NewServeMux()
//	mux.HandleFunc("GET /hello/{name}", …)
//	srv := &http1.Server{Handler: http1.Std(mux)}
func Std(h http.Handler) *StdHandler { return &StdHandler{Handler: h} }

// StdHandler is a Handler that calls one of net/http, on a goroutine of its own for each request, which may block. Its
// fields must not be changed once it serves.
//
// The handler meets what net/http promises: a body that is read as it comes, and a client that waits while it is not read;
// writes that wait while the client does not read; implicit 200, Content-Length of short bodies and Content-Type of what has
// none; trailers both ways; interim responses; http.ErrAbortHandler; a context that is cancelled when the client is gone or
// the response complete, and that has http.LocalAddrContextKey. Its ResponseWriter has Flush, Hijack, ReadFrom and
// WriteString, and what http.ResponseController asks for. Both ways may be used at a time, whether or not EnableFullDuplex
// was called.
//
// A part of an *os.File of 64 KiB or more that the handler sends with io.Copy, as http.ServeContent and http.FileServer of an
// http.Dir do, goes out by sendfile where platform and transport allow: on Linux, without TLS. It is read on the loop's
// goroutine then, as by ResponseWriter.SendFile; a handler whose files lie on a slow disk can hide them in a
// struct{ io.Reader }. io.Copy returns when the file is not needed any more.
//
// What differs: there is no http.ServerContextKey. A handler that panics is answered for with 500 if it has sent nothing. A
// status above 599 is 500, and so is 101 without Hijack. What Hijack returns is a connection of package net where
// core.Dispatcher.Detach can take it off the loop; otherwise, with TLS say, one that stays on the loop, and that closes with
// it.
type StdHandler struct {
	// Handler is called. It must be set.
	Handler http.Handler

	// MaxWorkers is how many requests are under way at a time; 0: 1,000; negative: no bound. A request beyond it is
	// answered with 503 and Retry-After. A client that is slow with its body, or takes its response slowly, holds one
	// as long as its handler waits for it: Limits.BodyTimeout, BodyRate, WriteTimeout and WriteRate bound that,
	// Limits.ConnsPerAddr how many one client can hold.
	MaxWorkers int

	// BodyLimit replaces Limits.Body for the requests that come here; 0: it stays; negative: no bound, for a handler that has
	// one of its own (http.MaxBytesReader).
	BodyLimit int64

	running atomic.Int64
}

const (
	stdWorkers = 1000
	stdGather  = 4 << 10  // is collected before the head goes out
	stdHigh    = 64 << 10 // waits for the other goroutine at most, in each direction; a piece of a body is added whole
	stdLow     = 16 << 10
)

// Running returns how many requests are under way. From any goroutine.
func (h *StdHandler) Running() int { return int(h.running.Load()) }

// ServeHTTP begins a request.
func (h *StdHandler) ServeHTTP(w *ResponseWriter, r *Request) error {
	if h.BodyLimit != 0 {
		r.SetBodyLimit(h.BodyLimit)
	}
	if exceeds(r.ContentLength(), r.limit) {
		return errBody
	}
	limit := int64(h.MaxWorkers)
	if limit == 0 {
		limit = stdWorkers
	}
	if exceeds(h.running.Add(1), limit) {
		h.running.Add(-1)
		err := w.Error(http.StatusServiceUnavailable, "")
		w.Set("Retry-After", "1")
		return err
	}
	c := r.Conn()
	b := &bridge{h: h, w: w, r: r, loop: c.Loop(), conn: c.Context(), limit: r.limit, head: r.Method() == http.MethodHead, sendLength: -1,
		sendsFiles: c.Core().SendsFiles()}
	b.canRead.L, b.canWrite.L = &b.mu, &b.mu
	req, err := b.request(r)
	if err != nil {
		h.running.Add(-1)
		return err
	}
	w.Defer()
	w.OnDone(b.over)
	if req.Body != http.NoBody && r.head.known&saysContinue == 0 {
		b.asked = true
		b.askBody()
	}
	go b.serve(req)
	return nil
}

// request makes a request of net/http of ours.
func (b *bridge) request(r *Request) (*http.Request, error) {
	u, err := r.URL()
	if err != nil {
		return nil, err
	}
	req := &http.Request{
		Method: r.Method(), URL: u, Proto: r.Proto(), ProtoMajor: 1, ProtoMinor: r.Minor(), Header: r.Header(), Body: http.NoBody,
		ContentLength: r.ContentLength(), Close: !r.head.persistent(), Host: string(r.Host()), RequestURI: string(r.Target()), TLS: r.TLS(),
	}
	if addr := r.RemoteAddr(); addr != nil {
		req.RemoteAddr = addr.String()
	}
	delete(req.Header, "Transfer-Encoding")
	if names, ok := req.Header["Trailer"]; ok {
		delete(req.Header, "Trailer")
		req.Trailer = make(http.Header)
		for _, list := range names {
			for name := range strings.SplitSeq(list, ",") {
				if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); isToken.only(name) && !framingField(name) {
					req.Trailer[name] = nil
				}
			}
		}
	}
	if req.ContentLength != 0 {
		req.Body = &stdBody{b: b}
	}
	if req.ContentLength < 0 {
		req.TransferEncoding = []string{"chunked"}
	}
	b.req = req.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, r.Conn().LocalAddr()))
	return b.req, nil
}

// bridge is a request that is under way on a goroutine of its own: what that and the loop's have to tell each other.
type bridge struct {
	h     *StdHandler
	loop  *core.Loop
	conn  context.Context // of the connection
	req   *http.Request
	limit int64 // of the body
	head  bool  // HEAD

	// For the loop alone.
	w    *ResponseWriter
	r    *Request
	kept []byte // of out, to be used again

	mu       sync.Mutex
	canRead  sync.Cond // something about the request's body has changed
	canWrite sync.Cond // something about the response has changed
	posted   bool      // pump is to run
	ended    bool      // the response is over
	cause    error     // why, if it is not whole
	returned bool      // the handler has
	hijacked bool

	// The request's body.
	asked      bool // for it
	wantBody   bool // the loop is to ask for it
	in         []byte
	read       int // of in
	whole      bool
	bodyErr    error
	trailers   http.Header
	paused     bool
	resume     bool // the loop is to go on
	bodyClosed bool
	readBy     deadline

	// The response. header is the handler's.
	header      http.Header
	wroteHeader bool
	status      int
	fields      []byte
	sendLength  int64
	written     int64
	hasType     bool // or must not have one
	closing     bool // Connection: close
	hasDate     bool
	trailing    []string // the names of trailer fields
	inTrailers  bool     // there will be some
	committed   bool     // the loop may send the head
	headGiven   bool     // it has it
	sendsFiles  bool     // sendfile is worth a try
	file        *stdFile // is to be sent behind out, or is being sent
	out         []byte   // for the loop to send
	lines       []byte   // trailer fields
	flush       bool
	informs     []inform
	fail        error // how the response is to end
	writeBy     deadline
	hijack      chan hijacked
}

type inform struct {
	status int
	header http.Header
}

var stdBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, stdGather+512)) }}

// serve runs the handler, on its own goroutine.
func (b *bridge) serve(req *http.Request) {
	completed := false
	defer func() {
		var err error
		if v := recover(); v != nil || !completed {
			err = http.ErrAbortHandler
			if v != nil && v != http.ErrAbortHandler {
				b.log().Error("http1: net/http handler panicked", "target", req.RequestURI, "client", req.RemoteAddr, "panic", v, "stack", string(debug.Stack()))
				err = &Error{Status: http.StatusInternalServerError}
			}
		}
		b.h.running.Add(-1)
		b.finish(err)
	}()
	b.h.Handler.ServeHTTP(&stdWriter{b}, req)
	completed = true
}

func (b *bridge) log() *slog.Logger { return b.loop.Logger() }

// finish is called when the handler has returned.
func (b *bridge) finish(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.returned = true
	b.readBy.stop()
	b.writeBy.stop()
	if b.hijacked || b.ended {
		return
	}
	if b.fail = err; err == nil {
		if !b.wroteHeader {
			b.writeHeader(http.StatusOK)
		}
		b.takeTrailers()
		b.commit()
		if b.writeBy.passed {
			b.fail = core.ErrTimeout
		}
	}
	b.post()
}

// post has pump run on the loop's goroutine. b.mu is held.
func (b *bridge) post() {
	if b.posted || b.ended {
		return
	}
	b.posted = true
	if !b.loop.Post(b.pump) {
		go b.insist()
	}
}

// insist is post when too many posts wait already, or the loop does not run.
func (b *bridge) insist() {
	for !b.loop.Post(b.pump) {
		select {
		case <-b.conn.Done():
			return
		default:
			pauseBriefly()
		}
	}
}

// over is called on the loop's goroutine when the response is over.
func (b *bridge) over(cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended, b.cause = true, cause
	b.w, b.r = nil, nil
	b.canRead.Broadcast()
	b.canWrite.Broadcast()
	if b.hijack != nil && !b.hijacked {
		b.hijack <- hijacked{err: b.gone()}
		b.hijack = nil
	}
}

// gone is the error of a call that comes when the response is over.
func (b *bridge) gone() error {
	switch {
	case b.hijacked:
		return http.ErrHijacked
	case b.cause != nil:
		return b.cause
	}
	return core.ErrClosed
}

// pump does on the loop's goroutine what the handler's asks for.
func (b *bridge) pump() {
	b.mu.Lock()
	b.posted = false
	if b.ended {
		b.mu.Unlock()
		return
	}
	ask, resume, informs, hijack := b.wantBody, b.resume, b.informs, b.hijack
	b.wantBody, b.resume, b.informs = false, false, nil
	finish, fail := b.returned, b.fail
	w, r := b.w, b.r
	var out []byte
	var file *stdFile
	late := b.file != nil && b.file.late
	headDue, inTrailers, flush := false, false, false
	switch {
	case fail != nil || late:
	case b.committed && !finish && hijack == nil && w.Full():
		w.OnDrain(b.drained)
	case b.committed:
		out, flush = b.out, b.flush
		b.out, b.flush, b.kept = b.kept, false, nil
		headDue, inTrailers = !b.headGiven, b.inTrailers
		b.headGiven = true
		if finish {
			w.trailers = append(w.trailers[:0], b.lines...)
		}
		if b.file != nil && !b.file.given {
			file = b.file
			file.given = true
		}
	}
	b.mu.Unlock()

	for _, i := range informs {
		if i.status == http.StatusContinue {
			r.x.flags |= xContinued
		}
		_ = w.Inform(i.status, i.header) // a failed connection shows soon enough
	}
	if ask {
		b.askBody()
	}
	if resume {
		r.Resume()
	}
	var err error
	if headDue {
		err = b.giveHead(w, inTrailers)
	}
	if err == nil && len(out) > 0 {
		_, err = w.Write(out)
	}
	if file != nil {
		err = w.pushFile(file.f, file.at, file.n, err, func(sent int64) { b.fileSent(file, sent) })
	}
	if err == nil && flush {
		err = w.Flush()
	}
	if finish {
		w.x.onBody = nil // what is left of the body is nobody's
	}
	switch {
	case fail == http.ErrAbortHandler || late:
		if late {
			w.x.cause = core.ErrTimeout
		}
		w.x.s.mode = modeOver
		_ = r.Conn().Abort()
	case fail != nil:
		w.Finish(fail)
	case finish:
		w.Finish(err)
	}
	b.mu.Lock()
	if out != nil {
		if b.kept = out[:0]; finish {
			putStdBuffer(b.kept)
			b.kept = nil
		}
		b.canWrite.Broadcast()
	}
	if err != nil && !b.ended && !finish {
		b.cause = err // the next write says so
	}
	b.mu.Unlock()
	if hijack != nil {
		b.detach(hijack)
	}
}

// drained is pump when the client has taken what was sent.
func (b *bridge) drained() error {
	b.pump()
	return nil
}

// giveHead sets the head of the response. What it is made of does not change any more.
func (b *bridge) giveHead(w *ResponseWriter, inTrailers bool) error {
	w.status = b.status
	w.fields, w.repeated = append(w.fields[:0], b.fields...), -1
	w.length = b.sendLength
	if b.closing {
		w.x.flags |= xClose
	}
	if b.hasDate {
		w.x.flags |= xHasDate
	}
	if inTrailers { // for which the body has to be in chunks
		return w.Flush()
	}
	return nil
}

func putStdBuffer(p []byte) {
	if cap(p) <= stdHigh+stdGather {
		p = p[:0]
		stdBuffers.Put(&p)
	}
}

// askBody asks for the body, on the loop's goroutine.
func (b *bridge) askBody() {
	if err := b.r.OnBody(b.feed); err != nil {
		b.mu.Lock()
		b.bodyErr = err
		b.canRead.Broadcast()
		b.mu.Unlock()
	}
}

// feed gets the body.
func (b *bridge) feed(p []byte, last bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bodyClosed || b.returned {
		p = nil
	}
	if b.read > 0 {
		b.in = b.in[:copy(b.in, b.in[b.read:])]
		b.read = 0
	}
	b.in = append(b.in, p...)
	switch {
	case last:
		b.whole = true
		if t := b.r.Trailers(); t != nil {
			b.trailers = t.Header()
		}
	case len(b.in) >= stdHigh && !b.paused:
		b.paused = true
		b.r.Pause()
	}
	b.canRead.Broadcast()
	return nil
}

// stdBody is the body of a request, for the handler.
type stdBody struct{ b *bridge }

// Read waits for something of the body.
func (s *stdBody) Read(p []byte) (int, error) {
	b := s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.bodyClosed || b.returned:
			return 0, http.ErrBodyReadAfterClose
		case b.hijacked:
			return 0, http.ErrHijacked
		case b.readBy.passed:
			return 0, errDeadline
		case len(p) == 0:
			return 0, nil
		case b.read < len(b.in):
			n := copy(p, b.in[b.read:])
			b.read += n
			if b.paused && len(b.in)-b.read <= stdLow {
				b.paused, b.resume = false, true
				b.post()
			}
			return n, nil
		case b.whole:
			for name, values := range b.trailers {
				if b.req.Trailer == nil {
					b.req.Trailer = make(http.Header)
				}
				b.req.Trailer[name] = values
			}
			b.trailers = nil
			return 0, io.EOF
		case b.bodyErr != nil:
			return 0, b.bodyErr
		case b.ended:
			return 0, b.cut()
		case !b.asked:
			b.asked, b.wantBody = true, true
			b.post()
		}
		b.canRead.Wait()
	}
}

// cut is the error when no more of the body will come.
func (b *bridge) cut() error {
	var e *Error
	if errors.As(b.cause, &e) {
		switch e.Status {
		case http.StatusRequestEntityTooLarge:
			return &http.MaxBytesError{Limit: b.limit}
		case http.StatusRequestTimeout:
			return errDeadline
		}
	}
	return io.ErrUnexpectedEOF
}

// Close has the rest of the body dropped.
func (s *stdBody) Close() error {
	b := s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bodyClosed = true
	b.in, b.read = nil, 0
	if b.paused && !b.ended {
		b.paused, b.resume = false, true
		b.post()
	}
	return nil
}

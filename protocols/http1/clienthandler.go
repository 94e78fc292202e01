package http1

import (
	"fmt"
	"net/url"

	"github.com/parley-go/parley/core"
)

// ResponseHandler is told what becomes of a call. Its methods are called on the loop's goroutine and must not block. An
// error of the first two ends the call with it. A panic does so too, and is logged.
type ResponseHandler interface {
	// HandleResponse is called when the head of the final response is there; not if the call fails before. r is borrowed:
	// it may be used until HandleDone returns.
	HandleResponse(c *Call, r *Response) error

	// HandleBody is called with each piece of the body as it comes, never empty. p is borrowed until it returns.
	HandleBody(c *Call, p []byte) error

	// HandleDone is called once and last: with nil when the response has come whole, otherwise with why not. Nothing that
	// came before counts as whole then.
	HandleDone(c *Call, err error)
}

// RedirectHandler is a ResponseHandler that has a say in redirections.
type RedirectHandler interface {
	// HandleRedirect is called before a redirection is followed. Another method than HEAD becomes GET, and has no body any
	// more, with 301, 302 and 303; with 307 and 308 method and body stay, and the latter has to be one that can be read
	// again, else the call ends with ErrReplay. Authorization and Cookie fields do not go to another scheme, host or port,
	// except from http to https on their usual ports, and do not come back. r is borrowed until it returns. An error ends
	// the call with it; http.ErrUseLastResponse has r handed on as the response.
	HandleRedirect(c *Call, r *Response, to *url.URL) error
}

// InterimHandler is a ResponseHandler that wants interim responses (1xx) too: RFC 9110 section 15.2.
type InterimHandler interface {
	// HandleInterim is called with each. r is borrowed until it returns. An error ends the call with it.
	HandleInterim(c *Call, r *Response) error
}

// ResponseFuncs makes a ResponseHandler of funcs; each may be nil.
type ResponseFuncs struct {
	Response func(c *Call, r *Response) error
	Body     func(c *Call, p []byte) error
	Done     func(c *Call, err error)
}

// HandleResponse calls Response.
func (f *ResponseFuncs) HandleResponse(c *Call, r *Response) error {
	if f.Response == nil {
		return nil
	}
	return f.Response(c, r)
}

// HandleBody calls Body.
func (f *ResponseFuncs) HandleBody(c *Call, p []byte) error {
	if f.Body == nil {
		return nil
	}
	return f.Body(c, p)
}

// HandleDone calls Done.
func (f *ResponseFuncs) HandleDone(c *Call, err error) {
	if f.Done != nil {
		f.Done(c, err)
	}
}

// DefaultCollect is how much Collect takes unless told.
const DefaultCollect = 10 << 20

// Collect returns a ResponseHandler that gathers the body, up to limit octets: DefaultCollect if 0, any number if
// negative. More is core.ErrTooLong. done is called at the end; r is nil if there was no response; r and body are borrowed
// until it returns, and body is what came if there is an error.
func Collect(limit int64, done func(r *Response, body []byte, err error)) ResponseHandler {
	if limit == 0 {
		limit = DefaultCollect
	}
	return &collector{limit: limit, done: done}
}

type collector struct {
	limit int64
	r     *Response
	body  []byte
	done  func(*Response, []byte, error)
}

func (k *collector) HandleResponse(_ *Call, r *Response) error {
	k.r = r
	if n := r.ContentLength(); k.limit >= 0 && n > k.limit && !r.bodiless() {
		return tooLarge(k.limit)
	} else if n > 0 && !r.bodiless() {
		k.body = make([]byte, 0, min(n, 64<<10)) // the rest when it has come
	}
	return nil
}

func (k *collector) HandleBody(_ *Call, p []byte) error {
	if k.limit >= 0 && int64(len(k.body)+len(p)) > k.limit {
		return tooLarge(k.limit)
	}
	k.body = append(k.body, p...)
	return nil
}

func (k *collector) HandleDone(_ *Call, err error) { k.done(k.r, k.body, err) }

func tooLarge(limit int64) error {
	return fmt.Errorf("http1: a response body of more than %d octets: %w", limit, core.ErrTooLong)
}

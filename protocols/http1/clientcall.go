package http1

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-go/parley/core"
)

// Outgoing is a request for Client.Do. It may be used for several, with a Body one after the other.
type Outgoing struct {
	// Method is http.MethodGet if "". CONNECT is not for it.
	Method string

	// URL is http:// or https://. A user name and password in it are sent as Basic authentication unless there is an Authorization
	// field; a fragment is not sent.
	URL *url.URL

	// Host is the Host field; "": that of the URL.
	Host string

	// Header are further fields. Names must be tokens and values must have neither CR, LF nor other controls: ErrHeader. What says
	// how long the request is and what becomes of the connection is not for it (ErrHeader): Content-Length, Transfer-Encoding,
	// Trailer, Expect, Upgrade, Host, Keep-Alive, TE, Proxy-Authorization, and Connection, of which "close" is NoKeepAlive.
	Header http.Header

	// Body is the body; nil: there is none. It is read up to its end or to Length, on the loop if it is a *bytes.Reader,
	// *bytes.Buffer, *strings.Reader or a regular *os.File or if Direct is set, otherwise on another goroutine; it may be read
	// from for a while after the call has ended. It is not closed. What those four have from their position on is their length,
	// which is sent beforehand, and they can be read again for a redirection or a second attempt.
	Body io.Reader

	// Length is how long the body is, in octets; 0: what Body is known to have, otherwise it is sent in chunks; negative: in
	// chunks. A Body that ends earlier is an error (io.ErrUnexpectedEOF), and further octets are not read.
	Length int64

	// GetBody returns the body once more, for a Body that is not one of the four.
	GetBody func() (io.Reader, error)

	// Direct has Body read on the loop: it must not block. When it has nothing for now it answers core.ErrWouldBlock, and
	// Call.ResumeBody has it asked again.
	Direct bool

	// Trailer are fields behind a body in chunks. Its names are announced in the head; its values are looked up when the body is at
	// its end. RFC 9110 section 6.5
	Trailer http.Header

	// Expect has the server say "100 Continue" before the body is sent, if there is one: RFC 9110 section 10.1.1. See
	// ClientTimeouts.Continue. After 417 the request is made once more without.
	Expect bool

	// Idempotent says that to make the request twice does what making it once does, as that of GET, HEAD, OPTIONS, TRACE, PUT and
	// DELETE: RFC 9110 section 9.2.2.
	Idempotent bool

	// BodyLimit is the largest body of the response, in octets; 0: ClientLimits.Body.
	BodyLimit int64

	// Context ends the call when it is done, with its cause; nil: nothing does.
	Context context.Context
}

// ResponseHandler is told what becomes of a call. Its methods are called on the loop's goroutine and must not block. An error of
// the first two ends the call with it. A panic does so too, and is logged.
type ResponseHandler interface {
	// HandleResponse is called when the head of the final response is there; not if the call fails before. r is borrowed: it may
	// be used until HandleDone returns.
	HandleResponse(c *Call, r *Response) error

	// HandleBody is called with each piece of the body as it comes, never empty. p is borrowed until it returns.
	HandleBody(c *Call, p []byte) error

	// HandleDone is called once and last: with nil when the response has come whole, otherwise with why not. Nothing that came
	// before counts as whole then.
	HandleDone(c *Call, err error)
}

// RedirectHandler is a ResponseHandler that has a say in redirections.
type RedirectHandler interface {
	// HandleRedirect is called before a redirection is followed. Another method than HEAD becomes GET, and has no body any more,
	// with 301, 302 and 303; with 307 and 308 method and body stay, and the latter has to be one that can be read again, else the
	// call ends with ErrReplay. Authorization and Cookie fields do not go to another scheme, host or port, except from http to
	// https on their usual ports, and do not come back. r is borrowed until it returns. An error ends the call with it;
	// http.ErrUseLastResponse has r handed on as the response.
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

// Collect returns a ResponseHandler that gathers the body, up to limit octets: DefaultCollect if 0, any number if negative. More
// is core.ErrTooLong. done is called at the end; r is nil if there was no response; r and body are borrowed until it returns,
// and body is what came if there is an error.
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

type callState uint8

const (
	callWaiting callState = iota // for a connection
	callActive                   // has one
	callOver
)

// Call is a request on its way, with its redirections and second attempts.
type Call struct {
	cl    *Client
	out   *Outgoing
	h     ResponseHandler
	state callState
	host  *clientHost
	conn  *clientConn // nil: none
	timer *core.Timer // of Timeouts.Total
	stop  func() bool // of Outgoing.Context
	err   error       // how it ended, if that was not told yet

	// As it is asked now.
	method  string
	url     *url.URL
	header  http.Header
	auth    string // the Authorization field that the URL amounts to
	hostOut string // the Host field
	body    outgoingBody

	redirects int
	retried   bool
	bare      bool // of credentials
	noExpect  bool
	paused    bool
	again     func() error // what is to be done instead of telling the handler, when the response is read
	received  int64
	sent      int64
	resp      Response
}

// outgoingBody is what a body is made of.
type outgoingBody struct {
	src    io.Reader // nil: none
	length int64     // negative: not known
	at     int64     // where a Seeker begins
	seeks  bool
	onLoop bool
	begun  bool // something was read
}

// prepare looks at the request.
func (c *Call) prepare() error {
	out := c.out
	c.method, c.url, c.header, c.hostOut = out.Method, out.URL, out.Header, out.Host
	if c.method == "" {
		c.method = http.MethodGet
	}
	switch {
	case !isToken.only(c.method) || c.method == http.MethodConnect:
		return fmt.Errorf("http1: method %q", c.method)
	case c.method == http.MethodTrace && out.Body != nil: // RFC 9110 section 9.3.8
		return errors.New("http1: TRACE with a body")
	case c.url == nil:
		return errors.New("http1: Outgoing.URL is nil")
	case c.hostOut != "" && !validHost([]byte(c.hostOut)):
		return fmt.Errorf("%w: Outgoing.Host %q", ErrHeader, c.hostOut)
	}
	if err := checkURL(c.url); err != nil {
		return err
	}
	for name, values := range c.header {
		if !isToken.only(name) || len(values) > 0 && clientsOwn(name, values) {
			return fmt.Errorf("%w: %q is not for Outgoing.Header", ErrHeader, name)
		}
		for _, v := range values {
			if !validValue(v) {
				return fmt.Errorf("%w: %q: %q", ErrHeader, name, v)
			}
		}
	}
	for name := range out.Trailer {
		if !isToken.only(name) || notInTrailer(name) {
			return fmt.Errorf("%w: %q is not for Outgoing.Trailer", ErrHeader, name)
		}
	}
	if user := c.url.User; user != nil {
		password, _ := user.Password()
		c.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
	}
	c.prepareBody()
	return nil
}

// clientsOwn tells whether a field is the Client's own business.
func clientsOwn(name string, values []string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Content-Length", "Transfer-Encoding", "Trailer", "Expect", "Upgrade", "Host", "Keep-Alive", "Te", "Proxy-Authorization",
		"Proxy-Connection":
		return true
	case "Connection":
		for _, v := range values {
			if !strings.EqualFold(v, "close") && !strings.EqualFold(v, "keep-alive") {
				return true
			}
		}
	}
	return false
}

// notInTrailer tells whether a field may not stand behind a body: RFC 9110 section 6.5.1.
func notInTrailer(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Content-Type", "Content-Encoding", "Content-Range", "Authorization", "Cookie", "Cache-Control", "Max-Forwards", "Range", "If-Match",
		"If-None-Match", "If-Range", "If-Modified-Since", "If-Unmodified-Since", "Set-Cookie", "Connection":
		return true
	}
	return clientsOwn(name, nil)
}

// checkURL tells what is wrong with a URL.
func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("http1: %s: the scheme is neither http nor https", u.Redacted())
	case u.Opaque != "" || u.Hostname() == "" || !validHost([]byte(u.Host)) || strings.HasPrefix(u.Host, ":"):
		return fmt.Errorf("http1: %s: malformed host", u.Redacted())
	}
	return nil
}

// prepareBody finds out what the body is.
func (c *Call) prepareBody() {
	b, out := &c.body, c.out
	*b = outgoingBody{src: out.Body, length: -1, onLoop: out.Direct}
	if b.src == nil {
		b.length = 0
		return
	}
	switch r := b.src.(type) {
	case *bytes.Buffer:
		b.src = bytes.NewReader(r.Bytes())
	case *os.File:
		if info, err := r.Stat(); err == nil && info.Mode().IsRegular() {
			if at, err := r.Seek(0, io.SeekCurrent); err == nil { // others may use the position
				b.src = io.NewSectionReader(r, at, max(info.Size()-at, 0))
			}
		}
	}
	switch r := b.src.(type) {
	case *bytes.Reader, *strings.Reader:
		b.length = int64(r.(interface{ Len() int }).Len())
		b.at = r.(interface{ Size() int64 }).Size() - b.length
		b.seeks, b.onLoop = true, true
	case *io.SectionReader:
		if _, ok := out.Body.(*os.File); ok {
			b.length, b.seeks, b.onLoop = r.Size(), true, true
		}
	}
	if out.Length != 0 {
		b.length = max(out.Length, -1)
	}
	if len(out.Trailer) > 0 {
		b.length = -1
	}
}

// rewind has the body sent from its beginning; false: it cannot.
func (c *Call) rewind() bool {
	b := &c.body
	switch {
	case b.src == nil || !b.begun:
		return true
	case b.seeks:
		if _, err := b.src.(io.Seeker).Seek(b.at, io.SeekStart); err != nil {
			return false
		}
	case c.out.GetBody != nil:
		r, err := c.out.GetBody()
		if err != nil {
			return false
		}
		b.src = r
	default:
		return false
	}
	b.begun = false
	return true
}

// replayable tells whether rewind would work.
func (c *Call) replayable() bool {
	return c.body.src == nil || !c.body.begun || c.body.seeks || c.out.GetBody != nil
}

// Outgoing returns what Do was given.
func (c *Call) Outgoing() *Outgoing { return c.out }

// URL returns what is asked for now: after a redirection that of where it leads. It must not be changed.
func (c *Call) URL() *url.URL { return c.url }

// Received returns how many octets of the response's body were handed on.
func (c *Call) Received() int64 { return c.received }

// Sent returns how many octets of the request's body were handed to the connection.
func (c *Call) Sent() int64 { return c.sent }

// Over tells whether the call is over: HandleDone was called, or is about to be.
func (c *Call) Over() bool { return c.state == callOver }

// Cancel ends the call with context.Canceled, if it is not over. Nothing but HandleDone is called afterwards.
func (c *Call) Cancel() { c.cancel(context.Canceled) }

// Pause stops the response's body: HandleBody is not called, and the server is not read from, until Resume. What was read when
// Pause was called may still come; when that is the end, HandleDone does, too. A call that is paused is not timed, but for
// ClientTimeouts.Total.
func (c *Call) Pause() {
	c.paused = true
	if c.conn != nil {
		c.conn.hold()
	}
}

// Resume: see Pause.
func (c *Call) Resume() {
	c.paused = false
	if c.conn != nil {
		c.conn.hold()
	}
}

// ResumeBody has a Body asked again that had answered core.ErrWouldBlock.
func (c *Call) ResumeBody() {
	if c.conn != nil {
		c.conn.c.ResumeProducer()
	}
}

// assigned gives the call a connection.
func (c *Call) assigned(cc *clientConn) {
	c.cl.waiting--
	c.state, c.conn = callActive, cc
	cc.call = c
}

// finish makes the call one that is over; false: it was.
func (c *Call) finish() bool {
	if c.state == callOver {
		return false
	}
	if c.state == callWaiting {
		c.cl.waiting--
	}
	c.state = callOver
	c.cl.calls--
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.stop != nil {
		c.stop()
	}
	if c.cl.drained != nil {
		c.cl.schedule()
	}
	return true
}

// end tells the handler that the call is over. It is for where handlers may be called.
func (c *Call) end(err error) {
	if !c.finish() {
		return
	}
	if err == nil {
		c.cl.stats.Whole++
	} else {
		c.cl.stats.Failed++
	}
	c.h.HandleDone(c, err)
}

// cancel is fail for where handlers may not be called: it is told later.
func (c *Call) cancel(err error) {
	if !c.finish() {
		return
	}
	c.err = err
	c.cl.stats.Failed++
	c.cl.ended = append(c.cl.ended, c)
	c.cl.schedule()
	c.release(err)
}

// fail ends the call, and its connection.
func (c *Call) fail(err error) {
	if c.state != callOver {
		c.release(err)
		c.end(err)
	}
}

// release gives the connection up.
func (c *Call) release(err error) {
	if cc := c.conn; cc != nil {
		c.conn, cc.call = nil, nil
		cc.close(err)
	}
}

// restart makes the request again: elsewhere, or once more.
func (c *Call) restart() error {
	c.conn, c.again = nil, nil
	c.received, c.sent = 0, 0
	if !c.rewind() {
		return ErrReplay
	}
	if c.cl.closed != nil && c.cl.drained == nil {
		return c.cl.closed
	}
	return c.cl.enqueue(c)
}

// Response is a response that came in. Its methods are for the loop's goroutine, and what they return as []byte is borrowed, as is
// the Response itself: see ResponseHandler.
type Response struct {
	call *Call
	conn *clientConn
}

// Status returns the status code: 200 to 999, or 1xx for an interim response.
func (r *Response) Status() int { return r.conn.head.status }

// Reason returns the reason phrase, which says nothing that the status code does not.
func (r *Response) Reason() []byte { return r.conn.head.slice(r.conn.head.reason) }

// Minor is the minor version of HTTP: 0 for HTTP/1.0, 1 for HTTP/1.1.
func (r *Response) Minor() int { return int(r.conn.head.minor) }

// Field returns the value of the first header field of that name, in whatever case; nil if there is none.
func (r *Response) Field(name string) []byte { return r.conn.head.Get(name) }

// Fields returns the header fields.
func (r *Response) Fields() *Fields { return &r.conn.head.Fields }

// Header makes an http.Header of the header fields. It may be kept.
func (r *Response) Header() http.Header { return r.conn.head.Header() }

// Trailers returns the trailer fields, in HandleDone; nil if there are none. Nothing that concerns framing, routing or
// authentication should be taken from them: RFC 9110 section 6.5.1.
func (r *Response) Trailers() *Fields {
	if r.conn.trailers.Len() == 0 {
		return nil
	}
	return &r.conn.trailers.Fields
}

// ContentLength is how long the body is, in octets: 0 if there is none, -1 if it is not known beforehand. In answer to HEAD, and
// with 304, it is what the length would be otherwise.
func (r *Response) ContentLength() int64 {
	h := &r.conn.head
	switch {
	case r.conn.framing == lengthBody:
		return h.length
	case r.conn.framing != noBody:
		return -1
	case r.call.method == http.MethodHead || h.status == http.StatusNotModified:
		return h.length
	}
	return 0
}

// bodiless tells whether no body comes, whatever ContentLength says.
func (r *Response) bodiless() bool { return r.conn.framing == noBody }

// URL returns what this is the response to.
func (r *Response) URL() *url.URL { return r.call.url }

// TLS returns the state of the connection's TLS, nil without.
func (r *Response) TLS() *tls.ConnectionState { return r.conn.tls }

// appendTarget appends the request target. What of a query cannot be sent as it is, is percent-encoded.
func appendTarget(p []byte, u *url.URL, method string) []byte {
	if u.Path == "*" && method == http.MethodOptions {
		return append(p, '*')
	}
	path := u.EscapedPath()
	if !strings.HasPrefix(path, "/") {
		p = append(p, '/')
	}
	p = appendEscaped(p, path)
	if u.ForceQuery || u.RawQuery != "" {
		p = appendEscaped(append(p, '?'), u.RawQuery)
	}
	return p
}

func appendEscaped(p []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if b := s[i]; isTarget.at(b) || b == '%' && escaped(s, i) {
			p = append(p, b)
		} else {
			p = append(p, '%', digits[b>>4], digits[b&15])
		}
	}
	return p
}

// appendHead appends the head of the request.
func (c *Call) appendHead(p []byte, cc *clientConn) []byte {
	cl, u := c.cl, c.url
	p = append(append(p, c.method...), ' ')
	viaProxy := cc.host.proxy != nil && u.Scheme == "http"
	if viaProxy { // RFC 9112 section 3.2.2
		p = append(append(p, "http://"...), u.Host...)
		if u.Path == "*" && c.method == http.MethodOptions { // section 3.2.4
			p = append(p, " HTTP/1.1\r\nHost: "...)
		} else {
			p = append(appendTarget(p, u, c.method), " HTTP/1.1\r\nHost: "...)
		}
	} else {
		p = append(appendTarget(p, u, c.method), " HTTP/1.1\r\nHost: "...)
	}
	if c.hostOut != "" {
		p = append(p, c.hostOut...)
	} else {
		p = append(p, strings.TrimSuffix(u.Host, ":"+defaultPort(u.Scheme))...)
	}
	p = append(p, "\r\n"...)
	p = c.appendFields(p)
	if viaProxy {
		p = appendProxyAuth(p, cc.host.proxy)
	}
	p = c.appendFraming(p)
	if cl.NoKeepAlive || wantsClose(c.header) {
		p = append(p, "Connection: close\r\n"...)
	}
	return append(p, "\r\n"...)
}

func wantsClose(h http.Header) bool {
	for name, values := range h {
		if strings.EqualFold(name, "Connection") && slices.ContainsFunc(values, func(v string) bool { return strings.EqualFold(v, "close") }) {
			return true
		}
	}
	return false
}

func (c *Call) appendFields(p []byte) []byte {
	cl := c.cl
	agent, auth, cookies := false, false, ""
	cl.names = cl.names[:0]
	for name := range c.header {
		cl.names = append(cl.names, name)
	}
	slices.Sort(cl.names)
	for _, name := range cl.names {
		values := c.header[name]
		switch http.CanonicalHeaderKey(name) {
		case "User-Agent":
			agent = true
		case "Authorization":
			auth = true
			if c.bare {
				continue
			}
		case "Cookie":
			if !c.bare {
				cookies = strings.Join(values, "; ")
			}
			continue
		case "Connection":
			continue
		}
		for _, v := range values {
			p = clientField(p, name, v)
		}
	}
	if !agent {
		p = clientField(p, "User-Agent", cl.UserAgent)
	}
	if c.auth != "" && !auth && !c.bare {
		p = clientField(p, "Authorization", c.auth)
	}
	if cl.Jar != nil {
		for _, k := range cl.Jar.Cookies(c.url) {
			s := k.Name + "=" + k.Value
			if k.Quoted {
				s = k.Name + `="` + k.Value + `"`
			}
			if !validValue(s) {
				continue
			}
			if cookies != "" {
				cookies += "; "
			}
			cookies += s
		}
	}
	if cookies != "" {
		p = clientField(p, "Cookie", cookies)
	}
	return p
}

func (c *Call) appendFraming(p []byte) []byte {
	switch b := &c.body; {
	case b.src == nil || b.length == 0:
		switch c.method { // RFC 9110 section 8.6
		case http.MethodPost, http.MethodPut, http.MethodPatch:
			p = append(p, "Content-Length: 0\r\n"...)
		default:
			if b.src != nil {
				p = append(p, "Content-Length: 0\r\n"...)
			}
		}
		return p
	case b.length > 0:
		p = append(p, "Content-Length: "...)
		p = strconv.AppendInt(p, b.length, 10)
		p = append(p, "\r\n"...)
	default:
		p = append(p, "Transfer-Encoding: chunked\r\n"...)
		if len(c.out.Trailer) > 0 {
			names := make([]string, 0, len(c.out.Trailer))
			for name := range c.out.Trailer {
				names = append(names, name)
			}
			slices.Sort(names)
			p = clientField(p, "Trailer", strings.Join(names, ", "))
		}
	}
	if c.expects() {
		p = append(p, "Expect: 100-continue\r\n"...)
	}
	return p
}

// expects tells whether the body waits for "100 Continue".
func (c *Call) expects() bool {
	return c.out.Expect && !c.noExpect && c.body.src != nil && c.body.length != 0
}

func appendProxyAuth(p []byte, proxy *url.URL) []byte {
	if proxy.User == nil {
		return p
	}
	password, _ := proxy.User.Password()
	credentials := base64.StdEncoding.EncodeToString([]byte(proxy.User.Username() + ":" + password))
	return clientField(p, "Proxy-Authorization", "Basic "+credentials)
}

func clientField(p []byte, name, value string) []byte {
	p = append(append(p, name...), ": "...)
	return append(append(p, value...), "\r\n"...)
}

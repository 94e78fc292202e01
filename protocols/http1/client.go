package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// Client makes requests over HTTP/1.1 connections, which it keeps for further ones. Its fields must not be changed once it
// is used. Its methods and those of Call are for the loop's goroutine, and none of them calls a handler.
//
//	c := &http1.Client{Loop: loop}
//	_, err := c.Get("http://www.example.com/", func(r *http1.Response, body []byte, err error) { ... })
//
// A connection has one request at a time: nothing is pipelined. A request that finds no connection waits for one, in the
// order of the calls to Do. When a connection that was used before ends before the first octet of an answer, which happens
// when the server closes it just then, the request is made once more if that cannot do harm: see Outgoing.Idempotent.
//
// Responses are read as strictly as a Server reads requests: whatever leaves room for two readings is an error
// (ErrResponse), and so is a body that ends too early (io.ErrUnexpectedEOF). Bodies come as they were sent: no compression
// is asked for, and none is undone.
//
// Connections that wait for a request keep Loop.Run going: see ClientTimeouts.Idle, CloseIdle and Shutdown.
type Client struct {
	// Loop is the loop on which everything happens. It must be set.
	Loop *core.Loop

	// Dialer has the time for connecting and the address to connect from. The addresses of a host are tried in turn.
	Dialer core.Dialer

	// TLSConfig is for https; nil is an empty one. Without a ServerName it is used with the host of the URL, without
	// NextProtos with "http/1.1". Sessions are resumed if it has a ClientSessionCache.
	TLSConfig *tls.Config

	// Proxy says which proxy to ask for a URL; nil, or an answer of nil, is none. Proxies are
	// http://[user:password@]host:port, or https://. To those that the environment names:
	//
	//	func(u *url.URL) (*url.URL, error) { return http.ProxyFromEnvironment(&http.Request{URL: u}) }
	//
	// It is called on the loop, for each request and each redirection.
	Proxy func(u *url.URL) (*url.URL, error)

	// Jar keeps cookies; nil: none are kept or sent.
	Jar http.CookieJar

	// Redirects is how many redirections of a request are followed: 0 is none, and the response that says where to go is
	// handed on like any other. One more than that is ErrRedirects. See RedirectHandler for what is changed on the way.
	Redirects int

	// UserAgent is the User-Agent field of requests that have none: "parley" if it is "".
	UserAgent string

	// NoKeepAlive has each request use a connection of its own.
	NoKeepAlive bool

	Timeouts ClientTimeouts
	Limits   ClientLimits

	once     sync.Once
	err      error // of what is configured
	timeouts ClientTimeouts
	limits   ClientLimits
	headers  headLimits

	hosts   map[hostKey]*clientHost
	idle    []*clientConn // that wait for a request; the longest first
	ready   []*clientHost // where something may be begun
	blocked []*clientHost // that wait for Limits.Conns
	ended   []*Call       // over, and their handlers not told yet
	open    int           // connections
	calls   int           // that are not over
	waiting int           // of these, without a connection
	due     bool          // work is scheduled
	closed  error         // nothing new begins; nil: it does
	drained func()        // of Shutdown
	stats   ClientStats
	scratch []byte   // for request heads
	names   []string // of fields, sorted
}

// ClientStats counts what a Client did.
type ClientStats struct {
	Calls     uint64 // begun by Do
	Whole     uint64 // of these, ended with a whole response
	Failed    uint64 // of these, ended with an error
	Dialled   uint64 // connections, also those that failed
	Reused    uint64 // requests on a connection that was used before
	Retried   uint64 // requests made once more
	Redirects uint64 // followed
	Received  uint64 // octets of bodies
	Sent      uint64 // octets of bodies

	Active  int // calls that are not over
	Waiting int // of these, without a connection
	Open    int // connections
	Idle    int // of these, without a call
}

// Stats returns what was done so far.
func (cl *Client) Stats() ClientStats {
	s := cl.stats
	s.Active, s.Waiting, s.Open, s.Idle = cl.calls, cl.waiting, cl.open, len(cl.idle)
	return s
}

// Errors of a Client: HandleDone gets them, wrapped.
var (
	// ErrResponse: what the server sent is no response, or none that can be trusted. The error says what is wrong, and is an
	// *Error of 502 as well: a Handler of a gateway may return it.
	ErrResponse = errors.New("http1: malformed response")

	// ErrRedirects: more redirections than Client.Redirects.
	ErrRedirects = errors.New("http1: too many redirections")

	// ErrReplay: the request would have to be made once more, and its body cannot be read again.
	ErrReplay = errors.New("http1: the body cannot be sent again")

	// ErrInjected: octets followed the proxy's answer to CONNECT, so that somebody else may have put them there.
	ErrInjected = errors.New("http1: octets between the answer to CONNECT and the handshake")
)

// ConnectError is what a proxy answered to CONNECT if not 2xx.
type ConnectError struct {
	Status int
	Reason string
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("http1: the proxy answers CONNECT with %d %s", e.Status, e.Reason)
}

// responseError is what is wrong with a response.
type responseError struct{ e *Error }

func badResponse(e *Error) error {
	return &responseError{&Error{Status: http.StatusBadGateway, Text: e.text()}}
}

func (e *responseError) Error() string   { return ErrResponse.Error() + ": " + e.e.Text }
func (e *responseError) Unwrap() []error { return []error{ErrResponse, e.e} }

// hostKey is what connections have in common that can be used for the same requests.
type hostKey struct {
	scheme string // of the URL
	addr   string // host:port; "" for http by way of a proxy, which takes any
	proxy  string // as it is configured; "" for none
}

// clientHost is where connections lead to.
type clientHost struct {
	key     hostKey
	proxy   *url.URL
	open    int
	idle    int
	waiting []*Call // from next on; those that are over among them are skipped
	next    int
	ready   bool // is in Client.ready
	blocked bool // is in Client.blocked
}

func (cl *Client) prepare() error {
	cl.once.Do(func() {
		if cl.Loop == nil {
			cl.err = errors.New("http1: Client.Loop is nil")
			return
		}
		if !validValue(cl.UserAgent) {
			cl.err = fmt.Errorf("%w: Client.UserAgent %q", ErrHeader, cl.UserAgent)
			return
		}
		cl.timeouts, cl.limits = cl.Timeouts, cl.Limits
		cl.timeouts.setDefaults()
		cl.limits.setDefaults()
		cl.headers = cl.limits.head()
		cl.hosts = make(map[hostKey]*clientHost)
		if cl.UserAgent == "" {
			cl.UserAgent = "parley"
		}
	})
	return cl.err
}

// Do makes a request. h is called later, and HandleDone of it exactly once and last. An error is returned for what is
// wrong with the request (then h is not called): ErrHeader, core.ErrOverflow when Limits.Waiting calls have no connection
// yet, core.ErrClosed after Close or Shutdown. out and what it points to must stay as they are until HandleDone.
func (cl *Client) Do(out *Outgoing, h ResponseHandler) (*Call, error) {
	if err := cl.prepare(); err != nil {
		return nil, err
	}
	switch {
	case cl.closed != nil:
		return nil, cl.closed
	case cl.limits.Waiting >= 0 && cl.waiting >= cl.limits.Waiting:
		return nil, core.ErrOverflow
	}
	c := &Call{cl: cl, out: out, h: h}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	if err := cl.enqueue(c); err != nil {
		return nil, err
	}
	cl.stats.Calls++
	cl.calls++
	if t := cl.timeouts.Total; t > 0 {
		c.timer = cl.Loop.AfterFunc(t, func() { c.fail(fmt.Errorf("http1: the whole call: %w", core.ErrTimeout)) })
	}
	if ctx := out.Context; ctx != nil {
		c.stop = context.AfterFunc(ctx, func() {
			cl.Loop.Post(func() { c.fail(context.Cause(ctx)) })
		})
	}
	return c, nil
}

// Get is Do for a GET whose body is collected: see Collect.
func (cl *Client) Get(rawURL string, done func(r *Response, body []byte, err error)) (*Call, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	return cl.Do(&Outgoing{URL: u}, Collect(0, done))
}

// enqueue has a call wait for a connection to where its URL leads.
func (cl *Client) enqueue(c *Call) error {
	key := hostKey{scheme: c.url.Scheme, addr: hostPort(c.url)}
	var proxy *url.URL
	if cl.Proxy != nil {
		var err error
		if proxy, err = cl.Proxy(c.url); err != nil {
			return err
		}
	}
	if proxy != nil {
		if err := checkProxy(proxy); err != nil {
			return err
		}
		key.proxy = proxy.String()
		if key.scheme == "http" {
			key.addr = ""
		}
	}
	h := cl.hosts[key]
	if h == nil {
		h = &clientHost{key: key, proxy: proxy}
		cl.hosts[key] = h
	}
	c.host, c.state = h, callWaiting
	h.push(c)
	cl.waiting++
	cl.wake(h)
	return nil
}

func checkProxy(p *url.URL) error {
	switch {
	case p.Scheme != "http" && p.Scheme != "https":
		return fmt.Errorf("http1: proxy %s: the scheme is neither http nor https", p.Redacted())
	case p.Hostname() == "" || !validHost([]byte(p.Host)):
		return fmt.Errorf("http1: proxy %s: malformed host", p.Redacted())
	}
	return nil
}

// hostPort is where to connect to for a URL.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = defaultPort(u.Scheme)
	}
	return net.JoinHostPort(u.Hostname(), port)
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// wake has a host looked at when this event is over.
func (cl *Client) wake(h *clientHost) {
	if !h.ready {
		h.ready = true
		cl.ready = append(cl.ready, h)
	}
	cl.schedule()
}

// schedule has work called when this event is over; on a loop that has ended, if it runs again.
func (cl *Client) schedule() {
	if cl.due {
		return
	}
	if cl.due = true; !cl.Loop.Post(cl.work) {
		cl.Loop.AfterFunc(0, cl.work)
	}
}

// work tells handlers that their calls are over, and begins what waits. A handler that panics does not keep the others from
// theirs.
func (cl *Client) work() {
	cl.due = false
	defer func() {
		if len(cl.ended)+len(cl.ready) > 0 {
			cl.schedule()
		}
	}()
	cl.tell()
	for len(cl.ready) > 0 {
		h := cl.ready[0]
		cl.ready = slices.Delete(cl.ready, 0, 1)
		h.ready = false
		cl.dispatch(h)
	}
	cl.checkDrained()
}

func (cl *Client) tell() {
	for len(cl.ended) > 0 {
		c := cl.ended[0]
		cl.ended[0] = nil
		cl.ended = cl.ended[1:]
		c.h.HandleDone(c, c.err)
	}
	cl.ended = nil
}

// dispatch begins what can be begun of what waits for a host.
func (cl *Client) dispatch(h *clientHost) {
	for h.waits() {
		c := h.waiting[h.next]
		if c.state != callWaiting || c.host != h {
			h.pop()
			continue
		}
		if cc := cl.takeIdle(h); cc != nil {
			h.pop()
			c.assigned(cc)
			cl.stats.Reused++
			cc.begin()
			continue
		}
		switch {
		case h.open >= cl.limits.ConnsPerHost:
			return
		case cl.open >= cl.limits.Conns:
			if len(cl.idle) > 0 { // the one that was used longest ago makes room
				cl.idle[0].close(nil)
			}
			if !h.blocked {
				h.blocked = true
				cl.blocked = append(cl.blocked, h)
			}
			return
		}
		h.pop()
		cl.dial(h, c)
	}
	if h.open == 0 && !h.blocked {
		delete(cl.hosts, h.key)
	}
}

func (h *clientHost) waits() bool { return h.next < len(h.waiting) }

func (h *clientHost) push(c *Call) {
	if h.next > 64 && h.next > len(h.waiting)/2 {
		h.waiting = slices.Delete(h.waiting, 0, h.next)
		h.next = 0
	}
	h.waiting = append(h.waiting, c)
}

func (h *clientHost) pop() {
	h.waiting[h.next] = nil
	if h.next++; h.next < len(h.waiting) {
		return
	}
	h.waiting, h.next = h.waiting[:0], 0
	if cap(h.waiting) > 64 {
		h.waiting, h.next = nil, 0
	}
}

// takeIdle returns the connection to a host that was used last; nil: there is none.
func (cl *Client) takeIdle(h *clientHost) *clientConn {
	for i := len(cl.idle) - 1; i >= 0 && h.idle > 0; i-- {
		if cc := cl.idle[i]; cc.host == h {
			cl.idle = slices.Delete(cl.idle, i, i+1)
			h.idle--
			cc.pooled = false
			return cc
		}
	}
	return nil
}

// dial makes a connection for a call.
func (cl *Client) dial(h *clientHost, c *Call) {
	cc := &clientConn{cl: cl, host: h, state: connDialling}
	addr := h.key.addr
	if h.proxy != nil {
		addr = hostPort(h.proxy)
	}
	cl.stats.Dialled++
	c.assigned(cc)
	d := cl.Dialer
	_, err := chat.DialWith(&d, cl.Loop, "tcp", addr, func(conn *chat.Conn) chat.Handler {
		cc.c = conn
		conn.SetMarks(clientMarks)
		conn.SetWriteTimeout(max(cl.timeouts.Write, 0))
		return cc
	})
	if err != nil {
		cc.call = nil
		c.conn = nil
		c.end(err)
		return
	}
	h.open++
	cl.open++
}

// free takes a connection back that can be used for another request.
func (cl *Client) free(cc *clientConn) {
	h := cc.host
	if !h.waits() && len(cl.blocked) == 0 && (cl.closed != nil || h.idle >= cl.limits.IdlePerHost || cl.limits.Idle <= 0) {
		cc.close(nil)
		return
	}
	if len(cl.idle) >= max(cl.limits.Idle, 1) {
		cl.idle[0].close(nil)
	}
	cc.pooled = true
	h.idle++
	cl.idle = append(cl.idle, cc)
	cc.c.SetIdleTimeout(max(cl.timeouts.Idle, 0))
	if h.waits() {
		cl.wake(h)
	}
	cl.unblock()
}

// unpool takes a connection out of those that wait.
func (cl *Client) unpool(cc *clientConn) {
	if cc.pooled {
		cc.pooled = false
		cc.host.idle--
		i := slices.Index(cl.idle, cc)
		cl.idle = slices.Delete(cl.idle, i, i+1)
	}
}

// unblock has hosts looked at again that wait for Limits.Conns.
func (cl *Client) unblock() {
	for _, h := range cl.blocked {
		h.blocked = false
		cl.wake(h)
	}
	cl.blocked = nil
}

// lost is called when a connection is closed.
func (cl *Client) lost(cc *clientConn, cause error) {
	cl.unpool(cc)
	cl.open--
	cc.host.open--
	cl.wake(cc.host)
	cl.unblock()
	if errors.Is(cause, core.ErrShutdown) || errors.Is(cause, core.ErrClosed) { // the loop's own: nothing is dialled any more
		cl.failWaiting(cause)
		cl.tell()
	}
}

// CloseIdle closes the connections that wait for a request.
func (cl *Client) CloseIdle() {
	for len(cl.idle) > 0 {
		cl.idle[len(cl.idle)-1].close(nil)
	}
}

// Close ends all calls with core.ErrClosed, and all connections. Nothing can be begun afterwards.
func (cl *Client) Close() {
	if cl.prepare() != nil {
		return
	}
	if cl.closed == nil {
		cl.closed = core.ErrClosed
	}
	cl.failWaiting(core.ErrClosed)
	for d := range cl.Loop.All() {
		if conn, ok := chat.Of(d); ok {
			if cc, ok := conn.Handler().(*clientConn); ok && cc.cl == cl {
				if c := cc.call; c != nil {
					c.cancel(core.ErrClosed)
				}
				cc.close(nil)
			}
		}
	}
	cl.schedule()
}

// Shutdown ends the Client when the calls that were begun are over: nothing can be begun any more. done, if it is not nil,
// is called then.
func (cl *Client) Shutdown(done func()) {
	if cl.prepare() != nil {
		return
	}
	if cl.closed == nil {
		cl.closed = core.ErrClosed
	}
	before := cl.drained
	cl.drained = func() {
		if before != nil {
			before()
		}
		if done != nil {
			done()
		}
	}
	cl.CloseIdle()
	cl.schedule()
}

func (cl *Client) checkDrained() {
	if cl.closed == nil || cl.calls > 0 || len(cl.ended) > 0 {
		return
	}
	cl.CloseIdle()
	if f := cl.drained; f != nil {
		cl.drained = nil
		f()
	}
}

// failWaiting ends the calls that have no connection.
func (cl *Client) failWaiting(err error) {
	for _, h := range cl.hosts {
		for _, c := range h.waiting[h.next:] {
			if c.state == callWaiting && c.host == h {
				c.cancel(err)
			}
		}
		h.waiting, h.next = nil, 0
	}
}

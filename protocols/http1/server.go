package http1

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/protocols/proxyproto"
)

// Server serves HTTP/1.0 and 1.1. Its fields must not be changed once it serves. One Server may serve on several loops, if
// its Handler can.
//
//	srv := &http1.Server{Handler: http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
//		_, err := w.WriteString("Hello, World!\n")
//		return err
//	})}
//	_, err := srv.Listen(loop, "tcp", ":8080")
//
// Requests of a connection are answered one after the other, in their order; those that a client sends ahead wait. What
// is no request to the letter of RFC 9112 is answered with 400, or what Error.Status says, and the connection is closed.
type Server struct {
	// Handler answers the requests. It must be set.
	Handler Handler

	// TLSConfig is for ListenTLS; nil: none. Without NextProtos it offers "http/1.1" and "http/1.0".
	TLSConfig *tls.Config

	// AllowConnect gives requests with the method CONNECT to the Handler, which is to see about Hijack. Otherwise they are
	// answered with 501.
	AllowConnect bool

	// AllowOptions gives "OPTIONS *" to the Handler, too. Otherwise it is answered with 200 and no body.
	AllowOptions bool

	// Log, if not nil, is called at the end of each request, on the loop's goroutine: on several loops, at the same time. The
	// Entry and what it points to are borrowed until it returns.
	Log func(*Entry)

	// ProxyFrom are the proxies in front of the server that speak the PROXY protocol; nil: there is none. See
	// smtp.Server.ProxyFrom and package proxyproto.
	ProxyFrom []netip.Prefix

	// Limits bound what clients can do; the zero value has defaults that are safe.
	Limits Limits

	once    sync.Once
	err     error // of what is configured
	limits  Limits
	head    headLimits
	serve   HandlerFunc // Handler.ServeHTTP
	tls     *tls.Config
	totals  totals
	refused atomic.Pointer[refused]

	mu      sync.Mutex
	workers map[*core.Loop]*worker
	before  Counters // what workers counted that are gone
}

// Handler answers requests.
type Handler interface {
	// ServeHTTP is called when a request's head is there, on the loop's goroutine: it must not block. The body is still to
	// come: see Request.OnBody and Request.ReadAll. When ServeHTTP returns the response is complete, unless the body was asked
	// for (then it is complete when the last callback returns) or w.Defer was called (then w.Finish completes it).
	//
	// r and w, and what is borrowed from them, may be used until then. An *Error that it returns is the response, any other
	// error is logged and answered with 500; if the head of a response was sent before, the connection is closed, so that the
	// client sees that the response is not whole. A panic is such an error, too, but http.ErrAbortHandler, which resets the
	// connection without a word.
	ServeHTTP(w *ResponseWriter, r *Request) error
}

// HandlerFunc makes a Handler of a func.
type HandlerFunc func(w *ResponseWriter, r *Request) error

// ServeHTTP calls f.
func (f HandlerFunc) ServeHTTP(w *ResponseWriter, r *Request) error { return f(w, r) }

// Entry is what a log of requests can say about one. See Server.Log.
type Entry struct {
	// Request is the request. If it was refused because it is malformed, its parts may be empty.
	Request *Request

	// Status is that of the response; 0: there was none. Octets is how many octets of its body were handed to the connection,
	// without chunk framing.
	Status int
	Octets int64

	// Start is when the request's head was complete; Duration is how long it took from then until the response was handed to
	// the connection.
	Start    time.Time
	Duration time.Duration

	// Err says why there is no whole response, or why it is not the Handler's; nil: all went well.
	Err error
}

// prepare works out once what the fields say.
func (srv *Server) prepare() error {
	srv.once.Do(func() { srv.err = srv.configure() })
	return srv.err
}

func (srv *Server) configure() error {
	if srv.Handler == nil {
		return errors.New("http1: Server.Handler is nil")
	}
	srv.limits = srv.Limits
	srv.limits.setDefaults()
	srv.head = srv.limits.head()
	srv.serve = srv.Handler.ServeHTTP
	if f, ok := srv.Handler.(HandlerFunc); ok { // a call less for each request
		srv.serve = f
	}
	srv.mu.Lock()
	srv.workers = make(map[*core.Loop]*worker)
	srv.mu.Unlock()
	if srv.TLSConfig != nil {
		if err := tlslayer.CheckServer(srv.TLSConfig); err != nil {
			return err
		}
		srv.tls = srv.TLSConfig
		if len(srv.tls.NextProtos) == 0 {
			srv.tls = srv.tls.Clone()
			srv.tls.NextProtos = []string{"http/1.1", "http/1.0"}
		}
	}
	return nil
}

// NewSession is a newHandler, for chat.Listen, chat.Attach and their kind: it serves the connection. A server that is not
// configured right closes it; Listen and Serve say so beforehand, and Listen alone bounds how many there are.
func (srv *Server) NewSession(c *chat.Conn) chat.Handler { return srv.newSession(c, false) }

// NewSessionTLS is NewSession for connections that begin with TLS.
func (srv *Server) NewSessionTLS(c *chat.Conn) chat.Handler { return srv.newSession(c, true) }

// Serve attaches one connected socket to a loop; for one that begins with TLS there is chat.Attach with NewSessionTLS. On an
// error the socket is still the caller's.
func (srv *Server) Serve(l *core.Loop, s core.Socket) (*chat.Conn, error) {
	if err := srv.prepare(); err != nil {
		return nil, err
	}
	return chat.Attach(l, s, srv.NewSession)
}

// Listen accepts connections on an address, on a loop or those of a Group, within Limits.Conns and ConnsPerAddr: see
// core.Listen for networks and addresses.
func (srv *Server) Listen(r core.Runner, network, address string) (*core.Listener, error) {
	return srv.listen(r, network, address, srv.NewSession)
}

// ListenTLS is Listen for connections that begin with TLS: Server.TLSConfig must be set.
func (srv *Server) ListenTLS(r core.Runner, network, address string) (*core.Listener, error) {
	if srv.TLSConfig == nil {
		return nil, errors.New("http1: ListenTLS without Server.TLSConfig")
	}
	return srv.listen(r, network, address, srv.NewSessionTLS)
}

// refusal is what a connection over a bound gets. It is made once a second: those may be many.
func (srv *Server) refusal(now time.Time) string {
	second := now.Unix()
	r := srv.refused.Load()
	if r == nil || r.second != second {
		p := append(appendStatusLine(nil, http.StatusServiceUnavailable), "Date: "...) // RFC 9110 section 6.6.1
		p = now.UTC().AppendFormat(p, http.TimeFormat)
		p = append(p, "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\nRetry-After: 10\r\n"+
			"Connection: close\r\n\r\nToo many connections\n"...)
		r = &refused{second, string(p)}
		srv.refused.Store(r)
	}
	return r.text
}

type refused struct {
	second int64
	text   string
}

func (srv *Server) listen(
	r core.Runner, network, address string, newHandler func(*chat.Conn) chat.Handler,
) (*core.Listener, error) {
	if err := srv.prepare(); err != nil {
		return nil, err
	}
	lc := core.ListenConfig{Limit: core.Limit{
		Total: srv.limits.Conns, PerAddr: max(srv.limits.ConnsPerAddr, 0), RefusalFunc: srv.refusal,
	}}
	accept := chat.Accept(newHandler)
	if len(srv.ProxyFrom) > 0 {
		accept = proxyproto.Accept(newHandler, proxyproto.Options{
			From: srv.ProxyFrom, PerClient: lc.Limit.PerAddr, RefusalFunc: srv.refusal,
		})
		lc.Limit.PerAddr = 0 // all come from the proxy
	}
	return lc.Listen(r, network, address, accept)
}

// worker is what the sessions of one loop share.
type worker struct {
	loop    *core.Loop
	refs    int           // sessions
	spare   *exchange     // used before, and to be used again next; nil: none
	free    []*exchange   // more of them
	scratch []byte        // for heads
	ok      []byte        // the status line of 200 and the Date field
	date    []byte        // the Date field in ok
	until   time.Duration // when the next second begins, by core.Loop.Lately
	counts  counts
}

const (
	keepWorkers = 16      // that have no session
	keepFree    = 64      // exchanges of a worker
	keepBuffer  = 8 << 10 // octets of each buffer of an exchange
)

// join returns the worker of a loop.
func (srv *Server) join(l *core.Loop) *worker {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	w := srv.workers[l]
	if w == nil {
		w = &worker{loop: l, until: -1}
		srv.workers[l] = w
	}
	w.refs++
	return w
}

// leave is join's end. The worker stays for the next connection, unless there are many: those of loops that ended.
func (srv *Server) leave(w *worker) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if w.refs--; w.refs == 0 && len(srv.workers) > keepWorkers {
		delete(srv.workers, w.loop)
		w.counts.addTo(&srv.before)
	}
}

// take returns an exchange for a request of s.
func (w *worker) take(s *session) *exchange {
	x := w.spare
	if x == nil {
		x = w.other()
	}
	w.spare, x.s, x.flags = nil, s, 0
	return x
}

// other returns an exchange that is not the spare one.
func (w *worker) other() *exchange {
	if n := len(w.free); n > 0 {
		x := w.free[n-1]
		w.free = w.free[:n-1]
		return x
	}
	x := new(exchange)
	x.req.x, x.w.x = x, x
	x.reset()
	return x
}

// give takes an exchange back that nobody can have any more.
func (w *worker) give(x *exchange) {
	switch {
	case w.spare == nil:
		w.spare = x
	case len(w.free) < keepFree:
		w.free = append(w.free, x)
	default:
		return
	}
	x.reset()
	x.flags = xHeadSent | xFinished // for whoever has it all the same
}

// clock brings the date up to date: it is due at until.
func (w *worker) clock() {
	now := w.loop.Now()
	w.until = w.loop.Lately() + time.Second - time.Duration(now.Nanosecond())
	const line = "HTTP/1.1 200 OK\r\n"
	w.ok = append(w.ok[:0], line+"Date: "...)
	w.ok = now.UTC().AppendFormat(w.ok, http.TimeFormat)
	w.ok = append(w.ok, "\r\n"...)
	w.date = w.ok[len(line):]
}

package smtp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/protocols/proxyproto"
)

// Server takes mail in: ESMTP (RFC 5321), or LMTP (RFC 2033), and what Backend says becomes of it. Its fields must not be
// changed once it serves. It serves on a core.Group, or on several, if its Backend can be called on several goroutines.
//
//	srv := &smtp.Server{Hostname: "mail.example.org", Backend: backend, Domains: []string{"example.org"}}
//	_, err := srv.Listen(loop, "tcp", ":25")
//
// A message must end in CRLF.CRLF, and a command in CRLF; a CR or LF by itself ends nothing, and a message or command in
// which there is one is refused.
type Server struct {
	// Hostname is what the server calls itself; the system's host name if "".
	Hostname string

	// Backend gets the messages. It must be set.
	Backend Backend

	// Domains are those whose recipients are accepted if the Backend is no RcptHandler. Without any, and without Auth,
	// such a server takes mail for nobody but Postmaster.
	Domains []string

	// Auth says who may authenticate, and how; nil: nobody (RFC 4954).
	Auth *ServerAuth

	// TLSConfig is for STARTTLS (RFC 3207) and ListenTLS; nil: neither.
	TLSConfig *tls.Config

	// RequireTLS refuses mail, AUTH, VRFY and EXPN without TLS, RequireAuth mail, VRFY and EXPN of who has not authenticated:
	// 530.
	RequireTLS  bool
	RequireAuth bool

	// LMTP makes it an LMTP server: LHLO, and an answer for each recipient of a message. Do not use port 25.
	LMTP bool

	// Extensions are those that are offered, if they can be; DefaultExtensions if nil. STARTTLS and AUTH are not among
	// them: TLSConfig and Auth say whether they are.
	Extensions []string

	// NoReceived leaves the Received header field out that is put in front of each message (RFC 5321 section 4.4).
	NoReceived bool

	// AllowBare takes messages with a CR or LF by itself as they are, instead of refusing them. Only for a server that
	// keeps or drops its messages: who hands one on lets others see more messages in it than there are. A message still
	// ends in CRLF.CRLF only.
	AllowBare bool

	// ProxyFrom are the proxies in front of the server; nil: there is none. Connections of Listen and ListenTLS then begin
	// with a header of the PROXY protocol, version 1 or 2, that says who the client is: that is Session.RemoteAddr, and
	// what Limits.ConnsPerAddr counts. One that comes from elsewhere, or without a header within 5 seconds, is closed
	// without an answer. See package proxyproto; proxyproto.Anybody is for where only proxies can connect.
	ProxyFrom []netip.Prefix

	// GreetDelay is how long the greeting waits. A client that does not wait for it, as junk senders do not, is refused.
	GreetDelay time.Duration

	// Limits bound what clients can do; the zero value has defaults that are safe.
	Limits Limits

	once     sync.Once
	err      error // of what is configured
	hostname string
	limits   Limits
	domains  map[string]bool
	offers   map[string]bool
	hooks    hooks
	totals   totals
}

// DefaultExtensions are offered unless Server.Extensions says otherwise. RFC 2920, 1870, 6152, 3030, 6531, 2034, 9422
var DefaultExtensions = []string{"PIPELINING", "SIZE", "8BITMIME", "CHUNKING", "SMTPUTF8", "ENHANCEDSTATUSCODES", "LIMITS"}

// AllExtensions are those that there are. BINARYMIME, DSN and REQUIRETLS are promises that the Backend has to keep: a
// message that is not made of lines, reports of delivery, TLS on the way on (RFC 3030, 3461, 8689).
var AllExtensions = append(slices.Clone(DefaultExtensions), "BINARYMIME", "DSN", "REQUIRETLS")

// hooks are the optional interfaces that the Backend has.
type hooks struct {
	connect ConnectHandler
	hello   HelloHandler
	mail    MailHandler
	rcpt    RcptHandler
	vrfy    VrfyHandler
	expn    ExpnHandler
	taken   AcceptedHandler
	reset   ResetHandler
	quit    QuitHandler
}

// prepare works out once what the fields say.
func (srv *Server) prepare() error {
	srv.once.Do(func() { srv.err = srv.configure() })
	return srv.err
}

func (srv *Server) configure() error {
	if srv.Backend == nil {
		return errors.New("smtp: Server.Backend is nil")
	}
	if srv.hostname = srv.Hostname; srv.hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("smtp: Server.Hostname is empty, and the system's: %w", err)
		}
		srv.hostname = name
	}
	if !goodHello(srv.hostname) {
		return fmt.Errorf("smtp: Server.Hostname %q is no host name", srv.hostname)
	}
	srv.limits = srv.Limits
	srv.limits.setDefaults()
	srv.domains = make(map[string]bool)
	for _, d := range srv.Domains {
		srv.domains[strings.ToLower(d)] = true
	}
	offers := srv.Extensions
	if offers == nil {
		offers = DefaultExtensions
	}
	srv.offers = make(map[string]bool)
	for _, e := range offers {
		if !slices.Contains(AllExtensions, e) {
			return fmt.Errorf("smtp: Server.Extensions: there is no %q", e)
		}
		srv.offers[e] = true
	}
	if srv.offers["BINARYMIME"] && !srv.offers["CHUNKING"] {
		return errors.New("smtp: Server.Extensions: BINARYMIME needs CHUNKING")
	}
	if srv.TLSConfig != nil {
		if err := tlslayer.CheckServer(srv.TLSConfig); err != nil {
			return err
		}
	}
	if err := srv.Auth.check(); err != nil {
		return err
	}
	h := &srv.hooks
	h.connect, _ = srv.Backend.(ConnectHandler)
	h.hello, _ = srv.Backend.(HelloHandler)
	h.mail, _ = srv.Backend.(MailHandler)
	h.rcpt, _ = srv.Backend.(RcptHandler)
	h.vrfy, _ = srv.Backend.(VrfyHandler)
	h.expn, _ = srv.Backend.(ExpnHandler)
	h.taken, _ = srv.Backend.(AcceptedHandler)
	h.reset, _ = srv.Backend.(ResetHandler)
	h.quit, _ = srv.Backend.(QuitHandler)
	return nil
}

// NewSession is a newHandler, for chat.Listen, chat.Attach and their kind: it greets, and serves the connection. A server
// that is not configured right closes it; Listen and Serve say so beforehand, and Listen alone bounds how many there are.
func (srv *Server) NewSession(c *chat.Conn) chat.Handler { return srv.newSession(c, false) }

// NewSessionTLS is NewSession for connections that begin with TLS: "submissions", port 465 (RFC 8314).
func (srv *Server) NewSessionTLS(c *chat.Conn) chat.Handler { return srv.newSession(c, true) }

// Serve attaches one connected socket to a loop. On an error it is still the caller's.
func (srv *Server) Serve(l *core.Loop, s core.Socket) (*chat.Conn, error) {
	if err := srv.prepare(); err != nil {
		return nil, err
	}
	return chat.Attach(l, s, srv.NewSession)
}

// Listen accepts connections on an address, within Limits.Conns and ConnsPerAddr, which hold for all loops of a Group
// together: see core.Listen for networks and addresses.
func (srv *Server) Listen(r core.Runner, network, address string) (*core.Listener, error) {
	return srv.listen(r, network, address, srv.NewSession)
}

// ListenTLS is Listen for connections that begin with TLS.
func (srv *Server) ListenTLS(r core.Runner, network, address string) (*core.Listener, error) {
	if srv.TLSConfig == nil {
		return nil, errors.New("smtp: ListenTLS without Server.TLSConfig")
	}
	return srv.listen(r, network, address, srv.NewSessionTLS)
}

func (srv *Server) listen(r core.Runner, network, address string, newHandler func(*chat.Conn) chat.Handler) (*core.Listener, error) {
	if err := srv.prepare(); err != nil {
		return nil, err
	}
	lc := core.ListenConfig{Limit: core.Limit{Total: srv.limits.Conns, PerAddr: max(srv.limits.ConnsPerAddr, 0)}}
	lc.Limit.Refusal = string(Replyf(421, "4.7.0", "%s Too many connections, try again later", srv.hostname).appendTo(nil))
	accept := chat.Accept(newHandler)
	if len(srv.ProxyFrom) > 0 {
		accept = proxyproto.Accept(newHandler, proxyproto.Options{
			From: srv.ProxyFrom, PerClient: lc.Limit.PerAddr, Refusal: lc.Limit.Refusal,
		})
		lc.Limit.PerAddr = 0 // all come from the proxy
	}
	return lc.Listen(r, network, address, accept)
}

// local tells whether a domain is one of Server.Domains.
func (srv *Server) local(domain string) bool { return srv.domains[strings.ToLower(domain)] }

package http1

import (
	"bytes"
	"context"
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
)

// Outgoing is a request for Client.Do. It may be used for several, with a Body one after the other.
type Outgoing struct {
	// Method is http.MethodGet if "". CONNECT is not for it.
	Method string

	// URL is http:// or https://. A user name and password in it are sent as Basic authentication unless there is an
	// Authorization field; a fragment is not sent.
	URL *url.URL

	// Host is the Host field; "": that of the URL.
	Host string

	// Header are further fields. Names must be tokens and values must have neither CR, LF nor other controls: ErrHeader.
	// What says how long the request is and what becomes of the connection is not for it (ErrHeader): Content-Length,
	// Transfer-Encoding, Trailer, Expect, Upgrade, Host, Keep-Alive, TE, Proxy-Authorization, and Connection, of which
	// "close" is NoKeepAlive.
	Header http.Header

	// Body is the body; nil: there is none. It is read up to its end or to Length, on the loop if it is a *bytes.Reader,
	// *bytes.Buffer, *strings.Reader or a regular *os.File or if Direct is set, otherwise on another goroutine; it may be
	// read from for a while after the call has ended. It is not closed. What those four have from their position on is
	// their length, which is sent beforehand, and they can be read again for a redirection or a second attempt.
	Body io.Reader

	// Length is how long the body is, in octets; 0: what Body is known to have, otherwise it is sent in chunks; negative: in
	// chunks. A Body that ends earlier is an error (io.ErrUnexpectedEOF), and further octets are not read.
	Length int64

	// GetBody returns the body once more, for a Body that is not one of the four.
	GetBody func() (io.Reader, error)

	// Direct has Body read on the loop: it must not block. When it has nothing for now it answers core.ErrWouldBlock, and
	// Call.ResumeBody has it asked again.
	Direct bool

	// Trailer are fields behind a body in chunks. Its names are announced in the head; its values are looked up when the
	// body is at its end. RFC 9110 section 6.5
	Trailer http.Header

	// Expect has the server say "100 Continue" before the body is sent, if there is one: RFC 9110 section 10.1.1. See
	// ClientTimeouts.Continue. After 417 the request is made once more without.
	Expect bool

	// Idempotent says that to make the request twice does what making it once does, as that of GET, HEAD, OPTIONS, TRACE,
	// PUT and DELETE: RFC 9110 section 9.2.2.
	Idempotent bool

	// BodyLimit is the largest body of the response, in octets; 0: ClientLimits.Body.
	BodyLimit int64

	// Context ends the call when it is done, with its cause; nil: nothing does.
	Context context.Context
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
		for _, v := range values {
			if strings.EqualFold(name, "Connection") && strings.EqualFold(v, "close") {
				return true
			}
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

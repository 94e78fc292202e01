package http1

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/parley-go/parley/core"
)

// followUp says what is to be done after a response instead of handing it on; nil: nothing, it is the handler's.
func (c *Call) followUp() (again func() error, err error) {
	h := &c.conn.head
	if h.status == http.StatusExpectationFailed && c.expects() && !c.body.begun {
		return func() error {
			c.noExpect = true
			return c.restart()
		}, nil
	}
	if h.status == http.StatusRequestTimeout && c.conn.used && h.known&saysClose != 0 && c.mayRetry() {
		return func() error { // it was about to be closed for idleness: RFC 9110 section 15.5.9
			c.retried = true
			c.cl.stats.Retried++
			return c.restart()
		}, nil
	}
	if c.cl.Redirects <= 0 {
		return nil, nil
	}
	switch h.status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	location := h.Get("Location")
	if location == nil {
		return nil, nil
	}
	to, err := c.url.Parse(string(location))
	if err == nil {
		to.User = nil // of whoever we go to, not of whom we come from
		err = checkURL(to)
	}
	if err != nil {
		return nil, fmt.Errorf("http1: redirection: %w", err)
	}
	if c.redirects >= c.cl.Redirects {
		return nil, fmt.Errorf("%w: %d", ErrRedirects, c.redirects)
	}
	keep := h.status == http.StatusTemporaryRedirect || h.status == http.StatusPermanentRedirect
	if keep && !c.replayable() {
		return nil, fmt.Errorf("http1: redirection with %d: %w", h.status, ErrReplay)
	}
	if r, ok := core.As[RedirectHandler](c.h); ok {
		switch err := r.HandleRedirect(c, &c.resp, to); {
		case errors.Is(err, http.ErrUseLastResponse):
			return nil, nil
		case err != nil:
			return nil, err
		}
	}
	return func() error {
		c.redirects++
		c.cl.stats.Redirects++
		c.redirect(to, keep)
		return c.restart()
	}, nil
}

// redirect changes the request: RFC 9110 section 15.4.
func (c *Call) redirect(to *url.URL, keep bool) {
	same := sameOrigin(c.url, to)
	c.url, c.retried, c.noExpect = to, false, false
	if !same {
		c.bare, c.hostOut = true, ""
	}
	if keep {
		return
	}
	if c.method != http.MethodHead {
		c.method = http.MethodGet
	}
	if c.body.src == nil {
		return
	}
	c.body = outgoingBody{}
	header := make(http.Header, len(c.header))
	for name, values := range c.header {
		if !strings.HasPrefix(http.CanonicalHeaderKey(name), "Content-") {
			header[name] = values
		}
	}
	c.header = header
}

// sameOrigin tells whether what is for one URL's server may be told to the other's: scheme, host and port are equal, or it
// is the same host on the usual ports, and from http to https.
func sameOrigin(from, to *url.URL) bool {
	if !strings.EqualFold(from.Hostname(), to.Hostname()) {
		return false
	}
	if from.Scheme == to.Scheme {
		return hostPort(from) == strings.Replace(hostPort(to), to.Hostname(), from.Hostname(), 1)
	}
	usual := strings.HasSuffix(hostPort(from), ":80") && strings.HasSuffix(hostPort(to), ":443")
	return from.Scheme == "http" && to.Scheme == "https" && usual
}

package smtp

import (
	"crypto/tls"
	"errors"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// upgradeTLS is the one place where a conversation changes to TLS: output that was pushed goes out in the clear before,
// input that was read and not worked on is dropped and counted, and HandleSecure follows when the handshake is over, or
// HandleClose. nil: this build cannot, and STARTTLS is not offered.
var upgradeTLS func(c *chat.Conn, cfg *tls.Config) (dropped int, err error)

// canStartTLS tells whether STARTTLS is offered.
func (s *Session) canStartTLS() bool {
	return s.srv.TLSConfig != nil && upgradeTLS != nil && s.tls == nil
}

// startTLS is STARTTLS: RFC 3207. Commands that were sent behind it were not protected, and are dropped.
func (s *Session) startTLS(arg string) {
	switch {
	case s.tls != nil:
		s.wrong(503, "5.5.1", "TLS is there already")
	case s.srv.TLSConfig == nil:
		s.wrong(502, "5.5.1", "STARTTLS not implemented")
	case !s.noArgument(arg):
	case s.hello == "":
		s.wrong(503, "5.5.1", "Say EHLO first")
	case !s.canStartTLS():
		s.wrong(454, "4.7.0", "TLS not available")
	default:
		s.say(220, "2.0.0", "Ready for TLS")
		s.secured = true
		s.secure()
	}
}

// secure begins the handshake. Nothing that was said in the clear counts any more: RFC 3207 section 4.2.
func (s *Session) secure() {
	s.reset()
	s.hello, s.esmtp, s.user, s.auth = "", false, "", nil
	s.mode = modeTLS
	s.expect(s.srv.limits.TLSTimeout)
	if upgradeTLS == nil || s.srv.TLSConfig == nil {
		_ = s.c.CloseWith(errNoTLS)
		return
	}
	s.upgrade()
}

// flushed are marks that tell when all output is sent.
var flushed = &buffered.Marks{Low: 0, High: 0, Limit: buffered.DefaultMarks.Limit}

// upgrade has the conversation change to TLS, once the peer has taken what was said in the clear.
func (s *Session) upgrade() {
	dropped, err := upgradeTLS(s.c, s.srv.TLSConfig)
	switch {
	case err == nil:
	case errors.Is(err, core.ErrUnsupported) && s.c.Queued() > 0:
		s.draining = true
		s.c.SetMarks(flushed)
		s.c.Pause()
		return
	default:
		_ = s.c.CloseWith(err)
		return
	}
	if dropped > 0 {
		s.count(cInjected, int64(dropped))
		s.c.Loop().Logger().Warn("smtp: octets behind STARTTLS were dropped", "channel", s.c.String(), "octets", dropped)
	}
}

// HandleHigh is there for the pair.
func (h *sessionHandler) HandleHigh(*chat.Conn) error { return nil }

// HandleLow: the answer to STARTTLS is out.
func (h *sessionHandler) HandleLow(c *chat.Conn) error {
	s := (*Session)(h)
	if s.draining {
		s.draining = false
		c.SetMarks(nil)
		s.upgrade()
		if !s.draining {
			c.Resume()
		}
	}
	return nil
}

var errNoTLS = Replyf(454, "4.7.0", "TLS not available")

// HandleSecure: the handshake is over. After STARTTLS the client begins anew; a connection that began with TLS is greeted.
func (h *sessionHandler) HandleSecure(c *chat.Conn, state tls.ConnectionState) error {
	s := (*Session)(h)
	if s.mode != modeTLS {
		return nil
	}
	s.tls = &state
	s.count(cSecured, 1)
	c.SetTerminator(chat.CRLF)
	if s.secured {
		s.nextCommand()
	} else {
		s.connected()
	}
	return nil
}

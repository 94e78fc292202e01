package smtp

import (
	"crypto/tls"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
)

// upgradeTLS is how a conversation changes to TLS: the session has a deadline for the handshake already. Tests replace it.
var upgradeTLS = func(c *chat.Conn, cfg *tls.Config) (dropped int, err error) {
	return c.Upgrade(func(s core.Socket) (core.Layered, error) {
		layer := tlslayer.Server(s, cfg)
		layer.SetHandshakeTimeout(0)
		return layer, nil
	}, false)
}

// canStartTLS tells whether STARTTLS is offered.
func (s *Session) canStartTLS() bool { return s.srv.TLSConfig != nil && s.tls == nil }

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
	dropped, err := upgradeTLS(s.c, s.srv.TLSConfig)
	if err != nil {
		_ = s.c.CloseWith(err)
		return
	}
	if dropped > 0 {
		s.count(cInjected, int64(dropped))
		s.c.Loop().Logger().Warn("smtp: octets behind STARTTLS were dropped", "channel", s.c.String(), "octets", dropped)
	}
}

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

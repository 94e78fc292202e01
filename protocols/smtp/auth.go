package smtp

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/parley-go/parley/chat"
)

// ServerAuth says who may authenticate, and how: Server.Auth. RFC 4954
type ServerAuth struct {
	// Password judges a user and a password: PLAIN (RFC 4616) and LOGIN, which are offered if it is set. nil accepts;
	// ErrCredentials is 535, *Reply answers so, another error is 454 and is logged; s.Later decides later. What it compares
	// it should compare in constant time (crypto/subtle).
	Password func(s *Session, user, password string) error

	// Secret returns a user's password, for CRAM-MD5 (RFC 2195), which is offered if it is set. Errors as with Password,
	// but s.Later is none of them.
	Secret func(s *Session, user string) (string, error)

	// Mechanisms are further ones.
	Mechanisms []ServerMechanism

	// AllowInsecure offers PLAIN and LOGIN without TLS, too: anybody on the way can read the passwords.
	AllowInsecure bool
}

// ServerMechanism is a SASL mechanism.
type ServerMechanism struct {
	Name     string // in upper case, such as "XOAUTH2"
	Insecure bool   // it may be used without TLS

	// New begins an exchange.
	New func(s *Session) ServerExchange
}

// ServerExchange is one use of a mechanism.
type ServerExchange interface {
	// Next is given the client's response; nil at first if the client sent none with AUTH. It returns the next challenge,
	// or done when the client is authenticated. Errors as with ServerAuth.Password; s.Later may be returned together with
	// the other results, which then hold if the work has no error.
	Next(response []byte) (challenge []byte, done bool, err error)

	// User is who was authenticated, once done; never "".
	User() string
}

// ErrCredentials: a wrong user or password: 535.
var ErrCredentials error = Replyf(535, "5.7.8", "Authentication credentials invalid")

// exchange is what is under way.
type exchange struct {
	ServerExchange
	challenge []byte
	done      bool
}

// check tells whether what is configured makes sense.
func (a *ServerAuth) check() error {
	if a == nil {
		return nil
	}
	if a.Password == nil && a.Secret == nil && len(a.Mechanisms) == 0 {
		return errors.New("smtp: Server.Auth has neither Password nor Secret nor Mechanisms")
	}
	for _, m := range a.Mechanisms {
		if !goodKeyword(m.Name) || m.Name != strings.ToUpper(m.Name) || m.New == nil {
			return fmt.Errorf("smtp: Server.Auth.Mechanisms: %q has no good name, or no New", m.Name)
		}
	}
	return nil
}

// mechanism returns the one of that name, and whether it may be used on this connection.
func (s *Session) mechanism(name string) (m ServerMechanism, allowed bool) {
	a := s.srv.Auth
	switch {
	case name == "PLAIN" && a.Password != nil:
		m = ServerMechanism{Name: name, New: func(s *Session) ServerExchange { return &plain{s: s} }}
	case name == "LOGIN" && a.Password != nil:
		m = ServerMechanism{Name: name, New: func(s *Session) ServerExchange { return &login{s: s} }}
	case name == "CRAM-MD5" && a.Secret != nil:
		m = ServerMechanism{Name: name, Insecure: true, New: func(s *Session) ServerExchange { return &cram{s: s} }}
	default:
		for _, m = range a.Mechanisms {
			if m.Name == name {
				return m, m.Insecure || s.tls != nil
			}
		}
		return ServerMechanism{}, false
	}
	return m, m.Insecure || s.tls != nil || a.AllowInsecure
}

// mechanisms are the names of those that may be used on this connection.
func (s *Session) mechanisms() string {
	if s.srv.Auth == nil || s.srv.RequireTLS && s.tls == nil {
		return ""
	}
	var names []string
	add := func(name string) {
		if _, allowed := s.mechanism(name); allowed && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range []string{"PLAIN", "LOGIN", "CRAM-MD5"} {
		add(name)
	}
	for _, m := range s.srv.Auth.Mechanisms {
		add(m.Name)
	}
	return strings.Join(names, " ")
}

// authenticate is AUTH.
func (s *Session) authenticate(arg string) {
	if s.srv.Auth == nil {
		s.wrong(502, "5.5.1", "AUTH not implemented")
		return
	}
	name, initial, _ := strings.Cut(arg, " ")
	m, allowed := s.mechanism(upper(name))
	switch {
	case s.hello == "" || !s.esmtp:
		s.wrong(503, "5.5.1", "Say "+s.ehlo()+" first")
	case s.srv.RequireTLS && s.tls == nil:
		s.permitted()
	case s.user != "":
		s.wrong(503, "5.5.1", "You have authenticated already")
	case s.tx != nil:
		s.wrong(503, "5.5.1", "Not within a message")
	case name == "":
		s.wrong(501, "5.5.4", "Syntax: "+syntax["AUTH"])
	case m.New == nil:
		s.wrong(504, "5.5.4", "Mechanism not known")
	case !allowed:
		s.wrong(538, "5.7.11", "Encryption required")
	default:
		var response []byte
		if initial != "" {
			var ok bool
			if response, ok = decodeBase64(initial); !ok {
				s.wrong(501, "5.5.2", "That is not base64")
				return
			}
		}
		s.auth = &exchange{ServerExchange: m.New(s)}
		s.authStep(response)
	}
}

// decodeBase64 decodes a response; "=" is an empty one.
func decodeBase64(s string) ([]byte, bool) {
	if s == "=" {
		return []byte{}, true
	}
	p, err := base64.StdEncoding.Strict().DecodeString(s)
	if p == nil {
		p = []byte{}
	}
	return p, err == nil
}

// authAnswer is a line that answers a challenge.
func (s *Session) authAnswer() {
	raw, over := s.take()
	s.mode = modeCommand
	response, ok := decodeBase64(string(raw))
	switch {
	case over:
		s.auth = nil
		s.wrong(500, "5.5.6", "Line too long")
	case badOctets(raw): // which base64 of Go skips, CR and LF
		s.auth = nil
		s.wrong(500, "5.5.2", "Control characters in a response, or a line that does not end in CRLF")
	case string(raw) == "*":
		s.auth = nil
		s.wrong(501, "5.7.0", "Authentication cancelled")
	case !ok || string(raw) == "=":
		s.auth = nil
		s.wrong(501, "5.5.2", "That is not base64")
	default:
		s.authStep(response)
	}
}

func (s *Session) authStep(response []byte) {
	x := s.auth
	var err error
	x.challenge, x.done, err = x.Next(response)
	s.settle(err, (*Session).authStepped)
}

var errNoUser = errors.New("smtp: a ServerExchange is done, and has no User")

func (s *Session) authStepped(err error) {
	x := s.auth
	if err == nil && x.done && x.User() == "" {
		err = errNoUser
	}
	var r *Reply
	if err != nil {
		if r = replyOf(err); r == nil {
			s.c.Loop().Logger().Error("smtp auth", "channel", s.c.String(), "error", err)
			r = Replyf(454, "4.7.0", "Authentication not possible now, try again later")
		}
	}
	switch {
	case r != nil && !r.Positive():
		s.auth = nil
		s.authFailed(r)
	case x.done:
		s.auth, s.user = nil, x.User()
		s.expect(s.srv.limits.IdleTimeout)
		s.say(235, "2.7.0", "Authentication successful")
	default:
		s.mode = modeAuth
		s.expect(s.srv.limits.IdleTimeout)
		s.c.SetTerminator(chat.CRLF)
		_ = s.c.PushString("334 " + base64.StdEncoding.EncodeToString(x.challenge) + "\r\n")
	}
}

// authFailed answers a failed AUTH, after some time: guessing is to be slow.
func (s *Session) authFailed(r *Reply) {
	s.count(cAuthFailures, 1)
	s.delay(s.srv.limits.AuthDelay, func(s *Session, _ error) {
		if s.srv.limits.AuthFailures > 0 && s.counts[cAuthFailures] >= int64(s.srv.limits.AuthFailures) {
			s.bye(421, "4.7.0", "Too many failed authentications", ErrTooMuch)
			return
		}
		s.count(cErrors, 1)
		s.errors++
		s.respond(s.verdict(r), nil)
	})
}

// plain is PLAIN: RFC 4616.
type plain struct {
	s    *Session
	user string
}

func (x *plain) User() string { return x.user }

func (x *plain) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil {
		return nil, false, nil
	}
	parts := strings.Split(string(response), "\x00")
	if len(parts) != 3 || parts[1] == "" || !utf8.Valid(response) {
		return nil, false, Replyf(501, "5.5.2", "Not a message of PLAIN")
	}
	if parts[0] != "" && parts[0] != parts[1] {
		return nil, false, ErrCredentials // nobody acts for others here
	}
	x.user = parts[1]
	return nil, true, x.s.srv.Auth.Password(x.s, parts[1], parts[2])
}

// login is LOGIN, which no RFC describes.
type login struct {
	s    *Session
	user string
}

func (x *login) User() string { return x.user }

func (x *login) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil:
		return []byte("Username:"), false, nil
	case !utf8.Valid(response) || len(response) == 0 && x.user == "":
		return nil, false, Replyf(501, "5.5.2", "No user or password")
	case x.user == "":
		x.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, x.s.srv.Auth.Password(x.s, x.user, string(response))
}

// cram is CRAM-MD5: RFC 2195.
type cram struct {
	s         *Session
	challenge string
	user      string
}

// random makes challenges that nobody can foresee.
var random = func(p []byte) { _, _ = rand.Read(p) }

func (x *cram) User() string { return x.user }

func (x *cram) Next(response []byte) (challenge []byte, done bool, err error) {
	if x.challenge == "" {
		if response != nil {
			return nil, false, Replyf(501, "5.5.4", "CRAM-MD5 has no initial response")
		}
		var nonce [16]byte
		random(nonce[:])
		x.challenge = fmt.Sprintf("<%x@%s>", nonce, x.s.srv.hostname)
		return []byte(x.challenge), false, nil
	}
	i := strings.LastIndexByte(string(response), ' ')
	if i <= 0 || !utf8.Valid(response) {
		return nil, false, Replyf(501, "5.5.2", "Not a message of CRAM-MD5")
	}
	user, digest := string(response[:i]), string(response[i+1:])
	secret, err := x.s.srv.Auth.Secret(x.s, user)
	if err != nil && asLater(err) != nil {
		err = errLater
	}
	mac := hmac.New(md5.New, []byte(secret)) // also without a secret: an unknown user takes as long
	mac.Write([]byte(x.challenge))
	right := hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(strings.ToLower(digest)))
	switch {
	case err != nil:
		return nil, false, err
	case !right:
		return nil, false, ErrCredentials
	}
	x.user = user
	return nil, true, nil
}

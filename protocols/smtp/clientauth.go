package smtp

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ClientAuth says who a Client is, and how it may tell: Client.Auth. RFC 4954
type ClientAuth struct {
	// User and Password are for PLAIN (RFC 4616), CRAM-MD5 (RFC 2195) and LOGIN. They must be UTF-8 without NUL.
	User, Password string

	// Identity is for whom the user acts, with PLAIN; "": for himself.
	Identity string

	// Mechanisms are further ones. The first of them that the server offers is preferred to those above, of which without
	// TLS CRAM-MD5 comes first, and otherwise PLAIN.
	Mechanisms []ClientMechanism

	// AllowInsecure uses PLAIN and LOGIN without TLS, too: anybody on the way can read the password.
	AllowInsecure bool
}

// ClientMechanism is a SASL mechanism.
type ClientMechanism struct {
	Name     string // in upper case, such as "XOAUTH2"
	Insecure bool   // it may be used without TLS

	// New begins an exchange. secure tells whether it is protected by TLS.
	New func(secure bool) ClientExchange
}

// ClientExchange is one use of a mechanism.
type ClientExchange interface {
	// Next is given the server's challenge and returns the response to it. At first it is given nil: what it returns goes
	// out with AUTH itself, and nil then means that the server begins. An error gives the connection up. It must not block.
	Next(challenge []byte) (response []byte, err error)
}

// maxAuthLine bounds what is sent in AUTH: RFC 4954 section 4.
const maxAuthLine = 12288

// check tells whether what is configured makes sense.
func (a *ClientAuth) check() error {
	if a == nil {
		return nil
	}
	if a.User == "" && len(a.Mechanisms) == 0 {
		return errors.New("smtp: Client.Auth has neither User nor Mechanisms")
	}
	for _, s := range []string{a.User, a.Password, a.Identity} {
		if strings.IndexByte(s, 0) >= 0 || s != "" && validUTF8(s) == 0 {
			return errors.New("smtp: Client.Auth: what is not UTF-8, or has a NUL, cannot be sent")
		}
	}
	for _, m := range a.Mechanisms {
		if !goodMechanism(m.Name) || m.New == nil {
			return fmt.Errorf("smtp: Client.Auth.Mechanisms: %q has no good name, or no New", m.Name)
		}
	}
	return nil
}

// goodMechanism tells whether s may be the name of a mechanism. RFC 4422 section 3.1
func goodMechanism(s string) bool {
	for i := range len(s) {
		if c := s[i]; !(c >= 'A' && c <= 'Z' || isDigit(c) || c == '-' || c == '_') {
			return false
		}
	}
	return s != "" && len(s) <= 20
}

// choose returns the mechanism to use among those that are offered.
func (a *ClientAuth) choose(offered string, secure bool) (ClientMechanism, bool) {
	names := strings.Fields(strings.ToUpper(offered))
	known := a.Mechanisms
	if a.User != "" {
		plain := ClientMechanism{"PLAIN", a.AllowInsecure, func(bool) ClientExchange { return &clientPlain{a, false} }}
		cram := ClientMechanism{"CRAM-MD5", true, func(bool) ClientExchange { return &clientCRAM{a, false} }}
		login := ClientMechanism{"LOGIN", a.AllowInsecure, func(bool) ClientExchange { return &clientLogin{a: a} }}
		known = append(known[:len(known):len(known)], cram, plain, login)
		if secure {
			n := len(known)
			known[n-3], known[n-2] = plain, cram
		}
	}
	for _, m := range known {
		for _, name := range names {
			if name == m.Name && (secure || m.Insecure) {
				return m, true
			}
		}
	}
	return ClientMechanism{}, false
}

// authenticate is AUTH, if that is wanted.
func (c *Client) authenticate() {
	if c.Auth == nil {
		c.open()
		return
	}
	c.step = stepAuth
	offered, _ := c.Offers("AUTH")
	m, ok := c.Auth.choose(offered, c.tls != nil)
	if !ok {
		c.leave(nil, fmt.Errorf("%w: offered: %q", ErrNoAuth, offered))
		return
	}
	c.exchange = m.New(c.tls != nil)
	response, err := c.exchange.Next(nil)
	line := "AUTH " + m.Name
	switch {
	case err != nil:
		c.leave(nil, err)
		return
	case response != nil && len(response) == 0:
		line += " ="
	case response != nil:
		line += " " + base64.StdEncoding.EncodeToString(response)
	}
	if len(line)+2 > maxAuthLine {
		c.leave(nil, fmt.Errorf("%w: a response of %d octets", ErrNoAuth, len(response)))
		return
	}
	c.command(stepAuth, c.timeouts.Auth, line)
}

// authAnswered is the answer to AUTH, or to a response.
func (c *Client) authAnswered(r *Reply) {
	switch {
	case r.Code == 334:
		c.challenged(r)
	case r.Code/100 == 2:
		c.exchange = nil
		c.open()
	case r.Positive():
		c.misplaced(r)
	default:
		c.leave(r, nil)
	}
}

// challenged answers a challenge.
func (c *Client) challenged(r *Reply) {
	challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.text()))
	if err != nil {
		err = fmt.Errorf("%w: a challenge that is not base64", ErrBadReply)
	}
	var response []byte
	if err == nil {
		response, err = c.exchange.Next(challenge)
	}
	line := base64.StdEncoding.EncodeToString(response)
	if err == nil && len(line)+2 > maxAuthLine {
		err = fmt.Errorf("%w: a response of %d octets", ErrNoAuth, len(response))
	}
	if err != nil {
		c.verdict = c.fail(err)
		c.command(stepCancel, c.timeouts.Auth, "*")
		return
	}
	c.command(stepAuth, c.timeouts.Auth, line)
}

// text is the first line as it came.
func (r *Reply) text() string {
	if r.Enhanced == "" {
		return r.Lines[0]
	}
	return r.Enhanced + " " + r.Lines[0]
}

var errUnexpectedChallenge = fmt.Errorf("%w: a challenge too many", ErrBadReply)

type clientPlain struct {
	a    *ClientAuth
	said bool
}

func (x *clientPlain) Next([]byte) ([]byte, error) {
	if x.said {
		return nil, errUnexpectedChallenge
	}
	x.said = true
	return []byte(x.a.Identity + "\x00" + x.a.User + "\x00" + x.a.Password), nil
}

// clientLogin is LOGIN: what the challenges say differs between servers, their order does not.
type clientLogin struct {
	a    *ClientAuth
	said int
}

func (x *clientLogin) Next(challenge []byte) ([]byte, error) {
	if challenge == nil {
		return nil, nil
	}
	x.said++
	switch x.said {
	case 1:
		return []byte(x.a.User), nil
	case 2:
		return []byte(x.a.Password), nil
	}
	return nil, errUnexpectedChallenge
}

type clientCRAM struct {
	a    *ClientAuth
	said bool
}

func (x *clientCRAM) Next(challenge []byte) ([]byte, error) {
	switch {
	case challenge == nil:
		return nil, nil
	case x.said:
		return nil, errUnexpectedChallenge
	}
	x.said = true
	mac := hmac.New(md5.New, []byte(x.a.Password))
	mac.Write(challenge)
	return []byte(x.a.User + " " + hex.EncodeToString(mac.Sum(nil))), nil
}

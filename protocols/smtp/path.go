package smtp

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// ErrPath: it is no path or mailbox of RFC 5321 section 4.1.2.
var ErrPath = errors.New("smtp: no such form of an address")

// ErrPathUTF8: it would be a path if SMTPUTF8 (RFC 6531) were in force.
var ErrPathUTF8 = errors.New("smtp: an address that is not ASCII needs SMTPUTF8")

// String is the path as it is sent, with its angle brackets and, where the local part needs them, quotes.
func (p Path) String() string {
	if p.IsNull() {
		return "<>"
	}
	if p.Domain == "" {
		return "<" + quoteLocal(p.Local) + ">"
	}
	return "<" + p.Address() + ">"
}

// Address is the path without its angle brackets; "" for the null path.
func (p Path) Address() string {
	if p.Domain == "" {
		return quoteLocalPart(p.Local)
	}
	return quoteLocal(p.Local) + "@" + p.Domain
}

// IsNull tells whether it is the null path, "<>".
func (p Path) IsNull() bool { return p.Local == "" && p.Domain == "" }

// IsASCII tells whether the path can be sent without SMTPUTF8.
func (p Path) IsASCII() bool { return isASCII(p.Local) && isASCII(p.Domain) }

func quoteLocalPart(local string) string {
	if local == "" {
		return ""
	}
	return quoteLocal(local)
}

// quoteLocal is a local part as it is sent.
func quoteLocal(local string) string {
	if n := dotString(local, true); n > 0 && n == len(local) {
		return local
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(local) {
		if c := local[i]; c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(local[i])
	}
	b.WriteByte('"')
	return b.String()
}

// ParsePath reads a path from the beginning of s: "<" mailbox ">", the null path "<>", or "<Postmaster>" in any case. A
// source route is skipped (RFC 5321 section 4.1.1.3). rest is what follows. utf8 allows what RFC 6531 section 3.3 adds.
// Errors: ErrPath, ErrPathUTF8.
func ParsePath(s string, utf8 bool) (p Path, rest string, err error) {
	if s == "" || s[0] != '<' {
		return Path{}, s, ErrPath
	}
	in := s[1:]
	if in != "" && in[0] == '>' {
		return Path{}, in[1:], nil
	}
	if in, err = skipRoute(in, utf8); err != nil {
		return Path{}, s, err
	}
	if len(in) > len("postmaster") && in[len("postmaster")] == '>' && equalFold(in[:len("postmaster")], "postmaster") {
		return Path{Local: in[:len("postmaster")]}, in[len("postmaster")+1:], nil
	}
	p, rest, err = parseMailbox(in, utf8)
	if err != nil {
		return Path{}, s, err
	}
	if rest == "" || rest[0] != '>' || len(s)-len(rest)+1 > MaxPath {
		return Path{}, s, ErrPath
	}
	return p, rest[1:], nil
}

// ParseMailbox reads an address without angle brackets, all of s. Errors: ErrPath, ErrPathUTF8.
func ParseMailbox(s string, utf8 bool) (Path, error) {
	p, rest, err := parseMailbox(s, utf8)
	if err == nil && rest != "" {
		err = ErrPath
	}
	if err != nil {
		return Path{}, err
	}
	return p, nil
}

// skipRoute skips "@a,@b:".
func skipRoute(s string, utf8 bool) (string, error) {
	for first := true; ; first = false {
		switch {
		case first && (s == "" || s[0] != '@'):
			return s, nil
		case s == "" || s[0] != '@':
			return s, ErrPath
		}
		n, err := domain(s[1:], utf8)
		if err != nil {
			return s, err
		}
		s = s[1+n:]
		switch {
		case s != "" && s[0] == ',':
			s = s[1:]
		case s != "" && s[0] == ':':
			return s[1:], nil
		default:
			return s, ErrPath
		}
	}
}

func parseMailbox(s string, utf8 bool) (p Path, rest string, err error) {
	if s != "" && s[0] == '"' {
		p.Local, rest, err = quotedString(s, utf8)
	} else {
		n := dotString(s, utf8)
		p.Local, rest = s[:n], s[n:]
	}
	switch {
	case err != nil:
		return p, s, err
	case rest != "" && rest[0] >= 0x80 && !utf8:
		return p, s, ErrPathUTF8
	case len(p.Local) > MaxLocalPart, rest == "", rest[0] != '@', len(s) == len(rest):
		return p, s, ErrPath
	}
	n, err := domain(rest[1:], utf8)
	if err != nil {
		return p, s, err
	}
	p.Domain = rest[1 : 1+n]
	return p, rest[1+n:], nil
}

// dotString returns how much of s is atoms with single dots between them.
func dotString(s string, utf8 bool) (n int) {
	for {
		atom := 0
		for n+atom < len(s) && isAtext(s[n+atom], utf8) {
			atom++
		}
		if atom == 0 {
			return max(n-1, 0) // without the dot
		}
		n += atom
		if n == len(s) || s[n] != '.' {
			return validUTF8(s[:n])
		}
		n++
	}
}

// validUTF8 returns len(s) if it is UTF-8, otherwise 0.
func validUTF8(s string) int {
	if !utf8.ValidString(s) {
		return 0
	}
	return len(s)
}

func isAtext(c byte, utf8 bool) bool {
	return isAlnum(c) || utf8 && c >= 0x80 || c < 0x80 && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isAlnum(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || isDigit(c) }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// quotedString reads a Quoted-string; what is in it may be empty, which not even RFC 5321 forbids, but is of no use as
// the local part of a mailbox: that is an error.
func quotedString(s string, utf8 bool) (text, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"':
			if b.Len() == 0 || validUTF8(b.String()) == 0 {
				return "", s, ErrPath
			}
			return b.String(), s[i+1:], nil
		case c == '\\':
			if i++; i == len(s) || s[i] < 0x20 || s[i] > 0x7e {
				return "", s, ErrPath
			}
			c = s[i]
		case c >= 0x80 && !utf8:
			return "", s, ErrPathUTF8
		case c < 0x20 || c == 0x7f:
			return "", s, ErrPath
		}
		b.WriteByte(c)
	}
	return "", s, ErrPath
}

// domain returns how long the domain or address literal is that s begins with.
func domain(s string, utf8 bool) (n int, err error) {
	if s != "" && s[0] == '[' {
		n, err = literal(s)
	} else {
		n, err = domainName(s, utf8)
	}
	if err == nil && n > MaxDomain {
		err = ErrPath
	}
	return n, err
}

// domainName reads labels of letters, digits and, inside, hyphens.
func domainName(s string, utf8 bool) (n int, err error) {
	for {
		start := n
		for n < len(s) && (isAlnum(s[n]) || s[n] == '-' || utf8 && s[n] >= 0x80) {
			n++
		}
		switch label := s[start:n]; {
		case n < len(s) && s[n] >= 0x80:
			return 0, ErrPathUTF8
		case label == "" || label[0] == '-' || label[len(label)-1] == '-' || validUTF8(label) == 0:
			return 0, ErrPath
		}
		if n == len(s) || s[n] != '.' {
			return n, nil
		}
		n++
	}
}

// literal reads an address literal: [192.0.2.1], [IPv6:2001:db8::1], or [Tag:…] of another kind (RFC 5321 section 4.1.3).
func literal(s string) (n int, err error) {
	end := strings.IndexByte(s, ']')
	if end < 0 {
		return 0, ErrPath
	}
	text := s[1:end]
	if a, err := netip.ParseAddr(text); err == nil && a.Is4() {
		return end + 1, nil
	}
	tag, address, ok := strings.Cut(text, ":")
	if !ok || tag == "" || address == "" || tag[len(tag)-1] == '-' {
		return 0, ErrPath
	}
	if equalFold(tag, "IPv6") {
		if a, err := netip.ParseAddr(address); err != nil || !a.Is6() || a.Zone() != "" {
			return 0, ErrPath
		}
		return end + 1, nil
	}
	for i := range len(tag) {
		if !isAlnum(tag[i]) && tag[i] != '-' {
			return 0, ErrPath
		}
	}
	for i := range len(address) {
		if c := address[i]; c < 33 || c > 126 || c == '[' || c == '\\' {
			return 0, ErrPath
		}
	}
	return end + 1, nil
}

// goodHello tells whether a client may call itself so. More than the domains and address literals of RFC 5321 is taken,
// such as underscores and names in brackets: many clients send what their machine is called.
func goodHello(s string) bool {
	if s == "" || len(s) > MaxDomain {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && strings.IndexByte(".-_:[]", c) < 0 {
			return false
		}
	}
	return true
}

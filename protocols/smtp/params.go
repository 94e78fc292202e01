package smtp

import (
	"errors"
	"strconv"
	"strings"
)

// ErrParams: it is no list of parameters, or one stands in it twice.
var ErrParams = errors.New("smtp: no such form of parameters")

// ErrXtext: it is no xtext of RFC 3461 section 4.
var ErrXtext = errors.New("smtp: no such form of xtext")

const maxParams = 20

// ParseParams reads the parameters behind a path, " KEYWORD=value KEYWORD": keywords in upper case, values as they were
// sent. utf8 allows values that are not ASCII (RFC 6531). The error is ErrParams. RFC 5321 section 4.1.2
func ParseParams(s string, utf8 bool) (Params, error) {
	if s == "" {
		return nil, nil
	}
	var params Params
	if s[0] != ' ' {
		return nil, ErrParams
	}
	for word := range strings.SplitSeq(strings.Trim(s, " "), " ") {
		if word == "" {
			continue // more than one space
		}
		keyword, value, has := strings.Cut(word, "=")
		if !goodKeyword(keyword) || has && !goodValue(value, utf8) || len(params) == maxParams {
			return nil, ErrParams
		}
		keyword = upper(keyword)
		if _, twice := params[keyword]; twice {
			return nil, ErrParams
		}
		if params == nil {
			params = make(Params, 4)
		}
		params[keyword] = value
	}
	return params, nil
}

func goodKeyword(s string) bool {
	if s == "" || !isAlnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

func goodValue(s string, utf8 bool) bool {
	for i := range len(s) {
		if c := s[i]; c < 33 || c == '=' || c == 0x7f || c >= 0x80 && !utf8 {
			return false
		}
	}
	return s != "" && validUTF8(s) > 0
}

// EncodeXtext returns s as xtext: other octets than printable ASCII, "+" and "=" as +HH. RFC 3461 section 4
func EncodeXtext(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < 33 || c > 126 || c == '+' || c == '=' {
			b.WriteByte('+')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// DecodeXtext is the reverse of EncodeXtext. The error is ErrXtext.
func DecodeXtext(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			if i+2 >= len(s) || !upperHex(s[i+1]) || !upperHex(s[i+2]) {
				return "", ErrXtext
			}
			n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8)
			b.WriteByte(byte(n))
			i += 2
		case c < 33 || c > 126 || c == '=':
			return "", ErrXtext
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

func upperHex(c byte) bool { return isDigit(c) || c >= 'A' && c <= 'F' }

// parseSize reads a number of octets: digits alone (RFC 1870 section 5). over: it is one, and more than can be counted.
func parseSize(s string) (n int64, over, ok bool) {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return 0, false, false
		}
	}
	if s == "" {
		return 0, false, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, true, true
	}
	return n, false, true
}

// goodNotify tells whether s is a value of NOTIFY: NEVER alone, or a list of SUCCESS, FAILURE and DELAY. RFC 3461 section 4.1
func goodNotify(s string) bool {
	if equalFold(s, "NEVER") {
		return true
	}
	for word := range strings.SplitSeq(upper(s), ",") {
		if word != "SUCCESS" && word != "FAILURE" && word != "DELAY" {
			return false
		}
	}
	return true
}

// goodORCPT tells whether s is a value of ORCPT: an address type, ";", xtext (or utf-8-addr-xtext's like, RFC 6533
// section 3, which may hold UTF-8 with SMTPUTF8).
func goodORCPT(s string, utf8 bool) bool {
	kind, addr, ok := strings.Cut(s, ";")
	if !ok || !goodKeyword(kind) || addr == "" || len(s) > 500 {
		return false
	}
	if utf8 && equalFold(kind, "utf-8") {
		return true
	}
	_, err := DecodeXtext(addr)
	return err == nil
}

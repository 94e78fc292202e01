package http1

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// class says where an octet may stand.
type class uint8

const (
	isToken  class = 1 << iota // tchar: RFC 9110 section 5.6.2
	isTarget                   // in a request target, but for "%": what RFC 3986 has there, and what browsers send besides
	isHost                     // in a registered name: RFC 3986 section 3.2.2
	isQuoted                   // in a quoted string, but for its quoted pairs: RFC 9110 section 5.6.4
	isValue                    // in a field value: RFC 9110 section 5.5
	isHex
	isPath // isTarget but for "?"
)

var classes = func() (c [256]class) {
	add := func(to class, octets string) {
		for i := range len(octets) {
			c[octets[i]] |= to
		}
	}
	const alnum = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	add(isToken, alnum+"!#$%&'*+-.^_`|~")
	add(isHost, alnum+"-._~!$&'()*+,;=")
	add(isHex, "0123456789abcdefABCDEF")
	for b := 0x21; b < 0x7f; b++ {
		c[b] |= isTarget | isPath | isQuoted | isValue
	}
	for b := 0x80; b <= 0xff; b++ {
		c[b] |= isQuoted | isValue
	}
	add(isQuoted|isValue, " \t")
	c['#'] &^= isTarget | isPath
	c['%'] &^= isTarget | isPath
	c['?'] &^= isPath
	c['"'] &^= isQuoted
	c['\\'] &^= isQuoted
	return c
}()

func (c class) at(b byte) bool { return classes[b]&c != 0 }

// only tells whether p consists of octets of a class, and of one at least.
func (c class) only(p string) bool {
	for i := range len(p) {
		if classes[p[i]]&c == 0 {
			return false
		}
	}
	return p != ""
}

const (
	each   = 0x0101010101010101
	eachHi = 0x8080808080808080
)

// valueEnd returns where in p, from i on, the first octet is that must not stand in a field value: at the end of the line
// its CR. p must end in one.
func valueEnd(p []byte, i int) int {
	for i+8 <= len(p) {
		x := binary.LittleEndian.Uint64(p[i:])
		del := x ^ each*0x7f
		// Octets below 0x20, and 0x7f. What borrows make of octets above the first one found does not matter.
		found := ((x-each*0x20)&^x | (del-each)&^del) & eachHi
		if found == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(found) / 8
		if p[i] != '\t' {
			return i
		}
		i++
	}
	for isValue.at(p[i]) {
		i++
	}
	return i
}

// nameEnd returns where in p, from i on, the first octet is that is no tchar: at the end of a field name its ":". There must
// be one.
func nameEnd(p []byte, i int) int {
	for {
		i = skipLetters(p, i)
		if !isToken.at(p[i]) {
			return i
		}
		i++
	}
}

// skipLetters goes from i on past letters and "-", which most of a name consists of, eight at a time; it may stop early.
func skipLetters(p []byte, i int) int {
	for i+8 <= len(p) {
		x := binary.LittleEndian.Uint64(p[i:])
		low := x &^ eachHi
		lower := low | each*0x20
		// The highest bit of each octet says whether it is "a" or above, or above "z", or not "-"; nothing is carried.
		letter := (lower + each*(0x80-'a')) &^ (lower + each*(0x80-'z'-1))
		notHyphen := low ^ each*'-' + each*0x7f
		found := (notHyphen&^letter | x) & eachHi
		if found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
		i += 8
	}
	return i
}

// escaped tells whether two hexadecimal digits follow p[i], a "%".
func escaped[T ~string | ~[]byte](p T, i int) bool {
	return i+2 < len(p) && isHex.at(p[i+1]) && isHex.at(p[i+2])
}

// validHost tells whether p is a host with or without a port: RFC 9110 section 7.2. It may be empty, and so may the
// port. Names are those without percent-encoding, addresses those of IPv4 and IPv6.
func validHost(p []byte) bool {
	i := 0
	if len(p) > 0 && p[0] == '[' {
		if i = bytes.IndexByte(p, ']'); i < 0 {
			return false
		}
		if ip, err := netip.ParseAddr(string(p[1:i])); err != nil || !ip.Is6() || ip.Zone() != "" {
			return false
		}
		i++
	} else {
		for i = skipLetters(p, 0); i < len(p) && isHost.at(p[i]); i++ {
		}
	}
	if i == len(p) {
		return true
	}
	if p[i] != ':' || i == 0 {
		return false
	}
	port := 0
	for _, b := range p[i+1:] {
		if b < '0' || b > '9' {
			return false
		}
		if port = port*10 + int(b-'0'); port > 65535 {
			return false
		}
	}
	return true
}

// validValue tells whether s can be sent as a field value: RFC 9110 section 5.5. Blanks at its ends would get lost, and are
// no harm.
func validValue[T ~string | ~[]byte](s T) bool {
	for i := range len(s) {
		if !isValue.at(s[i]) {
			return false
		}
	}
	return true
}

// parseDecimal reads 1*DIGIT.
func parseDecimal(p []byte) (n int64, ok bool) {
	for _, b := range p {
		if b < '0' || b > '9' {
			return 0, false
		}
		if n > (1<<63-1-int64(b-'0'))/10 {
			return 0, false
		}
		n = n*10 + int64(b-'0')
	}
	return n, len(p) > 0
}

// trim drops blanks at both ends.
func trim(p []byte) []byte {
	for len(p) > 0 && (p[0] == ' ' || p[0] == '\t') {
		p = p[1:]
	}
	for len(p) > 0 && (p[len(p)-1] == ' ' || p[len(p)-1] == '\t') {
		p = p[:len(p)-1]
	}
	return p
}

// equalFold tells whether p is name, whatever the case of its ASCII letters.
func equalFold[T ~string | ~[]byte](p []byte, name T) bool {
	if len(p) != len(name) {
		return false
	}
	for i := range len(p) {
		a, b := p[i], name[i]
		if a == b {
			continue
		}
		if a|0x20 != b|0x20 || a|0x20 < 'a' || a|0x20 > 'z' {
			return false
		}
	}
	return true
}

// nextItem cuts the next item off a list (RFC 9110 section 5.6.1) that has no quoted strings with commas. Items may be
// empty.
func nextItem(list []byte) (item, rest []byte, more bool) {
	for i, b := range list {
		if b == ',' {
			return trim(list[:i]), list[i+1:], true
		}
	}
	return trim(list), nil, false
}

// chunkSize reads the line in front of a chunk, without its CRLF: RFC 9112 section 7.1. extensions is how many octets of it
// are chunk extensions.
func chunkSize(line []byte) (size int64, extensions int, err *Error) {
	i := 0
	for ; i < len(line) && isHex.at(line[i]); i++ {
		if i == 16 || size > 1<<59-1 {
			return 0, 0, errChunkSize
		}
		digit := line[i] - '0'
		if digit > 9 {
			digit = line[i] | 0x20 - 'a' + 10
		}
		size = size<<4 | int64(digit)
	}
	if i == 0 {
		return 0, 0, errChunkSize
	}
	if !validExtensions(line[i:]) {
		return 0, 0, errChunkExtension
	}
	return size, len(line) - i, nil
}

// validExtensions tells whether p is *( BWS ";" BWS name [ BWS "=" BWS value ] ): RFC 9112 section 7.1.1.
func validExtensions(p []byte) bool {
	for len(p) > 0 {
		p = skipBlanks(p)
		if len(p) == 0 || p[0] != ';' {
			return false
		}
		p = skipBlanks(p[1:])
		n := tokenLen(p)
		if n == 0 {
			return false
		}
		p = p[n:]
		q := skipBlanks(p)
		if len(q) == 0 || q[0] != '=' {
			continue
		}
		q = skipBlanks(q[1:])
		if n = tokenLen(q); n == 0 {
			n = quotedLen(q)
		}
		if n == 0 {
			return false
		}
		p = q[n:]
	}
	return true
}

func skipBlanks(p []byte) []byte {
	for len(p) > 0 && (p[0] == ' ' || p[0] == '\t') {
		p = p[1:]
	}
	return p
}

// tokenLen returns how long the token is that p begins with.
func tokenLen(p []byte) int {
	n := 0
	for n < len(p) && isToken.at(p[n]) {
		n++
	}
	return n
}

// quotedLen returns how long the quoted string is that p begins with; 0 if there is none that is whole.
func quotedLen(p []byte) int {
	if len(p) == 0 || p[0] != '"' {
		return 0
	}
	for i := 1; i < len(p); i++ {
		switch {
		case p[i] == '"':
			return i + 1
		case p[i] == '\\':
			i++
			if i == len(p) || !isValue.at(p[i]) {
				return 0
			}
		case !isQuoted.at(p[i]):
			return 0
		}
	}
	return 0
}

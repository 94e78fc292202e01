package smtp

import (
	"fmt"
	"strconv"
	"strings"
)

// Reply is an answer to a command: of a server's hook, or what a server said to a client. As an error it refuses the
// command (Code 400 and above). RFC 5321 section 4.2
type Reply struct {
	Code     int      // 200 to 599
	Enhanced string   // RFC 3463, such as "5.7.1"; "": none
	Lines    []string // text, a line each; on the wire they are cut at MaxReplyText, and other octets than printable ASCII are replaced
}

// Replyf returns a Reply of one line.
func Replyf(code int, enhanced, format string, args ...any) *Reply {
	return &Reply{Code: code, Enhanced: enhanced, Lines: []string{fmt.Sprintf(format, args...)}}
}

// Error is the reply in one line.
func (r *Reply) Error() string {
	s := fmt.Sprintf("%d", r.Code)
	if r.Enhanced != "" {
		s += " " + r.Enhanced
	}
	return s + " " + strings.Join(r.Lines, " / ")
}

// Positive tells whether the command was accepted: 2xx and 3xx.
func (r *Reply) Positive() bool { return r.Code < 400 }

// Temporary tells whether it may be accepted later: 4xx.
func (r *Reply) Temporary() bool { return r.Code/100 == 4 }

// MaxReplyText is how many octets of text a line of a Reply has on the wire at most, the enhanced code among them, and
// MaxReplyLines how many lines: RFC 5321 section 4.5.3.1.5 bounds the line to 512, with code and CRLF.
const (
	MaxReplyText  = 500
	MaxReplyLines = 100
)

// appendTo appends the reply as it is sent. Nothing in it can be mistaken for the end of a line, or for a further reply.
func (r *Reply) appendTo(p []byte) []byte {
	lines := r.Lines
	if len(lines) == 0 {
		lines = noText[:]
	}
	lines = lines[:min(len(lines), MaxReplyLines)]
	for i, line := range lines {
		p = strconv.AppendInt(p, int64(r.Code), 10)
		if i == len(lines)-1 {
			p = append(p, ' ')
		} else {
			p = append(p, '-')
		}
		room := MaxReplyText
		if r.Enhanced != "" && len(r.Enhanced) < 20 {
			p = appendPrintable(p, r.Enhanced)
			p = append(p, ' ')
			room -= len(r.Enhanced) + 1
		}
		p = appendPrintable(p, line[:min(len(line), room)])
		p = append(p, "\r\n"...)
	}
	return p
}

var noText = [1]string{"Ok"}

// appendPrintable replaces what is not printable ASCII.
func appendPrintable(p []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c >= 0x20 && c <= 0x7e {
			p = append(p, c)
		} else {
			p = append(p, '?')
		}
	}
	return p
}

// goodEnhanced tells whether s is an enhanced code for this class of replies. RFC 3463 section 2
func goodEnhanced(s string, class int) bool {
	subject, detail, ok := strings.Cut(strings.TrimPrefix(s, strconv.Itoa(class)+"."), ".")
	return ok && len(s) == 2+len(subject)+1+len(detail) && digits(subject) && digits(detail)
}

// digits tells whether s is one to three digits.
func digits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 3
}

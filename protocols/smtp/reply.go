// Package smtp is SMTP, RFC 5321, on package chat: a server, a client and a relay.
package smtp

import (
	"fmt"
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

package smtp

import (
	"fmt"
	"strings"
)

// Bounds of what a server says.
const (
	maxReplyLine = 4096 // octets of a line without CRLF; RFC 5321 section 4.5.3.1.5 has 512 with it
	keepReply    = 512  // octets of a buffer that is kept for the next line
)

// replyParser puts a reply together from its lines.
type replyParser struct {
	code  int
	lines []string
}

// line takes a line, without its CRLF. It answers the reply when that was its last one, and an error when it is no reply.
// RFC 5321 section 4.2
func (p *replyParser) line(line []byte) (*Reply, error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' || line[1] > '5' || !isDigit(line[2]) ||
		len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return nil, fmt.Errorf("%w: %q", ErrBadReply, line[:min(len(line), 60)])
	}
	code := int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	switch {
	case p.lines != nil && code != p.code:
		return nil, fmt.Errorf("%w: a line of %d in a reply of %d", ErrBadReply, code, p.code)
	case len(p.lines) == MaxReplyLines:
		return nil, fmt.Errorf("%w: more than %d lines", ErrBadReply, MaxReplyLines)
	}
	p.code = code
	text := ""
	if len(line) > 4 {
		text = readable(line[4:])
	}
	p.lines = append(p.lines, text)
	if len(line) > 3 && line[3] == '-' {
		return nil, nil
	}
	r := &Reply{Code: code, Lines: p.lines}
	p.lines = nil
	return r, nil
}

// readable replaces control characters and what is not UTF-8: replies end up in logs and on terminals.
func readable(p []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(p), "?"))
}

// takeEnhanced takes the enhanced code out of the text of a reply, where each line begins with the same. RFC 2034 section 4
func (r *Reply) takeEnhanced() {
	enhanced, _, _ := strings.Cut(r.Lines[0], " ")
	if !goodEnhanced(enhanced, r.Code/100) {
		return
	}
	r.Enhanced = enhanced
	for i, line := range r.Lines {
		if rest, ok := strings.CutPrefix(line, enhanced); ok && (rest == "" || rest[0] == ' ') {
			r.Lines[i] = strings.TrimPrefix(rest, " ")
		}
	}
}

// readOffers reads the answer to EHLO: the parameters of each extension by its upper-case keyword. The first line names the
// server. RFC 5321 section 4.1.1.1
func readOffers(r *Reply) map[string]string {
	offers := make(map[string]string)
	for _, line := range r.Lines[1:] {
		line = strings.TrimSpace(line)
		keyword, params, _ := strings.Cut(line, " ")
		if auth, mechanisms, ok := strings.Cut(keyword, "="); ok && strings.EqualFold(auth, "AUTH") {
			keyword, params = auth, mechanisms+" "+params // "AUTH=LOGIN", as before RFC 2554
		}
		if keyword = strings.ToUpper(keyword); !goodKeyword(keyword) {
			continue
		}
		if before := offers[keyword]; before != "" { // AUTH in both forms
			params = before + " " + params
		}
		offers[keyword] = strings.TrimSpace(params)
	}
	return offers
}

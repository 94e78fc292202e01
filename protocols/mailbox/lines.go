package mailbox

import "bytes"

// lineEnds makes LF of CRLF, in pieces that may be cut anywhere. A CR by itself stays.
type lineEnds struct{ cr bool } // the last octet was a CR: it is held back

func (l *lineEnds) appendTo(dst, p []byte) []byte {
	if len(p) == 0 {
		return dst
	}
	if l.cr && p[0] != '\n' {
		dst = append(dst, '\r')
	}
	l.cr = p[len(p)-1] == '\r'
	if l.cr {
		p = p[:len(p)-1]
	}
	for {
		i := bytes.Index(p, crlf)
		if i < 0 {
			return append(dst, p...)
		}
		dst = append(dst, p[:i]...)
		p = p[i+1:]
	}
}

// end returns what was held back.
func (l *lineEnds) end() []byte {
	if l.cr {
		l.cr = false
		return crlf[:1]
	}
	return nil
}

var crlf = []byte("\r\n")

package http1

import (
	"bytes"
	"net/http"
)

// head is the start line and the header fields of a message, parsed in place. It is used again and again: parsing does not
// allocate once the table of fields has grown.
type head struct {
	Fields
	minor byte // of HTTP/1.x

	// Of a request.
	method string // a constant of net/http's where it is one of those
	form   targetForm
	target span // all of it
	path   span // of the target, without the query; may be empty in absolute form
	query  span // behind the "?"
	host   span // the authority of an absolute target, or else the Host field

	// Of a response.
	status int
	reason span

	// What the fields say about the connection and the framing.
	known  known
	hosts  uint8
	length int64  // Content-Length; -1: none
	coding coding // Transfer-Encoding
}

// span is a part of Fields.buf.
type span struct{ from, to uint32 }

func (f *Fields) slice(s span) []byte { return f.buf[s.from:s.to:s.to] }

type targetForm uint8

const (
	originForm    targetForm = iota // /path?query
	absoluteForm                    // http://host/path?query
	authorityForm                   // host:port, of CONNECT
	asteriskForm                    // *, of OPTIONS
)

// known are things that the fields say.
type known uint16

const (
	saysClose      known = 1 << iota // Connection: close
	saysKeepAlive                    // Connection: keep-alive
	saysUpgrade                      // Connection: upgrade
	hasUpgrade                       // there is an Upgrade field
	saysContinue                     // Expect: 100-continue
	saysUnexpected                   // Expect with something else
	hasLength                        // there is a Content-Length field
	hasConnection                    // there is a Connection field
	isHEAD                           // the method is HEAD
	isCONNECT                        // the method is CONNECT
)

// coding is what the Transfer-Encoding fields say so far.
type coding uint8

const (
	noCoding       coding = iota
	chunkedLast           // chunked, and nothing behind it
	chunkedTwice          // not allowed
	notLast               // chunked, and something behind it
	unknownCoding         // not chunked at the end
	unknownChunked        // something unknown, and then chunked
	malformed
)

// headLimits bound a head; 0 is no bound. Lengths of lines are without their CRLF.
type headLimits struct {
	startLine int // the request line or status line
	fieldLine int
	all       int // all fields, with their CRLFs
	fields    int
}

// parseRequest parses a request's head: block is the request line and the field lines, each with its CRLF, without the empty
// line behind them. One empty line before is skipped (RFC 9112 section 2.2). h refers to block afterwards.
func (h *head) parseRequest(block []byte, l *headLimits) *Error {
	h.begin(block)
	i := 0
	if len(block) > 2 && block[0] == '\r' && block[1] == '\n' {
		i = 2
	}
	from := i
	switch {
	case len(block)-i < 16: // "G * HTTP/1.0\r\n" is 14; so short a block is looked at with care
		if len(block)-i < 3 || block[i] == '\r' {
			return errNoRequestLine
		}
		i = h.parseMethod(block, i)
	case string(block[i:i+4]) == "GET ":
		h.method, i = http.MethodGet, i+3
	case string(block[i:i+5]) == "POST ":
		h.method, i = http.MethodPost, i+4
	default:
		i = h.parseMethod(block, i)
	}
	if i == from || block[i] != ' ' {
		h.method, h.known = "", 0
		return errMethod
	}
	i++
	h.target.from = uint32(i)
	query := 0 // where it begins
	for {
		for isPath.at(block[i]) {
			i++
		}
		if block[i] == '?' {
			i++
			if query == 0 {
				query = i
			}
		} else if block[i] != '%' {
			break
		} else if !escaped(block, i) {
			return errTarget
		} else {
			i += 3
		}
	}
	h.target.to = uint32(i)
	if block[i] != ' ' || h.target.from == h.target.to {
		return errTarget
	}
	i++
	if len(block)-i >= 10 && string(block[i:i+10]) == "HTTP/1.1\r\n" {
		h.minor = 1
		i += 8
	} else {
		var err *Error
		if i, err = h.parseVersion(block, i); err != nil {
			return err
		}
		if block[i] != '\r' || block[i+1] != '\n' {
			return errVersion
		}
	}
	if l.startLine > 0 && i-from > l.startLine {
		return errRequestLine
	}
	if err := h.splitTarget(query); err != nil {
		return err
	}
	if err := h.parseFields(i+2, l); err != nil {
		return err
	}
	return h.checkHost()
}

// begin forgets what was parsed before.
func (h *head) begin(block []byte) {
	// Field by field: to clear the whole struct, pointers and all, takes a quarter of the time of a short head.
	h.buf, h.lines = block, h.lines[:0]
	h.minor, h.form, h.status, h.known, h.hosts, h.coding, h.length = 0, originForm, 0, 0, 0, noCoding, -1
	h.method = ""
	h.target, h.path, h.query, h.host, h.reason = span{}, span{}, span{}, span{}, span{}
}

// parseVersion reads "HTTP/1.x" from i on, and returns where it ends.
func (h *head) parseVersion(block []byte, i int) (int, *Error) {
	if len(block)-i < 10 || string(block[i:i+5]) != "HTTP/" || !isDigit(block[i+5]) || block[i+6] != '.' ||
		!isDigit(block[i+7]) || isDigit(block[i+8]) {
		return i, errVersion
	}
	if block[i+5] != '1' {
		return i, errMajor
	}
	h.minor = block[i+7] - '0'
	return i + 8, nil
}

func isDigit(b byte) bool { return b-'0' <= 9 }

// parseMethod reads a method from i on, and returns where it ends.
func (h *head) parseMethod(block []byte, i int) int {
	from := i
	for isToken.at(block[i]) {
		i++
	}
	h.method = methodName(block[from:i])
	switch h.method {
	case http.MethodHead:
		h.known |= isHEAD
	case http.MethodConnect:
		h.known |= isCONNECT
	}
	return i
}

// methodName returns a method without an allocation where net/http has a constant for it.
func methodName(p []byte) string {
	switch string(p) {
	case http.MethodGet:
		return http.MethodGet
	case http.MethodHead:
		return http.MethodHead
	case http.MethodPost:
		return http.MethodPost
	case http.MethodPut:
		return http.MethodPut
	case http.MethodPatch:
		return http.MethodPatch
	case http.MethodDelete:
		return http.MethodDelete
	case http.MethodConnect:
		return http.MethodConnect
	case http.MethodOptions:
		return http.MethodOptions
	case http.MethodTrace:
		return http.MethodTrace
	}
	return string(p)
}

// splitTarget finds the parts of the request target: RFC 9112 section 3.2. query is where its query begins; 0: it has none.
func (h *head) splitTarget(query int) *Error {
	h.path, h.query = h.target, span{h.target.to, h.target.to}
	if query > 0 {
		h.path.to, h.query.from = uint32(query-1), uint32(query)
	}
	if h.known&isCONNECT == 0 && h.buf[h.target.from] == '/' {
		return nil
	}
	return h.splitOther()
}

// splitOther is splitTarget for what is no path.
func (h *head) splitOther() *Error {
	t := h.slice(h.target)
	switch {
	case h.known&isCONNECT != 0:
		h.form, h.host = authorityForm, h.target
		if colon := bytes.LastIndexByte(t, ':'); colon <= 0 || colon == len(t)-1 || !validHost(t) {
			return errTargetForm
		}
		h.path = span{h.target.to, h.target.to}
		h.query = h.path
	case len(t) == 1 && t[0] == '*':
		if h.form = asteriskForm; h.method != http.MethodOptions {
			return errTargetForm
		}
	default:
		h.form = absoluteForm
		n := len("http://")
		switch {
		case len(t) > n && equalFold(t[:n], "http://"):
		case len(t) > n && equalFold(t[:n+1], "https://"):
			n++
		default:
			return errTarget
		}
		end := n
		for end < len(t) && t[end] != '/' && t[end] != '?' {
			end++
		}
		if end == n || t[n] == ':' || !validHost(t[n:end]) {
			return errTarget
		}
		h.host = span{h.target.from + uint32(n), h.target.from + uint32(end)}
		h.path.from = h.host.to
	}
	return nil
}

// parseResponse parses a response's head; block as for parseRequest. The reason phrase may be missing with the blank
// before it.
func (h *head) parseResponse(block []byte, l *headLimits) *Error {
	h.begin(block)
	i, err := h.parseVersion(block, 0)
	if err != nil {
		return err
	}
	if len(block)-i < len(" 200\r\n") || block[i] != ' ' ||
		!isDigit(block[i+1]) || !isDigit(block[i+2]) || !isDigit(block[i+3]) {
		return errStatusLine
	}
	h.status = int(block[i+1]-'0')*100 + int(block[i+2]-'0')*10 + int(block[i+3]-'0')
	i += 4
	if h.status < 100 {
		return errStatusLine
	}
	if block[i] == ' ' {
		h.reason.from = uint32(i + 1)
		i = valueEnd(block, i+1)
		h.reason.to = uint32(i)
	}
	if i+1 >= len(block) || block[i] != '\r' || block[i+1] != '\n' {
		return errStatusLine
	}
	if l.startLine > 0 && i > l.startLine {
		return errStatusLine
	}
	return h.parseFields(i+2, l)
}

// parseFields parses the field lines from at on: RFC 9112 section 5. There may be none.
func (h *head) parseFields(at int, l *headLimits) *Error {
	block := h.buf
	if l.all > 0 && len(block)-at > l.all {
		return errHead
	}
	for i := at; i < len(block); {
		from := i
		i = nameEnd(block, i)
		if block[i] != ':' || i == from {
			switch block[from] {
			case ' ', '\t':
				return errFold
			}
			return errFieldName
		}
		name := block[from:i]
		i++
		for block[i] == ' ' || block[i] == '\t' {
			i++
		}
		value := i
		i = valueEnd(block, i)
		if block[i] != '\r' {
			if block[i] == '\n' {
				return errBareLF
			}
			return errFieldValue
		}
		if i+1 == len(block) || block[i+1] != '\n' {
			return errFieldValue
		}
		if l.fieldLine > 0 && i-from > l.fieldLine {
			return errFieldLine
		}
		end := i
		for end > value && (block[end-1] == ' ' || block[end-1] == '\t') {
			end--
		}
		i += 2
		if l.fields > 0 && len(h.lines) == l.fields {
			return errFields
		}
		h.lines = append(h.lines, fieldLine{uint32(from), uint32(from + len(name)), uint32(value), uint32(end)})
		if 1<<len(name)&notedLengths != 0 {
			if err := h.note(name, block[value:end:end], value); err != nil {
				return err
			}
		}
	}
	return nil
}

// notedLengths has a bit for the length of each name that note knows.
const notedLengths = 1<<len("Host") | 1<<len("Expect") | 1<<len("Upgrade") | 1<<len("Connection") |
	1<<len("Content-Length") | 1<<len("Transfer-Encoding")

// note keeps what a field says that concerns framing or connection.
func (h *head) note(name, value []byte, at int) *Error {
	switch len(name) {
	case len("Host"):
		if string(name) == "Host" || equalFold(name, "Host") {
			h.hosts = min(h.hosts+1, 2)
			if h.form != absoluteForm && h.form != authorityForm {
				h.host = span{uint32(at), uint32(at + len(value))}
			}
			if !validHost(value) {
				return errHost
			}
		}
	case len("Expect"):
		if equalFold(name, "Expect") {
			if equalFold(value, "100-continue") {
				h.known |= saysContinue
			} else {
				h.known |= saysUnexpected
			}
		}
	case len("Upgrade"):
		if equalFold(name, "Upgrade") {
			h.known |= hasUpgrade
		}
	case len("Connection"):
		if equalFold(name, "Connection") {
			h.known |= hasConnection
			for item, rest, more := nextItem(value); ; item, rest, more = nextItem(rest) {
				switch {
				case equalFold(item, "close"):
					h.known |= saysClose
				case equalFold(item, "keep-alive"):
					h.known |= saysKeepAlive
				case equalFold(item, "upgrade"):
					h.known |= saysUpgrade
				}
				if !more {
					break
				}
			}
		}
	case len("Content-Length"):
		if equalFold(name, "Content-Length") {
			n, ok := parseDecimal(value)
			switch {
			case !ok:
				return errLength
			case h.known&hasLength != 0:
				return errLengths
			}
			h.known |= hasLength
			h.length = n
		}
	case len("Transfer-Encoding"):
		if equalFold(name, "Transfer-Encoding") {
			for item, rest, more := nextItem(value); ; item, rest, more = nextItem(rest) {
				h.coding = h.coding.then(item)
				if !more {
					break
				}
			}
		}
	}
	return nil
}

// then is the coding with one more item behind it.
func (c coding) then(item []byte) coding {
	chunked := equalFold(item, "chunked")
	switch {
	case c == malformed || c == chunkedTwice || c == notLast:
		return c
	case !isCoding(item):
		return malformed
	case c == chunkedLast || c == unknownChunked:
		if chunked {
			return chunkedTwice
		}
		return notLast
	case !chunked:
		return unknownCoding
	case c == unknownCoding:
		return unknownChunked
	}
	return chunkedLast
}

// isCoding tells whether p is a transfer coding: a token, with parameters or without (RFC 9112 section 7). They have to be
// well-formed as chunk extensions are.
func isCoding(p []byte) bool {
	n := tokenLen(p)
	return n > 0 && validExtensions(p[n:])
}

// checkHost: RFC 9112 section 3.2.
func (h *head) checkHost() *Error {
	switch {
	case h.hosts > 1:
		return errHosts
	case h.hosts == 0 && h.minor > 0:
		return errNoHost
	}
	return nil
}

// framing is how long a body is.
type framing uint8

const (
	noBody      framing = iota
	lengthBody          // head.length octets, which may be 0
	chunkedBody         // RFC 9112 section 7.1
	untilClose          // up to the end of the connection; responses only
	tunnel              // no message any more: what follows 2xx to CONNECT
)

// requestFraming says how long the request's body is: RFC 9112 section 6.3. Whatever leaves room for two readings is
// refused.
func (h *head) requestFraming() (framing, *Error) {
	switch {
	case h.coding == noCoding && h.length < 0:
		return noBody, nil
	case h.coding == noCoding:
		return lengthBody, nil
	case h.length >= 0:
		return 0, errLengthCoding
	case h.minor == 0:
		return 0, errCodingVersion
	case h.coding == chunkedLast:
		return chunkedBody, nil
	case h.coding == unknownChunked:
		return 0, errUnknownCoding
	}
	return 0, errCoding
}

// responseFraming says how long the body of a response to a request of that method is: RFC 9112 section 6.3.
func (h *head) responseFraming(method string) (framing, *Error) {
	switch {
	case method == http.MethodHead || h.status < 200 || h.status == http.StatusNoContent || h.status == http.StatusNotModified:
		return noBody, nil
	case method == http.MethodConnect && h.status < 300:
		return tunnel, nil
	case h.coding == noCoding && h.length < 0:
		return untilClose, nil
	case h.coding == noCoding:
		return lengthBody, nil
	case h.length >= 0:
		return 0, errLengthCoding
	case h.minor == 0:
		return 0, errCodingVersion
	case h.coding == chunkedLast:
		return chunkedBody, nil
	case h.coding == unknownChunked || h.coding == unknownCoding:
		return 0, errUnknownCoding
	}
	return 0, errCoding
}

// persistent tells whether the peer wants to use the connection for more: RFC 9112 section 9.3.
func (h *head) persistent() bool {
	if h.known&saysClose != 0 {
		return false
	}
	return h.minor > 0 || h.known&saysKeepAlive != 0
}

// parseTrailers parses the lines of a trailer section, each with its CRLF, without the empty line behind them.
func (h *head) parseTrailers(block []byte, l *headLimits) *Error {
	h.begin(block)
	h.form = authorityForm // a Host in it says nothing
	return h.parseFields(0, l)
}

// prescan looks at a head that may not be complete: what is found in it is said whatever follows. at is where the line
// begins in which the last look ended, and seen how much of block it saw. What a head is refused with must not depend on
// how it was cut into reads; therefore prescan has precedence over the errors of parseRequest, which finds what prescan
// looks for, too.
func prescan(block []byte, at, seen int, l *headLimits) (line int, err *Error) {
	if seen == 0 && len(block) > 0 && !isToken.at(block[0]) && block[0] != '\r' {
		if block[0] == '\n' {
			return 0, errBareLF
		}
		return 0, errNotHTTP
	}
	for {
		end := len(block)
		lf := bytes.IndexByte(block[seen:], '\n')
		if lf >= 0 {
			end = seen + lf
			seen = end + 1
		}
		cr := end > at && block[end-1] == '\r'
		if cr {
			end--
		}
		long, limit := errFieldLine, l.fieldLine
		if at == 0 || at == 2 && block[0] == '\r' {
			long, limit = errRequestLine, l.startLine
		}
		if limit > 0 && end-at > limit {
			return at, long
		}
		switch {
		case lf < 0:
			return at, nil
		case !cr:
			return at, errBareLF
		}
		at = seen
	}
}

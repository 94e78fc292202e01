package load

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Body is what an HTTP server has to answer with to every request: 200, with Content-Length and as text/plain.
const Body = "Hello, World!\n"

// request is what it is asked.
const request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

// newRequests makes a text of requests. They are all the same.
func newRequests(depth int) *text {
	return &text{data: bytes.Repeat([]byte(request), depth+1), length: len(request), count: 1, depth: depth}
}

// response is what a server answers with, to the byte: servers differ in the header fields that they send and in their
// order, but each has to stay with its own. The date is the exception.
type response struct {
	text []byte
	date int // where the date begins
}

// dateShape is the form of a Date field's value: a letter is where an "A" or an "a" stands, of that case, and a digit
// where a "0" stands. RFC 9110 section 5.6.7
const dateShape = "Aaa, 00 Aaa 0000 00:00:00 GMT"

// newResponse makes one of the first that a server sent, which has to be what it was asked for.
func newResponse(p []byte, now time.Time) (*response, error) {
	h, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(p)), nil)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(h.Body)
	if err != nil {
		return nil, err
	}
	date, err := http.ParseTime(h.Header.Get("Date"))
	at := bytes.Index(bytes.ToLower(p), []byte("\r\ndate: ")) + len("\r\ndate: ")
	switch {
	case !bytes.HasPrefix(p, []byte("HTTP/1.1 200 OK\r\n")):
		return nil, fmt.Errorf("not 200: %q", h.Status)
	case string(body) != Body || h.ContentLength != int64(len(Body)):
		return nil, fmt.Errorf("a body of length %d that is not the one to come: %.80q", h.ContentLength, body)
	case !strings.HasPrefix(h.Header.Get("Content-Type"), "text/plain"):
		return nil, fmt.Errorf("its Content-Type is %q", h.Header.Get("Content-Type"))
	case !bytes.HasSuffix(p, []byte("\r\n\r\n"+Body)):
		return nil, fmt.Errorf("more than was asked for")
	case h.Close:
		return nil, fmt.Errorf("the connection is closed after the first response")
	case err != nil || differShape(p[at:min(at+len(dateShape), len(p))], dateShape) >= 0:
		return nil, fmt.Errorf("its Date is %q", h.Header.Get("Date"))
	case now.Sub(date).Abs() > time.Minute:
		return nil, fmt.Errorf("its Date is %q at %v", h.Header.Get("Date"), now.UTC())
	}
	return &response{text: p, date: at}, nil
}

// complete tells whether p is all of a response with Body, and no less.
func complete(p []byte) bool {
	head := bytes.Index(p, []byte("\r\n\r\n"))
	return head >= 0 && len(p) >= head+len("\r\n\r\n")+len(Body)
}

// check compares p with what is due of many responses, one behind the other, from the got-th byte up to the due-th.
func (r *response) check(p []byte, got, due int) error {
	over := len(p) - (due - got)
	if over > 0 {
		p = p[:len(p)-over]
	}
	for len(p) > 0 {
		at := got % len(r.text)
		n, end := 0, len(r.text)
		switch dateEnd := r.date + len(dateShape); {
		case at < r.date:
			end = r.date
			fallthrough
		case at >= dateEnd:
			n = min(len(p), end-at)
			if i := differ(p[:n], r.text[at:end]); i >= 0 {
				return fmt.Errorf("wrong byte %#02x instead of %#02x at offset %d of a response, %d of %d",
					p[i], r.text[at+i], at+i, got+i, due)
			}
		default:
			n = min(len(p), dateEnd-at)
			if i := differShape(p[:n], dateShape[at-r.date:]); i >= 0 {
				return fmt.Errorf("wrong byte %#02x in a date, at offset %d of a response, %d of %d", p[i], at+i, got+i, due)
			}
		}
		p, got = p[n:], got+n
	}
	if over > 0 {
		return fmt.Errorf("%d bytes more than were asked for", over)
	}
	return nil
}

// differShape is differ with the form of a date.
func differShape(p []byte, shape string) int {
	for i, b := range p {
		ok := false
		switch shape[i] {
		case 'A':
			ok = 'A' <= b && b <= 'Z'
		case 'a':
			ok = 'a' <= b && b <= 'z'
		case '0':
			ok = '0' <= b && b <= '9'
		default:
			ok = b == shape[i]
		}
		if !ok {
			return i
		}
	}
	return -1
}

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strconv"
	"strings"
)

// maxHeader is the largest header that is taken, in bytes.
const maxHeader = 64 << 10

// answer takes a response apart as it comes, in pieces of any size, and writes its body to out.
type answer struct {
	out    io.Writer
	head   bool   // write the header, too
	header []byte // what came of it
	body   bool   // the header is over
	status int
	reason string // the status and its text
	length int64  // of the body as the header says, -1 if it does not
	left   int64  // of that
}

// Write takes the next piece.
func (a *answer) Write(p []byte) (int, error) {
	n := len(p)
	if !a.body {
		rest, err := a.readHeader(p)
		if err != nil || !a.body {
			return n, err
		}
		p = rest
	}
	if a.length >= 0 {
		p = p[:min(int64(len(p)), a.left)]
		a.left -= int64(len(p))
	}
	_, err := a.out.Write(p)
	return n, err
}

// complete tells whether everything is there that the header promised.
func (a *answer) complete() bool { return a.body && a.length >= 0 && a.left == 0 }

// finish is called when the connection ended in good order. That is the end of an answer without a Content-Length: RFC
// 1945, section 7.2.2.
func (a *answer) finish() error {
	switch {
	case len(a.header) == 0:
		return errors.New("the server closed the connection without an answer")
	case !a.body:
		return errors.New("the answer ends within its header")
	case a.length >= 0 && a.left > 0:
		return fmt.Errorf("the answer is cut short: %d of %d bytes came", a.length-a.left, a.length)
	}
	return nil
}

// readHeader collects up to the empty line and returns what follows it.
func (a *answer) readHeader(p []byte) (rest []byte, err error) {
	a.header = append(a.header, p...)
	if n := min(len(a.header), len("HTTP/")); string(a.header[:n]) != "HTTP/"[:n] {
		return nil, errors.New("the answer is not HTTP")
	}
	end := headerEnd(a.header)
	if end < 0 && len(a.header) <= maxHeader {
		return nil, nil
	}
	if end < 0 || end > maxHeader {
		return nil, fmt.Errorf("the header is larger than %d bytes", maxHeader)
	}
	rest = bytes.Clone(a.header[end:])
	a.header, a.body = a.header[:end], true
	if a.head {
		if _, err := a.out.Write(a.header); err != nil {
			return nil, err
		}
	}
	return rest, a.parse()
}

// headerEnd returns where the body begins, or -1. A line may end in "\n" alone: RFC 1945, appendix B.
func headerEnd(p []byte) int {
	end := -1
	for _, empty := range []string{"\n\r\n", "\n\n"} {
		if i := bytes.Index(p, []byte(empty)); i >= 0 && (end < 0 || i+len(empty) < end) {
			end = i + len(empty)
		}
	}
	return end
}

// parse finds out how much is to follow.
func (a *answer) parse() error {
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(a.header)))
	line, err := r.ReadLine()
	if err != nil {
		return err
	}
	_, a.reason, _ = strings.Cut(line, " ")
	code, _, _ := strings.Cut(a.reason, " ")
	if a.status, err = strconv.Atoi(code); err != nil || len(code) != 3 {
		return fmt.Errorf("the answer is not HTTP: %q", line)
	}
	fields, err := r.ReadMIMEHeader()
	if err != nil {
		return fmt.Errorf("bad header: %w", err)
	}
	a.length = -1
	switch lengths := fields["Content-Length"]; {
	case a.status == 204 || a.status == 304: // never have a body: RFC 1945, section 7.2
		a.length = 0
	case fields.Get("Transfer-Encoding") != "":
		// Nobody may send it to a client of HTTP/1.0 (RFC 9112, section 6.1); what came would not be the page.
		return fmt.Errorf("the answer has a transfer encoding: %q", fields.Get("Transfer-Encoding"))
	case len(lengths) > 1:
		return fmt.Errorf("the answer has %d lengths", len(lengths))
	case len(lengths) == 1:
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		if err != nil {
			return fmt.Errorf("bad Content-Length %q", lengths[0])
		}
		a.length = int64(n)
	}
	a.left = a.length
	return nil
}

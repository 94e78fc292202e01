package http1

import (
	"errors"
	"net/http"
	"strconv"
)

// Error is a status code with words of its own. A Handler that returns one has it answered, if nothing was answered yet; and
// what is wrong with a message is one: of a request, what the server answers; of a response, 502.
type Error struct {
	// Status is the status code, 400 to 599.
	Status int

	// Text is what the client reads, in plain text; "": the status text.
	Text string
}

// Error is the code and the words.
func (e *Error) Error() string {
	return "http1: " + strconv.Itoa(e.Status) + " " + e.text()
}

func (e *Error) text() string {
	if e.Text != "" {
		return e.Text
	}
	return http.StatusText(e.Status)
}

func bad(text string) *Error { return &Error{http.StatusBadRequest, text} }

// What is wrong with a request, or with a part of a message. A client makes 502 of the status.
var (
	errBareLF         = bad("a line feed without a carriage return")
	errNoRequestLine  = bad("no request line")
	errNotHTTP        = bad("not HTTP")
	errMethod         = bad("malformed method")
	errTarget         = bad("malformed request target")
	errTargetForm     = bad("a request target of this form does not go with the method")
	errVersion        = bad("malformed HTTP version")
	errMajor          = &Error{http.StatusHTTPVersionNotSupported, ""}
	errRequestLine    = &Error{http.StatusRequestURITooLong, "request line too long"}
	errFieldLine      = &Error{http.StatusRequestHeaderFieldsTooLarge, "header field too long"}
	errFields         = &Error{http.StatusRequestHeaderFieldsTooLarge, "too many header fields"}
	errHead           = &Error{http.StatusRequestHeaderFieldsTooLarge, "header too long"}
	errFold           = bad("a folded header field")
	errFieldName      = bad("malformed header field name")
	errFieldValue     = bad("malformed header field value")
	errNoHost         = bad("no Host")
	errHosts          = bad("more than one Host")
	errHost           = bad("malformed Host")
	errLength         = bad("malformed Content-Length")
	errLengths        = bad("more than one Content-Length")
	errLengthCoding   = bad("both Content-Length and Transfer-Encoding")
	errCoding         = bad("malformed Transfer-Encoding")
	errCodingVersion  = bad("Transfer-Encoding in HTTP/1.0")
	errUnknownCoding  = &Error{http.StatusNotImplemented, "unknown transfer coding"}
	errChunkSize      = bad("malformed chunk size")
	errChunkExtension = bad("malformed chunk extension")
	errChunkLine      = bad("chunk size line too long")
	errChunkEnd       = bad("a chunk that does not end where it should")
	errTrailer        = &Error{http.StatusRequestHeaderFieldsTooLarge, "trailer section too long"}
	errStatusLine     = bad("malformed status line")
	errBody           = &Error{http.StatusRequestEntityTooLarge, ""}
	errCut            = bad("the request's body was cut off")
	errTimeout        = &Error{http.StatusRequestTimeout, ""}
	errExpectation    = &Error{http.StatusExpectationFailed, ""}
	errConnect        = &Error{http.StatusNotImplemented, "CONNECT is not implemented"}
)

// Errors that a Handler may meet, besides those of packages core and net/http.
var (
	// ErrHeader: a field name or value that cannot be sent was given to a ResponseWriter. The response is 500 instead.
	ErrHeader = errors.New("http1: malformed header field")

	// ErrSent: the head of the response is on its way already.
	ErrSent = errors.New("http1: the head of the response was sent already")

	// ErrNoBody: the body of the request was asked for twice, or too late.
	ErrNoBody = errors.New("http1: the body cannot be read any more")
)

package http1

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/parley-go/parley/core"
)

const (
	clientBlock   = 32 << 10        // octets of a request's body that are read at a time
	clientChunk   = 16 + 2          // room for a chunk's size and CRLF
	clientPadding = clientChunk + 2 // and for the CRLF behind it
)

// bodyBuffers are what bodies are read into.
var bodyBuffers = sync.Pool{New: func() any { return new([clientBlock + clientPadding]byte) }}

// bodyReader makes what is sent of a request's body, as the server takes it: a buffered.Producer.
type bodyReader struct {
	cc      *clientConn
	call    *Call
	src     io.Reader
	left    int64 // of the length; negative: in chunks
	buf     *[clientBlock + clientPadding]byte
	n       int // read, and not made into output
	eof     bool
	err     error // of src
	reading bool  // a worker uses buf
	tail    []byte
	over    bool
}

// sendBody begins with the body.
func (cc *clientConn) sendBody() {
	c := cc.call
	c.body.begun = true
	b := &bodyReader{cc: cc, call: c, src: c.body.src, left: c.body.length}
	b.buf = bodyBuffers.Get().(*[clientBlock + clientPadding]byte)
	cc.out = b
	_ = cc.c.PushProducer(b)
}

// More: see buffered.Producer.
func (b *bodyReader) More(limit int) ([]byte, error) {
	if b.over || b.cc.out != b || b.call.conn != b.cc { // it is all sent, or given up
		return nil, io.EOF
	}
	if b.n == 0 && !b.eof && b.err == nil && !b.fill(min(max(limit-clientPadding, 1), clientBlock)) {
		return nil, core.ErrWouldBlock
	}
	n := b.n
	b.n = 0
	switch {
	case b.err != nil:
		b.fail(fmt.Errorf("http1: the request's body: %w", b.err))
		return nil, io.EOF
	case b.left >= 0 && b.eof && int64(n) < b.left:
		missing := b.left - int64(n)
		b.fail(fmt.Errorf("http1: the request's body is %d octets short of its length: %w", missing, io.ErrUnexpectedEOF))
		return nil, io.EOF
	}
	b.call.sent += int64(n)
	b.cc.cl.stats.Sent += uint64(n)
	data := b.buf[clientChunk : clientChunk+n]
	if b.left >= 0 {
		if b.left -= int64(n); b.left == 0 {
			return data, b.end()
		}
		return data, nil
	}
	if n > 0 {
		data = b.frame(n)
	}
	if !b.eof {
		return data, nil
	}
	if b.tail = b.appendEnd(append(b.tail[:0], data[:len(data):len(data)]...)); b.tail == nil {
		return nil, io.EOF
	}
	return b.tail, b.end()
}

// frame makes a chunk of the first n octets that were read.
func (b *bodyReader) frame(n int) []byte {
	var size [clientChunk]byte
	h := append(strconv.AppendInt(size[:0], int64(n), 16), "\r\n"...)
	from := clientChunk - len(h)
	copy(b.buf[from:], h)
	copy(b.buf[clientChunk+n:], "\r\n")
	return b.buf[from : clientChunk+n+2]
}

// appendEnd appends the last chunk and the trailer section. nil: it cannot be sent, and the call is over.
func (b *bodyReader) appendEnd(p []byte) []byte {
	p = append(p, "0\r\n"...)
	for name, values := range b.call.out.Trailer {
		for _, v := range values {
			if !isToken.only(name) || notInTrailer(name) || !validValue(v) {
				b.fail(fmt.Errorf("%w: trailer %q: %q", ErrHeader, name, v))
				return nil
			}
			p = clientField(p, name, v)
		}
	}
	return append(p, "\r\n"...)
}

func (b *bodyReader) end() error {
	b.over = true
	b.cc.requestSent()
	return io.EOF
}

// fail ends the call: the server must not take a part for the whole.
func (b *bodyReader) fail(err error) {
	b.over = true
	b.call.cancel(err)
}

// fill reads a block. It answers false when that takes time.
func (b *bodyReader) fill(n int) bool {
	if b.reading {
		return false
	}
	if b.left >= 0 {
		n = int(min(int64(n), b.left))
	}
	if b.call.body.onLoop {
		return b.filled(readSome(context.Background(), b.src, b.buf[clientChunk:clientChunk+n]))
	}
	b.reading = true
	src, buf := b.src, b.buf
	core.Go(b.cc.c, func(ctx context.Context) (int, error) {
		return readSome(ctx, src, buf[clientChunk:clientChunk+n])
	}, func(n int, err error) error {
		b.reading = false
		if b.buf == nil { // given up meanwhile
			return nil
		}
		if b.filled(n, err) {
			b.cc.c.ResumeProducer()
		}
		return nil
	})
	return false
}

func (b *bodyReader) filled(n int, err error) bool {
	b.n = n
	switch err {
	case nil:
	case io.EOF:
		b.eof = true
	case core.ErrWouldBlock:
		return n > 0
	default:
		b.err = err
	}
	return true
}

// readSome reads once, and again only while that gives nothing.
func readSome(ctx context.Context, r io.Reader, p []byte) (n int, err error) {
	for range 100 { // as in bufio
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if n, err = r.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// Close: see buffered.Producer.
func (b *bodyReader) Close() error {
	if b.buf != nil && !b.reading {
		bodyBuffers.Put(b.buf)
	}
	b.buf = nil
	return nil
}

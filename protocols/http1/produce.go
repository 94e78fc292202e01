package http1

import (
	"io"
	"strconv"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
)

// bodyProducer frames the body that a producer makes.
type bodyProducer struct {
	x      *exchange
	p      buffered.Producer
	left   int64  // of the length; negative: not known
	buf    []byte // a chunk
	over   bool
	closed bool
}

const chunkOverhead = 20 + 5 // size, CRLF, CRLF, and the last chunk

func (b *bodyProducer) More(limit int) ([]byte, error) {
	if b.over {
		b.x.produced()
		return nil, io.EOF
	}
	chunked := b.x.flags&xChunked != 0
	if chunked {
		limit = max(limit-chunkOverhead, 1)
	}
	known := b.x.w.length >= 0
	if known {
		limit = int(min(int64(limit), b.left))
	}
	if known && b.left == 0 {
		b.x.produced()
		return nil, io.EOF
	}
	p, err := b.p.More(limit)
	ended := err == io.EOF || err == nil && len(p) == 0
	if err != nil && !ended && (err != core.ErrWouldBlock || len(p) == 0) {
		return nil, err
	}
	if known {
		if int64(len(p)) > b.left || ended && int64(len(p)) < b.left {
			return nil, io.ErrUnexpectedEOF // the client has to see that something is wrong
		}
		b.left -= int64(len(p))
	}
	b.x.w.written += int64(len(p))
	if chunked {
		b.buf = b.buf[:0]
		if len(p) > 0 {
			b.buf = strconv.AppendUint(b.buf, uint64(len(p)), 16)
			b.buf = append(b.buf, "\r\n"...)
			b.buf = append(b.buf, p...)
			b.buf = append(b.buf, "\r\n"...)
		}
		if ended {
			b.buf = b.x.w.appendLastChunk(b.buf)
		}
		p = b.buf
	}
	if !ended {
		return p, nil
	}
	if len(p) == 0 {
		b.x.produced()
		return nil, io.EOF
	}
	b.over = true
	return p, nil
}

// Close is called when the producer has ended, or its channel closes.
func (b *bodyProducer) Close() error {
	if c, ok := b.p.(io.Closer); ok && !b.closed {
		b.closed = true
		return c.Close()
	}
	return nil
}

// endProducer tells that the one before it is through.
type endProducer struct{ x *exchange }

func (e endProducer) More(int) ([]byte, error) {
	e.x.produced()
	return nil, io.EOF
}

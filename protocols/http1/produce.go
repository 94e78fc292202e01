package http1

import (
	"io"
	"net/http"
	"os"
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

// SendProducer has a producer make the body: package buffered has some. Its length is SetLength's; without, it goes out in
// chunks. It is asked on the loop's goroutine when the client has taken what came before, and closed at the end. Nothing can
// be written besides, and when the handler returns the response is complete as soon as the producer has ended. One that fails,
// or ends elsewhere than at the length, closes the connection. Errors: those of Write, and http.ErrContentLength if something
// was written and the length is set; the producer is closed then.
func (w *ResponseWriter) SendProducer(p buffered.Producer) error {
	return w.produce(&bodyProducer{x: w.x, p: p, left: w.length})
}

// SendFile is SendProducer for n bytes of a file from an offset, or for all up to its end, as it is now, if n is negative: by
// sendfile where platform and transport allow. It sets the length to that. The file is read on the loop's goroutine, and closed
// at the end, or at once with an error. If it turns out to be shorter the connection is closed, and Written, Entry.Octets and
// Counters.Octets are what was sent of it.
func (w *ResponseWriter) SendFile(f *os.File, offset, n int64) error {
	if n < 0 {
		info, err := f.Stat()
		if err != nil {
			_ = f.Close()
			return err
		}
		n = max(info.Size()-offset, 0)
	}
	w.SetLength(n)
	queued := false
	err := w.produce(buffered.FileFunc(f, offset, n, func(sent int64) {
		_ = f.Close()
		if queued {
			w.written -= n - sent
		}
	}), endProducer{w.x})
	if err == nil {
		w.written, queued = n, true
	}
	return err
}

// produce sends producers, the last of which says when it is through.
func (w *ResponseWriter) produce(ps ...buffered.Producer) (err error) {
	x := w.x
	switch {
	case x.s == nil || x.flags&(xFinished|xProducer) != 0:
		err = core.ErrClosed
	case w.err != nil:
		err = w.err
	case !bodyAllowed(w.status):
		err = http.ErrBodyNotAllowed
	case w.length >= 0 && w.written > 0:
		err = http.ErrContentLength
	default:
		if err = w.sendHead(); err == nil {
			err = w.sendGathered()
		}
	}
	if err == nil && !x.bodiless() {
		x.flags |= xProducer | xProducing
		for len(ps) > 0 && err == nil {
			err = x.s.c.PushProducer(ps[0])
			ps = ps[1:]
		}
	}
	for _, p := range ps {
		if c, ok := p.(io.Closer); ok {
			_ = c.Close()
		}
	}
	return err
}

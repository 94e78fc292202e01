package buffered

import (
	"errors"
	"io"
	"os"

	"github.com/parley-go/parley/core"
)

// Producer makes output piece by piece, when the peer has taken what came before: memory stays bounded by one block
// however much it makes. It is called on the loop's goroutine, never from inside a handler.
type Producer interface {
	// More returns the next block, at most max bytes of it if it can, which must stay as it is until the next call. io.EOF
	// ends the producer, a block that comes with it is its last; so does an empty block without an error. ErrWouldBlock
	// means that there is nothing yet: it is asked again after the channel's ResumeProducer, which may be called from within
	// More, too. Any other error closes the channel with it. [simple_producer.more]
	//
	// A producer that has a method Close() error gets that call once, when it has ended or its channel closes.
	More(max int) ([]byte, error)
}

func closeProducer(p Producer) {
	if c, ok := p.(io.Closer); ok {
		_ = c.Close()
	}
}

// Bytes returns a producer of p in blocks of at most size bytes, or as large as they are asked for if size is 0. It keeps
// p. [asynchat.simple_producer]
func Bytes(p []byte, size int) Producer { return &bytesProducer{p, size} }

type bytesProducer struct {
	rest []byte
	size int
}

func (b *bytesProducer) More(limit int) ([]byte, error) {
	if b.size > 0 {
		limit = min(limit, b.size)
	}
	block := b.rest[:min(limit, len(b.rest))]
	b.rest = b.rest[len(block):]
	if len(b.rest) == 0 {
		return block, io.EOF
	}
	return block, nil
}

// Reader returns a producer of what r reads, up to io.EOF. r is read on the loop's goroutine and must not block for long; if
// it answers core.ErrWouldBlock it is asked again after ResumeProducer. If r is an io.Closer it is closed at the end.
//
// A regular *os.File goes out by sendfile where platform and transport allow.
func Reader(r io.Reader) Producer {
	if f, ok := r.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			if at, err := f.Seek(0, io.SeekCurrent); err == nil {
				return File(f, at, -1)
			}
		}
	}
	return &readerProducer{r: r}
}

type readerProducer struct {
	r   io.Reader
	buf []byte
}

const maxEmptyReads = 100 // as in bufio

func (p *readerProducer) More(limit int) ([]byte, error) {
	if len(p.buf) == 0 {
		p.buf = make([]byte, 32<<10)
	}
	for range maxEmptyReads {
		n, err := p.r.Read(p.buf[:min(limit, len(p.buf))])
		if n > 0 || err != nil {
			if n > 0 && err != io.EOF { // the error comes again
				err = nil
			}
			return p.buf[:n], err
		}
	}
	return nil, io.ErrNoProgress
}

func (p *readerProducer) Close() error {
	if c, ok := p.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// File returns a producer of n bytes of a file from an offset; n < 0: up to its end. The file is read by position, so that
// several producers can share it; its own offset stays. It is closed at the end. A file that is shorter than n closes the
// channel with io.ErrUnexpectedEOF.
func File(f *os.File, offset, n int64) Producer { return &fileProducer{f: f, at: offset, left: n} }

// FileFunc is File for a file that stays open: done is called instead of closing it, once, on the loop's goroutine, when the
// producer has ended or its channel closes. Until then the file must not be closed. sent is how many bytes of it were handed
// on; if that is not n, the file was shorter or the connection failed.
func FileFunc(f *os.File, offset, n int64, done func(sent int64)) Producer {
	return &fileProducer{f: f, at: offset, left: n, from: offset, done: done}
}

type fileProducer struct {
	f    *os.File
	from int64
	done func(sent int64) // nil: the file is closed
	at   int64
	left int64 // negative: up to the end
	buf  []byte
	copy bool // sendfile does not do
}

func (p *fileProducer) part(limit int) int {
	if p.left < 0 {
		return limit
	}
	return int(min(int64(limit), p.left))
}

func (p *fileProducer) took(n int) {
	p.at += int64(n)
	if p.left > 0 {
		p.left -= int64(n)
	}
}

// ended is what the end of the file means.
func (p *fileProducer) ended() error {
	if p.left > 0 {
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}

func (p *fileProducer) sendFile(t Transport, limit int) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if p.copy {
		return 0, core.ErrUnsupported
	}
	n, err := t.SendFile(p.f, p.at, p.part(limit))
	p.took(n)
	switch {
	case err == io.EOF:
		err = p.ended()
	case errors.Is(err, core.ErrUnsupported):
		p.copy = true
	}
	return n, err
}

func (p *fileProducer) More(limit int) ([]byte, error) {
	if p.left == 0 {
		return nil, io.EOF
	}
	if p.buf == nil {
		p.buf = make([]byte, 32<<10)
	}
	n, err := p.f.ReadAt(p.buf[:p.part(min(limit, len(p.buf)))], p.at)
	p.took(n)
	if n > 0 {
		return p.buf[:n], nil
	}
	if err == io.EOF {
		err = p.ended()
	}
	return nil, err
}

func (p *fileProducer) Close() error {
	if p.done == nil {
		return p.f.Close()
	}
	p.done(p.at - p.from)
	return nil
}

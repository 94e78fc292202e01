package smtp

import (
	"bytes"
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/parley-go/parley/core"
)

const (
	bodyBlock   = 64 << 10 // octets that are read at a time
	bodyPiece   = 32 << 10 // of these, made into output at a time
	chunkHeader = 32       // room for "BDAT 65541 LAST" and CRLF
	chunksAhead = 16       // chunks without an answer; 1 without PIPELINING
	memoryCheck = 1 << 20  // octets of a Body in memory that are looked at before MAIL
)

// bodyBuffers are what a message is read into, and what is made of it.
var bodyBuffers = sync.Pool{New: func() any { return new([chunkHeader + stuffGrowth*bodyPiece + stuffEnd]byte) }}

type bodyBuffer = [chunkHeader + stuffGrowth*bodyPiece + stuffEnd]byte

// bodyProducer makes what is sent of a message, as the server takes it.
type bodyProducer struct {
	j       *mailing
	src     io.Reader
	onLoop  bool
	in, out *bodyBuffer
	text    []byte // of in: read, and not made into output
	eof     bool
	err     error // of src
	reading bool  // a worker uses in
	stuffer
}

func newBody(j *mailing) *bodyProducer {
	b := &bodyProducer{j: j, src: j.out.Body, stuffer: stuffer{dots: !j.chunking}}
	if b.src == nil {
		b.src = strings.NewReader("")
	}
	b.onLoop = j.out.Direct || neverBlocks(b.src)
	if p, ok := b.src.(*Pipe); ok {
		p.body = b
	}
	b.in, b.out = bodyBuffers.Get().(*bodyBuffer), bodyBuffers.Get().(*bodyBuffer)
	return b
}

// neverBlocks tells whether r can be read on the loop.
func neverBlocks(r io.Reader) bool {
	switch r := r.(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader, *Pipe:
		return true
	case *os.File:
		info, err := r.Stat()
		return err == nil && info.Mode().IsRegular()
	}
	return false
}

// bodySize is how much r has to read, if that is known.
func bodySize(r io.Reader) int64 {
	switch r := r.(type) {
	case interface{ Len() int }:
		if neverBlocks(r.(io.Reader)) {
			return int64(r.Len())
		}
	case *os.File:
		info, err := r.Stat()
		if err != nil || !info.Mode().IsRegular() {
			return 0
		}
		if at, err := r.Seek(0, io.SeekCurrent); err == nil {
			return info.Size() - at
		}
	}
	return 0
}

// More: see buffered.Producer.
func (b *bodyProducer) More(limit int) ([]byte, error) {
	j := b.j
	for !j.over && !j.c.conn.Closed() {
		if j.chunking && !b.mayChunk() {
			return nil, core.ErrWouldBlock
		}
		if len(b.text) == 0 && !b.eof && b.err == nil && !b.fill() {
			return nil, core.ErrWouldBlock
		}
		if b.err != nil {
			j.stop(localReply, b.err)
			break
		}
		piece := b.text[:min(len(b.text), max(limit, 8<<10)/stuffGrowth, bodyPiece)]
		b.text = b.text[len(piece):]
		if bad := b.check(piece); bad != nil {
			j.stop(bad, bad)
			break
		}
		out, last := b.convert(piece)
		b.note(len(piece))
		if last {
			return out, io.EOF
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	return nil, io.EOF
}

// mayChunk tells whether another chunk may be sent before the server has answered those that were.
func (b *bodyProducer) mayChunk() bool {
	if b.j.c.LMTP || !b.j.c.pipelining() {
		return len(b.j.c.pending) == 0
	}
	return len(b.j.c.pending) < chunksAhead
}

// fill reads a block. It answers false when that takes time.
func (b *bodyProducer) fill() bool {
	if b.reading {
		return false
	}
	if b.onLoop {
		n, err := readBlock(context.Background(), b.src, b.in[:bodyBlock])
		return b.filled(n, err)
	}
	b.reading = true
	src, in := b.src, b.in
	core.Go(b.j.c.conn, func(ctx context.Context) (int, error) {
		return readBlock(ctx, src, in[:bodyBlock])
	}, func(n int, err error) error {
		b.reading = false
		if b.out == nil { // given up meanwhile
			return nil
		}
		b.filled(n, err)
		b.j.c.conn.ResumeProducer()
		return nil
	})
	return false
}

func (b *bodyProducer) filled(n int, err error) bool {
	b.text = b.in[:n]
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

const maxEmptyReads = 100 // as in bufio

// readBlock fills p unless the input ends, or there is none for now.
func readBlock(ctx context.Context, r io.Reader, p []byte) (n int, err error) {
	for empty := 0; n < len(p) && err == nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		var m int
		m, err = r.Read(p[n:])
		n += m
		if m > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads && err == nil {
			err = io.ErrNoProgress
		}
	}
	return n, err
}

// check looks for octets that cannot be sent.
func (b *bodyProducer) check(p []byte) *Reply {
	j := b.j
	switch {
	case j.binary:
	case bytes.IndexByte(p, 0) >= 0:
		return nulReply
	case j.only7 != nil && !isASCII7(p):
		return j.only7
	}
	return nil
}

func isASCII7(p []byte) bool {
	for _, c := range p {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// precheck is check for a Body that is in memory, before anything is sent.
func (j *mailing) precheck() *Reply {
	r, ok := j.out.Body.(interface {
		io.ReaderAt
		Len() int
		Size() int64
	})
	var text []byte
	if buf, is := j.out.Body.(*bytes.Buffer); is {
		text = buf.Bytes()
	} else if ok && neverBlocks(j.out.Body) && r.Len() <= memoryCheck {
		text = make([]byte, r.Len())
		if _, err := r.ReadAt(text, r.Size()-int64(r.Len())); err != nil && err != io.EOF {
			return nil // it will come again
		}
	}
	if len(text) > memoryCheck {
		return nil
	}
	b := bodyProducer{j: j}
	return b.check(text)
}

// convert makes a piece into what is sent.
func (b *bodyProducer) convert(piece []byte) (out []byte, last bool) {
	j := b.j
	last = b.eof && len(b.text) == 0
	out = b.out[:chunkHeader]
	if j.binary {
		out = append(out, piece...)
	} else {
		out = b.append(out, piece)
		if last {
			out = b.end(out)
		}
	}
	if b.bare && j.out.RefuseBare {
		j.stop(bareReply, bareReply)
		return nil, true
	}
	n := len(out) - chunkHeader
	if !j.chunking || n == 0 && !last {
		return out[chunkHeader:], last
	}
	var header [chunkHeader]byte
	h := strconv.AppendInt(append(header[:0], "BDAT "...), int64(n), 10)
	if last {
		h = append(h, " LAST"...)
	}
	h = append(h, "\r\n"...)
	out = out[chunkHeader-len(h):]
	copy(out, h)
	if last {
		j.awaitEnd()
	} else {
		j.c.expect(command{step: stepChunk, timeout: j.c.timeouts.Block})
	}
	return out, last
}

// note counts what was handed to the connection.
func (b *bodyProducer) note(n int) {
	b.j.result.Sent += int64(n)
	if b.j.out.Progress != nil && n > 0 {
		b.j.out.Progress(b.j.result.Sent)
	}
}

// Close: see buffered.Producer.
func (b *bodyProducer) Close() error {
	if !b.reading {
		bodyBuffers.Put(b.in)
	}
	bodyBuffers.Put(b.out)
	b.in, b.out, b.text = nil, nil, nil
	return nil
}

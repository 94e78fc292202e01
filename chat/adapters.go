package chat

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/parley-go/parley/core"
)

// Lines returns a handler that calls f with each line, without its end ("\n" or "\r\n": the Line terminator is set if
// none is). The line is borrowed until f returns; one that lies whole within one read is not copied. Use one handler for
// each conversation. A line longer than Conn.SetLimit closes the connection with ErrTooLong; a last one that has no end is
// dropped.
func Lines(f func(c *Conn, line []byte) error) Handler { return &lines{f: f} }

type lines struct {
	f    func(*Conn, []byte) error
	view []byte        // what came of the line in this read, borrowed
	buf  *bytes.Buffer // what came earlier, pooled
}

// Two pools, so that the beginning of a short line never holds the memory of a long one. What nobody uses goes back to
// the garbage collector.
var (
	lineBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }} // up to keepPooled
	longBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }} // up to keepLong
)

const keepLong = 4 << 20

func giveBack(buf *bytes.Buffer) {
	switch {
	case buf.Cap() <= keepPooled:
		buf.Reset()
		lineBuffers.Put(buf)
	case buf.Cap() <= keepLong:
		buf.Reset()
		longBuffers.Put(buf)
	}
}

func (h *lines) terminator() Terminator { return Line }

func (h *lines) CollectIncomingData(_ *Conn, data []byte) error {
	if h.view == nil && h.buf == nil {
		h.view = data
		return nil
	}
	h.keep()
	h.write(data)
	return nil
}

// keep copies what is borrowed.
func (h *lines) keep() {
	if h.view != nil {
		h.write(h.view)
		h.view = nil
	}
}

func (h *lines) write(p []byte) {
	if h.buf == nil {
		h.buf = lineBuffers.Get().(*bytes.Buffer)
	}
	if short := h.buf; short.Len()+len(p) > keepPooled && short.Cap() <= keepPooled {
		h.buf = longBuffers.Get().(*bytes.Buffer)
		h.buf.Write(short.Bytes())
		giveBack(short)
	}
	h.buf.Write(p)
}

func (h *lines) FoundTerminator(c *Conn) error {
	line, buf := h.view, h.buf
	h.view, h.buf = nil, nil
	if buf == nil {
		return h.f(c, line)
	}
	err := h.f(c, buf.Bytes())
	giveBack(buf)
	return err
}

// Data returns a handler that calls f with whatever arrives, as it arrives. p is borrowed until f returns.
func Data(f func(c *Conn, p []byte) error) Handler { return data(f) }

type data func(*Conn, []byte) error

func (f data) CollectIncomingData(c *Conn, p []byte) error { return f(c, p) }
func (f data) FoundTerminator(*Conn) error                 { return nil }

// Buffer collects a token; embed it in a handler and call Take in FoundTerminator. It holds up to DefaultLimit bytes, or
// what SetBufferLimit says; a token larger than that is an error of CollectIncomingData. [asynchat's _collect_incoming_data
// and _get_data]
type Buffer struct {
	data  []byte
	limit int
}

// CollectIncomingData appends data.
func (b *Buffer) CollectIncomingData(_ *Conn, data []byte) error {
	limit := b.limit
	if limit == 0 {
		limit = DefaultLimit
	}
	if len(b.data)+len(data) > limit {
		return fmt.Errorf("chat: %d bytes do not fit the handler's buffer of %d: %w", len(b.data)+len(data), limit, core.ErrTooLong)
	}
	b.data = append(b.data, data...)
	return nil
}

// SetBufferLimit bounds what is collected, in bytes.
func (b *Buffer) SetBufferLimit(n int) { b.limit = n }

const keepCollected = 512

// Take returns what was collected and begins anew. The bytes are good until the next CollectIncomingData.
func (b *Buffer) Take() []byte {
	p := b.data
	if cap(p) > keepCollected { // an idle conversation owns no large buffer
		b.data = nil
	} else {
		b.data = p[:0]
	}
	return p
}

// Collected returns what was collected so far, and keeps it.
func (b *Buffer) Collected() []byte { return b.data }

package smtp

import (
	"io"

	"github.com/parley-go/parley/core"
)

// Pipe is a Body that is written while it is sent: by another conversation of the same loop, say. It is the reader's end,
// too, but that is the Client's. The zero value is empty. All methods are for the loop's goroutine.
//
//	n, err := pipe.Write(p)
//	if pipe.Wait(func(err error) { ... }) { ... } // write no more before that is called
//	...
//	pipe.Close() // the message is complete
type Pipe struct {
	buf  []byte
	at   int // what of buf was read
	end  error
	gone error // the reader has no use for more
	wait func(error)
	body *bodyProducer
}

// Bounds of a Pipe, in octets.
const (
	PipeLow   = 16 << 10 // a writer that waits goes on when not more is held
	PipeHigh  = 64 << 10 // Wait has the writer wait when more is held
	PipeLimit = 4 << 20  // more is not taken
)

// Write takes all of p, and copies it. Errors: core.ErrClosed after Close; core.ErrOverflow above PipeLimit; what the message
// came to, a *Reply, when it is over already.
func (p *Pipe) Write(b []byte) (int, error) {
	switch {
	case p.gone != nil:
		return 0, p.gone
	case p.end != nil:
		return 0, core.ErrClosed
	case p.Len()+len(b) > PipeLimit:
		return 0, core.ErrOverflow
	}
	if p.at > 0 && len(p.buf)+len(b) > cap(p.buf) {
		p.buf = p.buf[:copy(p.buf, p.buf[p.at:])]
		p.at = 0
	}
	p.buf = append(p.buf, b...)
	p.resume()
	return len(b), nil
}

// Len returns how much is held.
func (p *Pipe) Len() int { return len(p.buf) - p.at }

// Wait tells whether the writer should wait: more than PipeHigh is held. If so, f is called once, later: with nil when not
// more than PipeLow is left, or with what the message came to.
func (p *Pipe) Wait(f func(error)) bool {
	if p.gone != nil || p.Len() <= PipeHigh {
		return false
	}
	p.wait = f
	return true
}

// Close completes the message.
func (p *Pipe) Close() error { return p.CloseWithError(nil) }

// CloseWithError gives the message up, because of err; with nil it is Close. After the first of them nothing happens.
func (p *Pipe) CloseWithError(err error) error {
	if p.end != nil {
		return nil
	}
	if p.end = err; err == nil {
		p.end = io.EOF
	}
	p.resume()
	return nil
}

func (p *Pipe) resume() {
	if p.body != nil && p.gone == nil {
		p.body.j.c.conn.ResumeProducer()
	}
}

// Read is for the Client. core.ErrWouldBlock: nothing is there yet.
func (p *Pipe) Read(b []byte) (int, error) {
	if p.end != nil && p.end != io.EOF { // what came before is of no use
		return 0, p.end
	}
	n := copy(b, p.buf[p.at:])
	p.at += n
	if p.Len() == 0 {
		if p.at = 0; cap(p.buf) > 2*PipeHigh {
			p.buf = nil
		}
		p.buf = p.buf[:0]
	}
	if p.Len() <= PipeLow {
		p.release(nil)
	}
	switch {
	case p.Len() > 0:
		return n, nil
	case p.end != nil:
		return n, io.EOF
	case n == 0 && len(b) > 0:
		return 0, core.ErrWouldBlock
	}
	return n, nil
}

// release lets the writer go on.
func (p *Pipe) release(err error) {
	if f := p.wait; f != nil && p.body != nil {
		p.wait = nil
		p.body.j.c.soon(func() { f(err) })
	}
}

// abandon is called when the message is over.
func (p *Pipe) abandon(c *Client, r *Result) {
	if p.gone = core.ErrClosed; !r.Reply.Positive() {
		p.gone = r.Reply
	}
	p.buf, p.at, p.body = nil, 0, nil
	if f := p.wait; f != nil {
		p.wait = nil
		err := p.gone
		c.soon(func() { f(err) })
	}
}

package chat

import (
	"bufio"
	"bytes"
	"sync"

	"github.com/parley-go/parley/core"
)

// input is what was received and not worked on yet. While the loop's read buffer is scanned it is a view of that; what is
// left at the end of the event is copied.
type input struct {
	data  []byte // unread
	own   []byte // memory of its own, while data is not borrowed
	at    int    // while whole tokens are handed on, data is unread from here on
	fresh bool   // there may be something to find without more input
	held  bool   // data lies in own
	loops bool   // it is the one in the loop's Scratch, which its conversations use one after the other
}

// inputs has those of conversations that stopped with something unread.
var inputs = sync.Pool{New: func() any { return new(input) }}

const keepPooled = 64 << 10 // memory larger than that is not pooled

func (in *input) len() int { return len(in.data) - in.at }

// trim drops what was handed on.
func (in *input) trim() {
	if in.at > 0 {
		in.data, in.at = in.data[in.at:], 0
	}
}

func (in *input) borrow(p []byte) { in.data, in.held = p, false }

// keep copies what is borrowed.
func (in *input) keep() {
	if !in.held {
		in.own = append(in.own[:0], in.data...)
		in.data, in.held = in.own, true
	}
}

// add appends input behind what waits.
func (in *input) add(p []byte) {
	if len(in.data) == 0 {
		in.borrow(p)
		return
	}
	in.keep()
	in.own = append(append(in.own[:0], in.data...), p...)
	in.data = in.own
}

// prepend puts bytes back in front.
func (in *input) prepend(s string) {
	in.trim()
	data := append([]byte(s), in.data...)
	in.own, in.data, in.held = data, data, true
	in.fresh = true
}

// unread returns c.in, made if need be.
func (c *Conn) unread() *input {
	if c.in == nil {
		c.in = inputs.Get().(*input)
		c.in.fresh = true
	}
	return c.in
}

// view makes c.in one of what the loop's read buffer holds.
func (c *Conn) view(p []byte) {
	s := c.Loop().Scratch()
	in, ok := (*s).(*input)
	if !ok {
		in = &input{loops: true}
		*s = in
	}
	in.data, in.fresh = p, true
	c.in = in
}

// keepInput has what is left outlive the event.
func (c *Conn) keepInput() {
	in := c.in
	in.trim()
	in.keep()
	if in.loops {
		in.loops = false
		*c.Loop().Scratch() = nil
	}
}

func (c *Conn) dropInput() {
	if in := c.in; in != nil {
		c.in = nil
		c.flags |= dropped
		if cap(in.own) > keepPooled {
			in.own = nil
		}
		in.data, in.at, in.held = nil, 0, false
		if !in.loops {
			inputs.Put(in)
		}
	}
}

// takeInput returns a copy of what was not handed on, and forgets it.
func (c *Conn) takeInput() []byte {
	rest := []byte(c.scan.pending(0))
	if c.in != nil {
		c.in.trim()
		rest = append(rest, c.in.data...)
		c.dropInput()
	}
	c.scan.restart()
	c.flags |= changed
	return rest
}

// work scans what is unread and calls the handler, until nothing is left or something stops it.
func (c *Conn) work() {
	c.flags |= working
	defer c.worked()
	for noInput := 0; c.runnable(); {
		before := len(c.in.data)
		switch {
		case c.flags&askFirst != 0 && before > 0:
			c.flags &^= askFirst
			c.check("HandleFirst", as[FirstHandler](c.h).HandleFirst(c, c.in.data[0]))
		case c.plain() && c.whole():
			if c.in != nil && c.in.len() == 0 && c.scan.kind != kindCount { // nearly always
				c.flags &^= working
				return
			}
		case !c.advance():
			c.in.fresh = false
			c.flags &^= working
			return
		}
		if c.in == nil || len(c.in.data) != before {
			noInput = 0
		} else if noInput++; noInput > maxNoInput {
			c.check("FoundTerminator", errNoProgress)
			c.b.CloseWhenDoneWith(errNoProgress) // whatever HandleError did: it would go on for ever
		}
	}
	c.flags &^= working
}

// runnable tells whether there is something to scan, and nothing holds it up.
func (c *Conn) runnable() bool {
	if c.flags&(pausedBits|needStart) != 0 || c.b.Closed() || c.b.Closing() {
		return false
	}
	if c.in == nil || c.in.len() == 0 {
		if !c.emptyCount() {
			return false
		}
		c.unread().trim()
	}
	return true
}

// stopBits is what ends or interrupts the work on a buffer.
const stopBits = pausedBits | changed | retuned | askFirst | needStart | leaving | dropped

// plain tells whether the next token begins here and is delimited: what whole is for.
func (c *Conn) plain() bool {
	s := &c.scan
	return s.idle && s.count == 0 && s.held == 0 && !s.skip && (s.kind == kindByte || s.kind == kindLine || s.kind == kindLiteral) &&
		c.flags&(leaving|askFirst) == 0
}

// whole hands on the tokens that lie whole in what is unread, without going through the scanner's state for each. It
// answers false when none is left, and true when something out of the ordinary is to be looked at first.
func (c *Conn) whole() (interrupted bool) {
	c.flags &^= changed | retuned | dropped
	if h, ok := c.h.(*lines); ok && h.buf == nil && h.view == nil && c.scan.kind != kindLiteral && !c.b.Tracing() &&
		len(c.in.data) <= c.scan.tokenLimit() {
		end := byte('\n')
		if c.scan.kind == kindByte {
			end = c.scan.term.lit[0]
		}
		return c.wholeLines(h, end)
	}
	in, limit, tracing := c.in, c.scan.tokenLimit(), c.b.Tracing()
	for rest := in.data; len(rest) > 0; {
		i, end := c.scan.find(rest)
		if uint(i) > uint(limit) { // or not found
			in.trim()
			return false
		}
		if i > 0 {
			in.at += i
			if tracing {
				c.traceCollect(rest[:i])
			}
			if err := c.h.CollectIncomingData(c, rest[:i:i]); err != nil {
				c.check("CollectIncomingData", err)
			}
			if c.flags&(changed|dropped) != 0 || c.b.Closed() || c.b.Closing() {
				break
			}
		}
		in.at += end - i
		rest = rest[end:]
		if tracing {
			c.traceFound()
		}
		if err := c.h.FoundTerminator(c); err != nil {
			c.check("FoundTerminator", err)
		}
		if !(c.flags&stopBits == 0 && c.b.Easy()) && c.stopped() { // nearly never
			break
		}
	}
	c.trimInput()
	return true
}

// trimInput is trim, unless nothing is left: dropInput is next then.
func (c *Conn) trimInput() {
	if c.in != nil && c.in.len() > 0 {
		c.in.trim()
	}
}

// wholeLines is whole for the handlers that Lines makes, and input that is no longer than a line may be: one call for each line.
// What it does not do counts, see BenchmarkLine.
func (c *Conn) wholeLines(h *lines, end byte) (interrupted bool) {
	in, f, cr := c.in, h.f, c.scan.kind == kindLine
	p := in.data
	for at := 0; at < len(p); {
		i := bytes.IndexByte(p[at:], end)
		if i < 0 {
			in.trim()
			return false
		}
		line := p[at : at+i : at+i]
		at += i + 1
		in.at = at
		if cr && i > 0 && line[i-1] == '\r' {
			line = line[: i-1 : i-1]
		}
		if err := f(c, line); err != nil {
			c.check("FoundTerminator", err)
		}
		if c.flags&stopBits == 0 && c.b.Easy() { // nearly always
			continue
		}
		if c.stopped() {
			break
		}
	}
	c.trimInput()
	return true
}

// stopped tells whether something in the way that whole goes is not ordinary any more, after a token.
func (c *Conn) stopped() bool {
	if c.b.Out.Pressed() {
		c.holdBack()
	}
	return c.flags&stopBits != 0 || c.b.Closed() || c.b.Closing()
}

// holdBack stops input while the output queue is above its high mark.
func (c *Conn) holdBack() {
	if c.b.Overloaded() {
		c.flags |= pausedByHigh
		c.b.RequestFlush()
	}
}

// emptyCount tells whether Count(0) waits to be found.
func (c *Conn) emptyCount() bool { return c.scan.kind == kindCount && c.scan.count == 0 }

// worked is the end of work, also of one that a panic of the handler ended.
func (c *Conn) worked() {
	if h, ok := c.h.(*lines); ok { // the same, without looking the type up
		h.keep()
	} else if c.flags&hasKeep != 0 {
		as[keeper](c.h).keep()
	}
	if in := c.in; in != nil {
		left := in.len()
		if c.b.Closing() {
			c.b.Dropped(left)
		}
		if left == 0 || c.b.Closed() || c.b.Closing() {
			c.dropInput()
		} else {
			c.keepInput()
		}
	}
	if c.flags&working != 0 {
		c.flags &^= working
		if !c.b.Closed() {
			c.b.RequestFlush() // if HandleError does not close, the rest is worked on
		}
	}
	if c.in != nil || c.flags&pausedBits != 0 || !c.b.Reading() {
		c.sync()
	}
}

// advance makes one step and hands on what it gave. It answers false when more input is needed.
func (c *Conn) advance() bool {
	if c.scan.kind == kindSplit {
		return c.stepSplit()
	}
	p := c.in.data
	data, used, ev := c.scan.step(p)
	if len(data) > 0 {
		if used == 0 {
			return c.collectHeld(data, ev)
		}
		c.in.data = p[len(data):]
		if !c.collect(data) || c.in == nil { // another terminator from here on; Upgrade, DiscardBuffers
			return true
		}
	}
	c.in.data = p[used:]
	switch ev {
	case scanFound:
		c.found()
	case scanTooLong:
		c.tooLong(c.scan.pending(len(data)))
	default:
		return used > 0 || len(data) > 0
	}
	return true
}

// collectHeld hands on bytes that were held back.
func (c *Conn) collectHeld(data []byte, ev scanEvent) bool {
	if ev == scanMore {
		c.collect(data)
		return true
	}
	pending, held := c.scan.pending(len(data)), c.scan.held
	c.scan.held = 0
	if c.collect(data) {
		c.scan.held = held
		c.tooLong(pending)
	} else if !c.b.Closed() {
		c.unread().prepend(pending)
	}
	return true
}

func (c *Conn) traceCollect(data []byte) {
	if len(data) > 0 && c.b.Tracing() {
		c.b.Trace(core.Event{Kind: core.TraceCollect, N: len(data), Data: data})
	}
}

func (c *Conn) traceFound() {
	if c.b.Tracing() {
		c.b.Trace(core.Event{Kind: core.TraceFound, Name: c.scan.term.String()})
	}
}

// collect hands data on; it answers false if the terminator was changed by that, or the conversation stopped.
func (c *Conn) collect(data []byte) bool {
	c.flags &^= changed
	c.traceCollect(data)
	if err := c.h.CollectIncomingData(c, data); err != nil {
		c.check("CollectIncomingData", err)
	}
	return c.flags&changed == 0 && !c.b.Closed() && !c.b.Closing()
}

func (c *Conn) found() {
	c.traceFound()
	c.scan.finish()
	if err := c.h.FoundTerminator(c); err != nil {
		c.check("FoundTerminator", err)
	}
	if c.flags&leaving != 0 {
		c.b.CloseWhenDoneWith(core.ErrShutdown)
	}
	if c.b.Out.Pressed() {
		c.holdBack()
	}
}

// check deals with the error of a handler (rule 6).
func (c *Conn) check(method string, err error) {
	if err != nil {
		c.b.Fail(method, err)
	}
}

// tooLong asks the handler what to do about a token that reached its limit; pending was held back.
func (c *Conn) tooLong(pending string) {
	c.flags &^= changed | skipNow
	h, ok := core.As[core.TooLongHandler[*Conn]](c.h)
	if !ok {
		c.b.CloseWhenDoneWith(core.ErrTooLong)
		return
	}
	held := c.scan.held
	c.scan.held = 0 // what SetTerminator would put back is pending
	dot := c.scan.dot
	c.check("HandleTooLong", h.HandleTooLong(c))
	switch {
	case c.b.Closed() || c.b.Closing():
	case c.flags&changed != 0:
		if pending != "" {
			c.unread().prepend(pending)
		}
	case c.flags&skipNow != 0 && c.scan.kind != kindSplit:
		c.scan.held, c.scan.dot, c.scan.skip = held, dot, true
	default:
		c.b.CloseWhenDoneWith(core.ErrTooLong)
	}
	c.flags &^= skipNow
}

// stepSplit is advance for a Split, which needs a token's bytes all at once: they wait in c.in.
func (c *Conn) stepSplit() bool {
	p := c.in.data
	c.scan.idle = false
	advance, token, err := c.scan.split(p, false)
	switch {
	case err != nil && err != bufio.ErrFinalToken:
		c.splitFailed(err)
		return true
	case len(token) > c.scan.tokenLimit(),
		advance == 0 && token == nil && err == nil && len(p) > c.scan.tokenLimit()+splitSlack:
		c.tooLong("")
		return true
	case advance == 0 && token == nil && err == nil:
		return false
	}
	c.in.data = p[advance:]
	c.token(token, err)
	return true
}

// token hands on a Split's token.
func (c *Conn) token(token []byte, err error) {
	final := err == bufio.ErrFinalToken
	if token != nil {
		if len(token) > 0 && !c.collect(token) {
			return
		}
		if final {
			c.scan.set(None)
		}
		c.found()
	} else if final {
		c.scan.set(None)
	}
}

func (c *Conn) splitFailed(err error) {
	c.check("Split", err)
	c.b.CloseWhenDoneWith(err) // asking again would fail again
}

// finishInput hands on what is left at the end of the input.
func (c *Conn) finishInput() {
	if c.scan.kind == kindSplit {
		for n := 0; c.scan.kind == kindSplit && !c.b.Closed() && !c.b.Closing(); n++ {
			p := c.unread().data
			advance, token, err := c.scan.split(p, true)
			if err != nil && err != bufio.ErrFinalToken {
				c.splitFailed(err)
				return
			}
			c.in.data = p[advance:]
			if token == nil && err == nil && advance == 0 || n > maxNoInput && advance == 0 {
				break
			}
			c.token(token, err)
		}
		if c.in != nil && len(c.in.data) == 0 {
			c.dropInput()
		}
		return
	}
	if back := c.scan.pending(0); back != "" && !c.scan.skip {
		c.scan.held, c.scan.dot = 0, dotText
		c.collect([]byte(back))
	}
}

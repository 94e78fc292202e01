package chat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime/debug"
	"time"

	"github.com/parley-go/parley/core"
)

// Talk returns a handler whose conversation is written in straight lines:
//
//	chat.Talk(func(t *chat.Talker) error {
//		t.Printf("Your name? ")
//		name, err := t.ReadLine()
//		if err != nil {
//			return err
//		}
//		return t.Printf("Hello, %s.\n", name)
//	})
//
// The body runs as a coroutine (iter.Pull) on the loop's own goroutine, from the end of the event that began the
// conversation, or that completed a Dial: each call of the Talker that has to wait lets the loop serve others. So it needs
// no locks, and must not block in any other way (Await runs what does). When it returns, the connection is closed after
// its output was sent; an error other than the Talker's own is the handler's (rule 6 of package core), and so is a panic.
//
// A body that has called Conn.SetHandler returns, and the other handler goes on.
//
// Use one handler for each conversation. It has HandleEOF, HandleTimeout, HandleShutdown and HandleClose: what they are
// told is the error of the pending call.
func Talk(body func(t *Talker) error) Handler { return &Talker{body: body} }

// Talker is the conversation as the body of a Talk sees it. Its methods are for the body alone.
//
// The errors of its calls: io.EOF when the peer has sent everything, which leaves writing possible; ErrTimeout when the
// idle timeout passed while it was reading, after which it may go on; ErrShutdown when the loop shuts down, time to say
// goodbye; ErrTooLong when a line or block is over its limit, which has been dropped; otherwise why the connection closed.
type Talker struct {
	c       *Conn
	body    func(*Talker) error
	next    func() (struct{}, bool)
	stop    func()
	yield   func(struct{}) bool
	waiting talkWait
	found   bool  // the token is complete
	over    bool  // the token was too long
	now     error // for the pending call only
	eof     bool
	ending  error // shutdown
	closed  error // why the connection closed
	ignored int   // calls after that
	result  error
	done    bool
	limit   int
	buf     []byte
}

type talkWait uint8

const (
	talkRuns  talkWait = iota
	talkReads          // for a token
	talkElse           // for a timer, or work
	talkSends          // for the peer to take output
)

// maxIgnored is how often a body may call after the connection closed before it is ended.
const maxIgnored = 1000

var errIgnored = errors.New("chat: the body of a Talk goes on although its connection is closed")

// start begins the body.
func (t *Talker) start(c *Conn) error {
	t.c = c
	if t.limit == 0 {
		t.limit = DefaultLimit
	}
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		t.run()
	})
	return t.resume()
}

// run is the coroutine. A panic is caught here, where its stack is.
func (t *Talker) run() {
	defer func() {
		switch v := recover(); {
		case v == nil:
		case v == any(errIgnored):
			t.result = errIgnored
		default:
			t.result = &core.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	t.result = t.body(t)
}

// resume lets the body go on to its next wait. What it returns is the handler's error.
func (t *Talker) resume() error {
	if t.done {
		return nil
	}
	t.waiting = talkRuns
	if _, more := t.next(); more {
		return nil
	}
	t.done = true
	t.stop()
	err := t.result
	switch {
	case !t.inForce() && err == nil: // it has chosen another handler to go on
	case t.c.Closed():
		if !errors.As(err, new(*core.PanicError)) && err != errIgnored {
			return nil
		}
		return err
	case err == nil:
		t.c.CloseWhenDone()
	case errors.Is(err, io.EOF) && t.eof, errors.Is(err, core.ErrTimeout), t.ending != nil && errors.Is(err, t.ending):
		t.c.CloseWhenDoneWith(err)
	default:
		return err
	}
	return nil
}

// inForce tells whether the conversation still has this handler, by itself or wrapped.
func (t *Talker) inForce() bool {
	h, ok := core.As[*Talker](t.c.h)
	return ok && h == t
}

// wait lets the loop serve others until ready holds; the error is what ended it otherwise.
func (t *Talker) wait(why talkWait, ready func() bool) error {
	if why != talkReads {
		t.c.pause(pausedByTalk)
		defer t.c.resume(pausedByTalk)
	}
	for {
		switch {
		case t.closed != nil:
			if t.ignored++; t.ignored > maxIgnored {
				panic(errIgnored)
			}
			return t.closed
		case ready():
			return nil
		case t.now != nil:
			err := t.now
			t.now = nil
			return err
		case t.ending != nil && why != talkSends:
			return t.ending
		case t.eof && why == talkReads:
			return io.EOF
		}
		t.waiting = why
		t.yield(struct{}{})
	}
}

// ReadUntil reads a token. The bytes are the caller's.
func (t *Talker) ReadUntil(term Terminator) ([]byte, error) {
	t.found, t.over, t.now = false, false, nil
	t.buf = t.buf[:0]
	t.c.SetLimit(t.limit)
	t.c.SetBlockLimit(int64(t.limit))
	t.c.SetTerminator(term)
	err := t.wait(talkReads, func() bool { return t.found })
	if err == nil && t.over {
		err = core.ErrTooLong
	}
	p := bytes.Clone(t.buf)
	if cap(t.buf) > keepCollected {
		t.buf = nil
	}
	return p, err
}

// ReadLine reads a line, without its end ("\n" or "\r\n").
func (t *Talker) ReadLine() (string, error) {
	p, err := t.ReadUntil(Line)
	return string(p), err
}

// ReadN reads exactly n bytes. ErrTooLong, and nothing is read, if n is over the limit.
func (t *Talker) ReadN(n int) ([]byte, error) {
	if n > t.limit {
		return nil, core.ErrTooLong
	}
	return t.ReadUntil(Count(int64(n)))
}

// ReadDot reads a dot block, un-stuffed, with its last CRLF.
func (t *Talker) ReadDot() ([]byte, error) { return t.ReadUntil(Dot) }

// SetLimit bounds lines, blocks and counts, in bytes: DefaultLimit unless told.
func (t *Talker) SetLimit(n int) { t.limit = max(n, 1) }

// Write sends a copy of p. It waits while the output queue is above its high mark.
func (t *Talker) Write(p []byte) (int, error) {
	n, err := t.c.Write(p)
	if err != nil {
		return n, t.pushFailed(err)
	}
	return n, t.settled()
}

// WriteString is Write for a string.
func (t *Talker) WriteString(s string) (int, error) {
	n, err := t.c.WriteString(s)
	if err != nil {
		return n, t.pushFailed(err)
	}
	return n, t.settled()
}

// Printf writes formatted text.
func (t *Talker) Printf(format string, args ...any) error {
	_, err := t.WriteString(fmt.Sprintf(format, args...))
	return err
}

func (t *Talker) settled() error {
	if !t.c.b.Overloaded() {
		return nil
	}
	t.c.b.RequestFlush()
	// That flush may get below the mark before the crossing of it was seen, and then no HandleLow follows.
	timer := t.c.AfterFunc(0, func() { t.wake(talkSends) })
	defer timer.Stop()
	return t.wait(talkSends, func() bool { return !t.c.b.Out.High() && !t.c.b.Overloaded() })
}

func (t *Talker) pushFailed(err error) error {
	if t.closed != nil {
		return t.wait(talkSends, func() bool { return true })
	}
	return err
}

// Sleep waits. The error is nil when the time is over.
func (t *Talker) Sleep(d time.Duration) error {
	over := false
	timer := t.c.AfterFunc(d, func() {
		over = true
		t.wake(talkElse)
	})
	defer timer.Stop()
	return t.wait(talkElse, func() bool { return over })
}

// Await runs work on another goroutine and waits for it; see core.Go. The context is cancelled when the connection closes.
func (t *Talker) Await(work func(ctx context.Context) error) error {
	_, err := Await(t, func(ctx context.Context) (struct{}, error) { return struct{}{}, work(ctx) })
	return err
}

// Await is Talker.Await for work that has a result.
func Await[T any](t *Talker, work func(ctx context.Context) (T, error)) (T, error) {
	var (
		value T
		err   error
		over  bool
	)
	if t.closed == nil {
		core.Go(t.c, work, func(v T, e error) error {
			value, err, over = v, e, true
			t.wake(talkElse)
			return nil
		})
	}
	if e := t.wait(talkElse, func() bool { return over }); e != nil {
		var none T
		return none, e
	}
	return value, err
}

// Conn returns the conversation, for what the Talker does not offer. Leave its terminator alone.
func (t *Talker) Conn() *Conn { return t.c }

// wake resumes the body if that is what it waits for.
func (t *Talker) wake(why talkWait) {
	if t.waiting == why {
		t.c.check("Talk", t.resume())
	}
}

// wakeAny resumes the body whatever it waits for.
func (t *Talker) wakeAny() error {
	if t.waiting == talkRuns {
		return nil
	}
	return t.resume()
}

// CollectIncomingData and the methods below are the Talker as a handler.
func (t *Talker) CollectIncomingData(_ *Conn, data []byte) error {
	t.buf = append(t.buf, data...)
	return nil
}

// FoundTerminator resumes the body.
func (t *Talker) FoundTerminator(*Conn) error {
	t.found = true
	return t.wakeReader()
}

func (t *Talker) wakeReader() error {
	if t.waiting != talkReads {
		return nil
	}
	return t.resume()
}

// HandleTooLong drops the rest of the token; the pending call returns ErrTooLong at its end.
func (t *Talker) HandleTooLong(c *Conn) error {
	t.over = true
	t.buf = nil
	if c.scan.kind == kindSplit {
		return core.ErrTooLong
	}
	c.SkipToken()
	return nil
}

// HandleEOF has the pending read, and every later one, return io.EOF.
func (t *Talker) HandleEOF(*Conn) error {
	t.eof = true
	return t.wakeReader()
}

// HandleTimeout has a pending read return ErrTimeout. A body that is busy otherwise is not idle.
func (t *Talker) HandleTimeout(*Conn) error {
	if t.waiting != talkReads {
		return nil
	}
	t.now = core.ErrTimeout
	return t.resume()
}

// HandleShutdown has the pending call, and every later one that would wait, return ErrShutdown.
func (t *Talker) HandleShutdown(c *Conn) error {
	if t.next == nil {
		c.CloseWhenDoneWith(core.ErrShutdown)
		return nil
	}
	t.ending = core.ErrShutdown
	if t.waiting == talkSends {
		return nil
	}
	return t.wakeAny()
}

// HandleLow resumes a body that waits for its output to drain; HandleHigh is there for the pair.
func (t *Talker) HandleLow(*Conn) error {
	if t.waiting != talkSends {
		return nil
	}
	return t.resume()
}

// HandleHigh does nothing.
func (t *Talker) HandleHigh(*Conn) error { return nil }

// HandleClose ends the body: the pending call returns the cause, or core.ErrClosed.
func (t *Talker) HandleClose(_ *Conn, cause error) {
	t.closed = cause
	if cause == nil {
		t.closed = core.ErrClosed
	}
	if t.next == nil || t.done {
		return
	}
	t.c.check("Talk", t.wakeAny())
}

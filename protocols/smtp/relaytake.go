package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/parley-go/parley/protocols/mailbox"
)

// This file is how messages come into the queue of a Relay.

// full tells whether a further message has no room.
func (r *Relay) full(rcpts int, octets int64) bool {
	l := &r.limits
	return exceeds(r.messages+1, l.Messages) || exceeds(r.rcpts+rcpts, l.Recipients) || exceeds(r.octets+octets, l.Octets)
}

// ready tells a client why its message is not taken.
func (r *Relay) ready(rcpts int, octets int64) error {
	if !r.started.Load() || r.over.Load() {
		return errQueueClosed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full(rcpts, octets) {
		return errQueueFull
	}
	return nil
}

// HandleMail refuses a message for which there is no room.
func (r *Relay) HandleMail(_ *Session, _ Path, params Params) error {
	size, _, _ := parseSize(params["SIZE"])
	return r.ready(1, size)
}

// Begin is Backend's.
func (r *Relay) Begin(s *Session, e *Envelope) (Message, error) {
	if err := r.ready(len(e.To), 0); err != nil {
		return nil, err
	}
	m, head, err := newHeld(s.ID(), s.c.Loop().Now(), e)
	if err != nil {
		return nil, err
	}
	in := &relayLetter{letter: newLetter(s), r: r}
	r.coming.Add(1)
	in.open = func() (sink, error) {
		x, err := r.take(m, head, false)
		if err != nil {
			return nil, err
		}
		return x, nil
	}
	return in, nil
}

// relayLetter is a letter that the Relay waits for before it ends.
type relayLetter struct {
	*letter
	r    *Relay
	once sync.Once
}

// Commit is Message's.
func (m *relayLetter) Commit() error {
	return m.s.Later(func(ctx context.Context) error {
		defer m.once.Do(m.r.came)
		return m.commit(ctx)
	})
}

// Abort is Message's.
func (m *relayLetter) Abort() {
	m.letter.Abort()
	m.once.Do(m.r.came)
}

// came: a message has come to its end, for better or worse.
func (r *Relay) came() {
	if r.coming.Add(-1) == 0 && r.over.Load() {
		r.loop.Post(r.end)
	}
}

// Submit takes a message of the program's own, and returns what it is called in reports when it is in the queue, on the disk.
// message is read to its end; it is sent as it is, but that lines end in CRLF: header fields such as Date and Message-ID
// must be there. It blocks, so it is not for a loop's goroutine; any others may call it. e is not kept.
//
// Errors: a *Reply, as a client would get it, for what has no room (452) or cannot be sent; that of message; ctx's.
func (r *Relay) Submit(ctx context.Context, e *Envelope, message io.Reader) (id string, err error) {
	r.coming.Add(1)
	defer r.came()
	if err := r.ready(len(e.To), 0); err != nil {
		return "", err
	}
	if len(e.To) == 0 {
		return "", noRecipients
	}
	m, head, err := newHeld(r.newID(), r.loop.Now(), e)
	if err != nil {
		return "", err
	}
	x, err := r.take(m, head, false)
	if err != nil {
		return "", refused(err)
	}
	defer x.Abort()
	if err := x.copy(ctx, message, e.Params["BODY"] == "BINARYMIME"); err != nil {
		return "", refused(err)
	}
	if err := x.Commit(ctx); err != nil {
		return "", refused(err)
	}
	return m.id, nil
}

func refused(err error) error {
	if errors.Is(err, mailbox.ErrFull) {
		return fmt.Errorf("%w: %w", errQueueFull, err)
	}
	return err
}

// newID is what a message without a session is called.
func (r *Relay) newID() string {
	p := strconv.AppendInt(nil, r.loop.Now().UnixMilli(), 36)
	return upper(string(strconv.AppendUint(append(p, ".Q"...), r.serial.Add(1), 36)))
}

// incoming is a message on its way into the queue. It is a sink.
type incoming struct {
	r    *Relay
	m    *held
	d    *mailbox.Delivery
	own  bool // a report: there is always room
	over bool
}

// take begins a message, off the loop.
func (r *Relay) take(m *held, head []byte, own bool) (*incoming, error) {
	d, err := r.q.Begin()
	if err != nil {
		return nil, err
	}
	x := &incoming{r: r, m: m, d: d, own: own}
	m.head = int64(len(head))
	if err = x.reserve(m.head, true); err == nil {
		_, err = d.Write(head)
	} else {
		x.over = true
		d.Abort()
		return nil, err
	}
	if err != nil {
		x.Abort()
		return nil, err
	}
	return x, nil
}

// reserve takes room in the queue.
func (x *incoming) reserve(n int64, first bool) error {
	r, m := x.r, x.m
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case x.own:
	case first && r.full(len(m.to), n), exceeds(r.octets+n, r.limits.Octets):
		return errQueueFull
	}
	if first {
		r.messages++
		r.rcpts += len(m.to)
	}
	r.octets += n
	m.size += n
	return nil
}

// release gives the room of a message back.
func (r *Relay) release(m *held) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages--
	r.rcpts -= len(m.to)
	r.octets -= m.size
}

func (x *incoming) Write(p []byte) (int, error) {
	if err := x.reserve(int64(len(p)), false); err != nil {
		return 0, err
	}
	return x.d.Write(p)
}

// copy takes the message from a program.
func (x *incoming) copy(ctx context.Context, message io.Reader, binary bool) error {
	var ends stuffer
	a, b := bodyBuffers.Get().(*bodyBuffer), bodyBuffers.Get().(*bodyBuffer)
	defer bodyBuffers.Put(a)
	defer bodyBuffers.Put(b)
	in, out := a[:bodyPiece], b[:0]
	for {
		n, err := readBlock(ctx, message, in)
		switch last := err == io.EOF; {
		case err != nil && !last:
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return err
		case binary:
			out = append(out[:0], in[:n]...)
		case bytes.IndexByte(in[:n], 0) >= 0:
			return nulReply
		default:
			if out = ends.append(out[:0], in[:n]); last {
				out = ends.end(out)
			}
		}
		if _, err := x.Write(out); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
	}
}

// Commit has the message in the queue, and then the loop know of it.
func (x *incoming) Commit(ctx context.Context) error {
	if x.r.closed.Load() {
		return errQueueClosed
	}
	if err := x.d.Commit(ctx); err != nil {
		return err
	}
	x.over = true
	x.m.name = x.d.Name()
	if !x.own {
		x.r.counts.queued.Add(1)
		x.r.accept(x.m)
	}
	return nil
}

func (x *incoming) Abort() {
	if x.over {
		return
	}
	x.over = true
	x.d.Abort()
	x.r.release(x.m)
}

// accept tells the loop of a message. It lies in the queue: if the loop has ended, it is there at the next start.
func (r *Relay) accept(m *held) {
	r.mu.Lock()
	r.inbox = append(r.inbox, m)
	r.mu.Unlock()
	r.announce()
}

// announce has receive called on the loop, once however many messages there are.
func (r *Relay) announce() {
	r.mu.Lock()
	first := !r.posted
	r.posted = true
	r.mu.Unlock()
	if !first || r.loop.Post(r.receive) {
		return
	}
	r.mu.Lock()
	r.posted = false
	r.mu.Unlock()
	if !r.closed.Load() { // Options.MaxPosts wait
		time.AfterFunc(time.Second, r.announce)
	}
}

// receive takes what was accepted.
func (r *Relay) receive() {
	r.mu.Lock()
	all := r.inbox
	r.inbox, r.posted = nil, false
	r.mu.Unlock()
	for _, m := range all {
		r.enqueue(m)
	}
}

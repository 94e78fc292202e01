package smtp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parley-go/parley/protocols/mailbox"
)

// This file has Backends for where mail usually goes. None of them is a RcptHandler: Server.Domains and Server.Auth say
// whose mail is taken, or a struct with the Backend embedded that has HandleRcpt. All of them can serve several loops, and
// none holds one up: what may wait for a disk, or for a function, is work for Session.Later. A message lies in a buffer of
// 64 KiB; one that is larger is handed on whenever the buffer is full, while another is filled, and the client waits for
// that.

// Discard is a Backend that takes every message, counts it and drops it.
type Discard struct{ messages, octets atomic.Int64 }

// Messages is how many messages there were, and Octets how many octets of them, the Received fields among them. From any
// goroutine.
func (d *Discard) Messages() int64 { return d.messages.Load() }
func (d *Discard) Octets() int64   { return d.octets.Load() }

// Begin is Backend's.
func (d *Discard) Begin(*Session, *Envelope) (Message, error) { return &discarded{d: d}, nil }

type discarded struct {
	d *Discard
	n int64
}

func (m *discarded) Write(p []byte) (int, error) {
	m.n += int64(len(p))
	return len(p), nil
}

func (m *discarded) Commit() error {
	m.d.messages.Add(1)
	m.d.octets.Add(m.n)
	return nil
}

func (m *discarded) Abort() {}

// Maildir is a Backend that delivers into Maildirs: the 250 is sent when the message is in new, on the disk. If there is no
// room the answer is 452. Files that were left in tmp of Box are removed, once a day (see mailbox.Maildir.Clean). It must
// not be copied.
type Maildir struct {
	// Box gets each message once, however many recipients it has.
	Box *mailbox.Maildir

	// For, if it is set, is used instead of Box, and says where the mail of a recipient goes. It is called off the loop, for
	// several messages at a time. Recipients with the same Maildir share one copy. With LMTP each recipient has an answer of
	// its own: an error of For, as that of a hook, or of the delivery. With SMTP there is one answer, and the message goes to
	// all of them or to none; recipients that there are not should be refused before, by a RcptHandler.
	//
	// to is what the client said, and can have "/" and ".." in it: look it up, do not make a file name of it. Domains, and
	// most local parts, mean the same in capitals.
	For func(ctx context.Context, to Path) (*mailbox.Maildir, error)

	// NoReturnPath leaves the Return-Path field out that is put in front of each message, with Envelope.From in it: RFC 5321
	// section 4.4 demands it of the final delivery. Together with Server.NoReceived, every octet is as the client sent it.
	NoReturnPath bool

	// DeliveredTo puts a Delivered-To field in front for each recipient whose mailbox it is. Other recipients, such as those
	// of blind copies, are not named, unless they have the same one.
	DeliveredTo bool

	cleaned atomic.Int64 // when the day is over
}

// Mbox is a Backend that appends messages to an mbox file: the 250 is sent when the message is there, on the disk. If the
// file stays locked by others the answer is 450, if there is no room 452. A message of more than 64 KiB waits for its end
// in a temporary file. Server.Extensions must not have BINARYMIME: mbox files consist of lines.
type Mbox struct {
	// Box gets each message once, however many recipients it has.
	Box *mailbox.Mbox

	// NoReturnPath and DeliveredTo are as those of Maildir.
	NoReturnPath bool
	DeliveredTo  bool
}

// Func is a Backend of one function, which is called with each message when it is whole. It is called off the loop, for
// several messages at a time; what it returns is the answer to the message, as a hook's error is (but s.Later). ctx is
// cancelled when the connection is lost. envelope and message must not be used after it has returned; after an error nothing
// of the message should be kept.
//
// message is read from memory; one of more than 64 KiB from a temporary file (os.CreateTemp), which nobody else sees. So
// messages of any length can be taken; Limits.MessageSize says what that is.
type Func func(ctx context.Context, envelope *Envelope, message *io.SectionReader) error

// Print is a Backend that writes messages for people to read, as smtpd's DebuggingServer does. Lines end in LF, what a
// terminal might take for a command is escaped. At the end of the header stand the client's address, as in Python, and the
// envelope.
type Print struct {
	// W gets one message at a time; os.Stdout if nil.
	W io.Writer

	mu sync.Mutex
}

var errNoBox = errors.New("smtp: a Backend without Box")

// Begin is Backend's.
func (b *Maildir) Begin(s *Session, e *Envelope) (Message, error) {
	m := newLetter(s)
	switch {
	case b.For != nil:
		each := &eachLetter{letter: m}
		m.whole = func(ctx context.Context, message *io.SectionReader) error { return b.each(ctx, each, e, message) }
		return each, nil
	case b.Box == nil:
		return nil, errNoBox
	}
	m.open = func() (sink, error) {
		b.clean()
		d, err := b.begin(b.Box, e.From, e.To)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	return m, nil
}

// clean removes what was left in tmp, once a day.
func (b *Maildir) clean() {
	now, next := time.Now().Unix(), b.cleaned.Load()
	if now >= next && b.cleaned.CompareAndSwap(next, now+24*60*60) {
		_, _ = b.Box.Clean(0) // what could not be removed may be gone tomorrow
	}
}

// begin begins a delivery to those recipients that have a Maildir.
func (b *Maildir) begin(box *mailbox.Maildir, from Path, to []Recipient) (*mailbox.Delivery, error) {
	d, err := box.Begin()
	if err == nil {
		_, _ = d.Write(finalFields(from, to, b.NoReturnPath, b.DeliveredTo)) // Commit has the error
	}
	return d, err
}

// each delivers a message to the Maildirs of its recipients.
func (b *Maildir) each(ctx context.Context, m *eachLetter, e *Envelope, message *io.SectionReader) error {
	type copied struct {
		box   *mailbox.Maildir
		to    []Recipient
		index []int // of these, in Envelope.To
	}
	var copies []*copied
	byDir := make(map[string]*copied)
	for i, to := range e.To {
		box, err := b.For(ctx, to.Path)
		if err == nil && box == nil {
			err = errNoBox
		}
		if err != nil {
			if m.answer == nil {
				return err
			}
			m.answer(i, err)
			continue
		}
		c := byDir[box.Dir()]
		if c == nil {
			c = &copied{box: box}
			byDir[box.Dir()] = c
			copies = append(copies, c)
		}
		c.to, c.index = append(c.to, to), append(c.index, i)
	}
	var done []*mailbox.Delivery
	for _, c := range copies {
		d, err := b.copyTo(ctx, c.box, e.From, c.to, message)
		switch {
		case err == nil:
			done = append(done, d)
		case m.answer == nil:
			for _, d := range done {
				_ = d.Withdraw() // who has read it already has it
			}
			return err
		default:
			err = m.refusal(err)
			for _, i := range c.index {
				m.answer(i, err)
			}
		}
	}
	return nil
}

func (b *Maildir) copyTo(ctx context.Context, box *mailbox.Maildir, from Path, to []Recipient, message *io.SectionReader) (*mailbox.Delivery, error) {
	d, err := b.begin(box, from, to)
	if err != nil {
		return nil, err
	}
	defer d.Abort()
	if _, err := io.Copy(d, io.NewSectionReader(message, 0, message.Size())); err != nil {
		return nil, err
	}
	return d, d.Commit(ctx)
}

// Begin is Backend's.
func (b *Mbox) Begin(s *Session, e *Envelope) (Message, error) {
	if b.Box == nil {
		return nil, errNoBox
	}
	m, at := newLetter(s), s.c.Loop().Now()
	m.whole = func(ctx context.Context, message *io.SectionReader) error {
		fields := finalFields(e.From, e.To, b.NoReturnPath, b.DeliveredTo)
		return b.Box.Append(ctx, e.From.Address(), at, io.MultiReader(bytes.NewReader(fields), message))
	}
	return m, nil
}

// Begin is Backend's.
func (f Func) Begin(s *Session, e *Envelope) (Message, error) {
	m := newLetter(s)
	m.whole = func(ctx context.Context, message *io.SectionReader) error { return f(ctx, e, message) }
	return m, nil
}

// finalFields are the fields that the final delivery puts in front of a message.
func finalFields(from Path, to []Recipient, noReturnPath, deliveredTo bool) []byte {
	var b bytes.Buffer
	if !noReturnPath {
		b.WriteString("Return-Path: " + from.String() + "\r\n")
	}
	if deliveredTo {
		for _, r := range to {
			b.WriteString("Delivered-To: " + r.Address() + "\r\n")
		}
	}
	return b.Bytes()
}

// Begin is Backend's.
func (b *Print) Begin(s *Session, e *Envelope) (Message, error) {
	peer := ""
	if a := s.RemoteAddr(); a != nil {
		peer = a.String()
		if host, _, err := net.SplitHostPort(peer); err == nil {
			peer = host
		}
	}
	m := newLetter(s)
	m.whole = func(ctx context.Context, message *io.SectionReader) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if err := context.Cause(ctx); err != nil {
			return err
		}
		to := make([]string, len(e.To))
		for i, r := range e.To {
			to[i] = r.Address()
		}
		out := b.W
		if out == nil {
			out = os.Stdout
		}
		w := bufio.NewWriter(out)
		_, _ = w.WriteString("---------- MESSAGE FOLLOWS ----------\n") // errors stay, for Flush
		if err := printMessage(w, message, "X-Peer: "+peer+"\nX-MailFrom: "+e.From.Address()+"\nX-RcptTo: "+strings.Join(to, ", ")+"\n"); err != nil {
			return err
		}
		_, _ = w.WriteString("------------ END MESSAGE ------------\n")
		return w.Flush()
	}
	return m, nil
}

// printMessage writes a message with fields at the end of its header.
func printMessage(w *bufio.Writer, message io.Reader, fields string) error {
	r := bufio.NewReader(message)
	header, empty := true, true // the line that begins
	for {
		c, size, err := r.ReadRune()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if c == '\r' {
			if next, _ := r.Peek(1); len(next) == 1 && next[0] == '\n' {
				continue
			}
		}
		switch {
		case c == '\n':
			if header && empty {
				_, _ = w.WriteString(fields)
				header = false
			}
			_ = w.WriteByte('\n')
			empty = true
			continue
		case c == utf8.RuneError && size == 1:
			_ = r.UnreadRune()
			octet, _ := r.ReadByte()
			fmt.Fprintf(w, `\x%02x`, octet)
		case c == '\t' || unicode.IsPrint(c):
			_, _ = w.WriteRune(c)
		default:
			q := strconv.QuoteRune(c)
			_, _ = w.WriteString(q[1 : len(q)-1])
		}
		empty = false
	}
	if !empty {
		_ = w.WriteByte('\n')
	}
	return nil
}

// bufferSize is how much of a message is in memory at a time; while it is handed on, twice of that.
const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// letter is a Message that is collected in a buffer. What does not go into one goes into a sink, which is opened when the
// first is full.
type letter struct {
	s   *Session
	id  string
	log *slog.Logger

	open  func() (sink, error)                                 // for messages of any size; nil: whole
	whole func(ctx context.Context, m *io.SectionReader) error // for messages that are whole

	buf *[bufferSize]byte // nil: nothing is in it
	n   int
	out sink // nil: nothing is in it
}

// sink is where a message goes that does not fit in a buffer. It is used off the loop. Abort after Commit does nothing.
type sink interface {
	io.Writer
	Commit(ctx context.Context) error
	Abort()
}

func newLetter(s *Session) *letter { return &letter{s: s, id: s.ID(), log: s.c.Loop().Logger()} }

// Write is Message's.
func (m *letter) Write(p []byte) (int, error) {
	if m.buf == nil {
		m.buf = buffers.Get().(*[bufferSize]byte)
	}
	n := copy(m.buf[m.n:], p)
	m.n += n
	if n == len(p) {
		return n, nil
	}
	full := m.buf
	m.buf = buffers.Get().(*[bufferSize]byte)
	m.n = copy(m.buf[:], p[n:])
	return len(p), m.s.Later(func(context.Context) error {
		defer buffers.Put(full)
		return m.refusal(m.put(full[:]))
	})
}

// put hands on what is not the end of the message.
func (m *letter) put(p []byte) (err error) {
	if m.out == nil {
		if m.out, err = m.begin(); err != nil {
			m.out = nil
			return err
		}
	}
	_, err = m.out.Write(p)
	return err
}

func (m *letter) begin() (sink, error) {
	if m.open != nil {
		return m.open()
	}
	return newSpool(m.whole)
}

// Commit is Message's.
func (m *letter) Commit() error {
	return m.s.Later(m.commit)
}

// commit is the work of Commit.
func (m *letter) commit(ctx context.Context) error {
	defer m.release()
	return m.refusal(m.finish(ctx))
}

// finish hands on the end of the message, or all of it.
func (m *letter) finish(ctx context.Context) error {
	var rest []byte
	if m.buf != nil {
		rest = m.buf[:m.n]
	}
	if m.out == nil && m.whole != nil {
		return m.whole(ctx, io.NewSectionReader(bytes.NewReader(rest), 0, int64(len(rest))))
	}
	err := m.put(rest)
	if m.out == nil {
		return err
	}
	defer m.out.Abort()
	if err != nil {
		return err
	}
	return m.out.Commit(ctx)
}

// aborts are what is removed at the moment; nobody waits for that but tests.
var aborts sync.WaitGroup

// Abort is Message's.
func (m *letter) Abort() {
	m.release()
	if out := m.out; out != nil {
		aborts.Go(out.Abort) // the disk may take its time; the session can be over before
	}
}

// release gives the buffer back.
func (m *letter) release() {
	if m.buf != nil {
		buffers.Put(m.buf)
		m.buf = nil
	}
}

// refusal is what the client is told of an error of a mailbox.
func (m *letter) refusal(err error) error {
	var r *Reply
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mailbox.ErrFull):
		r = Replyf(452, "4.3.1", "There is no room, try again later")
	case errors.Is(err, mailbox.ErrLocked):
		r = Replyf(450, "4.2.0", "The mailbox is busy, try again later")
	default:
		return err
	}
	m.log.Error("smtp delivery", "id", m.id, "error", err)
	return r
}

// eachLetter is a letter whose recipients have answers of their own.
type eachLetter struct {
	*letter
	answer func(i int, err error) // nil: there is one for all
}

// CommitEach is EachMessage's.
func (m *eachLetter) CommitEach(answer func(i int, err error)) error {
	m.answer = answer
	return m.Commit()
}

// spool keeps a message in a temporary file until it is whole.
type spool struct {
	f     *os.File // nil: it is over
	gone  bool     // the file has no name any more, so that nothing is left even if the process is killed
	size  int64
	whole func(context.Context, *io.SectionReader) error
}

func newSpool(whole func(context.Context, *io.SectionReader) error) (sink, error) {
	f, err := os.CreateTemp("", "parley-smtp-*")
	if err != nil {
		return nil, err
	}
	return &spool{f: f, gone: os.Remove(f.Name()) == nil, whole: whole}, nil
}

func (s *spool) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	s.size += int64(n)
	return n, err
}

func (s *spool) Commit(ctx context.Context) error {
	defer s.Abort()
	return s.whole(ctx, io.NewSectionReader(s.f, 0, s.size))
}

func (s *spool) Abort() {
	if s.f == nil {
		return
	}
	_ = s.f.Close()
	if !s.gone {
		_ = os.Remove(s.f.Name())
	}
	s.f = nil
}

package mailbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Mbox is a mailbox that is one file, of the form called mboxrd. Before each message stands a line that begins with "From "
// and has who sent it and when; behind it stands an empty line. Lines end in LF. A line of a message that begins with
// "From ", or with that behind some ">", gets one more ">" in front, which readers can take off again.
//
// While a message is appended the file is locked in both of the ways that mail programs use, in the order that Debian's
// policy (section 11.6) demands: with fcntl, and by a dotlock file, which is the file's name with ".lock" behind it and is
// made where the file lies.
type Mbox struct {
	// Path is the file. It is made, for its owner only, if it is not there.
	Path string

	// LockTimeout is how long Append waits for others who have the file locked: 30 seconds if it is 0; if it is negative,
	// not at all.
	LockTimeout time.Duration

	// StaleLock is the age at which a dotlock file of another program is taken for one that it forgot, and removed: 5
	// minutes if it is 0; if it is negative, never. One of this package is known to be forgotten at once, if there are
	// locks of the kernel: who has a dotlock file has the other lock, too.
	StaleLock time.Duration

	fs fsys // nil: the system's
}

// Append appends a message, which is read while the file is locked: it should be there already. sender is the address that
// the message came from, "" if it is to have no answer: then MAILER-DAEMON stands for it. Spaces and control characters in
// it become hyphens. at is when the message came; now if it is zero.
//
// When it returns nil the message is in the file, and stays there if the machine loses its power. After an error the file is
// as it was; if not even that can be done, or the process is killed, the next Append sees to it. That ctx is cancelled is such
// an error. Others are ErrLocked, ErrFull and the system's.
func (m *Mbox) Append(ctx context.Context, sender string, at time.Time, message io.Reader) error {
	l, err := m.lock(ctx)
	if err != nil {
		return full(err)
	}
	defer l.unlock()
	if err = l.append(ctx, sender, at, message); err != nil {
		if undone := l.undo(); undone != nil {
			l.keep = true
			err = errors.Join(err, fmt.Errorf("mailbox: the file could not be cut back: %w", undone))
		}
	}
	return full(err)
}

func (l *mboxLock) append(ctx context.Context, sender string, at time.Time, message io.Reader) error {
	gap, err := l.gap()
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(l.f, 32<<10)
	_, _ = w.WriteString(gap) // errors stay, for Flush
	_, _ = w.WriteString(fromLine(sender, at))
	q := quoter{w: w, last: '\n'}
	if _, err := io.Copy(&q, message); err != nil {
		return err
	}
	q.end()
	if err := w.Flush(); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := l.f.Sync(); err != nil {
		return err
	}
	return l.done()
}

// gap is what is missing before the next message: the file may have been written by others.
func (l *mboxLock) gap() (string, error) {
	n := min(l.size, 2)
	if n == 0 {
		return "", nil
	}
	end := make([]byte, n)
	if _, err := l.f.ReadAt(end, l.size-n); err != nil {
		return "", err
	}
	switch {
	case end[n-1] != '\n':
		return "\n\n", nil
	case n == 2 && end[0] != '\n':
		return "\n", nil
	}
	return "", nil
}

func (l *mboxLock) undo() error {
	if err := l.f.Truncate(l.size); err != nil {
		return err
	}
	return l.f.Sync()
}

const from = "From "

// fromLine is what stands before a message.
func fromLine(sender string, at time.Time) string {
	if sender == "" {
		sender = "MAILER-DAEMON"
	}
	if at.IsZero() {
		at = time.Now()
	}
	sender = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '-'
		}
		return r
	}, sender)
	return from + sender + " " + at.UTC().Format(time.ANSIC) + "\n"
}

// quoter writes a message as it stands in the file, in pieces that may be cut anywhere. Errors are for w's Flush.
type quoter struct {
	w    *bufio.Writer
	ends lineEnds
	buf  []byte // with LF
	out  []byte
	n    int  // how much of "From " the line began with, behind any ">"; -1: it is another line
	last byte // that was written
}

func (q *quoter) Write(p []byte) (n int, err error) {
	for piece := range slices.Chunk(p, 8<<10) { // so that what is kept stays small
		q.buf = q.ends.appendTo(q.buf[:0], piece)
		if err := q.lines(q.buf); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}

func (q *quoter) lines(p []byte) error {
	q.out = q.out[:0]
	for i := 0; i < len(p); {
		switch {
		case q.n < 0:
			rest := p[i:]
			if end := bytes.IndexByte(rest, '\n'); end >= 0 {
				rest = rest[:end+1]
				q.n = 0
			}
			q.out = append(q.out, rest...)
			i += len(rest)
		case q.n == 0 && p[i] == '>': // one more makes the same line, wherever it is put
			q.out = append(q.out, '>')
			i++
		case p[i] != from[q.n]:
			q.out = append(q.out, from[:q.n]...)
			q.n = -1
		default:
			i++
			if q.n++; q.n == len(from) {
				q.out = append(q.out, ">"+from...)
				q.n = -1
			}
		}
	}
	if len(q.out) > 0 {
		q.last = q.out[len(q.out)-1]
	}
	_, err := q.w.Write(q.out)
	return err
}

// end ends the last line, if it has none, and adds the empty one.
func (q *quoter) end() {
	_ = q.lines(q.ends.end())
	if q.n > 0 {
		_, _ = q.w.WriteString(from[:q.n])
		q.last = from[q.n-1]
	}
	if q.last != '\n' {
		_ = q.w.WriteByte('\n')
	}
	_ = q.w.WriteByte('\n')
}

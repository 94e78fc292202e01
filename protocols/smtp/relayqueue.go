package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// held is a message in the queue of a Relay. Its file begins with the envelope, in the words of SMTP:
//
//	Parley-Queue: 1
//	Time: 2000-01-01T00:00:00Z
//	ID: DCG8W0.1.1
//	MAIL FROM:<a@client.example> RET=HDRS
//	RCPT TO:<pat@example.org> NOTIFY=NEVER
//
// and an empty line; these lines end in LF, and behind them stands the message. The note of the file has the numbers of the
// recipients of which nothing is left to do.
type held struct {
	name string // of the file
	id   string
	at   time.Time // when it came
	from Path
	to   []Recipient

	params Params
	head   int64 // octets of the envelope
	size   int64 // octets of the file

	done  []bool
	open  int // recipients that are not done
	dirty bool
}

const (
	headMagic = "Parley-Queue: 1"
	noteMagic = "Parley-Done: 1"

	maxHead = 16 << 20 // octets of an envelope
)

// errHead: it is not the envelope of a message of ours.
var errHead = errors.New("smtp: the envelope of a message in the queue cannot be read")

// newHeld makes a message, and the envelope in front of it. The error is a *Reply.
func newHeld(id string, at time.Time, e *Envelope) (*held, []byte, error) {
	m := &held{id: id, at: at.UTC(), from: e.From, to: slices.Clone(e.To), params: maps.Clone(e.Params)}
	delete(m.params, "SIZE") // follows from the message
	delete(m.params, "AUTH") // it is for us to say whom we trust: RFC 4954 section 5
	m.done, m.open = make([]bool, len(m.to)), len(m.to)
	head, err := m.appendHead(nil)
	if err == nil && len(head) > maxHead {
		err = errTooManyAddresses
	}
	if err != nil {
		return nil, nil, err
	}
	return m, head, nil
}

var errTooManyAddresses = Replyf(452, "4.5.3", "The envelope is too large")

func (m *held) appendHead(p []byte) ([]byte, error) {
	if !goodPath(m.from) || m.from.Domain == "" && m.from.Local != "" {
		return nil, badSender
	}
	if !goodID(m.id) {
		return nil, badParams
	}
	p = append(p, headMagic+"\nTime: "...)
	p = m.at.AppendFormat(p, time.RFC3339Nano)
	p = append(append(p, "\nID: "...), m.id...)
	p = append(append(p, "\nMAIL FROM:"...), m.from.String()...)
	p, ok := appendParams(p, m.params)
	for _, to := range m.to {
		if to.IsNull() || !goodPath(to.Path) {
			return nil, badRecipient
		}
		p = append(append(p, "\nRCPT TO:"...), to.Path.String()...)
		good := false
		p, good = appendParams(p, to.Params)
		ok = ok && good
	}
	if !ok {
		return nil, badParams
	}
	return append(p, "\n\n"...), nil
}

func goodID(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '.' && s[i] != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 100
}

// appendParams answers whether they will read back as they are.
func appendParams(p []byte, params Params) (_ []byte, ok bool) {
	if len(params) > maxParams {
		return p, false
	}
	for _, k := range slices.Sorted(maps.Keys(params)) {
		v := params[k]
		if !goodKeyword(k) || k != upper(k) || v != "" && !goodValue(v, true) {
			return p, false
		}
		p = append(append(p, ' '), k...)
		if v != "" {
			p = append(append(p, '='), v...)
		}
	}
	return p, true
}

// readHead reads from the beginning of a file what looks like an envelope.
func readHead(r *io.SectionReader) ([]byte, error) {
	for n := int64(4 << 10); ; n *= 8 {
		n = min(n, r.Size(), maxHead)
		p := make([]byte, n)
		if _, err := r.ReadAt(p, 0); err != nil && err != io.EOF {
			return nil, err
		}
		if i := bytes.Index(p, []byte("\n\n")); i >= 0 {
			return p[:i+2], nil
		}
		if n == r.Size() || n == maxHead {
			return nil, errHead
		}
	}
}

// parseHead is the reverse of appendHead.
func parseHead(head []byte) (*held, error) {
	text, ok := strings.CutSuffix(string(head), "\n\n")
	lines := strings.Split(text, "\n")
	if !ok || len(lines) < 5 || lines[0] != headMagic {
		return nil, errHead
	}
	m := new(held)
	var err error
	at, isTime := strings.CutPrefix(lines[1], "Time: ")
	if m.at, err = time.Parse(time.RFC3339Nano, at); !isTime || err != nil {
		return nil, fmt.Errorf("%w: %q", errHead, lines[1])
	}
	m.at = m.at.UTC()
	if m.id, ok = strings.CutPrefix(lines[2], "ID: "); !ok || !goodID(m.id) {
		return nil, fmt.Errorf("%w: %q", errHead, lines[2])
	}
	if m.from, m.params, err = parseHeadLine(lines[3], "MAIL FROM:"); err != nil {
		return nil, err
	}
	for _, line := range lines[4:] {
		var to Recipient
		if to.Path, to.Params, err = parseHeadLine(line, "RCPT TO:"); err != nil {
			return nil, err
		}
		if to.IsNull() {
			return nil, fmt.Errorf("%w: %q", errHead, line)
		}
		m.to = append(m.to, to)
	}
	m.done, m.open = make([]bool, len(m.to)), len(m.to)
	back, err := m.appendHead(nil)
	if err != nil || !bytes.Equal(back, head) { // it is not what we write
		return nil, errHead
	}
	return m, nil
}

func parseHeadLine(line, keyword string) (Path, Params, error) {
	arg, ok := strings.CutPrefix(line, keyword)
	p, rest, err := ParsePath(arg, true)
	var params Params
	if err == nil {
		params, err = ParseParams(rest, true)
	}
	if !ok || err != nil {
		return Path{}, nil, fmt.Errorf("%w: %q", errHead, line)
	}
	return p, params, nil
}

// note has the recipients that are done.
func (m *held) note() []byte {
	p := []byte(noteMagic + "\n")
	for i, done := range m.done {
		if done {
			p = append(strconv.AppendInt(p, int64(i), 10), '\n')
		}
	}
	return p
}

// applyNote is the reverse. Of a note that makes no sense nothing counts.
func (m *held) applyNote(p []byte) error {
	if p == nil {
		return nil
	}
	lines := strings.Split(string(p), "\n")
	last := len(lines) - 1
	if lines[0] != noteMagic || lines[last] != "" {
		return errNote
	}
	done := make([]bool, len(m.to))
	open := len(m.to)
	for _, line := range lines[1:last] {
		i, err := strconv.Atoi(line)
		if err != nil || i < 0 || i >= len(done) || done[i] || strconv.Itoa(i) != line {
			return errNote
		}
		done[i] = true
		open--
	}
	m.done, m.open = done, open
	return nil
}

var errNote = errors.New("smtp: the note of a message in the queue cannot be read")

package load

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

// text is what all connections send: lines of one length, each different, over and over. A connection is somewhere in it,
// which is all that it has to know to send the next lines and to compare what comes back.
type text struct {
	data   []byte // count lines, and behind them the first depth ones again, so that a batch is always in one piece
	length int
	count  int
	depth  int
	answer *response // to each line; nil: the line itself
}

// newText makes a text. It holds every byte but "\n" inside lines, "\r" and 0 included, and is the same every time.
func newText(length, depth int) *text {
	const size = 64 << 10 // small enough to stay in a CPU's cache
	t := &text{length: length, count: max(size/length, 3), depth: depth}
	random := rand.NewChaCha8([32]byte{'e', 'c', 'h', 'o'})
	t.data = make([]byte, (t.count+depth)*length)
	_, _ = random.Read(t.data) // never fails
	for i, b := range t.data {
		if b == '\n' {
			t.data[i] = '\r'
		}
	}
	for end := length; end <= len(t.data); end += length {
		t.data[end-1] = '\n'
	}
	for i := range depth {
		copy(t.line(t.count+i), t.line(i%t.count))
	}
	return t
}

func (t *text) line(i int) []byte { return t.data[i*t.length : (i+1)*t.length] }

// batch returns the lines from the i-th on that are sent at a time, and the number of the line behind them.
func (t *text) batch(i int) (p []byte, next int) {
	return t.data[i*t.length : (i+t.depth)*t.length], (i + t.depth) % t.count
}

// due returns how many bytes are to come back for the first sent bytes of a batch.
func (t *text) due(sent int) int {
	if t.answer == nil {
		return sent
	}
	return sent / t.length * len(t.answer.text)
}

// check compares what came with what is due of a batch, from the got-th byte up to the due-th.
func (t *text) check(p, batch []byte, got, due int) error {
	if t.answer == nil {
		return compare(p, batch[got:due], got)
	}
	return t.answer.check(p, got, due)
}

// start returns the line that the n-th connection begins with: neighbours are far apart, so that an echo of the wrong
// connection's line shows.
func (t *text) start(n int) int { return n * 7919 % t.count }

// compare tells how what came differs from what was due next; nil: not at all. before is how many bytes of the batch
// came earlier.
func compare(got, due []byte, before int) error {
	if len(got) > len(due) {
		if err := compare(got[:len(due)], due, before); err != nil {
			return err
		}
		return fmt.Errorf("%d bytes more than were sent", len(got)-len(due))
	}
	if bytes.Equal(got, due[:len(got)]) {
		return nil
	}
	i := differ(got, due)
	return fmt.Errorf("wrong byte %#02x instead of %#02x at offset %d of %d", got[i], due[i], before+i, before+len(due))
}

// differ returns where got, which is no longer than due, differs from it; -1: nowhere.
func differ(got, due []byte) int {
	if bytes.Equal(got, due[:len(got)]) {
		return -1
	}
	i := 0
	for got[i] == due[i] {
		i++
	}
	return i
}

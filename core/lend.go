package core

// The loop lends its layers buffers for the length of an event, so that a channel whose peer keeps up owns none: the
// first one is large; while that is out, which means that one event writes to several channels, further ones are small.
const (
	LargeBuffer = 64 << 10
	SmallBuffer = 1 << 10

	keepLarge = 4
	keepSmall = 256

	scribbleAtLeast = 4 << 10 // of a buffer that is given back empty, Options.Strict overwrites that much
)

type lender struct {
	first []byte // the large one that is asked for nearly always; nil while it is out
	large [][]byte
	small [][]byte
	out   int
}

// Borrow lends an empty buffer with room for at least n bytes. It is given back when the event is over.
func (l *Loop) Borrow(n int) []byte {
	b := &l.lent
	if p := b.first; b.out == 0 && p != nil && n <= LargeBuffer { // nearly always
		b.out, b.first = 1, nil
		return p
	}
	return l.borrow(n)
}

func (l *Loop) borrow(n int) []byte {
	b := &l.lent
	b.out++
	if n <= SmallBuffer && b.out > 1 {
		return take(&b.small, SmallBuffer)
	}
	if n <= LargeBuffer {
		return take(&b.large, LargeBuffer)
	}
	return make([]byte, 0, n)
}

// GiveBack takes a lent buffer back, which may have been grown meanwhile.
func (l *Loop) GiveBack(p []byte) {
	if b := &l.lent; b.first == nil && cap(p) == LargeBuffer && !l.opts.Strict { // nearly always
		b.out--
		b.first = p[:0]
		return
	}
	l.giveBack(p)
}

func (l *Loop) giveBack(p []byte) {
	b := &l.lent
	b.out--
	if l.opts.Strict {
		scribble(p[:min(cap(p), max(len(p), scribbleAtLeast))])
	}
	switch {
	case cap(p) == LargeBuffer && b.first == nil:
		b.first = p[:0]
	case cap(p) == LargeBuffer && len(b.large) < keepLarge:
		b.large = append(b.large, p[:0])
	case cap(p) == SmallBuffer && len(b.small) < keepSmall:
		b.small = append(b.small, p[:0])
	}
}

func take(list *[][]byte, size int) []byte {
	n := len(*list)
	if n == 0 {
		return make([]byte, 0, size)
	}
	p := (*list)[n-1]
	(*list)[n-1] = nil
	*list = (*list)[:n-1]
	return p
}

// poison overwrites what was lent of the read buffer, so that a handler that kept a slice of it sees garbage in its first
// test.
func (l *Loop) poison() {
	scribble(l.buf[:l.used])
	l.used = 0
}

func scribble(p []byte) {
	for i := range p {
		p[i] = Poison
	}
}

// Poison is the byte that Options.Strict writes over borrowed bytes after the event. It occurs in no UTF-8 text.
const Poison = 0xF8

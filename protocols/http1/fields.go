package http1

import (
	"iter"
	"net/http"
)

// Fields are the header fields, or the trailer fields, of a message that came in, in place: names and values are as they
// were received, without the blanks around values. They are borrowed: they and what they return are valid as long as
// their message is.
type Fields struct {
	buf   []byte
	lines []fieldLine
}

// fieldLine says where in Fields.buf a field lies.
type fieldLine struct{ name, nameEnd, value, valueEnd uint32 }

// Len returns how many fields there are.
func (f *Fields) Len() int { return len(f.lines) }

// At returns the name and the value of a field, in the order of their coming.
func (f *Fields) At(i int) (name, value []byte) {
	l := &f.lines[i]
	return f.buf[l.name:l.nameEnd:l.nameEnd], f.buf[l.value:l.valueEnd:l.valueEnd]
}

// All is At for each field.
func (f *Fields) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := range f.lines {
			if !yield(f.At(i)) {
				return
			}
		}
	}
}

// Get returns the value of the first field of that name, in whatever case; nil if there is none.
func (f *Fields) Get(name string) []byte {
	for i := range f.lines {
		if f.is(i, name) {
			return f.value(i)
		}
	}
	return nil
}

// Values returns the values of the fields of that name.
func (f *Fields) Values(name string) iter.Seq[[]byte] {
	return func(yield func(value []byte) bool) {
		for i := range f.lines {
			if f.is(i, name) && !yield(f.value(i)) {
				return
			}
		}
	}
}

// HasToken tells whether one of the fields of that name, which is a list of tokens, has this one, in whatever case: say
// whether Connection has "upgrade". RFC 9110 section 5.6.1
func (f *Fields) HasToken(name, token string) bool {
	for i := range f.lines {
		if !f.is(i, name) {
			continue
		}
		for item, rest, more := nextItem(f.value(i)); ; item, rest, more = nextItem(rest) {
			if equalFold(item, token) {
				return true
			}
			if !more {
				break
			}
		}
	}
	return false
}

// Header makes an http.Header of the fields, a copy that may be kept.
func (f *Fields) Header() http.Header {
	h := make(http.Header, len(f.lines))
	for i := range f.lines {
		name, value := f.At(i)
		key := http.CanonicalHeaderKey(string(name))
		h[key] = append(h[key], string(value))
	}
	return h
}

func (f *Fields) is(i int, name string) bool {
	l := &f.lines[i]
	return int(l.nameEnd-l.name) == len(name) && equalFold(f.buf[l.name:l.nameEnd], name)
}

func (f *Fields) value(i int) []byte {
	l := &f.lines[i]
	return f.buf[l.value:l.valueEnd:l.valueEnd]
}

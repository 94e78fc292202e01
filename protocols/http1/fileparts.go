package http1

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// validators say which state of a file it is. RFC 9110 section 8.8
type validators struct {
	etag     string    // "" if there is none
	modified time.Time // whole seconds; zero if not known
	weak     bool      // the file changed so lately that it may have changed again since, unseen
}

// validators are those of the file that was found.
func (l *lookup) validators(now time.Time) (v validators) {
	m := l.info.ModTime()
	known := !m.IsZero() && m.Unix() != 0
	if known {
		v.modified = m.Truncate(time.Second)
		if m.After(now) { // RFC 9110 section 8.8.2.1
			v.modified = now.Truncate(time.Second)
		}
		v.weak = now.Sub(m) < time.Second
	}
	switch {
	case l.h.ETag != nil:
		v.etag = l.h.ETag(l.name, l.info)
	case known:
		tag := make([]byte, 0, 48)
		if v.weak {
			tag = append(tag, "W/"...)
		}
		tag = append(tag, '"')
		tag = strconv.AppendInt(tag, m.UnixNano(), 36)
		tag = append(tag, '-')
		tag = strconv.AppendInt(tag, l.info.Size(), 36)
		if l.coding != "" {
			tag = append(append(tag, '-'), l.coding...)
		}
		v.etag = string(append(tag, '"'))
	}
	return v
}

// judge evaluates the preconditions of a GET or HEAD in the order of RFC 9110 section 13.2.2: 304, 412, or 0 to go on.
func (v *validators) judge(r *Request) int {
	f := r.Fields()
	if f.Get("If-Match") != nil {
		if !v.match(f, "If-Match", true) {
			return http.StatusPreconditionFailed
		}
	} else if since, ok := date(f, "If-Unmodified-Since"); ok && !v.modified.IsZero() && v.modified.After(since) {
		return http.StatusPreconditionFailed
	}
	if f.Get("If-None-Match") != nil {
		if v.match(f, "If-None-Match", false) {
			return http.StatusNotModified
		}
	} else if since, ok := date(f, "If-Modified-Since"); ok && !v.modified.IsZero() && !v.modified.After(since) {
		return http.StatusNotModified
	}
	return 0
}

// date is a field whose value is one.
func date(f *Fields, name string) (t time.Time, ok bool) {
	value := f.Get(name)
	if value == nil {
		return t, false
	}
	t, err := http.ParseTime(string(value))
	return t, err == nil
}

// match tells whether one of the entity tags in a field is ours. RFC 9110 section 8.8.3.2
func (v *validators) match(f *Fields, name string, strong bool) bool {
	for list := range f.Values(name) {
		if string(list) == "*" {
			return true
		}
		for {
			list = bytes.TrimLeft(list, " \t,")
			tag, rest := entityTag(list)
			if tag == nil {
				break
			}
			if v.is(tag, strong) {
				return true
			}
			list = rest
		}
	}
	return false
}

// is compares an entity tag with ours.
func (v *validators) is(tag []byte, strong bool) bool {
	ours := v.etag
	if strong {
		return ours != "" && ours[0] == '"' && string(tag) == ours
	}
	return ours != "" && strings.TrimPrefix(string(tag), "W/") == strings.TrimPrefix(ours, "W/")
}

// entityTag cuts the first one off; nil if there is none.
func entityTag(p []byte) (tag, rest []byte) {
	begin := 0
	if bytes.HasPrefix(p, []byte("W/")) {
		begin = 2
	}
	if begin >= len(p) || p[begin] != '"' {
		return nil, nil
	}
	end := bytes.IndexByte(p[begin+1:], '"')
	if end < 0 {
		return nil, nil
	}
	end += begin + 2
	return p[:end], p[end:]
}

// part is a part of a file, and what is sent in front of it.
type part struct {
	head         string
	from, length int64
}

func contentRange(p part, size int64) string {
	if p.length == 0 {
		return "bytes */" + strconv.FormatInt(size, 10)
	}
	return "bytes " + strconv.FormatInt(p.from, 10) + "-" + strconv.FormatInt(p.from+p.length-1, 10) + "/" + strconv.FormatInt(size, 10)
}

// ranges are the parts that a request asks for; none: the whole file. It answers false when there is nothing of the file
// in any of them.
func (v *validators) ranges(r *Request, size int64, most int) ([]part, bool) {
	f := r.Fields()
	value := f.Get("Range")
	if value == nil || r.Method() != http.MethodGet { // RFC 9110 section 14.2
		return nil, true
	}
	if condition := f.Get("If-Range"); condition != nil {
		if tag, rest := entityTag(condition); tag != nil {
			if len(rest) > 0 || !v.is(tag, true) {
				return nil, true
			}
		} else if t, ok := date(f, "If-Range"); !ok || v.weak || !t.Equal(v.modified) || v.modified.IsZero() {
			return nil, true
		}
	}
	return parseRange(value, size, most)
}

// parseRange reads a Range field: RFC 9110 section 14.1.2. One that is malformed, or not in bytes, is ignored, and so is one
// of too many parts.
func parseRange(value []byte, size int64, most int) (parts []part, satisfiable bool) {
	unit, set, ok := bytes.Cut(value, []byte("="))
	if !ok || !equalFold(unit, "bytes") {
		return nil, true
	}
	count := 0
	for more := true; more; {
		var item []byte
		item, set, more = nextItem(set)
		if len(item) == 0 {
			continue
		}
		if count++; count > most {
			return nil, true
		}
		first, last, ok := bytes.Cut(item, []byte("-"))
		if !ok {
			return nil, true
		}
		from, ok1 := parseDecimal(first)
		to, ok2 := parseDecimal(last)
		switch {
		case len(first) == 0 && ok2: // the last so many
			n := min(to, size)
			from, to = size-n, size-1
		case ok1 && len(last) == 0:
			to = size - 1
		case !ok1 || !ok2 || to < from:
			return nil, true
		}
		if to = min(to, size-1); from <= to {
			parts = merge(parts, part{from: from, length: to - from + 1})
		}
	}
	if count == 0 {
		return nil, true
	}
	return parts, len(parts) > 0
}

// merge adds a part to others, and makes one of those that overlap or touch.
func merge(parts []part, p part) []part {
	at := len(parts)
	for i := 0; i < len(parts); {
		q := parts[i]
		if p.from > q.from+q.length || q.from > p.from+p.length {
			i++
			continue
		}
		end := max(p.from+p.length, q.from+q.length)
		p.from = min(p.from, q.from)
		p.length = end - p.from
		parts = append(parts[:i], parts[i+1:]...)
		at = min(at, i)
		i = 0 // it may touch one now that it did not touch before
	}
	at = min(at, len(parts))
	parts = append(parts, part{})
	copy(parts[at+1:], parts[at:])
	parts[at] = p
	return parts
}

// multipart makes parts of a multipart/byteranges of ranges. RFC 9110 section 14.6
func multipart(w *ResponseWriter, ranges []part, size int64, ctype string) []part {
	boundary := rand.Text()
	w.Set("Content-Type", "multipart/byteranges; boundary="+boundary)
	for i := range ranges {
		p := &ranges[i]
		p.head = "--" + boundary + "\r\nContent-Type: " + ctype + "\r\nContent-Range: " + contentRange(*p, size) + "\r\n\r\n"
		if i > 0 {
			p.head = "\r\n" + p.head
		}
	}
	return append(ranges, part{head: "\r\n--" + boundary + "--\r\n"})
}

// contentCoding is a content coding that a file can have.
type contentCoding uint8

const (
	identityCoding contentCoding = iota
	brotliCoding
	zstdCoding
	gzipCoding
	codingsKnown
)

func (c contentCoding) name() string   { return [...]string{"identity", "br", "zstd", "gzip"}[c] }
func (c contentCoding) suffix() string { return [...]string{"", ".br", ".zst", ".gz"}[c] }

// codings are the weights of content codings in a request, in thousandths; negative: nothing was said of it.
type codings [codingsKnown]int

// acceptEncoding reads what content codings are accepted: RFC 9110 section 12.5.3.
func acceptEncoding(f *Fields) (c codings) {
	any := -1
	for i := range c {
		c[i] = -1
	}
	for list := range f.Values("Accept-Encoding") {
		for item, rest, more := nextItem(list); ; item, rest, more = nextItem(rest) {
			name, params, _ := bytes.Cut(item, []byte(";"))
			name = trim(name)
			q := weight(params)
			if string(name) == "*" {
				any = q
			}
			if equalFold(name, "x-gzip") {
				name = []byte("gzip")
			}
			for i := range c {
				if equalFold(name, contentCoding(i).name()) {
					c[i] = q
				}
			}
			if !more {
				break
			}
		}
	}
	for i := range c {
		if c[i] < 0 && contentCoding(i) != identityCoding {
			c[i] = any
		}
	}
	return c
}

// weight reads "q=0.5", in thousandths; 1,000 without, 0 if it is malformed: RFC 9110 section 12.4.2.
func weight(p []byte) int {
	if p = trim(p); len(p) == 0 {
		return 1000
	}
	name, value, _ := bytes.Cut(p, []byte("="))
	if !equalFold(trim(name), "q") {
		return 0
	}
	value = trim(value)
	whole, fraction, _ := bytes.Cut(value, []byte("."))
	if len(whole) != 1 || len(fraction) > 3 {
		return 0
	}
	for len(fraction) < 3 {
		fraction = append(fraction[:len(fraction):len(fraction)], '0')
	}
	n, ok := parseDecimal(fraction)
	switch {
	case !ok || whole[0] != '0' && whole[0] != '1':
		return 0
	case whole[0] == '1':
		return 1000
	}
	return int(n)
}

// order are the codings to look for, best first. Identity is the last resort, unless its weight is greater.
func (c *codings) order() []contentCoding {
	var list []contentCoding
	for i := identityCoding + 1; i < codingsKnown; i++ {
		if c[i] <= 0 || c[i] < c[identityCoding] {
			continue
		}
		at := len(list)
		for at > 0 && c[list[at-1]] < c[i] {
			at--
		}
		list = append(list, 0)
		copy(list[at+1:], list[at:])
		list[at] = i
	}
	return list
}

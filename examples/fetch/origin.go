package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/parley-go/parley/protocols/http1"
)

// origin is what has to be known of a part to go on with it: NAME.part.from.
type origin struct {
	URL          string
	ETag         string `json:",omitempty"` // strong
	LastModified string `json:",omitempty"` // strong: RFC 9110 section 8.8.2.2
	Size         *int64 `json:",omitempty"`

	size int64 // of the whole; negative: not known
}

func fromName(part string) string { return part + ".from" }

// originOf is what a response says. What has no strong validator cannot be gone on with: it might be a part of something
// else.
func originOf(u *url.URL, r *http1.Response) origin {
	o := origin{URL: identity(u), size: -1}
	if etag := string(r.Field("ETag")); strings.HasPrefix(etag, `"`) {
		o.ETag = etag
	}
	modified, err := http.ParseTime(string(r.Field("Last-Modified")))
	date, err2 := http.ParseTime(string(r.Field("Date")))
	if err == nil && err2 == nil && date.Sub(modified) >= time.Second {
		o.LastModified = string(r.Field("Last-Modified"))
	}
	if n := r.ContentLength(); n >= 0 {
		o.Size, o.size = &n, n
	}
	return o
}

// identity is a URL without what is nobody's business who reads the file.
func identity(u *url.URL) string {
	bare := *u
	bare.User, bare.Fragment, bare.RawFragment = nil, "", ""
	return bare.String()
}

// validator is what If-Range compares: RFC 9110 section 13.1.5.
func (o *origin) validator() string {
	if o.ETag != "" {
		return o.ETag
	}
	return o.LastModified
}

func (o *origin) save(part string) error {
	if o.validator() == "" {
		return nil
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return os.WriteFile(fromName(part), append(text, '\n'), 0o666)
}

// load returns how many octets of a part can be gone on with; 0: begin anew.
func (o *origin) load(part string, u *url.URL) int64 {
	text, err := os.ReadFile(fromName(part))
	if err != nil || json.Unmarshal(text, o) != nil || o.URL != identity(u) {
		return 0
	}
	if v := o.validator(); v == "" || strings.ContainsAny(v, "\r\n\x00") {
		return 0
	}
	info, err := os.Stat(part)
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	if o.size = -1; o.Size != nil {
		o.size = *o.Size
	}
	return info.Size()
}

// continues checks that a response is what was asked for: all from an offset on, of the same thing. RFC 9110 section 15.3.7
func (o *origin) continues(r *http1.Response, have int64) error {
	first, last, total, err := contentRange(r.Field("Content-Range"))
	if err != nil {
		return err
	}
	etag := r.Field("ETag")
	switch {
	case first != have:
		return fmt.Errorf("the server goes on at %d and not at %d", first, have)
	case o.ETag != "" && etag != nil && string(etag) != o.ETag:
		return errors.New("the server goes on with something else: another ETag")
	case total < 0 || last != total-1:
		return fmt.Errorf("the server does not send all of the rest: Content-Range %s", r.Field("Content-Range"))
	case o.size >= 0 && total != o.size:
		return fmt.Errorf("the server goes on with something else: of %d octets, and not of %d", total, o.size)
	case r.ContentLength() >= 0 && r.ContentLength() != last-first+1:
		return fmt.Errorf("Content-Length %d does not go with Content-Range %s", r.ContentLength(), r.Field("Content-Range"))
	}
	o.size = total
	return nil
}

// complete tells whether 416 means that nothing is missing: RFC 9110 section 15.5.17.
func (o *origin) complete(r *http1.Response, have int64) bool {
	size, ok := bytes.CutPrefix(r.Field("Content-Range"), []byte("bytes */"))
	n, err := strconv.ParseInt(string(size), 10, 64)
	return ok && err == nil && n == have && (o.size < 0 || o.size == have)
}

// contentRange reads "bytes first-last/total"; total is negative for "*". RFC 9110 section 14.4
func contentRange(field []byte) (first, last, total int64, err error) {
	text := string(field)
	fail := fmt.Errorf("malformed Content-Range %q", text)
	what, ok := strings.CutPrefix(text, "bytes ")
	span, size, ok2 := strings.Cut(what, "/")
	from, to, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, fail
	}
	total = -1
	for _, x := range []struct {
		text string
		n    *int64
	}{{from, &first}, {to, &last}, {size, &total}} {
		if x.n == &total && x.text == "*" {
			continue
		}
		n, err := strconv.ParseUint(x.text, 10, 63)
		if err != nil {
			return 0, 0, 0, fail
		}
		*x.n = int64(n)
	}
	if last < first || total >= 0 && last >= total {
		return 0, 0, 0, fail
	}
	return first, last, total, nil
}

// fileName is the file that is named after a URL: the end of its path, without what files should not have in their names.
// Where the server redirects to has no say in it.
func fileName(u *url.URL) string {
	name := path.Base(u.Path)
	if strings.HasSuffix(u.Path, "/") || name == "." || name == "/" {
		name = "index.html"
	}
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`/\<>:"|?*`, r) || r == '\ufffd' {
			return '_'
		}
		return r
	}, name)
	if strings.HasPrefix(name, ".") { // ".." too
		name = "_" + name[1:]
	}
	for len(name) > 200 { // with ".part.from" it must fit a directory
		name = strings.ToValidUTF8(name[:200], "")
	}
	return name
}

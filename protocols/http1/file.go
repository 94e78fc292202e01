package http1

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/parley-go/parley/core"
)

// Dir opens a directory for FileServer, by os.OpenRoot: nothing outside of it can be reached, by whatever symbolic link or
// name. It is the directory itself that is open: if it is renamed, that stays so. It is closed when nothing refers to it any
// more.
func Dir(name string) (fs.FS, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return root.FS(), nil
}

// FileServer returns a Handler that serves the files of fsys, with what the zero values of Files say. Use Dir for a
// directory: os.DirFS follows symbolic links to anywhere.
func FileServer(fsys fs.FS) *Files { return &Files{FS: fsys} }

// Files is a Handler that serves files to GET and HEAD. Its fields must not be changed once it serves.
//
// A name is decoded once. One with a NUL or another control, a backslash, an encoded slash or a segment "." or ".." is
// answered with 400, and with 404 what cannot be a file that is served: among others one with an empty segment, as in
// "//host/", so that no redirect can lead away. Only regular files are served. The name of a directory is redirected to that
// with a slash, where its index is.
//
// Conditional requests (RFC 9110 section 13) go by Last-Modified and ETag, parts of files (section 14) by Range: several
// ones that overlap are served as one.
//
// Files are looked up and read on the loop, as nginx does: what lies in the page cache takes microseconds. See OffLoop for
// other file systems. An *os.File goes out by sendfile where platform and transport allow, any other fs.File by blocks of 32
// KiB; of a file that is neither an io.ReaderAt nor an io.Seeker no parts are served.
type Files struct {
	// FS has the files. It must be set.
	FS fs.FS

	// Prefix is what is cut off in front of a path, such as "/static/": it begins and ends with a slash. Paths without it are
	// answered with 404. "": nothing.
	Prefix string

	// Index is the file that stands for its directory; "": "index.html".
	Index string

	// List has directories without an index listed, at most 2,000 entries of them. Otherwise they are answered with 404.
	List bool

	// Dotfiles has files and directories served, and listed, whose names begin with a dot. Otherwise they are answered with
	// 404, but for "/.well-known/" (RFC 8615).
	Dotfiles bool

	// Precompressed has name.br, name.zst or name.gz served in place of name to clients that accept that content coding, if
	// it is there and not older, and the type of name is known by its extension.
	Precompressed bool

	// MaxRanges is how many parts one response can have; 0: 16. To a request for more the whole file is the answer.
	MaxRanges int

	// ETag makes the entity tag of a file, such as "\"v1\"" with its quotes; "" is none. nil: it is made of time and size,
	// weak when the file changed less than a second ago, and there is none without a time, as in an embed.FS.
	ETag func(name string, info fs.FileInfo) string

	// Header, if not nil, is called before a file is sent, to set further fields, say Cache-Control. It and ETag are called on
	// the loop's goroutine.
	Header func(w *ResponseWriter, name string)

	// OffLoop has files looked up, opened and their types found by core.Go: for file systems that may be slow, such as those on
	// a network. They are still read on the loop.
	OffLoop bool
}

const (
	maxRanges = 16
	maxList   = 2_000
	smallFile = 16 << 10 // is read and sent at once
)

// ServeHTTP answers a request with a file.
func (h *Files) ServeHTTP(w *ResponseWriter, r *Request) error {
	switch r.Method() {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		w.Set("Allow", "GET, HEAD, OPTIONS")
		w.SetStatus(http.StatusNoContent)
		return nil
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodTrace:
		err := w.Error(http.StatusMethodNotAllowed, "")
		w.Set("Allow", "GET, HEAD, OPTIONS")
		return err
	default:
		return &Error{Status: http.StatusNotImplemented}
	}
	l := lookup{h: h}
	if err := l.parse(r.Path()); err != nil {
		return err
	}
	if h.Precompressed {
		l.accept = acceptEncoding(r.Fields())
	}
	if !h.OffLoop {
		if err := l.find(); err != nil {
			return err
		}
		return l.respond(w, r)
	}
	w.Defer()
	type opened struct{ forget func() bool }
	core.Go(r.Conn(), func(ctx context.Context) (opened, error) {
		if err := l.find(); err != nil {
			return opened{}, err
		}
		// When the connection closes nobody asks for the result.
		return opened{context.AfterFunc(ctx, l.close)}, nil
	}, func(o opened, err error) error {
		switch {
		case err == nil && !o.forget(): // it is closed
		case r.Conn() == nil: // the response is over
			l.close()
		case err == nil:
			err = l.respond(w, r)
		}
		w.Finish(err)
		return nil
	})
	return nil
}

var (
	errFileName = bad("malformed file name")
	errNoFile   = &Error{http.StatusNotFound, ""}
)

// lookup is what is asked for, and then what was found.
type lookup struct {
	h      *Files
	name   string // as package fs has it
	slash  bool   // it ended in one
	accept codings

	file     fs.File // nil if it is none
	info     fs.FileInfo
	ctype    string
	coding   string
	redirect bool
	page     []byte // of a directory
}

// parse reads a path.
func (l *lookup) parse(p []byte) *Error {
	if prefix := l.h.Prefix; prefix != "" {
		if len(p) < len(prefix) || string(p[:len(prefix)]) != prefix {
			return errNoFile
		}
		p = p[len(prefix)-1:]
	}
	if len(p) == 0 || p[0] != '/' {
		return errFileName
	}
	p = p[1:]
	name := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		b := p[i]
		if b == '%' {
			if !escaped(p, i) {
				return errFileName
			}
			b = hexDigit(p[i+1])<<4 | hexDigit(p[i+2])
			i += 2
			if b == '/' {
				return errFileName
			}
		}
		if b < 0x20 || b == 0x7f || b == '\\' {
			return errFileName
		}
		name = append(name, b)
	}
	l.name = string(name)
	if l.name == "" {
		l.name, l.slash = ".", true
		return nil
	}
	l.name, l.slash = strings.CutSuffix(l.name, "/")
	for i, rest, more := 0, l.name, true; more; i++ {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		switch {
		case segment == "." || segment == "..":
			return errFileName
		case !l.h.shown(segment) && !(i == 0 && segment == ".well-known"):
			return errNoFile
		}
	}
	if !fs.ValidPath(l.name) {
		return errNoFile
	}
	return nil
}

// shown tells whether a file of that name may be served.
func (h *Files) shown(name string) bool {
	switch {
	case name == "", name[0] == '.' && !h.Dotfiles:
		return false
	case runtime.GOOS == "windows": // streams, devices, and names that are others' as well
		return !strings.Contains(name, ":") && !strings.HasSuffix(name, ".") && !strings.HasSuffix(name, " ")
	}
	return true
}

func hexDigit(b byte) byte {
	if b <= '9' {
		return b - '0'
	}
	return b | 0x20 - 'a' + 10
}

// find looks for the file, and opens it.
func (l *lookup) find() error {
	info, err := fs.Stat(l.h.FS, l.name)
	if err != nil {
		return fileError(err)
	}
	switch {
	case info.IsDir() && !l.slash:
		l.redirect = true
		return nil
	case info.IsDir():
		index := l.h.Index
		if index == "" {
			index = "index.html"
		}
		name := path.Join(l.name, index)
		if info, err = fs.Stat(l.h.FS, name); err == nil && info.Mode().IsRegular() {
			l.name = name
			return l.open(info)
		}
		if l.h.List {
			l.page, err = l.h.list(l.name)
			return fileError(err)
		}
		return errNoFile
	case l.slash:
		return errNoFile
	}
	return l.open(info)
}

// open opens what Stat found, or a variant of it. A file that is not regular is not opened: a pipe would wait for its
// writer.
func (l *lookup) open(info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errNoFile
	}
	name := l.name
	l.ctype = typeByName(name)
	if l.h.Precompressed && l.ctype != "" {
		for _, c := range l.accept.order() {
			v, err := fs.Stat(l.h.FS, name+c.suffix())
			if err == nil && v.Mode().IsRegular() && !v.ModTime().Before(info.ModTime()) {
				name, l.coding = name+c.suffix(), c.name()
				break
			}
		}
	}
	file, err := l.h.FS.Open(name)
	if err != nil {
		return fileError(err)
	}
	l.file = file
	if l.info, err = file.Stat(); err == nil && !l.info.Mode().IsRegular() {
		err = errNoFile
	}
	if err == nil && l.ctype == "" {
		err = l.sniff()
	}
	if err != nil {
		l.close()
		return fileError(err)
	}
	return nil
}

// moreTypes are those that package mime knows only where the system has a table of them.
var moreTypes = map[string]string{
	".csv": "text/csv; charset=utf-8", ".ico": "image/x-icon", ".map": "application/json", ".md": "text/markdown; charset=utf-8",
	".mp3": "audio/mpeg", ".mp4": "video/mp4", ".txt": "text/plain; charset=utf-8", ".webmanifest": "application/manifest+json",
	".woff": "font/woff", ".woff2": "font/woff2",
}

// typeByName is the media type by a name's extension; "" if it is not known.
func typeByName(name string) string {
	ext := path.Ext(name)
	if t := mime.TypeByExtension(ext); t != "" {
		return t
	}
	return moreTypes[strings.ToLower(ext)]
}

// sniff finds the type out from what the file begins with.
func (l *lookup) sniff() error {
	var begin [512]byte // what DetectContentType looks at
	var n int
	var err error
	switch f := l.file.(type) {
	case io.ReaderAt:
		n, err = f.ReadAt(begin[:], 0)
	case io.Seeker:
		if n, err = io.ReadFull(l.file, begin[:]); err == nil || err == io.ErrUnexpectedEOF {
			_, err = f.Seek(0, io.SeekStart)
		}
	default:
		n, err = io.ReadFull(l.file, begin[:])
		l.file = &readAhead{File: l.file, begin: begin[:n]}
	}
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	l.ctype = http.DetectContentType(begin[:n])
	return nil
}

// readAhead is a file whose beginning was read already.
type readAhead struct {
	fs.File
	begin []byte
}

func (f *readAhead) Read(p []byte) (int, error) {
	if len(f.begin) > 0 {
		n := copy(p, f.begin)
		f.begin = f.begin[n:]
		return n, nil
	}
	return f.File.Read(p)
}

func (l *lookup) close() {
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}

// fileError is what an error of the file system means for the client.
func fileError(err error) error {
	var e *Error
	var errno syscall.Errno
	var p *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid):
		return errNoFile
	case errors.Is(err, fs.ErrPermission):
		return &Error{Status: http.StatusForbidden}
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOMEM):
		return &Error{Status: http.StatusServiceUnavailable}
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP):
		return errNoFile
	case errors.As(err, &p) && !errors.As(err, &errno): // of os.Root, when a name would lead out of it
		return errNoFile
	}
	return err
}

// respond answers with what was found.
func (l *lookup) respond(w *ResponseWriter, r *Request) error {
	defer l.close() // unless somebody else has it
	switch {
	case l.redirect:
		to := string(r.Path()) + "/"
		if q := r.RawQuery(); len(q) > 0 {
			to += "?" + string(q)
		}
		err := w.Error(http.StatusMovedPermanently, "")
		w.Set("Location", to)
		return err
	case l.file == nil:
		w.Set("Content-Type", "text/html; charset=utf-8")
		w.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		w.SetLength(int64(len(l.page)))
		_, err := w.Write(l.page)
		return err
	}
	now := r.Conn().Loop().Now()
	v := l.validators(now)
	if v.etag != "" {
		w.Set("ETag", v.etag)
	}
	if !v.modified.IsZero() {
		w.Set("Last-Modified", v.modified.UTC().Format(http.TimeFormat))
	}
	if l.h.Precompressed {
		w.Set("Vary", "Accept-Encoding")
	}
	if l.h.Header != nil {
		l.h.Header(w, l.name)
	}
	switch v.judge(r) {
	case http.StatusNotModified:
		w.SetStatus(http.StatusNotModified)
		return nil
	case http.StatusPreconditionFailed:
		return w.Error(http.StatusPreconditionFailed, "")
	}
	return l.send(w, r, &v)
}

// send sends the file, or parts of it.
func (l *lookup) send(w *ResponseWriter, r *Request, v *validators) error {
	size := l.info.Size()
	w.Set("Content-Type", l.ctype)
	if l.coding != "" {
		w.Set("Content-Encoding", l.coding)
	}
	parts := []part{{length: size}}
	switch {
	case !l.seekable():
		w.Set("Accept-Ranges", "none")
	default:
		w.Set("Accept-Ranges", "bytes")
		ranges, ok := v.ranges(r, size, l.h.maxRanges())
		switch {
		case !ok:
			err := w.Error(http.StatusRequestedRangeNotSatisfiable, "")
			w.Set("Content-Range", contentRange(part{}, size))
			return err
		case len(ranges) == 1:
			w.SetStatus(http.StatusPartialContent)
			w.Set("Content-Range", contentRange(ranges[0], size))
			parts = ranges
		case len(ranges) > 1:
			w.SetStatus(http.StatusPartialContent)
			parts = multipart(w, ranges, size, l.ctype)
		}
	}
	length := int64(0)
	for _, p := range parts {
		length += int64(len(p.head)) + p.length
	}
	w.SetLength(length)
	f, isFile := l.file.(*os.File)
	switch {
	case r.Method() == http.MethodHead || length == 0:
		return nil
	case len(parts) == 1 && length <= smallFile:
		return l.sendSmall(w, parts[0])
	case len(parts) == 1 && isFile:
		l.file = nil
		return w.SendFile(f, parts[0].from, parts[0].length)
	}
	p := &partsProducer{file: l.file, parts: parts}
	l.file = nil
	return w.SendProducer(p)
}

func (h *Files) maxRanges() int {
	if h.MaxRanges == 0 {
		return maxRanges
	}
	return h.MaxRanges
}

func (l *lookup) seekable() bool {
	switch l.file.(type) {
	case io.ReaderAt, io.Seeker:
		return true
	}
	return false
}

var smallBuffers = sync.Pool{New: func() any { return new([smallFile]byte) }}

// sendSmall sends all at once, with the head.
func (l *lookup) sendSmall(w *ResponseWriter, p part) error {
	buf := smallBuffers.Get().(*[smallFile]byte)
	defer smallBuffers.Put(buf)
	src := partsProducer{file: l.file}
	for n := 0; n < int(p.length); {
		m, err := src.readAt(buf[n:p.length], p.from+int64(n))
		if n += m; err != nil && n < int(p.length) {
			return err
		}
	}
	_, err := w.Write(buf[:p.length])
	return err
}

// partsProducer makes parts of a file, each with something in front.
type partsProducer struct {
	file  fs.File
	parts []part
	at    int64 // of the file that is no io.ReaderAt
	sent  int64 // of the first part
	begun bool  // its head is sent
	buf   []byte
}

const fileBlock = 32 << 10

func (p *partsProducer) More(limit int) ([]byte, error) {
	for len(p.parts) > 0 {
		first := &p.parts[0]
		switch {
		case !p.begun && len(first.head) > 0:
			n := min(limit, len(first.head))
			block := first.head[:n]
			first.head = first.head[n:]
			return []byte(block), nil
		case first.length == p.sent:
			p.parts, p.sent, p.begun = p.parts[1:], 0, false
			continue
		}
		p.begun = true
		if p.buf == nil {
			p.buf = make([]byte, fileBlock)
		}
		n := int(min(int64(limit), int64(len(p.buf)), first.length-p.sent))
		n, err := p.readAt(p.buf[:n], first.from+p.sent)
		p.sent += int64(n)
		if n > 0 {
			return p.buf[:n], nil
		}
		return nil, err
	}
	return nil, io.EOF
}

// readAt reads something, or returns an error.
func (p *partsProducer) readAt(buf []byte, at int64) (n int, err error) {
	if f, ok := p.file.(io.ReaderAt); ok {
		n, err = f.ReadAt(buf, at)
	} else {
		if f, ok := p.file.(io.Seeker); ok && p.at != at {
			if p.at, err = f.Seek(at, io.SeekStart); err != nil {
				return 0, err
			}
		}
		n, err = io.ReadFull(p.file, buf)
		p.at += int64(n)
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
		if n == 0 { // it became shorter
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

func (p *partsProducer) Close() error { return p.file.Close() }

package http1

import (
	"io"
	"math"
	"net/http"
	"os"
	"reflect"
	"strconv"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
)

// stdFile is a part of a file that is a part of the response.
type stdFile struct {
	f     *os.File
	at, n int64

	given bool // to the connection, which says when it is done with it
	done  bool
	sent  int64
	late  bool // the deadline of writes has passed: the connection is to be closed
}

// leastFile is how large a file must be to go out by sendfile: a smaller one is copied faster than two goroutines can agree.
const leastFile = 64 << 10

// mostFile is how much of a file goes out at a time: as one chunk, and there are proxies whose chunks end at 2 GiB.
var mostFile int64 = 1 << 30

// sendFile sends what it can of r by sendfile: n of it, if there was something; then there may be more. When it returns the
// file is the handler's again, and stands behind what was sent.
func (b *bridge) sendFile(r io.Reader) (n int64, err error) {
	if !b.sendsFiles || b.head {
		return 0, nil
	}
	limited, _ := r.(*io.LimitedReader)
	limit := int64(math.MaxInt64)
	if limited != nil {
		r, limit = limited.R, limited.N
	}
	f := osFile(r)
	if f == nil || limit < leastFile {
		return 0, nil
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0, nil // reading it says more
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil || min(limit, info.Size()-at) < leastFile {
		return 0, nil
	}
	n, err = b.waitFile(&stdFile{f: f, at: at, n: min(limit, info.Size()-at, mostFile)})
	if limited != nil {
		limited.N -= n
	}
	if _, e := f.Seek(at+n, io.SeekStart); err == nil {
		err = e
	}
	return n, err
}

// osFile returns the file that r is; nil: none. io.Copy asks a file to write itself, which the file passes on to us as a
// struct around it that hides that.
func osFile(r io.Reader) *os.File {
	if f, ok := r.(*os.File); ok {
		return f
	}
	if v := reflect.ValueOf(r); v.Kind() == reflect.Struct && v.Type().PkgPath() == "os" {
		if f := v.FieldByName("File"); f.IsValid() && f.CanInterface() {
			file, _ := f.Interface().(*os.File)
			return file
		}
	}
	return nil
}

// waitFile has the loop send a file, and waits until it is done with it.
func (b *bridge) waitFile(file *stdFile) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hijacked || b.returned {
		return 0, nil // as in all that follows, Write says what is wrong
	}
	if !b.wroteHeader {
		b.writeHeader(http.StatusOK)
	}
	if !b.committed && !b.hasType && bodyAllowed(b.status) {
		var start [512]byte // is looked at
		n := copy(start[:], b.out)
		b.mu.Unlock() // the disk may be slow, and the loop's goroutine wait
		m, _ := file.f.ReadAt(start[n:], file.at)
		b.mu.Lock()
		switch {
		case b.hijacked || b.returned:
			return 0, nil
		case !b.committed && !b.hasType:
			b.fields = appendField(b.fields, "Content-Type", http.DetectContentType(start[:n+m]))
			b.hasType = true
		}
	}
	tooMuch := b.sendLength >= 0 && b.written+file.n > b.sendLength
	if !bodyAllowed(b.status) || tooMuch || b.ended || b.cause != nil || b.writeBy.passed {
		return 0, nil
	}
	b.commit()
	b.file = file
	b.post()
	for !file.done && (file.given || !b.ended) {
		if b.writeBy.passed && !file.late {
			file.late = true
			b.post()
		}
		b.canWrite.Wait()
	}
	b.file = nil
	b.written += file.sent
	switch {
	case file.sent == file.n:
		return file.sent, nil
	case file.late:
		return file.sent, errDeadline
	}
	return file.sent, b.gone()
}

// fileSent is called on the loop's goroutine when nobody has the file any more.
func (b *bridge) fileSent(file *stdFile, sent int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	file.done, file.sent = true, sent
	b.canWrite.Broadcast()
}

// pushFile makes n bytes of a file a part of the body, behind what was written; more may follow. done is called in any case,
// also if there was an error before, which it returns.
func (w *ResponseWriter) pushFile(f *os.File, at, n int64, err error, done func(sent int64)) error {
	x := w.x
	if err == nil {
		switch {
		case x.s == nil || x.flags&(xFinished|xProducer) != 0:
			err = core.ErrClosed
		case w.err != nil:
			err = w.err
		default:
			err = w.sendHead()
		}
	}
	if err == nil && x.bodiless() {
		w.written += n
		done(n)
		return nil
	}
	if err == nil {
		err = w.sendGathered()
	}
	chunked := x.flags&xChunked != 0
	if err == nil && chunked { // one chunk, however large
		wk := x.s.w
		wk.scratch = append(strconv.AppendUint(wk.scratch[:0], uint64(n), 16), "\r\n"...)
		err = x.s.c.Push(wk.scratch)
	}
	if err != nil {
		done(0)
		return err
	}
	w.written += n
	err = x.s.c.PushProducer(buffered.FileFunc(f, at, n, func(sent int64) {
		w.written -= n - sent
		done(sent)
	}))
	if err == nil && chunked {
		err = x.s.c.PushString("\r\n")
	}
	return err
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/http1"
)

// download is one URL on its way to a file or to standard output: the handler of its call.
type download struct {
	job  *job
	loop *core.Loop
	url  *url.URL
	name string // of the file; "" is standard output

	call   *http1.Call
	part   *os.File // NAME.part, open
	from   origin   // what is known of NAME.part
	have   int64    // octets in NAME.part
	total  int64    // how many there will be; negative: not known
	begun  bool
	whole  bool // nothing is missing, though the response says so by an error status
	again  bool // NAME.part is of no use: from the beginning, when this response is over
	anew   bool // from the beginning
	bad    error
	unsent []byte // for standard output, and not written yet
	busy   bool   // standard output is written to
	ended  bool   // HandleDone was called
	over   bool
	err    error
	done   func(*download)
}

func (d *download) partName() string { return d.name + ".part" }

// begin makes the request. An error is one of the request itself.
func (d *download) begin(loop *core.Loop) error {
	d.loop, d.begun, d.total = loop, true, -1
	out := d.job.request(d.url)
	if d.name != "" && d.job.resume && !d.anew {
		if d.have = d.from.load(d.partName(), d.url); d.have > 0 {
			out.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.have))
			out.Header.Set("If-Range", d.from.validator())
		}
	}
	out.BodyLimit = d.job.maxSize
	var err error
	d.call, err = d.job.client.Do(out, d)
	return err
}

// HandleResponse opens the file, if there is something to write.
func (d *download) HandleResponse(_ *http1.Call, r *http1.Response) error {
	status := r.Status()
	switch {
	case status == http.StatusPartialContent && d.have > 0:
		if err := d.from.continues(r, d.have); err != nil {
			return err
		}
		d.total = d.from.size
		if limit := d.job.maxSize; limit > 0 && d.total > limit {
			return fmt.Errorf("of %d octets: %w", d.total, core.ErrTooLong)
		}
		return d.open(false)
	case status == http.StatusRequestedRangeNotSatisfiable && d.have > 0:
		if d.whole = d.from.complete(r, d.have); !d.whole {
			d.again = true // it has changed, or never was what it should be
		}
		return nil
	case status/100 != 2 || status == http.StatusPartialContent && d.job.header["Range"] == nil:
		d.bad = fmt.Errorf("%d %s", status, http.StatusText(status))
		if d.name != "" {
			return d.bad
		}
		return nil
	}
	d.have = 0
	if d.total = r.ContentLength(); d.job.method == http.MethodHead {
		d.total = 0
	}
	if d.name == "" {
		return nil
	}
	d.from = originOf(d.url, r)
	return d.open(true)
}

// open opens NAME.part, anew or to go on with it.
func (d *download) open(anew bool) (err error) {
	flags := os.O_CREATE | os.O_WRONLY
	if anew {
		flags |= os.O_TRUNC
		_ = os.Remove(fromName(d.partName())) // of an earlier one
	}
	if d.part, err = os.OpenFile(d.partName(), flags, 0o666); err != nil {
		return err
	}
	if anew {
		return d.from.save(d.partName())
	}
	_, err = d.part.Seek(d.have, 0)
	return err
}

// HandleBody writes. A file is written to on the loop; standard output may be slow, and is written to on another goroutine
// while the server waits.
func (d *download) HandleBody(c *http1.Call, p []byte) error {
	switch {
	case d.whole || d.again:
		return nil
	case d.name != "":
		n, err := d.part.Write(p)
		d.have += int64(n)
		return err
	}
	d.have += int64(len(p))
	d.unsent = append(d.unsent, p...)
	if !d.busy {
		c.Pause()
		d.write()
	}
	return nil
}

// write writes what waits for standard output.
func (d *download) write() {
	p := d.unsent
	d.unsent, d.busy = nil, true
	go func() {
		_, err := os.Stdout.Write(p)
		d.loop.Post(func() { d.written(err) })
	}()
}

func (d *download) written(err error) {
	d.busy = false
	switch {
	case d.over:
	case err != nil:
		d.call.Cancel()
		d.finish(err)
	case len(d.unsent) > 0:
		d.write()
	case d.ended:
		d.finish(d.err)
	default:
		d.call.Resume()
	}
}

// HandleDone decides what becomes of the file.
func (d *download) HandleDone(_ *http1.Call, err error) {
	d.ended = true
	if d.err = err; err == nil {
		d.err = d.bad
	}
	switch {
	case d.over:
	case d.again && err == nil:
		d.ended, d.again, d.anew, d.have = false, false, true, 0
		if err := d.begin(d.loop); err != nil {
			d.finish(err)
		}
	case d.name != "" && d.err == nil:
		d.publish()
	case !d.busy:
		d.finish(d.err)
	}
}

// publish makes the part the file. What it waits for may be slow: the disk.
func (d *download) publish() {
	part := d.part
	d.part = nil
	go func() {
		err := publish(part, d.partName(), d.name)
		d.loop.Post(func() { d.finish(err) })
	}()
}

func publish(part *os.File, from, to string) error {
	if part != nil { // nil: it was whole already
		err := part.Sync()
		if err := errors.Join(err, part.Close()); err != nil {
			return err
		}
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := os.Remove(fromName(from)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// finish is the end. What came of a file is kept, so that -c can go on with it.
func (d *download) finish(err error) {
	if d.over {
		return
	}
	d.over, d.err = true, err
	if d.part != nil {
		_ = d.part.Close()
		d.part = nil
		switch {
		case d.have == 0:
			_ = os.Remove(d.partName())
			_ = os.Remove(fromName(d.partName()))
		case err != nil:
			d.err = fmt.Errorf("%w; %s are in %s", err, d.progress(), d.partName())
		}
	}
	if d.err != nil {
		d.err = fmt.Errorf("%s: %w", d.url.Redacted(), d.err)
	}
	if d.done != nil {
		d.done(d)
	}
}

// progress is how far it is.
func (d *download) progress() string {
	if d.total >= 0 {
		return fmt.Sprintf("%d of %d octets", d.have, d.total)
	}
	return fmt.Sprintf("%d octets", d.have)
}

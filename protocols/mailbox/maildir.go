package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Maildir is a mailbox of the form that qmail brought: a directory with the directories tmp, new and cur in it. A message is
// written into tmp, and gets a name in new when it is whole and on the disk; who reads the mailbox moves it to cur. Any
// number of goroutines and processes may deliver at a time, and read meanwhile. https://cr.yp.to/proto/maildir.html
//
// The directories are for their owner only, and so are the messages. What a message is called has nothing in it that came
// with the message.
type Maildir struct {
	// LF writes LF where lines end in CRLF, as many mail readers on Unix want it. Without it, every octet stays as it was
	// given. It must not be changed once there is a Delivery.
	LF bool

	dir   string
	host  string
	fs    fsys
	now   func() time.Time
	group group // of the syncs of new
}

// TmpAge is the age at which Clean takes a file in tmp for one that nobody will finish: 36 hours, by Maildir's convention.
const TmpAge = 36 * time.Hour

// OpenMaildir returns the Maildir in a directory. The directory and tmp, new and cur in it are made if they are not there;
// the directory above it must be.
func OpenMaildir(dir string) (*Maildir, error) { return openMaildir(osFS{}, dir) }

func openMaildir(fsys fsys, dir string) (*Maildir, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	m := &Maildir{dir: filepath.Clean(dir), host: escapeHost(host), fs: fsys, now: time.Now}
	created, err := m.makeDir(m.dir)
	if err == nil && created {
		err = fsys.syncDir(filepath.Dir(m.dir))
	}
	within := false
	for _, name := range []string{"tmp", "new", "cur"} {
		if err == nil {
			created, err = m.makeDir(filepath.Join(m.dir, name))
			within = within || created
		}
	}
	if err == nil && within {
		err = fsys.syncDir(m.dir)
	}
	if err != nil {
		return nil, full(err)
	}
	return m, nil
}

// makeDir answers whether the directory was not there.
func (m *Maildir) makeDir(name string) (bool, error) {
	err := m.fs.mkdir(name)
	if !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	return false, nil
}

// Dir returns the directory.
func (m *Maildir) Dir() string { return m.dir }

// escapeHost has a host name without the characters that mean something in the name of a message.
func escapeHost(host string) string {
	return strings.NewReplacer("/", `\057`, ":", `\072`).Replace(host)
}

var deliveries atomic.Uint64 // of this process

// name is one that no other message has: time, process, number, chance and host.
func (m *Maildir) name() string {
	now := m.now()
	return fmt.Sprintf("%d.M%06dP%dQ%dR%016x.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), deliveries.Add(1), rand.Uint64(), m.host)
}

// tries is how many names are tried; that the first one is taken does not happen unless somebody makes it so.
const tries = 10

// Delivery is one message on its way into a Maildir. It is for one goroutine at a time. Commit or Abort ends it; Abort after
// that does nothing, so that it can be deferred.
type Delivery struct {
	m    *Maildir
	tmp  string // its file
	f    file   // nil: it is over
	err  error  // of a Write: the first counts
	ends lineEnds
	buf  []byte // LF
	name string // in new

	committed bool
}

// Begin begins a message: its file is made in tmp.
func (m *Maildir) Begin() (*Delivery, error) {
	var err error
	for range tries {
		d := &Delivery{m: m, name: m.name()}
		d.tmp = filepath.Join(m.dir, "tmp", d.name)
		if d.f, err = m.fs.open(d.tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL); err == nil {
			return d, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return nil, full(err)
}

// Write appends to the message. After an error it cannot be committed.
func (d *Delivery) Write(p []byte) (int, error) {
	if d.f == nil {
		return 0, os.ErrClosed
	}
	if d.err != nil {
		return 0, d.err
	}
	if !d.m.LF {
		if err := d.write(p); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	for piece := range slices.Chunk(p, 16<<10) { // so that what is kept stays small
		d.buf = d.ends.appendTo(d.buf[:0], piece)
		if err := d.write(d.buf); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (d *Delivery) write(p []byte) error {
	_, err := d.f.Write(p)
	d.err = full(err)
	return d.err
}

// Commit puts the message into new. When it returns nil the message is there, whole and once, and stays there if the machine
// loses its power; then Name says what it is called. When it returns an error, nothing of the message is left. That ctx is
// cancelled is such an error, as long as the message is not in new.
//
// The mailbox is seen by others: one who reads it in the moment before the disk fails may have taken the message to cur,
// where it is left to him.
func (d *Delivery) Commit(ctx context.Context) error {
	if d.f == nil {
		return os.ErrClosed
	}
	err := d.finish(ctx)
	if err == nil {
		err = d.publish()
	}
	d.committed = err == nil
	return full(err)
}

// finish has the message whole and on the disk, in tmp; after an error it is not there any more.
func (d *Delivery) finish(ctx context.Context) error {
	err := d.err
	if rest := d.ends.end(); err == nil && len(rest) > 0 {
		_, err = d.f.Write(rest)
	}
	if err == nil {
		err = d.f.Sync()
	}
	if closed := d.f.Close(); err == nil {
		err = closed
	}
	d.f = nil
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = d.m.fs.remove(d.tmp)
	}
	return err
}

// publish gives the message, which lies whole in tmp, its name in new.
func (d *Delivery) publish() error {
	m := d.m
	dir := filepath.Join(m.dir, "new")
	var err error
	for n := range tries {
		name := d.name
		if n > 0 { // a link is never put in the place of another message
			name = m.name()
		}
		if err = m.move(d.tmp, filepath.Join(dir, name)); err == nil {
			d.name = name
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	_ = m.fs.remove(d.tmp) // if it stays, Clean finds it: what counts is in new
	if err != nil {
		return err
	}
	if err = m.group.do(func() error { return m.fs.syncDir(dir) }); err != nil {
		if left := m.fs.remove(filepath.Join(dir, d.name)); left != nil && !errors.Is(left, fs.ErrNotExist) {
			err = errors.Join(err, left)
		}
	}
	return err
}

// move makes a second name of a file. Where there are no links, it gets another name; then it is up to the name that there
// is no such file.
func (m *Maildir) move(from, to string) error {
	err := m.fs.link(from, to)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		if _, exists := m.fs.stat(to); errors.Is(exists, fs.ErrNotExist) {
			return m.fs.rename(from, to)
		}
	}
	return err
}

// Abort gives the message up: nothing of it is left.
func (d *Delivery) Abort() {
	if d.f == nil {
		return
	}
	_ = d.f.Close()
	d.f = nil
	_ = d.m.fs.remove(d.tmp)
}

// Name is what the message is called in new, once it was committed.
func (d *Delivery) Name() string { return d.name }

// Withdraw takes a message that was committed out of new again, for who delivers to several mailboxes, or to none of them.
// One that a reader has taken to cur is left to him: then the error is fs.ErrNotExist.
func (d *Delivery) Withdraw() error {
	if !d.committed {
		return fs.ErrNotExist
	}
	return d.m.fs.remove(filepath.Join(d.m.dir, "new", d.name))
}

// Deliver delivers a message that is all there: Begin, Write and Commit. It returns what the message is called in new.
func (m *Maildir) Deliver(ctx context.Context, message []byte) (name string, err error) {
	d, err := m.Begin()
	if err != nil {
		return "", err
	}
	_, _ = d.Write(message) // Commit has the error
	if err := d.Commit(ctx); err != nil {
		return "", err
	}
	return d.Name(), nil
}

// Clean removes files from tmp that were not written to for at least age, and answers how many: what processes left there
// that were killed. 0 is TmpAge, and nothing much less is wise, as others may deliver into the same Maildir slowly.
func (m *Maildir) Clean(age time.Duration) (removed int, err error) {
	if age <= 0 {
		age = TmpAge
	}
	dir := filepath.Join(m.dir, "tmp")
	entries, err := m.fs.readDir(dir)
	if err != nil {
		return 0, err
	}
	before := m.now().Add(-age)
	var failed []error
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && (!info.Mode().IsRegular() || info.ModTime().After(before)) {
			continue
		}
		if err == nil {
			err = m.fs.remove(filepath.Join(dir, e.Name()))
		}
		switch {
		case err == nil:
			removed++
		case !errors.Is(err, fs.ErrNotExist): // somebody else cleans, too
			failed = append(failed, err)
		}
	}
	return removed, errors.Join(failed...)
}

package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Queue is a Maildir for messages that wait for something, and will be gone when it has come: one process has it, and keeps
// a note with each message. A message gets into it as into any Maildir, and is on the disk when it is there; so is a note.
//
// In its directory are those of a Maildir, a directory "notes" with a file of the same name for messages that have a note,
// and a file "lock", which is locked while the queue is open. Its methods are for any goroutine.
type Queue struct {
	box   *Maildir
	lock  file
	own   string // its name in openQueues
	notes group  // of the syncs of notes

	mu     sync.Mutex
	closed bool
}

// maxNote is how large a note can be, in octets.
const maxNote = 16 << 20

// openQueues are those of this process: not all kinds of locks keep a process out of its own files.
var openQueues sync.Map

// OpenQueue opens the queue in a directory. The directory and what belongs in it is made if it is not there; the directory
// above it must be. What was left by a process that was killed (halves of messages, notes whose messages are gone) is
// removed.
//
// ErrLocked: it is open already, here or in another process. On Windows and js only those of this process are known.
func OpenQueue(dir string) (*Queue, error) {
	path, err := filepath.Abs(dir)
	if err == nil {
		path = realPath(path)
		if _, open := openQueues.LoadOrStore(path, true); open {
			err = ErrLocked
		}
	}
	if err != nil {
		return nil, fmt.Errorf("queue %s: %w", dir, err)
	}
	q, err := openQueue(osFS{}, dir)
	if err != nil {
		openQueues.Delete(path)
		return nil, err
	}
	q.own = path
	return q, nil
}

// realPath is a path without symbolic links; the last part need not exist.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return path
}

func openQueue(fsys fsys, dir string) (*Queue, error) {
	box, err := openMaildir(fsys, dir)
	if err != nil {
		return nil, err
	}
	q := &Queue{box: box}
	q.lock, err = fsys.open(q.path("lock", ""), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, full(err)
	}
	ok, err := q.lock.tryLock()
	if err == nil && !ok {
		err = fmt.Errorf("queue %s: %w", dir, ErrLocked)
	}
	if err == nil {
		err = q.prepare()
	}
	if err != nil {
		_ = q.lock.Close()
		return nil, full(err)
	}
	return q, nil
}

// path is that of a file.
func (q *Queue) path(dir, name string) string { return filepath.Join(q.box.dir, dir, name) }

// prepare makes the directory for notes, and removes what is of no use.
func (q *Queue) prepare() error {
	fsys := q.box.fs
	created, err := q.box.makeDir(q.path("notes", ""))
	if err == nil && created {
		err = fsys.syncDir(q.box.dir)
	}
	if err != nil {
		return err
	}
	there, err := q.List()
	if err != nil {
		return err
	}
	notes, err := q.files("notes")
	if err != nil {
		return err
	}
	for _, name := range notes {
		if _, ok := slices.BinarySearch(there, name); !ok {
			_ = fsys.remove(q.path("notes", name)) // next time, then
		}
	}
	tmp, err := q.files("tmp")
	for _, name := range tmp {
		_ = fsys.remove(q.path("tmp", name)) // nobody else delivers here
	}
	return err
}

// files are the names in one of the directories, sorted.
func (q *Queue) files(dir string) (names []string, err error) {
	entries, err := q.box.fs.readDir(q.path(dir, ""))
	for _, e := range entries {
		if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}

// Dir returns the directory.
func (q *Queue) Dir() string { return q.box.dir }

// List returns the names of the messages, sorted: those of one second in no certain order.
func (q *Queue) List() ([]string, error) { return q.files("new") }

// Begin begins a message. When its Commit returns nil the message is in the queue, by the Name that it then has.
func (q *Queue) Begin() (*Delivery, error) {
	if q.over() {
		return nil, os.ErrClosed
	}
	return q.box.Begin()
}

func (q *Queue) over() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// badName keeps what is no name of a message from being looked for.
func badName(name string) error {
	if name == "" || name[0] == '.' || strings.ContainsAny(name, `/\`) || !filepath.IsLocal(name) {
		return &fs.PathError{Op: "queue", Path: name, Err: fs.ErrInvalid}
	}
	return nil
}

// Open opens a message for reading; close it. fs.ErrNotExist: there is none.
func (q *Queue) Open(name string) (r *io.SectionReader, closed io.Closer, err error) {
	return q.read("new", name)
}

func (q *Queue) read(dir, name string) (*io.SectionReader, io.Closer, error) {
	if err := badName(name); err != nil {
		return nil, nil, err
	}
	f, err := q.box.fs.open(q.path(dir, name), os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return io.NewSectionReader(f, 0, info.Size()), f, nil
}

// Note returns the note of a message, nil if it has none.
func (q *Queue) Note(name string) ([]byte, error) {
	r, f, err := q.read("notes", name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if r.Size() > maxNote {
		return nil, &fs.PathError{Op: "read", Path: q.path("notes", name), Err: errors.New("too large")}
	}
	return io.ReadAll(r)
}

// SetNote gives a message a note, in the place of the one that it may have. When it returns nil the note is on the disk;
// otherwise the message has the one or the other, whole.
func (q *Queue) SetNote(name string, note []byte) error {
	if err := badName(name); err != nil {
		return err
	}
	if q.over() {
		return os.ErrClosed
	}
	d, err := q.box.Begin()
	if err != nil {
		return err
	}
	defer d.Abort()
	if _, err := d.Write(note); err != nil {
		return err
	}
	if err := d.finish(context.Background()); err != nil {
		return full(err)
	}
	if err := q.box.fs.rename(d.tmp, q.path("notes", name)); err != nil {
		_ = q.box.fs.remove(d.tmp)
		return full(err)
	}
	return full(q.notes.do(func() error { return q.box.fs.syncDir(q.path("notes", "")) }))
}

// Remove removes messages and their notes. When it returns nil that is on the disk. One that is gone already is no error;
// after an error some of them may still be there, and then have their notes.
func (q *Queue) Remove(names ...string) error {
	var failed []error
	gone := make([]string, 0, len(names))
	for _, name := range names {
		err := badName(name)
		if err == nil {
			err = q.box.fs.remove(q.path("new", name))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
			continue
		}
		gone = append(gone, name)
	}
	if err := q.box.group.do(func() error { return q.box.fs.syncDir(q.path("new", "")) }); err != nil {
		return errors.Join(append(failed, err)...)
	}
	for _, name := range gone { // not before: a message that comes back must have its note
		if err := q.box.fs.remove(q.path("notes", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// Close gives the queue free for others. Messages that have begun must have come to their ends before.
func (q *Queue) Close() error {
	q.mu.Lock()
	was := q.closed
	q.closed = true
	q.mu.Unlock()
	if was {
		return nil
	}
	err := q.lock.Close()
	if q.own != "" {
		openQueues.Delete(q.own)
	}
	return err
}

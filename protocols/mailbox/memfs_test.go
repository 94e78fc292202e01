package mailbox

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// memFS is a file system in memory that knows what is on its disk and what is not yet. It records what is asked of it,
// fails where it is told to, and can be had as it is after a loss of power.
type memFS struct {
	mu   sync.Mutex
	root *node
	log  []string

	noLinks bool
	fail    func(op, name string) error // called before each operation
	after   func(op string)             // called after each operation that changes something
}

// node is a file or a directory.
type node struct {
	mod    time.Time
	locked *memFile

	data, disk []byte // of a file; disk is what was synced

	entries, durable map[string]*node // of a directory
	replaced         map[string]bool  // names in it that a rename gave to another file: there is always the one or the other
}

func newDir() *node {
	return &node{entries: map[string]*node{}, durable: map[string]*node{}, replaced: map[string]bool{}}
}

func newMemFS() *memFS { return &memFS{root: newDir()} }

func (m *memFS) do(op, name string, f func() error) error {
	if m.fail != nil {
		if err := m.fail(op, name); err != nil {
			m.log = append(m.log, op+" "+name+": "+err.Error())
			return &fs.PathError{Op: op, Path: name, Err: err}
		}
	}
	if err := f(); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	m.log = append(m.log, op+" "+name)
	if m.after != nil {
		m.after(op)
	}
	return nil
}

// dir finds the directory that has name in it.
func (m *memFS) dir(name string) (*node, string, error) {
	d := m.root
	parts := strings.Split(strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/"), "/")
	for _, p := range parts[:len(parts)-1] {
		if d = d.entries[p]; d == nil || d.entries == nil {
			return nil, "", fs.ErrNotExist
		}
	}
	return d, parts[len(parts)-1], nil
}

func (m *memFS) find(name string) (*node, error) {
	if filepath.Clean(name) == "." || filepath.Clean(name) == "/" {
		return m.root, nil
	}
	d, base, err := m.dir(name)
	if err != nil {
		return nil, err
	}
	if n := d.entries[base]; n != nil {
		return n, nil
	}
	return nil, fs.ErrNotExist
}

func (m *memFS) open(name string, flag int) (f file, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	op := "open"
	if flag&os.O_CREATE != 0 {
		op = "create"
	}
	err = m.do(op, name, func() error {
		d, base, err := m.dir(name)
		if err != nil {
			return err
		}
		n := d.entries[base]
		switch {
		case n == nil && flag&os.O_CREATE == 0:
			return fs.ErrNotExist
		case n == nil:
			n = &node{mod: time.Now()}
			d.entries[base] = n
		case flag&os.O_EXCL != 0:
			return fs.ErrExist
		case n.entries != nil:
			return syscall.EISDIR
		}
		f = &memFile{m: m, n: n, name: name}
		return nil
	})
	return f, err
}

func (m *memFS) mkdir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.do("mkdir", name, func() error {
		d, base, err := m.dir(name)
		if err != nil {
			return err
		}
		if d.entries[base] != nil {
			return fs.ErrExist
		}
		d.entries[base] = newDir()
		return nil
	})
}

func (m *memFS) link(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.do("link", from+" "+to, func() error {
		if m.noLinks {
			return syscall.EPERM
		}
		n, err := m.find(from)
		if err != nil {
			return err
		}
		d, base, err := m.dir(to)
		if err != nil {
			return err
		}
		if d.entries[base] != nil {
			return fs.ErrExist
		}
		d.entries[base] = n
		return nil
	})
}

func (m *memFS) rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.do("rename", from+" "+to, func() error {
		n, err := m.find(from)
		if err != nil {
			return err
		}
		old, oldBase, _ := m.dir(from)
		d, base, err := m.dir(to)
		if err != nil {
			return err
		}
		delete(old.entries, oldBase)
		if d.entries[base] != nil && d.entries[base] == d.durable[base] {
			d.replaced[base] = true
		}
		d.entries[base] = n
		return nil
	})
}

func (m *memFS) remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.do("remove", name, func() error {
		if _, err := m.find(name); err != nil {
			return err
		}
		d, base, _ := m.dir(name)
		delete(d.entries, base)
		delete(d.replaced, base)
		return nil
	})
}

func (m *memFS) stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(name)
	if err != nil {
		return nil, err
	}
	return nodeInfo{n, filepath.Base(name), int64(len(n.data)), n.mod}, nil
}

func (m *memFS) same(a, b fs.FileInfo) bool { return a.(nodeInfo).n == b.(nodeInfo).n }

func (m *memFS) readDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []fs.DirEntry
	err := m.do("readdir", name, func() error {
		d, err := m.find(name)
		if err != nil {
			return err
		}
		for _, base := range slices.Sorted(maps.Keys(d.entries)) {
			n := d.entries[base]
			all = append(all, fs.FileInfoToDirEntry(nodeInfo{n, base, int64(len(n.data)), n.mod}))
		}
		return nil
	})
	return all, err
}

// syncDir takes what there is when it begins, and has it on the disk when it ends.
func (m *memFS) syncDir(name string) error {
	m.mu.Lock()
	d, err := m.find(name)
	if err != nil {
		m.mu.Unlock()
		return err
	}
	entries := maps.Clone(d.entries)
	m.mu.Unlock()
	runtime.Gosched()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.do("syncdir", name, func() error {
		d.durable = entries
		for base := range d.replaced {
			if d.entries[base] == d.durable[base] {
				delete(d.replaced, base)
			}
		}
		return nil
	})
}

// files are the contents of what lies in a directory, sorted.
func (m *memFS) files(name string) []string {
	var all []string
	if d, err := m.find(name); err == nil {
		for _, n := range d.entries {
			all = append(all, string(n.data))
		}
	}
	slices.Sort(all)
	return all
}

func (m *memFS) put(name, text string) {
	f, err := m.open(name, os.O_CREATE)
	if err != nil {
		panic(err)
	}
	n := f.(*memFile).n
	n.data, n.disk = []byte(text), []byte(text)
	if err := m.syncDir(filepath.Dir(name)); err != nil {
		panic(err)
	}
}

// crashed is the file system after a loss of power, an hour later. Without r there is nothing but what was synced;
// otherwise chance says what else came to the disk: any of the names, and of a file some of the beginning, zeros or all.
// The caller has m.mu, or is alone.
func (m *memFS) crashed(r *rand.Rand) *memFS {
	copies := make(map[*node]*node)
	var survive func(n *node) *node
	survive = func(n *node) *node {
		if c := copies[n]; c != nil {
			return c
		}
		c := &node{mod: n.mod.Add(-time.Hour)}
		copies[n] = c
		if n.entries == nil {
			c.data = survivors(n, r)
			c.disk = bytes.Clone(c.data)
			return c
		}
		kept := maps.Clone(n.durable)
		if r != nil {
			for _, name := range slices.Sorted(maps.Keys(n.durable)) { // removed or replaced since?
				switch {
				case n.entries[name] == n.durable[name] || r.IntN(2) == 0:
				case n.replaced[name]:
					kept[name] = n.entries[name]
				default:
					delete(kept, name)
				}
			}
			for _, name := range slices.Sorted(maps.Keys(n.entries)) {
				if kept[name] == nil && r.IntN(2) == 0 {
					kept[name] = n.entries[name]
				}
			}
		}
		c.entries, c.replaced = make(map[string]*node), make(map[string]bool)
		for _, name := range slices.Sorted(maps.Keys(kept)) {
			c.entries[name] = survive(kept[name])
		}
		c.durable = maps.Clone(c.entries)
		return c
	}
	return &memFS{root: survive(m.root)}
}

func survivors(n *node, r *rand.Rand) []byte {
	if r == nil || bytes.Equal(n.data, n.disk) {
		return bytes.Clone(n.disk)
	}
	common := 0 // what is the same in both is on the disk
	for common < min(len(n.data), len(n.disk)) && n.data[common] == n.disk[common] {
		common++
	}
	switch r.IntN(4) {
	case 0:
		return bytes.Clone(n.disk)
	case 1:
		return bytes.Clone(n.data)
	}
	if len(n.data) < len(n.disk) { // cut off, or not
		return bytes.Clone(n.disk)
	}
	some := bytes.Clone(n.data[:common+r.IntN(len(n.data)-common+1)])
	if r.IntN(2) == 0 {
		some = append(some, make([]byte, len(n.data)-len(some))...)
	}
	return some
}

// memFile is opened with O_APPEND, whatever the flags said, or written once from the beginning.
type memFile struct {
	m      *memFS
	n      *node
	name   string
	closed bool
}

func (f *memFile) do(op string, g func() error) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	return f.m.do(op, f.name, g)
}

func (f *memFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return 0, fs.ErrClosed
	}
	n := len(p)
	write := func() error {
		f.n.data = append(f.n.data, p[:n]...)
		f.n.mod = time.Now()
		return nil
	}
	err := f.m.do("write", f.name, write)
	if err != nil { // a disk that is full takes some
		n /= 2
		_ = write()
	}
	return n, err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off > int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return nodeInfo{f.n, filepath.Base(f.name), int64(len(f.n.data)), f.n.mod}, nil
}

func (f *memFile) Truncate(size int64) error {
	return f.do("truncate", func() error {
		if size > int64(len(f.n.data)) {
			return fmt.Errorf("truncate to %d, beyond the end", size)
		}
		f.n.data = f.n.data[:size:size]
		return nil
	})
}

func (f *memFile) Sync() error {
	return f.do("sync", func() error {
		f.n.disk = bytes.Clone(f.n.data)
		return nil
	})
}

func (f *memFile) Close() error {
	err := f.do("close", func() error { return nil })
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.closed = true
	if f.n.locked == f {
		f.n.locked = nil
	}
	return err
}

func (f *memFile) tryLock() (bool, error) {
	ok := false
	err := f.do("lock", func() error {
		if ok = f.n.locked == nil || f.n.locked == f; ok {
			f.n.locked = f
		}
		return nil
	})
	return ok, err
}

type nodeInfo struct {
	n    *node
	name string
	size int64
	mod  time.Time
}

func (i nodeInfo) Name() string       { return i.name }
func (i nodeInfo) Size() int64        { return i.size }
func (i nodeInfo) ModTime() time.Time { return i.mod }
func (i nodeInfo) IsDir() bool        { return i.n.entries != nil }
func (i nodeInfo) Sys() any           { return nil }
func (i nodeInfo) Mode() fs.FileMode {
	if i.IsDir() {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

package mailbox

import (
	"io"
	"io/fs"
	"os"
)

// fsys is what is asked of a file system. Tests have others than the system's: one that records, one that fails, one that
// loses what was not synced.
type fsys interface {
	open(name string, flag int) (file, error) // a new file is 0600
	mkdir(name string) error                  // 0700
	link(from, to string) error
	rename(from, to string) error
	remove(name string) error
	stat(name string) (fs.FileInfo, error)
	readDir(name string) ([]fs.DirEntry, error)
	syncDir(name string) error
	same(a, b fs.FileInfo) bool
}

// file is an open file of it.
type file interface {
	io.Writer
	io.ReaderAt
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
	Close() error

	// tryLock locks the file against other processes until it is closed, and answers whether nobody else had it locked.
	tryLock() (bool, error)
}

// osFS is the system's.
type osFS struct{}

type osFile struct{ *os.File }

func (osFS) open(name string, flag int) (file, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) mkdir(name string) error                    { return os.Mkdir(name, 0o700) }
func (osFS) link(from, to string) error                 { return os.Link(from, to) }
func (osFS) rename(from, to string) error               { return os.Rename(from, to) }
func (osFS) remove(name string) error                   { return os.Remove(name) }
func (osFS) stat(name string) (fs.FileInfo, error)      { return os.Stat(name) }
func (osFS) readDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (osFS) same(a, b fs.FileInfo) bool                 { return os.SameFile(a, b) }
func (osFS) syncDir(name string) error                  { return syncDir(name) }

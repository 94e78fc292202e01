//go:build unix

package mailbox

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// kernelLocks: tryLock keeps other processes out.
const kernelLocks = true

// tryLock is fcntl's lock for writing, on the whole file.
func (f osFile) tryLock() (bool, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	var lockErr error
	err = raw.Control(func(fd uintptr) {
		lockErr = unix.FcntlFlock(fd, setLock, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
	})
	switch {
	case err != nil:
		return false, err
	case lockErr == nil:
		return true, nil
	case errors.Is(lockErr, unix.EAGAIN), errors.Is(lockErr, unix.EACCES):
		return false, nil
	}
	return false, os.NewSyscallError("fcntl", lockErr)
}

// syncDir makes the entries of a directory durable. A file system that does not know that, as some of networks, has nothing
// better to offer.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

func noRoom(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

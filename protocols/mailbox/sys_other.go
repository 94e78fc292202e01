//go:build !unix

package mailbox

import (
	"errors"
	"syscall"
)

// kernelLocks: there are none here, so the dotlock file has to do.
const kernelLocks = false

func (osFile) tryLock() (bool, error) { return true, nil }

// syncDir: directories cannot be synced here.
func syncDir(string) error { return nil }

func noRoom(err error) bool { return errors.Is(err, errDiskFull) || errors.Is(err, syscall.ENOSPC) }

//go:build unix && !linux

package mailbox

import "golang.org/x/sys/unix"

// setLock is for the lock that POSIX knows, which belongs to the process.
const setLock = unix.F_SETLK

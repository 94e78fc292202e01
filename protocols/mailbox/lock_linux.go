package mailbox

import "golang.org/x/sys/unix"

// setLock is for a lock that belongs to the open file, not to the process: it is not lost when something else in the
// process closes the same file. It and the process's kind keep each other out.
const setLock = unix.F_OFD_SETLK

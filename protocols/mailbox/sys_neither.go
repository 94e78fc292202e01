//go:build !unix && !windows

package mailbox

import "syscall"

const errDiskFull = syscall.EDQUOT

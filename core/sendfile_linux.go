package core

import (
	"io"

	"golang.org/x/sys/unix"
)

const haveSendFile = true

func sysSendFile(out, in int, offset int64, n int) (int, error) {
	sent, err := ignoringEINTR(func() (int, error) { return unix.Sendfile(out, in, &offset, n) })
	switch {
	case err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP: // not this kind of file
		return 0, ErrUnsupported
	case err != nil:
		return 0, wouldBlock(err)
	case sent == 0:
		return 0, io.EOF
	}
	return sent, nil
}

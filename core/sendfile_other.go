//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package core

const haveSendFile = false

// sysSendFile: the systems differ in arguments and in what they count; the caller reads the file instead.
func sysSendFile(out, in int, offset int64, n int) (int, error) { return 0, ErrUnsupported }

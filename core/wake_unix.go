//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package core

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// waker interrupts a wait from another goroutine: a pipe.
type waker struct {
	mu   sync.Mutex // against a Wake during Close
	r, w int
}

func (w *waker) open() error {
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return err
	}
	w.r, w.w = p[0], p[1]
	for _, fd := range p {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			return errors.Join(err, w.close())
		}
	}
	return nil
}

func (w *waker) wake() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.w < 0 {
		return nil
	}
	_, err := unix.Write(w.w, []byte{0})
	if err == unix.EAGAIN { // the pipe is full: it will wake
		return nil
	}
	return err
}

func (w *waker) drain() {
	var b [64]byte
	for {
		if n, err := unix.Read(w.r, b[:]); n < len(b) || err != nil {
			return
		}
	}
}

func (w *waker) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, wr := w.r, w.w
	w.r, w.w = -1, -1
	return errors.Join(unix.Close(r), unix.Close(wr))
}

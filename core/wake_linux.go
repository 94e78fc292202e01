package core

import (
	"sync"

	"golang.org/x/sys/unix"
)

// waker interrupts a wait from another goroutine: an eventfd.
type waker struct {
	mu sync.Mutex // against a Wake during Close
	r  int
}

func (w *waker) open() (err error) {
	w.r, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	return err
}

func (w *waker) wake() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.r < 0 {
		return nil
	}
	one := [8]byte{1, 0, 0, 0, 0, 0, 0, 1} // not 0 in either byte order
	_, err := unix.Write(w.r, one[:])
	if err == unix.EAGAIN { // the counter is full: it will wake
		return nil
	}
	return err
}

func (w *waker) drain() {
	var b [8]byte
	_, _ = unix.Read(w.r, b[:])
}

func (w *waker) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	fd := w.r
	w.r = -1
	return unix.Close(fd)
}

package core

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// epoll is the back end of Linux: the kernel keeps the table, an answer costs what is ready and not what is watched.
// Level-triggered like the others. epoll(7)
type epoll struct {
	fd     int
	wake   waker
	yield  yieldHabit
	events [readyBatch]unix.EpollEvent
}

func newEpoll() (Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	p := &epoll{fd: fd}
	if err := p.wake.open(); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	if err := p.ctl(unix.EPOLL_CTL_ADD, p.wake.r, 0, Read); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *epoll) Name() string { return "epoll" }
func (p *epoll) cheapWait()   {}

func (p *epoll) Add(s Socket, id uint64, want Interest) error {
	err := p.ctl(unix.EPOLL_CTL_ADD, s.FD(), id, want)
	if err == unix.EPERM { // a regular file or a directory
		return ErrAlwaysReady
	}
	return err
}

func (p *epoll) Modify(s Socket, id uint64, want Interest) error {
	return p.ctl(unix.EPOLL_CTL_MOD, s.FD(), id, want)
}

func (p *epoll) Remove(s Socket, id uint64) error {
	return p.ctl(unix.EPOLL_CTL_DEL, s.FD(), id, 0)
}

func (p *epoll) ctl(op, fd int, id uint64, want Interest) error {
	// The kernel hands back 64 bits of ours; x/sys calls their halves Fd and Pad.
	ev := unix.EpollEvent{Fd: int32(id), Pad: int32(id >> 32)}
	if want&Read != 0 {
		ev.Events |= unix.EPOLLIN
	}
	if want&Write != 0 {
		ev.Events |= unix.EPOLLOUT
	}
	if want&Urgent != 0 {
		ev.Events |= unix.EPOLLPRI
	}
	return unix.EpollCtl(p.fd, op, fd, &ev)
}

func (p *epoll) Wait(timeout time.Duration, ready []Ready) ([]Ready, error) {
	var n int
	var err error
	if timeout == 0 {
		n, err = epollNow(p.fd, p.events[:])
	} else {
		n, err = p.block(timeout)
	}
	if err != nil {
		return ready, err
	}
	for i := range p.events[:n] {
		ev := &p.events[i]
		id := uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
		if id == 0 {
			p.wake.drain()
			continue
		}
		ready = append(ready, Ready{ID: id, Got: epollGot[ev.Events&31]})
	}
	return ready, nil
}

// block waits for longer than not at all. What woke the loop may have interrupted a thread that is just about to send more: if
// it pays (see yieldHabit), that one goes on first, and the poller is asked once more.
func (p *epoll) block(timeout time.Duration) (int, error) {
	n, err := unix.EpollWait(p.fd, p.events[:], roundUp(timeout, time.Millisecond))
	if n <= 0 || n >= fewEvents || !p.yield.due() {
		return n, err
	}
	_, _, _ = syscall.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // returns when it is our turn again, which may be ms
	again, err := epollNow(p.fd, p.events[:])
	p.yield.done(again > n)
	return again, err
}

// epollGot translates EPOLLIN 1, EPOLLPRI 2, EPOLLOUT 4, EPOLLERR 8, EPOLLHUP 16.
var epollGot = func() (t [32]Interest) {
	for i := range t {
		for bit, in := range [...]Interest{Read, Urgent, Write, Failed, Hangup} {
			if i&(1<<bit) != 0 {
				t[i] |= in
			}
		}
	}
	return t
}()

func (p *epoll) Wake() error { return p.wake.wake() }

func (p *epoll) Close() error { return errors.Join(p.wake.close(), unix.Close(p.fd)) }

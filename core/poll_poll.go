//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core

import (
	"time"

	"golang.org/x/sys/unix"
)

// pollPoller is poll(2): one array, of which every wait costs the whole length; any descriptor number.
type pollPoller struct {
	wake waker
	fds  []unix.PollFd // fds[0] is the waker's
	ids  []uint64      // beside fds
	at   map[int32]int // descriptor -> index
}

func newPoll() (Poller, error) {
	p := &pollPoller{at: make(map[int32]int)}
	if err := p.wake.open(); err != nil {
		return nil, err
	}
	p.add(p.wake.r, 0, Read)
	return p, nil
}

func (p *pollPoller) Name() string { return "poll" }

func (p *pollPoller) Add(s Socket, id uint64, want Interest) error {
	fd := s.FD()
	if fd < 0 {
		return unix.EBADF
	}
	if _, ok := p.at[int32(fd)]; ok {
		return unix.EEXIST
	}
	p.add(fd, id, want)
	return nil
}

func (p *pollPoller) add(fd int, id uint64, want Interest) {
	p.at[int32(fd)] = len(p.fds)
	p.fds = append(p.fds, unix.PollFd{Fd: int32(fd), Events: pollEvents(want)})
	p.ids = append(p.ids, id)
}

func (p *pollPoller) Modify(s Socket, id uint64, want Interest) error {
	i, ok := p.at[int32(s.FD())]
	if !ok || p.ids[i] != id {
		return unix.ENOENT
	}
	p.fds[i].Events = pollEvents(want)
	return nil
}

// Remove moves the last one into the gap.
func (p *pollPoller) Remove(s Socket, id uint64) error {
	i, ok := p.at[int32(s.FD())]
	if !ok || p.ids[i] != id {
		return unix.ENOENT
	}
	last := len(p.fds) - 1
	delete(p.at, p.fds[i].Fd)
	if i != last {
		p.fds[i], p.ids[i] = p.fds[last], p.ids[last]
		p.at[p.fds[i].Fd] = i
	}
	p.fds, p.ids = p.fds[:last], p.ids[:last]
	return nil
}

func (p *pollPoller) Wait(timeout time.Duration, ready []Ready) ([]Ready, error) {
	n, err := unix.Poll(p.fds, roundUp(timeout, time.Millisecond))
	if err != nil {
		return ready, err
	}
	for i := 0; i < len(p.fds) && n > 0; i++ {
		ev := p.fds[i].Revents
		if ev == 0 {
			continue
		}
		n--
		if i == 0 {
			p.wake.drain()
			continue
		}
		ready = append(ready, Ready{ID: p.ids[i], Got: pollGot(ev)})
	}
	return ready, nil
}

func pollEvents(want Interest) (ev int16) {
	if want&Read != 0 {
		ev |= unix.POLLIN
	}
	if want&Write != 0 {
		ev |= unix.POLLOUT
	}
	if want&Urgent != 0 {
		ev |= unix.POLLPRI
	}
	return ev
}

func pollGot(ev int16) (got Interest) {
	for _, x := range [...]struct {
		ev  int16
		got Interest
	}{{unix.POLLIN, Read}, {unix.POLLOUT, Write}, {unix.POLLPRI, Urgent}, {unix.POLLHUP, Hangup},
		{unix.POLLERR, Failed}, {unix.POLLNVAL, Failed}} {
		if ev&x.ev != 0 {
			got |= x.got
		}
	}
	return got
}

func (p *pollPoller) Wake() error  { return p.wake.wake() }
func (p *pollPoller) Close() error { return p.wake.close() }

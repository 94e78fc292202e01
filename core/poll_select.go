//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// selectPoller is select(2): three bit sets over the descriptor numbers below FD_SETSIZE, of which every wait costs the
// whole length.
type selectPoller struct {
	wake    waker
	ids     [unix.FD_SETSIZE]uint64 // by descriptor; 0: not registered
	want    [3]unix.FdSet           // read, write, urgent
	highest int
}

var selectSets = [3]Interest{Read, Write, Urgent}

func newSelect() (Poller, error) {
	p := &selectPoller{}
	if err := p.wake.open(); err != nil {
		return nil, err
	}
	if p.wake.r >= unix.FD_SETSIZE {
		_ = p.wake.close()
		return nil, tooHigh(p.wake.r)
	}
	p.want[0].Set(p.wake.r)
	p.highest = p.wake.r
	return p, nil
}

func tooHigh(fd int) error {
	return fmt.Errorf("descriptor %d: select has room for those below %d", fd, unix.FD_SETSIZE)
}

func (p *selectPoller) Name() string { return "select" }

func (p *selectPoller) Add(s Socket, id uint64, want Interest) error {
	fd := s.FD()
	switch {
	case fd < 0:
		return unix.EBADF
	case fd >= unix.FD_SETSIZE:
		return tooHigh(fd)
	case p.ids[fd] != 0:
		return unix.EEXIST
	}
	p.ids[fd] = id
	p.highest = max(p.highest, fd)
	p.set(fd, want)
	return nil
}

func (p *selectPoller) set(fd int, want Interest) {
	for i, bit := range selectSets {
		if want&bit != 0 {
			p.want[i].Set(fd)
		} else {
			p.want[i].Clear(fd)
		}
	}
}

func (p *selectPoller) Modify(s Socket, id uint64, want Interest) error {
	fd := s.FD()
	if fd < 0 || fd >= unix.FD_SETSIZE || p.ids[fd] != id {
		return unix.ENOENT
	}
	p.set(fd, want)
	return nil
}

func (p *selectPoller) Remove(s Socket, id uint64) error {
	if err := p.Modify(s, id, 0); err != nil {
		return err
	}
	p.ids[s.FD()] = 0
	for p.highest > p.wake.r && p.ids[p.highest] == 0 {
		p.highest--
	}
	return nil
}

func (p *selectPoller) Wait(timeout time.Duration, ready []Ready) ([]Ready, error) {
	sets := p.want
	var tv *unix.Timeval
	if timeout >= 0 {
		us := int64(roundUp(timeout, time.Microsecond))
		t := unix.NsecToTimeval(us * int64(time.Microsecond))
		tv = &t
	}
	n, err := unix.Select(p.highest+1, &sets[0], &sets[1], &sets[2], tv)
	if err == unix.EBADF {
		return p.findBad(ready), nil
	}
	if err != nil {
		return ready, err
	}
	for fd := 0; fd <= p.highest && n > 0; fd++ {
		var got Interest
		for i, bit := range selectSets {
			if sets[i].IsSet(fd) {
				got |= bit
				n--
			}
		}
		switch {
		case got == 0:
		case fd == p.wake.r:
			p.wake.drain()
		default:
			ready = append(ready, Ready{ID: p.ids[fd], Got: got})
		}
	}
	return ready, nil
}

// findBad reports the descriptors that were closed behind the loop's back: they cost their own channels only.
func (p *selectPoller) findBad(ready []Ready) []Ready {
	for fd, id := range p.ids[:p.highest+1] {
		if id != 0 {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == unix.EBADF {
				ready = append(ready, Ready{ID: id, Got: Failed})
			}
		}
	}
	return ready
}

func (p *selectPoller) Wake() error  { return p.wake.wake() }
func (p *selectPoller) Close() error { return p.wake.close() }

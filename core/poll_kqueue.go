//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package core

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// kqueue is the back end of the BSDs and macOS: one filter for each direction. The descriptor is mapped to the id here:
// a Kevent_t's Udata is a pointer on three of the systems, and must not hold a number.
//
// Out-of-band data is reported on none of them (only macOS has a filter for it): HandleExpt is not called.
type kqueue struct {
	fd     int
	wake   waker
	ids    []uint64   // by descriptor
	want   []Interest // by descriptor
	events [readyBatch]unix.Kevent_t
	at     map[uint64]int // where in ready a channel stands, so that its two filters become one answer
}

func newKqueue() (Poller, error) {
	fd, err := unix.Kqueue()
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(fd)
	p := &kqueue{fd: fd, at: make(map[uint64]int)}
	if err := p.wake.open(); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	p.grow(p.wake.r)
	if err := p.change(p.wake.r, 0, Read); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *kqueue) Name() string { return "kqueue" }
func (p *kqueue) cheapWait()   {}

func (p *kqueue) grow(fd int) {
	for fd >= len(p.ids) {
		p.ids, p.want = append(p.ids, 0), append(p.want, 0)
	}
}

func (p *kqueue) Add(s Socket, id uint64, want Interest) error {
	fd := s.FD()
	if fd < 0 {
		return unix.EBADF
	}
	if f, ok := s.(*sysSocket); ok && f.kind == kindFile { // its read filter is silent at the end of the file
		return ErrAlwaysReady
	}
	p.grow(fd)
	if p.ids[fd] != 0 {
		return unix.EEXIST
	}
	if err := p.change(fd, 0, want); err != nil {
		return err
	}
	p.ids[fd], p.want[fd] = id, want
	return nil
}

func (p *kqueue) Modify(s Socket, id uint64, want Interest) error {
	fd := s.FD()
	if fd < 0 || fd >= len(p.ids) || p.ids[fd] != id {
		return unix.ENOENT
	}
	if err := p.change(fd, p.want[fd], want); err != nil {
		return err
	}
	p.want[fd] = want
	return nil
}

func (p *kqueue) Remove(s Socket, id uint64) error {
	err := p.Modify(s, id, 0)
	if fd := s.FD(); fd >= 0 && fd < len(p.ids) && p.ids[fd] == id {
		p.ids[fd], p.want[fd] = 0, 0
	}
	return err
}

// change adds and deletes the filters that differ.
func (p *kqueue) change(fd int, was, want Interest) error {
	var changes [2]unix.Kevent_t
	n := 0
	for _, f := range [...]struct {
		bit    Interest
		filter int
	}{{Read, unix.EVFILT_READ}, {Write, unix.EVFILT_WRITE}} {
		switch {
		case want&f.bit != 0 && was&f.bit == 0:
			unix.SetKevent(&changes[n], fd, f.filter, unix.EV_ADD)
			n++
		case want&f.bit == 0 && was&f.bit != 0:
			unix.SetKevent(&changes[n], fd, f.filter, unix.EV_DELETE)
			n++
		}
	}
	if n == 0 {
		return nil
	}
	_, err := ignoringEINTR(func() (int, error) { return unix.Kevent(p.fd, changes[:n], nil, nil) })
	return err
}

func (p *kqueue) Wait(timeout time.Duration, ready []Ready) ([]Ready, error) {
	var ts *unix.Timespec
	if timeout >= 0 {
		t := unix.NsecToTimespec(int64(timeout))
		ts = &t
	}
	n, err := unix.Kevent(p.fd, nil, p.events[:], ts)
	if err != nil {
		return ready, err
	}
	clear(p.at)
	for i := range p.events[:n] {
		ev := &p.events[i]
		fd := int(ev.Ident)
		if fd == p.wake.r {
			p.wake.drain()
			continue
		}
		id := p.ids[fd]
		if id == 0 {
			continue
		}
		got := Read
		if int(ev.Filter) == unix.EVFILT_WRITE {
			got = Write
			if ev.Flags&unix.EV_EOF != 0 { // the peer reads no more
				got |= Hangup
			}
		}
		if ev.Flags&unix.EV_ERROR != 0 {
			got |= Failed
		}
		if j, ok := p.at[id]; ok {
			ready[j].Got |= got
			continue
		}
		p.at[id] = len(ready)
		ready = append(ready, Ready{ID: id, Got: got})
	}
	return ready, nil
}

func (p *kqueue) Wake() error { return p.wake.wake() }

func (p *kqueue) Close() error { return errors.Join(p.wake.close(), unix.Close(p.fd)) }

package load

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/bench/internal/proc"
)

// Flood is what became of many connections that were opened at once.
type Flood struct {
	Conns   int           `json:"conns"`
	Up      time.Duration `json:"up_ns"`      // from the first SYN until the last has had its line echoed
	Slowest time.Duration `json:"slowest_ns"` // that one of them took for that, from its own SYN on
	Resent  int           `json:"resent"`     // connections on which something had to be sent again: the SYN, mostly
	CPU     time.Duration `json:"cpu_ns"`     // that the server used meanwhile
}

// caller opens connections, each of which has one line echoed.
type caller struct {
	*generator
	calls    []call
	family   int // of sa
	sa       unix.Sockaddr
	flooding bool // calls stay when their line is back
}

// call is one of them.
type call struct {
	fd     int // -1: over
	stage  stage
	opened time.Time
	line   int
	got    int
}

type stage uint8

const (
	opening stage = iota // the connection is to come up
	asking               // the line is to come back
	closing              // our side is closed, and the server's is to follow
)

func newCaller(config Config, calls int) (*caller, error) {
	config.Depth = 1
	c := &caller{generator: &generator{Config: config, ep: -1}, calls: make([]call, calls)}
	for i := range c.calls {
		c.calls[i].fd = -1
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.TLS != 0 || c.HTTP || c.Rate != 0 {
		return nil, errors.New("connections that have one line echoed: in the clear, and as fast as it goes")
	}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	c.family, c.sa = sockaddr(c.addr)
	return c, nil
}

func (c *caller) hangUp() {
	for i := range c.calls {
		if fd := c.calls[i].fd; fd >= 0 {
			link{fd: fd}.closeHard()
		}
	}
	c.close()
}

// dial begins the n-th call of all in the i-th place.
func (c *caller) dial(i, n int) error {
	fd, err := unix.Socket(c.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	k := &c.calls[i]
	*k = call{fd: fd, opened: time.Now(), line: n % c.text.count}
	c.open++
	err = bindSource(fd, c.addr.Addr(), n)
	if err == nil {
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			os.NewSyscallError("connect", started(unix.Connect(fd, c.sa))), c.add(fd, i))
	}
	return err
}

func started(err error) error {
	if err == unix.EINPROGRESS {
		return nil
	}
	return err
}

// add has epoll say what happens to the i-th call, once each: the order of the stages is known.
func (c *caller) add(fd, i int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(i)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(c.ep, unix.EPOLL_CTL_ADD, fd, &ev))
}

// step does what can be done for the i-th call. It answers io.EOF at its end.
func (c *caller) step(i int) error {
	k := &c.calls[i]
	due := c.text.line(k.line)
	if k.stage == opening {
		switch n, err := rawWrite(k.fd, due); {
		case err == unix.EAGAIN:
			return nil
		case err != nil:
			return os.NewSyscallError("write", err)
		case n < len(due):
			return fmt.Errorf("%d bytes of a line fit into an empty socket", n)
		}
		k.stage = asking
	}
	for {
		n, err := rawRead(k.fd, c.buf)
		switch {
		case err == unix.EAGAIN:
			return nil
		case err == unix.EINTR:
			continue
		case err != nil:
			return os.NewSyscallError("read", err)
		case n == 0 && k.stage == closing:
			return io.EOF
		case n == 0:
			return fmt.Errorf("closed by the server after %d of %d bytes", k.got, len(due))
		case k.stage == closing:
			return fmt.Errorf("%d %w", n, errUnasked)
		}
		if err := compare(c.buf[:n], due[k.got:], k.got); err != nil {
			return err
		}
		if k.got += n; k.got == len(due) {
			return c.answered(k)
		}
	}
}

// answered is called when the line is back.
func (c *caller) answered(k *call) error {
	k.stage = closing
	if c.flooding {
		return io.EOF
	}
	return os.NewSyscallError("shutdown", unix.Shutdown(k.fd, unix.SHUT_WR))
}

// RunCalls has config.Conns calls going at a time: a connection is opened, has one line echoed, and is closed, by us
// first; then comes the next. Result.Lines is how many there were in the interval.
func RunCalls(config Config) (*Result, error) {
	c, err := newCaller(config, config.Conns)
	if err != nil {
		return nil, err
	}
	defer c.hangUp()
	return c.run()
}

func (c *caller) run() (*Result, error) {
	began, opened := time.Now(), 0
	next := func(i int) error {
		opened++
		return c.dial(i, opened-1)
	}
	for i := range c.calls {
		if err := next(i); err != nil {
			return nil, err
		}
	}
	for c.open > 0 {
		n, err := c.wait(100 * time.Millisecond)
		if err != nil {
			return nil, err
		}
		for _, ev := range c.events[:n] {
			i := int(ev.Fd)
			if c.calls[i].fd < 0 {
				continue
			}
			err := c.step(i)
			if err == nil {
				continue
			}
			c.put(i)
			switch {
			case err != io.EOF:
				c.note(i, err)
				continue
			case c.ended.IsZero():
				if err := next(i); err != nil {
					return nil, err
				}
			}
			c.verified += int64(c.Length)
		}
		now := time.Now()
		switch {
		case c.begun.at.IsZero() && now.Sub(began) >= c.Warmup:
			if c.begun, err = c.snapshot(now); err != nil {
				return nil, err
			}
		case !c.begun.at.IsZero() && c.ended.IsZero() && (now.Sub(c.begun.at) >= c.Interval || c.open == 0):
			if err := c.count(now); err != nil {
				return nil, err
			}
		case !c.ended.IsZero() && now.Sub(c.ended) > c.Patience:
			for i := range c.calls {
				if c.calls[i].fd >= 0 {
					c.put(i)
					c.note(i, fmt.Errorf("no answer within %v", c.Patience))
				}
			}
		}
	}
	return &c.result, nil
}

// put closes the i-th call.
func (c *caller) put(i int) {
	_ = unix.Close(c.calls[i].fd)
	c.calls[i].fd = -1
	c.open--
}

// MeasureFlood opens config.Idle connections at once, without waiting for any, and has a line echoed on each that comes
// up. Of the rest of the Config it needs Addr, PID, Length and Patience.
func MeasureFlood(config Config) (*Flood, error) {
	n := config.Idle
	if n < 1 || config.PID == 0 {
		return nil, errors.New("a flood needs at least 1 connection, and the server's process")
	}
	config.Conns, config.Idle, config.Interval = 1, 0, 1
	c, err := newCaller(config, n)
	if err != nil {
		return nil, err
	}
	defer c.hangUp()
	c.flooding = true
	f := &Flood{Conns: n}
	before, err := proc.CPU(c.PID)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	for i := range n {
		if err := c.dial(i, i); err != nil {
			return nil, fmt.Errorf("connection %d of %d: %w", i, n, err)
		}
	}
	for left, last := n, time.Now(); left > 0; {
		events, err := c.wait(100 * time.Millisecond)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		for _, ev := range c.events[:events] {
			k := &c.calls[ev.Fd]
			if k.stage == closing {
				continue
			}
			switch err := c.step(int(ev.Fd)); {
			case err == io.EOF:
				left--
				last = now
				f.Slowest = max(f.Slowest, now.Sub(k.opened))
			case err != nil:
				return nil, fmt.Errorf("connection %d of %d: %w", ev.Fd, n, err)
			}
		}
		if now.Sub(last) > c.Patience {
			return nil, fmt.Errorf("%d of %d connections had no answer within %v", left, n, c.Patience)
		}
		f.Up = now.Sub(began)
	}
	after, err := proc.CPU(c.PID)
	if err != nil {
		return nil, err
	}
	f.CPU = after - before
	for i := range c.calls {
		info, err := unix.GetsockoptTCPInfo(c.calls[i].fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return nil, os.NewSyscallError("getsockopt", err)
		}
		if info.Total_retrans > 0 {
			f.Resent++
		}
	}
	return f, nil
}

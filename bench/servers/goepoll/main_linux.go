// Goepoll is a line echo in Go on bare epoll: no scheduler, no framework, nothing but system calls and a search for
// newlines. It is the least that a Go program on one core can do, and works as the C server does, call by call.
//
//	goepoll -listen 127.0.0.1:0
package main

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/bench/internal/bare"
	"github.com/parley-go/parley/bench/internal/serving"
)

const (
	readSize = 64 << 10
	spares   = 64
)

// conn is a connection. What was received and not sent lies in buf: the first ready bytes, from head on, are whole lines,
// the rest is the beginning of the next. An echo sends what it received, in that order, so one buffer is input and output.
type conn struct {
	buf     []byte // nil: nothing is kept
	head    int
	ready   int
	fd      int
	blocked bool // waits to write, and does not read
}

type server struct {
	loop  bare.Loop
	conns []*conn // by descriptor
	input []byte  // what all connections read into
	spare [][]byte
}

func main() { serving.Main(serve) }

// serve returns when it cannot go on: the program ends by a signal.
func serve(address string) error {
	s := &server{input: make([]byte, readSize)}
	s.loop.Opened, s.loop.Ready = s.opened, s.ready
	return s.loop.Serve(address)
}

func (s *server) opened(fd int) {
	for fd >= len(s.conns) {
		s.conns = append(s.conns, nil)
	}
	s.conns[fd] = &conn{fd: fd}
}

func (s *server) ready(fd int) error {
	switch c := s.conns[fd]; {
	case c == nil: // dropped in this pass
		return nil
	case c.blocked:
		return s.flush(c)
	default:
		return s.readable(c)
	}
}

func (s *server) readable(c *conn) error {
	n, errno := bare.Read(c.fd, s.input)
	if n <= 0 {
		if errno != unix.EAGAIN && errno != unix.EINTR {
			s.drop(c)
		}
		return nil
	}
	p := s.input[:n]
	lines := 0 // length of the whole lines in p
	for {
		i := bytes.IndexByte(p[lines:], '\n')
		if i < 0 {
			break
		}
		lines += i + 1
	}
	if c.buf == nil {
		sent := 0
		if lines > 0 {
			var ok bool
			if sent, ok = s.put(c, p[:lines]); !ok {
				return nil
			}
			if sent == n {
				return nil // nearly always
			}
		}
		s.keep(c, p[sent:])
		c.ready = lines - sent
		if err := s.block(c, c.ready > 0); err != nil {
			return err
		}
	} else {
		s.keep(c, p)
		if lines > 0 {
			c.ready = len(c.buf) - (n - lines)
			return s.flush(c)
		}
	}
	if len(c.buf)-c.ready > serving.MaxLine {
		s.drop(c)
	}
	return nil
}

func (s *server) flush(c *conn) error {
	if c.head < c.ready {
		sent, ok := s.put(c, c.buf[c.head:c.ready])
		if !ok {
			return nil
		}
		c.head += sent
	}
	if c.head < c.ready {
		return s.block(c, true)
	}
	if c.ready == len(c.buf) {
		s.release(c)
	} else {
		c.buf = c.buf[:copy(c.buf, c.buf[c.head:])]
		c.head, c.ready = 0, 0
	}
	return s.block(c, false)
}

// put writes what the socket takes; it answers false if the connection is lost.
func (s *server) put(c *conn, p []byte) (int, bool) {
	for {
		n, errno := bare.Write(c.fd, p)
		switch errno {
		case 0:
			return n, true
		case unix.EAGAIN:
			return 0, true
		case unix.EINTR:
		default:
			s.drop(c)
			return 0, false
		}
	}
}

// block switches between waiting for input and waiting for room to write.
func (s *server) block(c *conn, on bool) error {
	if c.blocked == on {
		return nil
	}
	c.blocked = on
	if on {
		return s.loop.Watch(c.fd, unix.EPOLLOUT)
	}
	return s.loop.Watch(c.fd, unix.EPOLLIN)
}

// keep appends to the connection's own memory.
func (s *server) keep(c *conn, p []byte) {
	if n := len(s.spare); c.buf == nil && n > 0 {
		c.buf = s.spare[n-1]
		s.spare = s.spare[:n-1]
	}
	c.buf = append(c.buf, p...)
}

func (s *server) release(c *conn) {
	if c.buf != nil && len(s.spare) < spares {
		s.spare = append(s.spare, c.buf[:0])
	}
	c.buf, c.head, c.ready = nil, 0, 0
}

func (s *server) drop(c *conn) {
	s.release(c)
	s.conns[c.fd] = nil
	_ = unix.Close(c.fd)
}

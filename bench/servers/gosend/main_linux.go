// Gosend is what a broadcast comes to in Go: whatever a member sends is written to all of them, with one write(2) for each,
// and that is all. It keeps nothing: a member whose socket has no room for all of a message ends the program.
//
//	gosend -listen 127.0.0.1:0
package main

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/bench/internal/bare"
	"github.com/parley-go/parley/bench/internal/serving"
)

const readSize = 64 << 10

type server struct {
	loop    bare.Loop
	members []int // descriptors, in the order of coming until somebody leaves
	places  []int // of descriptors in members
	input   []byte
}

func main() {
	s := &server{input: make([]byte, readSize)}
	s.loop.Opened, s.loop.Ready = s.opened, s.ready
	serving.Main(s.loop.Serve) // until a signal
}

func (s *server) opened(fd int) {
	for fd >= len(s.places) {
		s.places = append(s.places, 0)
	}
	s.places[fd] = len(s.members)
	s.members = append(s.members, fd)
}

var errBehind = errors.New("a member is behind, and nothing is kept here")

func (s *server) ready(fd int) error {
	n, errno := bare.Read(fd, s.input)
	if n <= 0 {
		if errno != unix.EAGAIN && errno != unix.EINTR {
			s.drop(fd)
		}
		return nil
	}
	for _, to := range s.members {
		sent, errno := bare.Write(to, s.input[:n])
		if sent < n && (errno == 0 || errno == unix.EAGAIN) {
			return errBehind
		}
		// that one is lost comes as an event of its own
	}
	return nil
}

func (s *server) drop(fd int) {
	last := len(s.members) - 1
	moved, place := s.members[last], s.places[fd]
	s.members[place], s.places[moved] = moved, place
	s.members = s.members[:last]
	_ = unix.Close(fd)
}

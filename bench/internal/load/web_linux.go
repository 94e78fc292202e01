package load

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// learn asks once, on a connection of its own, and keeps what is answered.
func (g *generator) learn() error {
	l, err := g.dial()
	if err != nil {
		return err
	}
	defer l.closeHard()
	if _, err := l.blockingWrite([]byte(request)); err != nil {
		return os.NewSyscallError("write", err)
	}
	var got []byte
	buf := make([]byte, 4<<10)
	for !complete(got) {
		n, err := l.blockingRead(buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return fmt.Errorf("no answer to the first request within %v", g.Patience)
		case err != nil:
			return os.NewSyscallError("read", err)
		case n == 0:
			return fmt.Errorf("closed by the server after %d bytes of its first response", len(got))
		case len(got)+n > len(buf):
			return fmt.Errorf("the first response is longer than %d bytes", len(buf))
		}
		got = append(got, buf[:n]...)
	}
	if g.text.answer, err = newResponse(got, time.Now()); err != nil {
		return fmt.Errorf("the first response: %w", err)
	}
	g.Length = len(got)
	return nil
}

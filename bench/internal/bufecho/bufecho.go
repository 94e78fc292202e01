// Package bufecho is the conversation of the servers that have a goroutine for each connection: a line echo with bufio on both
// sides. Lines of what one read brought go out in one write.
package bufecho

import (
	"bufio"
	"errors"
	"net"

	"github.com/parley-go/parley/bench/internal/serving"
)

// flusher is a connection that sends what was gathered before it waits for more. Asking the bufio.Reader whether it is
// empty would not do: what it holds may be the beginning of a line whose end the peer sends after our answer.
type flusher struct {
	net.Conn
	w *bufio.Writer
}

func (f *flusher) Read(p []byte) (int, error) {
	if err := f.w.Flush(); err != nil {
		return 0, err
	}
	return f.Conn.Read(p)
}

// Serve echoes the lines of a connection until it ends, and closes it.
func Serve(conn net.Conn) {
	defer conn.Close()
	w := bufio.NewWriter(conn)
	r := bufio.NewReader(&flusher{conn, w})
	var long []byte // the beginning of a line that the reader's buffer does not hold
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) && len(long)+len(line) <= serving.MaxLine {
			long = append(long, line...)
			continue
		}
		if err != nil {
			return
		}
		if len(long) > 0 {
			if len(long)+len(line) > serving.MaxLine+1 {
				return
			}
			long = append(long, line...)
			line, long = long, long[:0]
		}
		if _, err := w.Write(line); err != nil {
			return
		}
	}
}

// Netpoll is a line echo with github.com/cloudwego/netpoll: a poller, and a goroutine for each connection that has
// something to say.
//
//	netpoll -listen 127.0.0.1:0
package main

import (
	"bytes"
	"context"
	"net"

	"github.com/cloudwego/netpoll"

	"github.com/parley-go/parley/bench/internal/serving"
)

func main() { serving.Main(serve) }

// serve returns when it can accept no more: the program ends by a signal.
func serve(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	loop, err := netpoll.NewEventLoop(lines)
	if err != nil {
		return err
	}
	serving.At(ln.Addr())
	return loop.Serve(ln)
}

// lines is called when something has come. It echoes each line of what is there, and sends all of that in one write. It
// has to stay while the end of a line is missing: called again at once, it would find the same.
func lines(_ context.Context, conn netpoll.Connection) error {
	r, w := conn.Reader(), conn.Writer()
	for seen := 0; ; { // without a "\n"
		p, err := r.Peek(max(r.Len(), seen+1))
		if err != nil {
			return conn.Close()
		}
		done := 0
		for rest := p[seen:]; ; seen = 0 {
			n := bytes.IndexByte(rest, '\n') + 1
			if n == 0 {
				break
			}
			line := p[done : done+seen+n]
			out, err := w.Malloc(len(line))
			if err != nil {
				return conn.Close()
			}
			copy(out, line)
			done += len(line)
			rest = p[done:]
		}
		if done == 0 {
			if seen = len(p); seen > serving.MaxLine {
				return conn.Close()
			}
			continue
		}
		if r.Skip(done) != nil || r.Release() != nil || w.Flush() != nil {
			return conn.Close()
		}
		if r.Len() == 0 {
			return nil
		}
		seen = 0
	}
}

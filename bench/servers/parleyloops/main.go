// Parleyloops is the line echo of examples/echo on a number of loops, with some work for each line if that is asked for.
//
//	parleyloops -listen 127.0.0.1:0 -loops 2 -work 100us
//
// At the end, after SIGTERM, it says which part of the input each loop had.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/parley-go/parley/bench/internal/serving"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/echo"
)

func main() {
	loops := flag.Int("loops", 1, "how many loops")
	work := flag.Duration("work", 0, "how long the handler works on each line")
	serving.Main(func(address string) error { return serve(address, *loops, *work) })
}

func serve(address string, loops int, work time.Duration) error {
	r, err := runner(loops)
	if err != nil {
		return err
	}
	newHandler := echo.Lines(serving.MaxLine)
	if work > 0 {
		newHandler = working(newHandler, work)
	}
	ln, err := chat.Listen(r, "tcp", address, newHandler)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, func() { r.Shutdown(0) })()
	serving.At(ln.Addr())
	if err := r.Run(context.Background()); err != nil {
		return err
	}
	var sum uint64
	for _, l := range r.Loops() {
		sum += l.Stats().BytesIn
	}
	fmt.Fprint(os.Stderr, "shares")
	for _, l := range r.Loops() {
		fmt.Fprintf(os.Stderr, " %.4f", float64(l.Stats().BytesIn)/float64(max(sum, 1)))
	}
	fmt.Fprintln(os.Stderr)
	return nil
}

func runner(loops int) (core.Runner, error) {
	if loops == 1 {
		return core.NewLoop(core.Options{})
	}
	runtime.GOMAXPROCS(loops + 1) // see core.Group
	return core.NewGroup(loops, core.Options{})
}

// working is a handler that uses the CPU for each line before it answers.
func working(newHandler func(*chat.Conn) chat.Handler, work time.Duration) func(*chat.Conn) chat.Handler {
	return func(c *chat.Conn) chat.Handler {
		c.SetLimit(serving.MaxLine)
		c.SetTerminator(chat.Literal("\n"))
		return chat.Lines(func(c *chat.Conn, line []byte) error {
			for start := time.Now(); time.Since(start) < work; {
			}
			if err := c.Push(line); err != nil {
				return err
			}
			return c.WriteByte('\n')
		})
	}
}

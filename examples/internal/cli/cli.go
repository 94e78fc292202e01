// Package cli is what the example servers and clients have in common: flags, logging, signals, exit codes.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/parley-go/parley/core"
)

// Grace is how long a server finishes what is under way after SIGINT or SIGTERM.
const Grace = 5 * time.Second

// Flags is the flag set of a program; Parse prints usage and the flags for -help.
func Flags(usage string) *flag.FlagSet {
	fs := flag.NewFlagSet(os.Args[0], flag.ContinueOnError)
	fs.SetOutput(io.Discard) // Parse says it in one line
	fs.Usage = func() {
		fs.SetOutput(os.Stdout)
		fmt.Fprintf(os.Stdout, "usage: %s\n\n", strings.TrimSpace(usage))
		fs.PrintDefaults()
		fs.SetOutput(io.Discard)
	}
	return fs
}

// Parse reads the command line; it ends the program after -help (status 0) or a mistake (status 2). At most operands
// arguments may follow the flags.
func Parse(fs *flag.FlagSet, operands int) {
	help := fs.Usage
	fs.Usage = func() {} // package flag calls it for a mistake, too
	err := fs.Parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		help()
		os.Exit(0)
	case err != nil:
		Usage(err)
	case fs.NArg() > operands:
		Usage(fmt.Errorf("unexpected argument %q", fs.Arg(operands)))
	}
}

// Usage says what is wrong with the command line and ends the program with status 2.
func Usage(err error) {
	fmt.Fprintf(os.Stderr, "%s: %s (-help lists the flags)\n", name(), line(err))
	os.Exit(2)
}

// Exit ends the program: with status 0, or after saying in one line what is wrong with status 1.
func Exit(err error) {
	if err != nil {
		Warn(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Warn says in one line what is wrong, and goes on.
func Warn(err error) { fmt.Fprintf(os.Stderr, "%s: %s\n", name(), line(err)) }

// line is the text of an error in one line; joined errors have several.
func line(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func name() string { return os.Args[0][strings.LastIndexAny(os.Args[0], `/\`)+1:] }

// Logger logs to standard error as text.
func Logger() *slog.Logger { return slog.New(slog.NewTextHandler(os.Stderr, nil)) }

// MostLoops is the most that -loops can be.
const MostLoops = 256

// LoopFlags adds the flags of NewLoops.
func LoopFlags(fs *flag.FlagSet) *Loops {
	o := new(Loops)
	fs.StringVar(&o.backend, "backend", "auto", "auto, select, poll, epoll or kqueue")
	fs.IntVar(&o.n, "loops", 1, "how many loops share the connections: more than one use more than one CPU; 0: one for each CPU")
	return o
}

// Loops are the loops that a server runs on, as the flags say.
type Loops struct {
	backend string
	n       int
}

// New returns a loop, or a group of them.
func (o *Loops) New() (core.Runner, error) {
	switch {
	case o.n < 0 || o.n > MostLoops:
		Usage(fmt.Errorf("-loops %d: from 0 to %d", o.n, MostLoops))
	case o.n == 1:
		return NewLoop(o.backend)
	}
	checkBackend(o.backend)
	g, err := core.NewGroup(o.n, core.Options{Backend: o.backend, Logger: Logger()})
	if err != nil {
		return nil, err
	}
	if n := len(g.Loops()); os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) <= n {
		runtime.GOMAXPROCS(n + 1) // see core.Group
	}
	return g, nil
}

// NewLoop returns a loop with the named back end that logs as Logger does. A name that this platform does not have is a
// mistake in the command line: see Usage.
func NewLoop(backend string) (*core.Loop, error) {
	checkBackend(backend)
	return core.NewLoop(core.Options{Backend: backend, Logger: Logger()})
}

func checkBackend(backend string) {
	known := append([]string{"auto"}, core.Backends()...)
	if len(known) > 1 && !slices.Contains(known, backend) {
		Usage(fmt.Errorf("-backend %q: there is %s", backend, strings.Join(known, ", ")))
	}
}

// signals gets SIGINT and SIGTERM from the first call on.
var signals = sync.OnceValue(func() <-chan os.Signal {
	c := make(chan os.Signal, 2)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	return c
})

// Listening announces where a server can be reached. From here on a signal is an orderly shutdown: whoever reads the line
// may send one before Serve is called.
func Listening(addr fmt.Stringer) {
	signals()
	fmt.Fprintf(os.Stderr, "listening on %s\n", addr)
}

// Serve runs a loop, or a group of them, until SIGINT or SIGTERM, then shuts it down: what is under way has Grace to finish,
// or until a second signal.
func Serve(r core.Runner) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	signals := signals()
	go func() {
		for range 2 {
			select {
			case <-signals:
				r.Shutdown(Grace)
			case <-done:
				return
			}
		}
		cancel(errAgain)
	}()
	err := r.Run(ctx)
	if errors.Is(err, errAgain) {
		err = nil
	}
	return errors.Join(err, r.Close())
}

var errAgain = errors.New("second signal")

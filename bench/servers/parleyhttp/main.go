// Parleyhttp answers every request with a short text: protocols/http1, with every limit as it is unless told. SIGTERM
// ends it.
//
//	parleyhttp -listen 127.0.0.1:0
//	parleyhttp -listen 127.0.0.1:8080 -cpuprofile cpu.pprof
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/parley-go/parley/bench/internal/serving"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/http1"
)

func main() {
	profile := flag.String("cpuprofile", "", "`file` to write a CPU profile to, at the end")
	serving.Main(func(address string) error { return run(address, *profile) })
}

func run(address, profile string) error {
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	return serve(address)
}

func serve(address string) error {
	loop, err := core.NewLoop(core.Options{})
	if err != nil {
		return err
	}
	srv := &http1.Server{Handler: http1.HandlerFunc(hello)}
	ln, err := srv.Listen(loop, "tcp", address)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { loop.Shutdown(time.Second) })
	serving.At(ln.Addr())
	return loop.Run(context.Background())
}

func hello(w *http1.ResponseWriter, _ *http1.Request) error {
	w.Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.WriteString("Hello, World!\n")
	return err
}

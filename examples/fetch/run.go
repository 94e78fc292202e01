package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/parley-go/parley/core"
)

var errInterrupted = errors.New("interrupted")

// run fetches everything. What it returns is what went wrong, a line each.
func (j *job) run(loop *core.Loop) (failed []error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	j.client.Loop = loop
	show := newDisplay(j, loop)
	waiting := j.downloads
	var next func()
	finished := func(d *download) {
		if d.err != nil {
			failed = append(failed, d.err)
		}
		next()
	}
	active := 0
	next = func() {
		for len(waiting) > 0 && active < j.parallel {
			d := waiting[0]
			waiting = waiting[1:]
			d.done = func(d *download) {
				active--
				finished(d)
			}
			active++
			if err := d.begin(loop); err != nil {
				d.finish(err)
			}
		}
		if len(waiting) == 0 && active == 0 {
			loop.Stop()
		}
	}
	loop.AfterFunc(0, next)
	stay(loop)
	err := loop.Run(ctx)
	show.close()
	waiting = nil
	if err == nil {
		err = errors.New("the loop ended")
	}
	for _, d := range j.downloads {
		if !d.begun {
			d.done = finished
		}
		d.finish(err) // if it is not over
	}
	j.client.Close()
	_ = loop.Close()
	return failed
}

// stay keeps the loop running while nothing is registered with it, but a file is being written to on another goroutine.
func stay(loop *core.Loop) { loop.AfterFunc(time.Hour, func() { stay(loop) }) }

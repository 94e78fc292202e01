package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/examples/internal/cli"
	"github.com/parley-go/parley/protocols/smtp"
)

// run sends the message. What it returns is what went wrong, a line each.
func (j *job) run(loop *core.Loop, show bool) []error {
	var result *smtp.Result
	j.client.Closed = func(error) { loop.Stop() } // a read of standard input may still be under way
	if err := j.client.Dial(loop, j.network, j.address); err != nil {
		return []error{err}
	}
	if show {
		p := progress{loop: loop}
		j.message.Progress = p.sent
		defer p.clear()
	}
	if err := j.client.Send(&j.message, func(r *smtp.Result) { result = r }); err != nil {
		return []error{err}
	}
	j.client.Quit()
	if err := cli.Serve(loop); err != nil {
		return []error{err}
	}
	if result == nil { // a second signal
		return []error{errors.New("interrupted")}
	}
	return j.complaints(result)
}

// complaints are why the message was not accepted: a line for each recipient that the server refused, and one for all others
// if it could not say.
func (j *job) complaints(r *smtp.Result) (lines []error) {
	common := false
	for i, to := range r.To {
		switch {
		case to.Positive():
		case to == r.Reply && r.Err != nil:
			common = true
		default:
			lines = append(lines, fmt.Errorf("%s: %w", j.message.To[i], to))
		}
	}
	if common {
		err := fmt.Errorf("%s: %s: %w", j.address, r.Step, r.Err)
		if r.Uncertain {
			err = fmt.Errorf("%w; it may have been accepted all the same", err)
		}
		lines = append(lines, err)
	}
	return lines
}

// progress shows on a terminal how far it is.
type progress struct {
	loop *core.Loop
	next time.Time // when it is shown again
	any  bool
}

const progressInterval = 100 * time.Millisecond

func (p *progress) sent(n int64) {
	now := p.loop.Now()
	if now.Before(p.next) {
		return
	}
	p.next, p.any = now.Add(progressInterval), true
	fmt.Fprintf(os.Stderr, "\r%d KiB sent ", n>>10)
}

// clear makes room for what comes after it.
func (p *progress) clear() {
	if p.any {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}

// terminal tells whether somebody looks at f.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Mode()&os.ModeDevice != 0
}

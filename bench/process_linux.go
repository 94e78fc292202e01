package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pins are the CPUs that servers and generator run on; -1: any.
type pins struct{ server, generator int }

// choosePins takes the first two CPUs that this process may use.
func choosePins(log io.Writer) (pins, error) {
	none := pins{-1, -1}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return none, os.NewSyscallError("sched_getaffinity", err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < 2 && cpu < len(set)*64; cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) < 2 {
		fmt.Fprintln(log, "not pinned: there is one CPU for servers and generator together, so the figures say little")
		return none, nil
	}
	if _, err := exec.LookPath("taskset"); err != nil {
		fmt.Fprintln(log, "not pinned: there is no taskset, so the figures say little")
		return none, nil
	}
	return pins{cpus[0], cpus[1]}, nil
}

// pinned is a command that runs on one CPU. taskset becomes the program itself, so that the process is the one we started.
func pinned(cpu int, name string, args ...string) *exec.Cmd {
	if cpu >= 0 {
		args = append([]string{"-c", strconv.Itoa(cpu), name}, args...)
		name = "taskset"
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true, // Ctrl-C is for us alone: we end what we started
		Pdeathsig: syscall.SIGKILL,
	}
	return cmd
}

// process is a running server.
type process struct {
	server
	cmd  *exec.Cmd
	addr string
	gone chan struct{} // closed when it has ended
	last string        // line that it said; to be read when it is gone
	sent amount        // to it
}

// start starts a server and waits until it can be reached.
func start(ctx context.Context, s server, cpu int) (*process, error) {
	p := &process{server: s, gone: make(chan struct{})}
	args := append([]string{"-listen", "127.0.0.1:0"}, s.args...)
	var answers func(addr string, gone <-chan struct{}) bool // of a server that does not say where it listens
	var err error
	switch {
	case s.sink:
		p.addr, err = freeAddr()
		args, answers = sinkArgs(p.addr), greets
	case s.nginx:
		p.addr, args, err = nginxArgs(s.dir)
		answers = accepts
	}
	if err != nil {
		return nil, err
	}
	if s.kind.unpinned() {
		cpu = -1
	}
	p.cmd = pinned(cpu, s.binary, append(args, s.args...)...)
	if s.kind.unpinned() {
		p.cmd.Env = append(p.cmd.Env, "GOMAXPROCS=2")
	}
	p.cmd.Env = append(p.cmd.Env, s.env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	addr := make(chan string, 1)
	go func() {
		defer close(p.gone)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			p.last = lines.Text()
			if a, ok := strings.CutPrefix(p.last, "listening on "); ok {
				select {
				case addr <- a:
				default:
				}
			}
		}
		_, _ = io.Copy(io.Discard, stderr) // behind a line that is too long
		_ = p.cmd.Wait()
	}()
	if answers != nil {
		go func(at string) {
			if answers(at, p.gone) {
				addr <- at
			}
		}(p.addr)
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case p.addr = <-addr:
		return p, nil
	case <-p.gone:
		err = p.died()
	case <-timeout.C:
		err = fmt.Errorf("%s: did not say where it listens within %v", s.name, patience)
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.stop()
	return nil, err
}

// died says how a server that is gone ended.
func (p *process) died() error {
	return fmt.Errorf("%s ended by itself: %v: %s", p.name, p.cmd.ProcessState, p.last)
}

// ended tells whether the server is gone.
func (p *process) ended() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// check returns what went wrong in a turn: that the server ended if it did, else err.
func (p *process) check(err error) error {
	if err == nil && !p.ended() {
		return nil
	}
	select {
	case <-p.gone:
		return p.died()
	case <-time.After(200 * time.Millisecond): // the kernel tells the generator first
		return fmt.Errorf("%s: %w", p.name, err)
	}
}

// stop ends the server, and returns when it is gone.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.gone
	}
}

// generate runs the generator and decodes what it prints. It is given the time that its flags add up to.
func generate[T any](ctx context.Context, cpu int, limit time.Duration, lineload string, args ...string) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := pinned(cpu, lineload, args...)
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	err := cmd.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("the generator did not end within %v: %w", limit, ctx.Err())
	}
	result := new(T)
	if len(out.String()) > 0 {
		if err := json.Unmarshal([]byte(out.String()), result); err != nil {
			return nil, fmt.Errorf("the generator's answer: %w", err)
		}
	}
	if err != nil {
		said := strings.TrimSpace(complaint.String())
		if said == "" {
			said = err.Error()
		}
		return result, errors.New(strings.TrimPrefix(said, "lineload: "))
	}
	return result, nil
}

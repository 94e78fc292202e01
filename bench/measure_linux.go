package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/bench/internal/load"
	"github.com/parley-go/parley/bench/internal/proc"
)

// measurement is one run of this program.
type measurement struct {
	*options
	programs programs
	pins     pins
	log      io.Writer
	running  []*process
	report   report
}

func (m *measurement) run(ctx context.Context, out io.Writer) error {
	fmt.Fprintln(out, m.report.Machine)
	for _, s := range m.programs.servers {
		fmt.Fprintf(out, "%-12s %s\n", s.name, s.title)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	for i, wanted := range m.scenarios {
		s := wanted.fit(int(min(files.Max, 1<<20)))
		if s.idle+s.conns < wanted.idle+wanted.conns {
			fmt.Fprintf(m.log, "%s: %d connections instead of %d: at most %d files may be open\n",
				s.name, s.idle+s.conns, wanted.idle+wanted.conns, files.Max)
			m.scenarios[i] = s // for the charts
		}
		measure := m.speaking
		switch {
		case s.kind == mail && s.memory:
			measure = m.peaking
		case s.kind == mail:
			measure = m.delivering
		case s.flood:
			measure = m.flooding
		case s.paced:
			measure = m.pacing
		case s.memory:
			measure = m.silent
		}
		if err := measure(ctx, s); err != nil {
			return fmt.Errorf("scenario %s: %w", s.name, err)
		}
		m.report.table(out, s)
	}
	return nil
}

// speaking measures CPU time per line: all servers are up, and take turns.
func (m *measurement) speaking(ctx context.Context, s scenario) error {
	defer m.shares(s)
	if err := m.startAll(ctx, s); err != nil {
		return err
	}
	for round := range m.rounds {
		for _, p := range m.running {
			if err := m.quiet(ctx); err != nil {
				return err
			}
			r, err := m.load(ctx, s, p, 0, m.seconds)
			if err != nil {
				return err
			}
			m.report.add(sample{Scenario: s.name, Server: p.name, Round: round, Result: r})
		}
	}
	return nil
}

// startAll starts all servers of a scenario.
func (m *measurement) startAll(ctx context.Context, s scenario) error {
	for _, program := range m.programs.of(s) {
		if s.work > 0 {
			program.args = append(slices.Clone(program.args), "-work", s.work.String())
		}
		p, err := start(ctx, program, m.pins.server)
		if err != nil {
			return err
		}
		m.running = append(m.running, p)
	}
	return nil
}

// shares ends all servers, and keeps what those of several loops say about who had how much.
func (m *measurement) shares(s scenario) {
	running := m.running
	m.stop()
	for _, p := range running {
		if said, ok := strings.CutPrefix(p.last, "shares "); ok {
			m.report.Shares = append(m.report.Shares, shares{s.name, p.name, said})
		}
	}
}

// silent measures memory: a server at a time, and a new one for each round, because what a process once had it rarely gives
// back.
func (m *measurement) silent(ctx context.Context, s scenario) error {
	defer m.stop()
	for round := range m.rounds {
		for _, program := range m.programs.of(s) {
			p, err := start(ctx, program, m.pins.server)
			if err != nil {
				return err
			}
			m.running = append(m.running, p)
			r, err := generate[load.Memory](ctx, m.pins.generator, time.Minute, m.programs.lineload,
				"-connect", p.addr, "-tls", s.tls, "-pid", strconv.Itoa(p.cmd.Process.Pid), "-memory",
				"-settle="+strconv.FormatBool(s.settle), "-idle", strconv.Itoa(s.idle), "-length", strconv.Itoa(s.length))
			if err := p.check(err); err != nil {
				return err
			}
			m.report.add(sample{Scenario: s.name, Server: p.name, Round: round, Memory: r})
			m.stop()
		}
	}
	return nil
}

// load has the generator keep one server busy for some seconds, or send it so many lines per second.
func (m *measurement) load(ctx context.Context, s scenario, p *process, rate, seconds float64) (*load.Result, error) {
	interval := time.Duration(seconds * float64(time.Second))
	warmup := min(interval/4, 500*time.Millisecond)
	cpu := m.pins.generator
	if p.kind.unpinned() {
		cpu = -1
	}
	r, err := generate[load.Result](ctx, cpu, interval+warmup+time.Minute, m.programs.lineload,
		"-connect", p.addr, "-tls", s.tls, "-http="+strconv.FormatBool(s.kind == web),
		"-broadcast="+strconv.FormatBool(s.kind == telling),
		"-pid", strconv.Itoa(p.cmd.Process.Pid),
		"-conns", strconv.Itoa(s.conns), "-rate", fmt.Sprint(rate), "-calls="+strconv.FormatBool(s.calls),
		"-depth", strconv.Itoa(s.depth), "-length", strconv.Itoa(s.length),
		"-idle", strconv.Itoa(s.idle), "-warmup", warmup.String(), "-interval", interval.String())
	if err == nil && r.Lines == 0 {
		err = fmt.Errorf("no %s in %v", s.unit(), r.Elapsed)
	}
	return r, p.check(err)
}

// quiet waits until no server works any more: on what the last turn left behind, ten thousand connections to close, say.
func (m *measurement) quiet(ctx context.Context) error {
	const step, enough = 20 * time.Millisecond, 200 * time.Microsecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	last := time.Duration(-1)
	for range 100 {
		var used time.Duration
		for _, p := range m.running {
			if p.ended() {
				return p.died()
			}
			cpu, err := proc.CPU(p.cmd.Process.Pid)
			if err != nil {
				return err
			}
			used += cpu
		}
		if last >= 0 && used-last < enough {
			return nil
		}
		last = used
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	fmt.Fprintln(m.log, "a server is not quiet although nobody speaks to it; measuring nevertheless")
	return nil
}

// stop ends all servers.
func (m *measurement) stop() {
	for _, p := range m.running {
		p.stop()
	}
	m.running = nil
}

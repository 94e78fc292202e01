package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/parley-go/parley/bench/internal/load"
	"github.com/parley-go/parley/bench/internal/proc"
)

// messagesPerSecond is how many messages a turn has for each second of -seconds: smtp-source is told a number, not a time.
const messagesPerSecond = 2500

// peak is the most memory that a server had resident.
type peak struct {
	Messages int   `json:"messages"` // short ones, which came first
	Short    int64 `json:"short_bytes"`
	Long     int64 `json:"long_bytes"` // after the long ones, too
}

// delivering measures CPU time per message: all servers are up, and take turns.
func (m *measurement) delivering(ctx context.Context, s scenario) error {
	defer m.stop()
	if err := m.startAll(ctx, s); err != nil {
		return err
	}
	messages := max(int(m.seconds*messagesPerSecond), 5*s.conns)
	for round := range m.rounds {
		for _, p := range m.running {
			if _, err := m.send(ctx, s, p, 10*s.conns, s.length); err != nil { // to warm up
				return err
			}
			r, err := m.deliver(ctx, s, p, messages)
			if err != nil {
				return err
			}
			m.report.add(sample{Scenario: s.name, Server: p.name, Round: round, Result: r})
		}
	}
	return m.stopAndCount()
}

// deliver is a counted turn. Its lines are messages.
func (m *measurement) deliver(ctx context.Context, s scenario, p *process, messages int) (*load.Result, error) {
	read := func() (proc.Usage, error) {
		if err := m.quiet(ctx); err != nil {
			return proc.Usage{}, err
		}
		return proc.Used(p.cmd.Process.Pid)
	}
	before, err := read()
	if err != nil {
		return nil, err
	}
	elapsed, err := m.send(ctx, s, p, messages, s.length)
	if err != nil {
		return nil, err
	}
	after, err := read()
	if err != nil {
		return nil, err
	}
	used := after.Since(before)
	return &load.Result{Lines: float64(messages), Elapsed: elapsed,
		CPU: used.CPU, User: used.User, System: used.System}, nil
}

// peaking measures the most memory that a server needs for short messages, and for long ones: a server at a time, and a new
// one for each round, because a peak stays.
func (m *measurement) peaking(ctx context.Context, s scenario) error {
	defer m.stop()
	for round := range m.rounds {
		for _, program := range m.programs.of(s) {
			p, err := start(ctx, program, m.pins.server)
			if err != nil {
				return err
			}
			m.running = append(m.running, p)
			r := &peak{Messages: s.messages}
			if _, err := m.send(ctx, s, p, s.messages, s.length); err != nil {
				return err
			}
			if r.Short, err = proc.PeakRSS(p.cmd.Process.Pid); err != nil {
				return err
			}
			if _, err := m.send(ctx, s, p, s.large, s.larger); err != nil {
				return err
			}
			if r.Long, err = proc.PeakRSS(p.cmd.Process.Pid); err != nil {
				return err
			}
			m.report.add(sample{Scenario: s.name, Server: p.name, Round: round, Peak: r})
			if err := m.stopAndCount(); err != nil {
				return err
			}
		}
	}
	return nil
}

// send has smtp-source send messages to a server. It ends with an error at the first that is refused.
func (m *measurement) send(ctx context.Context, s scenario, p *process, messages, length int) (time.Duration, error) {
	const limit = 2 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	source := m.programs.postfix
	args := []string{"-s", strconv.Itoa(min(s.conns, messages)), "-l", strconv.Itoa(length), "-m", strconv.Itoa(messages),
		"-M", "example.org", "-f", "sender@example.org", "-t", "rcpt@example.org"}
	if s.reuse {
		args = append(args, "-d")
	}
	cmd := pinned(m.pins.generator, source.source, append(args, p.addr)...)
	cmd.Env = append(cmd.Env, source.env...)
	var complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &complaint, &complaint
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	err := cmd.Wait()
	elapsed := time.Since(began)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return 0, fmt.Errorf("%s: %d messages of %d bytes were not taken within %v", p.name, messages, length, limit)
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil:
		said := strings.TrimPrefix(lastLine([]byte(complaint.String())), filepath.Dir(source.source)+"/")
		if said == "" {
			said = "smtp-source: " + err.Error()
		}
		return 0, p.check(errors.New(said))
	}
	p.sent.messages += int64(messages)
	p.sent.octets += int64(messages) * int64(length)
	return elapsed, p.check(nil)
}

// amount is how much mail there was.
type amount struct{ messages, octets int64 }

// stopAndCount ends all servers, and compares what they took with what they were sent.
func (m *measurement) stopAndCount() error {
	ended := m.running
	m.stop()
	for _, p := range ended {
		if err := p.tookAll(); err != nil {
			return err
		}
	}
	return nil
}

// tookAll is the check of a server that was stopped. The headers that smtp-source writes, of some 140 octets each, come on top
// of what it was told to send.
func (p *process) tookAll() error {
	const least, most = 100, 1000
	var took amount
	if _, err := fmt.Sscanf(p.last, "took %d messages, %d octets", &took.messages, &took.octets); err != nil {
		if p.counts {
			return fmt.Errorf("%s: did not say how much mail it took: %q", p.name, p.last)
		}
		return nil
	}
	if took.messages != p.sent.messages {
		return fmt.Errorf("%s: took %d messages, but was sent %d", p.name, took.messages, p.sent.messages)
	}
	if headers := took.octets - p.sent.octets; headers < least*took.messages || headers > most*took.messages {
		return fmt.Errorf("%s: took %d octets, but was sent %d and %d headers", p.name, took.octets, p.sent.octets, p.sent.messages)
	}
	return nil
}

// Bench compares what Parley's servers cost, in CPU time for each line, message or request and in memory, with other
// servers that do the same work, in one interleaved run. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options is the command line.
type options struct {
	scenarios []scenario
	servers   []server
	rounds    int
	seconds   float64
	short     bool
	json      string
	svg       string
}

func main() {
	// Everything is started from this thread, which lives as long as the program: the kernel is told to end what we started
	// when the thread that started it ends.
	runtime.LockOSThread()
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "bench: %v (-help lists the flags)\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o, os.Stdout)
	interrupted := ctx.Err() != nil
	stop()
	if err != nil {
		if interrupted {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*options, error) {
	o := new(options)
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	names := fs.String("scenarios", "", "comma-separated `names` of what to run: "+join(scenarios, scenarioName)+" (default all)")
	who := fs.String("servers", "", "comma-separated `names` of servers: "+join(servers, serverName)+" (default all)")
	fs.IntVar(&o.rounds, "rounds", 3, "how often each server has its turn")
	fs.Float64Var(&o.seconds, "seconds", 2, "`length` of a counted interval")
	fs.BoolVar(&o.short, "short", false, "one round, short intervals, few connections: to see that everything works")
	fs.StringVar(&o.json, "json", "", "`file` to write all samples to; - is standard output, and the tables go to standard error")
	fs.StringVar(&o.svg, "svg", "", "`folder` to draw charts in, a file for each scenario")
	also := fs.String("also", "", "comma-separated `name=program` of further servers, built before: another version of Parley's echo, say; kind:name=program for those of another kind: "+join(kinds, kindName))
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Println("usage: go run . [flags]\n\nCompares Parley's servers with others.")
			fs.SetOutput(os.Stdout)
			fs.PrintDefaults()
		}
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.short && !given["rounds"] {
		o.rounds = 1
	}
	if o.short && !given["seconds"] {
		o.seconds = 0.3
	}
	switch {
	case o.rounds < 1:
		return nil, fmt.Errorf("-rounds %d: at least 1", o.rounds)
	case !(o.seconds >= 0.05 && o.seconds <= 600):
		return nil, fmt.Errorf("-seconds %v: from 0.05 to 600", o.seconds)
	}
	var err error
	if o.scenarios, err = choose("-scenarios", *names, scenarios, scenarioName); err != nil {
		return nil, err
	}
	if o.servers, err = choose("-servers", *who, servers, serverName); err != nil {
		return nil, err
	}
	if o.short {
		for i, s := range o.scenarios {
			o.scenarios[i] = s.short()
		}
	}
	if *also != "" {
		for _, pair := range strings.Split(*also, ",") {
			name, program, ok := strings.Cut(pair, "=")
			k := plain
			if before, after, ok := strings.Cut(name, ":"); ok {
				k, name = kind(before), after
			}
			if !ok || name == "" || program == "" || !slices.Contains(kinds, k) {
				return nil, fmt.Errorf("-also %q: not name=program, or kind:name=program with a kind of %s", pair, join(kinds, kindName))
			}
			if slices.ContainsFunc(o.servers, func(s server) bool { return s.name == name }) {
				return nil, fmt.Errorf("-also %q: there is a server of that name", pair)
			}
			o.servers = append(o.servers, server{name: name, kind: k, title: program, binary: program})
		}
	}
	// Without -scenarios, those are meant that the servers are for, and the other way round.
	idle := func(s scenario) bool {
		return !slices.ContainsFunc(o.servers, func(p server) bool { return p.kind == s.kind })
	}
	if i := slices.IndexFunc(o.scenarios, idle); i >= 0 && given["scenarios"] {
		return nil, fmt.Errorf("-scenarios %q: no server is left for %s", *names, o.scenarios[i].name)
	}
	o.scenarios = slices.DeleteFunc(o.scenarios, idle)
	o.servers = slices.DeleteFunc(o.servers, func(p server) bool {
		return !slices.ContainsFunc(o.scenarios, func(s scenario) bool { return s.kind == p.kind })
	})
	return o, nil
}

func kindName(k kind) string { return string(k) }

func scenarioName(s scenario) string { return s.name }
func serverName(s server) string     { return s.name }

// choose returns the entries of a table that are named, in the table's order; all if none is.
func choose[T any](what, names string, table []T, name func(T) string) ([]T, error) {
	if names == "" {
		return slices.Clone(table), nil
	}
	wanted := strings.Split(names, ",")
	for _, w := range wanted {
		if !slices.ContainsFunc(table, func(t T) bool { return name(t) == w }) {
			return nil, fmt.Errorf("%s %q: not one of %s", what, w, join(table, name))
		}
	}
	var chosen []T
	for _, t := range table {
		if slices.Contains(wanted, name(t)) {
			chosen = append(chosen, t)
		}
	}
	return chosen, nil
}

func join[T any](table []T, name func(T) string) string {
	var names []string
	for _, t := range table {
		names = append(names, name(t))
	}
	return strings.Join(names, ",")
}

// run builds, measures and reports. Everything that it made is gone when it returns: files and processes.
func run(ctx context.Context, o *options, out io.Writer) (err error) {
	tables := out
	if o.json == "-" {
		tables = os.Stderr
	}
	dir, err := os.MkdirTemp("", "parley-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	m := &measurement{options: o, log: os.Stderr}
	others, err := m.findOthers(ctx, dir)
	if err != nil || len(o.scenarios) == 0 {
		return err
	}
	if m.programs, err = build(ctx, o.servers, others, dir, m.log); err != nil {
		return err
	}
	if m.pins, err = choosePins(m.log); err != nil {
		return err
	}
	m.report.describe(m)
	defer m.stop()
	err = m.run(ctx, tables)
	if o.json != "" {
		err = errors.Join(err, m.report.writeJSON(o.json, out))
	}
	if o.svg != "" && err == nil {
		err = m.report.charts(o.svg, o.scenarios)
	}
	return err
}

// findOthers finds the programs of others that are needed. Where they are not to be had, what needs them is left out,
// which is said in a line; the environment can make it an error.
func (m *measurement) findOthers(ctx context.Context, dir string) (others found, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = dir // without a home it is gone with everything else
	}
	cache = filepath.Join(cache, "parley-bench")
	if slices.ContainsFunc(m.scenarios, func(s scenario) bool { return s.kind == mail }) {
		if others.postfix, err = findPostfix(ctx, installed(), cache); err != nil && ctx.Err() == nil {
			err = m.leaveOutMail(err)
		}
		if err != nil {
			return others, err
		}
	}
	if slices.ContainsFunc(m.servers, func(s server) bool { return s.nginx }) {
		if others.nginx, err = findNginx(ctx, installed(), cache); err != nil && ctx.Err() == nil {
			err = m.leaveOutNginx(err)
		}
	}
	return others, err
}

// leaveOutMail leaves out the scenarios with mail because of an error, or returns it.
func (m *measurement) leaveOutMail(err error) error {
	err = fmt.Errorf("no smtp-source and smtp-sink of Postfix: %w", err)
	if os.Getenv(requireClients) != "" {
		return err
	}
	var without []scenario
	for _, s := range m.scenarios {
		if s.kind == mail {
			without = append(without, s)
		}
	}
	fmt.Fprintf(m.log, "without %s: %v\n", join(without, scenarioName), err)
	m.scenarios = slices.DeleteFunc(m.scenarios, func(s scenario) bool { return s.kind == mail })
	m.servers = slices.DeleteFunc(m.servers, func(s server) bool { return s.kind == mail })
	return nil
}

// leaveOutNginx leaves nginx out because of an error, or returns it.
func (m *measurement) leaveOutNginx(err error) error {
	if os.Getenv(requireClients) != "" {
		return fmt.Errorf("no nginx: %w", err)
	}
	fmt.Fprintf(m.log, "without nginx: %v\n", err)
	m.servers = slices.DeleteFunc(m.servers, func(s server) bool { return s.nginx })
	return nil
}

// patience is how long a server may take to come up, and to go.
const patience = 10 * time.Second

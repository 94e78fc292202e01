package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// modulePath is where this program comes from; Parley's module is the folder above.
const modulePath = "github.com/parley-go/parley/bench"

// programs is what was built.
type programs struct {
	servers  []server // those that take part, with binary set
	lineload string
	postfix  *postfix // nil: not needed, or not to be had
	cc       string   // what the C compiler calls itself; "" if none was used
}

// of returns the servers that take part in a scenario.
func (p *programs) of(s scenario) []server {
	var some []server
	for _, p := range p.servers {
		works := s.work == 0 || p.source == "" // the C programs have no -work
		if p.kind == s.kind && works && (p.most == 0 || s.idle <= p.most) {
			some = append(some, p)
		}
	}
	return some
}

// found are programs of others.
type found struct {
	postfix *postfix
	nginx   string
}

// build makes all programs, in dir. A C program is left out, which is said, where there is no compiler. Programs of
// others are needed where they are among the servers.
func build(ctx context.Context, chosen []server, others found, dir string, log io.Writer) (p programs, err error) {
	p.postfix = others.postfix
	root, err := findRoot(ctx)
	if err != nil {
		return p, err
	}
	bench := filepath.Join(root, "bench")
	p.lineload = filepath.Join(dir, "lineload")
	if err := goBuild(ctx, bench, "./cmd/lineload", p.lineload); err != nil {
		return p, err
	}
	for _, s := range chosen {
		binary := filepath.Join(dir, s.name)
		switch {
		case s.binary != "":
			if binary, err = filepath.Abs(s.binary); err == nil {
				_, err = exec.LookPath(binary)
			}
		case s.source != "":
			var cc string
			if cc, err = exec.LookPath("cc"); err != nil {
				fmt.Fprintf(log, "without %s (%s): there is no cc\n", s.name, s.title)
				err = nil
				continue
			}
			p.cc = version(ctx, cc)
			args := []string{"-O2", "-std=gnu11", "-pthread", "-o", binary, s.source}
			if s.define != "" {
				args = append(args, "-D"+s.define)
			}
			err = command(ctx, bench, cc, args...)
		case s.sink:
			binary, s.env = others.postfix.sink, others.postfix.env
		case s.nginx:
			binary, s.dir = others.nginx, dir
		case s.parley:
			err = goBuild(ctx, root, s.pkg, binary)
		default:
			err = goBuild(ctx, bench, s.pkg, binary)
		}
		if err != nil {
			return p, err
		}
		s.binary = binary
		p.servers = append(p.servers, s)
	}
	if len(p.servers) == 0 {
		return p, errors.New("no server is left to measure")
	}
	return p, nil
}

func goBuild(ctx context.Context, dir, pkg, output string) error {
	return command(ctx, dir, "go", "build", "-o", output, pkg)
}

// command runs a program; what it has to say is the error.
func command(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// version returns the first line of what a compiler says about itself.
func version(ctx context.Context, cc string) string {
	out, err := exec.CommandContext(ctx, cc, "--version").Output()
	if err != nil {
		return "cc of an unknown version"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(first)
}

// findRoot returns the folder of Parley's module: that of the checkout in which the program was called.
func findRoot(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}}\n{{.Dir}}")
	cmd.Env = append(os.Environ(), "GOWORK=off") // a workspace has several modules
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w", err)
	}
	path, dir, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	switch path {
	case modulePath:
		return filepath.Dir(dir), nil
	case filepath.ToSlash(filepath.Dir(modulePath)):
		return dir, nil
	}
	return "", errors.New("call this within a checkout of Parley")
}

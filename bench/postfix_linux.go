package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// postfix is two programs of Postfix: smtp-source sends mail, smtp-sink takes it and drops it.
type postfix struct {
	source, sink string
	env          []string
}

// findPostfix finds the programs where they are installed, or else takes them out of Debian's package, into a folder of the
// cache, without installing anything.
func findPostfix(ctx context.Context, installed []string, cache string) (*postfix, error) {
	for _, dir := range installed {
		if p, err := postfixIn(ctx, dir, nil); err == nil {
			return p, nil
		}
	}
	unpacked := filepath.Join(cache, "postfix")
	p, err := postfixUnder(ctx, unpacked)
	if err == nil {
		return p, nil
	}
	if !errors.Is(err, fs.ErrNotExist) { // of another release of the system, say
		if err := os.RemoveAll(unpacked); err != nil {
			return nil, err
		}
	}
	if err := unpack(ctx, "postfix", cache, unpacked); err != nil {
		return nil, err
	}
	return postfixUnder(ctx, unpacked)
}

// postfixUnder is postfixIn for a package that is unpacked in a folder.
func postfixUnder(ctx context.Context, dir string) (*postfix, error) {
	return postfixIn(ctx, filepath.Join(dir, "usr", "sbin"), []string{"LD_LIBRARY_PATH=" + filepath.Join(dir, "usr", "lib", "postfix")})
}

// postfixIn returns the programs of a folder if they run.
func postfixIn(ctx context.Context, dir string, env []string) (*postfix, error) {
	p := &postfix{filepath.Join(dir, "smtp-source"), filepath.Join(dir, "smtp-sink"), env}
	for _, program := range []string{p.source, p.sink} {
		if _, err := os.Stat(program); err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, program) // says how to use it, and fails
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), "usage:") {
			return nil, fmt.Errorf("%s does not run: %w: %s", filepath.Base(program), err, lastLine(out))
		}
	}
	return p, nil
}

// sinkArgs are the arguments of smtp-sink. It wants to give up root's rights, so that it outlives us if we are killed: the
// kernel forgets then that it was to end with us.
func sinkArgs(addr string) []string {
	const backlog = "1024"
	if os.Geteuid() == 0 {
		return []string{"-u", "nobody", addr, backlog}
	}
	return []string{addr, backlog}
}

// freeAddr returns an address that was free a moment ago: smtp-sink does not say what port 0 became.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// greets waits until a mail server can be reached, or gone is closed.
func greets(addr string, gone <-chan struct{}) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-gone:
			return false
		case <-tick.C:
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		if c, err := smtp.NewClient(conn, "localhost"); err == nil && c.Quit() == nil {
			return true
		}
		_ = conn.Close()
	}
}

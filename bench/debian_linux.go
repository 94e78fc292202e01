package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// requireClients is the environment variable that makes a missing program of others an error.
const requireClients = "PARLEY_REQUIRE_CLIENTS"

// installed are the folders in which the programs of others are if they are installed.
func installed() []string {
	return append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/local/sbin")
}

// unpack gets a package of Debian's and makes dir of it, in one step: another run may be doing the same.
func unpack(ctx context.Context, pkg, cache, dir string) (err error) {
	for _, tool := range []string{"apt-get", "dpkg"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("there is no %s to get it with", tool)
		}
	}
	if err := os.MkdirAll(cache, 0o777); err != nil {
		return err
	}
	work, err := os.MkdirTemp(cache, "unpacking-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := quietly(ctx, work, "apt-get", "download", pkg); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("apt-get download left %d packages: %w", len(debs), err)
	}
	tree := filepath.Join(work, "tree")
	if err := quietly(ctx, work, "dpkg", "-x", debs[0], tree); err != nil {
		return err
	}
	if err := os.Rename(tree, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// quietly runs a program; the last line that it has to say is the error.
func quietly(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, args[0], err, lastLine(out))
	}
	return nil
}

func lastLine(out []byte) string {
	s := strings.TrimSpace(string(out))
	return s[strings.LastIndexByte(s, '\n')+1:]
}

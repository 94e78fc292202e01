package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// findNginx finds the program where it is installed, or else takes it out of Debian's package, into a folder of the
// cache, without installing anything.
func findNginx(ctx context.Context, installed []string, cache string) (string, error) {
	for _, dir := range installed {
		if program := filepath.Join(dir, "nginx"); nginxRuns(ctx, program) == nil {
			return program, nil
		}
	}
	unpacked := filepath.Join(cache, "nginx")
	program := filepath.Join(unpacked, "usr", "sbin", "nginx")
	err := nginxRuns(ctx, program)
	if err == nil {
		return program, nil
	}
	if !errors.Is(err, fs.ErrNotExist) { // of another release of the system, say
		if err := os.RemoveAll(unpacked); err != nil {
			return "", err
		}
	}
	if err := unpack(ctx, "nginx", cache, unpacked); err != nil {
		return "", err
	}
	return program, nginxRuns(ctx, program)
}

// nginxRuns is nil if that is an nginx that runs.
func nginxRuns(ctx context.Context, program string) error {
	if _, err := os.Stat(program); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, program, "-v").CombinedOutput()
	if !strings.Contains(string(out), "nginx version") {
		return fmt.Errorf("nginx does not run: %w: %s", err, lastLine(out))
	}
	return nil
}

// nginxConf is its configuration. Its one process does all the work, and nothing is written to disk: access_log is off. The
// bound of requests on a connection is higher than any run comes to.
const nginxConf = `daemon off;
master_process off;
worker_processes 1;
error_log stderr crit;
pid nginx.pid;
events {
	worker_connections 1024;
}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	keepalive_requests 1000000000;
	default_type "text/plain; charset=utf-8";
	server {
		listen %s;
		location / {
			return 200 "Hello, World!\n";
		}
	}
}
`

// nginxArgs returns an address and the arguments with which nginx serves there. Its files go to a new folder in dir.
func nginxArgs(dir string) (addr string, args []string, err error) {
	if addr, err = freeAddr(); err != nil { // nginx does not say what port 0 became
		return "", nil, err
	}
	if dir, err = os.MkdirTemp(dir, "nginx-"); err != nil {
		return "", nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, addr), 0o666); err != nil {
		return "", nil, err
	}
	// Without -e it complains about the log file that it was compiled for.
	return addr, []string{"-e", "stderr", "-p", dir, "-c", conf}, nil
}

// accepts waits until a server can be reached, or gone is closed.
func accepts(addr string, gone <-chan struct{}) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-gone:
			return false
		case <-tick.C:
		}
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			return true
		}
	}
}

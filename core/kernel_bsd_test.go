//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package core_test

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// interrupter returns a func that sends a signal to the process: whichever thread gets it.
func interrupter() func() error {
	pid := unix.Getpid()
	return func() error { return unix.Kill(pid, syscall.SIGUSR1) }
}

// widenPipe: a pipe is as wide as it is.
func widenPipe(*os.File, int) {}

func checkKeepAliveTimes(*testing.T, int) {}

package proc

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// CPU returns the time, user and system together, that all threads of a process have run, those that ended included, in
// nanoseconds and up to this moment.
//
// It is the process's own CPU clock (clock_getcpuclockid(3)), and none of the files, because each of those lacks something:
// /proc/PID/stat counts in ticks of 10 ms, a percent of a run of a second; /proc/PID/schedstat is the main thread's alone,
// and that of a Go program mostly sleeps; the sum of /proc/PID/task/*/schedstat forgets a thread when it ends, and is not
// read at one moment. What they count is the same: the scheduler's sum of the time that a thread was on a CPU.
func CPU(pid int) (time.Duration, error) {
	const process, sched = 0, 2 // of all threads, and CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|process<<2|sched, &ts); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// Usage is the CPU time of a process: all of it, and how the kernel estimates that it divides.
type Usage struct{ CPU, User, System time.Duration }

// Used reads CPU and Split.
func Used(pid int) (u Usage, err error) {
	if u.CPU, err = CPU(pid); err == nil {
		u.User, u.System, err = Split(pid)
	}
	return u, err
}

// Since returns what was used since an earlier moment.
func (u Usage) Since(before Usage) Usage {
	return Usage{u.CPU - before.CPU, u.User - before.User, u.System - before.System}
}

// Split returns how the CPU time of a process divides into user and system time, in steps of 10 ms. The kernel estimates
// it from where its timer found the process; only the sum is measured.
func Split(pid int) (user, system time.Duration, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(stat)
}

// RSS returns the resident memory of a process in bytes. smaps_rollup walks the page tables; the counters in statm and
// status are kept apart for each CPU and can be wrong by some hundred KiB, which matters for 15,000 connections of 80 bytes.
func RSS(pid int) (int64, error) {
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	return parseRollup(rollup)
}

// PeakRSS returns the most memory that a process had resident at a time, in bytes. The kernel's counters for it can be wrong
// by some hundred KiB.
func PeakRSS(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parsePeak(status)
}

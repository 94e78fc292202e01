package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Waited returns how long the threads of a process, all together, could have run and did not, because another thread had
// their CPU. Threads that ended do not count. The error is fs.ErrNotExist where the kernel does not tell, or the process is
// gone.
func Waited(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		return 0, errors.Join(err, fs.ErrNotExist)
	}
	var sum time.Duration
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) { // it has ended meanwhile
			continue
		}
		if err != nil {
			return 0, err
		}
		waited, err := parseSchedstat(text)
		if err != nil {
			return 0, err
		}
		sum += waited
	}
	return sum, nil
}

// ThreadWaited is Waited of the calling thread alone.
func ThreadWaited() (time.Duration, error) {
	text, err := os.ReadFile("/proc/thread-self/schedstat")
	if err != nil {
		return 0, err
	}
	return parseSchedstat(text)
}

// Stolen returns how long the host had other things to do than to run the CPUs that a process may use, in steps of 10 ms
// for each of them.
func Stolen(pid int) (time.Duration, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(pid, &set); err != nil {
		return 0, os.NewSyscallError("sched_getaffinity", err)
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseStolen(stat, set.IsSet)
}

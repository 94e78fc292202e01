package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// work has a thread use CPU time and end. It returns the thread and what it used.
func work() (tid int, used time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		tid = unix.Gettid()
		for start := threadCPU(); used < 30*time.Millisecond; {
			used = threadCPU() - start
		}
	}()
	<-done
	return tid, used
}

func threadCPU() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

func TestCPUCoversThreadsThatEnded(t *testing.T) {
	before, err := CPU(os.Getpid())
	require.NoError(t, err)
	tid, used := work()
	for tid == os.Getpid() { // Go never ends the main thread
		tid, used = work()
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
		if os.IsNotExist(err) {
			break
		}
		require.True(t, time.Now().Before(deadline), "the thread has not ended")
		runtime.Gosched()
	}
	after, err := CPU(os.Getpid())
	require.NoError(t, err)
	require.GreaterOrEqual(t, after-before, used)
}

// The clock and the ticks of stat count the same.
func TestCPUAgreesWithStat(t *testing.T) {
	work()
	low, err := CPU(os.Getpid())
	require.NoError(t, err)
	user, system, err := Split(os.Getpid())
	require.NoError(t, err)
	high, err := CPU(os.Getpid())
	require.NoError(t, err)
	const rounding = 2 * time.Second / ticksPerSecond // down, twice
	require.GreaterOrEqual(t, user+system, low-rounding)
	require.LessOrEqual(t, user+system, high)
}

func TestOtherProcesses(t *testing.T) {
	const noProcess = 1 << 23 // above the largest there can be
	_, err := CPU(os.Getppid())
	require.NoError(t, err)
	_, err = CPU(noProcess)
	require.Error(t, err)
	_, _, err = Split(noProcess)
	require.Error(t, err)
	_, err = Waited(noProcess)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = Stolen(noProcess)
	require.Error(t, err)
	_, err = RSS(noProcess)
	require.Error(t, err)
	_, err = PeakRSS(noProcess)
	require.Error(t, err)
}

// A thread that shares its CPU with another waits for it.
func TestWaited(t *testing.T) {
	if _, err := ThreadWaited(); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the kernel does not tell")
	}
	var all unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &all))
	var one unix.CPUSet
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	before, err := Waited(os.Getpid())
	require.NoError(t, err)
	const enough = 5 * time.Millisecond
	var waited atomic.Int32 // of the two
	var wg sync.WaitGroup
	deadline := time.Now().Add(30 * time.Second)
	for range 2 {
		wg.Go(func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			if !assert.NoError(t, unix.SchedSetaffinity(0, &one)) {
				return
			}
			start, err := ThreadWaited()
			assert.NoError(t, err)
			for now := start; now-start < enough && time.Now().Before(deadline); {
				if now, err = ThreadWaited(); !assert.NoError(t, err) {
					return
				}
			}
			waited.Add(1)
			for waited.Load() < 2 && time.Now().Before(deadline) { // so that the other one has somebody to wait for
			}
			sum, err := Waited(os.Getpid())
			assert.NoError(t, err)
			assert.GreaterOrEqual(t, sum-before, enough)
		})
	}
	wg.Wait()
	require.True(t, time.Now().Before(deadline))
	_, err = Stolen(os.Getpid())
	require.NoError(t, err)
}

func TestRSSSeesWhatIsTouched(t *testing.T) {
	const size = 8 << 20
	before, err := RSS(os.Getpid())
	require.NoError(t, err)
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	require.NoError(t, err)
	for i := 0; i < size; i += 4096 {
		memory[i] = 1
	}
	after, err := RSS(os.Getpid())
	require.NoError(t, err)
	require.GreaterOrEqual(t, after-before, int64(size/2)) // the collector may have given something back meanwhile
	require.NoError(t, unix.Munmap(memory))
	peak, err := PeakRSS(os.Getpid())
	require.NoError(t, err)
	require.GreaterOrEqual(t, peak, after-size/4)
}

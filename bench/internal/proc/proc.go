// Package proc reads what a process has used so far: CPU time and memory. It knows Linux alone.
package proc

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, the unit of times in /proc/PID/stat: 100 on every architecture that Go knows.
const ticksPerSecond = 100

// parseStat takes user and system time out of /proc/PID/stat. proc(5)
func parseStat(stat []byte) (user, system time.Duration, err error) {
	// The second field is the program's name in parentheses, which may hold spaces and parentheses of its own.
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, 0, fmt.Errorf("stat: no program name in %.80q", stat)
	}
	const utime, stime = 14 - 3, 15 - 3 // fields are numbered from 1, and two of them are cut off
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= stime {
		return 0, 0, fmt.Errorf("stat: %d fields behind the name", len(fields))
	}
	if user, err = parseTicks(fields[utime]); err != nil {
		return 0, 0, err
	}
	if system, err = parseTicks(fields[stime]); err != nil {
		return 0, 0, err
	}
	return user, system, nil
}

func parseTicks(field string) (time.Duration, error) {
	n, err := strconv.ParseUint(field, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("stat: %w", err)
	}
	return time.Duration(n) * (time.Second / ticksPerSecond), nil
}

// parseRollup takes the resident memory, in bytes, out of /proc/PID/smaps_rollup.
func parseRollup(rollup []byte) (int64, error) { return parseKB("smaps_rollup", rollup, "Rss") }

// parsePeak takes the most memory that was resident, in bytes, out of /proc/PID/status.
func parsePeak(status []byte) (int64, error) { return parseKB("status", status, "VmHWM") }

// parseKB takes one amount of memory out of a file that has a line for each.
func parseKB(file string, text []byte, wanted string) (int64, error) {
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if name != wanted {
			continue
		}
		kb, ok := strings.CutSuffix(strings.TrimSpace(value), " kB")
		n, err := strconv.ParseInt(strings.TrimSpace(kb), 10, 53)
		if !ok || err != nil {
			return 0, fmt.Errorf("%s: %q", file, strings.TrimSpace(line))
		}
		return n << 10, nil
	}
	return 0, fmt.Errorf("%s: no line %s", file, wanted)
}

// parseSchedstat takes how long a thread waited for a CPU out of /proc/PID/task/TID/schedstat: the second number, in
// nanoseconds.
func parseSchedstat(text []byte) (time.Duration, error) {
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("schedstat: %.80q", text)
	}
	n, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("schedstat: %w", err)
	}
	return time.Duration(n), nil
}

// parseStolen takes the steal time of some CPUs out of /proc/stat: the eighth number behind the name. proc(5)
func parseStolen(stat []byte, wanted func(cpu int) bool) (time.Duration, error) {
	const steal = 8
	var sum time.Duration
	for line := range strings.Lines(string(stat)) {
		number, ok := strings.CutPrefix(line, "cpu")
		if !ok || strings.HasPrefix(number, " ") { // the sum of all
			continue
		}
		fields := strings.Fields(number)
		if len(fields) <= steal {
			return 0, fmt.Errorf("stat: %q", strings.TrimSpace(line))
		}
		cpu, err := strconv.Atoi(fields[0])
		if err != nil {
			return 0, fmt.Errorf("stat: %w", err)
		}
		if !wanted(cpu) {
			continue
		}
		stolen, err := parseTicks(fields[steal])
		if err != nil {
			return 0, err
		}
		sum += stolen
	}
	return sum, nil
}

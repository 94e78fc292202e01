package proc

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	const head, tail = "4711 ", " S 1 4711 4711 0 -1 4194304 99 0 3 0 123 45 7 8 20 0 5 0 455312 3133440 394 0\n"
	for _, name := range []string{"(echo)", "(a b)", "(R 1 2 3)", "(x) S 1 1 1)", "())"} {
		user, system, err := parseStat([]byte(head + name + tail))
		require.NoError(t, err, name)
		require.Equal(t, 1230*time.Millisecond, user, name)
		require.Equal(t, 450*time.Millisecond, system, name)
	}
	for _, bad := range []string{
		"",
		"4711",
		"4711 (echo)",
		"4711 (echo) S 1 4711 4711 0 -1 4194304 99 0 3 0 123",
		"4711 (echo) S 1 4711 4711 0 -1 4194304 99 0 3 0 x 45",
		"4711 (echo) S 1 4711 4711 0 -1 4194304 99 0 3 0 123 -45",
	} {
		_, _, err := parseStat([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestParseRollup(t *testing.T) {
	rss, err := parseRollup([]byte("00400000-7ffc8e5f2000 ---p 00000000 00:00 0    [rollup]\n" +
		"Rss:                1844 kB\nPss:                 600 kB\n"))
	require.NoError(t, err)
	require.EqualValues(t, 1844<<10, rss)
	for _, bad := range []string{"", "Pss: 600 kB\n", "Rss:\n", "Rss: 1844\n", "Rss: x kB\n", "Rss: 1844 MB\n"} {
		_, err := parseRollup([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestParsePeak(t *testing.T) {
	hwm, err := parsePeak([]byte("Name:\tVmHWM\nVmPeak:\t 1224732 kB\nVmHWM:\t    8544 kB\nVmRSS:\t    8000 kB\n"))
	require.NoError(t, err)
	require.EqualValues(t, 8544<<10, hwm)
	for _, bad := range []string{"", "VmRSS:\t 8000 kB\n", "VmHWM:\n", "VmHWM:\t8544\n"} {
		_, err := parsePeak([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestParseSchedstat(t *testing.T) {
	waited, err := parseSchedstat([]byte("170980 16965 2\n"))
	require.NoError(t, err)
	require.Equal(t, 16965*time.Nanosecond, waited)
	for _, bad := range []string{"", "1", "1 x 2", "1 99999999999999999999 2"} {
		_, err := parseSchedstat([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestParseStolen(t *testing.T) {
	const stat = "cpu  9 9 9 9 9 9 9 77 9 9\ncpu0 1 2 3 4 5 6 7 3 0 0\ncpu1 1 2 3 4 5 6 7 40 0 0\ncpu10 1 2 3 4 5 6 7 34 0 0\n" +
		"intr 1 2 3\nctxt 4\n"
	for want, wanted := range map[time.Duration][]int{0: nil, 30: {0}, 400: {1}, 370: {0, 10}, 770: {0, 1, 10, 11}} {
		stolen, err := parseStolen([]byte(stat), func(cpu int) bool { return slices.Contains(wanted, cpu) })
		require.NoError(t, err)
		require.Equal(t, want*time.Millisecond, stolen)
	}
	for _, bad := range []string{"cpu0 1 2 3 4 5 6 7\n", "cpux 1 2 3 4 5 6 7 8 9\n", "cpu0 1 2 3 4 5 6 7 x 9\n"} {
		_, err := parseStolen([]byte(bad), func(int) bool { return true })
		require.Error(t, err, bad)
	}
}

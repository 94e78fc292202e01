package cli

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMain makes the test binary a program with flags.
func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv("PARLEY_CLI_TEST"); ok {
		os.Args = append([]string{"/somewhere/prog"}, strings.Fields(args)...)
		fs := Flags("prog [flags]")
		fs.Int("n", 1, "a `number`")
		Parse(fs, 1)
		os.Exit(0)
	}
	m.Run()
}

// A mistake is one line on standard error; help is for who asks for it.
func TestParse(t *testing.T) {
	if _, err := os.Executable(); err != nil {
		t.Skipf("this platform has no child processes: %v", err) // js/wasm; CI runs it on Linux
	}
	for _, tt := range []struct {
		args, stdout, stderr string
		status               int
	}{
		{"", "", "", 0},
		{"-n 2 operand", "", "", 0},
		{"-help", "usage: prog [flags]\n\n  -n number\n    \ta number (default 1)\n", "", 0},
		{"-x", "", "prog: flag provided but not defined: -x (-help lists the flags)\n", 2},
		{"-n x", "", "prog: invalid value \"x\" for flag -n: parse error (-help lists the flags)\n", 2},
		{"a b", "", "prog: unexpected argument \"b\" (-help lists the flags)\n", 2},
	} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PARLEY_CLI_TEST="+tt.args)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		status := 0
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			status = exit.ExitCode()
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, tt.status, status, tt.args)
		require.Equal(t, tt.stdout, stdout.String(), tt.args)
		require.Equal(t, tt.stderr, stderr.String(), tt.args)
	}
}

package parley_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	return string(text)
}

// Every program of the README compiles, and the first is as short as it says.
func TestReadmePrograms(t *testing.T) {
	programs := regexp.MustCompile("(?s)```go\n(package main.*?)```").FindAllStringSubmatch(readme(t), -1)
	require.GreaterOrEqual(t, len(programs), 3)
	for i, p := range programs {
		file := filepath.Join(t.TempDir(), "main.go")
		require.NoError(t, os.WriteFile(file, []byte(p[1]), 0o600))
		out, err := exec.Command("go", "vet", file).CombinedOutput()
		require.NoError(t, err, "program %d: %s", i+1, out)
	}
	lines := 0
	for line := range strings.Lines(programs[0][1]) {
		if strings.TrimSpace(line) != "" {
			lines++
		}
	}
	require.LessOrEqual(t, lines, 12)
}

// The ladder of the README is what the program prints.
func TestReadmeLadder(t *testing.T) {
	w := sim.New(sim.Config{T: t, Latency: 5 * time.Millisecond, MaxRecv: 9})
	loop := w.Loop(core.Options{})
	sock, client := w.Pair()
	_, err := chat.Attach(loop, sock, func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.CRLF)
		c.PushString("220 ready\r\n")
		return chat.Lines(func(c *chat.Conn, line []byte) error { return c.Printf("250 %s\r\n", line) })
	})
	require.NoError(t, err)
	client.Say("EHLO x\r\nNOOP\r\n")
	client.Want("220 ready\r\n250 EHLO x\r\n250 NOOP\r\n")
	client.CloseWrite()
	client.WantClosed()
	m := regexp.MustCompile("(?s)<!-- ladder -->\n```\n(.*?)```").FindStringSubmatch(readme(t))
	require.NotNil(t, m)
	require.Equal(t, m[1], w.Ladder())
}

// The programs and packages that the README names exist, and none is forgotten.
func TestReadmeIsComplete(t *testing.T) {
	text := readme(t)
	for _, pattern := range []string{"examples/*/main.go", "protocols/*/doc.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, f := range files {
			require.Contains(t, text, filepath.ToSlash(filepath.Dir(f)), fmt.Sprintf("%s is not in the README", filepath.Dir(f)))
		}
	}
}

// Every test that porting.md names exists.
func TestPortingNamesTests(t *testing.T) {
	text, err := os.ReadFile("porting.md")
	require.NoError(t, err)
	var all strings.Builder
	require.NoError(t, filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			src, err := os.ReadFile(path)
			all.Write(src)
			return err
		}
		return err
	}))
	names := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, names)
	for _, n := range names {
		require.Contains(t, all.String(), "func "+n[1]+"(", "porting.md names a test that does not exist")
	}
}

// porting.md has a row for each of CPython's tests, and each names a test here or says why there is none.
func TestPortingHasEachID(t *testing.T) {
	text, err := os.ReadFile("porting.md")
	require.NoError(t, err)
	for file, n := range map[string]int{"A": 31, "C": 14} {
		for i := 1; i <= n; i++ {
			id := fmt.Sprint(file, i)
			row := regexp.MustCompile("(?m)^\\| " + id + " \\| `test_\\w+`.*\\| (.*) \\|$").FindStringSubmatch(string(text))
			require.NotNil(t, row, id)
			if !strings.HasPrefix(row[1], "none: ") {
				require.Contains(t, row[1], "`Test"+id, "the test has the id in its name")
			}
		}
	}
}

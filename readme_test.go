package parley_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
	"github.com/parley-go/parley/protocols/smtp"
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

// Each limit of the protocols is in the README.
func TestReadmeHasLimits(t *testing.T) {
	for title, limits := range map[string]reflect.Type{"SMTP": reflect.TypeFor[smtp.Limits](), "HTTP": reflect.TypeFor[http1.Limits]()} {
		_, table, found := strings.Cut(readme(t), "\n### "+title+"\n")
		require.True(t, found)
		table, _, _ = strings.Cut(table, "\n##")
		for f := range limits.Fields() {
			require.Contains(t, table, "`"+f.Name+"`", title)
		}
	}
}

func portingPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("porting.md")
	require.NoError(t, err)
	return string(text)
}

// testsByPackage lists the tests of the module by folder.
func testsByPackage(t *testing.T) map[string][]string {
	t.Helper()
	declaration := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	tests := make(map[string][]string)
	require.NoError(t, filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		for _, m := range declaration.FindAllStringSubmatch(string(src), -1) {
			folder := filepath.ToSlash(filepath.Dir(path))
			tests[folder] = append(tests[folder], m[1])
		}
		return err
	}))
	return tests
}

// Every test that porting.md names exists, in the package that stands before it. No row names a place instead of a test.
func TestPortingNamesTests(t *testing.T) {
	tests := testsByPackage(t)
	folders := map[string]string{"core": "core", "buffered": "buffered", "chat": "chat", "smtp": "protocols/smtp"}
	name := regexp.MustCompile("(?:\\b(core|buffered|chat|smtp) )?`(Test\\w+)`")
	named := 0
	for line := range strings.Lines(portingPage(t)) {
		pkg := ""
		for _, m := range name.FindAllStringSubmatch(line, -1) {
			if m[1] != "" {
				pkg = m[1]
			}
			require.NotEmpty(t, pkg, "which package is %s of? %s", m[2], line)
			require.Contains(t, tests[folders[pkg]], m[2], "package %s", pkg)
			named++
		}
		require.NotRegexp(t, "(^|[^`])Test[A-Z]", strings.ReplaceAll(line, "-run TestGolden", ""), "a test's name that is not marked as one")
		require.NotContains(t, line, "real back ends", "a row names its test")
	}
	require.Greater(t, named, 80)
}

// The tables of CPython's tests have each of them once, in order, with a test or sub-test whose name has the id, or with a
// reason. A test whose name has an id stands in the row of that id.
func TestPortingHasCPythonsTests(t *testing.T) {
	_, tables, found := strings.Cut(portingPage(t), "\n## The tests of CPython\n")
	require.True(t, found)
	tests, subtests := testsByPackage(t), referenceSubtests(t)
	withID := regexp.MustCompile(`^(?:Test|TestReference/)((?:[ACS]\d+)+)[A-Z_]`)
	each := regexp.MustCompile(`[ACS]\d+`)
	rows := make(map[string]string)
	var ids []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([ACS]\d+) \| (.*) \| (.*) \| (.*) \|$`).FindAllStringSubmatch(tables, -1) {
		id, here := m[1], m[4]
		ids = append(ids, id)
		rows[id] = here
		names := regexp.MustCompile("`(Test[\\w/]+)`").FindAllStringSubmatch(here, -1)
		if len(names) == 0 {
			require.Regexp(t, `^not applicable: \w+`, here, id)
		}
		for _, n := range names {
			is := withID.FindStringSubmatch(n[1])
			require.NotNil(t, is, "%s: %s has no id", id, n[1])
			require.Contains(t, each.FindAllString(is[1], -1), id, n[1])
			if _, sub, ok := strings.Cut(n[1], "/"); ok {
				require.Contains(t, subtests, sub, id)
			}
		}
	}
	var want []string
	for _, table := range []struct {
		letter string
		last   int
	}{{"A", 31}, {"C", 14}, {"S", 89}} {
		for n := range table.last {
			want = append(want, fmt.Sprint(table.letter, n+1))
		}
	}
	require.Equal(t, want, ids)
	check := func(pkg, name string) {
		if is := withID.FindStringSubmatch(name); is != nil {
			for _, id := range each.FindAllString(is[1], -1) {
				require.Contains(t, rows[id], "`"+name+"`", "of package %s", pkg)
			}
		}
	}
	for pkg, names := range tests {
		for _, n := range names {
			check(pkg, n)
		}
	}
	for _, sub := range subtests {
		check("protocols/smtp", "TestReference/"+sub)
	}
}

// referenceSubtests lists the sub-tests of package smtp's TestReference, which is a table.
func referenceSubtests(t *testing.T) (names []string) {
	t.Helper()
	src, err := os.ReadFile("protocols/smtp/reference_test.go")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(src), "\nfunc TestReference(")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n}\n")
	for _, m := range regexp.MustCompile(`(?m)^\t\t\{"(S\d+_\w+)",`).FindAllStringSubmatch(table, -1) {
		require.NotContains(t, names, m[1])
		names = append(names, m[1])
	}
	require.NotEmpty(t, names)
	return names
}

package parley_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/parley-go/parley"

// rank is the layer of a package: imports point down only.
func rank(path string) int {
	for i, layer := range []string{"core", "buffered", "chat", "protocols", "examples"} {
		if rest, ok := strings.CutPrefix(path, module+"/"+layer); ok && (rest == "" || rest[0] == '/') {
			return i + 1
		}
	}
	return 0
}

func TestImportsPointDown(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{range .Imports}}{{$.ImportPath}} {{.}}{{"\n"}}{{end}}`, "./...").Output()
	require.NoError(t, err)
	seen := 0
	for line := range strings.Lines(string(out)) {
		from, to, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || rank(from) == 0 || rank(to) == 0 {
			continue
		}
		seen++
		require.LessOrEqual(t, rank(to), rank(from), "%s imports %s, which lies above it", from, to)
		if from == module+"/core" {
			t.Errorf("core imports %s; it knows of its side packages only the interfaces", to)
		}
	}
	require.Greater(t, seen, 10, "go list found the packages")
}

// The main module needs the three packages that it was designed with, and what those need.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", `{{if not .Standard}}{{with .Module}}{{.Path}}{{end}}{{end}}`, "./...").Output()
	require.NoError(t, err)
	allowed := map[string]bool{module: true, "golang.org/x/sys": true, "github.com/smallnest/ringbuffer": true, "": true}
	for path := range strings.Lines(string(out)) {
		require.True(t, allowed[strings.TrimSpace(path)], "unexpected dependency %s", path)
	}
}

// The sizes that keep the house readable, in lines.
func TestFileBudgets(t *testing.T) {
	for _, x := range []struct {
		pattern string
		below   int
	}{
		{"core/loop.go", 600},
		{"core/dispatcher.go", 400},
		{"core/poll_*.go", 200},
		{"protocols/*/*.go", 600},
		{"examples/*/*.go", 300},
	} {
		files, err := filepath.Glob(x.pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, x.pattern)
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			require.Less(t, bytes.Count(text, []byte{'\n'}), x.below, f)
		}
	}
}

// Each exported type has an example in its package's documentation.
func TestExportedTypesHaveExamples(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.Name}} {{.Dir}}", "./core/...", "./buffered", "./chat", "./protocols/...").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		name, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		types, examples := make(map[string]bool), make(map[string]bool)
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			test := strings.HasSuffix(file, "_test.go")
			for _, d := range f.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if of, ok := strings.CutPrefix(d.Name.Name, "Example"); ok && test {
						of, _, _ = strings.Cut(of, "_")
						examples[of] = true
					}
				case *ast.GenDecl:
					for _, s := range d.Specs {
						if s, ok := s.(*ast.TypeSpec); ok && !test && s.Name.IsExported() {
							types[s.Name.Name] = true
						}
					}
				}
			}
		}
		for of := range types {
			if !examples[of] {
				t.Errorf("%s.%s has no example", name, of)
			}
		}
	}
}

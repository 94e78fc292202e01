//go:build unix

package mailbox

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChild is what another process does: this test binary, called again by the tests below.
func TestChild(t *testing.T) {
	path, count := os.Getenv("PARLEY_MBOX"), os.Getenv("PARLEY_COUNT")
	if path == "" {
		t.Skip("for the tests below")
	}
	box := &Mbox{Path: path}
	if count == "" { // half a message, and no more
		fmt.Println("ready")
		in := io.MultiReader(strings.NewReader(strings.Repeat("half a message\r\n", 10_000)), os.Stdin)
		require.NoError(t, box.Append(background, "a@b", noon, in))
		return
	}
	n, err := strconv.Atoi(count)
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, box.add(letter(n+i)))
	}
}

func child(t *testing.T, env ...string) *exec.Cmd {
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestChild$")
	c.Env = append(os.Environ(), env...)
	c.Stderr = os.Stderr
	return c
}

// Processes keep out of each other's way.
func TestMboxProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mbox")
	var children []*exec.Cmd
	var want []string
	for n := range 3 {
		c := child(t, "PARLEY_MBOX="+path, fmt.Sprint("PARLEY_COUNT=", 100*n))
		require.NoError(t, c.Start())
		children = append(children, c)
		for i := range 20 {
			want = append(want, strings.ReplaceAll(letter(100*n+i), "\r\n", "\n"))
		}
	}
	for _, c := range children {
		require.NoError(t, c.Wait())
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.ElementsMatch(t, want, readMbox(string(text)))
}

// A process is killed in the middle of a message: the next one takes off what it left.
func TestMboxKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mbox")
	box := &Mbox{Path: path}
	require.NoError(t, box.add("before"))
	before, err := os.Stat(path)
	require.NoError(t, err)
	c := child(t, "PARLEY_MBOX="+path)
	in, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	word, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", word)
	line := []byte(strings.Repeat("x", 1022) + "\r\n")
	for { // until some of it is in the file
		_, err := in.Write(line)
		require.NoError(t, err)
		now, err := os.Stat(path)
		require.NoError(t, err)
		if now.Size() > before.Size()+100_000 {
			break
		}
	}
	require.ErrorIs(t, (&Mbox{Path: path, LockTimeout: -1}).add("no"), ErrLocked)
	require.NoError(t, c.Process.Kill())
	_ = c.Wait()
	require.FileExists(t, path+".lock")
	require.NoError(t, box.add("after"))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, inMbox("before\r\n")+inMbox("after\r\n"), string(text))
}

//go:build unix

package smoke

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
)

// patience bounds everything that is waited for. Nothing here takes as long, unless it hangs.
const patience = 30 * time.Second

// binaries is the folder of the programs, built once.
var binaries string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if len(core.Backends()) == 0 {
		fmt.Println("no back end on this platform: nothing to run")
		return 0
	}
	dir, err := os.MkdirTemp("", "parley-examples")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "./...")
	build.Dir = filepath.Join("..", "..") // examples
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	binaries = dir
	return m.Run()
}

// process is a running program.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout output
	stderr output
	ended  chan struct{} // closed when it has
	status int           // then
}

// start runs a program. When the test is over it is killed, if it did not end by itself.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	return startWith(t, nil, name, args...)
}

// startWith is start with something on standard input.
func startWith(t *testing.T, stdin io.Reader, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(filepath.Join(binaries, name), args...), ended: make(chan struct{})}
	p.cmd.Stdin, p.cmd.Stdout = stdin, &p.stdout
	return p.run()
}

// startTo is start with a file for standard output.
func startTo(t *testing.T, stdout *os.File, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(filepath.Join(binaries, name), args...), ended: make(chan struct{})}
	p.cmd.Stdout = stdout
	return p.run()
}

func (p *process) run() *process {
	t := p.t
	t.Helper()
	p.cmd.Stderr = &p.stderr
	p.cmd.WaitDelay = time.Second // for its output, when it is gone
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the status says it
		p.status = p.cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// wantExit waits for the end and checks the status.
func (p *process) wantExit(status int) {
	p.t.Helper()
	select {
	case <-p.ended:
		require.Equal(p.t, status, p.status, "exit status; standard error:\n%s", p.stderr.String())
	case <-time.After(patience):
		require.Fail(p.t, "the program does not end", "standard error:\n%s", p.stderr.String())
	}
}

// wantComplaint waits for the end and checks that exactly one line says what is wrong, and names the program.
func (p *process) wantComplaint(status int, about string) {
	p.t.Helper()
	p.wantExit(status)
	text := p.stderr.String()
	require.Equal(p.t, 1, strings.Count(text, "\n"), "one line: %q", text)
	require.True(p.t, strings.HasPrefix(text, filepath.Base(p.cmd.Path)+": "), text)
	require.True(p.t, strings.HasSuffix(text, "\n"), text)
	require.Contains(p.t, text, about)
}

// wantLog waits until standard error contains a text.
func (p *process) wantLog(text string) {
	p.t.Helper()
	_, ok := p.stderr.wait(p.ended, func(s string) bool { return strings.Contains(s, text) })
	require.True(p.t, ok, "no %q in standard error:\n%s", text, p.stderr.String())
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

// serve starts a server on a free port and waits for the line that says which one.
func serve(t *testing.T, name string, args ...string) (p *process, addr string) {
	t.Helper()
	const announcement = "listening on "
	p = start(t, name, slices.Concat(args, []string{"-listen", "127.0.0.1:0"})...)
	text, ok := p.stderr.wait(p.ended, func(s string) bool {
		_, after, found := strings.Cut(s, announcement)
		return found && strings.Contains(after, "\n")
	})
	require.True(t, ok, "no %q in standard error:\n%s", announcement, text)
	_, after, _ := strings.Cut(text, announcement)
	addr, _, _ = strings.Cut(after, "\n")
	return p, addr
}

// output collects what a program writes, and can be waited on.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed at the next Write, if somebody waits
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// wait waits until cond holds of the text, or the program has ended.
func (o *output) wait(ended <-chan struct{}, cond func(string) bool) (text string, ok bool) {
	deadline := time.After(patience)
	for {
		o.mu.Lock()
		text = o.buf.String()
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		if cond(text) {
			return text, true
		}
		select {
		case <-changed:
		case <-deadline:
			return text, false
		case <-ended:
			text = o.String()
			return text, cond(text)
		}
	}
}

// client is a connection to a server.
type client struct {
	t    *testing.T
	conn *net.TCPConn
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return &client{t, conn.(*net.TCPConn)}
}

func (c *client) say(text string) {
	c.t.Helper()
	_, err := io.WriteString(c.conn, text)
	require.NoError(c.t, err)
}

// want reads exactly this text.
func (c *client) want(text string) {
	c.t.Helper()
	got := make([]byte, len(text))
	n, err := io.ReadFull(c.conn, got)
	require.NoError(c.t, err, "got %q", got[:n])
	require.Equal(c.t, text, string(got))
}

// until reads up to a text, whatever comes before it.
func (c *client) until(text string) {
	c.t.Helper()
	var got []byte
	for one := make([]byte, 1); !bytes.HasSuffix(got, []byte(text)); got = append(got, one...) {
		_, err := c.conn.Read(one)
		require.NoError(c.t, err, "want %q, got %q", text, got)
	}
}

// wantEnd waits for the end of the connection, in good order or by a reset, and returns what came before it.
func (c *client) wantEnd() string {
	c.t.Helper()
	rest, err := io.ReadAll(c.conn)
	var netErr net.Error
	require.False(c.t, errors.As(err, &netErr) && netErr.Timeout(), "the server keeps the connection")
	return string(rest)
}

// hangUp closes the connection, rudely: with a reset.
func (c *client) hangUp() {
	c.t.Helper()
	require.NoError(c.t, c.conn.SetLinger(0))
	require.NoError(c.t, c.conn.Close())
}

var ends = map[string]syscall.Signal{"SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM}

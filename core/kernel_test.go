//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package core_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/trace"
)

// What the tests on real sockets share. None of them waits for a length of time that it hopes is enough: they wait for
// what has to happen, and patience is when they give up and print what the loop did.
const patience = 10 * time.Second

var errPatience = errors.New("the test ran out of patience")

// kernel is a loop on one of the platform's back ends, with what a failing test wants to know about it.
type kernel struct {
	t    *testing.T
	loop *core.Loop
	rec  *trace.Recorder
	logs *logBuffer
}

// logBuffer takes what a logger writes; a worker may write too.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newKernel makes a loop that is closed when the test ends. Nothing may be left of it then: no goroutine, no descriptor.
func newKernel(t *testing.T, backend string, with ...func(*core.Options)) *kernel {
	t.Helper()
	nothingLeft(t)
	k := &kernel{t: t, rec: trace.NewRecorder(200), logs: new(logBuffer)}
	k.rec.Verbose(true)
	o := core.Options{
		Backend: backend,
		Logger:  slog.New(slog.NewTextHandler(k.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Trace:   k.rec.Record,
		Strict:  true,
	}
	for _, f := range with {
		f(&o)
	}
	l, err := core.NewLoop(o)
	require.NoError(t, err)
	k.loop = l
	t.Cleanup(func() { _ = l.Close() })
	return k
}

// eachBackend runs a test on every back end that the platform has.
func eachBackend(t *testing.T, f func(t *testing.T, k *kernel), with ...func(*core.Options)) {
	t.Helper()
	for _, b := range core.Backends() {
		t.Run(b, func(t *testing.T) { f(t, newKernel(t, b, with...)) })
	}
}

// family is one of the kinds of stream sockets.
type family struct {
	name    string
	network string
}

var families = []family{{"IPv4", "tcp4"}, {"IPv6", "tcp6"}, {"unix", "unix"}}

// address is one to listen on.
func (f family) address(t *testing.T) string {
	switch f.network {
	case "tcp4":
		return "127.0.0.1:0"
	case "tcp6":
		return "[::1]:0"
	}
	return socketPath(t)
}

// socketPath is a path for a unix socket: those of t.TempDir can be too long for one.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

var hasIPv6 = sync.OnceValue(func() bool {
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	return ln.Close() == nil
})

// eachSocket runs a test for every family on every back end.
func eachSocket(t *testing.T, f func(t *testing.T, k *kernel, fam family)) {
	t.Helper()
	for _, fam := range families {
		t.Run(fam.name, func(t *testing.T) {
			if fam.network == "tcp6" && !hasIPv6() {
				t.Skip("no IPv6 here")
			}
			eachBackend(t, func(t *testing.T, k *kernel) { f(t, k, fam) })
		})
	}
}

// fail ends the test with the ladder of what the loop did.
func (k *kernel) fail(format string, args ...any) {
	k.t.Helper()
	k.t.Fatalf("%s\n%s%s", fmt.Sprintf(format, args...), k.rec, k.logs)
}

// until makes passes until the condition holds.
func (k *kernel) until(what string, cond func() bool) {
	k.t.Helper()
	late := false
	guard := k.loop.AfterFunc(patience, func() { late = true })
	defer guard.Stop()
	for !cond() {
		wait := time.Duration(-1)
		if now, ok := k.loop.Next(); ok && now == 0 {
			wait = 0 // the condition may come true without an event
		}
		_, err := k.loop.Step(wait)
		require.NoError(k.t, err)
		if late {
			k.fail("waited in vain: %s", what)
		}
	}
}

// passes makes n passes that do not wait.
func (k *kernel) passes(n int) {
	k.t.Helper()
	for range n {
		_, err := k.loop.Step(0)
		require.NoError(k.t, err)
	}
}

// passesWithin counts the passes that the loop makes in a length of time: a few if it sleeps, thousands if it spins.
func (k *kernel) passesWithin(d time.Duration) int {
	k.t.Helper()
	over := false
	k.loop.AfterFunc(d, func() { over = true })
	before := k.loop.Stats().Passes
	k.until("the end of the window", func() bool { return over })
	return int(k.loop.Stats().Passes - before)
}

// aFew is the most passes that a loop with nothing to do may make in a window of passesWithin.
const (
	window = 30 * time.Millisecond
	aFew   = 6
)

// run runs the loop to its end.
func (k *kernel) run() error {
	k.t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, errPatience)
	defer cancel()
	err := k.loop.Run(ctx)
	if errors.Is(err, errPatience) {
		k.fail("Run did not end")
	}
	return err
}

// peerGoroutine is the other side of a test, with blocking calls.
type peerGoroutine struct {
	k    *kernel
	done bool // set on the loop's goroutine
	err  error
}

// peer runs f beside the loop.
func (k *kernel) peer(f func() error) *peerGoroutine {
	p := &peerGoroutine{k: k}
	go func() {
		err := f()
		k.loop.Post(func() { p.done, p.err = true, err })
	}()
	return p
}

// wait makes passes until the peer is done, and fails the test with its error.
func (p *peerGoroutine) wait() {
	p.k.t.Helper()
	p.k.until("the peer's end", func() bool { return p.done })
	require.NoError(p.k.t, p.err)
}

// pair returns a socket to attach and the other end of its connection. The network is tcp4, tcp6 or unix.
func (k *kernel) pair(network string) (core.Socket, net.Conn) {
	k.t.Helper()
	near, far := connPair(k.t, network)
	s, err := core.Adopt(near)
	require.NoError(k.t, err)
	k.t.Cleanup(func() { _ = s.Close() }) // for one that the test does not attach
	return s, far
}

// connPair returns both ends of a connection. Their calls give up after patience, and they are closed at the test's end.
func connPair(t *testing.T, network string) (near, far net.Conn) {
	t.Helper()
	if network == "unix" {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		near, far = fileConn(t, fds[0]), fileConn(t, fds[1])
	} else {
		ln, err := net.Listen(network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network])
		require.NoError(t, err)
		defer ln.Close()
		far, err = net.Dial(network, ln.Addr().String())
		require.NoError(t, err)
		near, err = ln.Accept()
		require.NoError(t, err)
	}
	for _, c := range []net.Conn{near, far} {
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		t.Cleanup(func() { _ = c.Close() })
	}
	return near, far
}

func fileConn(t *testing.T, fd int) net.Conn {
	t.Helper()
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "socket")
	c, err := net.FileConn(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return c
}

// attach attaches, or fails the test.
func (k *kernel) attach(s core.Socket, h any) *core.Dispatcher {
	k.t.Helper()
	d, err := core.Attach(k.loop, s, h)
	require.NoError(k.t, err)
	return d
}

// listen listens on an address of the family, or fails the test.
func (k *kernel) listen(fam family, h core.AcceptedHandler) *core.Listener {
	k.t.Helper()
	ln, err := core.Listen(k.loop, fam.network, fam.address(k.t), h)
	require.NoError(k.t, err)
	return ln
}

// dial connects to a listener, or fails the test.
func (k *kernel) dial(ln *core.Listener, h any) *core.Dispatcher {
	k.t.Helper()
	d, err := core.Dial(k.loop, ln.Addr().Network(), ln.Addr().String(), h)
	require.NoError(k.t, err)
	return d
}

// connectTo connects with blocking calls, from a peer.
func connectTo(ln net.Addr) (net.Conn, error) {
	c, err := net.DialTimeout(ln.Network(), ln.String(), patience)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(patience))
}

// unexpected is a handler whose every method fails the test, for a test to replace those that it expects. The end of the
// test is no surprise to HandleClose. [the base class of CPython's tests]
func (k *kernel) unexpected(who string) *core.Funcs {
	surprise := func(method string) func(*core.Dispatcher) error {
		return func(*core.Dispatcher) error {
			k.t.Errorf("unexpected: %s of the %s", method, who)
			return nil
		}
	}
	return &core.Funcs{
		Read:    surprise("HandleRead"),
		Write:   surprise("HandleWrite"),
		Connect: surprise("HandleConnect"),
		Error:   func(_ *core.Dispatcher, err error) { k.t.Errorf("unexpected: HandleError(%v) of the %s", err, who) },
		Close: func(_ *core.Dispatcher, cause error) {
			if !errors.Is(cause, core.ErrClosed) {
				k.t.Errorf("unexpected: HandleClose(%v) of the %s", cause, who)
			}
		},
		Accepted: func(*core.Listener, core.Socket) error {
			k.t.Errorf("unexpected: HandleAccepted of the %s", who)
			return nil
		},
	}
}

// reading is a handler that reads and forgets.
func reading() *core.Funcs { return &core.Funcs{Read: readAll} }

// readAll reads what is there.
func readAll(d *core.Dispatcher) error {
	_, err := d.RecvShared()
	return err
}

// echoing is a handler that sends back what it gets. What the socket does not take is lost: for short messages.
func echoing() *core.Funcs {
	return &core.Funcs{Read: func(d *core.Dispatcher) error {
		p, err := d.RecvShared()
		if err != nil {
			return err
		}
		_, err = d.Send(p)
		return err
	}}
}

// attaching is a handler for a listener that attaches what comes.
func attaching(h func() any) *core.Funcs {
	return &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
		_, err := core.Attach(l.Loop(), s, h())
		return err
	}}
}

// sayTo connects, from a peer, and says a word.
func sayTo(ln net.Addr, word string) error {
	c, err := connectTo(ln)
	if err != nil {
		return err
	}
	defer c.Close()
	return say(c, word)
}

// say sends a word and reads the answer, from a peer.
func say(c net.Conn, word string) error {
	if _, err := io.WriteString(c, word); err != nil {
		return err
	}
	b := make([]byte, len(word))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != word {
		return fmt.Errorf("sent %q, got %q", word, b)
	}
	return nil
}

// patterned is n bytes of which every stretch tells where it belongs.
func patterned(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return p
}

// same compares what is too long to print.
func same(t *testing.T, want, got []byte) {
	t.Helper()
	if bytes.Equal(want, got) {
		return
	}
	at := 0
	for at < min(len(want), len(got)) && want[at] == got[at] {
		at++
	}
	t.Fatalf("got %d bytes, want %d; they differ at %d", len(got), len(want), at)
}

// resetConn closes a TCP connection so that the other end gets a reset.
func resetConn(c net.Conn) error {
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		return err
	}
	return c.Close()
}

// nothingLeft fails the test if, at its end, goroutines or descriptors are there that were not before.
func nothingLeft(t *testing.T) {
	t.Helper()
	startNetpoll()
	goroutines, files := runtime.NumGoroutine(), openFiles()
	t.Cleanup(func() {
		if t.Failed() {
			return // one failure is enough
		}
		end := time.Now().Add(patience)
		for {
			more := runtime.NumGoroutine() - goroutines
			left := newFiles(files, openFiles())
			if more <= 0 && len(left) == 0 {
				return
			}
			if time.Now().After(end) {
				stacks := make([]byte, 1<<20)
				stacks = stacks[:runtime.Stack(stacks, true)]
				t.Errorf("left behind: descriptors %v, %d goroutines of\n%s", left, more, stacks)
				return
			}
			runtime.Gosched()
		}
	})
}

// startNetpoll has the Go runtime open its own poller, which it keeps.
var startNetpoll = sync.OnceFunc(func() {
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = ln.Close()
	}
})

// openFiles lists the open descriptors, by number and by what they are where the system says.
func openFiles() map[string]int {
	files := make(map[string]int)
	for _, dir := range []string{"/proc/self/fd", "/dev/fd"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			name := e.Name()
			if to, err := os.Readlink(filepath.Join(dir, name)); err == nil {
				name += " " + to
			} else if dir == "/proc/self/fd" {
				continue // it was the directory's own
			}
			files[name]++
		}
		break
	}
	return files
}

func newFiles(before, after map[string]int) (names []string) {
	for name := range after {
		if before[name] == 0 {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// children are what this test binary does when a test starts it again: what must not be done to the process of the other
// tests, such as lowering its limits.
var children = map[string]func(t *testing.T){}

const childVariable = "PARLEY_TEST_CHILD"

// TestChild is the children's way in.
func TestChild(t *testing.T) {
	name := os.Getenv(childVariable)
	if name == "" {
		t.Skip("runs in processes that other tests start")
	}
	f := children[name]
	require.NotNil(t, f, "child %q", name)
	f(t)
}

// childProcess is this test binary, as one of the children.
type childProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr logBuffer
}

// startChild starts one of the children. Its standard input and output are the test's to talk to it.
func startChild(t *testing.T, name string, env []string, files ...*os.File) *childProcess {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	exe, err := os.Executable()
	require.NoError(t, err)
	c := &childProcess{t: t, cmd: exec.CommandContext(ctx, exe, "-test.run=^TestChild$")}
	c.cmd.Env = append(append(os.Environ(), childVariable+"="+name, "GORACE=atexit_sleep_ms=0"), env...)
	c.cmd.Stderr = &c.stderr
	c.cmd.ExtraFiles = files
	c.stdin, err = c.cmd.StdinPipe()
	require.NoError(t, err)
	c.stdout, err = c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	return c
}

// line reads one line that the child prints.
func (c *childProcess) line() string {
	c.t.Helper()
	var line []byte
	b := make([]byte, 1)
	for {
		if _, err := c.stdout.Read(b); err != nil {
			_ = c.cmd.Wait()
			c.t.Fatalf("the child ended: %v\n%s%s", err, line, c.stderr.String())
		}
		if b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}

// end closes the child's input, which ends it, and returns what it still had to say.
func (c *childProcess) end() string {
	c.t.Helper()
	_ = c.stdin.Close()
	out, err := io.ReadAll(c.stdout)
	require.NoError(c.t, err)
	if err := c.cmd.Wait(); err != nil {
		c.t.Fatalf("the child failed: %v\n%s%s", err, out, c.stderr.String())
	}
	return string(out)
}

// number finds "name=123" in what a child printed.
func number(t *testing.T, in, name string) int {
	t.Helper()
	_, rest, found := strings.Cut(in, name+"=")
	require.True(t, found, "%s in %q", name, in)
	digits, _, _ := strings.Cut(rest, "\n")
	digits, _, _ = strings.Cut(digits, " ")
	n, err := strconv.Atoi(digits)
	require.NoError(t, err)
	return n
}

// untilStdin has a child's loop stop when its standard input ends.
func untilStdin(t *testing.T, l *core.Loop) {
	t.Helper()
	_, err := core.OpenFile(l, os.Stdin, &core.Funcs{
		Read:  readAll,
		Close: func(*core.Dispatcher, error) { l.Stop() },
	})
	require.NoError(t, err)
}

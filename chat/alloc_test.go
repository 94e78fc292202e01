//go:build !race && (darwin || dragonfly || freebsd || linux || netbsd || openbsd)

// Without -race, whose sync.Pool drops at random.

package chat_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

func echoLines(c *chat.Conn) chat.Handler {
	c.SetTerminator(chat.Literal("\n"))
	return chat.Lines(func(c *chat.Conn, line []byte) error {
		c.Push(line)
		return c.WriteByte('\n')
	})
}

// handlerEcho is the same by the two methods of a Handler.
type handlerEcho struct{ chat.Buffer }

func (h *handlerEcho) FoundTerminator(c *chat.Conn) error {
	c.Push(h.Take())
	return c.PushString("\n")
}

// socketPair is a unix socket pair: one end for a loop, the other for the test.
func socketPair(t testing.TB) (core.Socket, int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	f := os.NewFile(uintptr(fds[0]), "pair")
	defer f.Close()
	s, err := core.FileSocket(f)
	require.NoError(t, err)
	t.Cleanup(func() { syscall.Close(fds[1]) })
	return s, fds[1]
}

// No allocation per line in the steady state, on a real socket pair and every back end.
func TestNoAllocationPerLine(t *testing.T) {
	for _, backend := range core.Backends() {
		for name, newHandler := range map[string]func(*chat.Conn) chat.Handler{
			"lines": echoLines,
			"handler": func(c *chat.Conn) chat.Handler {
				c.SetTerminator(chat.Literal("\n"))
				return &handlerEcho{}
			},
			"string": func(*chat.Conn) chat.Handler {
				return chat.Lines(func(c *chat.Conn, _ []byte) error {
					return c.PushString("0123456789abcdef0123456789abcde\n")
				})
			},
			"byte": func(*chat.Conn) chat.Handler {
				return chat.Lines(func(c *chat.Conn, line []byte) error {
					c.WriteByte(line[0])
					c.Push(line[1:])
					return c.WriteByte('\n')
				})
			},
		} {
			for _, batch := range []int{1, 64} {
				t.Run(fmt.Sprintf("%s/%s/%d", backend, name, batch), func(t *testing.T) {
					l, err := core.NewLoop(core.Options{Backend: backend})
					require.NoError(t, err)
					defer l.Close()
					s, fd := socketPair(t)
					_, err = chat.Attach(l, s, newHandler)
					require.NoError(t, err)
					lines := []byte(strings.Repeat("0123456789abcdef0123456789abcde\n", batch))
					buf := make([]byte, len(lines))
					allocs := testing.AllocsPerRun(1000, func() {
						syscall.Write(fd, lines)
						l.Step(-1)
						if n, _ := syscall.Read(fd, buf); n != len(lines) {
							panic("short echo")
						}
					})
					require.Zero(t, allocs)
					require.Equal(t, lines, buf)
				})
			}
		}
	}
}

// On core/sim the network allocates for every event; what a line costs is the difference between many and few.
func TestNoAllocationPerLineOnSim(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	l := w.Loop(core.Options{})
	s, peer := w.Pair()
	_, err := chat.Attach(l, s, echoLines)
	require.NoError(t, err)
	perEvent := func(lines int) float64 {
		text := strings.Repeat("0123456789abcdef\n", lines)
		return testing.AllocsPerRun(200, func() {
			peer.Say(text)
			peer.Want(text)
		})
	}
	few, many := perEvent(10), perEvent(1010)
	require.Less(t, (many-few)/1000, 0.05, "%v allocations for 10 lines, %v for 1010", few, many)
}

// A line that is cut by reads is put together in a pooled buffer.
func TestNoAllocationPerCutLine(t *testing.T) {
	l, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	defer l.Close()
	s, fd := socketPair(t)
	_, err = chat.Attach(l, s, echoLines)
	require.NoError(t, err)
	pieces := [][]byte{[]byte("first half, "), []byte("second half"), []byte("\n")}
	buf := make([]byte, 100)
	allocs := testing.AllocsPerRun(1000, func() {
		for _, p := range pieces {
			syscall.Write(fd, p)
			l.Step(-1)
		}
		if n, _ := syscall.Read(fd, buf); n != 24 {
			panic("short echo")
		}
	})
	require.Zero(t, allocs)
}

// Timeouts that traffic pushes ahead cost nothing per line.
func TestNoAllocationWithIdleTimeout(t *testing.T) {
	l, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	defer l.Close()
	s, fd := socketPair(t)
	c, err := chat.Attach(l, s, echoLines)
	require.NoError(t, err)
	c.SetIdleTimeout(time.Hour)
	c.SetWriteTimeout(time.Hour)
	buf := make([]byte, 100)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		syscall.Write(fd, []byte("line\n"))
		l.Step(-1)
		syscall.Read(fd, buf)
	}))
}

// pooled sizes: what an allocation of that many bytes takes.
func allocated(n uintptr) uintptr {
	for _, class := range []uintptr{8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416,
		448, 480, 512} {
		if n <= class {
			return class
		}
	}
	return n
}

const clientsEnv = "PARLEY_TEST_CLIENTS"

// TestIdleClientsChild is the client side of TestMemoryPerIdleConversation, in a process of its own.
func TestIdleClientsChild(t *testing.T) {
	var n int
	var addr string
	if _, err := fmt.Sscan(os.Getenv(clientsEnv), &n, &addr); err != nil {
		t.Skip("for the child process of another test")
	}
	conns := make([]net.Conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			fmt.Println("failed:", err)
			return
		}
		conns[i] = c
	}
	fmt.Println("connected")
	in := bufio.NewReader(os.Stdin)
	in.ReadString('\n')
	for _, c := range conns {
		io.WriteString(c, "hello\n")
		if line, err := bufio.NewReaderSize(c, 16).ReadString('\n'); line != "hello\n" {
			fmt.Println("failed:", line, err)
			return
		}
	}
	fmt.Println("spoke")
	in.ReadString('\n')
}

// An idle conversation owns its structs and nothing else, fresh and after it has spoken.
func TestMemoryPerIdleConversation(t *testing.T) {
	var files syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files))
	n := int(min(10_000, files.Cur/2-100))

	l, err := core.NewLoop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer l.Close()
	var sizes uintptr
	ln, err := chat.Listen(l, "tcp", "127.0.0.1:0", func(c *chat.Conn) chat.Handler {
		h := echoLines(c)
		if sizes == 0 {
			for _, x := range []any{*c, c.Core().Socket(), h} {
				v := reflect.TypeOf(x)
				if v.Kind() == reflect.Pointer {
					v = v.Elem()
				}
				sizes += allocated(v.Size())
			}
			sizes += 8 // the loop's slot
		}
		return h
	})
	require.NoError(t, err)

	child := exec.Command(os.Args[0], "-test.run", "^TestIdleClientsChild$")
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", clientsEnv, n, ln.Addr()))
	in, err := child.StdinPipe()
	require.NoError(t, err)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	before := liveHeap()
	require.NoError(t, child.Start())
	defer child.Wait()
	defer child.Process.Kill()
	said := make(chan string, 2)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			if line := s.Text(); line == "connected" || line == "spoke" || strings.HasPrefix(line, "failed") {
				said <- line
				l.Post(func() {})
			}
		}
	}()
	wait := func(want string) {
		deadline := time.Now().Add(time.Minute)
		for heard := false; !heard || ln.Open() < n; {
			select {
			case got := <-said:
				require.Equal(t, want, got)
				heard = true
			default:
				_, err := l.Step(time.Second)
				require.NoError(t, err)
				require.True(t, time.Now().Before(deadline), "%d of %d connections", ln.Open(), n)
			}
		}
	}
	check := func(when string) {
		t.Helper()
		require.Equal(t, n, ln.Open())
		live := float64(liveHeap()-before) / float64(n)
		t.Logf("%s: %.1f bytes of live heap per idle conversation, of which its structs are %d (%d connections)", when, live, sizes, n)
		require.InEpsilon(t, float64(sizes), live, 0.10)
	}
	wait("connected")
	check("fresh")
	io.WriteString(in, "\n")
	wait("spoke")
	check("after a line")
	io.WriteString(in, "\n")
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // what the first one put out of the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

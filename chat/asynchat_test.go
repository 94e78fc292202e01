//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package chat_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// The tests of CPython's test_asynchat.py, by their numbers in the inventory that porting.md shows; each on every back
// end of the platform.

const serverQuit = "QUIT\n"

// echoServer is CPython's: it reads until a quit line, then sends everything before that back in pieces of n bytes.
func echoServer(t *testing.T, n int) (addr string, got func() string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	received := make(chan string, 1)
	go func() {
		defer ln.Close()
		conn, err := ln.Accept()
		if err != nil {
			received <- err.Error()
			return
		}
		defer conn.Close()
		var all []byte
		r := bufio.NewReader(conn)
		for {
			b, err := r.ReadByte()
			if err != nil {
				break
			}
			if all = append(all, b); strings.HasSuffix(string(all), serverQuit) {
				all = all[:len(all)-len(serverQuit)]
				break
			}
		}
		received <- string(all)
		for len(all) > 0 {
			m := min(n, len(all))
			if _, err := conn.Write(all[:m]); err != nil {
				return
			}
			all = all[m:]
		}
	}()
	return ln.Addr().String(), func() string { return <-received }
}

// client is CPython's echo_client: it collects records.
type client struct {
	chat.Buffer
	records []string
	connect func(c *chat.Conn) error
}

func (h *client) HandleConnect(c *chat.Conn) error { return h.connect(c) }

func (h *client) FoundTerminator(*chat.Conn) error {
	h.records = append(h.records, string(h.Take()))
	return nil
}

// run runs a client against an echo server in pieces of n, on each back end.
func runClients(t *testing.T, pieces []int, term chat.Terminator, connect func(c *chat.Conn) error, check func(t *testing.T, h *client, got string)) {
	t.Helper()
	for _, backend := range core.Backends() {
		t.Run(backend, func(t *testing.T) {
			for _, n := range pieces {
				addr, got := echoServer(t, n)
				l, err := core.NewLoop(core.Options{Backend: backend, Strict: true})
				require.NoError(t, err)
				h := &client{connect: connect}
				_, err = chat.Dial(l, "tcp", addr, func(c *chat.Conn) chat.Handler {
					c.SetTerminator(term)
					return h
				})
				require.NoError(t, err)
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				require.NoError(t, l.Run(ctx))
				cancel()
				check(t, h, got())
				require.NoError(t, l.Close())
			}
		})
	}
}

func lineTerminator(t *testing.T, term string) {
	t.Helper()
	runClients(t, []int{1, 2, 3}, chat.Literal(term), func(c *chat.Conn) error {
		return c.PushString("hello world" + term + "I'm not dead yet!" + term + serverQuit)
	}, func(t *testing.T, h *client, _ string) {
		require.Equal(t, []string{"hello world", "I'm not dead yet!"}, h.records)
	})
}

func TestC1LineTerminator1(t *testing.T) { lineTerminator(t, "\n") }
func TestC2LineTerminator2(t *testing.T) { lineTerminator(t, "\r\n") }
func TestC3LineTerminator3(t *testing.T) { lineTerminator(t, "qqq") }

func numericTerminator(t *testing.T, n int) {
	t.Helper()
	const data = "hello world, I'm not dead yet!\n"
	runClients(t, []int{1, 5, 100}, chat.Count(int64(n)), func(c *chat.Conn) error {
		return c.PushString(data + serverQuit)
	}, func(t *testing.T, h *client, _ string) {
		require.Equal(t, []string{data[:n]}, h.records)
		require.Equal(t, data[n:], string(h.Collected()), "the count is not re-armed")
	})
}

func TestC4NumericTerminator1(t *testing.T) { numericTerminator(t, 1) }
func TestC5NumericTerminator2(t *testing.T) { numericTerminator(t, 6) }

func TestC6NoneTerminator(t *testing.T) {
	const data = "hello world, I'm not dead yet!\n"
	runClients(t, []int{1, 5, 100}, chat.None, func(c *chat.Conn) error {
		return c.PushString(data + serverQuit)
	}, func(t *testing.T, h *client, _ string) {
		require.Empty(t, h.records)
		require.Equal(t, data, string(h.Collected()))
	})
}

func TestC7SimpleProducer(t *testing.T) {
	const data = "hello world\nI'm not dead yet!\n" + serverQuit
	runClients(t, []int{1, 100}, chat.Literal("\n"), func(c *chat.Conn) error {
		return c.PushProducer(buffered.Bytes([]byte(data), 8))
	}, func(t *testing.T, h *client, _ string) {
		require.Equal(t, []string{"hello world", "I'm not dead yet!"}, h.records)
	})
}

func TestC8StringProducer(t *testing.T) {
	const data = "hello world\nI'm not dead yet!\n" + serverQuit
	runClients(t, []int{1, 100}, chat.Literal("\n"), func(c *chat.Conn) error {
		return c.PushProducer(buffered.Reader(strings.NewReader(data)))
	}, func(t *testing.T, h *client, _ string) {
		require.Equal(t, []string{"hello world", "I'm not dead yet!"}, h.records)
	})
}

func TestC9EmptyLine(t *testing.T) {
	runClients(t, []int{1, 100}, chat.Literal("\n"), func(c *chat.Conn) error {
		return c.PushString("hello world\n\nI'm not dead yet!\n" + serverQuit)
	}, func(t *testing.T, h *client, _ string) {
		require.Equal(t, []string{"hello world", "", "I'm not dead yet!"}, h.records)
	})
}

func TestC10CloseWhenDone(t *testing.T) {
	runClients(t, []int{1}, chat.Literal("\n"), func(c *chat.Conn) error {
		c.PushString("hello world\nI'm not dead yet!\n" + serverQuit)
		c.CloseWhenDone()
		return nil
	}, func(t *testing.T, h *client, got string) {
		require.Empty(t, h.records)
		require.NotEmpty(t, got, "the server got something")
	})
}

// In Go the types of push are checked by the compiler; what is left is that each of its forms works, and copies.
func TestC11Push(t *testing.T) {
	data := []byte("bytes\n")
	runClients(t, []int{100}, chat.Literal("\n"), func(c *chat.Conn) error {
		copy(data, "bytes\n")
		c.Push(data)
		copy(data, "XXXXX\n")
		c.PushString("string\n")
		_, err := io.WriteString(c, "writer\n")
		c.Printf("%s\n", "printf")
		c.PushString(serverQuit)
		return err
	}, func(t *testing.T, h *client, _ string) {
		require.Equal(t, []string{"bytes", "string", "writer", "printf"}, h.records)
	})
}

// C12 test_blockingioerror: readiness that does not hold is no error.
func TestC12WouldBlockFromRecv(t *testing.T) {
	s := &session{}
	w := converse(t, sim.Config{Spurious: 1, Again: 0.5}, s)
	w.peer.Say("a\r\nb\r\n")
	w.Until(func() bool { return len(s.log) == 2 })
	require.Equal(t, []string{"a", "b"}, s.log)
	require.False(t, w.conn.Closed())
}

// The golden tests read the file that -vectors names, and notice what is wrong in it.
func TestVectorsFlag(t *testing.T) {
	const (
		input = `{"name":"i","script":[{"bytes":"Cg=="},{"count":2},{"none":true}],"chunks":["YQpi","Y2Q="],"recv_buffer_size":64,` +
			`"events":[{"collect":"YQ=="},{"found":true},{"collect":"YmM="},{"found":true},{"collect":"ZA=="},{"close":true}],"leftover":""}`
		output = `{"name":"o","connected":true,"send_sizes":[1,0,2],"ops":[{"op":"push","data":"YWJj"},{"op":"close_when_done"}],` +
			`"expect_sent":"YWJj","expect_closed":true}`
	)
	for _, x := range []struct {
		name, input, output string
		fail                []string
	}{
		{"right", input, output, nil},
		{"no input", "", output, nil},
		{"no output", input, "", nil},
		{"other data", strings.Replace(input, `"YmM="`, `"YmI="`, 1), output, []string{"InputScanner", "InputConn"}},
		{"one found too many", strings.Replace(input, `{"close"`, `{"found":true},{"close"`, 1), output, []string{"InputScanner", "InputConn"}},
		{"other leftover", strings.Replace(input, `"leftover":""`, `"leftover":"eA=="`, 1), output, []string{"InputScanner", "InputConn"}},
		{"other output", input, strings.Replace(output, `sent":"YWJj"`, `sent":"YWJk"`, 1), []string{"OutputQueue", "OutputConn"}},
		{"not closed", input, strings.Replace(output, `closed":true`, `closed":false`, 1), []string{"OutputQueue", "OutputConn"}},
		{"nothing", "", "", []string{"InputScanner", "InputConn", "OutputQueue", "OutputConn"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "vectors.json")
			require.NoError(t, os.WriteFile(file, []byte(`{"input":[`+x.input+`],"output":[`+x.output+`]}`), 0o600))
			out, err := exec.Command(os.Args[0], "-test.run=^TestGolden", "-vectors", file).CombinedOutput()
			require.Equal(t, len(x.fail) > 0, err != nil, "%s", out)
			require.Equal(t, len(x.fail), strings.Count(string(out), "--- FAIL: TestGolden"), "%s", out)
			for _, name := range x.fail {
				require.Contains(t, string(out), "--- FAIL: TestGolden"+name)
			}
		})
	}
}

// A file goes out by sendfile on a plain socket, and by reading it through a layer.
func TestFileProducer(t *testing.T) {
	path := t.TempDir() + "/file"
	content := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	for _, x := range []struct {
		name      string
		from, n   int64
		layer     bool
		want      string
		truncated bool
	}{
		{"whole", 0, -1, false, content, false},
		{"part", 5, 100_000, false, content[5:100_005], false},
		{"through a layer", 0, -1, true, content, false},
		{"nothing", 10, 0, false, "", false},
		{"too short", int64(len(content)) - 10, 20, false, content[:10], true},
	} {
		t.Run(x.name, func(t *testing.T) {
			fromFile := 0 // bytes that were sent without being read
			l, err := core.NewLoop(core.Options{Strict: true, Trace: func(e *core.Event) {
				if e.Kind == core.TraceSend && e.Data == nil {
					fromFile += e.N
				}
			}})
			require.NoError(t, err)
			ln, err := chat.Listen(l, "tcp", "127.0.0.1:0", func(c *chat.Conn) chat.Handler {
				if x.layer {
					c.Upgrade(func(s core.Socket) (core.Layered, error) { return &sim.Tap{Socket: s}, nil }, true)
				}
				f, err := os.Open(path)
				require.NoError(t, err)
				c.PushString("head ")
				require.NoError(t, c.PushProducer(buffered.File(f, x.from, x.n)))
				c.PushString(" tail")
				c.CloseWhenDone()
				c.Core().Loop().Post(func() {})
				return chat.Data(func(*chat.Conn, []byte) error { return nil })
			})
			require.NoError(t, err)
			result := make(chan string, 1)
			go func() {
				conn, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					result <- err.Error()
					return
				}
				defer conn.Close()
				all, _ := io.ReadAll(conn)
				l.Post(func() { ln.Close() })
				result <- string(all)
			}()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			require.NoError(t, l.Run(ctx))
			got := <-result
			if x.truncated {
				require.NotContains(t, got, " tail", "a file that is shorter than promised ends the connection")
			} else {
				require.Equal(t, "head "+x.want+" tail", got)
			}
			if x.layer {
				require.Zero(t, fromFile)
			} else if runtime.GOOS == "linux" {
				require.Equal(t, len(x.want), fromFile)
			}
			require.NoError(t, l.Close())
		})
	}
}

// FilesConn on pipes: a conversation whose two directions are two descriptors.
func TestFilesConn(t *testing.T) {
	inR, inW, err := os.Pipe()
	require.NoError(t, err)
	outR, outW, err := os.Pipe()
	require.NoError(t, err)
	for _, f := range []*os.File{inR, inW, outR, outW} {
		defer f.Close()
	}
	l, err := core.NewLoop(core.Options{Strict: true})
	require.NoError(t, err)
	big := strings.Repeat("x", 200_000) // more than a pipe holds
	_, err = chat.FilesConn(l, inR, outW, func(*chat.Conn) chat.Handler {
		return chat.Lines(func(c *chat.Conn, line []byte) error { return c.Printf("<%s>%s", line, big) })
	})
	require.NoError(t, err)
	outW.Close()
	result := make(chan string, 1)
	go func() {
		io.WriteString(inW, "one\ntwo\n")
		inW.Close()
		all, _ := io.ReadAll(outR)
		result <- string(all)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, l.Run(ctx))
	require.Equal(t, "<one>"+big+"<two>"+big, <-result)
	require.NoError(t, l.Close())
}

// Detach gives the connection back with what was not handed on.
func TestDetach(t *testing.T) {
	l, err := core.NewLoop(core.Options{Strict: true})
	require.NoError(t, err)
	var conn net.Conn
	var unread []byte
	s := &session{}
	s.found = func(c *chat.Conn, token string) (err error) {
		c.PushString("bye\n")
		conn, unread, err = c.Detach()
		return err
	}
	ln, err := chat.Listen(l, "tcp", "127.0.0.1:0", func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.Line)
		return s
	})
	require.NoError(t, err)
	peer, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer peer.Close()
	_, err = io.WriteString(peer, "detach\nrest\r")
	require.NoError(t, err)
	for conn == nil {
		_, err := l.Step(10 * time.Second)
		require.NoError(t, err)
	}
	defer conn.Close()
	require.Equal(t, "rest\r", string(unread))
	require.Equal(t, []string{"detach", "close parley: detached"}, s.log)
	_, err = io.WriteString(conn, "from net\n")
	require.NoError(t, err)
	r := bufio.NewReader(peer)
	for _, want := range []string{"bye\n", "from net\n"} {
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, want, line)
	}
	_, err = io.WriteString(peer, "to net\n")
	require.NoError(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "to net\n", line)
	require.NoError(t, l.Close())
}

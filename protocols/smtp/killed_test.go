//go:build unix

package smtp_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/mailbox"
	"github.com/parley-go/parley/protocols/smtp"
)

// TestServedByChild is the server of TestKilled: this test binary, called again.
func TestServedByChild(t *testing.T) {
	dir := os.Getenv("PARLEY_KILLED_MAILDIR")
	if dir == "" {
		t.Skip("for TestKilled")
	}
	box, err := mailbox.OpenMaildir(dir)
	require.NoError(t, err)
	loop, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	srv := &smtp.Server{Hostname: "mx.example.org", Backend: &smtp.Maildir{Box: box, NoReturnPath: true}, Domains: domains, NoReceived: true}
	l, err := srv.Listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	fmt.Println(l.Addr())
	_ = loop.Run(context.Background())
}

// killing is what TestKilled does: PARLEY_KILLED=2000x10 in the environment has 2,000 messages in each of 10 rounds.
func killing(t *testing.T) (mails, rounds int) {
	mails, rounds = 200, 3
	if s := os.Getenv("PARLEY_KILLED"); s != "" {
		_, err := fmt.Sscanf(s, "%dx%d", &mails, &rounds)
		require.NoError(t, err, "PARLEY_KILLED")
	} else if testing.Short() {
		rounds = 1
	}
	return mails, rounds
}

// A server that is killed in the middle of many deliveries: each message that was answered with 250 is in new, whole and
// once, and nothing in new is half of one.
func TestKilled(t *testing.T) {
	mails, rounds := killing(t)
	const clients = 8
	dir := filepath.Join(t.TempDir(), "box")
	rng := rand.New(rand.NewPCG(1, 1))
	taken := make(map[string]bool)   // by what identifies them; true: answered with 250
	known := make(map[string]string) // files that were read, by name
	killedLate := 0
	for round := range rounds {
		server := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestServedByChild$")
		server.Env = append(os.Environ(), "PARLEY_KILLED_MAILDIR="+dir)
		server.Stderr = os.Stderr
		out, err := server.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, server.Start())
		addr, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)

		var mu sync.Mutex
		sent, answered := 0, 0
		killAt := mails/4 + rng.IntN(mails/2+1) // while others are under way
		next := func() (id string, ok bool) {
			mu.Lock()
			defer mu.Unlock()
			if sent == mails {
				return "", false
			}
			sent++
			id = fmt.Sprintf("%d.%d", round, sent)
			taken[id] = false
			return id, true
		}
		ok := func(id string) error {
			mu.Lock()
			defer mu.Unlock()
			taken[id] = true
			if answered++; answered == killAt {
				return server.Process.Kill()
			}
			return nil
		}
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				if err := submit(strings.TrimSpace(addr), next, ok); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		_ = server.Wait()
		require.GreaterOrEqual(t, answered, killAt)
		if sent > answered {
			killedLate++
		}

		there := make(map[string]int)
		entries, err := os.ReadDir(filepath.Join(dir, "new"))
		require.NoError(t, err)
		for _, e := range entries {
			if id := known[e.Name()]; id != "" {
				there[id]++
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, "new", e.Name()))
			require.NoError(t, err)
			first, _, _ := strings.Cut(string(text), "\r\n")
			id := strings.TrimPrefix(first, "X-Test: ")
			require.Contains(t, taken, id)
			require.True(t, string(text) == identified(id), "message %s is not what was sent: %d octets", id, len(text))
			there[id]++
			known[e.Name()] = id
		}
		more := 0
		for id, is := range taken {
			if is {
				require.Equal(t, 1, there[id], "message %s", id)
			} else {
				require.LessOrEqual(t, there[id], 1)
				more += there[id]
			}
		}
		left, err := os.ReadDir(filepath.Join(dir, "tmp"))
		require.NoError(t, err)
		t.Logf("round %d: %d sent, %d answered; in new %d, of all rounds, %d of them not answered; %d left in tmp", round+1, sent, answered, len(there), more, len(left))
	}
	require.NotZero(t, killedLate, "each time the server was killed, nothing was under way")
}

// identified is a message that is known by its first line. One in twenty is larger than the server's buffer.
func identified(id string) string {
	sum := sha256.Sum256([]byte(id))
	lines := int(sum[0])
	if sum[1] < 256/20 {
		lines += 2000
	}
	return "X-Test: " + id + "\r\n\r\n" + strings.Repeat(fmt.Sprintf(".%x\r\n", sum), lines)
}

// submit sends messages until there are no more, or the server is gone.
func submit(addr string, next func() (string, bool), ok func(id string) error) error {
	c, err := textproto.Dial("tcp", addr)
	if err != nil {
		return nil // the server is gone
	}
	defer c.Close()
	say := func(code int, format string, args ...any) (refused, lost error) {
		if format != "" {
			if err := c.PrintfLine(format, args...); err != nil {
				return nil, err
			}
		}
		if _, _, err := c.ReadResponse(code); err != nil {
			var e *textproto.Error
			if errors.As(err, &e) {
				return e, nil
			}
			return nil, err
		}
		return nil, nil
	}
	if refused, lost := say(220, ""); refused != nil || lost != nil {
		return refused
	}
	if refused, lost := say(250, "EHLO client.example"); refused != nil || lost != nil {
		return refused
	}
	for {
		id, more := next()
		if !more {
			_, _ = say(221, "QUIT")
			return nil
		}
		for _, x := range []struct {
			code int
			line string
		}{{250, "MAIL FROM:<a@client.example>"}, {250, "RCPT TO:<user@example.org>"}, {354, "DATA"}} {
			if refused, lost := say(x.code, "%s", x.line); refused != nil || lost != nil {
				return refused
			}
		}
		w := c.DotWriter()
		if _, err := w.Write([]byte(identified(id))); err != nil {
			return nil
		}
		if err := w.Close(); err != nil {
			return nil
		}
		if refused, lost := say(250, ""); refused != nil || lost != nil {
			return refused
		}
		if err := ok(id); err != nil {
			return err
		}
	}
}

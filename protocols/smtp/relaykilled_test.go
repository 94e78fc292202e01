//go:build unix

package smtp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/mailbox"
	"github.com/parley-go/parley/protocols/smtp"
)

// TestRelayedByChild is the relay of TestRelayKilled: this test binary, called again.
func TestRelayedByChild(t *testing.T) {
	dir, next := os.Getenv("PARLEY_KILLED_QUEUE"), os.Getenv("PARLEY_KILLED_NEXT")
	if dir == "" {
		t.Skip("for TestRelayKilled")
	}
	loop, err := core.NewLoop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	r := &smtp.Relay{Dir: dir, Address: next, Hostname: "relay.example", Retry: []time.Duration{10 * time.Millisecond}}
	require.NoError(t, r.Start(loop))
	srv := &smtp.Server{Hostname: "mx.example.org", Backend: r, Domains: domains, NoReceived: true}
	l, err := srv.Listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	fmt.Println(l.Addr())
	_ = loop.Run(context.Background())
}

// arrivals is what has come to the next server, by what identifies it.
type arrivals struct {
	mu     sync.Mutex
	count  map[string]int
	later  map[string]bool // was refused once
	broken []string
	more   chan struct{} // something has come
}

func (a *arrivals) take(_ context.Context, _ *smtp.Envelope, m *io.SectionReader) error {
	all, err := io.ReadAll(m)
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(all), "\r\n")
	id := strings.TrimPrefix(first, "X-Test: ")
	a.mu.Lock()
	defer a.mu.Unlock()
	if strings.HasSuffix(id, "3") && !a.later[id] { // now and then it does not work at once
		a.later[id] = true
		return smtp.Replyf(451, "4.3.0", "Not now")
	}
	a.count[id]++
	if string(all) != identified(id) {
		a.broken = append(a.broken, id)
	}
	select {
	case a.more <- struct{}{}:
	default:
	}
	return nil
}

// A relay that is killed again and again while it takes messages and hands them on: each that was answered with 250 arrives,
// whole; what arrives twice was on its way when the relay was killed.
func TestRelayKilled(t *testing.T) {
	mails, rounds := killing(t)
	const clients = 8
	got := &arrivals{count: make(map[string]int), later: make(map[string]bool), more: make(chan struct{}, 1)}
	loop, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	next := &smtp.Server{Hostname: "next.example", Backend: smtp.Func(got.take), Domains: domains, NoReceived: true}
	l, err := next.Listen(loop, "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var nextRuns sync.WaitGroup
	nextRuns.Go(func() { _ = loop.Run(context.Background()) })
	defer nextRuns.Wait()
	defer loop.Stop()

	dir := filepath.Join(t.TempDir(), "queue")
	relay := func() (*exec.Cmd, string) {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestRelayedByChild$")
		c.Env = append(os.Environ(), "PARLEY_KILLED_QUEUE="+dir, "PARLEY_KILLED_NEXT="+l.Addr().String())
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		addr, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		return c, strings.TrimSpace(addr)
	}
	rng := rand.New(rand.NewPCG(2, 2))
	taken := make(map[string]bool) // by what identifies them; true: answered with 250
	for round := range rounds {
		server, addr := relay()
		var mu sync.Mutex
		sent, answered := 0, 0
		killAt := mails/4 + rng.IntN(mails/2+1)
		begin := func() (string, bool) {
			mu.Lock()
			defer mu.Unlock()
			if sent == mails {
				return "", false
			}
			sent++
			id := fmt.Sprintf("%d.%d", round, sent)
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
				if err := submit(addr, begin, ok); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		_ = server.Wait()
		require.GreaterOrEqual(t, answered, killAt)
	}

	server, _ := relay() // the last one may finish
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	_, err = mailbox.OpenQueue(dir)
	require.ErrorIs(t, err, mailbox.ErrLocked)
	deadline := time.After(time.Minute)
	for missing := "?"; missing != ""; {
		got.mu.Lock()
		missing = ""
		for id, is := range taken {
			if is && got.count[id] == 0 {
				missing = id
			}
		}
		got.mu.Unlock()
		if missing == "" {
			break
		}
		select {
		case <-got.more:
		case <-deadline:
			t.Fatalf("message %s was answered with 250, and does not arrive", missing)
		}
	}
	got.mu.Lock()
	defer got.mu.Unlock()
	require.Empty(t, got.broken)
	twice := 0
	for id, n := range got.count {
		require.Contains(t, taken, id)
		if n > 1 {
			twice++
		}
	}
	t.Logf("%d messages were sent, %d arrived, %d of them more than once", len(taken), len(got.count), twice)
	require.LessOrEqual(t, twice, rounds*mails/4)
}

//go:build unix

package smoke

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/examples/internal/cli"
)

// A stream of events ends when the server does, and what is under way is finished.
func TestHTTPDShutdown(t *testing.T) {
	p, addr := serve(t, "httpd")
	events, slow := dial(t, addr), dial(t, addr)
	events.say("GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
	events.until("id: 1\n")
	slow.say("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
	slow.until("\r\n\r\nhello")
	begin := time.Now()
	p.signal(syscall.SIGTERM)
	events.until("\r\n0\r\n\r\n")
	events.wantEnd()
	slow.say("world")
	slow.want("world")
	slow.wantEnd()
	p.wantExit(0)
	require.Less(t, time.Since(begin), cli.Grace)
}

func TestHTTPDAccessLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, addr := serve(t, "httpd", "-access-log", log)
	c := dial(t, addr)
	c.say("GET /hello HTTP/1.1\r\nHost: a\r\nUser-Agent: smoke\r\n\r\n")
	c.until("World!\n")
	p.signal(syscall.SIGTERM)
	p.wantExit(0)
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Regexp(t, `^127\.0\.0\.1 - - \[.*\] "GET /hello HTTP/1\.1" 200 14 "-" "smoke"\n$`, string(text))
}

func TestHTTPDLimits(t *testing.T) {
	_, addr := serve(t, "httpd", "-max-body", "10", "-header-timeout", "300ms", "-idle-timeout", "300ms")
	c := dial(t, addr)
	c.say("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n")
	c.until("HTTP/1.1 413 ")
	c = dial(t, addr)
	c.say("GET /hello HTTP/1.1\r\nHost: ")
	c.until("HTTP/1.1 408 ")
	c = dial(t, addr)
	c.say("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
	c.until("World!\n")
	require.Empty(t, c.wantEnd())
	for _, args := range [][]string{{"-max-body", "0"}, {"-header-timeout", "0"}, {"-idle-timeout", "-1s"}, {"-loops", "-1"}, {"-max-conns", "0"},
		{"-list"}, {"-max-conns-per-addr", "-1"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			start(t, "httpd", args...).wantComplaint(2, args[0])
		})
	}
	start(t, "httpd", "-root", "/nonexistent").wantComplaint(1, "/nonexistent")
}

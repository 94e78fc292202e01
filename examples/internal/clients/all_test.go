//go:build unix

package clients

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Everything in one program: a mail by curl is in the Maildir, and a notice of it is in the room, for a person with nc and for
// a browser.
func TestAll(t *testing.T) {
	curl := need(t, "curl")
	dir := filepath.Join(t.TempDir(), "mail")
	addrs, end := serveAt(t, 4, "all", "-listen", "127.0.0.1:0", "-chat", "127.0.0.1:0", "-smtp", "127.0.0.1:0", "-echo", "127.0.0.1:0",
		"-maildir", dir)
	web, lines, mail, echo := addrs[0], addrs[1], addrs[2], addrs[3]

	connect := func(addr string) (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		return conn, bufio.NewReader(conn)
	}
	until := func(r *bufio.Reader, text string) {
		t.Helper()
		for {
			line, err := r.ReadString('\n')
			require.NoError(t, err, "want %q", text)
			if strings.Contains(line, text) {
				return
			}
		}
	}
	e, echoed := connect(echo)
	fmt.Fprint(e, "hello\n")
	until(echoed, "hello")
	bob, heard := connect(lines)
	fmt.Fprint(bob, "bob\n")
	until(heard, "/quit leaves")

	entered, err := exec.Command(curl, "-sS", "--max-time", "30", "-H", "Content-Type: application/json", "-d", `{"nick":"alice"}`,
		"http://"+web+"/enter").Output()
	require.NoError(t, err)
	_, session, ok := strings.Cut(string(entered), `"session":"`)
	require.True(t, ok, "%s", entered)
	session, _, _ = strings.Cut(session, `"`)
	page := exec.Command(curl, "-sSN", "--max-time", "30", "http://"+web+"/events?session="+session)
	pipe, err := page.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, page.Start())
	events := bufio.NewReader(pipe)
	until(events, `"members":["bob","alice"]`)

	letter := exec.Command(curl, "-sS", "--max-time", "30", "smtp://"+mail, "--mail-from", "tim@example.org", "--mail-rcpt", "pat@localhost", "-T", "-")
	letter.Stdin = strings.NewReader("Subject: lunch at one\r\n\r\nhello\r\n")
	said, err := letter.CombinedOutput()
	require.NoError(t, err, "%s", said)
	until(heard, "<tim via mail> lunch at one")
	until(events, `"from":"tim","via":"mail","text":"lunch at one"`)
	files, err := os.ReadDir(filepath.Join(dir, "new"))
	require.NoError(t, err)
	require.Len(t, files, 1)

	end()
	until(heard, "Goodbye")
	_, err = io.Copy(io.Discard, events)
	require.NoError(t, err)
	require.NoError(t, page.Wait(), "the stream of events ends in order")
}

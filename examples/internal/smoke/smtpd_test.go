//go:build unix

package smoke

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/protocols/smtp"
)

// A message that smtpd -queue has accepted while the next server is away arrives when it is there, also when smtpd was killed
// in between.
func TestSMTPDQueue(t *testing.T) {
	t.Parallel()
	queue := filepath.Join(t.TempDir(), "queue")
	args := func(next string) []string {
		return []string{"-hostname", "mx.example.org", "-accept-domain", "example.org", "-queue", queue, "-relay", next}
	}
	p, addr := serve(t, "smtpd", args("127.0.0.1:"+refusedPort(t))...)
	post(t, "Subject: x\n\nx\n", "-server", addr, "-from", "a@client.example", "-to", "pat@example.org").wantExit(0)
	p.wantLog("smtp relay: deferred")
	start(t, "smtpd", append(args("127.0.0.1:25"), "-listen", "127.0.0.1:0")...).wantComplaint(1, "locked by somebody else")
	p.signal(syscall.SIGKILL)
	<-p.ended
	files, err := os.ReadDir(filepath.Join(queue, "new"))
	require.NoError(t, err)
	require.Len(t, files, 1)

	b, next := postOffice(t, new(smtp.Server), false)
	p, _ = serve(t, "smtpd", args(next)...)
	p.wantLog("smtp relay: delivered")
	require.Regexp(t, `^Received: from (?s:.*)\r\nSubject: x\r\n\r\nx\r\n$`, b.last(t))
	p.signal(syscall.SIGTERM)
	p.wantExit(0)
	require.Contains(t, p.stderr.String(), "left=0")
	files, err = os.ReadDir(filepath.Join(queue, "new"))
	require.NoError(t, err)
	require.Empty(t, files)

	start(t, "smtpd", "-queue", queue).wantComplaint(2, "-queue goes with -relay")
}

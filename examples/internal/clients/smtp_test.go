//go:build unix

package clients

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// maildir is an smtpd that delivers into a Maildir. It takes mail for example.org, and from tim for anybody.
type maildir struct {
	t           *testing.T
	dir         string
	plain, smtp string // addresses: STARTTLS on the first, TLS from the beginning on the second
	seen        map[string]bool
}

// withTLS is for serveMail: STARTTLS on one port, and TLS from the beginning on another.
var withTLS = []string{"-smtps", "127.0.0.1:0", "-tls-self-signed"}

func serveMail(t *testing.T, args ...string) *maildir {
	t.Helper()
	m := &maildir{t: t, dir: filepath.Join(t.TempDir(), "mail"), seen: make(map[string]bool)}
	n := 1
	if slices.Contains(args, "-smtps") {
		n = 2
	}
	addrs, _ := serveAt(t, n, "smtpd", append([]string{
		"-listen", "127.0.0.1:0", "-maildir", m.dir, "-hostname", "mx.example.org", "-accept-domain", "example.org", "-auth", "tim:tanstaaf",
	}, args...)...)
	m.plain, m.smtp = addrs[0], addrs[n-1]
	return m
}

// next returns the one message that came since the last call, without the fields that smtpd put in front.
func (m *maildir) next() string {
	m.t.Helper()
	files, err := os.ReadDir(filepath.Join(m.dir, "new"))
	require.NoError(m.t, err)
	text, found := "", 0
	for _, f := range files {
		if !m.seen[f.Name()] {
			m.seen[f.Name()] = true
			found++
			text = string(m.read(f.Name()))
		}
	}
	require.Equal(m.t, 1, found, "messages that came")
	return text
}

func (m *maildir) read(name string) []byte {
	text, err := os.ReadFile(filepath.Join(m.dir, "new", name))
	require.NoError(m.t, err)
	_, text, ok := bytes.Cut(text, []byte("\r\nReceived: from "))
	require.True(m.t, ok)
	for {
		var more []byte
		_, more, ok = bytes.Cut(text, []byte("\r\n"))
		require.True(m.t, ok)
		if text = more; len(text) == 0 || text[0] != '\t' {
			return text
		}
	}
}

// letters are messages with what clients and servers get wrong. Lines end in LF here, and in CRLF on the wire.
var letters = map[string]string{
	"plain":      "Subject: plain\nFrom: a@example.net\n\nhello\n",
	"dots":       "Subject: dots\n\n.\n..\n.a\n...\n\n.\n.\nthe end\n",
	"last dot":   "Subject: last dot\n\nhello\n.\n",
	"empty":      "Subject: empty\n\n",
	"8bit":       "Subject: 8bit\nContent-Type: text/plain; charset=utf-8\n\nGrüße, 你好\n",
	"From":       "Subject: From\n\nFrom here on\n>From there\n",
	"long lines": "Subject: long lines\n\n" + strings.Repeat(strings.Repeat("x", 998)+"\n", 20),
	"large":      "Subject: large\n\n" + strings.Repeat("The quick brown fox jumps over the lazy dog.\n", 10_000),
}

// Each client sends each letter; what lies in the Maildir is that, byte for byte.
func TestMailByEveryClient(t *testing.T) {
	m, clear, lmtp := serveMail(t, withTLS...), serveMail(t), serveMail(t, "-lmtp")
	host, port, err := net.SplitHostPort(m.plain)
	require.NoError(t, err)
	_, tlsPort, err := net.SplitHostPort(m.smtp)
	require.NoError(t, err)
	swaks, curl, python, msmtp := need(t, "swaks"), need(t, "curl"), need(t, "python3"), need(t, "msmtp")
	sendmail := filepath.Join(binaries, "sendmail")

	// swaks reads \n as a line end and has words between percent signs, of which there are none here. It adds a line end, and
	// what ends in a dot, or in the header, ends otherwise.
	bySwaks := func(server string, args ...string) func(file string) *exec.Cmd {
		return func(file string) *exec.Cmd {
			return exec.Command(swaks, append([]string{"--server", server, "--from", "a@example.net", "--to", "pat+tag@example.org",
				"--data", "@" + file, "--hide-all", "--timeout", "30"}, args...)...)
		}
	}
	byCurl := func(url, to string, args ...string) func(file string) *exec.Cmd {
		return func(file string) *exec.Cmd {
			return exec.Command(curl, append([]string{"-sSk", "--max-time", "30", url, "--mail-from", "a@example.net", "--mail-rcpt", to,
				"-T", file}, args...)...)
		}
	}
	byPython := func(connect string) func(file string) *exec.Cmd {
		return func(file string) *exec.Cmd {
			return exec.Command(python, "-c", `
import smtplib, ssl, sys
host, port, tls, file = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
context = ssl._create_unverified_context()
`+connect+`
s.sendmail("a@example.net", ["pat@example.org"], open(file, "rb").read())
s.quit()
`, host, port, tlsPort, file)
		}
	}
	byMsmtp := func(args ...string) func(file string) *exec.Cmd {
		return func(file string) *exec.Cmd {
			cmd := exec.Command(msmtp, append([]string{"--file=/dev/null", "--host=" + host, "--from=a@example.net", "--timeout=30",
				"--tls-certcheck=off", "--add-missing-from-header=off", "--add-missing-date-header=off", "--set-msgid-header=off", "--remove-bcc-headers=off", "pat@example.org"}, args...)...)
			cmd.Stdin, _ = os.Open(file)
			return cmd
		}
	}
	byOurs := func(args ...string) func(file string) *exec.Cmd {
		return func(file string) *exec.Cmd {
			return exec.Command(sendmail, append([]string{"-from", "a@example.net", "-to", "pat@example.org", "-file", file}, args...)...)
		}
	}
	auth := []string{"--auth-user", "tim", "--auth-password", "tanstaaf"}
	for _, client := range []struct {
		name string
		box  *maildir
		crlf bool // the client sends the file as it is
		send func(file string) *exec.Cmd
	}{
		{"swaks", m, true, bySwaks(m.plain)},
		{"swaks pipelined", m, true, bySwaks(m.plain, "--pipeline")},
		{"swaks STARTTLS", m, true, bySwaks(m.plain, "--tls")},
		{"swaks smtps", m, true, bySwaks(m.smtp, "--tls-on-connect")},
		{"swaks AUTH PLAIN", m, true, bySwaks(m.plain, append(auth, "--tls", "--auth", "PLAIN", "--to", "x@example.com")...)},
		{"swaks AUTH LOGIN", m, true, bySwaks(m.smtp, append(auth, "--tls-on-connect", "--auth", "LOGIN")...)},
		{"swaks LMTP", lmtp, true, bySwaks(lmtp.plain, "--protocol", "LMTP")},
		{"curl", m, true, byCurl("smtp://"+m.plain, "pat@example.org")},
		{"curl STARTTLS", m, true, byCurl("smtp://"+m.plain, "x@example.com", "--ssl-reqd", "-u", "tim:tanstaaf")},
		{"curl smtps", m, true, byCurl("smtps://"+m.smtp, "x@example.com", "-u", "tim:tanstaaf", "--login-options", "AUTH=PLAIN")},
		{"smtplib", m, true, byPython(`s = smtplib.SMTP(host, port)`)},
		{"smtplib STARTTLS", m, true, byPython("s = smtplib.SMTP(host, port)\ns.starttls(context=context)\ns.login('tim', 'tanstaaf')")},
		{"smtplib smtps", m, true, byPython("s = smtplib.SMTP_SSL(host, tls, context=context)\ns.login('tim', 'tanstaaf')")},
		{"msmtp", m, false, byMsmtp("--port=" + port)},
		{"msmtp STARTTLS", m, false, byMsmtp("--port="+port, "--tls=on")},
		{"msmtp smtps", m, false, byMsmtp("--port="+tlsPort, "--tls=on", "--tls-starttls=off")},
		{"sendmail", clear, false, byOurs("-server", clear.plain)},
		{"sendmail STARTTLS", m, false, byOurs("-server", m.plain, "-starttls", "-insecure-skip-verify", "-auth", "tim:tanstaaf")},
		{"sendmail TLS", m, false, byOurs("-server", m.smtp, "-tls", "-insecure-skip-verify", "-auth", "tim:tanstaaf")},
		{"sendmail LMTP", lmtp, false, byOurs("-server", lmtp.plain, "-lmtp")},
	} {
		t.Run(client.name, func(t *testing.T) {
			for name, text := range letters {
				bySwaks := strings.HasPrefix(client.name, "swaks")
				if bySwaks && (name == "last dot" || name == "empty") {
					continue
				}
				wire := strings.ReplaceAll(text, "\n", "\r\n")
				file := filepath.Join(t.TempDir(), "letter")
				if client.crlf {
					text = wire
				}
				if bySwaks {
					text = strings.TrimSuffix(text, "\r\n")
				}
				require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
				out, err := client.send(file).CombinedOutput()
				require.NoError(t, err, "%s: %s", name, out)
				client.box.t = t
				if got := client.box.next(); got != wire {
					t.Errorf("%s: %d octets came, of %d: %.200q", name, len(got), len(wire), got)
				}
			}
		})
	}
}

// What is refused is refused in words, and nothing of it is kept.
func TestRefusedMail(t *testing.T) {
	m := serveMail(t)
	curl := need(t, "curl")
	file := filepath.Join(t.TempDir(), "letter")
	for _, x := range []struct{ name, text, to, want string }{
		{"relaying", "Subject: x\r\n\r\n", "x@example.com", "550"},
		{"bare LF", "Subject: x\r\n\r\na\nb\r\n", "pat@example.org", ""},
		{"bare CR", "Subject: x\r\n\r\na\rb\r\n", "pat@example.org", ""},
	} {
		require.NoError(t, os.WriteFile(file, []byte(x.text), 0o600))
		out, err := exec.Command(curl, "-sS", "--max-time", "30", "smtp://"+m.plain, "--mail-from", "a@example.net", "--mail-rcpt", x.to, "-T", file).CombinedOutput()
		require.Error(t, err, x.name)
		require.Contains(t, string(out), x.want)
	}
	files, err := os.ReadDir(filepath.Join(m.dir, "new"))
	require.NoError(t, err)
	require.Empty(t, files)
}

// Postfix's generator, with a connection for each message and with connections that are used again: every message that it
// counts as sent is there, whole, once.
func TestMailBySMTPSource(t *testing.T) {
	const messages, size = 5000, 4096
	source := need(t, "smtp-source")
	for _, mode := range [][]string{nil, {"-d"}} {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			m := serveMail(t)
			start := time.Now()
			cmd := exec.Command(source, append(mode, "-s", "10", "-l", fmt.Sprint(size), "-m", fmt.Sprint(messages), "-f", "a@example.net", "-t", "b@example.org", m.plain)...)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			t.Logf("%d messages on the disk in %s", messages, time.Since(start).Round(time.Millisecond))
			files, err := os.ReadDir(filepath.Join(m.dir, "new"))
			require.NoError(t, err)
			require.Len(t, files, messages)
			ids, bodies := make(map[string]bool), make(map[string]bool)
			for _, f := range files {
				text := string(m.read(f.Name()))
				_, rest, ok := strings.Cut(text, "\r\nMessage-Id: <")
				require.True(t, ok, "%.300q", text)
				id, _, _ := strings.Cut(rest, ">")
				ids[id] = true
				_, body, ok := strings.Cut(text, "\r\n\r\n")
				require.True(t, ok)
				require.GreaterOrEqual(t, len(body), size)
				bodies[body] = true
			}
			require.Len(t, ids, messages, "each one once")
			require.Len(t, bodies, 1, "they are all the same")
			left, err := os.ReadDir(filepath.Join(m.dir, "tmp"))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

// Postfix's sink takes what sendmail sends, with each set of extensions, and writes down what it got.
func TestSendmailToSMTPSink(t *testing.T) {
	sink := need(t, "smtp-sink")
	for _, x := range []struct {
		name           string
		sink, sendmail []string
	}{
		{"all extensions", nil, nil},
		{"no PIPELINING", []string{"-p"}, nil},
		{"no ESMTP", []string{"-e"}, nil},
		{"LMTP", []string{"-L"}, []string{"-lmtp"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := t.TempDir()
			for d := dir; d != os.TempDir(); d = filepath.Dir(d) { // the sink does not run as root
				require.NoError(t, os.Chmod(d, 0o777))
			}
			socket := filepath.Join(dir, "s")
			args := slices.Concat(x.sink, []string{"-d", dir + "/mail.", "unix:" + socket, "10"})
			if os.Getuid() == 0 {
				args = slices.Concat([]string{"-u", "nobody"}, args)
			}
			cmd := exec.Command(sink, args...)
			cmd.Stderr = os.Stderr
			require.NoError(t, cmd.Start())
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			// It does not say when it is ready.
			require.Eventually(t, func() bool {
				conn, err := net.Dial("unix", socket)
				if err == nil {
					conn.Close()
				}
				return err == nil
			}, patience, 5*time.Millisecond)
			for name, text := range letters {
				args := slices.Concat(x.sendmail, []string{"-server", socket, "-from", "a@example.net", "-to", "pat@example.org,tim@example.org"})
				cmd := exec.Command(filepath.Join(binaries, "sendmail"), args...)
				cmd.Stdin = strings.NewReader(text)
				out, err := cmd.CombinedOutput()
				if name == "8bit" && x.name == "no ESMTP" {
					require.Error(t, err)
					require.Contains(t, string(out), "8BITMIME")
					continue
				}
				require.NoError(t, err, "%s: %s", name, out)
				files, err := filepath.Glob(filepath.Join(dir, "mail.*"))
				require.NoError(t, err)
				require.Len(t, files, 1, name)
				got, err := os.ReadFile(files[0])
				require.NoError(t, err)
				require.NoError(t, os.Remove(files[0]))
				require.Contains(t, string(got), "\nX-Rcpt-Args: <pat@example.org>\nX-Rcpt-Args: <tim@example.org>\n")
				_, message, ok := strings.Cut(string(got), " (UTC)\n")
				require.True(t, ok)
				require.True(t, message == text+"\n", "%s: %.200q", name, message) // the sink adds a line
			}
		})
	}
}

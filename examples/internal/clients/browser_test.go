//go:build unix

package clients

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image/color"
	"image/png"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// browser is a headless Chromium, driven by its ChromeDriver: W3C WebDriver.
type browser struct {
	t       *testing.T
	session string // its URL
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	driver, chromium := need(t, "chromedriver"), need(t, "chromium", "chromium-browser", "google-chrome")
	cmd := exec.Command(driver, "--port=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	b := &browser{t: t}
	lines := bufio.NewScanner(stdout)
	for port := ""; port == ""; {
		require.True(t, lines.Scan(), "chromedriver says where it listens")
		if _, rest, ok := strings.Cut(lines.Text(), "started successfully on port "); ok {
			port = strings.TrimSuffix(rest, ".")
			b.session = "http://127.0.0.1:" + port
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	args := []string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1000,700",
		"--user-data-dir=" + t.TempDir()}
	var made struct {
		SessionID string `json:"sessionId"`
	}
	b.do("POST", "/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"goog:chromeOptions": map[string]any{"binary": chromium, "args": args}, "goog:loggingPrefs": map[string]any{"browser": "ALL"},
	}}}, &made)
	b.session += "/session/" + made.SessionID
	t.Cleanup(func() { b.do("DELETE", "", nil, nil) })
	return b
}

// do sends a command; what is answered goes to value.
func (b *browser) do(method, path string, body, value any) {
	b.t.Helper()
	var text []byte
	if body != nil {
		var err error
		text, err = json.Marshal(body)
		require.NoError(b.t, err)
	}
	r, err := http.NewRequest(method, b.session+path, bytes.NewReader(text))
	require.NoError(b.t, err)
	response, err := (&http.Client{Timeout: patience, Transport: new(http.Transport)}).Do(r)
	require.NoError(b.t, err)
	defer response.Body.Close()
	text, err = io.ReadAll(response.Body)
	require.NoError(b.t, err)
	require.Equal(b.t, http.StatusOK, response.StatusCode, "%s %s: %s", method, path, text)
	if value != nil {
		require.NoError(b.t, json.Unmarshal(text, &struct{ Value any }{value}))
	}
}

// run evaluates JavaScript.
func (b *browser) run(script string, value any) {
	b.t.Helper()
	b.do("POST", "/execute/sync", map[string]any{"script": script, "args": []any{}}, value)
}

// until waits until a script returns true.
func (b *browser) until(script string) {
	b.t.Helper()
	require.Eventually(b.t, func() (is bool) {
		b.run(script, &is)
		return is
	}, patience, 20*time.Millisecond, script)
}

// typeInto types into an element, as a person does.
func (b *browser) typeInto(id, text string) {
	b.t.Helper()
	var element map[string]string
	b.do("POST", "/element", map[string]any{"using": "css selector", "value": "#" + id}, &element)
	for _, ref := range element {
		b.do("POST", "/element/"+ref+"/value", map[string]any{"text": text}, nil)
	}
}

// Somebody in a browser and somebody with nc, in one room.
func TestWebchatInChromium(t *testing.T) {
	b := openBrowser(t)
	addrs, _ := serveAt(t, 2, "webchat", "-listen", "127.0.0.1:0", "-lines", "127.0.0.1:0") // ends with a stream of events open
	web, lines := addrs[0], addrs[1]
	b.do("POST", "/url", map[string]any{"url": "http://" + web + "/"}, nil)
	b.typeInto("nick", "a b\n")
	b.until(`return document.getElementById("refused").textContent !== ""`)
	b.typeInto("nick", "\b\b\balice\n")
	b.until(`return document.getElementById("members").textContent === "alice (you)"`)

	bob, err := net.Dial("tcp", lines)
	require.NoError(t, err)
	defer bob.Close()
	require.NoError(t, bob.SetDeadline(time.Now().Add(patience)))
	heard := bufio.NewReader(bob)
	until := func(text string) {
		t.Helper()
		for {
			line, err := heard.ReadString('\n')
			require.NoError(t, err, "want %q", text)
			if strings.Contains(line, text) {
				return
			}
		}
	}
	// What would be a program if it were read as HTML.
	evil := `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script> & "so"`
	fmt.Fprintf(bob, "bob\n%s\n/me waves\n", evil)
	until("/quit leaves")
	b.until(`return document.getElementById("log").textContent.includes("* bob waves")`)
	var said string
	b.run(`return [...document.querySelectorAll("#log li")].find((li) => li.querySelector("b")?.textContent === "bob").lastChild.textContent`, &said)
	require.Equal(t, evil, said)
	b.until(`return [...document.querySelectorAll("#members li")].map((li) => li.textContent).join() === "alice (you),bob"`)

	b.typeInto("text", "Grüße <b>\n")
	until("<alice> Grüße <b>")
	b.typeInto("text", "/msg bob a secret\n")
	until("a secret")
	b.typeInto("name", "attic\n")
	b.until(`return document.getElementById("room").textContent === "attic"`)
	until("gone to attic")
	b.until(`return document.getElementById("rooms").textContent.includes("lobby (1)")`)
	fmt.Fprintf(bob, "/join attic\nhello again\n")
	b.until(`return document.getElementById("log").textContent.includes("hello again")`)

	var title string
	b.run("return document.title", &title)
	require.Equal(t, "attic – Parley chat", title)
	b.screenshot("webchat")

	// A refused nickname is a 409, which Chromium notes; there is nothing else.
	var log []struct{ Message string }
	b.do("POST", "/se/log", map[string]any{"type": "browser"}, &log)
	for _, entry := range log {
		require.Contains(t, entry.Message, "/enter - Failed to load resource: the server responded with a status of 409", "the console")
	}

	b.run(`document.getElementById("leave").click()`, nil)
	until("alice has left")
	b.until(`return !document.getElementById("door").hidden`)
}

// screenshot looks at what is on the screen: the style sheet is in effect, and there is more than a background. With
// PARLEY_SCREENSHOTS, a folder, it is kept there for people.
func (b *browser) screenshot(name string) {
	b.t.Helper()
	var encoded string
	b.do("GET", "/screenshot", nil, &encoded)
	text, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(b.t, err)
	if dir := os.Getenv("PARLEY_SCREENSHOTS"); dir != "" {
		require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".png"), text, 0o666))
	}
	img, err := png.Decode(bytes.NewReader(text))
	require.NoError(b.t, err)
	size := img.Bounds()
	require.Greater(b.t, size.Dx(), 900)
	accent, dark := 0, 0
	for y := range size.Dy() {
		for x := range size.Dx() {
			switch c := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA); {
			case c == color.RGBA{0x0b, 0x6b, 0x58, 0xff}:
				accent++
			case c.R < 0x60 && c.G < 0x60 && c.B < 0x60:
				dark++
			}
		}
	}
	require.Greater(b.t, accent, 1000, "the colour of buttons")
	require.Greater(b.t, dark, 500, "text")
}

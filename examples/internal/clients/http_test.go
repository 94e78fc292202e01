//go:build unix

package clients

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const alphabet = "abcdefghijklmnopqrstuvwxyz"

// web is an httpd with some files.
type web struct {
	url   string // without a slash at the end
	dir   string
	large []byte // large.bin
}

func serveWeb(t *testing.T, args ...string) *web {
	t.Helper()
	w := &web{dir: t.TempDir(), large: make([]byte, 4<<20)}
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(w.large)
	written := time.Now().Add(-time.Hour) // all of them: a variant that is older than its file would not be served
	for name, data := range map[string][]byte{
		"a.txt": []byte(alphabet), "large.bin": w.large, "page.html": []byte("<p>page\n"), "page.html.gz": []byte("compressed"),
		"../secret": []byte("secret"),
	} {
		require.NoError(t, os.MkdirAll(filepath.Join(w.dir, "www", "sub"), 0o700))
		path := filepath.Join(w.dir, "www", name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		require.NoError(t, os.Chtimes(path, written, written))
	}
	require.NoError(t, os.Symlink("../secret", filepath.Join(w.dir, "www", "link")))
	host, port := serve(t, "httpd", append([]string{"-root", filepath.Join(w.dir, "www"), "-precompressed"}, args...)...)
	w.url = "http://" + net.JoinHostPort(host, port)
	return w
}

// metric asks for one of the counters.
func (w *web) metric(t *testing.T, name string) int {
	t.Helper()
	a, err := http.Get(w.url + "/metrics")
	require.NoError(t, err)
	defer a.Body.Close()
	for lines := bufio.NewScanner(a.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "parley_http_"+name+" "); ok {
			n, err := strconv.Atoi(value)
			require.NoError(t, err)
			return n
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return string(out)
}

func TestHTTPByCurl(t *testing.T) {
	curl := need(t, "curl")
	file := filepath.Join(t.TempDir(), "upload")
	secure := serveWeb(t, "-tls-self-signed")
	secure.url = strings.Replace(secure.url, "http:", "https:", 1)
	for name, w := range map[string]*web{"http": serveWeb(t), "https": secure} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(file, w.large, 0o600))
			ask := func(args ...string) string {
				t.Helper()
				args[len(args)-1] = w.url + args[len(args)-1]
				return run(t, curl, append([]string{"-sSk", "--max-time", "20"}, args...)...)
			}
			for _, x := range []struct {
				want string
				args []string
			}{
				{"Hello, World!\n", []string{"/hello"}},
				{"Hello, World!\n", []string{"-0", "/hello"}},
				{"Hello, World!\n", []string{"--http1.1", "/hello"}},
				{alphabet, []string{"/a.txt"}},
				{alphabet[5:10], []string{"-r", "5-9", "/a.txt"}},
				{alphabet[23:], []string{"-r", "-3", "/a.txt"}},
				{alphabet[20:], []string{"-C", "20", "/a.txt"}},
				{"404", []string{"-o", "/dev/null", "-w", "%{http_code}", "/none"}},
				{"404", []string{"-o", "/dev/null", "-w", "%{http_code}", "/link"}},
				{"404", []string{"-o", "/dev/null", "-w", "%{http_code}", "//example.org/"}},
				{"400", []string{"-o", "/dev/null", "-w", "%{http_code}", "--path-as-is", "/../secret"}},
				{"400", []string{"-o", "/dev/null", "-w", "%{http_code}", "/%2e%2e/secret"}},
				{"301 " + w.url + "/sub/", []string{"-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "/sub"}},
				{"416", []string{"-o", "/dev/null", "-w", "%{http_code}", "-r", "100-", "/a.txt"}},
				{"405", []string{"-o", "/dev/null", "-w", "%{http_code}", "-d", "x", "/a.txt"}},
				{"304", []string{"-o", "/dev/null", "-w", "%{http_code}", "-z", filepath.Join(w.dir, "www", "a.txt"), "/a.txt"}},
				{"<p>page\n", []string{"/page.html"}},
				{"compressed", []string{"-H", "Accept-Encoding: gzip", "/page.html"}},
				{"x=1&y=2", []string{"-d", "x=1", "-d", "y=2", "/echo"}},
				{"x=1", []string{"-0", "-d", "x=1", "/echo"}},
				{"x=1", []string{"-H", "Transfer-Encoding: chunked", "-d", "x=1", "/echo"}},
				{"", []string{"-X", "POST", "/echo"}},
				{"Hello, curl!\n", []string{"/std/hello/curl"}},
				{"x=1", []string{"-H", "Expect: 100-continue", "-d", "x=1", "/std/echo"}},
			} {
				require.Equal(t, x.want, ask(x.args...), "%q", x.args)
			}
			head := ask("-I", "/large.bin")
			require.Contains(t, head, "Content-Length: 4194304\r\n")
			require.True(t, strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n"))
			require.Equal(t, string(w.large), ask("/large.bin"))
			require.Contains(t, ask("-r", "0-1,10-11", "/a.txt"), "\r\n\r\nab\r\n--")
			require.Equal(t, 64, strings.Count(ask("/stream"), "\n"))
			require.Equal(t, 64, strings.Count(ask("-0", "/stream"), "\n"))

			// Uploads: of known length, in chunks, with and without "Expect: 100-continue", over one connection.
			for _, path := range []string{"/echo", "/std/echo"} {
				for _, args := range [][]string{
					{}, {"-H", "Expect:"}, {"-H", "Expect: 100-continue"}, {"-H", "Transfer-Encoding: chunked"}, {"-0"},
				} {
					got := ask(append(args, "-X", "POST", "--data-binary", "@"+file, path)...)
					require.True(t, got == string(w.large), "%s %q: %d octets", path, args, len(got))
				}
			}
			got := ask("-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects}\n", w.url+"/hello", w.url+"/stream", "/a.txt")
			require.Equal(t, "1\n0\n0\n", got, "one connection")
			got = ask("-v", "-d", "x", "-H", "Expect: 100-continue", "/echo")
			require.Contains(t, got, "< HTTP/1.1 100 Continue")
			require.NotContains(t, got, "Done waiting for 100-continue")

			events := exec.Command(curl, "-sSkN", "--max-time", "20", w.url+"/events")
			out, err := events.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, events.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "event: time\n", line)
			require.NoError(t, events.Process.Kill())
			_ = events.Wait()
		})
	}
	out, err := exec.Command(curl, "-sS", "--max-time", "20", strings.Replace(secure.url, "https:", "http:", 1)+"/hello").CombinedOutput()
	require.Error(t, err, string(out))
}

// The load generators: every answer is what it should be, and the connections stay.
func TestHTTPByLoadGenerators(t *testing.T) {
	wrk, ab := need(t, "wrk"), need(t, "ab")
	w := serveWeb(t, "-loops", "2")
	for _, path := range []string{"/hello", "/a.txt", "/std/hello/wrk", "/stream"} {
		t.Run("wrk "+path, func(t *testing.T) {
			out := run(t, wrk, "-t1", "-c20", "-d1s", w.url+path)
			require.NotContains(t, out, "Socket errors")
			require.NotContains(t, out, "Non-2xx")
			require.Regexp(t, `[1-9]\d* requests in`, out)
		})
	}
	for _, args := range [][]string{{"-k"}, {}} {
		t.Run(fmt.Sprint("ab ", args), func(t *testing.T) {
			out := run(t, ab, append(args, "-q", "-n", "2000", "-c", "20", w.url+"/hello")...)
			require.Regexp(t, `Complete requests: +2000\n`, out)
			require.Regexp(t, `Failed requests: +0\n`, out)
			require.NotContains(t, out, "Non-2xx")
			if len(args) > 0 {
				require.Regexp(t, `Keep-Alive requests: +2000\n`, out)
			}
		})
	}
}

// Go's own client.
func TestHTTPByNetHTTP(t *testing.T) {
	for _, args := range [][]string{nil, {"-tls-self-signed"}, {"-backend", "poll"}, {"-loops", "2"}} {
		w := serveWeb(t, args...)
		client := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		if args != nil && args[0] == "-tls-self-signed" {
			w.url = strings.Replace(w.url, "http:", "https:", 1)
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for j := range 6 {
					a, err := client.Get(fmt.Sprintf("%s/std/hello/%d-%d", w.url, i, j))
					same(t, fmt.Sprintf("Hello, %d-%d!\n", i, j), a, err)
					a, err = client.Get(w.url + "/large.bin")
					same(t, string(w.large), a, err)
					a, err = client.Post(w.url+"/echo", "text/plain", io.MultiReader(bytes.NewReader(w.large[:100_000*j]))) // in chunks
					same(t, string(w.large[:100_000*j]), a, err)
					a, err = client.Post(w.url+"/std/echo", "text/plain", bytes.NewReader(w.large[:100_000*j]))
					same(t, string(w.large[:100_000*j]), a, err)
				}
			})
		}
		wg.Wait()
		client.CloseIdleConnections()
	}
}

func same(t *testing.T, want string, a *http.Response, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		return
	}
	defer a.Body.Close()
	got, err := io.ReadAll(a.Body)
	if err != nil || string(got) != want {
		t.Errorf("%s: %d octets of %d, %v", a.Request.URL, len(got), len(want), err)
	}
}

func TestHTTPByNode(t *testing.T) {
	node := need(t, "node", "nodejs")
	w := serveWeb(t)
	out := run(t, node, "-e", `
const http = require("http"), assert = require("assert"), fs = require("fs");
const [url, file] = process.argv.slice(1);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const sockets = new Set();
function ask(path, options, chunks) {
	return new Promise((resolve, reject) => {
		const req = http.request(url + path, { agent, ...options }, res => {
			const parts = [];
			res.on("data", p => parts.push(p));
			res.on("end", () => resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(parts) }));
			res.on("error", reject);
		});
		req.on("socket", s => sockets.add(s));
		req.on("error", reject);
		for (const c of chunks || []) req.write(c);
		req.end();
	});
}
(async () => {
	const large = fs.readFileSync(file);
	let a = await ask("/hello", {});
	assert.equal(a.body.toString(), "Hello, World!\n");
	a = await ask("/large.bin", {});
	assert(a.body.equals(large));
	a = await ask("/large.bin", { method: "HEAD" });
	assert.equal(a.headers["content-length"], String(large.length));
	a = await ask("/large.bin", { headers: { Range: "bytes=10-19" } });
	assert.equal(a.status, 206);
	assert(a.body.equals(large.subarray(10, 20)));
	for (const path of ["/echo", "/std/echo"]) {
		a = await ask(path, { method: "POST" }, [large.subarray(0, 1000), large.subarray(1000, 300000)]); // in chunks
		assert(a.body.equals(large.subarray(0, 300000)));
		a = await ask(path, { method: "POST", headers: { "Content-Length": 5 } }, ["abcde"]);
		assert.equal(a.body.toString(), "abcde");
		a = await ask(path, { method: "POST", headers: { Expect: "100-continue" } }, ["abc"]);
		assert.equal(a.body.toString(), "abc");
	}
	a = await ask("/stream", {});
	assert.equal(a.headers["transfer-encoding"], "chunked");
	assert.equal(a.body.toString().split("\n").length, 65);
	a = await ask("/none", {});
	assert.equal(a.status, 404);
	const both = await Promise.all([1, 2, 3, 4].map(n => ask("/std/hello/" + n, {})));
	assert.deepEqual(both.map(b => b.body.toString()), [1, 2, 3, 4].map(n => "Hello, " + n + "!\n"));
	assert.equal(sockets.size, 1);
	agent.destroy();
	console.log("fine");
})().catch(e => { console.error(e); process.exit(1); });
`, w.url, filepath.Join(w.dir, "www", "large.bin"))
	require.Equal(t, "fine\n", out)
}

func TestHTTPByPython(t *testing.T) {
	python := need(t, "python3")
	w := serveWeb(t)
	out := run(t, python, "-c", `
import http.client, sys
address, file = sys.argv[1:]
large = open(file, "rb").read()
c = http.client.HTTPConnection(address, timeout=20)
def ask(method, path, body=None, headers={}, **more):
    c.request(method, path, body, headers, **more)
    a = c.getresponse()
    return a.status, a.read(), a
assert ask("GET", "/hello")[:2] == (200, b"Hello, World!\n")
sock = c.sock
assert ask("GET", "/large.bin")[1] == large
assert ask("HEAD", "/large.bin")[2].getheader("Content-Length") == str(len(large))
assert ask("GET", "/a.txt", headers={"Range": "bytes=1-2"})[:2] == (206, b"bc")
tag = ask("GET", "/a.txt")[2].getheader("ETag")
assert ask("GET", "/a.txt", headers={"If-None-Match": tag})[:2] == (304, b"")
for path in "/echo", "/std/echo":
    assert ask("POST", path, large[:100000])[1] == large[:100000]
    assert ask("POST", path, iter([large[:10], large[10:5000]]), {"Transfer-Encoding": "chunked"}, encode_chunked=True)[1] == large[:5000]
assert ask("GET", "/stream")[1].count(b"\n") == 64
assert ask("GET", "/none")[0] == 404
assert c.sock is sock
print("fine")
`, strings.TrimPrefix(w.url, "http://"), filepath.Join(w.dir, "www", "large.bin"))
	require.Equal(t, "fine\n", out)
}

// nginx in front, which keeps connections to us: whatever it forwards, each answer belongs to its request.
func TestHTTPBehindNginx(t *testing.T) {
	nginx := need(t, "nginx")
	w := serveWeb(t)
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "conf"), fmt.Appendf(nil, `
daemon off;
master_process off;
pid pid;
error_log stderr error;
events {}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	client_max_body_size 0;
	upstream httpd { server %s; keepalive 2; }
	server {
		listen unix:%s;
		location / {
			proxy_pass http://httpd;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_buffering off;
		}
		location /echo {
			proxy_pass http://httpd;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_request_buffering off;
		}
	}
}
`, strings.TrimPrefix(w.url, "http://"), socket), 0o600))
	cmd := exec.Command(nginx, "-p", dir, "-c", "conf", "-e", "stderr")
	var log bytes.Buffer
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	dial := func() (net.Conn, error) { return net.Dial("unix", socket) }
	require.Eventually(t, func() bool { // it does not say when it is ready
		conn, err := dial()
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, patience, 5*time.Millisecond)
	before := w.metric(t, "connections_total")

	client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() }}}
	defer client.CloseIdleConnections()
	for i := range 20 {
		a, err := client.Get(fmt.Sprintf("http://front/std/hello/%d", i))
		same(t, fmt.Sprintf("Hello, %d!\n", i), a, err)
		a, err = client.Post("http://front/echo", "text/plain", io.MultiReader(bytes.NewReader(w.large[:10_000*i])))
		same(t, string(w.large[:10_000*i]), a, err)
		a, err = client.Post("http://front/std/echo", "text/plain", bytes.NewReader(w.large[:10_000*i]))
		same(t, string(w.large[:10_000*i]), a, err)
		a, err = client.Head("http://front/large.bin")
		same(t, "", a, err)
		a, err = client.Get("http://front/stream")
		require.NoError(t, err)
		body, err := io.ReadAll(a.Body)
		require.NoError(t, err)
		require.Equal(t, 64, bytes.Count(body, []byte("\n")))
	}

	// What nginx may forward in a form that others read otherwise: behind each of them on the same connection comes one whose
	// answer can be told.
	for i, odd := range []string{
		"GET /hello HTTP/1.1\r\nHost: front\r\nContent-Length: 30\r\n\r\nGET /none HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /none HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: chunked\r\n\r\n20;a=\"b;c\"\r\nGET /none HTTP/1.1\r\nHost: ab\r\n\r\n\r\n0\r\nX: y\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: front\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: front\r\nContent-Length: 005\r\n\r\nabcde",
		"POST /hello HTTP/1.1\r\nHost: front\r\nContent-Length: 5\r\n\r\nabcde",
		"POST /none HTTP/1.1\r\nHost: front\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nabcde",
		"HEAD /stream HTTP/1.1\r\nHost: front\r\n\r\n",
		"HEAD /large.bin HTTP/1.1\r\nHost: front\r\nRange: bytes=1-2\r\n\r\n",
		"GET http://front/hello HTTP/1.1\r\nHost: front\r\n\r\n",
		"GET /hello?a=%0d%0ab HTTP/1.1\r\nHost: front\r\nX-Text: \x80\xff\r\nX-Empty:\r\nX_Under: x\r\n\r\n",
		"GET /a.txt HTTP/1.1\r\nHost: front\r\nIf-None-Match: *\r\n\r\n",
		"OPTIONS /a.txt HTTP/1.1\r\nHost: front\r\n\r\n",
		"DELETE /hello HTTP/1.1\r\nHost: front\r\nContent-Length: 3\r\n\r\nabc",
		"GET /hello HTTP/1.0\r\nHost: front\r\nConnection: keep-alive\r\n\r\n",
	} {
		t.Run(fmt.Sprintf("%.40q", odd), func(t *testing.T) {
			conn, err := dial()
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
			in := bufio.NewReader(conn)
			for j := range 3 {
				method, _, _ := strings.Cut(odd, " ")
				_, err = io.WriteString(conn, odd)
				require.NoError(t, err)
				a, err := http.ReadResponse(in, &http.Request{Method: method})
				for err == nil && a.StatusCode == http.StatusContinue {
					a, err = http.ReadResponse(in, &http.Request{Method: method})
				}
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, a.Body)
				require.NoError(t, err)
				require.Less(t, a.StatusCode, 500)
				name := fmt.Sprintf("%d-%d", i, j)
				_, err = fmt.Fprintf(conn, "GET /std/hello/%s HTTP/1.1\r\nHost: front\r\n\r\n", name)
				require.NoError(t, err)
				a, err = http.ReadResponse(in, nil)
				require.NoError(t, err)
				body, err := io.ReadAll(a.Body)
				require.NoError(t, err)
				require.Equal(t, "Hello, "+name+"!\n", string(body))
			}
		})
	}
	require.Less(t, w.metric(t, "connections_total")-before, 40, "nginx uses its connections again")
}

// Attackers that hold on to connections by being slow, in each of their ways: others are answered in time meanwhile.
// PARLEY_SLOW_SECONDS is for how long.
func TestHTTPWhileSlow(t *testing.T) {
	slow := need(t, "slowhttptest")
	seconds := 3
	if s := os.Getenv("PARLEY_SLOW_SECONDS"); s != "" {
		var err error
		seconds, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	w := serveWeb(t, "-header-timeout", "2s", "-max-conns-per-addr", "0", "-max-conns", "3000")
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second+patience)
	defer cancel()
	var attacks []*exec.Cmd
	for _, args := range [][]string{
		{"-H", "-i", "1", "-u", w.url + "/hello"},
		{"-B", "-i", "1", "-s", "8192", "-x", "10", "-u", w.url + "/echo"},
		{"-B", "-i", "1", "-s", "8192", "-x", "10", "-u", w.url + "/std/echo"},
		{"-X", "-n", "1", "-z", "32", "-w", "100", "-y", "200", "-k", "3", "-u", w.url + "/large.bin"},
	} {
		cmd := exec.CommandContext(ctx, slow, append(args, "-c", "300", "-r", "300", "-l", strconv.Itoa(seconds), "-p", "5")...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		require.NoError(t, cmd.Start())
		attacks = append(attacks, cmd)
	}
	ended := make(chan error, len(attacks))
	for _, cmd := range attacks {
		go func() { ended <- cmd.Wait() }()
	}
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	slowest, requests, most := time.Duration(0), 0, 0
	for left := len(attacks); left > 0; {
		for _, path := range []string{"/hello", "/a.txt", "/std/hello/you"} {
			start := time.Now()
			req, err := http.NewRequest("GET", w.url+path, nil)
			require.NoError(t, err)
			req.Close = requests%2 == 0 // over connections of their own, too
			a, err := client.Do(req)
			require.NoError(t, err)
			require.Equal(t, 200, a.StatusCode)
			_, err = io.Copy(io.Discard, a.Body)
			require.NoError(t, err)
			_ = a.Body.Close()
			slowest = max(slowest, time.Since(start))
			requests++
		}
		most = max(most, w.metric(t, "connections_open"))
		select {
		case err := <-ended:
			require.NoError(t, err)
			left--
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Logf("%d requests, the slowest took %s; up to %d connections at a time", requests, slowest, most)
	require.Greater(t, requests, 10*seconds)
	require.Less(t, slowest, 3*time.Second)
	require.Greater(t, most, 300)
	require.NotZero(t, w.metric(t, "timeouts_total"), "those whose head takes too long were told")
}

package http1

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func parsed(t testing.TB, text string) (*head, *Error) {
	t.Helper()
	h := new(head)
	return h, h.parseRequest([]byte(strings.ReplaceAll(text, "\n", "\r\n")), &headLimits{})
}

func TestParseRequest(t *testing.T) {
	h, err := parsed(t, "GET /where?q=now&x=%2f HTTP/1.1\nHost: www.example.com\nUser-Agent:curl/7.16.3  \nX:\nx:\t a\tb \xff \n")
	require.Nil(t, err)
	require.Equal(t, "GET", h.method)
	require.Equal(t, "/where?q=now&x=%2f", string(h.slice(h.target)))
	require.Equal(t, "/where", string(h.slice(h.path)))
	require.Equal(t, "q=now&x=%2f", string(h.slice(h.query)))
	require.Equal(t, "www.example.com", string(h.slice(h.host)))
	require.EqualValues(t, 1, h.minor)
	require.Equal(t, "curl/7.16.3", string(h.Get("user-agent")))
	require.Equal(t, map[string][]string{"Host": {"www.example.com"}, "User-Agent": {"curl/7.16.3"}, "X": {"", "a\tb \xff"}},
		map[string][]string(h.Header()))
	var values []string
	for v := range h.Values("x") {
		values = append(values, string(v))
	}
	require.Equal(t, []string{"", "a\tb \xff"}, values)

	h, err = parsed(t, "\nOPTIONS HTTPS://[::1]:8080?a HTTP/1.1\nhost: other\nconnection: Close ,TE,, upgrade\n")
	require.Nil(t, err)
	require.Equal(t, "[::1]:8080", string(h.slice(h.host)))
	require.Empty(t, h.slice(h.path))
	require.Equal(t, "a", string(h.slice(h.query)))
	require.Equal(t, hasConnection|saysClose|saysUpgrade, h.known)
	require.True(t, h.HasToken("CONNECTION", "te"))
	require.False(t, h.HasToken("CONNECTION", "t"))
}

func TestParseAllocations(t *testing.T) {
	block := []byte("GET /where?q=now HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/7.16.3\r\nConnection: keep-alive\r\n")
	h, l := new(head), new(headLimits)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if h.parseRequest(block, l) != nil || h.Get("user-agent") == nil {
			t.Fail()
		}
	}))
}

func TestParseResponse(t *testing.T) {
	h := new(head)
	require.Nil(t, h.parseResponse([]byte("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n"), new(headLimits)))
	require.Equal(t, 404, h.status)
	require.Equal(t, "Not Found", string(h.slice(h.reason)))
	f, err := h.responseFraming("GET")
	require.Nil(t, err)
	require.Equal(t, lengthBody, f)
	f, err = h.responseFraming("HEAD")
	require.Nil(t, err)
	require.Equal(t, noBody, f)
	require.Nil(t, h.parseResponse([]byte("HTTP/1.0 200\r\n"), new(headLimits)))
	for _, wrong := range []string{"HTTP/1.1 20\r\n", "HTTP/1.1 099 x\r\n", "HTTP/1.1200 x\r\n", "HTTP/1.1 2000\r\n", "HTTP/2.0 200 OK\r\n", "HTTP/1.1 200 a\x00\r\n", "ICY 200 OK\r\n"} {
		require.NotNil(t, h.parseResponse([]byte(wrong), new(headLimits)), wrong)
	}
}

func TestChunkSize(t *testing.T) {
	for _, x := range []struct {
		line string
		size int64
		ext  int
	}{
		{"0", 0, 0}, {"a", 10, 0}, {"F0", 240, 0}, {"000000000000000a", 10, 0}, {"7fffffffffffffff", 1<<63 - 1, 0},
		{"5;a", 5, 2}, {`5 ; a = "b\"c;` + "\t" + `" ;d=e`, 5, 20}, {`5;a="` + "\xff" + `"`, 5, 6},
	} {
		size, ext, err := chunkSize([]byte(x.line))
		require.Nil(t, err, x.line)
		require.Equal(t, x.size, size, x.line)
		require.Equal(t, x.ext, ext, x.line)
	}
	for _, line := range []string{"", "0x5", "+5", "-5", "_5", `""`, "g", " 5", "5 ", "5 5", "00000000000000005", "8000000000000000", "5\n", "5;", "5;=a", "5;a=",
		"5;a\nb", "5;a=\"\n\"", "5;a=\"\x00\"", "5;a=\"", "5;a b", "5;a\rb", "5;a=\"b\"c", "5;a=\"\\"} {
		_, _, err := chunkSize([]byte(line))
		require.NotNil(t, err, "%q", line)
	}
}

func TestValueEnd(t *testing.T) {
	for n := range 40 {
		for b := range 256 {
			p := []byte(strings.Repeat("a", n) + string([]byte{byte(b)}) + strings.Repeat("b", 20) + "\r\n")
			want := n + 21
			if b < 0x20 && b != '\t' || b == 0x7f {
				want = n
			}
			require.Equal(t, want, valueEnd(p, 0), "%d %x", n, b)
		}
	}
}

func TestNameEnd(t *testing.T) {
	for n := range 20 {
		for b := range 256 {
			p := []byte(strings.Repeat("-z", n)[:n] + string([]byte{byte(b)}) + strings.Repeat("aZ-9", 5) + ":")
			want := n + 21
			if !isToken.at(byte(b)) {
				want = n
			}
			require.Equal(t, want, nameEnd(p, 0), "%d %x", n, b)
			require.Equal(t, want, nameEnd(append(p, " value\r\n"...), 0), "%d %x", n, b)
		}
	}
}

func BenchmarkParseRequest(b *testing.B) {
	for name, text := range map[string]string{
		"wrk":     "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n",
		"browser": "GET /wiki/Main_Page?x=1 HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\nCache-Control: max-age=0\r\nUpgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			block, h, l := []byte(text), new(head), new(headLimits)
			b.SetBytes(int64(len(block)))
			for b.Loop() {
				if err := h.parseRequest(block, l); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

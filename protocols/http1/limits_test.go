package http1_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// The defaults are those that the documentation names: what is at the bound is answered, one octet more is not.
func TestDefaultLimits(t *testing.T) {
	request := func(line, fields, body string) string { return line + "\r\nHost: a\r\n" + fields + "\r\n" + body }
	chunked := func(body string) string { return request("POST / HTTP/1.1", "Transfer-Encoding: chunked\r\n", body) }
	fill := func(n int, form string) string { return fmt.Sprintf(form, strings.Repeat("x", n-len(form)+2)) }
	body := func(n int) string { // who says too much hears of it before the rest
		if n > 10<<20 {
			n = 1000
		}
		return strings.Repeat("x", n)
	}
	for name, x := range map[string]struct {
		limit  int
		says   func(n int) string
		status int
	}{
		"RequestLine": {8192, func(n int) string { return request(fill(n, "GET /%s HTTP/1.1"), "", "") }, 414},
		"FieldLine":   {16 << 10, func(n int) string { return request("GET / HTTP/1.1", fill(n, "X: %s")+"\r\n", "") }, 431},
		"Fields":      {200, func(n int) string { return request("GET / HTTP/1.1", strings.Repeat("X: y\r\n", n-1), "") }, 431},
		"FieldBytes": {64 << 10, func(n int) string {
			fields := strings.Repeat(fill(998, "X: %s")+"\r\n", 64)
			return request("GET / HTTP/1.1", fields+fill(n-len("Host: a\r\n\r\n")-len(fields), "X: %s")+"\r\n", "")
		}, 431},
		"ChunkLine": {256, func(n int) string { return chunked(fill(n, "1;%s") + "\r\nx\r\n0\r\n\r\n") }, 400},
		"ChunkExtensions": {16 << 10, func(n int) string {
			return chunked(strings.Repeat(fill(129, "1;%s")+"\r\nx\r\n", n/128) + strings.Repeat("1;x\r\nx\r\n", n%128) + "0\r\n\r\n")
		}, 400},
		"Trailers": {8 << 10, func(n int) string { return chunked("0\r\n" + fill(n-2, "X: %s") + "\r\n\r\n") }, 431},
		"Body": {10 << 20, func(n int) string {
			return request("POST / HTTP/1.1", fmt.Sprintf("Content-Length: %d\r\n", n), body(n))
		}, 413},
		"Body in chunks": {10 << 20, func(n int) string {
			return chunked(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", n, body(n)))
		}, 413},
	} {
		t.Run(name, func(t *testing.T) {
			for more, status := range []int{200, x.status} {
				s := newScene(t, handle(func(w *http1.ResponseWriter, r *http1.Request) error {
					return r.OnBody(func([]byte, bool) error { return nil })
				}), sim.Config{Window: 1 << 20, Untraced: true})
				s.p.Say(x.says(x.limit + more))
				s.Settle()
				require.Regexp(t, fmt.Sprintf("^HTTP/1.1 %d ", status), s.p.Read(), "%d more", more)
			}
		})
	}
}

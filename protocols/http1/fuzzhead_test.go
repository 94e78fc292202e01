package http1

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

var fuzzLimits = headLimits{startLine: 100, fieldLine: 100, all: 500, fields: 20}

// FuzzHead: whatever a head consists of, parsing it does not panic, and what is accepted has nothing in it that could be
// read in another way.
func FuzzHead(f *testing.F) {
	for _, block := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n", "\r\nGET http://a/?b HTTP/1.0\r\nX:\t\xff \r\nConnection: close, x\r\n",
		"OPTIONS * HTTP/1.1\r\nHost:\r\nTransfer-Encoding: a, chunked\r\n", "CONNECT [::1]:80 HTTP/1.1\r\nHost: a:\r\nContent-Length: 5\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", "HTTP/1.0 999\r\n", "X: y\r\nZ: \r\n",
	} {
		f.Add([]byte(block))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		block = append(block, "\r\n"...)
		for what, parse := range []func(*head) *Error{
			func(h *head) *Error { return h.parseRequest(block, &fuzzLimits) },
			func(h *head) *Error { return h.parseResponse(block, &fuzzLimits) },
			func(h *head) *Error { return h.parseTrailers(block, &fuzzLimits) },
		} {
			h := new(head)
			err := parse(h)
			if what == 0 {
				_, first := prescan(block, 0, 0, &fuzzLimits)
				if err == nil {
					require.Nil(t, first, "%q", block)
				}
				// What prescan says does not depend on the cuts.
				line, cut := 0, (*Error)(nil)
				for i := 1; i <= len(block) && cut == nil; i++ {
					line, cut = prescan(block[:i], line, i-1, &fuzzLimits)
				}
				require.Equal(t, first, cut, "%q", block)
			}
			if err != nil {
				require.GreaterOrEqual(t, err.Status, 400)
				require.NotEmpty(t, err.text())
				continue
			}
			require.Zero(t, bytes.Count(block, []byte("\n"))-bytes.Count(block, []byte("\r\n")))
			require.NotContains(t, string(block), "\x00")
			require.LessOrEqual(t, h.Len(), fuzzLimits.fields)
			for name, value := range h.All() {
				require.Equal(t, len(name), tokenLen(name))
				require.NotEmpty(t, name)
				require.True(t, validValue(value))
				require.Equal(t, value, trim(value))
			}
			switch what {
			case 0:
				require.LessOrEqual(t, h.hosts, uint8(1))
				require.True(t, validHost(h.slice(h.host)))
				require.NotContains(t, string(h.slice(h.target)), " ")
				f, err := h.requestFraming()
				require.True(t, err != nil || f == noBody || f == lengthBody && h.length >= 0 || f == chunkedBody && h.length < 0)
			case 1:
				_, _ = h.responseFraming("GET")
			}
		}
	})
}

// FuzzChunkSize: what is accepted is a number, and extensions in which nothing can end a line.
func FuzzChunkSize(f *testing.F) {
	for _, line := range []string{"0", "5;a=b", "1f ; x = \"\\\"\"", "7fffffffffffffff", "5\n"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		size, extensions, err := chunkSize(line)
		if err != nil {
			return
		}
		require.GreaterOrEqual(t, size, int64(0))
		require.False(t, bytes.ContainsAny(line, "\r\n\x00"), "%q", line)
		want, failed := strconv.ParseInt(string(line[:len(line)-extensions]), 16, 64)
		require.NoError(t, failed)
		require.Equal(t, want, size)
	})
}

package smoke

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file of 2 GB, most of which is a hole, goes out by sendfile: the server's memory grows by less than 1 MB.
func TestHTTPDLargeFile(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "large"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(2<<30))
	require.NoError(t, f.Close())
	p, addr := serve(t, "httpd", "-root", dir)
	get := func(ranges string) {
		req, err := http.NewRequest("GET", "http://"+addr+"/large", nil)
		require.NoError(t, err)
		req.Header.Set("Range", ranges)
		a, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer a.Body.Close()
		require.Equal(t, http.StatusPartialContent, a.StatusCode)
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, a.Body, make([]byte, 1<<20))
		require.NoError(t, err)
		require.Equal(t, a.ContentLength, n)
	}
	rss := func() (kb int) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		require.NoError(t, err)
		_, rest, ok := strings.Cut(string(status), "\nVmRSS:")
		require.True(t, ok)
		_, err = fmt.Sscan(rest, &kb)
		require.NoError(t, err)
		return kb
	}
	get("bytes=0-1000000") // what the first request of its kind needs
	before := rss()
	get("bytes=0-2147483647")
	grown := rss() - before
	t.Logf("%d kB before, %d more after", before, grown)
	require.Less(t, grown, 1000)
	http.DefaultClient.CloseIdleConnections()
}

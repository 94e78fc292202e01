//go:build unix

package chat_test

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
)

// A shutdown waits until a slow reader has taken what was pushed to a conversation of two files: the channel that waits
// for room in the output must not close before it.
func TestFilesConnShutdownFlushes(t *testing.T) {
	l, err := core.NewLoop(core.Options{})
	require.NoError(t, err)
	defer l.Close()
	in, typed, err := os.Pipe()
	require.NoError(t, err)
	defer in.Close()
	defer typed.Close()
	shown, out, err := os.Pipe()
	require.NoError(t, err)
	defer shown.Close()
	text := strings.Repeat("0123456789abcdef", 32<<10) // more than a pipe holds
	_, err = chat.FilesConn(l, in, out, func(c *chat.Conn) chat.Handler {
		require.NoError(t, c.PushString(text))
		return chat.Lines(func(*chat.Conn, []byte) error { return nil })
	})
	require.NoError(t, err)
	require.NoError(t, out.Close())
	for range 3 { // until the pipe is full
		_, err = l.Step(0)
		require.NoError(t, err)
	}
	l.Shutdown(time.Minute)
	_, err = l.Step(0)
	require.NoError(t, err)
	read := make(chan string)
	go func() {
		p, _ := io.ReadAll(shown)
		read <- string(p)
	}()
	require.NoError(t, l.Run(t.Context()))
	require.Equal(t, len(text), len(<-read))
}

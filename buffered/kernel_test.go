package buffered_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
)

// A12 test_send on real sockets: a plain server gets what was written right after the connect, before the connection is
// there, and nothing else; then nothing is queued any more.
func TestA12Send(t *testing.T) {
	const data = "Suppose there isn't a 16-ton weight?"
	for _, backend := range core.Backends() {
		t.Run(backend, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer ln.Close()
			l, err := core.NewLoop(core.Options{Backend: backend, Strict: true})
			require.NoError(t, err)
			defer l.Close()
			h := &handler{}
			d, err := buffered.Dial(l, "tcp", ln.Addr().String(), h)
			require.NoError(t, err)
			for _, s := range []string{data, data, "\n"} {
				n, err := io.WriteString(d, s)
				require.NoError(t, err)
				require.Equal(t, len(s), n)
			}
			require.Equal(t, 2*len(data)+1, d.Queued())
			want := data + data + "\n"
			server := make(chan string, 1)
			go func() {
				c, err := ln.Accept()
				if err != nil {
					server <- err.Error()
					return
				}
				got := make([]byte, len(want))
				n, _ := io.ReadFull(c, got)
				_ = c.(*net.TCPConn).CloseWrite()
				rest, _ := io.ReadAll(c) // to the end of the client's stream
				_ = c.Close()
				server <- string(got[:n]) + string(rest)
			}()
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			require.NoError(t, l.Run(ctx))
			require.Zero(t, d.Queued())
			require.Equal(t, []string{"connect", "close EOF"}, h.log)
			require.Equal(t, want, <-server)
		})
	}
}

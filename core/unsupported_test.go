//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package core_test

import (
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// Where there is no back end, the operating system's side answers ErrUnsupported, and the simulated network works.
func TestUnsupportedPlatform(t *testing.T) {
	require.Empty(t, core.Backends())
	for _, name := range []string{"", "auto", "select", "poll", "epoll", "kqueue"} {
		_, err := core.NewLoop(core.Options{Backend: name})
		require.ErrorIs(t, err, core.ErrUnsupported, name)
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	_, err := core.Adopt(near)
	require.ErrorIs(t, err, core.ErrUnsupported)
	_, err = core.FileSocket(os.Stdin)
	require.ErrorIs(t, err, core.ErrUnsupported)
	_, err = core.Inherited(true)
	require.ErrorIs(t, err, core.ErrUnsupported)

	w, l := simLoop(t, sim.Config{}, core.Options{})
	h := &logged{}
	_, p := attach(t, w, l, h)
	p.Say("x")
	w.Settle()
	require.Equal(t, []string{"read x"}, h.log)
}

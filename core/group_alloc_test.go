//go:build !race

package core

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A post between loops allocates nothing by itself.
func TestPostToAllocatesNothing(t *testing.T) {
	g, _ := spiedGroup(t, 2)
	from, to := g.loops[0], g.loops[1]
	f := func() {}
	post := func() {
		for range 10 {
			from.PostTo(to, f)
		}
	}
	require.Zero(t, testing.AllocsPerRun(200, func() {
		from.Post(post)
		_, _ = from.Step(0)
		_, _ = to.Step(0)
	}))
}

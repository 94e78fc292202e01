package core

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestYieldHabit(t *testing.T) {
	var y yieldHabit
	wakeUps := func() (n int) { // until it yields
		for n = 1; !y.due(); n++ {
		}
		return n
	}
	for range 3 {
		require.Equal(t, yieldProbe, wakeUps(), "nothing was ever gained: it is tried now and then")
		y.done(false)
	}
	require.Equal(t, yieldProbe, wakeUps())
	y.done(true)
	for range 3 { // each gain counts anew
		for range yieldCredit - 1 {
			require.Equal(t, 1, wakeUps())
			y.done(false)
		}
		require.Equal(t, 1, wakeUps())
		y.done(true)
	}
	for range yieldCredit {
		require.Equal(t, 1, wakeUps())
		y.done(false)
	}
	require.Equal(t, yieldProbe, wakeUps(), "so many times in succession without a gain")
}

// Whether it yields or not, each event is reported once, and a wake-up alone is none.
func TestEventsBehindAYield(t *testing.T) {
	opened, err := newEpoll()
	require.NoError(t, err)
	defer func() { require.NoError(t, opened.Close()) }()
	p := opened.(*epoll)
	near, far := sockets(t)
	require.NoError(t, p.Add(near, 7, Read))
	_, err = far.Send([]byte("x"))
	require.NoError(t, err)
	for _, credit := range []int{0, yieldCredit, 1} {
		p.yield = yieldHabit{credit: credit}
		got, err := wait(p, 10*time.Second)
		require.NoError(t, err)
		require.Equal(t, []Ready{{ID: 7, Got: Read}}, got)
		require.Equal(t, max(credit-1, 0), p.yield.credit, "there was nothing to gain")
	}
	_, err = near.Recv(make([]byte, 1))
	require.NoError(t, err)
	p.yield = yieldHabit{credit: 1}
	require.NoError(t, p.Wake())
	got, err := wait(p, 10*time.Second)
	require.NoError(t, err)
	require.Empty(t, got)
	require.Zero(t, p.yield.credit)
}

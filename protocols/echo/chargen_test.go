package echo_test

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/echo"
)

// ringLine is line n as RFC 864 describes it under "Data Syntax".
func ringLine(n int) string {
	var ring string
	for c := ' '; c <= '~'; c++ {
		ring += string(c)
	}
	ring += ring
	first := n % 95
	return ring[first:first+72] + "\r\n"
}

// RFC 864, "Data Syntax": after line 94, which begins with the last character of the ring, comes line 0 again, and so on.
func TestChargenPattern(t *testing.T) {
	_, _, peer, _ := serve(t, sim.Config{MaxRecv: 1000, Window: 777}, echo.Chargen(-1))
	for n := range 3 * 95 {
		require.Equal(t, ringLine(n), peer.WantLine(), "line %d", n)
	}
	peer.Close()
}

// RFC 864: "The data flow over the connection is limited by the normal TCP flow control mechanisms". What is made is what
// the peer takes, and one block.
func TestChargenMakesNothingAhead(t *testing.T) {
	const window = 1000
	w, c, peer, h := serve(t, sim.Config{Window: window}, echo.Chargen(-1))
	peer.Stall(true)
	w.Settle()
	require.Equal(t, uint64(window), c.Loop().Stats().BytesOut)
	block := c.Queued()
	require.Less(t, block, 95*74, "the rest of the block")

	peer.Take(95 * 74)
	w.Settle()
	require.Equal(t, uint64(window+95*74), c.Loop().Stats().BytesOut)
	require.LessOrEqual(t, c.Queued(), 95*74)

	// Who takes nothing any more is idle.
	w.Advance(echo.DefaultIdleTimeout + time.Second)
	require.ErrorIs(t, h.cause, core.ErrTimeout)
}

// RFC 864: "any data received is thrown away", and it does not disturb what is sent.
func TestChargenThrowsInputAway(t *testing.T) {
	w, c, peer, _ := serve(t, sim.Config{Window: 4 << 10}, echo.Chargen(-1))
	peer.Say(strings.Repeat("enough\r\n", 10_000))
	for n := range 5000 {
		require.Equal(t, ringLine(n), peer.WantLine())
	}
	peer.Stall(true)
	w.Settle()
	require.Equal(t, uint64(80_000), c.Loop().Stats().BytesIn)
	peer.Reset()
}

// RFC 864: "The service should be prepared for either the carefull close or the rude abort."
func TestChargenEnds(t *testing.T) {
	for _, test := range []struct {
		name  string
		end   func(*core.Loop, *sim.Peer)
		cause error
	}{
		{"careful close", func(_ *core.Loop, p *sim.Peer) { p.CloseWrite() }, io.EOF},
		{"rude abort", func(_ *core.Loop, p *sim.Peer) { p.Reset() }, syscall.ECONNRESET},
		{"shutdown", func(l *core.Loop, _ *sim.Peer) { l.Shutdown(time.Second) }, core.ErrShutdown},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, c, peer, h := serve(t, sim.Config{Window: 100}, echo.Chargen(-1))
			peer.Want(ringLine(0) + ringLine(1))
			peer.Stall(true)
			w.Settle()
			test.end(c.Loop(), peer)
			w.Settle()
			peer.Stall(false)
			w.Settle()
			require.Equal(t, 1, h.times)
			require.ErrorIs(t, h.cause, test.cause)
			rest := peer.Read()
			require.LessOrEqual(t, len(rest), 95*74+100, "no more than the block under way")
			if test.cause != syscall.ECONNRESET {
				require.True(t, peer.Ended())
				require.NoError(t, peer.Err())
				require.True(t, strings.HasPrefix(rest, ringLine(2)))
			}
		})
	}
}

// A peer that has ended its own stream and does not read the rest either is not waited for without end.
func TestChargenCarefulCloseHasADeadline(t *testing.T) {
	w, _, peer, h := serve(t, sim.Config{Window: 100}, echo.Chargen(-1))
	peer.Stall(true)
	peer.CloseWrite()
	w.Settle()
	require.Zero(t, h.times)
	w.Advance(time.Minute)
	require.ErrorIs(t, h.cause, core.ErrTimeout)
}

// The limit holds for a slow reader, too: it is not the close timeout that ends him.
func TestChargenLimitForASlowReader(t *testing.T) {
	const limit = 10 * 74
	w, _, peer, h := serve(t, sim.Config{Window: 74}, echo.Chargen(limit))
	peer.Stall(true)
	for range 20 {
		w.Advance(time.Minute)
		peer.Take(37)
	}
	peer.Stall(false)
	for n := range 10 {
		peer.Want(ringLine(n))
	}
	peer.WantClosed()
	peer.Close()
	w.Settle()
	require.NoError(t, h.cause)
	require.Equal(t, 1, h.times)
}

// Unless told otherwise a connection is sent DefaultChargenLimit bytes.
func TestChargenDefaultLimit(t *testing.T) {
	_, _, _, h := serve(t, sim.Config{}, echo.Chargen(0))
	producer := h.Handler.(buffered.Producer)
	total := 0
	for {
		block, err := producer.More(1 << 20)
		total += len(block)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
	}
	require.Equal(t, echo.DefaultChargenLimit, total)
}

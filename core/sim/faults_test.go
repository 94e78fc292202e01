package sim

import (
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
)

// The faults of a world happen as often as its Config says: a test that stands on one would not notice if they did not.

func TestInterrupt(t *testing.T) {
	w := New(Config{T: t, Interrupt: 1})
	p, err := (&system{w}).NewPoller("")
	require.NoError(t, err)
	_, err = p.Wait(time.Second, nil)
	require.Equal(t, syscall.EINTR, err)
	require.Less(t, w.Elapsed(), time.Second, "somewhere within the wait")

	n := 0
	w.c.Interrupt = 0.5
	for range 1000 {
		if _, err := p.Wait(0, nil); err == syscall.EINTR {
			n++
		}
	}
	require.InDelta(t, 500, n, 100)
}

// readCounter counts the reads that find nothing.
type readCounter struct{ data, nothing int }

func (r *readCounter) HandleRead(d *core.Dispatcher) error {
	p, err := d.RecvShared()
	r.data += len(p)
	if err == core.ErrWouldBlock {
		r.nothing++
	}
	return err
}

func TestReadinessThatDoesNotHold(t *testing.T) {
	for _, x := range []struct {
		c         Config
		low, high int
	}{
		{Config{}, 0, 0}, {Config{Again: 0.5}, 50, 150}, {Config{Spurious: 0.5}, 30, 1000},
	} {
		x.c.T = t
		w := New(x.c)
		l := w.Loop(core.Options{})
		r := &readCounter{}
		s, p := w.Pair()
		_, err := core.Attach(l, s, r)
		require.NoError(t, err)
		other, q := w.Pair() // one that is ready while the first is not
		_, err = core.Attach(l, other, &readCounter{})
		require.NoError(t, err)
		for range 100 {
			p.Say("x")
			w.Settle()
			q.Say("x")
			w.Settle()
		}
		require.Equal(t, 100, r.data, "%+v", x.c)
		require.GreaterOrEqual(t, r.nothing, x.low, "%+v", x.c)
		require.LessOrEqual(t, r.nothing, x.high, "%+v", x.c)
	}

	// A send, and an accept.
	w := New(Config{T: t, Again: 1})
	l := w.Loop(core.Options{})
	s, p := w.Pair()
	var log []string
	_, err := core.Attach(l, s, &core.Funcs{
		Read: func(d *core.Dispatcher) error { d.WantRead(false); d.WantWrite(true); return nil },
		Write: func(d *core.Dispatcher) error {
			for range 2 {
				_, err := d.Send([]byte("x"))
				log = append(log, fmt.Sprint(err))
			}
			return d.Close()
		},
	})
	require.NoError(t, err)
	p.Say("go")
	w.Settle()
	require.Equal(t, []string{core.ErrWouldBlock.Error(), "<nil>"}, log, "the first call alone")
	ln, err := w.listen("tcp", "server:1", 0)
	require.NoError(t, err)
	ln.queue = append(ln.queue, w.newConn("tcp", address{}, address{}))
	ln.lie = core.Read
	_, err = ln.Accept()
	require.Equal(t, core.ErrWouldBlock, err)
	_, err = ln.Accept()
	require.NoError(t, err)
}

// What is ready at once comes in any order, which the seed picks.
func TestOrderIsTheSeeds(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(60) {
		w := New(Config{T: t, Seed: seed})
		l := w.Loop(core.Options{})
		order := ""
		for _, name := range []string{"a", "b", "c"} {
			s, p := w.Pair()
			d, err := core.Attach(l, s, &core.Funcs{Read: func(d *core.Dispatcher) error {
				order += name
				if _, err := d.RecvShared(); err != io.EOF {
					return err
				}
				return d.Close()
			}})
			require.NoError(t, err)
			d.WantRead(false)
			p.Say("x")
		}
		w.Settle()
		for d := range l.All() {
			d.WantRead(true)
		}
		w.Settle()
		seen[order]++
	}
	require.Len(t, seen, 6, "%v", seen)
}

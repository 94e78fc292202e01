package buffered_test

import (
	"bytes"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
)

// A message goes out as it is, in one send, and nothing of it is kept.
func TestSharedIsSentFromWhereItLies(t *testing.T) {
	text := []byte("hello, all\r\n")
	m := buffered.NewShared(text)
	text[0] = 'X' // a copy was made
	var sends [][]byte
	p := &keeping{sends: &sends}
	outputs := make([]buffered.Output, 3)
	for i := range outputs {
		require.NoError(t, outputs[i].PushShared(p, m))
		require.Equal(t, m.Len(), outputs[i].Len())
		require.False(t, outputs[i].Empty())
	}
	require.Equal(t, 4, m.Refs())
	for i := range outputs {
		require.NoError(t, outputs[i].Flush(p))
		require.True(t, outputs[i].Empty())
	}
	require.Len(t, sends, 3)
	for _, s := range sends {
		require.Equal(t, "hello, all\r\n", string(s))
		require.Same(t, &m.Bytes()[0], &s[0], "not a copy")
	}
	require.Equal(t, 1, m.Refs())
	require.Zero(t, p.lent)
	m.Release()
}

// keeping is a pipe that keeps the very slices that it is to send.
type keeping struct {
	pipe
	sends *[][]byte
}

func (k *keeping) Send(b []byte) (int, error) {
	*k.sends = append(*k.sends, b)
	return len(b), nil
}

// Messages of one event go out together, also with what is pushed between them.
func TestSharedAreGathered(t *testing.T) {
	p := &pipe{room: -1}
	var o buffered.Output
	a, b := buffered.NewShared([]byte("a")), buffered.NewShared([]byte("b"))
	require.NoError(t, o.PushShared(p, a))
	require.NoError(t, o.PushString(p, "1"))
	require.NoError(t, o.Flush(p))
	require.Equal(t, 1, p.sends)
	for range 50 {
		require.NoError(t, o.PushShared(p, a))
		require.NoError(t, o.PushShared(p, b))
	}
	require.NoError(t, o.Flush(p))
	require.Equal(t, "a1"+strings.Repeat("ab", 50), p.sent.String())
	require.LessOrEqual(t, p.sends, 3, "within an event the references are bounded, too")
	require.Equal(t, []int{1, 1}, []int{a.Refs(), b.Refs()})
	require.Zero(t, p.lent)
}

// A slow peer's output keeps long messages by reference and copies short ones. Either counts for the marks and the limit.
func TestSharedOfASlowPeer(t *testing.T) {
	p := &pipe{}
	var o buffered.Output
	o.SetMarks(&buffered.Marks{Low: 100, High: 1000, Limit: 5000})
	short := buffered.NewShared(bytes.Repeat([]byte("s"), buffered.SharedMin-1))
	long := buffered.NewShared(bytes.Repeat([]byte("l"), buffered.SharedMin))
	require.NoError(t, o.PushShared(p, short))
	require.NoError(t, o.Flush(p))
	require.True(t, o.Blocked())
	require.Equal(t, 1, short.Refs())
	for range 4 {
		require.NoError(t, o.PushShared(p, long))
		require.NoError(t, o.PushShared(p, short))
		require.NoError(t, o.Flush(p))
	}
	require.Equal(t, 1, short.Refs())
	require.Equal(t, 5, long.Refs())
	require.Equal(t, 5*short.Len()+4*long.Len(), o.Len())
	require.Equal(t, buffered.Rose, o.Level())
	for o.Len()+long.Len() <= 5000 {
		require.NoError(t, o.PushShared(p, long))
	}
	was, refs := o.Len(), long.Refs()
	require.ErrorIs(t, o.PushShared(p, long), core.ErrOverflow)
	require.Equal(t, []int{was, refs}, []int{o.Len(), long.Refs()}, "nothing of it is queued")

	p.room = short.Len() + 10 // in the midst of a long one
	o.Writable()
	require.NoError(t, o.Flush(p))
	require.Equal(t, refs, long.Refs())
	p.room = -1
	o.Writable()
	require.NoError(t, o.Flush(p))
	require.Equal(t, buffered.Fell, o.Level())
	require.Equal(t, 1, long.Refs())
	require.Equal(t, was, p.sent.Len())
	text := p.sent.String()
	require.True(t, strings.HasPrefix(text, strings.Repeat("s", short.Len())+strings.Repeat("l", long.Len())+"s"))
}

// Whatever ends an output gives its references back.
func TestSharedIsReleased(t *testing.T) {
	for _, size := range []int{1, buffered.SharedMin, 100_000} {
		for name, end := range map[string]func(p *pipe, o *buffered.Output){
			"discard": func(p *pipe, o *buffered.Output) { o.Discard(p) },
			"failure": func(p *pipe, o *buffered.Output) {
				p.err = syscall.EPIPE
				o.Writable()
				require.ErrorIs(t, o.Flush(p), syscall.EPIPE)
			},
			"take": func(p *pipe, o *buffered.Output) {
				b, ok := o.Take(p)
				require.True(t, ok)
				require.Zero(t, len(b)%size)
			},
		} {
			for _, flushed := range []bool{false, true} {
				for pushes := 1; pushes <= 3; pushes++ {
					p := &pipe{}
					var o buffered.Output
					m := buffered.NewShared(make([]byte, size))
					for range pushes {
						require.NoError(t, o.PushShared(p, m))
					}
					if flushed {
						require.NoError(t, o.Flush(p))
					}
					end(p, &o)
					require.Equal(t, 1, m.Refs(), "%s of %d", name, size)
					require.True(t, o.Empty())
					require.Zero(t, p.lent)
					m.Release()
				}
			}
		}
	}
	var o buffered.Output
	m := buffered.NewShared([]byte("x"))
	o.Close()
	require.ErrorIs(t, o.PushShared(&pipe{}, m), core.ErrClosed)
	require.NoError(t, new(buffered.Output).PushShared(&pipe{}, buffered.NewShared(nil)), "nothing is nothing")
	require.Equal(t, 1, m.Refs())
	m.Retain()
	m.Release()
	m.Release()
	require.Panics(t, m.Release)
}

// A message above the high mark is on its way out before the mark is looked at.
func TestSharedAboveTheHighMark(t *testing.T) {
	p := &pipe{room: -1}
	var o buffered.Output
	m := buffered.NewShared(make([]byte, 100_000))
	require.NoError(t, o.PushShared(p, m))
	over, err := o.Relieve(p)
	require.NoError(t, err)
	require.False(t, over)
	require.NoError(t, o.PushShared(p, m))
	require.NoError(t, o.PushShared(p, m))
	require.NoError(t, o.PushString(p, strings.Repeat("x", 70_000)))
	require.Equal(t, 370_000, p.sent.Len())
	require.Equal(t, 1, m.Refs())
}

// Long messages go out from where they lie, several in one call if the transport can; so do a head and a long body.
func TestSendVector(t *testing.T) {
	for _, vectors := range []bool{true, false} {
		p := &pipe{vectors: vectors, room: 50_000}
		var o buffered.Output
		m := buffered.NewShared(bytes.Repeat([]byte("m"), 10_000))
		for range 40 {
			require.NoError(t, o.PushShared(p, m))
		}
		require.NoError(t, o.Flush(p))
		require.True(t, o.Blocked())
		require.Equal(t, 350_000, o.Len())
		p.room, p.sends = -1, 0
		for !o.Empty() {
			o.Writable()
			require.NoError(t, o.Flush(p))
		}
		require.Equal(t, strings.Repeat("m", 400_000), p.sent.String())
		if vectors {
			require.LessOrEqual(t, p.sends, 5)
		}
		require.Equal(t, 1, m.Refs())

		for _, room := range []int{-1, 0, 3, 4, 5, 100_000} {
			p := &pipe{vectors: vectors, room: room}
			require.NoError(t, o.PushString(p, "head"))
			body := strings.Repeat("b", 200_000)
			require.NoError(t, o.PushString(p, body))
			require.NoError(t, o.PushString(p, "tail"))
			sends := p.sends
			p.room = -1
			for !o.Empty() {
				o.Writable()
				require.NoError(t, o.Flush(p))
			}
			require.Equal(t, "head"+body+"tail", p.sent.String())
			if vectors {
				require.Equal(t, 1, sends)
			}
			require.Zero(t, p.lent)
		}
		o = buffered.Output{}
		bad := &pipe{vectors: vectors, err: syscall.EPIPE}
		require.NoError(t, o.PushString(bad, "head"))
		require.ErrorIs(t, o.PushString(bad, strings.Repeat("b", 200_000)), syscall.EPIPE)
		require.Zero(t, bad.lent)
	}
}

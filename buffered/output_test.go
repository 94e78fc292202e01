package buffered_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
)

// pipe is a transport that takes as much as it is told to.
type pipe struct {
	room  int // negative: everything
	err   error
	sent  bytes.Buffer
	sends int
	lent  int

	vectors bool // it takes several pieces in one call
}

func (p *pipe) Send(b []byte) (int, error) {
	p.sends++
	if p.err != nil {
		return 0, p.err
	}
	n := len(b)
	if p.room >= 0 {
		n = min(n, p.room)
		p.room -= n
	}
	if n == 0 {
		return 0, core.ErrWouldBlock
	}
	p.sent.Write(b[:n])
	return n, nil
}

func (p *pipe) SendVector(pieces [][]byte) (int, error) {
	if !p.vectors {
		return 0, core.ErrUnsupported
	}
	if len(pieces) > core.MaxVector {
		panic("too many pieces")
	}
	for _, b := range pieces {
		if len(b) == 0 {
			panic("an empty piece")
		}
	}
	return p.Send(bytes.Join(pieces, nil))
}

func (p *pipe) SendFile(*os.File, int64, int) (int, error) { return 0, core.ErrUnsupported }

func (p *pipe) Borrow(n int) []byte {
	p.lent++
	if n <= core.SmallBuffer {
		return make([]byte, 0, core.SmallBuffer)
	}
	return make([]byte, 0, max(n, core.LargeBuffer))
}

func (p *pipe) GiveBack(b []byte) {
	p.lent--
	for i := range b[:cap(b)] { // a queue that goes on using it is found out
		b[:cap(b)][i] = core.Poison
	}
}

// Many pushes of one event are one send, and the buffer that they lay in is given back.
func TestPushesAreGathered(t *testing.T) {
	p := &pipe{room: -1}
	var o buffered.Output
	for i := range 100 {
		require.NoError(t, o.Push(p, []byte(fmt.Sprint(i))))
		require.NoError(t, o.PushString(p, ","))
		require.NoError(t, o.Push(p, nil), "nothing is nothing")
	}
	require.Zero(t, p.sends)
	require.NoError(t, o.Flush(p))
	require.Equal(t, 1, p.sends)
	require.Zero(t, p.lent)
	require.True(t, o.Empty())
	require.True(t, strings.HasPrefix(p.sent.String(), "0,1,2,"))
	require.NoError(t, o.Flush(p))
	require.Equal(t, 1, p.sends, "no empty sends")
}

// Push copies: what the caller does to its slice afterwards is its own affair.
func TestPushCopies(t *testing.T) {
	p := &pipe{}
	var o buffered.Output
	for _, size := range []int{10, 100_000} {
		data := bytes.Repeat([]byte("a"), size)
		require.NoError(t, o.Push(p, data))
		clear(data)
	}
	p.room = -1
	o.Writable()
	require.NoError(t, o.Flush(p))
	require.Equal(t, strings.Repeat("a", 100_010), p.sent.String())
}

// Whatever the transport takes at a time, the bytes come out whole and in order.
func TestOrderUnderRandomRoom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		p := &pipe{vectors: rng.IntN(2) == 0}
		var o buffered.Output
		var want bytes.Buffer
		for range 1 + rng.IntN(20) {
			data := bytes.Repeat([]byte{byte('a' + rng.IntN(26))}, []int{1, 30, 2000, 70_000, 200_000}[rng.IntN(5)])
			var err error
			if rng.IntN(5) == 0 {
				err = o.PushProducer(p, buffered.Bytes(bytes.Clone(data), 1+rng.IntN(5000)))
			} else {
				err = o.Push(p, data)
			}
			require.NoError(t, err)
			want.Write(data)
			if rng.IntN(2) == 0 {
				p.room = rng.IntN(100_000)
				o.Writable()
				require.NoError(t, o.Flush(p))
			}
		}
		for n := 0; !o.Empty(); n++ {
			require.Less(t, n, 100_000)
			p.room = 1 + rng.IntN(100_000)
			o.Writable()
			require.NoError(t, o.Flush(p))
		}
		require.Equal(t, want.String(), p.sent.String())
		require.Zero(t, o.Len())
		require.Zero(t, p.lent)
	}
}

func TestLenAndBlocked(t *testing.T) {
	p := &pipe{room: 3}
	var o buffered.Output
	require.NoError(t, o.PushString(p, "hello"))
	require.Equal(t, 5, o.Len())
	require.False(t, o.Blocked())
	require.NoError(t, o.Flush(p))
	require.Equal(t, 2, o.Len())
	require.True(t, o.Blocked())
	require.NoError(t, o.Flush(p))
	require.Equal(t, 1, p.sends, "not tried again before it is writable")
	require.NoError(t, o.PushString(p, "!"))
	require.Equal(t, 3, o.Len())
	p.room = -1
	o.Writable()
	require.NoError(t, o.Flush(p))
	require.Equal(t, "hello!", p.sent.String())
	require.True(t, o.Empty())
}

func TestLimit(t *testing.T) {
	p := &pipe{}
	var o buffered.Output
	o.SetMarks(&buffered.Marks{Low: 10, High: 20, Limit: 100})
	require.NoError(t, o.PushString(p, strings.Repeat("x", 60)))
	require.ErrorIs(t, o.PushString(p, strings.Repeat("y", 50)), core.ErrOverflow)
	require.Equal(t, 60, o.Len(), "nothing of it is queued")
	require.NoError(t, o.PushString(p, strings.Repeat("z", 40)))
	require.Equal(t, buffered.Marks{Low: 10, High: 20, Limit: 100}, o.Marks())
	o.SetMarks(nil)
	require.Equal(t, buffered.DefaultMarks, o.Marks())

	// What the transport takes at once does not count, however much it is.
	p = &pipe{room: -1}
	var free buffered.Output
	require.NoError(t, free.Push(p, make([]byte, buffered.DefaultMarks.Limit)))
	require.NoError(t, free.Push(p, make([]byte, buffered.DefaultMarks.Limit)))
	require.Equal(t, 2*buffered.DefaultMarks.Limit, p.sent.Len())
}

// Producers that wait count for the limit, too; the first one never does. One that is refused is closed.
func TestLimitOfProducers(t *testing.T) {
	p := &pipe{}
	var o buffered.Output
	closed := 0
	push := func() error { return o.PushProducer(p, stuck{&closed}) }
	const most = 10
	o.SetMarks(&buffered.Marks{Low: 1, High: 2, Limit: most * buffered.ProducerWeight})
	require.NoError(t, o.PushString(p, "x"))
	for range 1 + most {
		require.NoError(t, push())
	}
	require.ErrorIs(t, push(), core.ErrOverflow)
	require.Equal(t, 1, closed)
	o.Discard(p)
	require.Equal(t, 1+most+1, closed)
	o.SetMarks(&buffered.Marks{Low: 1, High: 1, Limit: 1})
	require.NoError(t, push())
	require.NoError(t, push(), "one may wait, whatever the limit")
	require.ErrorIs(t, push(), core.ErrOverflow)

	// What the transport takes at once does not count.
	p = &pipe{room: -1}
	var free buffered.Output
	require.NoError(t, free.PushShared(p, buffered.NewShared(make([]byte, buffered.DefaultMarks.Limit))))
	for range 2 {
		require.NoError(t, free.PushProducer(p, stuck{&closed}))
	}
}

// stuck is a producer that never has anything, and counts its closes.
type stuck struct{ n *int }

func (stuck) More(int) ([]byte, error) { return nil, core.ErrWouldBlock }
func (s stuck) Close() error           { *s.n++; return nil }

func TestLevelCrossings(t *testing.T) {
	p := &pipe{}
	var o buffered.Output
	o.SetMarks(&buffered.Marks{Low: 10, High: 20, Limit: 100})
	step := func(room int, push string) buffered.Level {
		if push != "" {
			require.NoError(t, o.PushString(p, push))
		}
		p.room = room
		o.Writable()
		require.NoError(t, o.Flush(p))
		return o.Level()
	}
	require.Equal(t, buffered.Steady, step(0, strings.Repeat("x", 20)), "at the mark is not above it")
	require.Equal(t, buffered.Rose, step(0, "x"))
	require.True(t, o.High())
	require.Equal(t, buffered.Steady, step(0, "x"))
	require.Equal(t, buffered.Steady, step(11, ""), "11 are left")
	require.Equal(t, buffered.Fell, step(1, ""))
	require.False(t, o.High())
	require.Equal(t, buffered.Steady, step(-1, ""))
}

func TestDiscard(t *testing.T) {
	p := &pipe{room: 5}
	var o buffered.Output
	producer := &closing{Producer: buffered.Bytes([]byte("producer"), 3)}
	require.NoError(t, o.PushString(p, "0123456789"))
	require.NoError(t, o.PushProducer(p, producer))
	require.NoError(t, o.PushString(p, "tail"))
	require.NoError(t, o.Flush(p))
	o.Close()
	require.True(t, o.Closing())
	require.ErrorIs(t, o.PushString(p, "x"), core.ErrClosed)
	o.Discard(p)
	require.True(t, o.Empty())
	require.False(t, o.Closing(), "a pending close is taken back")
	require.Equal(t, 1, producer.closed)
	require.NoError(t, o.PushString(p, "again"))
	p.room = -1
	require.NoError(t, o.Flush(p))
	require.Equal(t, "01234again", p.sent.String())
	require.Zero(t, p.lent)
}

type closing struct {
	buffered.Producer
	closed int
}

func (c *closing) Close() error { c.closed++; return nil }

func TestTransportFails(t *testing.T) {
	for name, push := range map[string]func(o *buffered.Output, p *pipe) error{
		"small":    func(o *buffered.Output, p *pipe) error { return o.PushString(p, "x") },
		"large":    func(o *buffered.Output, p *pipe) error { return o.Push(p, make([]byte, 100_000)) },
		"producer": func(o *buffered.Output, p *pipe) error { return o.PushProducer(p, buffered.Bytes([]byte("x"), 0)) },
		"queued": func(o *buffered.Output, p *pipe) error {
			p.room, p.err = 0, nil
			err := o.Push(p, make([]byte, 100))
			err = errors.Join(err, o.Flush(p))
			p.err = syscall.EPIPE
			o.Writable()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pipe{room: -1, err: syscall.EPIPE}
			var o buffered.Output
			err := push(&o, p)
			if err == nil {
				err = o.Flush(p)
			}
			require.ErrorIs(t, err, syscall.EPIPE)
			require.True(t, o.Empty())
			require.ErrorIs(t, o.PushString(p, "x"), core.ErrClosed)
			require.NoError(t, o.Flush(p), "told once")
			require.Zero(t, p.lent)
		})
	}
}

func TestFlushBudgetOfAProducer(t *testing.T) {
	p := &pipe{room: -1}
	var o buffered.Output
	require.NoError(t, o.PushProducer(p, buffered.Reader(zeros{})))
	for i := range 3 {
		require.NoError(t, o.Flush(p))
		require.True(t, o.More())
		require.GreaterOrEqual(t, p.sent.Len(), (i+1)*buffered.FlushBudget)
		require.Less(t, p.sent.Len(), (i+2)*buffered.FlushBudget)
	}
	o.Discard(p)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestProducers(t *testing.T) {
	path := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(path, []byte("0123456789"), 0o600))
	open := func() *os.File {
		f, err := os.Open(path)
		require.NoError(t, err)
		return f
	}
	sought, kept := open(), open()
	var sent []int64
	_, err := sought.Seek(4, io.SeekStart)
	require.NoError(t, err)
	for _, x := range []struct {
		name string
		p    buffered.Producer
		want string
		err  error
	}{
		{"bytes", buffered.Bytes([]byte("abcdef"), 4), "abcdef", nil},
		{"no bytes", buffered.Bytes(nil, 4), "", nil},
		{"reader", buffered.Reader(strings.NewReader("abcdef")), "abcdef", nil},
		{"reader that fails", buffered.Reader(io.MultiReader(strings.NewReader("abc"), failing{})), "abc", io.ErrNoProgress},
		{"reader without progress", buffered.Reader(nothing{}), "", io.ErrNoProgress},
		{"file", buffered.File(open(), 2, 5), "23456", nil},
		{"file to its end", buffered.File(open(), 8, -1), "89", nil},
		{"file behind its end", buffered.File(open(), 20, -1), "", nil},
		{"file too short", buffered.File(open(), 8, 5), "89", io.ErrUnexpectedEOF},
		{"file that stays open", buffered.FileFunc(kept, 2, 5, func(n int64) { sent = append(sent, n) }), "23456", nil},
		{"the same, too short", buffered.FileFunc(kept, 8, 5, func(n int64) { sent = append(sent, n) }), "89", io.ErrUnexpectedEOF},
		{"file as a reader", buffered.Reader(sought), "456789", nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			p := &pipe{room: -1}
			var o buffered.Output
			require.NoError(t, o.PushProducer(p, x.p))
			err := o.Flush(p)
			if x.err != nil {
				require.ErrorIs(t, err, x.err)
			} else {
				require.NoError(t, err)
				require.True(t, o.Empty())
			}
			require.Equal(t, x.want, p.sent.String())
		})
	}
	require.Equal(t, []int64{5, 2}, sent)
	require.NoError(t, kept.Close())
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

// Output that the peer keeps taking at once costs no allocation; a slow peer's ring is pooled.
func TestOutputAllocations(t *testing.T) {
	p := &lending{pipe: pipe{room: -1}}
	var o buffered.Output
	data := []byte("0123456789abcdef")
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		o.Push(p, data)
		o.PushString(p, "\r\n")
		o.Flush(p)
	}))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		o.PushString(p, "a string first\r\n")
		o.Flush(p)
	}))
}

// lending is a pipe that keeps its buffers and what it is sent nowhere.
type lending struct {
	pipe
	free [][]byte
}

func (l *lending) Borrow(n int) []byte {
	if n := len(l.free); n > 0 {
		b := l.free[n-1]
		l.free = l.free[:n-1]
		return b
	}
	return l.pipe.Borrow(n)
}

func (l *lending) GiveBack(b []byte)          { l.free = append(l.free, b[:0]) }
func (l *lending) Send(b []byte) (int, error) { return len(b), nil }

func BenchmarkOutput(b *testing.B) {
	p := &lending{pipe: pipe{room: -1}}
	line := []byte("0123456789abcdef0123456789abcde\n")
	for _, perFlush := range []int{1, 64} {
		b.Run(fmt.Sprintf("push32/flush every %d", perFlush), func(b *testing.B) {
			var o buffered.Output
			b.ReportAllocs()
			for i := 0; i < b.N; i++ {
				o.Push(p, line)
				if i%perFlush == 0 {
					o.Flush(p)
				}
			}
		})
	}
	b.Run("slow peer", func(b *testing.B) {
		slow := &pipe{}
		var o buffered.Output
		b.ReportAllocs()
		for i := 0; i < b.N; i++ {
			o.Push(slow, line)
			slow.room = len(line)
			o.Writable()
			o.Flush(slow)
			slow.sent.Reset()
		}
	})
}

// FuzzOutput: any sequence of operations sends what was pushed, in order.
func FuzzOutput(f *testing.F) {
	f.Add([]byte{0, 10, 1, 200, 2, 5, 3, 0, 0, 255, 2, 255})
	f.Add([]byte{4, 10, 4, 200, 5, 9, 0, 9, 2, 1, 4, 255, 5, 200, 3, 9, 4, 1, 2, 5, 4, 255, 0, 3, 4, 2, 2, 255, 5, 255, 4, 9})
	f.Fuzz(func(t *testing.T, ops []byte) {
		p := &pipe{vectors: len(ops)%4 < 2}
		var o buffered.Output
		var want bytes.Buffer
		next := byte(0)
		var kept []*buffered.Shared
		data := func(n int) []byte {
			b := make([]byte, n)
			for i := range b {
				next++
				b[i] = next
			}
			want.Write(b)
			return b
		}
		for i := 0; i+1 < len(ops) && i < 320; i += 2 {
			n := int(ops[i+1])
			switch ops[i] % 6 {
			case 0:
				require.NoError(t, o.Push(p, data(n)))
			case 1:
				require.NoError(t, o.Push(p, data(n*100)))
			case 2:
				p.room = n * 10
				o.Writable()
				require.NoError(t, o.Flush(p))
			case 3:
				require.NoError(t, o.PushProducer(p, buffered.Bytes(data(n), 7)))
			case 4, 5:
				if ops[i]%6 == 5 {
					n *= 100
				}
				m := buffered.NewShared(data(n))
				require.NoError(t, o.PushShared(p, m))
				if n%2 == 0 { // the others are used for further messages as soon as the output is done with them
					kept = append(kept, m)
				} else {
					m.Release()
				}
			}
			if !bytes.HasPrefix(want.Bytes(), p.sent.Bytes()) {
				t.Fatal("out of order")
			}
		}
		p.room = -1
		for n := 0; !o.Empty(); n++ {
			require.Less(t, n, 10_000)
			o.Writable()
			require.NoError(t, o.Flush(p))
		}
		if !bytes.Equal(want.Bytes(), p.sent.Bytes()) {
			t.Fatal("not what was pushed")
		}
		require.Zero(t, p.lent)
		for _, m := range kept {
			require.Equal(t, 1, m.Refs())
		}
	})
}

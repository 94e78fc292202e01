package http1

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// readHead does what a session does with a head that comes whole.
func (x *exchange) readHead(data string) (repeated bool, err *Error) {
	x.reset()
	x.s = &session{srv: &Server{head: fuzzLimits}}
	if x.again([]byte(data)) {
		return true, nil
	}
	x.buf = append(append(x.buf, data...), endOfLine...)
	return false, x.parse()
}

// requireSame compares what is known of a head with what it is when nothing else was read before.
func requireSame(t *testing.T, data string, x *exchange, err *Error) {
	t.Helper()
	fresh := new(exchange)
	_, want := fresh.readHead(data)
	require.Equal(t, want, err, "%q", data)
	require.Equal(t, string(fresh.req.head.buf), string(x.req.head.buf))
	if err != nil {
		require.Equal(t, fresh.req.head.known, x.req.head.known) // an answer to HEAD has no body
		return
	}
	require.Equal(t, fresh.req.framing, x.req.framing)
	require.Equal(t, fresh.opening, x.opening)
	got, lines := x.req.head, x.req.head.lines
	got.buf, got.lines = fresh.req.head.buf, fresh.req.head.lines
	require.Equal(t, fresh.req.head, got)
	require.Equal(t, len(got.lines), len(lines))
	for i := range lines {
		require.Equal(t, got.lines[i], lines[i])
	}
}

func TestSameHeadAgain(t *testing.T) {
	const a, b = "GET /a?b HTTP/1.1\r\nHost: a", "POST http://b/ HTTP/1.1\r\nHost: b\r\nContent-Length: 5"
	x := new(exchange)
	for i, c := range []struct {
		says     string
		repeated bool
	}{
		{a, false}, {a, true}, {a, true}, {b, false}, {b, true}, {a, false}, {a[:len(a)-1], false}, {a, false}, {a + "b", false},
		{a, false}, {strings.ToLower(a), false}, {strings.ToLower(a), false}, // an error is not remembered
		{a, false}, {a, true},
		{a + "\r\nX: " + strings.Repeat("x", 90), false}, {a + "\r\nX: " + strings.Repeat("x", 90), true},
	} {
		repeated, err := x.readHead(c.says)
		require.Equal(t, c.repeated, repeated, i)
		requireSame(t, c.says, x, err)
	}
	_, _ = x.readHead(a)
	x.forget()
	repeated, _ := x.readHead(a)
	require.False(t, repeated)
	x.buf[5] = ' ' // a handler may do so, decoding in place, say
	repeated, err := x.readHead("GET / ?b HTTP/1.1\r\nHost: a")
	require.False(t, repeated)
	require.NotNil(t, err)
}

// What is too long is not kept.
func TestLongHeadAgain(t *testing.T) {
	x := &exchange{s: &session{srv: new(Server)}}
	for _, n := range []int{keepSeen, keepSeen + 1} {
		head := "GET / HTTP/1.1\r\nHost: a\r\nX: "
		head += strings.Repeat("x", n-len(head)-2)
		for i := range 2 {
			x.reset()
			x.s = &session{srv: new(Server)}
			require.Equal(t, n == keepSeen && i > 0, x.again([]byte(head)), n)
			x.buf = append(append(x.buf[:0], head...), endOfLine...)
			require.Nil(t, x.parse())
			require.LessOrEqual(t, len(x.seen), keepSeen)
		}
	}
}

// FuzzSameHeadAgain: what is known of a head does not depend on what was read before.
func FuzzSameHeadAgain(f *testing.F) {
	f.Add("GET / HTTP/1.1\r\nHost: a", "GET / HTTP/1.1\r\nHost: b")
	f.Add("HEAD /a?b HTTP/1.0", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nConnection: close")
	f.Add("POST * HTTP/1.1\r\nHost: a", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: x")
	f.Add("OPTIONS * HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", "\r\nGET / HTTP/1.1\r\nHost: a")
	f.Fuzz(func(t *testing.T, a, b string) {
		x := new(exchange)
		for _, says := range []string{a, b, b, a, a, b} {
			_, err := x.readHead(says)
			requireSame(t, says, x, err)
		}
	})
}

// What a response's fields are does not depend on those of the responses before.
func TestSameFieldsAgain(t *testing.T) {
	names := []string{
		"A", "Z", "a", "B", "Date", "ETag", "Connection", "Content-Length", "Content-Type", "X\n", "", "Y: b", "Y",
		"Transfer-Encoding",
	}
	values := []string{"1", "1", "2", "", "close", "b: c", "c", "line\r\nbreak", strings.Repeat("long", 80)}
	r := rand.New(rand.NewPCG(1, 2))
	x := new(exchange)
	x.w.x = x
	var ops []func(*ResponseWriter)
	for range 3000 {
		if keep := r.IntN(len(ops) + 1); r.IntN(3) > 0 {
			ops = ops[:keep]
		}
		for range r.IntN(6) {
			name, value := names[r.IntN(len(names))], values[r.IntN(len(values))]
			switch r.IntN(9) {
			case 0:
				ops = append(ops, func(w *ResponseWriter) { w.Del(name) })
			case 1:
				ops = append(ops, func(w *ResponseWriter) { _ = w.Error(400+len(value), value) })
			case 2, 3:
				ops = append(ops, func(w *ResponseWriter) { w.Add(name, value) })
			case 4:
				ops = append(ops, func(w *ResponseWriter) { // as giveHead does
					w.fields, w.repeated = append(w.fields[:0], "Z: z\r\n"...), -1
				})
			default:
				ops = append(ops, func(w *ResponseWriter) { w.Set(name, value) })
			}
		}
		fresh := new(exchange)
		fresh.w.x = fresh
		for _, y := range []*exchange{fresh, x} {
			y.reset()
			for _, op := range ops {
				op(&y.w)
			}
		}
		require.Equal(t, string(fresh.w.fields), string(x.w.fields))
		require.Equal(t, fresh.flags, x.flags)
		require.Equal(t, fresh.w.length, x.w.length)
		require.Equal(t, fresh.w.err, x.w.err)
		require.LessOrEqual(t, len(x.w.last.lines), keepFields)
	}

	x.reset()
	x.w.Set("Y", "b: c")
	for range 2 * keepFields {
		x.w.Add("B", "b")
	}
	require.LessOrEqual(t, len(x.w.last.lines), keepFields)
	x.reset()
	require.False(t, x.w.repeat("Y: b", "c", true))
	x.w.Set("A", "1")
	x.w.Add("A", "2")
	x.reset()
	require.False(t, x.w.repeat("A", "2", true))
	require.True(t, x.w.repeat("A", "1", true))
	require.False(t, x.w.repeat("A", "2", true)) // takes the place of the other
	require.True(t, x.w.repeat("A", "2", false))
	require.False(t, x.w.repeat("B", "2", false))
	require.Equal(t, "A: 1\r\nA: 2\r\n", string(x.w.fields))
}

func TestAppendCount(t *testing.T) {
	for _, n := range []int64{0, 9, 10, 42, 99, 100, 907, 999, 1000, 1<<63 - 1} {
		require.Equal(t, "x"+strconv.FormatInt(n, 10), string(appendCount([]byte("x"), n)))
	}
}

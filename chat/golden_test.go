package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

var vectorsFile = flag.String("vectors", "../testdata/asynchat/vectors.json", "file of golden vectors")

// The format is described in testdata/asynchat/gen_vectors.py.
type goldenFile struct {
	Input  []goldenInput
	Output []goldenOutput
}

type goldenTerm struct {
	Bytes *[]byte
	Count *int64
	None  bool
	Keep  bool
}

type goldenEvent struct {
	Collect *[]byte
	Found   bool
	Close   bool
}

type goldenInput struct {
	Name     string
	Tags     []string
	Script   []goldenTerm
	Chunks   [][]byte
	RecvSize int  `json:"recv_buffer_size"`
	CloseAt  *int `json:"close_at"`
	Events   []goldenEvent
	Leftover []byte
}

type goldenOutput struct {
	Name         string
	Tags         []string
	Connected    bool
	SendSizes    []int `json:"send_sizes"`
	Ops          []goldenOp
	ExpectSent   []byte `json:"expect_sent"`
	ExpectClosed bool   `json:"expect_closed"`
}

type goldenOp struct {
	Op         string
	Data       []byte
	BufferSize int `json:"buffer_size"`
	Blocks     [][]byte
}

// readGolden reads the vectors of one kind, input or output. The file may have none of it, if it has some of the other.
func readGolden(t *testing.T, kind string) goldenFile {
	t.Helper()
	raw, err := os.ReadFile(*vectorsFile)
	require.NoError(t, err)
	var g goldenFile
	require.NoError(t, json.Unmarshal(raw, &g))
	n := map[string]int{"input": len(g.Input), "output": len(g.Output)}
	require.NotZero(t, n["input"]+n["output"], "no vectors in %s", *vectorsFile)
	if n[kind] == 0 {
		t.Skipf("no %s vectors in %s", kind, *vectorsFile)
	}
	return g
}

func (g goldenTerm) terminator() Terminator {
	switch {
	case g.Bytes != nil:
		return Literal(string(*g.Bytes))
	case g.Count != nil && *g.Count > 0:
		return Count(*g.Count)
	}
	return None
}

// log collects events in the normalised form: neighbouring collects merged.
type eventLog struct{ parts []string }

func (l *eventLog) collect(p []byte) {
	if len(p) == 0 {
		l.parts = append(l.parts, "EMPTY COLLECT")
		return
	}
	if n := len(l.parts); n > 0 && strings.HasPrefix(l.parts[n-1], "collect ") {
		l.parts[n-1] += string(p)
		return
	}
	l.parts = append(l.parts, "collect "+string(p))
}

func (l *eventLog) add(s string) { l.parts = append(l.parts, s) }

func (l *eventLog) String() string { return fmt.Sprintf("%q", l.parts) }

// want is the normalised log up to and including the first close, with what the oracle held back delivered before it.
func (g *goldenInput) want() string {
	var l eventLog
	for _, e := range g.Events {
		switch {
		case e.Collect != nil:
			l.collect(*e.Collect)
		case e.Found:
			l.add("found")
		case e.Close:
			if len(g.Leftover) > 0 && g.CloseAt == nil {
				l.collect(g.Leftover)
			}
			l.add("close")
			return l.String()
		}
	}
	return l.String()
}

// A close_at vector that the script never reaches ends like any other.
func (g *goldenInput) closedByHandler() bool {
	n := 0
	for _, e := range g.Events {
		if e.Found {
			n++
		}
	}
	return g.CloseAt != nil && n >= *g.CloseAt
}

// scripted is a handler that follows a vector's script.
type scripted struct {
	g     *goldenInput
	log   eventLog
	found int
}

func (s *scripted) CollectIncomingData(_ *Conn, data []byte) error {
	s.log.collect(data)
	return nil
}

func (s *scripted) FoundTerminator(c *Conn) error {
	if s.onFound() {
		return c.Close()
	}
	if next := s.next(); !next.Keep {
		c.SetTerminator(next.terminator())
	}
	return nil
}

func (s *scripted) onFound() (closes bool) {
	s.log.add("found")
	s.found++
	return s.g.CloseAt != nil && s.found == *s.g.CloseAt
}

func (s *scripted) next() goldenTerm { return s.g.Script[s.found%len(s.g.Script)] }

func (s *scripted) HandleClose(*Conn, error) { s.log.add("close") }

// scan drives the pure scanner with a vector.
func (s *scripted) scan() {
	var sc scanner
	sc.set(s.g.Script[0].terminator())
	for _, p := range s.g.chunks() {
		for len(p) > 0 {
			data, used, ev := sc.step(p)
			if len(data) > 0 {
				s.log.collect(data)
			}
			p = p[used:]
			if ev == scanFound {
				sc.finish()
				if s.onFound() {
					s.log.add("close")
					return
				}
				if next := s.next(); !next.Keep {
					sc.set(next.terminator())
				}
			}
		}
	}
	if back := sc.pending(0); back != "" {
		s.log.collect([]byte(back))
	}
	s.log.add("close")
}

// chunks are what successive reads give.
func (g *goldenInput) chunks() (out [][]byte) {
	for _, c := range g.Chunks {
		for len(c) > g.RecvSize {
			out = append(out, c[:g.RecvSize])
			c = c[g.RecvSize:]
		}
		out = append(out, c)
	}
	return out
}

func TestGoldenInputScanner(t *testing.T) {
	g := readGolden(t, "input")
	for i := range g.Input {
		v := &g.Input[i]
		if v.CloseAt != nil && !v.closedByHandler() {
			v.CloseAt = nil
		}
		s := &scripted{g: v}
		s.scan()
		require.Equal(t, v.want(), s.log.String(), v.Name)
	}
}

func TestGoldenInputConn(t *testing.T) {
	g := readGolden(t, "input")
	for i := range g.Input {
		v := &g.Input[i]
		if v.CloseAt != nil && !v.closedByHandler() {
			v.CloseAt = nil
		}
		for _, untraced := range []bool{false, true} {
			w := sim.New(sim.Config{T: t, MaxRecv: v.RecvSize, Untraced: untraced})
			l := w.Loop(core.Options{})
			s := &scripted{g: v}
			sock, peer := w.Pair()
			_, err := Attach(l, sock, func(c *Conn) Handler {
				c.SetTerminator(v.Script[0].terminator())
				return s
			})
			require.NoError(t, err)
			for _, c := range v.Chunks {
				peer.Say(string(c))
				w.Settle()
			}
			peer.CloseWrite()
			w.Settle()
			require.Equal(t, v.want(), s.log.String(), "%s, untraced=%v", v.Name, untraced)
			require.NoError(t, l.Close())
		}
	}
}

// goldenTransport is the scripted socket of an output vector.
type goldenTransport struct {
	connected bool
	sizes     []int
	sent      []byte
	broken    bool // a send met the -1
}

func (g *goldenTransport) Send(p []byte) (int, error) {
	if !g.connected {
		return 0, core.ErrWouldBlock
	}
	n := len(p)
	if len(g.sizes) > 0 {
		step := g.sizes[0]
		g.sizes = g.sizes[1:]
		switch {
		case step < 0:
			g.broken = true
			return 0, syscall.EPIPE
		case step == 0:
			return 0, core.ErrWouldBlock
		}
		n = min(n, step)
	}
	g.sent = append(g.sent, p[:n]...)
	return n, nil
}

func (g *goldenTransport) SendVector([][]byte) (int, error)           { return 0, core.ErrUnsupported }
func (g *goldenTransport) SendFile(*os.File, int64, int) (int, error) { return 0, core.ErrUnsupported }
func (g *goldenTransport) Borrow(n int) []byte                        { return make([]byte, 0, max(n, core.LargeBuffer)) }
func (g *goldenTransport) GiveBack([]byte)                            {}

type blocks [][]byte

func (b *blocks) More(int) ([]byte, error) {
	if len(*b) == 0 {
		return nil, io.EOF
	}
	p := (*b)[0]
	*b = (*b)[1:]
	return p, nil
}

func (op *goldenOp) producer() buffered.Producer {
	switch op.Op {
	case "producer_bytes":
		return buffered.Bytes(op.Data, 0)
	case "simple_producer":
		return buffered.Bytes(op.Data, op.BufferSize)
	}
	b := blocks(op.Blocks)
	return &b
}

// check compares what was sent and whether it closed.
func (v *goldenOutput) check(t *testing.T, sent []byte, closed, broken bool) {
	t.Helper()
	if broken {
		require.True(t, bytes.HasPrefix(v.ExpectSent, sent), "%s: sent %q, want a prefix of %q", v.Name, sent, v.ExpectSent)
		require.True(t, closed, v.Name)
		return
	}
	require.Equal(t, string(v.ExpectSent), string(sent), v.Name)
	require.Equal(t, v.ExpectClosed, closed, v.Name)
}

func TestGoldenOutputQueue(t *testing.T) {
	g := readGolden(t, "output")
	for i := range g.Output {
		v := &g.Output[i]
		tr := &goldenTransport{connected: v.Connected, sizes: v.SendSizes}
		var o buffered.Output
		closed := false
		flush := func() {
			if closed {
				return
			}
			if err := o.Flush(tr); err != nil || o.Closing() && o.Empty() && tr.connected {
				closed = true
			}
		}
		for _, op := range v.Ops {
			var err error
			switch op.Op {
			case "push":
				err = o.Push(tr, op.Data)
			case "close_when_done":
				o.Close()
			case "discard":
				o.Discard(tr)
			case "connect":
				tr.connected = true
				o.Writable()
			case "write":
				tr.connected = true
				o.Writable()
			default:
				err = o.PushProducer(tr, op.producer())
			}
			if err != nil {
				require.ErrorIs(t, err, core.ErrClosed, v.Name)
			}
			flush()
		}
		for n := 0; !closed && !o.Empty() && tr.connected; n++ {
			require.Less(t, n, 10_000, v.Name)
			o.Writable()
			flush()
		}
		v.check(t, tr.sent, closed, tr.broken)
	}
}

// collector is the handler of an output vector.
type collector struct{ closed error }

var errOpen = errors.New("open")

func (*collector) CollectIncomingData(*Conn, []byte) error { return nil }
func (*collector) FoundTerminator(*Conn) error             { return nil }
func (c *collector) HandleClose(_ *Conn, cause error)      { c.closed = cause }

func TestGoldenOutputConn(t *testing.T) {
	g := readGolden(t, "output")
	for i := range g.Output {
		v := &g.Output[i]
		w := sim.New(sim.Config{T: t})
		l := w.Loop(core.Options{})
		h := &collector{closed: errOpen}
		newHandler := func(*Conn) Handler { return h }
		var c *Conn
		var peer *sim.Peer
		var err error
		connect := func() {}
		if v.Connected {
			var sock core.Socket
			sock, peer = w.Pair()
			peer.PlanSends(v.SendSizes...)
			c, err = Attach(l, sock, newHandler)
		} else {
			ln := w.Listen("tcp", "server:1")
			c, err = Dial(l, "tcp", "192.0.2.1:1", newHandler)
			connect = func() {
				if peer == nil {
					peer = ln.Accept()
					peer.PlanSends(v.SendSizes...)
				}
			}
		}
		require.NoError(t, err)
		for _, op := range v.Ops {
			switch op.Op {
			case "push":
				_ = c.Push(op.Data)
			case "close_when_done":
				c.CloseWhenDone()
			case "discard":
				c.DiscardBuffers()
			case "connect", "write":
				connect()
			default:
				_ = c.PushProducer(op.producer())
			}
			if peer != nil {
				w.Settle()
			}
		}
		var sent string
		if peer != nil {
			sent = peer.Read()
		}
		v.check(t, []byte(sent), h.closed != errOpen, errors.Is(h.closed, syscall.EPIPE))
		require.NoError(t, l.Close())
	}
}

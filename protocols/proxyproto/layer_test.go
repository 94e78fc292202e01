package proxyproto_test

import (
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/proxyproto"
)

// channel is a Layer under a channel of package core.
type channel struct {
	*sim.World
	peer  *sim.Peer
	d     *core.Dispatcher
	layer *proxyproto.Layer
	got   strings.Builder
	cause []error
}

func (c *channel) HandleRead(d *core.Dispatcher) error {
	p, err := d.RecvShared()
	c.got.Write(p)
	return err
}

func (c *channel) HandleClose(_ *core.Dispatcher, cause error) { c.cause = append(c.cause, cause) }

// eager has output from the beginning.
type eager struct {
	*channel
	out string
}

func (e *eager) HandleWrite(d *core.Dispatcher) error {
	n, err := d.Send([]byte(e.out))
	e.out = e.out[n:]
	d.WantWrite(e.out != "")
	return err
}

func (e *eager) HandleEOF(*core.Dispatcher) error { return nil }

func attach(t testing.TB, cfg sim.Config, below func(core.Socket) core.Socket, h func(*channel) any) *channel {
	cfg.T = t
	c := &channel{World: sim.New(cfg)}
	l := c.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	s, peer := c.Pair()
	c.peer = peer
	if below != nil {
		s = below(s)
	}
	var err error
	c.layer, err = proxyproto.New(s, proxyproto.Options{From: proxyproto.Anybody})
	require.NoError(t, err)
	c.d, err = core.Attach(l, c.layer, h(c))
	require.NoError(t, err)
	return c
}

func plain(c *channel) any { return c }

// On whatever it stands, a channel of package core gets what follows the header, and its addresses.
func TestLayer(t *testing.T) {
	belows := map[string]func(core.Socket) core.Socket{
		"the socket": nil,
		"a tap":      func(s core.Socket) core.Socket { return &sim.Tap{Socket: s} },
		"a throttle": func(s core.Socket) core.Socket { return &sim.Throttle{Socket: s, Rate: 1000} },
	}
	for name, below := range belows {
		t.Run(name, func(t *testing.T) {
			for _, tt := range good {
				if tt.want.Network == "" {
					continue
				}
				run := func(cfg sim.Config, pieces ...string) {
					c := attach(t, cfg, below, plain)
					local, remote := c.d.LocalAddr(), c.d.RemoteAddr()
					for i, p := range pieces {
						if i < len(pieces)-1 {
							require.Equal(t, local, c.d.LocalAddr())
							require.Equal(t, remote, c.d.RemoteAddr())
						}
						c.peer.Say(p)
						c.Advance(time.Second)
					}
					require.Equal(t, "data\r\n", c.got.String())
					require.Equal(t, tt.want, c.layer.Header())
					from, ok := proxyproto.From(c.d.Socket())
					require.True(t, ok)
					require.Same(t, c.layer.Header(), from)
					want := tt.want.Source.Path
					if a := unmap(tt.want.Source.AddrPort); a.IsValid() {
						want = a.String()
					}
					require.Equal(t, want, c.d.RemoteAddr().String())
					require.Equal(t, tt.want.Network, c.d.RemoteAddr().Network())
					require.Equal(t, tt.want.Network, c.d.LocalAddr().Network())
				}
				run(sim.Config{}, tt.in+"data\r\n")
				run(sim.Config{}, tt.in, "data\r\n")
				for cut := 1; cut < len(tt.in); cut += 1 + cut/50*10 {
					run(sim.Config{}, tt.in[:cut], tt.in[cut:]+"data\r\n")
				}
				for seed := range uint64(3) {
					run(sim.Config{Seed: seed, RandomCuts: true, Window: 64, Again: 0.2, Spurious: 0.2}, tt.in+"data\r\n")
				}
			}
		})
	}
}

// HandleClose gets what is wrong.
func TestLayerCauses(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(c *channel)
		want error
	}{
		{"no header", func(c *channel) { c.peer.Say("EHLO x\r\n") }, proxyproto.ErrHeader},
		{"a bad one", func(c *channel) { c.peer.Say("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n") }, proxyproto.ErrHeader},
		{"half of one", func(c *channel) { c.peer.Say("PROXY TCP4"); c.peer.CloseWrite() }, proxyproto.ErrHeader},
		{"half of one, why", func(c *channel) { c.peer.Say("PROXY TCP4"); c.peer.CloseWrite() }, io.ErrUnexpectedEOF},
		{"the end", func(c *channel) { c.peer.CloseWrite() }, io.EOF},
		{"reset", func(c *channel) { c.peer.Say("PROXY TCP4"); c.Settle(); c.peer.Reset() }, syscall.ECONNRESET},
		{"too late", func(c *channel) { c.Advance(proxyproto.DefaultTimeout) }, proxyproto.ErrTimeout},
		{"too late, in general", func(c *channel) { c.Advance(proxyproto.DefaultTimeout) }, core.ErrTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, reading := range []bool{true, false} {
				c := attach(t, sim.Config{}, nil, plain)
				c.d.WantRead(reading)
				tt.do(c)
				c.Settle()
				require.Len(t, c.cause, 1)
				require.ErrorIs(t, c.cause[0], tt.want)
				require.Empty(t, c.got.String())
				require.Nil(t, c.layer.Header())
			}
		})
	}
}

// The header is read although the channel does not want input, and no timer is left of it.
func TestHeaderOfPausedChannel(t *testing.T) {
	c := attach(t, sim.Config{}, nil, plain)
	c.d.WantRead(false)
	c.peer.Say(v1Line + "data")
	c.Advance(time.Hour)
	require.Equal(t, "198.51.100.77:56324", c.d.RemoteAddr().String())
	require.Empty(t, c.got.String())
	require.Empty(t, c.cause)
	require.Zero(t, c.d.Loop().Stats().Timers)
	c.d.WantRead(true)
	c.Settle()
	require.Equal(t, "data", c.got.String())
}

// Output waits for the header, and does not keep the loop busy meanwhile.
func TestOutputWaits(t *testing.T) {
	c := attach(t, sim.Config{}, nil, func(c *channel) any { return &eager{c, "hello"} })
	c.d.WantWrite(true)
	c.Settle()
	_, err := c.d.Send([]byte("x"))
	require.ErrorIs(t, err, core.ErrWouldBlock)
	_, err = c.d.SendFile(nil, 0, 1)
	require.ErrorIs(t, err, core.ErrUnsupported, "the simulated socket has none")
	c.peer.WantNothing()
	passes := c.d.Loop().Stats().Passes
	c.peer.Say(v1Line[:len(v1Line)-1])
	c.Settle()
	c.peer.WantNothing()
	c.peer.Say("\n")
	c.peer.Want("hello")
	require.Less(t, c.d.Loop().Stats().Passes, passes+20)
	c.peer.CloseWrite()
	c.Settle()
	require.Empty(t, c.cause, "the handler has HandleEOF")
	require.Equal(t, core.Interest(0), c.d.Interest())
}

// there is a socket whose input has come already.
type there struct {
	sim.Tap
	in string
}

func (h *there) Recv(p []byte) (int, error) {
	if h.in == "" {
		return 0, core.ErrWouldBlock
	}
	n := copy(p, h.in)
	h.in = h.in[n:]
	return n, nil
}

// Whoever receives without having been told that something came reads the header, too.
func TestRecvReadsHeader(t *testing.T) {
	with := func(in string) *channel {
		c := attach(t, sim.Config{}, func(s core.Socket) core.Socket { return &there{sim.Tap{Socket: s}, in} }, plain)
		c.d.WantRead(false)
		return c
	}
	buf := make([]byte, 10)
	c := with(v1Line + "data")
	n, err := c.d.Recv(buf)
	require.NoError(t, err)
	require.Equal(t, "data", string(buf[:n]))
	require.NotNil(t, c.layer.Header())
	require.Empty(t, c.cause)

	c = with(v1Line[:len(v1Line)-1])
	_, err = c.d.Recv(buf)
	require.ErrorIs(t, err, core.ErrWouldBlock)

	c = with("nonsense")
	_, err = c.d.Recv(buf)
	require.ErrorIs(t, err, proxyproto.ErrHeader)
	c.Settle()
	require.Len(t, c.cause, 1)
	require.ErrorIs(t, c.cause[0], proxyproto.ErrHeader)
}

func TestUrgentBehindHeader(t *testing.T) {
	c := attach(t, sim.Config{}, nil, func(c *channel) any { return &urgent{channel: c} })
	u := c.d.Handler().(*urgent)
	c.peer.SayUrgent('!')
	c.Settle()
	require.Empty(t, u.urgent)
	c.peer.Say(v1Line)
	c.Settle()
	require.Equal(t, "!", u.urgent)
	n, err := c.d.SendUrgent([]byte("?"))
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

type urgent struct {
	*channel
	urgent string
}

func (u *urgent) HandleExpt(d *core.Dispatcher) error {
	var b [1]byte
	n, err := d.RecvUrgent(b[:])
	u.urgent += string(b[:n])
	return err
}

// A socket below that can do nothing besides.
func TestUnsupportedBelow(t *testing.T) {
	c := attach(t, sim.Config{}, func(s core.Socket) core.Socket { return &sim.Tap{Socket: s} }, plain)
	_, err := c.d.RecvUrgent(make([]byte, 1))
	require.ErrorIs(t, err, core.ErrUnsupported)
	_, err = c.d.SendUrgent([]byte("x"))
	require.ErrorIs(t, err, core.ErrUnsupported)
	_, err = c.d.SendFile(nil, 0, 1)
	require.ErrorIs(t, err, core.ErrUnsupported)
}

// A conversation that learns in its course that a header follows: what was read of it already counts.
func TestUpgradeToLayer(t *testing.T) {
	const asks = "header follows\n"
	for cut := range len(asks) + len(v1Line) + 4 {
		w := sim.New(sim.Config{T: t})
		l := w.Loop(core.Options{})
		s, p := w.Pair()
		_, err := chat.Attach(l, s, func(c *chat.Conn) chat.Handler {
			return chat.Lines(func(c *chat.Conn, line []byte) error {
				if string(line)+"\n" == asks {
					_, err := c.Upgrade(proxyproto.Wrap(proxyproto.Options{From: proxyproto.Anybody}), true)
					return err
				}
				return c.Printf("%s from %v\n", line, c.RemoteAddr())
			})
		})
		require.NoError(t, err)
		said := asks + v1Line + "hello\n"
		p.Say(said[:cut])
		w.Settle()
		p.Say(said[cut:])
		p.Want("hello from 198.51.100.77:56324\n")
		require.NoError(t, l.Close())
	}
}

// Two proxies, one behind the other, each with a header: the last one says who the client is, as far as that proxy knows.
func TestLayerOnLayer(t *testing.T) {
	c := attach(t, sim.Config{}, func(s core.Socket) core.Socket {
		l, err := proxyproto.New(s, proxyproto.Options{From: proxyproto.Anybody})
		require.NoError(t, err)
		return l
	}, plain)
	c.peer.Say(client("198.51.100.1:1") + v1Line + "data")
	c.Settle()
	require.Equal(t, "data", c.got.String())
	require.Equal(t, "198.51.100.77:56324", c.d.RemoteAddr().String())
	h, ok := proxyproto.From(c.layer.Inner())
	require.True(t, ok)
	require.Equal(t, "198.51.100.1:1", unmap(h.Source.AddrPort).String())
}

func TestFromWithout(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	s, _ := w.Pair()
	_, ok := proxyproto.From(&sim.Tap{Socket: s})
	require.False(t, ok)
	l, err := proxyproto.New(s, proxyproto.Options{From: proxyproto.Anybody})
	require.NoError(t, err)
	_, ok = proxyproto.From(l)
	require.False(t, ok, "it has not come")
}

// After the header the layer allocates nothing and adds nothing to a read.
func TestNoCostBehindHeader(t *testing.T) {
	c := attach(t, sim.Config{Untraced: true}, nil, plain)
	c.peer.Say(v1Line)
	c.Settle()
	below := &still{Socket: c.layer.Socket}
	c.layer.Socket = below
	buf := make([]byte, 10)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = c.layer.Recv(buf)
		_, _ = c.layer.Send(buf)
		c.layer.Ready(c.layer.Interest(core.Read))
	}))
	require.Equal(t, 2*101, below.calls)
}

type still struct {
	core.Socket
	calls int
}

func (s *still) Recv([]byte) (int, error) { s.calls++; return 0, core.ErrWouldBlock }
func (s *still) Send([]byte) (int, error) { s.calls++; return 0, core.ErrWouldBlock }

package core_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/core/tlslayer"
)

// pair is a loop in memory with one channel, and its peer.
func pair(h any) (w *sim.World, d *core.Dispatcher, peer *sim.Peer) {
	w = sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	sock, peer := w.Pair()
	d, err := core.Attach(loop, sock, h)
	if err != nil {
		fmt.Println(err)
	}
	return w, d, peer
}

// greeter hands each connection to a handler of its own.
type greeter struct{}

func (greeter) HandleAccepted(l *core.Listener, s core.Socket) error {
	d, err := core.Attach(l.Loop(), s, echoHandler{})
	if err != nil {
		return err // the connection is closed, and the listener goes on
	}
	_, err = d.Send([]byte("welcome"))
	return err
}

func ExampleAcceptedHandler() {
	w := sim.New(sim.Config{})
	core.Listen(w.Loop(core.Options{}), "tcp", "server:7", greeter{})
	fmt.Println(w.Dial("tcp", "server:7").Read())
	// Output: welcome
}

// reader prints what comes, and what became of the connection.
type reader struct{}

func (reader) HandleRead(d *core.Dispatcher) error {
	p, err := d.RecvShared() // good until HandleRead returns
	if err == nil {
		fmt.Printf("read %q\n", p)
	}
	return err // io.EOF and the like are the loop's to deal with
}

func (reader) HandleClose(_ *core.Dispatcher, cause error) { fmt.Println("closed:", cause) }

func ExampleReadHandler() {
	w, _, peer := pair(reader{})
	peer.Say("one")
	w.Settle()
	peer.Say("two")
	peer.Close()
	w.Settle()
	// Output:
	// read "one"
	// read "two"
	// closed: EOF
}

func ExampleCloseHandler() {
	w, d, _ := pair(reader{})
	d.CloseWith(core.ErrTimeout)
	d.Close() // it is closed already: HandleClose comes once
	w.Settle()
	// Output: closed: parley: timeout
}

// counter sends as long as the connection takes it.
type counter struct {
	reader
	left int
}

func (h *counter) HandleWrite(d *core.Dispatcher) error {
	n, err := d.Send(make([]byte, h.left))
	fmt.Println("sent", n)
	if h.left -= n; h.left == 0 {
		d.WantWrite(false) // else it is called in every pass
	}
	return err
}

func ExampleWriteHandler() {
	w := sim.New(sim.Config{Window: 6}) // the peer takes 6 bytes at a time
	sock, peer := w.Pair()
	d, _ := core.Attach(w.Loop(core.Options{}), sock, &counter{left: 10})
	d.WantWrite(true)
	fmt.Println(len(peer.Read()))
	// Output:
	// sent 6
	// sent 4
	// 10
}

// alarm wants to hear of out-of-band data: it has HandleExpt.
type alarm struct{ reader }

func (alarm) HandleExpt(d *core.Dispatcher) error {
	var b [1]byte
	_, err := d.RecvUrgent(b[:])
	fmt.Printf("urgent %q\n", b)
	return err
}

func ExampleExptHandler() {
	w, _, peer := pair(alarm{})
	peer.SayUrgent('!')
	w.Settle()
	// Output: urgent "!"
}

// caller speaks first.
type caller struct{ reader }

func (caller) HandleConnect(d *core.Dispatcher) error {
	fmt.Println("connected to", d.RemoteAddr())
	_, err := d.Send([]byte("hello"))
	return err
}

func ExampleConnectHandler() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	ln := w.Listen("tcp", "server:80")
	core.Dial(loop, "tcp", "server:80", caller{})
	fmt.Println(ln.Accept().Read())
	// Output:
	// connected to 192.0.2.1:80
	// hello
}

// gather answers once for each event, however many lines it brought.
type gather struct{ answers []byte }

func (h *gather) HandleRead(d *core.Dispatcher) error {
	p, err := d.RecvShared()
	for range p {
		h.answers = append(h.answers, '.')
		d.RequestFlush()
	}
	return err
}

func (h *gather) HandleFlush(d *core.Dispatcher) error {
	_, err := d.Send(h.answers)
	h.answers = h.answers[:0]
	return err
}

func ExampleFlushHandler() {
	_, _, peer := pair(&gather{})
	peer.Say("abc")
	fmt.Println(peer.Read())
	// Output: ...
}

// flood asks no questions: it wants to know when the peer falls behind.
type flood struct{}

func (flood) HandleRead(d *buffered.Dispatcher) error {
	_, err := d.RecvShared()
	if err != nil {
		return err
	}
	_, err = d.Send(make([]byte, 100<<10))
	return err
}

func (flood) HandleHigh(d *buffered.Dispatcher) error {
	fmt.Println("high")
	return nil
}

func (flood) HandleLow(d *buffered.Dispatcher) error {
	fmt.Println("low, queued:", d.Queued())
	return nil
}

func ExampleLevelHandler() {
	w := sim.New(sim.Config{Window: 1 << 10})
	sock, peer := w.Pair()
	buffered.Attach(w.Loop(core.Options{}), sock, flood{})
	peer.Stall(true)
	peer.Say("go")
	w.Settle()
	peer.Stall(false)
	w.Settle()
	// Output:
	// high
	// low, queued: 16384
}

// answerer answers when the peer has said everything.
type answerer struct{ reader }

func (answerer) HandleEOF(d *core.Dispatcher) error {
	if _, err := d.Send([]byte("thank you")); err != nil {
		return err
	}
	return d.Close()
}

func ExampleEOFHandler() {
	_, _, peer := pair(answerer{})
	peer.Say("that is all")
	peer.CloseWrite()
	fmt.Println(peer.Read())
	// Output:
	// read "that is all"
	// closed: <nil>
	// thank you
}

// patient asks twice before it gives up.
type patient struct {
	reader
	asked int
}

func (h *patient) HandleTimeout(d *core.Dispatcher) error {
	if h.asked++; h.asked > 2 {
		return d.CloseWith(core.ErrTimeout)
	}
	_, err := d.Send([]byte("are you there? "))
	return err
}

func ExampleTimeoutHandler() {
	w, d, peer := pair(&patient{})
	d.SetIdleTimeout(time.Minute)
	w.Advance(time.Hour)
	fmt.Println(peer.Read())
	// Output:
	// closed: parley: timeout
	// are you there? are you there?
}

// short answers lines; one that is too long costs its sender an answer and not the connection.
type short struct {
	chat.Buffer
	tooLong bool
}

func (h *short) HandleTooLong(c *chat.Conn) error {
	h.tooLong = true
	c.SkipToken()
	return nil
}

func (h *short) FoundTerminator(c *chat.Conn) error {
	line := h.Take()
	if h.tooLong {
		h.tooLong = false
		return c.PushString("too long\n")
	}
	return c.Printf("%d bytes\n", len(line))
}

func ExampleTooLongHandler() {
	w := sim.New(sim.Config{})
	sock, peer := w.Pair()
	chat.Attach(w.Loop(core.Options{}), sock, func(c *chat.Conn) chat.Handler {
		c.SetTerminator(chat.Line)
		c.SetLimit(10)
		return &short{}
	})
	peer.Say("a line\na line that is too long\nanother\n")
	fmt.Print(peer.Read())
	// Output:
	// 6 bytes
	// too long
	// 7 bytes
}

// polite says goodbye when the program ends.
type polite struct{ reader }

func (polite) HandleShutdown(d *core.Dispatcher) error {
	if _, err := d.Send([]byte("goodbye")); err != nil {
		return err
	}
	return d.CloseWith(core.ErrShutdown)
}

func ExampleShutdownHandler() {
	w, d, peer := pair(polite{})
	d.Loop().Shutdown(time.Second) // from any goroutine
	fmt.Println(peer.Read())
	w.Settle()
	// Output:
	// closed: parley: shutdown
	// goodbye
}

// tolerant goes on after an error of its own.
type tolerant struct{}

func (tolerant) HandleRead(d *core.Dispatcher) error {
	p, err := d.RecvShared()
	if err != nil {
		return err
	}
	return fmt.Errorf("do not understand %q", p)
}

func (tolerant) HandleError(d *core.Dispatcher, err error) { d.Send([]byte(err.Error())) }

func ExampleErrorHandler() {
	_, d, peer := pair(tolerant{})
	peer.Say("abc")
	fmt.Println(peer.Read())
	fmt.Println("closed:", d.Closed())
	// Output:
	// do not understand "abc"
	// closed: false
}

// clock answers each datagram.
type clock struct{}

func (clock) HandlePacket(d *core.Dispatcher, p []byte, from netip.AddrPort) error {
	return d.SendTo([]byte("12:00"), from)
}

func ExamplePacketHandler() {
	w := sim.New(sim.Config{})
	core.ListenPacket(w.Loop(core.Options{}), "udp", "server:37", clock{})
	client := w.ListenPacket("udp", "client:1000")
	client.Send("", "server:37")
	fmt.Println(client.Next(time.Second))
	// Output: 12:00 true
}

// logbook gets lines from programs on the same machine.
type logbook struct{}

func (logbook) HandleUnixPacket(_ *core.Dispatcher, p []byte, from string) error {
	fmt.Printf("%s: %s\n", from, p)
	return nil
}

func ExampleUnixPacketHandler() {
	w := sim.New(sim.Config{})
	core.ListenPacket(w.Loop(core.Options{}), "unixgram", "/run/log", logbook{})
	w.ListenPacket("unixgram", "/run/daemon").Send("started", "/run/log")
	w.Settle()
	// Output: /run/daemon: started
}

// gate is asked before each pass, as in asyncore: its channel reads and writes when it says so.
type gate struct {
	reader
	open, full bool
}

func (g *gate) Readable() bool { return g.open }
func (g *gate) Writable() bool { return g.full }

func (g *gate) HandleWrite(d *core.Dispatcher) error {
	g.full = false
	_, err := d.Send([]byte("now"))
	return err
}

func ExampleReadPredicate() {
	g := &gate{}
	w, d, peer := pair(g)
	peer.Say("waits")
	w.Settle()
	fmt.Println("nothing yet")
	d.Loop().Post(func() { g.open = true })
	w.Settle()
	// Output:
	// nothing yet
	// read "waits"
}

func ExampleWritePredicate() {
	g := &gate{full: true}
	_, _, peer := pair(g)
	fmt.Println(peer.Read())
	// Output: now
}

// forgetful is a layer with a bug: it is to read while it is empty, and does not ask for it.
type forgetful struct{ reader }

func (forgetful) AuditInterest(*core.Dispatcher) core.Interest { return core.Read }

func ExampleInterestAuditor() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{}) // Strict, as always under core/sim
	sock, _ := w.Pair()
	d, _ := core.Attach(loop, sock, forgetful{})
	d.WantRead(false)
	fmt.Println(loop.Run(context.Background()))
	// Output: parley: audit: ch1 core_test.forgetful 192.0.2.2:49152 waits for - but its layer needs R
}

// shout is a function of any channel, of whatever layer.
func shout(c core.Channel) { fmt.Println(c.Core().ID(), c.Core().RemoteAddr()) }

func ExampleChannel() {
	_, d, _ := pair(reader{})
	shout(d) // or a *core.Listener, a *buffered.Dispatcher, a *chat.Conn
	// Output: 1 192.0.2.2:49152
}

func ExampleFuncs() {
	w, _, peer := pair(&core.Funcs{
		Read: func(d *core.Dispatcher) error {
			p, err := d.RecvShared()
			fmt.Printf("%s", p)
			return err
		},
		Close: func(*core.Dispatcher, error) { fmt.Println("over") },
	})
	peer.Say("short programs need no types\n")
	peer.Close()
	w.Settle()
	// Output:
	// short programs need no types
	// over
}

func ExampleInheritedSocket() {
	sockets, err := core.Inherited(true)                    // from systemd, say
	if err != nil && !errors.Is(err, core.ErrUnsupported) { // on this platform
		fmt.Println(err)
	}
	for _, s := range sockets {
		if s.Listening {
			fmt.Println("would listen on", s.Socket.LocalAddr(), s.Name)
		}
	}
	fmt.Println(len(sockets))
	// Output: 0
}

type securedEcho struct{}

func (securedEcho) HandleRead(d *core.Dispatcher) error {
	p, err := d.RecvShared()
	if err == nil {
		fmt.Printf("%q\n", p)
	}
	return err
}

func (securedEcho) HandleSecure(_ *core.Dispatcher, s tls.ConnectionState) error {
	fmt.Println("secured for", s.ServerName)
	return nil
}

func ExampleSecureHandler() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	cert, err := tlslayer.SelfSigned("server")
	if err != nil {
		panic(err)
	}
	lc := core.ListenConfig{Wrap: tlslayer.WrapServer(&tls.Config{Certificates: []tls.Certificate{cert}})}
	_, err = lc.Listen(loop, "tcp", "server:992", &core.Funcs{Accepted: func(l *core.Listener, s core.Socket) error {
		_, err := core.Attach(l.Loop(), s, securedEcho{})
		return err
	}})
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	dialer := core.Dialer{Wrap: tlslayer.WrapClient(&tls.Config{ServerName: "server", RootCAs: roots})}
	var d core.Dispatcher
	err = dialer.Attach(&d, loop, "tcp", "server:992", &core.Funcs{
		Read:   func(d *core.Dispatcher) error { _, err := d.RecvShared(); return err },
		Secure: func(d *core.Dispatcher, _ tls.ConnectionState) error { _, err := d.Send([]byte("hello")); return err },
	})
	if err != nil {
		panic(err)
	}
	w.Settle()
	// Output:
	// secured for server
	// "hello"
}

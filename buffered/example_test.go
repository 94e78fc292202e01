package buffered_test

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/parley-go/parley/buffered"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
)

// twice answers everything twice, and says when its peer is too slow for that.
type twice struct{}

func (twice) HandleRead(d *buffered.Dispatcher) error {
	p, err := d.RecvShared()
	if err != nil {
		return err
	}
	d.Send(p)          // queued: it goes out when the event is over,
	_, err = d.Send(p) // both in one piece
	return err
}

func (twice) HandleHigh(d *buffered.Dispatcher) error {
	fmt.Println("not read from while", d.Queued(), "bytes wait")
	return nil
}

func (twice) HandleLow(*buffered.Dispatcher) error {
	fmt.Println("read from again")
	return nil
}

func ExampleDispatcher() {
	w := sim.New(sim.Config{})
	sock, peer := w.Pair()
	d, _ := buffered.Attach(w.Loop(core.Options{}), sock, twice{})
	peer.Say("ha")
	fmt.Println(peer.Read())
	d.WriteString("bye")
	d.CloseWhenDone() // when it is out
	peer.Want("bye")
	peer.WantClosed()
	// Output: haha
}

func ExampleMarks() {
	w := sim.New(sim.Config{Window: 8})
	sock, peer := w.Pair()
	d, _ := buffered.Attach(w.Loop(core.Options{}), sock, twice{})
	d.SetMarks(&buffered.Marks{Low: 4, High: 20, Limit: 100})
	peer.Stall(true)
	peer.Say("abcdefgh")
	w.Settle()
	peer.Say("ijklmnop")
	w.Settle()
	peer.Stall(false)
	fmt.Println(peer.Read())
	// Output:
	// not read from while 24 bytes wait
	// read from again
	// abcdefghabcdefghijklmnopijklmnop
}

// countdown is a producer: it makes its output when it can be sent, and not before.
type countdown struct{ n int }

func (p *countdown) More(max int) ([]byte, error) {
	if p.n == 0 {
		return nil, io.EOF
	}
	p.n--
	return fmt.Appendf(nil, "%d ", p.n+1), nil
}

func ExampleProducer() {
	w := sim.New(sim.Config{})
	sock, peer := w.Pair()
	d, _ := buffered.Attach(w.Loop(core.Options{}), sock, twice{})
	d.SendProducer(&countdown{3})
	d.SendProducer(buffered.Reader(strings.NewReader("lift")))
	d.WriteString("-off") // behind them
	fmt.Println(peer.Read())
	// Output: 3 2 1 lift-off
}

// printer is a transport that takes a few bytes at a time.
type printer struct{ room int }

func (t *printer) Send(p []byte) (int, error) {
	n := min(t.room, len(p))
	if n == 0 {
		return 0, core.ErrWouldBlock
	}
	t.room -= n
	fmt.Printf("%s|", p[:n])
	return n, nil
}

func (*printer) SendVector([][]byte) (int, error)           { return 0, core.ErrUnsupported }
func (*printer) SendFile(*os.File, int64, int) (int, error) { return 0, core.ErrUnsupported }
func (*printer) Borrow(n int) []byte                        { return make([]byte, 0, n) }
func (*printer) GiveBack([]byte)                            {}

func ExampleOutput() {
	var o buffered.Output
	t := &printer{room: 5}
	o.PushString(t, "one ")
	o.PushString(t, "two ")
	o.Flush(t) // one send, which is cut short
	fmt.Println(o.Len(), o.Blocked())
	t.room = 100
	o.Writable()
	o.Flush(t)
	fmt.Println(o.Len(), o.Blocked(), o.Empty())
	// Output:
	// one t|3 true
	// wo |0 false true
}

func ExampleTransport() {
	var o buffered.Output
	t := &printer{room: 100} // a test's, in place of a channel
	o.PushProducer(t, buffered.Bytes([]byte("in portions"), 4))
	o.Flush(t)
	// Output: in p|orti|ons|
}

func ExampleLevel() {
	var o buffered.Output
	o.SetMarks(&buffered.Marks{Low: 1, High: 4, Limit: 100})
	t := &printer{}
	o.PushString(t, "123456")
	o.Flush(t)
	fmt.Println(o.Level() == buffered.Rose, o.Level() == buffered.Steady)
	t.room = 100
	o.Writable()
	o.Flush(t)
	fmt.Println(o.Level() == buffered.Fell)
	// Output:
	// true true
	// 123456|true
}

func ExampleShared() {
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{})
	m := buffered.NewShared([]byte("to all: lunch!\n")) // made once
	var peers []*sim.Peer
	for range 3 {
		s, peer := w.Pair()
		d, _ := buffered.Attach(loop, s, &handler{})
		d.SendShared(m) // not copied
		peers = append(peers, peer)
	}
	m.Release()
	for _, p := range peers {
		fmt.Print(p.Read())
	}
	// Output:
	// to all: lunch!
	// to all: lunch!
	// to all: lunch!
}

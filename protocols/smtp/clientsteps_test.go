package smtp_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// stage is a client whose server is played by the test.
type stage struct {
	*sim.World
	t       *testing.T
	loop    *core.Loop
	c       *smtp.Client
	peer    *sim.Peer
	results results
	causes  []error
}

func newStage(t *testing.T, net sim.Config, c *smtp.Client) *stage {
	t.Helper()
	net.T = t
	s := &stage{World: sim.New(net), t: t, c: c}
	s.loop = s.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { s.loop.Close() })
	ln := s.Listen("tcp", address)
	c.Hostname = "client.example"
	c.Closed = func(cause error) { s.causes = append(s.causes, cause) }
	require.NoError(t, c.Dial(s.loop, "tcp", address))
	s.peer = ln.Accept()
	return s
}

func (s *stage) send(m *smtp.Outgoing) {
	s.t.Helper()
	require.NoError(s.t, s.c.Send(m, s.results.add))
}

// offer greets and answers EHLO.
func (s *stage) offer(keywords ...string) {
	s.t.Helper()
	s.peer.Say("220 mx\r\n")
	hello := "EHLO"
	if s.c.LMTP {
		hello = "LHLO"
	}
	s.peer.Want(hello + " client.example\r\n")
	lines := append([]string{"mx"}, keywords...)
	for i, l := range lines {
		s.peer.Say("250" + map[bool]string{true: " ", false: "-"}[i == len(lines)-1] + l + "\r\n")
	}
}

// answer wants a command, and answers it.
func (s *stage) answer(command, reply string) {
	s.t.Helper()
	s.peer.Want(command + "\r\n")
	s.peer.Say(reply + "\r\n")
}

const (
	mailCommand = "MAIL FROM:<a@client.example>"
	rcptCommand = "RCPT TO:<user@example.org>"
)

// upTo is a conversation up to a step.
var upTo = []struct {
	name    string
	step    string
	timeout time.Duration
	play    func(s *stage)
}{
	{"Greeting", "greeting", 5 * time.Minute, func(s *stage) {}},
	{"Hello", "EHLO", 5 * time.Minute, func(s *stage) { s.peer.Say("220 mx\r\n"); s.peer.Want("EHLO client.example\r\n") }},
	{"Helo", "HELO", 5 * time.Minute, func(s *stage) { s.peer.Say("220 mx\r\n"); s.answer("EHLO client.example", "500 What?") }},
	{"StartTLS", "STARTTLS", 2 * time.Minute, func(s *stage) { s.offer("STARTTLS"); s.peer.Want("STARTTLS\r\n") }},
	{"Handshake", "TLS", time.Minute, func(s *stage) { s.offer("STARTTLS"); s.answer("STARTTLS", "220 Go on") }},
	{"Auth", "AUTH", 5 * time.Minute, func(s *stage) { s.offer("AUTH CRAM-MD5"); s.peer.Want("AUTH CRAM-MD5\r\n") }},
	{"AuthStep", "AUTH", 5 * time.Minute, func(s *stage) { s.offer("AUTH CRAM-MD5"); s.answer("AUTH CRAM-MD5", "334 eA==") }},
	{"Mail", "MAIL", 5 * time.Minute, func(s *stage) { s.auth(); s.peer.Want(mailCommand + "\r\n") }},
	{"Rcpt", "RCPT", 5 * time.Minute, func(s *stage) { s.auth(); s.answer(mailCommand, "250 Ok") }},
	{"Data", "DATA", 2 * time.Minute, func(s *stage) { s.auth(); s.answer(mailCommand, "250 Ok"); s.answer(rcptCommand, "250 Ok") }},
	{"End", "end of message", 10 * time.Minute, func(s *stage) {
		s.auth()
		s.answer(mailCommand, "250 Ok")
		s.answer(rcptCommand, "250 Ok")
		s.answer("DATA", "354 Go on")
		s.peer.Want("x\r\n.\r\n")
	}},
	{"Reset", "RSET", 5 * time.Minute, func(s *stage) {
		s.auth()
		s.answer(mailCommand, "550 No")
		s.peer.Want("RSET\r\n")
	}},
}

// auth is a server that offers nothing but CRAM-MD5.
func (s *stage) auth() {
	s.offer("AUTH CRAM-MD5")
	s.answer("AUTH CRAM-MD5", "334 eA==")
	s.peer.WantLine()
	s.peer.Say("235 Yes\r\n")
}

// staged is a client with two messages and a step that is reached.
func staged(t *testing.T, play func(*stage), timeouts smtp.ClientTimeouts) *stage {
	s := newStage(t, sim.Config{}, &smtp.Client{Auth: &smtp.ClientAuth{User: "tim", Password: "x"}, Timeouts: timeouts})
	s.send(outgoing(t, "x", "user"))
	s.send(outgoing(t, "y", "other"))
	play(s)
	s.Settle()
	return s
}

// Each step has its time, and is told by name; the default is that of RFC 5321 section 4.5.3.2.
func TestClientTimeouts(t *testing.T) {
	useFakeClientTLS(t, nil)
	for _, x := range upTo {
		t.Run(x.name, func(t *testing.T) {
			s := staged(t, x.play, smtp.ClientTimeouts{})
			before := len(s.results)
			s.peer.Read()
			s.Advance(x.timeout - time.Millisecond)
			require.Len(t, s.results, before)
			s.peer.WantNothing()
			s.Advance(time.Millisecond)
			require.Len(t, s.results, 2)
			r := s.results[before]
			require.ErrorIs(t, r.Err, core.ErrTimeout)
			require.Equal(t, x.step, r.Step)
			require.Equal(t, 451, r.Reply.Code)
			require.Equal(t, x.name == "End", r.Uncertain)
			require.Len(t, s.causes, 1)
			require.ErrorIs(t, s.causes[0], core.ErrTimeout)
			s.peer.WantClosed()
			require.ErrorIs(t, s.c.Send(outgoing(t, "x", "user"), nil), core.ErrClosed)
		})
	}
}

// Other times count where they are set, and none where they are negative.
func TestClientTimeoutsAreFields(t *testing.T) {
	useFakeClientTLS(t, nil)
	short := func(name string, d time.Duration) (c smtp.ClientTimeouts) {
		switch name {
		case "Greeting":
			c.Greeting = d
		case "Hello", "Helo":
			c.Hello = d
		case "StartTLS":
			c.StartTLS = d
		case "Handshake":
			c.Handshake = d
		case "Auth", "AuthStep":
			c.Auth = d
		case "Mail", "Reset":
			c.Mail = d
		case "Rcpt":
			c.Rcpt = d
		case "Data":
			c.Data = d
		case "End":
			c.End = d
		}
		return c
	}
	for _, x := range upTo {
		s := staged(t, x.play, short(x.name, time.Second))
		s.Advance(time.Second)
		require.Len(t, s.causes, 1, x.name)
		s = staged(t, x.play, short(x.name, -1))
		s.Advance(50 * time.Minute)
		require.Empty(t, s.causes, x.name)
	}
}

// A connection that is lost at any step, by its end or a reset: each message has one result.
func TestClientLostAtEachStep(t *testing.T) {
	useFakeClientTLS(t, nil)
	for _, x := range upTo {
		for _, reset := range []bool{false, true} {
			s := staged(t, x.play, smtp.ClientTimeouts{})
			before := len(s.results)
			if reset {
				s.peer.Reset()
			} else {
				s.peer.CloseWrite()
			}
			s.Settle()
			require.Len(t, s.results, 2, x.name)
			r := s.results[before]
			if reset {
				require.ErrorIs(t, r.Err, syscall.ECONNRESET, x.name)
			} else {
				require.ErrorIs(t, r.Err, io.EOF, x.name)
			}
			require.Equal(t, "451 4.4.2 The connection was lost", r.Reply.Error())
			require.Equal(t, x.step, r.Step)
			require.Equal(t, x.name == "End", r.Uncertain)
			require.False(t, s.results[1].Uncertain)
			require.Len(t, s.causes, 1)
		}
	}
}

// So does a shutdown of the loop, Close, and 421. A message under way may come to its end within the grace.
func TestClientEndsAtEachStep(t *testing.T) {
	useFakeClientTLS(t, nil)
	for _, x := range upTo {
		s := staged(t, x.play, smtp.ClientTimeouts{})
		before := len(s.results)
		s.c.Close()
		s.c.Close()
		require.Len(t, s.results, before)
		s.Settle()
		require.Len(t, s.results, 2, x.name)
		require.ErrorIs(t, s.results[1].Err, core.ErrClosed)
		require.Len(t, s.causes, 1)
		require.ErrorIs(t, s.causes[0], core.ErrClosed)

		s = staged(t, x.play, smtp.ClientTimeouts{})
		s.loop.Shutdown(time.Second)
		s.Settle()
		s.Advance(2 * time.Second)
		require.Len(t, s.results, 2, x.name)
		require.ErrorIs(t, s.results[1].Err, core.ErrShutdown, x.name)
		require.Equal(t, "451 4.3.2 The system shuts down", s.results[1].Reply.Error())
		require.Len(t, s.causes, 1)

		if x.name == "Handshake" {
			continue
		}
		s = staged(t, x.play, smtp.ClientTimeouts{})
		s.peer.Say("421 4.3.2 Going\r\n")
		s.Settle()
		require.Len(t, s.results, 2, x.name)
		require.NoError(t, s.results[1].Err)
		require.Equal(t, "421 4.3.2 Going", s.results[1].Reply.Error())
		require.Len(t, s.causes, 1)
	}
}

func TestClientShutdownFinishesTheMessage(t *testing.T) {
	s := newStage(t, sim.Config{}, &smtp.Client{})
	s.send(outgoing(t, "x", "user"))
	s.send(outgoing(t, "y", "user"))
	s.offer()
	s.answer(mailCommand, "250 Ok")
	s.loop.Shutdown(time.Minute)
	s.answer(rcptCommand, "250 Ok")
	s.answer("DATA", "354 Go on")
	s.answer("x\r\n.", "250 Ok")
	s.answer("QUIT", "221 Bye")
	s.peer.WantClosed()
	require.Len(t, s.results, 2)
	require.ErrorIs(t, s.results[0].Err, core.ErrShutdown) // the one that had not begun
	require.True(t, s.results[1].OK())
	require.Equal(t, []error{nil}, s.causes)
}

// Every cut of what the server says, in a whole conversation: no result is lost, none comes twice, none is taken for accepted
// that was not.
func TestClientServerCutOff(t *testing.T) {
	script := [][2]string{
		{"", "220-mx\r\n220 here\r\n"},
		{"EHLO client.example\r\n", "250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"},
		{mailCommand + "\r\n" + rcptCommand + "\r\n", "250 Ok\r\n250-2.1.5 O\r\n250 2.1.5 k\r\n"},
		{"BDAT 3 LAST\r\nx\r\n", "250 2.0.0 Taken\r\n"},
		{mailCommand + "\r\n" + rcptCommand + "\r\n", "250 Ok\r\n550 No\r\n"},
		{"RSET\r\n" + mailCommand + "\r\n" + rcptCommand + "\r\n", "250 Ok\r\n250 Ok\r\n250 Ok\r\n"},
		{"BDAT 3 LAST\r\nz\r\n", "550 Spam\r\n"},
		{"QUIT\r\n", "221 Bye\r\n"},
	}
	total, taken := 0, 0 // taken: where the first message is accepted
	for i, x := range script {
		if total += len(x[1]); i == 3 {
			taken = total
		}
	}
	for cut := 0; cut <= total; cut++ {
		for _, reset := range []bool{false, true} {
			s := newStage(t, sim.Config{}, new(smtp.Client))
			var sent []*smtp.Outgoing
			for _, text := range []string{"x", "y", "z"} {
				sent = append(sent, outgoing(t, text, "user"))
				s.send(sent[len(sent)-1])
			}
			s.c.Quit()
			said := 0
			for _, x := range script {
				s.peer.Want(x[0])
				if said+len(x[1]) >= cut {
					s.peer.Say(x[1][:cut-said])
					break
				}
				s.peer.Say(x[1])
				said += len(x[1])
			}
			s.Settle()
			if reset {
				s.peer.Reset()
			} else {
				s.peer.CloseWrite()
			}
			s.Settle()
			require.Len(t, s.results, 3, "cut at %d", cut)
			require.Len(t, s.causes, 1)
			accepted := 0
			for i, r := range s.results {
				require.Same(t, sent[i], r.Outgoing)
				accepted += r.Accepted()
				require.Len(t, r.To, 1)
				require.NotNil(t, r.Reply)
			}
			if cut < taken {
				require.Zero(t, accepted, "cut at %d", cut)
			} else {
				require.Equal(t, 1, accepted, "cut at %d: %v", cut, resultText(s.results[0]))
			}
		}
	}
}

// The connection does not come about: each address is tried.
func TestClientUnreachable(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	loop := w.Loop(core.Options{})
	w.Host("dead", "192.0.2.66")
	w.BlackHole("192.0.2.66")
	w.Host("both", "192.0.2.66", "192.0.2.1")
	var got results
	send := func(host string, network string) {
		c := &smtp.Client{}
		require.ErrorIs(t, c.Send(outgoing(t, "x", "user"), got.add), core.ErrClosed)
		require.NoError(t, c.Dial(loop, network, host))
		require.NoError(t, c.Send(outgoing(t, "x", "user"), got.add))
		require.Error(t, c.Dial(loop, network, host))
		c.Quit()
	}
	send("server:25", "tcp")
	send("nowhere:25", "tcp")
	send("dead:25", "tcp")
	w.Advance(31 * time.Second)
	require.Len(t, got, 3)
	var op *net.OpError
	for _, r := range got {
		require.ErrorAs(t, r.Err, &op)
		require.Equal(t, "451 4.4.1 The server cannot be reached", r.Reply.Error())
		require.Equal(t, "connect", r.Step)
	}
	require.ErrorIs(t, got[2].Err, core.ErrTimeout)

	ln := w.Listen("tcp", address)
	send("both:25", "tcp")
	p := ln.Accept()
	p.Say("220 mx\r\n")
	p.Want("EHLO [192.0.2.2]\r\n")
	require.Error(t, new(smtp.Client).Dial(loop, "tcp", "no port"))
}

// What a func of the caller's does wrong costs the connection, and no other message its result.
func TestClientPanics(t *testing.T) {
	s := newStage(t, sim.Config{}, &smtp.Client{})
	require.NoError(t, s.c.Send(outgoing(t, "x", "user"), func(*smtp.Result) { panic("done") }))
	s.send(outgoing(t, "y", "user"))
	s.offer()
	s.answer(mailCommand, "550 No")
	s.Settle()
	require.Len(t, s.results, 1)
	var p *core.PanicError
	require.ErrorAs(t, s.results[0].Err, &p)
	require.Len(t, s.causes, 1)

	s = newStage(t, sim.Config{}, &smtp.Client{})
	for range 3 {
		require.NoError(t, s.c.Send(outgoing(t, "x", "user"), func(r *smtp.Result) { s.results.add(r); panic("done") }))
	}
	s.peer.Say("421 No\r\n")
	s.Settle()
	require.Len(t, s.results, 3)
	require.Len(t, s.causes, 1)
}

// done may send, quit and close.
func TestClientCallsFromDone(t *testing.T) {
	s := newStage(t, sim.Config{}, &smtp.Client{})
	n := 0
	var again func(r *smtp.Result)
	again = func(r *smtp.Result) {
		s.results.add(r)
		if n++; n < 3 {
			require.NoError(t, s.c.Send(outgoing(t, "x", "user"), again))
		} else {
			s.c.Quit()
		}
	}
	again(&smtp.Result{})
	s.offer()
	for range 2 {
		s.answer(mailCommand, "250 Ok")
		s.answer(rcptCommand, "250 Ok")
		s.answer("DATA", "354 Go on")
		s.answer("x\r\n.", "250 Ok")
	}
	s.answer("QUIT", "221 Bye")
	s.peer.WantClosed()
	require.Equal(t, []error{nil}, s.causes)

	s = newStage(t, sim.Config{}, &smtp.Client{})
	require.NoError(t, s.c.Send(outgoing(t, "x", "user"), func(r *smtp.Result) { s.results.add(r); s.c.Close() }))
	s.send(outgoing(t, "y", "user"))
	s.offer()
	s.answer(mailCommand, "550 No")
	s.peer.WantClosed()
	require.Len(t, s.results, 2)
	require.ErrorIs(t, s.results[1].Err, core.ErrClosed)
}

func TestClientQueue(t *testing.T) {
	s := newStage(t, sim.Config{}, &smtp.Client{MaxQueue: 2})
	s.send(outgoing(t, "x", "user"))
	s.send(outgoing(t, "y", "user"))
	require.ErrorIs(t, s.c.Send(outgoing(t, "z", "user"), s.results.add), core.ErrOverflow)
	require.Equal(t, 2, s.c.Len())
	require.True(t, s.c.Open())
	s.c.Quit()
	s.c.Quit()
	require.False(t, s.c.Open())
	require.ErrorIs(t, s.c.Send(outgoing(t, "z", "user"), s.results.add), core.ErrClosed)
	s.peer.Say("554 No\r\n")
	s.answer("QUIT", "221 Bye")
	s.peer.WantClosed()
	require.Len(t, s.results, 2)
	require.Zero(t, s.c.Len())
	require.EqualError(t, s.causes[0], "554 No")
}

// An idle connection ends with QUIT.
func TestClientIdle(t *testing.T) {
	s := newStage(t, sim.Config{}, &smtp.Client{})
	s.offer()
	s.Advance(4*time.Minute - time.Second)
	s.send(outgoing(t, "x", "user"))
	s.answer(mailCommand, "550 No")
	s.Advance(4*time.Minute - time.Second)
	s.peer.WantNothing()
	s.Advance(time.Second)
	s.peer.Want("QUIT\r\n")
	s.Advance(9 * time.Second)
	require.Empty(t, s.causes)
	s.Advance(time.Second)
	s.peer.WantClosed()
	require.Equal(t, []error{nil}, s.causes)

	s = newStage(t, sim.Config{}, &smtp.Client{})
	s.offer()
	s.peer.CloseWrite()
	s.peer.WantClosed()
	require.Equal(t, []error{io.EOF}, s.causes)
}

func TestClientBadFields(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	loop := w.Loop(core.Options{})
	for _, c := range []*smtp.Client{
		{Hostname: "a b"},
		{Hostname: "a\r\nMAIL FROM:<x@y>"},
		{Hostname: "größe.example"},
		{Auth: &smtp.ClientAuth{}},
		{Auth: &smtp.ClientAuth{User: "a\x00b"}},
		{Auth: &smtp.ClientAuth{User: "a", Password: "\xff"}},
		{Auth: &smtp.ClientAuth{Mechanisms: []smtp.ClientMechanism{{Name: "X Y"}}}},
		{Auth: &smtp.ClientAuth{Mechanisms: []smtp.ClientMechanism{{Name: "X"}}}},
	} {
		sock, _ := w.Pair()
		require.Error(t, c.Dial(loop, "tcp", address))
		require.Error(t, c.Attach(loop, sock))
		c.Quit()
		c.Close()
		require.Nil(t, c.Conn())
	}
	require.Equal(t, "required", fmt.Sprint(smtp.TLSRequired))
}

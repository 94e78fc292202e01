package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// moody is a Backend whose hooks answer at once, later, in another hook, or never; accept, refuse, fail, panic or hang up.
// It checks that no hook is called within another, and what a Message may rely on.
type moody struct {
	t        *testing.T
	rng      *rand.Rand
	calm     bool // nothing goes wrong but refusals
	inside   bool
	pending  []func() // answers that other hooks give
	messages []*moodyMessage
	sessions map[*smtp.Session]int // 1: begun, 2: told of its end
}

type moodyMessage struct {
	b       *moody
	s       *smtp.Session
	id      string
	over    bool // Commit or Abort was called
	stored  bool // what Commit has to do was done
	aborted bool
	out     bool // work was given to Later, and has not ended
	running bool // and has begun
}

// hook wraps the decision of a hook. m is the Message whose method it is, if it is one; done is called when it accepts.
func (b *moody) hook(s *smtp.Session, m *moodyMessage, done func()) error {
	require.False(b.t, b.inside, "a hook within a hook")
	b.inside = true
	defer func() { b.inside = false }()
	for len(b.pending) > 0 && b.rng.IntN(2) == 0 {
		answer := b.pending[0]
		b.pending = b.pending[1:]
		answer()
	}
	decide := func() error {
		switch b.rng.IntN(20) {
		case 0:
			return smtp.Replyf(450, "4.2.0", "not now")
		case 1:
			return smtp.Replyf(550, "5.7.1", "never")
		case 2:
			return errors.New("broken")
		case 3:
			if !b.calm {
				return smtp.Replyf(421, "4.3.2", "go away")
			}
		}
		if done != nil {
			done()
		}
		return nil
	}
	switch b.rng.IntN(12) {
	case 0, 1, 2:
		if m != nil {
			m.out, m.running = true, false
		}
		return s.Later(func(context.Context) error {
			if m != nil {
				require.True(b.t, m.out)
				m.running = true
				defer func() { m.out, m.running = false, false }()
			}
			if !b.calm && b.rng.IntN(20) == 0 {
				panic("work")
			}
			return decide()
		})
	case 3, 4:
		answer, pending := s.Deferred()
		reply := func() {
			err := error(core.ErrClosed) // nobody hears it
			if b.sessions[s] < 2 {
				err = decide()
			}
			answer(err)
		}
		switch {
		case b.rng.IntN(3) == 0:
			b.pending = append(b.pending, reply)
		case b.calm || b.rng.IntN(20) > 0:
			s.Conn().Loop().AfterFunc(time.Duration(b.rng.IntN(3000))*time.Millisecond, reply)
		}
		return pending
	case 5:
		if !b.calm && b.rng.IntN(10) == 0 {
			s.Conn().Close()
		}
	case 6:
		if !b.calm && b.rng.IntN(10) == 0 {
			panic("hook")
		}
	}
	return decide()
}

func (b *moody) HandleConnect(s *smtp.Session) error {
	b.sessions[s] = 1
	if b.calm {
		return nil
	}
	return b.hook(s, nil, nil)
}

func (b *moody) HandleHello(s *smtp.Session, _ string) error { return nil }
func (b *moody) HandleMail(s *smtp.Session, _ smtp.Path, _ smtp.Params) error {
	return b.hook(s, nil, nil)
}
func (b *moody) HandleRcpt(s *smtp.Session, _ smtp.Path, _ smtp.Params) error {
	return b.hook(s, nil, nil)
}

func (b *moody) HandleVrfy(s *smtp.Session, what string) error {
	if err := b.hook(s, nil, nil); err != nil {
		return err
	}
	return smtp.Replyf(250, "2.1.5", "mark %s", what)
}

func (b *moody) HandleReset(*smtp.Session) { require.False(b.t, b.inside) }

func (b *moody) HandleQuit(s *smtp.Session, _ error) {
	require.False(b.t, b.inside)
	require.Equal(b.t, 1, b.sessions[s])
	b.sessions[s] = 2
}

func (b *moody) Begin(s *smtp.Session, e *smtp.Envelope) (smtp.Message, error) {
	require.NotEmpty(b.t, e.To)
	m := &moodyMessage{b: b, s: s, id: s.ID()}
	err := b.hook(s, m, nil)
	b.messages = append(b.messages, m)
	return m, err
}

func (m *moodyMessage) idle() {
	require.False(m.b.t, m.over)
	require.False(m.b.t, m.out)
}

func (m *moodyMessage) Write(p []byte) (int, error) {
	m.idle()
	return len(p), m.b.hook(m.s, m, nil)
}

func (m *moodyMessage) Commit() error {
	m.idle()
	m.over = true
	return m.b.hook(m.s, m, func() { m.stored = true })
}

func (m *moodyMessage) CommitEach(answer func(int, error)) error { return m.Commit() }

func (m *moodyMessage) Abort() {
	require.False(m.b.t, m.b.inside)
	require.False(m.b.t, m.aborted)
	require.False(m.b.t, m.running)
	require.False(m.b.t, m.stored)
	if m.over {
		require.True(m.b.t, m.out, "the work of Commit has begun")
	}
	m.over, m.aborted = true, true
}

// Whatever hooks and clients do: each Message is committed or aborted, once, and not while it works; what a client is told
// was taken was stored, and the other way round if it stayed; answers come in the order of the commands; nothing is left.
func TestLifecycle(t *testing.T) {
	runs := 400
	if testing.Short() {
		runs = 50
	}
	stored, aborted := 0, 0
	for seed := range uint64(runs) {
		for _, m := range lifecycle(t, seed) {
			if m.stored {
				stored++
			}
			if m.aborted {
				aborted++
			}
		}
	}
	require.Greater(t, stored, runs/2)
	require.Greater(t, aborted, runs/2)
}

var takenAs = regexp.MustCompile(`(?m)^250 2\.0\.0 Ok, taken as (\S+)\r$`)

func lifecycle(t *testing.T, seed uint64) []*moodyMessage {
	rng := rand.New(rand.NewPCG(seed, 7))
	b := &moody{t: t, rng: rng, calm: seed%3 == 0, sessions: make(map[*smtp.Session]int)}
	w := sim.New(sim.Config{T: t, Seed: seed, Work: 2 * time.Second, MaxRecv: 1 + rng.IntN(200), RandomCuts: true, Latency: time.Millisecond,
		Again: 0.1, Spurious: 0.1, Window: 300})
	loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler), MaxWorkers: 1 + rng.IntN(3), MaxPosts: 3 + rng.IntN(50)})
	defer loop.Close()
	srv := &smtp.Server{Hostname: "mx.example.org", Backend: b, LMTP: seed%2 == 0, Limits: smtp.Limits{Errors: -1}}
	_, err := srv.Listen(loop, "tcp", address)
	require.NoError(t, err)
	var peers []*sim.Peer
	for range 4 {
		p := w.Dial("tcp", address)
		peers = append(peers, p)
		p.Say(map[bool]string{true: "LHLO x\r\n", false: "EHLO x\r\n"}[srv.LMTP])
	}
	mark := 0
	for range 15 {
		p := peers[rng.IntN(len(peers))]
		switch n := rng.IntN(12); {
		case n < 4:
			mark++
			p.Say("VRFY " + strconv.Itoa(mark) + "\r\n")
		case n < 7:
			p.Say("RSET\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n" + strings.Repeat("..line\r\n", rng.IntN(4)) + ".\r\n")
		case n < 9:
			p.Say("RSET\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nBDAT 3\r\n1\r\nBDAT 0\r\nBDAT 3 LAST\r\n2\r\n")
		case n < 10:
			p.Say("RSET\r\nMAIL FROM:<>\r\nRCPT TO:<a@b>\r\nBDAT 3\r\n1\r\n")
		case b.calm:
		case n < 11:
			p.CloseWrite()
		case rng.IntN(2) == 0:
			p.Reset()
		default:
			p.Say("QUIT\r\n")
		}
		w.Advance(time.Duration(rng.IntN(5000)) * time.Millisecond)
	}
	if b.calm {
		w.Advance(time.Minute)
		for len(b.pending) > 0 {
			b.pending[0]()
			b.pending = b.pending[1:]
			w.Advance(time.Minute)
		}
	}
	loop.Shutdown(time.Duration(rng.IntN(10)) * time.Second)
	w.Advance(time.Hour)

	told := make(map[string]bool)
	for _, p := range peers {
		text, last := p.Read(), 0
		for _, m := range takenAs.FindAllStringSubmatch(text, -1) {
			require.False(t, told[m[1]], "seed %d: twice", seed)
			told[m[1]] = true
		}
		for _, m := range regexp.MustCompile(`mark (\d+)\r\n`).FindAllStringSubmatch(text, -1) {
			n, _ := strconv.Atoi(m[1])
			require.Greater(t, n, last, "seed %d", seed)
			last = n
		}
	}
	stored := int64(0)
	for i, m := range b.messages {
		require.True(t, m.over, "seed %d: message %d is neither committed nor aborted", seed, i)
		require.True(t, m.aborted || !m.out, "seed %d: the work of message %d never began, and it was not aborted", seed, i)
		if m.stored {
			stored++
		}
		if told[m.id] {
			require.True(t, m.stored, "seed %d: message %d was taken, and is not there", seed, i)
		}
		if b.calm {
			require.Equal(t, m.stored, told[m.id], "seed %d: message %d", seed, i)
		}
		delete(told, m.id)
	}
	require.Empty(t, told, fmt.Sprint("seed ", seed))
	for _, state := range b.sessions {
		require.Equal(t, 2, state, "seed %d", seed)
	}
	require.Zero(t, srv.Open(), "seed %d", seed)
	require.LessOrEqual(t, srv.Counters().Messages, stored)
	return b.messages
}

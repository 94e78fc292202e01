package smtp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/internal/race"
	"github.com/parley-go/parley/protocols/smtp"
)

// transaction plays a server up to where the message comes.
func (s *stage) transaction(chunked bool) {
	s.t.Helper()
	s.answer(mailCommand, "250 Ok")
	s.answer(rcptCommand, "250 Ok")
	if !chunked {
		s.answer("DATA", "354 Go on")
	}
}

var errDisk = errors.New("disk failure")

// What is wrong with a message, or with its reader, refuses that message. In chunks it can be given up, and the connection
// goes on; after DATA only its end keeps the server from taking a part for the whole.
func TestClientBadBodies(t *testing.T) {
	long := strings.Repeat("0123456789abcde\n", 10_000)
	reader := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) } // not known to be in memory
	for _, x := range []struct {
		name string
		body func() io.Reader
		m    smtp.Outgoing
		want string
	}{
		{"error", func() io.Reader { return io.MultiReader(strings.NewReader(long), iotest.ErrReader(errDisk)) }, smtp.Outgoing{}, "451 4.3.0 Local error"},
		{"error at once", func() io.Reader { return iotest.ErrReader(errDisk) }, smtp.Outgoing{}, "451 4.3.0 Local error"},
		{"error on the loop", func() io.Reader { return iotest.ErrReader(errDisk) }, smtp.Outgoing{Direct: true}, "451 4.3.0 Local error"},
		{"NUL", func() io.Reader { return reader(long + "\x00") }, smtp.Outgoing{}, "550 5.6.0 The message has a NUL"},
		{"bare LF", func() io.Reader { return reader(long) }, smtp.Outgoing{RefuseBare: true}, "550 5.6.0 The message has a CR or LF by itself"},
		{"bare CR", func() io.Reader { return reader("a\rb") }, smtp.Outgoing{RefuseBare: true}, "550 5.6.0 The message has a CR or LF by itself"},
		{"bare CR at the end", func() io.Reader { return reader("a\r") }, smtp.Outgoing{RefuseBare: true}, "550 5.6.0 The message has a CR or LF by itself"},
		{"8 bit", func() io.Reader { return reader(long + "\xe4") }, smtp.Outgoing{}, "550 5.6.3 The message needs 8BITMIME, which the server does not offer"},
		{"7 bit", func() io.Reader { return reader(long + "\xe4") }, smtp.Outgoing{Params: smtp.Params{"BODY": "7BIT"}}, "550 5.6.0 The message is not 7BIT, as it says"},
		{"no progress", func() io.Reader { return stuck{} }, smtp.Outgoing{Direct: true}, "451 4.3.0 Local error"},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprint(x.name, " chunked ", chunked), func(t *testing.T) {
				s := newStage(t, sim.Config{Work: time.Millisecond}, &smtp.Client{NoChunking: !chunked})
				m := x.m
				m.From, m.Body = addr(t, "a@client.example"), x.body()
				m.To = []smtp.Recipient{{Path: addr(t, "user@example.org")}}
				s.send(&m)
				s.send(outgoing(t, "second", "user"))
				s.offer("CHUNKING")
				s.transaction(chunked)
				if !chunked {
					s.peer.Want("") // whatever comes
					s.Settle()
					require.True(t, s.peer.Ended())
					require.NotContains(t, s.peer.Read(), "\r\n.\r\n")
					require.Len(t, s.results, 2)
					require.Error(t, s.results[1].Err)
				} else {
					for s.Settle(); len(s.results) == 0; s.Settle() {
						size, last, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(s.peer.WantLine(), "BDAT ")), " ")
						require.Empty(t, last)
						n, err := strconv.Atoi(size)
						require.NoError(t, err)
						for got := ""; len(got) < n; {
							got += s.peer.WantLine()
						}
						s.peer.Say("250 Ok\r\n")
					}
					s.answer("RSET", "250 Ok")
					s.transaction(true)
					s.peer.Want("BDAT 8 LAST\r\nsecond\r\n")
					s.peer.Say("250 Ok\r\n")
					s.Settle()
					require.Len(t, s.results, 2)
					require.True(t, s.results[1].OK())
				}
				r := s.results[0]
				require.Equal(t, x.want, r.Reply.Error())
				require.Equal(t, "message", r.Step)
				require.Equal(t, x.want, r.To[0].Error())
				require.Error(t, r.Err)
				if strings.HasPrefix(x.name, "error") {
					require.ErrorIs(t, r.Err, errDisk)
				}
				require.False(t, r.Uncertain)
			})
		}
	}
}

// stuck reads nothing.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// What is in memory is looked at before anything is sent.
func TestClientLooksBeforehand(t *testing.T) {
	s := newStage(t, sim.Config{}, &smtp.Client{})
	for _, body := range []io.Reader{strings.NewReader("a\x00"), bytes.NewReader([]byte("a\x00")), bytes.NewBufferString("a\x00")} {
		m := outgoing(t, "", "user")
		m.Body = body
		s.send(m)
	}
	s.send(outgoing(t, "\xe4", "user"))
	half := strings.NewReader("\xe4\x00ok")
	_, _ = half.Seek(2, io.SeekStart)
	m := outgoing(t, "", "user")
	m.Body = half
	s.send(m)
	s.offer()
	s.transaction(false)
	s.answer("ok\r\n.", "250 Ok")
	s.Settle()
	require.Len(t, s.results, 5)
	for _, r := range s.results[:3] {
		require.Equal(t, "550 5.6.0 The message has a NUL", r.Reply.Error())
		require.Equal(t, "MAIL", r.Step)
	}
	require.Equal(t, "550 5.6.3 The message needs 8BITMIME, which the server does not offer", s.results[3].Reply.Error())
	require.True(t, s.results[4].OK())
}

// A Body that panics costs the connection.
func TestClientBodyPanics(t *testing.T) {
	for _, direct := range []bool{false, true} {
		s := newStage(t, sim.Config{}, &smtp.Client{})
		m := outgoing(t, "", "user")
		m.Body, m.Direct = readerFunc(func([]byte) (int, error) { panic("read") }), direct
		s.send(m)
		s.send(outgoing(t, "y", "user"))
		s.offer()
		s.transaction(false)
		s.peer.WantClosed()
		require.Len(t, s.results, 2)
		var p *core.PanicError
		require.ErrorAs(t, s.results[0].Err, &p)
		require.Len(t, s.causes, 1)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A server that has enough in the middle of a message says so; nobody knows what comes after that.
func TestClientEarlyRefusal(t *testing.T) {
	for _, x := range []struct{ says, want string }{
		{"552 5.3.4 Too large", "552 5.3.4 Too large"},
		{"421 4.3.1 Disk full", "421 4.3.1 Disk full"},
		{"250 Ok", "451 4.5.0 The server does not keep to the protocol"},
	} {
		s := newStage(t, sim.Config{Window: 10_000}, &smtp.Client{})
		s.send(outgoing(t, strings.Repeat("0123456789\r\n", 100_000), "user"))
		s.send(outgoing(t, "y", "user"))
		s.offer()
		s.transaction(false)
		s.peer.Stall(true)
		s.Settle()
		s.peer.Say(x.says + "\r\n")
		s.Settle()
		require.Len(t, s.results, 2)
		require.Equal(t, x.want, s.results[0].Reply.Error())
		require.False(t, s.results[0].Uncertain)
		require.Equal(t, "message", s.results[0].Step)
	}
}

// Chunks are sent ahead of their answers; when one is refused, no other follows but those on their way.
func TestClientChunksAhead(t *testing.T) {
	for _, pipelining := range []bool{false, true} {
		s := newStage(t, sim.Config{Latency: 10 * time.Millisecond, Window: 1 << 20}, &smtp.Client{})
		text := strings.Repeat("0123456789abcde\n", 100_000)
		s.send(outgoing(t, text, "user"))
		s.send(outgoing(t, "second", "user"))
		offers := []string{"CHUNKING"}
		if pipelining {
			offers = append(offers, "PIPELINING")
		}
		s.offer(offers...)
		s.peer.Want(mailCommand + "\r\n")
		s.peer.Say("250 Ok\r\n")
		s.peer.Want(rcptCommand + "\r\n")
		s.peer.Say("250 Ok\r\n")
		chunks, wire := 0, strings.ReplaceAll(text, "\n", "\r\n")
		read := func() {
			size := strings.TrimSpace(strings.TrimPrefix(s.peer.WantLine(), "BDAT "))
			n, err := strconv.Atoi(size)
			require.NoError(t, err, size)
			s.peer.Want(wire[:n])
			wire = wire[n:]
			chunks++
		}
		read()
		s.Settle()
		for s.peer.Unread() > 0 {
			read()
		}
		if !pipelining {
			require.Equal(t, 1, chunks)
		} else {
			require.Equal(t, 16, chunks)
		}
		s.peer.Say("250 Ok\r\n")
		s.Settle()
		read()
		s.peer.WantNothing()
		for range min(chunks-2, 5) {
			s.peer.Say("250 Ok\r\n")
			read()
		}
		unanswered := 1
		if pipelining {
			unanswered = 16
		}
		s.peer.Say("552 5.3.4 Too large\r\n")
		for range unanswered - 1 {
			s.peer.Say("503 5.5.1 No\r\n")
		}
		s.answer("RSET", "250 Ok")
		s.Settle()
		require.Len(t, s.results, 1)
		require.Equal(t, "552 5.3.4 Too large", s.results[0].Reply.Error())
		require.Equal(t, "BDAT", s.results[0].Step)
		s.peer.Want(mailCommand + "\r\n")
	}
}

// The time for a block is what the server may take nothing, or leave a chunk without an answer.
func TestClientBlockTimeout(t *testing.T) {
	text := strings.Repeat("0123456789abcde\r\n", 20_000)
	for _, chunked := range []bool{false, true} {
		s := newStage(t, sim.Config{Window: 10_000}, &smtp.Client{})
		s.send(outgoing(t, text, "user"))
		s.offer("CHUNKING"[:map[bool]int{true: 8, false: 4}[chunked]])
		s.transaction(chunked)
		s.peer.Stall(true)
		s.Settle()
		for range 10 { // slow, but it takes something
			s.Advance(2 * time.Minute)
			s.peer.Take(1000)
			s.Settle()
			require.Empty(t, s.results)
		}
		s.Advance(3*time.Minute - time.Second)
		require.Empty(t, s.results)
		s.Advance(2 * time.Second)
		require.Len(t, s.results, 1)
		require.ErrorIs(t, s.results[0].Err, core.ErrTimeout)
		require.Equal(t, map[bool]string{true: "BDAT", false: "message"}[chunked], s.results[0].Step)
		require.False(t, s.results[0].Uncertain)
	}

	s := newStage(t, sim.Config{Window: 1 << 20}, &smtp.Client{}) // a chunk without an answer
	s.send(outgoing(t, text, "user"))
	s.offer("CHUNKING")
	s.transaction(true)
	s.Settle()
	s.Advance(3*time.Minute - time.Millisecond)
	require.Empty(t, s.results)
	s.Advance(time.Millisecond)
	require.Len(t, s.results, 1)
	require.Equal(t, "BDAT", s.results[0].Step)

	s = newStage(t, sim.Config{Window: 10_000}, &smtp.Client{}) // the end counts from when it is out
	s.send(outgoing(t, strings.Repeat("x\r\n", 8000), "user"))
	s.offer()
	s.transaction(false)
	s.peer.Stall(true)
	for range 5 {
		s.Advance(2 * time.Minute)
		s.peer.Take(2000)
		s.Settle()
	}
	s.peer.Stall(false)
	s.Settle()
	s.Advance(10*time.Minute - time.Second)
	require.Empty(t, s.results)
	s.Advance(time.Second)
	require.Equal(t, "end of message", s.results[0].Step)
	require.True(t, s.results[0].Uncertain)
}

// A Body that blocks does not hold up the loop, and is read no faster than the server takes it.
func TestClientBlockingBody(t *testing.T) {
	s := newStage(t, sim.Config{Patience: 1000 * time.Hour}, &smtp.Client{})
	s.Configure(func(c *sim.Config) { c.Work = time.Hour })
	m := outgoing(t, "", "user")
	reads := 0
	m.Body = readerFunc(func(p []byte) (int, error) {
		if reads++; reads > 3 {
			return 0, io.EOF
		}
		return copy(p, strings.Repeat("0123456789abcde\n", 4096)), nil
	})
	var progress []int64
	m.Progress = func(n int64) { progress = append(progress, n) }
	s.send(m)
	ticks := 0
	s.loop.AfterFunc(time.Minute, func() { ticks++ })
	s.offer()
	s.transaction(false)
	s.Advance(time.Minute)
	require.Equal(t, 1, ticks)
	for n := 0; n < 3*4096; n++ {
		s.peer.Want("0123456789abcde\r\n")
	}
	s.peer.Want(".\r\n")
	s.peer.Say("250 Ok\r\n")
	s.Settle()
	require.Len(t, s.results, 1)
	require.True(t, s.results[0].OK())
	require.EqualValues(t, 3*65536, s.results[0].Sent)
	require.Len(t, progress, 6)
	require.EqualValues(t, 3*65536, progress[5])
}

// Regular files are read on the loop, and their size is known.
func TestClientFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "message")
	require.NoError(t, os.WriteFile(name, []byte("skip.\nx\n"), 0o600))
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Seek(4, io.SeekStart)
	require.NoError(t, err)
	s := newStage(t, sim.Config{}, &smtp.Client{})
	s.Configure(func(c *sim.Config) { c.Work = time.Hour })
	m := outgoing(t, "", "user")
	m.Body = f
	s.send(m)
	s.offer("SIZE 100")
	s.answer(mailCommand+" SIZE=4", "250 Ok")
	s.answer(rcptCommand, "250 Ok")
	s.answer("DATA", "354 Go on")
	s.answer("..\r\nx\r\n.", "250 Ok")
	require.Less(t, s.Elapsed(), time.Second)
}

// Many recipients: the commands go out in portions, so that they never fill the queue, and all are answered.
func TestClientManyRecipients(t *testing.T) {
	for _, chunking := range []bool{false, true} {
		s := newSender(t, sim.Config{Latency: time.Millisecond, Window: 5000}, &smtp.Server{Limits: smtp.Limits{Recipients: 3000}},
			&smtp.Client{NoChunking: !chunking})
		m := outgoing(t, "x", "nobody")
		for i := range 3500 {
			m.To = append(m.To, smtp.Recipient{Path: addr(t, fmt.Sprintf("user%d.%s@example.org", i, strings.Repeat("x", 200)))})
		}
		s.send(m)
		most := 0
		for len(s.results) == 0 {
			_, err := s.loop.Step(0)
			require.NoError(t, err)
			s.Advance(100 * time.Microsecond)
			most = max(most, s.c.Conn().Queued())
		}
		require.LessOrEqual(t, most, 17<<10)
		r := s.results[0]
		require.Equal(t, 3000, r.Accepted())
		require.Equal(t, 550, r.To[0].Code)
		require.Equal(t, 250, r.To[3000].Code)
		require.Equal(t, 452, r.To[3001].Code)
		require.Len(t, s.rec.mails, 1)
		require.Len(t, s.rec.mails[0].envelope.To, 3000)
	}
}

// endless makes text.
type endless struct {
	line string
	left int
}

func (e *endless) Read(p []byte) (n int, err error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	for n+len(e.line) <= len(p) && e.left > 0 {
		n += copy(p[n:], e.line)
		e.left -= len(e.line)
	}
	return n, nil
}

// A message of 50 MB holds less than 1 MiB, both ends and the network between them together.
func TestClientMemory(t *testing.T) {
	total := 50 << 20
	if testing.Short() || race.Enabled {
		total = 5 << 20
	}
	for _, chunking := range []bool{false, true} {
		d := new(discard)
		s := newSender(t, sim.Config{Window: 64 << 10}, &smtp.Server{Backend: d, Limits: smtp.Limits{MessageSize: -1}}, &smtp.Client{NoChunking: !chunking})
		s.Settle()
		m := outgoing(t, "", "user")
		m.Body, m.Direct = &endless{".23456789abcdef\n", total}, true
		before, most, n := heap(), int64(0), 0
		m.Progress = func(sent int64) {
			if n++; n%(total/32768/5) == 0 {
				most = max(most, heap()-before)
			}
		}
		s.send(m)
		s.all(1)
		require.True(t, s.results[0].OK())
		require.Greater(t, d.n, int64(total))
		t.Logf("chunks %v: %d bytes", chunking, most)
		require.Less(t, most, int64(1<<20))
	}
}

// An idle client holds little.
func TestClientMemoryIdle(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	loop := w.Loop(core.Options{})
	const n = 200
	var peers []*sim.Peer
	var socks []core.Socket
	for range n {
		sock, p := w.Pair()
		socks, peers = append(socks, sock), append(peers, p)
	}
	before := heap()
	clients := make([]*smtp.Client, n)
	for i, sock := range socks {
		clients[i] = &smtp.Client{Hostname: "c.example"}
		require.NoError(t, clients[i].Attach(loop, sock))
		peers[i].Say("220 mx\r\n")
		peers[i].Want("EHLO c.example\r\n")
		peers[i].Say("250 mx " + strings.Repeat("x", 3000) + "\r\n")
	}
	w.Settle()
	each := (heap() - before) / n
	t.Logf("%d bytes each", each)
	require.Less(t, each, int64(8<<10))
	runtime.KeepAlive(clients)
}

package smtp_test

import (
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/internal/race"
	"github.com/parley-go/parley/protocols/smtp"
)

const nextAddress = "next:25"

// relay is a scene whose server hands on to another one, which is a Server if next is set, and played by the test otherwise.
type relay struct {
	*scene
	p    *smtp.Proxy
	next *recorder
	back *smtp.Server
	ln   *sim.PeerListener
}

func newRelay(t *testing.T, net sim.Config, p *smtp.Proxy, srv, next *smtp.Server) *relay {
	t.Helper()
	p.Address = nextAddress
	srv.Backend = p
	net.T = t
	r := &relay{p: p, scene: newScene(t, net, srv), back: next}
	r.Host("next", "192.0.2.3")
	if next == nil {
		r.ln = r.Listen("tcp", nextAddress)
		return r
	}
	next.Hostname = "next.example.org"
	r.next = fill(next)
	_, err := next.Listen(r.loop, "tcp", nextAddress)
	require.NoError(t, err)
	return r
}

func plainClient(noChunking bool) func(*smtp.Session) *smtp.Client {
	return func(*smtp.Session) *smtp.Client {
		return &smtp.Client{Hostname: "relay.example", NoChunking: noChunking}
	}
}

// Messages go through as they are, and each answer comes from the other server.
func TestProxy(t *testing.T) {
	for _, noChunking := range []bool{false, true} {
		net := sim.Config{Seed: 3, Latency: time.Millisecond, RandomCuts: true, Again: 0.1, Window: 3000, Work: time.Millisecond}
		r := newRelay(t, net, &smtp.Proxy{NewClient: plainClient(noChunking)}, &smtp.Server{Domains: []string{"example.org"}}, &smtp.Server{})
		p := r.hello()
		p.Say("MAIL FROM:<a@client.example>\r\nRCPT TO:<user@example.org>\r\nRCPT TO:<nobody@example.org>\r\nRCPT TO:<moved@example.org>\r\n" +
			"RCPT TO:<x@elsewhere.example>\r\nDATA\r\n")
		p.Want("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n550 5.1.1 No such user here\r\n251 2.1.5 User not local; will forward\r\n550 5.7.1 Relaying denied\r\n" +
			"354 End the message with a dot on a line by itself\r\n")
		p.Say("Subject: x\r\n\r\n..\r\n" + strings.Repeat("...\r\n", 50_000) + ".\r\n")
		require.Regexp(t, `^250 2\.0\.0 Ok, taken as `, p.WantLine())
		p.Say("MAIL FROM:<>\r\nRCPT TO:<user@example.org>\r\nBDAT 3\r\na\r\nBDAT 3 LAST\r\nb\r\nQUIT\r\n")
		p.Want("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.0.0 3 octets received\r\n")
		require.Regexp(t, `^250 2\.0\.0 Ok, taken as `, p.WantLine())
		p.Want("221 2.0.0 mx.example.org Goodbye\r\n")
		p.WantClosed()
		require.Len(t, r.next.mails, 2)
		m := r.next.mails[0]
		require.Equal(t, "a@client.example", m.envelope.From.Address())
		require.Len(t, m.envelope.To, 2)
		_, text, ok := strings.Cut(m.body(), "+0000\r\n") // the field of the relay
		require.True(t, ok)
		require.Equal(t, "Subject: x\r\n\r\n.\r\n"+strings.Repeat("..\r\n", 50_000), text)
		require.True(t, strings.HasSuffix(r.next.mails[1].body(), "+0000\r\na\r\nb\r\n"))
		r.Settle()
		require.EqualValues(t, 1, r.back.Counters().Sessions) // one connection for both
		require.Zero(t, r.back.Open())
		require.Zero(t, r.srv.Open())
	}
}

// next plays the other server up to a point.
func (r *relay) accept(offers string) *sim.Peer {
	r.t.Helper()
	n := r.ln.Accept()
	n.Say("220 next\r\n")
	n.Want("EHLO relay.example\r\n")
	n.Say("250-next\r\n250 " + offers + "\r\n")
	return n
}

func reply(p *sim.Peer, command, answer string) {
	p.Want(command + "\r\n")
	p.Say(answer + "\r\n")
}

// What the other server refuses is refused here, step by step, and the session goes on.
func TestProxyRefusals(t *testing.T) {
	r := newRelay(t, sim.Config{}, &smtp.Proxy{NewClient: plainClient(true), RelayAll: true}, &smtp.Server{NoReceived: true}, nil)
	p := r.hello()
	p.Say("MAIL FROM:<a@b>\r\n")
	n := r.accept("PIPELINING")
	p.WantNothing()
	reply(n, "MAIL FROM:<a@b>", "550 5.7.1 You are on a list")
	p.Want("550 5.7.1 You are on a list\r\n")

	p.Say("MAIL FROM:<c@d>\r\nRCPT TO:<e@f>\r\n")
	reply(n, "RSET", "250 Ok")
	reply(n, "MAIL FROM:<c@d>", "250 2.1.0 Fine")
	p.Want("250 2.1.0 Fine\r\n")
	reply(n, "RCPT TO:<e@f>", "450-4.2.0 Later,\r\n450 4.2.0 perhaps")
	p.Want("450-4.2.0 Later,\r\n450 4.2.0 perhaps\r\n")
	ask(p, "DATA", "554 5.5.1 No valid recipients")
	p.Say("RCPT TO:<g@h>\r\nDATA\r\n")
	reply(n, "RCPT TO:<g@h>", "251 2.1.5 Elsewhere")
	p.Want("251 2.1.5 Elsewhere\r\n")
	reply(n, "DATA", "451 4.3.1 Disk full")
	p.Want("451 4.3.1 Disk full\r\n")

	p.Say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
	reply(n, "RSET", "250 Ok")
	reply(n, "MAIL FROM:<a@b>", "250 Ok")
	reply(n, "RCPT TO:<c@d>", "250 Ok")
	reply(n, "DATA", "354 Go on")
	p.Want("250 Ok\r\n250 Ok\r\n354 End the message with a dot on a line by itself\r\n")
	p.Say("x\r\n.\r\n")
	reply(n, "x\r\n.", "554-5.7.1 This is\r\n554 5.7.1 spam")
	p.Want("554-5.7.1 This is\r\n554 5.7.1 spam\r\n")

	p.Say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRSET\r\nMAIL FROM:<e@f>\r\n")
	reply(n, "RSET", "250 Ok")
	reply(n, "MAIL FROM:<a@b>", "250 Ok")
	reply(n, "RCPT TO:<c@d>", "250 Ok")
	reply(n, "RSET", "250 Ok")
	reply(n, "MAIL FROM:<e@f>", "421 4.3.2 Going down")
	p.Want("250 Ok\r\n250 Ok\r\n250 2.0.0 Ok\r\n")
	n = r.accept("PIPELINING") // it was an old connection: once more
	reply(n, "MAIL FROM:<e@f>", "421 4.3.2 Still going down")
	p.Want("451 4.3.2 Still going down\r\n")
	ask(p, "RCPT TO:<x@y>", "503 5.5.1 Say MAIL first")
	ask(p, "NOOP", "250 2.0.0 Ok")
}

// A parameter that the other server does not have, or whose promise it does not make.
func TestProxyParameters(t *testing.T) {
	r := newRelay(t, sim.Config{}, &smtp.Proxy{NewClient: plainClient(true), RelayAll: true}, &smtp.Server{Extensions: smtp.AllExtensions, Auth: passwords}, nil)
	p := r.hello()
	p.Say("MAIL FROM:<a@b> SIZE=100 RET=FULL BODY=8BITMIME AUTH=x@y\r\n")
	n := r.accept("8BITMIME")
	reply(n, "MAIL FROM:<a@b> BODY=8BITMIME", "250 Ok")
	p.Want("250 Ok\r\n")
	p.Say("RSET\r\nMAIL FROM:<\xc3\xa4@b> SMTPUTF8\r\nMAIL FROM:<a@b> BODY=BINARYMIME\r\n")
	p.Want("250 2.0.0 Ok\r\n550 5.6.7 The message needs SMTPUTF8, which the server does not offer\r\n" +
		"550 5.6.3 The message needs BINARYMIME and CHUNKING, which the server does not offer\r\n")
	p.Say("QUIT\r\n")
	reply(n, "QUIT", "221 Bye")
}

// The other server is lost at each step: 451, and the next message has a new connection.
func TestProxyLosesTheOtherServer(t *testing.T) {
	lost := "451 4.4.2 The connection was lost\r\n"
	commands := []string{"MAIL FROM:<a@b>\r\n", "RCPT TO:<c@d>\r\n", "DATA\r\n", "x\r\n.\r\n"}
	for at := range 6 {
		for _, noChunking := range []bool{true, false} {
			if at == 4 && !noChunking {
				continue // there is no DATA to answer
			}
			t.Run(fmt.Sprint(at, noChunking), func(t *testing.T) {
				r := newRelay(t, sim.Config{Latency: time.Millisecond}, &smtp.Proxy{NewClient: plainClient(noChunking), RelayAll: true}, &smtp.Server{NoReceived: true}, nil)
				p := r.hello()
				script := [][2]string{{"", "220 next\r\n"}, {"EHLO relay.example\r\n", "250-next\r\n250 CHUNKING\r\n"}, {commands[0], "250 Ok\r\n"},
					{commands[1], "250 Ok\r\n"}, {commands[2], "354 Go on\r\n"}, {"x\r\n.\r\n", "250 Ok\r\n"}}
				if !noChunking {
					script[4], script[5] = [2]string{}, [2]string{"BDAT 3 LAST\r\nx\r\n", ""}
				}
				p.Say(commands[0])
				n := r.ln.Accept()
				for i, x := range script {
					n.Want(x[0])
					if i == at {
						n.CloseWrite()
						break
					}
					n.Say(x[1])
					r.Settle()
					if i >= 2 {
						p.WantLine()
						p.Say(commands[i-1])
					}
				}
				r.Settle()
				switch at {
				case 0, 1:
					p.Want("451 4.4.1 The next server cannot be used now, try again later\r\n")
				case 4:
					p.Want(lost)
				default:
					p.Want(lost)
				}
				if at == 3 {
					ask(p, "RCPT TO:<e@f>", strings.TrimSpace(lost))
				}
				p.Say("RSET\r\nMAIL FROM:<a@b>\r\n")
				p.Want("250 2.0.0 Ok\r\n")
				n = r.accept("PIPELINING")
				reply(n, "MAIL FROM:<a@b>", "250 Ok")
				p.Want("250 Ok\r\n")
			})
		}
	}

	// Within the message.
	for _, noChunking := range []bool{true, false} {
		r := newRelay(t, sim.Config{}, &smtp.Proxy{NewClient: plainClient(noChunking), RelayAll: true}, &smtp.Server{NoReceived: true}, nil)
		p := r.hello()
		p.Say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
		n := r.accept("CHUNKING")
		reply(n, "MAIL FROM:<a@b>", "250 Ok")
		reply(n, "RCPT TO:<c@d>", "250 Ok")
		if noChunking {
			reply(n, "DATA", "354 Go on")
		}
		p.Want("250 Ok\r\n250 Ok\r\n354 End the message with a dot on a line by itself\r\n")
		p.Say("beginning\r\n")
		r.Settle()
		n.Reset()
		p.Say(strings.Repeat("middle\r\n", 50_000))
		r.Settle()
		p.WantNothing()
		p.Say(".\r\n")
		p.Want(lost)
		ask(p, "NOOP", "250 2.0.0 Ok")
	}
}

// The client is lost, or its message refused here: nothing of it is completed at the other server.
func TestProxyLosesTheClient(t *testing.T) {
	for _, noChunking := range []bool{true, false} {
		for _, x := range []struct {
			name string
			end  func(p *sim.Peer)
		}{
			{"reset", func(p *sim.Peer) { p.Reset() }},
			{"end", func(p *sim.Peer) { p.CloseWrite() }},
			{"bare LF", func(p *sim.Peer) { p.Say("a\nb\r\n.\r\n") }},
			{"too large", func(p *sim.Peer) { p.Say(strings.Repeat("x\r\n", 50_000) + ".\r\n") }},
		} {
			t.Run(fmt.Sprint(x.name, noChunking), func(t *testing.T) {
				srv := &smtp.Server{Limits: smtp.Limits{MessageSize: 100_000}}
				r := newRelay(t, sim.Config{}, &smtp.Proxy{NewClient: plainClient(noChunking), RelayAll: true}, srv, &smtp.Server{})
				p := r.hello()
				envelope(p)
				ask(p, "DATA", "354 End the message with a dot on a line by itself")
				p.Say("beginning\r\n")
				r.Settle()
				require.Equal(t, 1, r.next.open)
				x.end(p)
				r.Settle()
				if strings.Contains(x.name, " ") {
					require.Regexp(t, "^55[02] ", p.WantLine())
					envelope(p) // and it goes on
				} else {
					require.Zero(t, srv.Open())
					require.Zero(t, r.back.Open())
				}
				require.Zero(t, r.next.open)
				require.Empty(t, r.next.mails)
				require.Equal(t, 1, r.next.aborted)
			})
		}
	}

	// Once it was completed it is not taken back.
	r := newRelay(t, sim.Config{}, &smtp.Proxy{NewClient: plainClient(true), RelayAll: true}, &smtp.Server{NoReceived: true}, nil)
	p := r.hello()
	p.Say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
	n := r.accept("PIPELINING")
	reply(n, "MAIL FROM:<a@b>", "250 Ok")
	reply(n, "RCPT TO:<c@d>", "250 Ok")
	reply(n, "DATA", "354 Go on")
	p.Read()
	p.Say("x\r\n.\r\n")
	n.Want("x\r\n.\r\n")
	p.Reset()
	r.Settle()
	n.WantNothing()
	n.Say("250 Ok\r\n")
	reply(n, "QUIT", "221 Bye")

	// Between DATA and its answer there is nothing that the other server could take for a message.
	p = r.hello()
	p.Say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
	n = r.accept("PIPELINING")
	reply(n, "MAIL FROM:<a@b>", "250 Ok")
	reply(n, "RCPT TO:<c@d>", "250 Ok")
	n.Want("DATA\r\n")
	p.Reset()
	r.Settle()
	n.Say("354 Go on\r\n")
	n.WantClosed()
}

// chunk reads BDAT.
func chunk(t *testing.T, p *sim.Peer) (size int, last bool) {
	t.Helper()
	text, is := strings.CutPrefix(p.WantLine(), "BDAT ")
	require.True(t, is)
	text, last = strings.CutSuffix(strings.TrimSpace(text), " LAST")
	size, err := strconv.Atoi(text)
	require.NoError(t, err)
	return size, last
}

// A slow server slows the client, and little is held; a slow client holds up nothing.
func TestProxyBackPressure(t *testing.T) {
	for _, noChunking := range []bool{true, false} {
		r := newRelay(t, sim.Config{Window: 4096}, &smtp.Proxy{NewClient: plainClient(noChunking), RelayAll: true}, &smtp.Server{NoReceived: true}, nil)
		p := r.hello()
		p.Say("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
		n := r.accept("CHUNKING")
		reply(n, "MAIL FROM:<a@b>", "250 Ok")
		reply(n, "RCPT TO:<c@d>", "250 Ok")
		if noChunking {
			reply(n, "DATA", "354 Go on")
		}
		p.Want("250 Ok\r\n250 Ok\r\n354 End the message with a dot on a line by itself\r\n")
		n.Stall(true)
		text := strings.Repeat("0123456789abcde\r\n", 1<<16)
		p.Say(text + ".\r\n")
		r.Settle()
		require.Less(t, r.loop.Stats().BytesIn, uint64(256<<10)) // what was read of a megabyte
		n.Stall(false)
		if noChunking {
			n.Want(text + ".\r\n")
		} else {
			for rest, last := text, false; !last; {
				var size int
				size, last = chunk(t, n)
				n.Want(rest[:size])
				rest = rest[size:]
				if !last {
					n.Say("250 Ok\r\n")
				} else {
					require.Empty(t, rest)
				}
			}
			r.Settle()
		}
		n.Say("250 2.0.0 Ok\r\n")
		p.Want("250 2.0.0 Ok\r\n")
	}
}

func TestProxyMemory(t *testing.T) {
	total := 30 << 20
	if testing.Short() || race.Enabled {
		total = 5 << 20
	}
	for _, noChunking := range []bool{true, false} {
		d := new(discard)
		r := newRelay(t, sim.Config{Window: 64 << 10}, &smtp.Proxy{NewClient: plainClient(noChunking), RelayAll: true},
			&smtp.Server{Limits: smtp.Limits{MessageSize: -1}}, &smtp.Server{Backend: d, Limits: smtp.Limits{MessageSize: -1}})
		c := &smtp.Client{Hostname: "c.example"}
		require.NoError(t, c.Dial(r.loop, "tcp", address))
		m := outgoing(t, "", "user")
		m.Body, m.Direct = &endless{".23456789abcdef\n", total}, true
		before, most, n := heap(), int64(0), 0
		m.Progress = func(int64) {
			if n++; n%(total/32768/5) == 0 {
				most = max(most, heap()-before)
			}
		}
		var got results
		require.NoError(t, c.Send(m, got.add))
		r.Settle()
		require.Len(t, got, 1)
		require.True(t, got[0].OK(), got[0].Reply)
		require.Greater(t, d.n, int64(total))
		t.Logf("no chunks %v: %d bytes", noChunking, most)
		require.Less(t, most, int64(3<<19))
	}
}

// LMTP on either side: an answer for each recipient, or one recipient at a time.
func TestProxyLMTP(t *testing.T) {
	lmtp := func(*smtp.Session) *smtp.Client { return &smtp.Client{Hostname: "relay.example", LMTP: true} }
	r := newRelay(t, sim.Config{}, &smtp.Proxy{NewClient: lmtp, RelayAll: true}, &smtp.Server{LMTP: true, NoReceived: true}, &smtp.Server{LMTP: true, NoReceived: true, Backend: &eachRecorder{}})
	p := r.Dial("tcp", address)
	p.Want("220 mx.example.org LMTP\r\n")
	p.Say("LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<user@e>\r\nRCPT TO:<nobody@e>\r\nRCPT TO:<full@e>\r\nDATA\r\nx\r\n.\r\n")
	require.Regexp(t, `(?s)550 5.1.1 No such user here\r\n250 2.1.5 Ok\r\n354 .*\r\n250 2.0.0 user: "x\?r\?n"\r\n452 4.2.2 Mailbox of full is full\r\n$`,
		strings.ReplaceAll(p.Read(), `\`, "?"))

	r = newRelay(t, sim.Config{}, &smtp.Proxy{NewClient: lmtp, RelayAll: true}, &smtp.Server{NoReceived: true}, &smtp.Server{LMTP: true, NoReceived: true, Backend: &eachRecorder{}})
	p = r.hello()
	p.Say("MAIL FROM:<a@b>\r\nRCPT TO:<nobody@e>\r\nRCPT TO:<full@e>\r\nRCPT TO:<user@e>\r\nDATA\r\nx\r\n.\r\n")
	p.Want("250 2.1.0 Ok\r\n550 5.1.1 No such user here\r\n250 2.1.5 Ok\r\n452 4.5.3 One recipient at a time\r\n354 End the message with a dot on a line by itself\r\n" +
		"452 4.2.2 Mailbox of full is full\r\n")

	r = newRelay(t, sim.Config{}, &smtp.Proxy{NewClient: plainClient(false), RelayAll: true}, &smtp.Server{LMTP: true, NoReceived: true}, &smtp.Server{NoReceived: true})
	p = r.Dial("tcp", address)
	p.Want("220 mx.example.org LMTP\r\n")
	p.Say("LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<user@e>\r\nRCPT TO:<nobody@e>\r\nRCPT TO:<other@e>\r\nDATA\r\nx\r\n.\r\n")
	require.Regexp(t, `(?s)354 [^\r]*\r\n250 2.0.0 Ok, taken as [^\r]*\r\n250 2.0.0 Ok, taken as [^\r]*\r\n$`, p.Read())
}

// The other server cannot be reached, or the Proxy cannot even try.
func TestProxyWithoutAServer(t *testing.T) {
	r := newRelay(t, sim.Config{}, &smtp.Proxy{NewClient: plainClient(false), RelayAll: true}, &smtp.Server{}, nil)
	r.ln.Close()
	p := r.hello()
	ask(p, "MAIL FROM:<a@b>", "451 4.4.1 The next server cannot be used now, try again later")
	ask(p, "MAIL FROM:<a@b>", "451 4.4.1 The next server cannot be used now, try again later")
	r.p.NewClient = func(*smtp.Session) *smtp.Client { return &smtp.Client{Hostname: "a b"} }
	ask(p, "MAIL FROM:<a@b>", "451 4.4.1 The next server cannot be used now, try again later")
	require.Contains(t, r.log.String(), "is no host name")
	ask(p, "RCPT TO:<a@b>", "503 5.5.1 Say MAIL first")
	ask(p, "QUIT", "221 2.0.0 mx.example.org Goodbye")
}

// taken is the name of a message, which has the time in it.
var taken = regexp.MustCompile(`taken as [0-9A-Z.]+`)

// FuzzProxy: whatever a client says, cut in whatever way, it is told the same, the same messages arrive, and nothing is left
// open.
func FuzzProxy(f *testing.F) {
	for _, said := range clientSides(f) {
		f.Add([]byte(said), uint64(1), true)
		f.Add([]byte(said), uint64(2), false)
	}
	f.Fuzz(func(t *testing.T, said []byte, seed uint64, noChunking bool) {
		whole, mails := fuzzedProxy(t, said, sim.Config{Seed: seed, Window: 1 << 20}, noChunking)
		cut, same := fuzzedProxy(t, said, sim.Config{Seed: seed, MaxRecv: 1 + int(seed%100), RandomCuts: true, Again: 0.1, Window: 300, Latency: time.Millisecond}, noChunking)
		require.Equal(t, whole, cut)
		require.Equal(t, mails, same)
	})
}

func fuzzedProxy(t *testing.T, said []byte, net sim.Config, noChunking bool) (text string, mails []string) {
	net.T = t
	w := sim.New(net)
	w.Host("next", "192.0.2.3")
	loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	defer loop.Close()
	rec := new(recorder)
	next := &smtp.Server{Hostname: "next.example.org", Backend: rec, NoReceived: true}
	_, err := next.Listen(loop, "tcp", nextAddress)
	require.NoError(t, err)
	srv := &smtp.Server{Hostname: "mx.example.org", Backend: &smtp.Proxy{Address: nextAddress, NewClient: plainClient(noChunking), RelayAll: true},
		Extensions: smtp.AllExtensions, NoReceived: true, Limits: smtp.Limits{MessageSize: 5000, TextLine: 1000, Errors: 50}}
	sock, p := w.Pair()
	_, err = srv.Serve(loop, sock)
	require.NoError(t, err)
	p.Say(string(said))
	text = p.Read()
	w.Advance(time.Minute)
	text += p.Read()
	p.CloseWrite()
	w.Advance(time.Minute)
	require.Zero(t, rec.open)
	require.Zero(t, srv.Open(), w.Ladder())
	require.Zero(t, next.Open(), w.Ladder())
	for _, m := range rec.mails {
		mails = append(mails, m.envelope.From.String()+m.text.String())
	}
	text = taken.ReplaceAllString(text, "taken")
	return text, mails
}

package smtp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/mailbox"
	"github.com/parley-go/parley/protocols/smtp"
)

// office is a Relay in a world with next servers.
type office struct {
	*sim.World
	t       *testing.T
	loop    *core.Loop
	r       *smtp.Relay
	reports []string // "delivered pat@example.org next:25 250 ..."
	at      []time.Duration
	log     *bytes.Buffer
	stopped int
}

// newOffice starts a Relay; what is not set in it gets the values of tests.
func newOffice(t *testing.T, net sim.Config, r *smtp.Relay) *office {
	t.Helper()
	net.T = t
	w := sim.New(net)
	w.Host("next", "192.0.2.3")
	w.Host("other", "192.0.2.4")
	return openOffice(t, w, r)
}

func openOffice(t *testing.T, w *sim.World, r *smtp.Relay) *office {
	t.Helper()
	o := &office{World: w, t: t, r: r, log: new(bytes.Buffer)}
	o.loop = w.Loop(core.Options{Logger: slog.New(slog.NewTextHandler(o.log, nil))})
	t.Cleanup(func() { o.loop.Close() })
	if r.Dir == "" {
		r.Dir = filepath.Join(t.TempDir(), "queue")
	}
	if r.Address == "" && r.Route == nil && r.Resolver == nil {
		r.Address = nextAddress
	}
	r.Hostname, r.Seed = "relay.example", 1
	r.Report = func(x *smtp.RelayReport) {
		for _, to := range x.To {
			o.reports = append(o.reports, fmt.Sprintf("%s %s %s %s", x.Event, to.Address(), x.Hop, x.Reply.Error()))
			o.at = append(o.at, o.Elapsed())
		}
	}
	r.Stopped = func() { o.stopped++ }
	require.NoError(t, r.Start(o.loop))
	return o
}

// again is another process with the same queue; the one before is gone without a word.
func (o *office) again(r *smtp.Relay) *office {
	o.t.Helper()
	r.Dir = filepath.Join(o.t.TempDir(), "queue")
	require.NoError(o.t, os.CopyFS(r.Dir, os.DirFS(o.r.Dir)))
	require.NoError(o.t, o.loop.Close())
	return openOffice(o.t, o.World, r)
}

// serve has a server on an address of this world.
func (o *office) serve(address string, srv *smtp.Server) (*recorder, *core.Listener) {
	o.t.Helper()
	srv.Hostname, srv.NoReceived = "next.example", true
	rec := fill(srv)
	l, err := srv.Listen(o.loop, "tcp", address)
	require.NoError(o.t, err)
	return rec, l
}

// submit queues a message to the named users of example.org.
func (o *office) submit(body string, users ...string) string {
	o.t.Helper()
	return o.submitFrom("a@client.example", body, users...)
}

func (o *office) submitFrom(from, body string, users ...string) string {
	o.t.Helper()
	e := &smtp.Envelope{From: addr(o.t, from)}
	for _, u := range users {
		if !strings.Contains(u, "@") {
			u += "@example.org"
		}
		e.To = append(e.To, smtp.Recipient{Path: addr(o.t, u)})
	}
	id, err := o.r.Submit(o.t.Context(), e, strings.NewReader(body))
	require.NoError(o.t, err)
	require.NotEmpty(o.t, id)
	return id
}

// files are the names in a directory of the queue.
func (o *office) files(dir string) (names []string) {
	entries, err := os.ReadDir(filepath.Join(o.r.Dir, dir))
	require.NoError(o.t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// empty wants nothing to be left.
func (o *office) empty() {
	o.t.Helper()
	o.Settle()
	require.Empty(o.t, o.files("new"))
	require.Empty(o.t, o.files("notes"))
	require.Empty(o.t, o.files("tmp"))
	require.Zero(o.t, o.r.Len())
	require.Zero(o.t, o.r.Octets())
}

func texts(rec *recorder) (all []string) {
	for _, m := range rec.mails {
		all = append(all, m.text.String())
	}
	return all
}

// What a client sends lies in the queue when it is answered, and is then delivered as it is.
func TestRelay(t *testing.T) {
	for _, size := range sizes {
		for _, noChunking := range []bool{false, true} {
			o := newOffice(t, sim.Config{Seed: 3, Latency: time.Millisecond, RandomCuts: true, Work: time.Millisecond}, &smtp.Relay{
				NewClient: func(_, _ string) *smtp.Client { return &smtp.Client{NoChunking: noChunking} },
			})
			next, _ := o.serve(nextAddress, &smtp.Server{})
			srv := &smtp.Server{Hostname: "mx.example.org", Backend: o.r, Domains: domains, NoReceived: true}
			_, err := srv.Listen(o.loop, "tcp", address)
			require.NoError(t, err)
			p := o.Dial("tcp", address)
			p.Say("EHLO client.example\r\nMAIL FROM:<a@client.example> BODY=8BITMIME\r\nRCPT TO:<user@example.org>\r\n" +
				"RCPT TO:<stranger@elsewhere.example>\r\nRCPT TO:<Postmaster@example.org>\r\nDATA\r\n")
			require.Regexp(t, `(?s)250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n550 5.7.1 Relaying denied\r\n250 2.1.5 Ok\r\n354 .*\r\n$`, p.Read())
			sent := text(size)
			p.Say(stuffed(sent))
			require.Regexp(t, `^250 2.0.0 Ok, taken as `, p.WantLine())
			require.Len(t, o.files("new"), 1)
			o.Advance(5 * time.Second)
			require.Len(t, next.mails, 1)
			m := next.mails[0]
			require.True(t, sent == m.text.String(), "%d octets", size)
			require.Equal(t, "a@client.example", m.envelope.From.Address())
			require.Equal(t, "8BITMIME", m.envelope.Params["BODY"])
			require.Len(t, m.envelope.To, 2)
			require.Equal(t, "Postmaster@example.org", m.envelope.To[1].Address())
			o.empty()
			require.Equal(t, smtp.RelayCounters{Queued: 1, Delivered: 2}, o.r.Counters())
		}
	}
}

// What a program submits goes out with CRLF, and nothing is added to it.
func TestRelaySubmit(t *testing.T) {
	o := newOffice(t, sim.Config{}, &smtp.Relay{})
	next, _ := o.serve(nextAddress, &smtp.Server{})
	id := o.submit("Subject: x\n\n.\nbare\rend", "user")
	require.Equal(t, "DBZKPC00.Q1", strings.ReplaceAll(id, id[:strings.Index(id, ".")], "DBZKPC00"))
	big := strings.Repeat("0123456789\r\n", 20_000)
	o.submit(big, "user")
	o.Settle()
	require.Equal(t, []string{"Subject: x\r\n\r\n.\r\nbare\r\nend\r\n", big}, sortedBySize(texts(next)))
	o.empty()

	for _, x := range []struct {
		e    smtp.Envelope
		body io.Reader
		want string
	}{
		{smtp.Envelope{}, strings.NewReader("x"), "554 5.5.1 The message has no recipients"},
		{smtp.Envelope{To: []smtp.Recipient{{}}}, strings.NewReader("x"), "501 5.1.3 The address cannot be sent"},
		{smtp.Envelope{To: []smtp.Recipient{{Path: smtp.Path{Local: "a\nRCPT TO:<b@c>\n", Domain: "d"}}}}, strings.NewReader("x"), "501 5.1.3 The address cannot be sent"},
		{smtp.Envelope{From: smtp.Path{Local: "postmaster"}, To: []smtp.Recipient{{Path: addr(t, "a@b")}}}, strings.NewReader("x"), "501 5.1.7 The sender's address cannot be sent"},
		{smtp.Envelope{Params: smtp.Params{"ENVID": "a\nb"}, To: []smtp.Recipient{{Path: addr(t, "a@b")}}}, strings.NewReader("x"), "501 5.5.4 A parameter cannot be sent"},
		{smtp.Envelope{To: []smtp.Recipient{{Path: addr(t, "a@b"), Params: smtp.Params{"x y": ""}}}}, strings.NewReader("x"), "501 5.5.4 A parameter cannot be sent"},
		{smtp.Envelope{To: []smtp.Recipient{{Path: addr(t, "a@b")}}}, strings.NewReader("x\x00"), "550 5.6.0 The message has a NUL"},
		{smtp.Envelope{To: []smtp.Recipient{{Path: addr(t, "a@b")}}}, io.MultiReader(strings.NewReader("x"), failingReader{}), "no more"},
	} {
		_, err := o.r.Submit(t.Context(), &x.e, x.body)
		require.EqualError(t, err, x.want)
		o.empty()
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("no more") }

func sortedBySize(all []string) []string {
	if len(all) == 2 && len(all[0]) > len(all[1]) {
		all[0], all[1] = all[1], all[0]
	}
	return all
}

// around wants times, each with up to a tenth more since the one before.
func around(t *testing.T, got []time.Duration, steps ...time.Duration) {
	t.Helper()
	require.Len(t, got, len(steps)+1)
	for i, step := range steps {
		d := got[i+1] - got[i]
		require.GreaterOrEqual(t, d, step, "step %d", i)
		require.LessOrEqual(t, d, step+step/10+time.Second, "step %d", i)
	}
}

// What is refused for now is tried again: after a minute, 5, 15, 30, and then each hour, until it is too old.
func TestRelayBackOff(t *testing.T) {
	o := newOffice(t, sim.Config{}, &smtp.Relay{Limits: smtp.RelayLimits{Lifetime: 4 * time.Hour}})
	next, _ := o.serve(nextAddress, &smtp.Server{})
	o.submit("Subject: x\n\nx\n", "later", "user")
	o.Settle()
	require.Len(t, next.mails, 1)
	require.Equal(t, []string{"deferred later@example.org next:25 450 4.2.0 Mailbox busy", "delivered user@example.org next:25 250 2.0.0"},
		[]string{o.reports[0], strings.TrimSuffix(o.reports[1][:len("delivered user@example.org next:25 250 2.0.0")], " ")})
	require.Len(t, o.files("notes"), 1)
	o.reports, o.at = o.reports[:1], o.at[:1]
	o.Advance(6 * time.Hour)
	const m, h = time.Minute, time.Hour
	around(t, o.at, m, 5*m, 15*m, 30*m, h, h, h, h, 0)
	require.Equal(t, "failed later@example.org next:25 554 4.4.7 It was tried for too long; the last answer: 450 4.2.0 Mailbox busy", o.reports[8])
	require.Regexp(t, "^delivered a@client.example next:25 250", o.reports[9])
	require.Len(t, next.mails, 2)
	require.True(t, next.mails[1].envelope.From.IsNull())
	o.empty()
	require.Equal(t, smtp.RelayCounters{Queued: 1, Delivered: 2, Deferred: 8, Failed: 1, Reports: 1}, o.r.Counters())
}

// A server that cannot be reached is left alone, with all that is to go there; one connection has all of it when it is back.
func TestRelayNextHopDown(t *testing.T) {
	for _, black := range []bool{false, true} {
		o := newOffice(t, sim.Config{}, &smtp.Relay{})
		if black {
			o.BlackHole("192.0.2.3")
		}
		for range 5 {
			o.submit("Subject: x\n\nx\n", "user")
		}
		o.Advance(35 * time.Second)
		require.Len(t, o.reports, 5)
		for _, x := range o.reports {
			require.Equal(t, "deferred user@example.org next:25 451 4.4.1 The server cannot be reached", x)
		}
		o.submit("Subject: x\n\nx\n", "user") // waits with the others
		o.Advance(20 * time.Second)
		require.Len(t, o.reports, 5)
		o.Advance(3 * time.Minute)
		require.Len(t, o.reports, 11)
		require.Len(t, o.files("new"), 6)
		require.Empty(t, o.files("notes"))
		if black {
			continue
		}
		srv := &smtp.Server{}
		next, _ := o.serve(nextAddress, srv)
		o.Advance(6 * time.Minute)
		require.Len(t, next.mails, 6)
		require.LessOrEqual(t, srv.Counters().Sessions, int64(5))
		o.empty()
		require.EqualValues(t, 11, o.r.Counters().Deferred)
	}
}

// One connection serves for many messages, and ends when there are none.
func TestRelayConnections(t *testing.T) {
	o := newOffice(t, sim.Config{}, &smtp.Relay{Limits: smtp.RelayLimits{ConnsPerHop: 1, MessagesPerConn: 4}})
	srv := &smtp.Server{}
	next, _ := o.serve(nextAddress, srv)
	for range 10 {
		o.submit("Subject: x\n\nx\n", "user")
	}
	o.Settle()
	require.Len(t, next.mails, 10)
	require.EqualValues(t, 3, srv.Counters().Sessions)
	require.Equal(t, 1, srv.Open())
	o.Advance(9 * time.Second)
	require.Equal(t, 1, srv.Open())
	o.submit("Subject: x\n\nx\n", "user")
	o.Advance(9 * time.Second)
	require.EqualValues(t, 3, srv.Counters().Sessions)
	require.Equal(t, 1, srv.Open())
	o.Advance(2 * time.Second)
	require.Zero(t, srv.Open())
	require.Zero(t, srv.Counters().Aborted)
	o.empty()
	o.submit("Subject: x\n\nx\n", "user")
	o.Settle()
	require.EqualValues(t, 4, srv.Counters().Sessions)
	require.Len(t, next.mails, 12)
}

// No more connections than there may be, and places take turns.
func TestRelayConnectionLimits(t *testing.T) {
	o := newOffice(t, sim.Config{Latency: 20 * time.Millisecond}, &smtp.Relay{
		Route: func(domain string) (string, string, error) {
			return "tcp", map[string]string{"example.org": "next:25", "elsewhere.example": "other:25"}[domain], nil
		},
		Limits: smtp.RelayLimits{Conns: 3, ConnsPerHop: 2},
	})
	most, mostOfOne := 0, 0
	var one, two *smtp.Server
	look := func(*smtp.Session, *mail) error {
		most, mostOfOne = max(most, one.Open()+two.Open()), max(mostOfOne, one.Open(), two.Open())
		return nil
	}
	one = &smtp.Server{Backend: &recorder{commit: look}}
	two = &smtp.Server{Backend: &recorder{commit: look}}
	next, _ := o.serve("next:25", one)
	other, _ := o.serve("other:25", two)
	for range 20 {
		o.submit("Subject: x\n\nx\n", "a@example.org", "b@elsewhere.example")
	}
	o.Advance(time.Minute)
	require.Len(t, next.mails, 20)
	require.Len(t, other.mails, 20)
	require.Equal(t, 3, most)
	require.Equal(t, 2, mostOfOne)
	o.empty()
}

// With one connection in all, one that does nothing makes room.
func TestRelayMakesRoom(t *testing.T) {
	o := newOffice(t, sim.Config{}, &smtp.Relay{
		Route:  func(domain string) (string, string, error) { return "", domain + ":25", nil },
		Limits: smtp.RelayLimits{Conns: 1, IdleTimeout: time.Hour},
	})
	next, _ := o.serve("next:25", &smtp.Server{})
	other, _ := o.serve("other:25", &smtp.Server{})
	o.submit("x", "a@next", "b@other", "c@next")
	o.Settle()
	o.submit("x", "a@next", "b@other", "c@next")
	o.Settle()
	require.Len(t, next.mails, 2)
	require.Len(t, other.mails, 2)
	o.empty()
}

// A server that hangs up between messages gets the next one over another connection, at once.
func TestRelayStaleConnection(t *testing.T) {
	o := newOffice(t, sim.Config{}, &smtp.Relay{NewClient: func(_, _ string) *smtp.Client { return &smtp.Client{NoChunking: true} }})
	ln := o.Listen("tcp", nextAddress)
	o.submit("x\n", "user")
	take := func(offers ...string) *sim.Peer {
		p := ln.Accept()
		p.Say("220 next\r\n")
		p.Want("EHLO relay.example\r\n")
		p.Say("250 next\r\n")
		return p
	}
	mail := func(p *sim.Peer) {
		reply(p, "MAIL FROM:<a@client.example>", "250 Ok")
		reply(p, "RCPT TO:<user@example.org>", "250 Ok")
		reply(p, "DATA", "354 Go on")
		reply(p, "x\r\n.", "250 Ok")
	}
	p := take()
	mail(p)
	o.Settle()
	o.submit("x\n", "user")
	p.Want("MAIL FROM:<a@client.example>\r\n")
	p.Say("421 4.4.2 Idle for too long\r\n")
	p = take()
	mail(p)
	o.Settle()
	o.empty()
	require.Zero(t, o.r.Counters().Deferred)

	// But one that has never taken anything is left alone.
	p.CloseWrite()
	o.Settle()
	o.submit("x\n", "user")
	p = take()
	p.Want("MAIL FROM:<a@client.example>\r\n")
	p.Say("421 4.3.2 Going down\r\n")
	o.Settle()
	require.Equal(t, "deferred user@example.org next:25 421 4.3.2 Going down", o.reports[len(o.reports)-1])
	require.Equal(t, o.Elapsed(), o.at[len(o.at)-1])
	o.Advance(59 * time.Second)
	require.Len(t, o.files("new"), 1)
	o.Advance(10 * time.Second)
	mail(take())
	o.Settle()
	o.empty()
}

// More recipients than the server takes at a time follow in a further message, at once.
func TestRelayTooManyRecipients(t *testing.T) {
	o := newOffice(t, sim.Config{}, &smtp.Relay{})
	next, _ := o.serve(nextAddress, &smtp.Server{Limits: smtp.Limits{Recipients: 2}})
	o.submit("x\n", "a", "b", "nobody", "c", "d", "e")
	o.Settle()
	require.Len(t, next.mails, 4) // and the report
	require.EqualValues(t, 6, o.r.Counters().Delivered)
	require.EqualValues(t, 1, o.r.Counters().Failed)
	require.Zero(t, o.r.Counters().Deferred)
	o.empty()
}

// Room is bounded: by messages, octets and recipients.
func TestRelayLimits(t *testing.T) {
	for name, x := range map[string]struct {
		limits smtp.RelayLimits
		mail   string
	}{
		"Messages":   {smtp.RelayLimits{Messages: 2}, "250 2.1.0 Ok"},
		"Octets":     {smtp.RelayLimits{Octets: 400}, "250 2.1.0 Ok"},
		"Recipients": {smtp.RelayLimits{Recipients: 3}, "250 2.1.0 Ok"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, sim.Config{}, &smtp.Relay{Limits: x.limits})
			srv := &smtp.Server{Hostname: "mx.example.org", Backend: o.r, Domains: domains, NoReceived: true}
			_, err := srv.Listen(o.loop, "tcp", address)
			require.NoError(t, err)
			p := o.Dial("tcp", address)
			p.Say("EHLO client.example\r\n")
			p.Read()
			o.submit("x\n", "user")
			one := "MAIL FROM:<a@client.example>\r\nRCPT TO:<user@example.org>\r\nRCPT TO:<other@example.org>\r\nDATA\r\n"
			p.Say(one)
			p.Read()
			p.Say("x\r\n.\r\n")
			require.Regexp(t, "^250 2.0.0 Ok", p.WantLine())
			p.Say("RSET\r\nMAIL FROM:<a@client.example> SIZE=500\r\n")
			p.Want("250 2.0.0 Ok\r\n452 4.3.1 The queue is full, try again later\r\n")
			if name == "Octets" {
				p.Say(one)
				p.Read()
				p.Say(strings.Repeat("0123456789\r\n", 50) + ".\r\n")
				p.Want("452 4.3.1 The queue is full, try again later\r\n")
				p.Say(one)
				p.Read()
				p.Say(strings.Repeat("0123456789\r\n", 20_000) + ".\r\n")
				p.Want("452 4.3.1 The queue is full, try again later\r\n")
			}
			_, err = o.r.Submit(t.Context(), &smtp.Envelope{To: []smtp.Recipient{{Path: addr(t, "a@b")}}}, strings.NewReader(strings.Repeat("x", 500)))
			var r *smtp.Reply
			require.ErrorAs(t, err, &r)
			require.Equal(t, 452, r.Code)
			require.Equal(t, 2, o.r.Len())
			next, _ := o.serve(nextAddress, &smtp.Server{})
			o.Advance(2 * time.Minute)
			require.Len(t, next.mails, 2)
			o.empty()
			o.submit("x\n", "user")
		})
	}
}

// The limits are as documented.
func TestRelayDefaults(t *testing.T) {
	require.Equal(t, smtp.RelayLimits{
		Messages: 10_000, Octets: 1 << 30, Recipients: 100_000, Conns: 50, ConnsPerHop: 5, MessagesPerConn: 100, IdleTimeout: 10 * time.Second,
		Lifetime: 5 * 24 * time.Hour, ReportedMessage: 1 << 20,
	}, smtp.DefaultRelayLimits())
}

// What is wrong with the configuration is said by Start.
func TestRelayStart(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	loop := w.Loop(core.Options{})
	defer loop.Close()
	dir := t.TempDir()
	require.ErrorContains(t, (&smtp.Relay{Hostname: "x"}).Start(loop), "Dir")
	require.ErrorContains(t, (&smtp.Relay{Dir: dir, Hostname: "a b"}).Start(loop), "Hostname")
	require.ErrorContains(t, (&smtp.Relay{Dir: dir, Hostname: "x", Retry: []time.Duration{0}}).Start(loop), "Retry")
	require.Error(t, (&smtp.Relay{Dir: filepath.Join(dir, "not", "there"), Hostname: "x"}).Start(loop))
	r := &smtp.Relay{Dir: dir, Hostname: "x"}
	_, err := r.Submit(t.Context(), &smtp.Envelope{}, nil)
	require.EqualError(t, err, "451 4.3.2 The queue is closed, try again later")
	require.NoError(t, r.Start(loop))
	require.Error(t, r.Start(loop))
	require.ErrorIs(t, (&smtp.Relay{Dir: dir, Hostname: "x"}).Start(loop), mailbox.ErrLocked)
	r.Stop()
	w.Settle()
	require.NoError(t, (&smtp.Relay{Dir: dir, Hostname: "x"}).Start(loop))
}

package smtp_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/mailbox"
	"github.com/parley-go/parley/protocols/smtp"
)

// What waits is delivered after a restart, and who has the message does not get it again.
func TestRelayRestart(t *testing.T) {
	o := newOffice(t, sim.Config{}, &smtp.Relay{})
	next, l := o.serve(nextAddress, &smtp.Server{})
	o.submit("one\n", "user", "later", "other")
	o.Settle()
	require.Len(t, next.mails, 1)
	require.NoError(t, l.Close())
	o.Advance(11 * time.Second) // the connection ends
	o.submit("two\n", "user")
	o.Settle()
	require.Equal(t, 2, o.r.Len())
	before := o.r.Octets()

	o = o.again(&smtp.Relay{})
	require.Equal(t, 2, o.r.Len())
	require.Equal(t, before, o.r.Octets())
	next, _ = o.serve(nextAddress, &smtp.Server{Backend: &recorder{hooks: map[string]func(*smtp.Session, string) error{
		"rcpt": func(_ *smtp.Session, to string) error {
			if strings.HasPrefix(to, "<later") {
				return smtp.Replyf(250, "2.1.5", "Now")
			}
			return nil
		},
	}}})
	o.Settle()
	require.Equal(t, smtp.RelayCounters{Delivered: 2}, o.r.Counters(), "%q", o.reports)
	require.Len(t, next.mails, 2)
	require.Equal(t, []string{"one\r\n", "two\r\n"}, texts(next))
	require.Len(t, next.mails[0].envelope.To, 1)
	require.Equal(t, "later@example.org", next.mails[0].envelope.To[0].Address())
	o.empty()
}

// The process ends at every moment: each recipient gets each message, or its sender a report, and nobody is forgotten. Who
// was written down as done does not get it again.
func TestRelayCrashes(t *testing.T) {
	moments := 0
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			net := sim.Config{Seed: seed, Latency: time.Millisecond, Jitter: 2 * time.Millisecond, Work: 3 * time.Millisecond}
			o := newOffice(t, net, &smtp.Relay{Limits: smtp.RelayLimits{ConnsPerHop: 2}})
			got := make(map[string]int) // recipient and text
			rec := &recorder{}
			rec.commit = func(_ *smtp.Session, m *mail) error {
				for _, to := range m.envelope.To {
					got[to.Address()+" "+strings.TrimSpace(m.text.String()[:min(4, m.text.Len())])]++
				}
				return nil
			}
			o.serve(nextAddress, &smtp.Server{Backend: rec})
			want := []string{"user@example.org one", "other@example.org one", "a@client.example From", "user@example.org two", "third@example.org two"}

			// Copies of the queue, with what had arrived by then, and what was submitted.
			type moment struct {
				dir       string
				got       map[string]int
				submitted int
			}
			var all []moment
			last := ""
			top := t.TempDir()
			submitted := 0
			look := func() bool {
				now := o.snapshot()
				if now != last {
					last = now
					dir := filepath.Join(top, fmt.Sprint(len(all)))
					require.NoError(t, os.CopyFS(dir, os.DirFS(o.r.Dir)))
					m := moment{dir: dir, got: make(map[string]int), submitted: submitted}
					for k, n := range got {
						m.got[k] = n
					}
					all = append(all, m)
				}
				return false
			}
			o.submit("one\n", "user", "nobody", "other")
			submitted++
			look()
			o.submit("two\n", "user", "third")
			submitted++
			o.Configure(func(c *sim.Config) { c.Patience = 5 * time.Second })
			o.Until(look)
			o.empty()
			for _, w := range want {
				require.Equal(t, 1, got[w], w)
			}
			require.Greater(t, len(all), 4)
			moments += len(all)

			for _, m := range all {
				after := newOffice(t, sim.Config{Seed: seed}, &smtp.Relay{Dir: m.dir})
				rec := &recorder{}
				total := m.got
				before := len(total)
				rec.commit = func(_ *smtp.Session, x *mail) error {
					for _, to := range x.envelope.To {
						total[to.Address()+" "+strings.TrimSpace(x.text.String()[:min(4, x.text.Len())])]++
					}
					return nil
				}
				after.serve(nextAddress, &smtp.Server{Backend: rec})
				after.Advance(time.Minute)
				after.empty()
				for _, w := range want {
					if m.submitted < 2 && strings.HasSuffix(w, "two") {
						continue
					}
					require.GreaterOrEqual(t, total[w], 1, "%s is lost, of %d that had it, by %s", w, before, m.dir)
					require.LessOrEqual(t, total[w], 2, w)
				}
			}
		})
	}
	t.Logf("%d moments", moments)
}

// snapshot tells queues apart.
func (o *office) snapshot() string {
	var b strings.Builder
	_ = filepath.WalkDir(o.r.Dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			text, _ := os.ReadFile(path)
			fmt.Fprintf(&b, "%s %d %q\n", path, len(text), text[:min(len(text), 200)])
		}
		return nil
	})
	return b.String()
}

// A note without its message, a message that is done, and files that are none of ours.
func TestRelayReadsWhatIsThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	q, err := mailbox.OpenQueue(dir)
	require.NoError(t, err)
	put := func(text, note string) {
		d, err := q.Begin()
		require.NoError(t, err)
		_, _ = io.WriteString(d, text)
		require.NoError(t, d.Commit(t.Context()))
		if note != "" {
			require.NoError(t, q.SetNote(d.Name(), []byte(note)))
		}
	}
	head := "Parley-Queue: 1\nTime: 2000-01-01T00:00:00Z\nID: X\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\nRCPT TO:<e@f>\n\n"
	put(head+"one\r\n", "Parley-Done: 1\n1\n")
	put(head+"done\r\n", "Parley-Done: 1\n0\n1\n")
	put(head+"odd\r\n", "Parley-Done: 1\n2\n")
	put("Subject: not ours\r\n\r\n", "")
	put("", "")
	require.NoError(t, q.Close())
	o := newOffice(t, sim.Config{}, &smtp.Relay{Dir: dir})
	next, _ := o.serve(nextAddress, &smtp.Server{})
	o.Settle()
	require.Len(t, next.mails, 2)
	to := map[string]int{}
	for _, m := range next.mails {
		to[m.text.String()] = len(m.envelope.To)
	}
	require.Equal(t, map[string]int{"one\r\n": 1, "odd\r\n": 2}, to)
	require.Len(t, o.files("new"), 2)
	require.Equal(t, 2, strings.Count(o.log.String(), "message left alone"))
	require.Zero(t, o.r.Len())
}

// Stop and a shutdown wait for what is on its way, and no longer.
func TestRelayStop(t *testing.T) {
	for _, how := range []string{"Stop", "Shutdown", "Shutdown without an end", "Close"} {
		t.Run(how, func(t *testing.T) {
			o := newOffice(t, sim.Config{}, &smtp.Relay{
				Limits: smtp.RelayLimits{ConnsPerHop: 1}, NewClient: func(_, _ string) *smtp.Client { return &smtp.Client{NoChunking: true} }})
			ln := o.Listen("tcp", nextAddress)
			o.submit("x\n", "user")
			p := ln.Accept()
			p.Say("220 next\r\n")
			p.Want("EHLO relay.example\r\n")
			p.Say("250 next\r\n")
			reply(p, "MAIL FROM:<a@client.example>", "250 Ok")
			reply(p, "RCPT TO:<user@example.org>", "250 Ok")
			reply(p, "DATA", "354 Go on")
			p.Want("x\r\n.\r\n")
			o.submit("y\n", "user")
			o.Settle()
			require.Zero(t, o.stopped)
			switch how {
			case "Stop":
				o.r.Stop()
				o.r.Stop()
			case "Close":
				require.NoError(t, o.loop.Close())
			default:
				o.loop.Shutdown(10 * time.Second)
			}
			o.Settle()
			_, err := o.r.Submit(t.Context(), &smtp.Envelope{To: []smtp.Recipient{{Path: addr(t, "a@b")}}}, strings.NewReader("x"))
			require.EqualError(t, err, "451 4.3.2 The queue is closed, try again later")
			left := 1
			switch how {
			case "Shutdown without an end":
				require.Zero(t, o.stopped)
				o.Advance(11 * time.Second)
				left = 2
			case "Close":
				left = 2
			default:
				require.Zero(t, o.stopped)
				p.Say("250 Ok\r\n")
				p.Want("QUIT\r\n")
				p.Say("221 Bye\r\n")
				p.WantClosed()
			}
			o.Settle()
			require.Equal(t, 1, o.stopped)
			require.Len(t, o.files("new"), left)
			q, err := mailbox.OpenQueue(o.r.Dir)
			require.NoError(t, err)
			require.NoError(t, q.Close())
			if how != "Close" {
				o.Advance(time.Second)
				require.NoError(t, o.loop.Run(t.Context()))
			}
		})
	}
}

// A message that is being received when the Relay ends may still come into the queue.
func TestRelayStopsReceiving(t *testing.T) {
	for _, end := range []string{"x\r\n.\r\n", ""} {
		o := newOffice(t, sim.Config{}, &smtp.Relay{})
		srv := &smtp.Server{Hostname: "mx.example.org", Backend: o.r, Domains: domains, NoReceived: true}
		_, err := srv.Listen(o.loop, "tcp", address)
		require.NoError(t, err)
		p := o.Dial("tcp", address)
		p.Say("EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n")
		p.Read()
		o.loop.Shutdown(time.Minute)
		o.Settle()
		require.Zero(t, o.stopped)
		if end == "" {
			p.CloseWrite()
			o.Settle()
			require.Empty(t, o.files("new"))
		} else {
			p.Say(end)
			require.Regexp(t, "^250 ", p.WantLine())
			o.Settle()
			require.Len(t, o.files("new"), 1)
		}
		require.Equal(t, 1, o.stopped)
		require.NoError(t, o.loop.Run(t.Context()))
	}
}

// Clients that cannot be made are no reason to send without.
func TestRelayNewClient(t *testing.T) {
	for _, f := range []func(string, string) *smtp.Client{
		func(string, string) *smtp.Client { return nil },
		func(string, string) *smtp.Client { panic("no") },
		func(string, string) *smtp.Client { return &smtp.Client{Hostname: "a b"} },
	} {
		o := newOffice(t, sim.Config{}, &smtp.Relay{NewClient: f})
		next, _ := o.serve(nextAddress, &smtp.Server{})
		o.submit("x\n", "user")
		o.Advance(3 * time.Minute)
		require.Empty(t, next.mails)
		require.Len(t, o.reports, 2)
		require.Equal(t, "deferred user@example.org next:25 451 4.3.5 The next server cannot be used as it is configured", o.reports[0])
	}
}

// A Relay that has nothing to do stops at once; one that dials, too.
func TestRelayStopsIdle(t *testing.T) {
	o := newOffice(t, sim.Config{}, &smtp.Relay{})
	o.r.Stop()
	o.Settle()
	require.Equal(t, 1, o.stopped)
	require.NoError(t, o.loop.Run(t.Context()))
	o = newOffice(t, sim.Config{}, &smtp.Relay{})
	ln := o.Listen("tcp", nextAddress)
	o.submit("x\n", "user")
	p := ln.Accept()
	o.r.Stop()
	o.Settle()
	require.Equal(t, 1, o.stopped)
	require.Len(t, o.files("new"), 1)
	require.Empty(t, o.reports)
	p.WantNothing()
}

// sickQueue fails where it is told to.
type sickQueue struct {
	smtp.RelayQueue
	fail string
	err  error
	n    int
}

func (q *sickQueue) sick(op string) error {
	if op == q.fail {
		q.n++
		return q.err
	}
	return nil
}

func (q *sickQueue) Begin() (*mailbox.Delivery, error) {
	if err := q.sick("Begin"); err != nil {
		return nil, err
	}
	return q.RelayQueue.Begin()
}

func (q *sickQueue) Open(name string) (*io.SectionReader, io.Closer, error) {
	if err := q.sick("Open"); err != nil {
		return nil, nil, err
	}
	return q.RelayQueue.Open(name)
}

func (q *sickQueue) SetNote(name string, note []byte) error {
	if err := q.sick("SetNote"); err != nil {
		return err
	}
	return q.RelayQueue.SetNote(name, note)
}

func (q *sickQueue) Remove(names ...string) error {
	if err := q.sick("Remove"); err != nil {
		return err
	}
	return q.RelayQueue.Remove(names...)
}

func sicken(t *testing.T) *sickQueue {
	s := &sickQueue{err: fmt.Errorf("%w: %w", mailbox.ErrFull, syscall.ENOSPC)}
	t.Cleanup(smtp.WrapRelayQueue(func(q smtp.RelayQueue) smtp.RelayQueue {
		s.RelayQueue = q
		return s
	}))
	return s
}

// A disk that is full: clients are told, nothing is forgotten, nothing is sent twice, and it goes on when there is room.
func TestRelayDiskFull(t *testing.T) {
	sick := sicken(t)
	o := newOffice(t, sim.Config{}, &smtp.Relay{})
	next, _ := o.serve(nextAddress, &smtp.Server{})
	srv := &smtp.Server{Hostname: "mx.example.org", Backend: o.r, Domains: domains, NoReceived: true}
	_, err := srv.Listen(o.loop, "tcp", address)
	require.NoError(t, err)
	sick.fail = "Begin"
	p := o.Dial("tcp", address)
	p.Say("EHLO client.example\r\n")
	p.Read()
	for _, body := range []string{"x\r\n.\r\n", strings.Repeat("0123456789\r\n", 20_000) + ".\r\n"} {
		p.Say("MAIL FROM:<a@client.example>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n")
		p.Read()
		p.Say(body)
		p.Want("452 4.3.1 There is no room, try again later\r\n")
	}
	_, err = o.r.Submit(t.Context(), &smtp.Envelope{To: []smtp.Recipient{{Path: addr(t, "a@b")}}}, strings.NewReader("x"))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, "452 4.3.1")
	o.empty()

	sick.fail, sick.n = "Remove", 0
	o.submit("x\n", "user")
	o.Advance(90 * time.Second)
	require.Equal(t, 2, sick.n)
	require.Len(t, next.mails, 1)
	require.Len(t, o.files("new"), 1)
	sick.fail = ""
	o.Advance(time.Minute)
	require.Len(t, next.mails, 1)
	o.empty()

	sick.fail, sick.n = "SetNote", 0
	o.submit("x\n", "user", "later")
	o.Advance(80 * time.Second)
	require.Len(t, next.mails, 2)
	require.Equal(t, 2, sick.n)
	sick.fail = ""
	o.Advance(time.Minute)
	require.Len(t, o.files("notes"), 1)
	require.Len(t, next.mails, 2)

	sick.fail, sick.n = "Begin", 0 // of the report
	q := o.r.Len()
	sick.fail = ""
	o.submit("x\n", "nobody")
	sick.fail = "Begin"
	o.Advance(90 * time.Second)
	require.Equal(t, 2, sick.n)
	require.Equal(t, q+1, o.r.Len())
	require.Zero(t, o.r.Counters().Reports)
	sick.fail = ""
	o.Advance(time.Minute)
	require.EqualValues(t, 1, o.r.Counters().Reports)
	require.Len(t, next.mails, 3)
	require.Equal(t, q, o.r.Len())
}

// A message that cannot be read waits.
func TestRelayCannotRead(t *testing.T) {
	sick := sicken(t)
	o := newOffice(t, sim.Config{}, &smtp.Relay{})
	next, _ := o.serve(nextAddress, &smtp.Server{})
	o.submit("x\n", "user")
	sick.fail, sick.err = "Open", syscall.EIO
	o.Settle()
	require.Equal(t, []string{"deferred user@example.org next:25 451 4.3.0 The message cannot be read from the queue"}, o.reports)
	sick.fail = ""
	o.Advance(70 * time.Second)
	require.Len(t, next.mails, 1)
	o.empty()
}

// Sessions of another loop may use the Relay.
func TestRelayOtherLoop(t *testing.T) {
	o := newOffice(t, sim.Config{}, &smtp.Relay{})
	next, _ := o.serve(nextAddress, &smtp.Server{})
	other := o.Loop(core.Options{})
	defer other.Close()
	srv := &smtp.Server{Hostname: "mx.example.org", Backend: o.r, Domains: domains}
	_, err := srv.Listen(other, "tcp", address)
	require.NoError(t, err)
	p := o.Dial("tcp", address)
	p.Say("EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n")
	p.Read()
	p.Say("x\r\n.\r\n")
	require.Regexp(t, "^250", p.WantLine())
	o.Settle()
	require.Len(t, next.mails, 1)
	require.Equal(t, 1, strings.Count(next.mails[0].text.String(), "Received: "))
	o.empty()
}

// A Route that cannot tell is asked again, and a refusal is final.
func TestRelayRoutes(t *testing.T) {
	var asked []string
	known := false
	o := newOffice(t, sim.Config{}, &smtp.Relay{Route: func(domain string) (string, string, error) {
		asked = append(asked, domain)
		switch domain {
		case "closed.example":
			return "", "", smtp.Replyf(550, "5.7.1", "Not from here")
		case "soon.example":
			if !known {
				return "", "", io.ErrUnexpectedEOF
			}
		case "panic.example":
			if !known {
				panic("no")
			}
		case "nowhere.example":
			return "", "", nil
		case "wrong.example":
			return "carrier pigeon", "x", nil
		}
		return "tcp", nextAddress, nil
	}})
	next, _ := o.serve(nextAddress, &smtp.Server{})
	o.submit("x\n", "a@Closed.EXAMPLE", "b@soon.example", "c@panic.example", "d@nowhere.example", "e@wrong.example", "f@good.example", "g@good.example")
	o.Settle()
	require.Equal(t, []string{"closed.example", "soon.example", "panic.example", "nowhere.example", "wrong.example", "good.example"}, asked[:6])
	slices.Sort(o.reports)
	require.Contains(t, o.reports, "failed a@Closed.EXAMPLE  550 5.7.1 Not from here")
	require.Contains(t, o.reports, "deferred b@soon.example  451 4.4.0 The way to this domain cannot be found now")
	require.Contains(t, o.reports, "deferred c@panic.example  451 4.4.0 The way to this domain cannot be found now")
	require.Contains(t, o.reports, "failed d@nowhere.example  550 5.4.4 There is no way to this domain")
	require.Contains(t, o.reports, "deferred e@wrong.example x 451 4.3.5 The next server cannot be used as it is configured")
	require.EqualValues(t, 4, o.r.Counters().Delivered) // two of them reports
	known = true
	o.Advance(70 * time.Second)
	require.EqualValues(t, 6, o.r.Counters().Delivered)
	require.Equal(t, 1, o.r.Len())
	require.Len(t, next.mails, 5)
}

package smtp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/internal/race"
	"github.com/parley-go/parley/protocols/mailbox"
	"github.com/parley-go/parley/protocols/smtp"
)

var domains = []string{"example.org"}

// maildir is one in a directory of the test.
func maildir(t *testing.T) *mailbox.Maildir {
	t.Helper()
	box, err := mailbox.OpenMaildir(filepath.Join(t.TempDir(), "box"))
	require.NoError(t, err)
	return box
}

// in are the messages in one of the directories of a Maildir.
func in(t *testing.T, box *mailbox.Maildir, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(box.Dir(), dir))
	require.NoError(t, err)
	var all []string
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(box.Dir(), dir, e.Name()))
		require.NoError(t, err)
		all = append(all, string(text))
	}
	return all
}

// temporary has temporary files made where the test can see them. It answers how many there are.
func temporary(t *testing.T) func() int {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	return func() int {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		return len(entries)
	}
}

// text is a message of n octets, with lines that begin with dots.
func text(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%s%d %s\r\n", strings.Repeat(".", i%3), i, strings.Repeat("x", i%70))
	}
	cut := b.String()[:n-2]
	if whole, ok := strings.CutSuffix(cut, "\r"); ok {
		cut = whole + "x"
	}
	return cut + "\r\n"
}

// stuffed is a message as DATA sends it.
func stuffed(text string) string {
	return strings.ReplaceAll("\r\n"+text, "\r\n.", "\r\n..")[2:] + ".\r\n"
}

// sizes are about what fits into a buffer, and into two.
var sizes = []int{2, 100, 65_533, 65_534, 65_536, 65_537, 131_072, 131_073, 1_000_000}

// Every octet that was sent lies in the mailbox, whatever the size of the message and however it was cut.
func TestDeliverOctets(t *testing.T) {
	left := temporary(t)
	for _, net := range []sim.Config{{}, {MaxRecv: 3000, RandomCuts: true, Seed: 5, Work: time.Second}} {
		box := maildir(t)
		mbox := &mailbox.Mbox{Path: filepath.Join(t.TempDir(), "mbox")}
		var got string
		for name, backend := range map[string]smtp.Backend{
			"Maildir": &smtp.Maildir{Box: box, NoReturnPath: true},
			"For":     &smtp.Maildir{For: func(context.Context, smtp.Path) (*mailbox.Maildir, error) { return box, nil }, NoReturnPath: true},
			"Mbox":    &smtp.Mbox{Box: mbox, NoReturnPath: true},
			"Func": smtp.Func(func(_ context.Context, e *smtp.Envelope, m *io.SectionReader) error {
				all, err := io.ReadAll(m)
				got = string(all)
				require.EqualValues(t, len(got), m.Size())
				return err
			}),
		} {
			net.T = nil
			s := newScene(t, net, &smtp.Server{Backend: backend, Domains: domains, NoReceived: true})
			p := s.hello()
			for _, n := range sizes {
				sent := text(n)
				p.Say("MAIL FROM:<a@client.example>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n")
				require.Regexp(t, "354 .*\r\n$", p.Read())
				p.Say(stuffed(sent))
				require.Regexp(t, "^250 2.0.0 ", p.Read(), "%s %d", name, n)
				switch name {
				case "Maildir", "For":
					files := in(t, box, "new")
					require.Len(t, files, 1)
					got = files[0]
					require.NoError(t, os.RemoveAll(filepath.Join(box.Dir(), "new")))
					require.NoError(t, os.Mkdir(filepath.Join(box.Dir(), "new"), 0o700))
				case "Mbox":
					all, err := os.ReadFile(mbox.Path)
					require.NoError(t, err)
					first, rest, _ := strings.Cut(string(all), "\n")
					require.Regexp(t, "^From a@client.example [A-Z].. [A-Z].. .. ..:..:.. [0-9]{4}$", first)
					got = strings.ReplaceAll(strings.TrimSuffix(rest, "\n"), "\n", "\r\n")
					require.NoError(t, os.Remove(mbox.Path))
				}
				require.Equal(t, len(sent), len(got), "%s %d", name, n)
				require.True(t, sent == got, "%s %d", name, n)
			}
			require.EqualValues(t, len(sizes), s.srv.Counters().Messages)
		}
		require.Empty(t, in(t, box, "tmp"))
	}
	require.Zero(t, left())
}

// counted counts the times that a Message asks for time.
type counted struct {
	smtp.Backend
	writes, commits int
}

type countedMessage struct {
	smtp.Message
	c *counted
}

func (c *counted) Begin(s *smtp.Session, e *smtp.Envelope) (smtp.Message, error) {
	m, err := c.Backend.Begin(s, e)
	return &countedMessage{m, c}, err
}

func (m *countedMessage) Write(p []byte) (int, error) {
	n, err := m.Message.Write(p)
	if err != nil {
		m.c.writes++
	}
	return n, err
}

func (m *countedMessage) Commit() error {
	err := m.Message.Commit()
	if err != nil {
		m.c.commits++
	}
	return err
}

// Nothing is done on the loop: until there was time for work, there is no file. A message that fits into a buffer is one
// piece of work.
func TestDeliverOffTheLoop(t *testing.T) {
	left := temporary(t)
	for name, open := range map[string]func() (smtp.Backend, func() int){
		"Maildir": func() (smtp.Backend, func() int) {
			box := maildir(t)
			return &smtp.Maildir{Box: box}, func() int { return len(in(t, box, "tmp")) + len(in(t, box, "new")) }
		},
		"Mbox": func() (smtp.Backend, func() int) {
			box := &mailbox.Mbox{Path: filepath.Join(t.TempDir(), "mbox")}
			return &smtp.Mbox{Box: box}, func() int {
				text, _ := os.ReadFile(box.Path)
				return left() + bytes.Count(text, []byte("\nReceived: from client.example"))
			}
		},
	} {
		for n, writes := range map[int]int{1000: 0, 65_000: 0, 65_536: 1, 190_000: 2, 200_000: 3} {
			backend, files := open()
			c := &counted{Backend: backend}
			s := newScene(t, sim.Config{Work: time.Hour, Seed: 7, Window: 1 << 20}, &smtp.Server{Backend: c, Domains: domains})
			p := s.hello()
			envelope(p)
			ask(p, "DATA", "354 End the message with a dot on a line by itself")
			p.Say(stuffed(text(n)))
			s.Advance(time.Microsecond)
			require.Zero(t, p.Unread())
			require.Equal(t, 1, c.writes+c.commits)
			require.Zero(t, files(), "%s %d", name, n)
			require.Regexp(t, "^250 2.0.0 ", p.Read())
			require.Equal(t, 1, files())
			require.Equal(t, writes, c.writes, "%s %d", name, n)
			require.Equal(t, 1, c.commits)
		}
	}
	require.Zero(t, left())
}

// A message of 50 MB holds less than 256 KiB, wherever it goes. What is counted has the test's own network in it.
func TestDeliverMemory(t *testing.T) {
	const piece = 32 << 10
	total := 50 << 20
	if testing.Short() || race.Enabled {
		total = 5 << 20
	}
	left := temporary(t)
	line := strings.Repeat("x", 62) + "\r\n"
	for _, name := range []string{"Maildir", "LF", "Mbox", "Func"} {
		box := maildir(t)
		box.LF = name == "LF"
		mbox := &mailbox.Mbox{Path: filepath.Join(t.TempDir(), "mbox")}
		before, most := int64(0), int64(0)
		measure := func() { most = max(most, heap()-before) }
		backend := map[string]smtp.Backend{
			"Maildir": &smtp.Maildir{Box: box},
			"LF":      &smtp.Maildir{Box: box},
			"Mbox":    &smtp.Mbox{Box: mbox},
			"Func": smtp.Func(func(_ context.Context, _ *smtp.Envelope, m *io.SectionReader) error {
				measure()
				n, err := io.Copy(io.Discard, m)
				require.Greater(t, n, int64(total))
				return err
			}),
		}[name]
		s := newScene(t, sim.Config{Work: time.Second}, &smtp.Server{Backend: backend, Domains: domains, Limits: smtp.Limits{MessageSize: -1}})
		p := s.hello()
		envelope(p)
		before = heap()
		ask(p, "DATA", "354 End the message with a dot on a line by itself")
		text := strings.Repeat(line, piece/64)
		for n := 0; n < total; n += piece {
			p.Say(text)
			if n%(total/5) < 4*piece { // while a buffer waits to be handed on, in two of these
				s.Advance(time.Microsecond)
				measure()
			}
			s.Settle()
		}
		p.Say(".\r\n")
		s.Advance(time.Microsecond)
		measure()
		require.Regexp(t, "^250 2.0.0 ", p.Read(), name)
		measure()
		t.Logf("%s: %d bytes", name, most)
		require.Less(t, most, int64(256<<10), name)
		require.Zero(t, left())
	}
}

// What the final delivery puts in front of a message.
func TestDeliverFields(t *testing.T) {
	const sent = "Subject: x\r\n\r\nx\r\n"
	box, mbox := maildir(t), &mailbox.Mbox{Path: filepath.Join(t.TempDir(), "mbox")}
	send := func(b smtp.Backend, from string) {
		s := newScene(t, sim.Config{}, &smtp.Server{Backend: b, Domains: domains})
		p := s.hello()
		p.Say("MAIL FROM:" + from + "\r\nRCPT TO:<user@example.org>\r\nRCPT TO:<\"a b\"@example.org>\r\nDATA\r\n" + stuffed(sent) + "QUIT\r\n")
		require.Regexp(t, "354 .*\r\n250 2.0.0 .*\r\n221 ", p.Read())
	}
	send(&smtp.Maildir{Box: box}, "<\"x y\"@z>")
	send(&smtp.Maildir{Box: box, NoReturnPath: true, DeliveredTo: true}, "<>")
	send(&smtp.Maildir{Box: box, DeliveredTo: true}, "<>")
	require.NoError(t, os.RemoveAll(mbox.Path))
	files := in(t, box, "new")
	require.Len(t, files, 3)
	const received = "Received: from client.example ([192.0.2.2])\r\n\tby mx.example.org with ESMTP id "
	const delivered = "Delivered-To: user@example.org\r\nDelivered-To: \"a b\"@example.org\r\n"
	for i, want := range []string{"Return-Path: <\"x y\"@z>\r\n", delivered, "Return-Path: <>\r\n" + delivered} {
		require.True(t, strings.HasPrefix(files[i], want+received), files[i])
		require.True(t, strings.HasSuffix(files[i], "\r\n"+sent))
	}

	send(&smtp.Mbox{Box: mbox}, "<\"x y\"@z>")
	send(&smtp.Mbox{Box: mbox, NoReturnPath: true, DeliveredTo: true}, "<>")
	all, err := os.ReadFile(mbox.Path)
	require.NoError(t, err)
	lf := strings.NewReplacer("\r\n", "\n", "(", `\(`, ")", `\)`, "[", `\[`, "]", `\]`)
	end := lf.Replace("[^;]*;\n\tSat, 01 Jan 2000 00:00:00 .0000\n") + lf.Replace(sent) + "\n"
	end = strings.NewReplacer(`\[`, "[", `\]`, "]").Replace(end)
	require.Regexp(t, "^From \"x-y\"@z Sat Jan  1 00:00:00 2000\nReturn-Path: <\"x y\"@z>\n"+lf.Replace(received)+end+
		"From MAILER-DAEMON Sat Jan  1 00:00:00 2000\n"+lf.Replace(delivered+received)+end+"$", string(all))
}

// What the client is told when a mailbox cannot take a message, small or large. Nothing of it is left.
func TestDeliverFails(t *testing.T) {
	left := temporary(t)
	why := errors.New("why")
	for name, x := range map[string]struct {
		open func() (smtp.Backend, *mailbox.Maildir)
		want string
	}{
		"full": {func() (smtp.Backend, *mailbox.Maildir) { return fails(fmt.Errorf("x: %w", mailbox.ErrFull)), nil },
			"452 4.3.1 There is no room, try again later"},
		"locked": {func() (smtp.Backend, *mailbox.Maildir) { return fails(mailbox.ErrLocked), nil },
			"450 4.2.0 The mailbox is busy, try again later"},
		"error":   {func() (smtp.Backend, *mailbox.Maildir) { return fails(why), nil }, "451 4.3.0 Local error, try again later"},
		"refused": {func() (smtp.Backend, *mailbox.Maildir) { return fails(smtp.Replyf(554, "5.6.0", "No")), nil }, "554 5.6.0 No"},
		"panic": {func() (smtp.Backend, *mailbox.Maildir) {
			return smtp.Func(func(context.Context, *smtp.Envelope, *io.SectionReader) error { panic("secret") }), nil
		}, "451 4.3.0 Local error, try again later"},
		"no tmp": {func() (smtp.Backend, *mailbox.Maildir) {
			box := maildir(t)
			require.NoError(t, os.Remove(filepath.Join(box.Dir(), "tmp")))
			return &smtp.Maildir{Box: box}, nil
		}, "451 4.3.0 Local error, try again later"},
		"no new": {func() (smtp.Backend, *mailbox.Maildir) {
			box := maildir(t)
			require.NoError(t, os.Remove(filepath.Join(box.Dir(), "new")))
			return &smtp.Maildir{Box: box}, box
		}, "451 4.3.0 Local error, try again later"},
		"no mbox": {func() (smtp.Backend, *mailbox.Maildir) {
			return &smtp.Mbox{Box: &mailbox.Mbox{Path: t.TempDir()}}, nil
		}, "451 4.3.0 Local error, try again later"},
		"mbox locked": {func() (smtp.Backend, *mailbox.Maildir) {
			path := filepath.Join(t.TempDir(), "mbox")
			require.NoError(t, os.WriteFile(path+".lock", nil, 0o600))
			return &smtp.Mbox{Box: &mailbox.Mbox{Path: path, LockTimeout: -1}}, nil
		}, "450 4.2.0 The mailbox is busy, try again later"},
	} {
		for _, n := range []int{100, 300_000} {
			backend, box := x.open()
			s := newScene(t, sim.Config{}, &smtp.Server{Backend: backend, Domains: domains})
			p := s.hello()
			envelope(p)
			ask(p, "DATA", "354 End the message with a dot on a line by itself")
			p.Say(stuffed(text(n)))
			p.Want(x.want + "\r\n")
			ask(p, "NOOP", "250 2.0.0 Ok")
			smtp.WaitForAborts()
			if box != nil {
				require.Empty(t, in(t, box, "tmp"), name)
			}
			require.Zero(t, left(), name)
			if !strings.HasPrefix(x.want, "5") {
				require.NotEmpty(t, s.log.String(), name)
			}
		}
	}
	for _, b := range []smtp.Backend{&smtp.Maildir{}, &smtp.Mbox{}} {
		s := newScene(t, sim.Config{}, &smtp.Server{Backend: b, Domains: domains})
		p := s.hello()
		envelope(p)
		ask(p, "DATA", "451 4.3.0 Local error, try again later")
	}
}

func fails(err error) smtp.Backend {
	return smtp.Func(func(context.Context, *smtp.Envelope, *io.SectionReader) error { return err })
}

// The connection is over, or the client takes the message back: nothing of it is left, wherever it was.
func TestDeliverGivenUp(t *testing.T) {
	left := temporary(t)
	for _, n := range []int{100, 100_000, 1_000_000} {
		for _, how := range []string{"reset", "rset", "bare", "write", "commit"} {
			box := maildir(t)
			mbox := &mailbox.Mbox{Path: filepath.Join(t.TempDir(), "mbox")}
			for _, backend := range []smtp.Backend{&smtp.Maildir{Box: box}, &smtp.Mbox{Box: mbox}} {
				net := sim.Config{Seed: 3}
				if how == "write" && n < 65536 {
					continue
				}
				if how == "write" || how == "commit" {
					net.Work = time.Minute
				}
				c := &counted{Backend: backend}
				s := newScene(t, net, &smtp.Server{Backend: c, Domains: domains})
				p := s.hello()
				envelope(p)
				switch how {
				case "rset":
					p.Say(fmt.Sprintf("BDAT %d\r\n%sRSET\r\n", n, text(n)))
					require.Regexp(t, "^250 .*\r\n250 2.0.0 Ok\r\n$", p.Read())
				case "bare":
					p.Say("DATA\r\n" + text(n) + "a bare \n LF\r\n.\r\n")
					require.Regexp(t, "^354 .*\r\n550 ", p.Read())
				case "reset":
					p.Say("DATA\r\n" + text(n))
					s.Settle()
					p.Reset()
				default: // while work is out
					ask(p, "DATA", "354 End the message with a dot on a line by itself")
					p.Say(stuffed(text(n)))
					for how == "write" && c.writes == 0 || how == "commit" && c.commits == 0 {
						s.Advance(time.Millisecond)
					}
					s.loop.CloseAll(core.ErrClosed) // a loss is seen when the client is read from again
				}
				s.Advance(time.Hour)
				smtp.WaitForAborts()
				if how != "rset" && how != "bare" {
					require.Zero(t, s.srv.Open())
				}
				require.Empty(t, in(t, box, "tmp"), "%s %d", how, n)
				require.Empty(t, in(t, box, "new"), "%s %d", how, n)
				all, _ := os.ReadFile(mbox.Path)
				require.Empty(t, all)
			}
		}
	}
	require.Zero(t, left())
}

// The context of a Func ends with the connection.
func TestDeliverCancelled(t *testing.T) {
	left := temporary(t)
	box := maildir(t)
	var s *scene
	var p *sim.Peer
	for _, n := range []int{100, 100_000} {
		var why error
		s = newScene(t, sim.Config{}, &smtp.Server{Domains: domains, Backend: smtp.Func(func(ctx context.Context, e *smtp.Envelope, m *io.SectionReader) error {
			require.Equal(t, "<a@client.example>", e.From.String())
			gone, cancel := context.WithCancelCause(ctx) // as if the client went away now
			cancel(io.ErrUnexpectedEOF)
			d, err := box.Begin()
			require.NoError(t, err)
			_, err = io.Copy(d, m)
			require.NoError(t, err)
			why = d.Commit(gone)
			return why
		})})
		p = s.hello()
		envelope(p)
		p.Say("DATA\r\n" + stuffed(text(n)))
		require.Regexp(t, "^354 .*\r\n451 ", p.Read())
		require.ErrorIs(t, why, io.ErrUnexpectedEOF)
		require.Empty(t, in(t, box, "tmp"))
		require.Empty(t, in(t, box, "new"))
	}
	require.Zero(t, left())
}

// users have Maildirs of their own: pat and tim do, tom's is broken, staff is pat, nobody is unknown.
func users(t *testing.T) (*smtp.Maildir, map[string]*mailbox.Maildir) {
	boxes := map[string]*mailbox.Maildir{"pat": maildir(t), "tim": maildir(t), "tom": maildir(t)}
	require.NoError(t, os.RemoveAll(filepath.Join(boxes["tom"].Dir(), "tmp")))
	boxes["staff"] = boxes["pat"]
	return &smtp.Maildir{
		DeliveredTo: true,
		For: func(_ context.Context, to smtp.Path) (*mailbox.Maildir, error) {
			if to.Local == "odd" {
				return nil, nil
			}
			if box := boxes[to.Local]; box != nil {
				return box, nil
			}
			return nil, smtp.Replyf(550, "5.1.1", "There is no %s here", to.Local)
		},
	}, boxes
}

// With LMTP, each recipient has an answer; who shares a Maildir shares a copy.
func TestDeliverEach(t *testing.T) {
	for _, n := range []int{100, 100_000} {
		backend, boxes := users(t)
		s := newScene(t, sim.Config{}, &smtp.Server{Backend: backend, Domains: domains, LMTP: true, NoReceived: true})
		p := s.Dial("tcp", address)
		p.Say("LHLO x\r\nMAIL FROM:<a@b>\r\n")
		p.Read()
		for _, who := range []string{"pat", "nobody", "tim", "tom", "staff", "odd"} {
			ask(p, "RCPT TO:<"+who+"@example.org>", "250 2.1.5 Ok")
		}
		p.Say("DATA\r\n" + stuffed(text(n)))
		require.Regexp(t, "^354 .*\r\n250 2.0.0 .*\r\n550 5.1.1 There is no nobody here\r\n250 2.0.0 .*\r\n451 4.3.0 .*\r\n250 2.0.0 .*\r\n451 4.3.0 .*\r\n$", p.Read())
		require.Equal(t, []string{"Return-Path: <a@b>\r\nDelivered-To: pat@example.org\r\nDelivered-To: staff@example.org\r\n" + text(n)}, in(t, boxes["pat"], "new"))
		require.Equal(t, []string{"Return-Path: <a@b>\r\nDelivered-To: tim@example.org\r\n" + text(n)}, in(t, boxes["tim"], "new"))
		require.Equal(t, smtp.Counters{Sessions: 1, Commands: 9, Messages: 1, Recipients: 3, Octets: int64(n)}, s.srv.Counters())
	}
}

// With SMTP, all get it or nobody.
func TestDeliverAll(t *testing.T) {
	for to, want := range map[string]string{"pat tim staff": "250 2.0.0 ", "pat tim tom": "451 4.3.0 ", "pat tim nobody": "550 5.1.1 "} {
		backend, boxes := users(t)
		s := newScene(t, sim.Config{}, &smtp.Server{Backend: backend, Domains: domains})
		p := s.hello()
		ask(p, "MAIL FROM:<a@b>", "250 2.1.0 Ok")
		for who := range strings.FieldsSeq(to) {
			ask(p, "RCPT TO:<"+who+"@example.org>", "250 2.1.5 Ok")
		}
		p.Say("DATA\r\n" + stuffed(text(100_000)))
		require.Regexp(t, "^354 .*\r\n"+want, p.Read())
		for _, who := range []string{"pat", "tim"} {
			copies := 0
			if want == "250 2.0.0 " {
				copies = 1
			}
			require.Len(t, in(t, boxes[who], "new"), copies)
			require.Empty(t, in(t, boxes[who], "tmp"))
		}
	}
}

// What processes that were killed left in tmp goes away, once a day.
func TestDeliverCleans(t *testing.T) {
	box := maildir(t)
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: &smtp.Maildir{Box: box}, Domains: domains})
	p := s.hello()
	for i := range 2 {
		old := filepath.Join(box.Dir(), "tmp", "old")
		require.NoError(t, os.WriteFile(old, nil, 0o600))
		at := time.Now().Add(-mailbox.TmpAge - time.Hour)
		require.NoError(t, os.Chtimes(old, at, at))
		envelope(p)
		p.Say("DATA\r\n.\r\n")
		require.Regexp(t, "^354 .*\r\n250 ", p.Read())
		require.Len(t, in(t, box, "tmp"), i)
	}
}

func TestPrint(t *testing.T) {
	var out bytes.Buffer
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: &smtp.Print{W: &out}, Domains: domains, NoReceived: true, AllowBare: true})
	p := s.hello()
	for _, x := range []struct{ is, want string }{
		{"Subject: x\r\n\r\n.a\r\n\r\nb\r\n", "Subject: x\nX-Peer: 192.0.2.2\nX-MailFrom: a@client.example\nX-RcptTo: user@example.org, pat@example.org\n\n.a\n\nb\n"},
		{"", ""},
		{"no body\r\n", "no body\n"},
		{"\x1b[2J\x07\x9b\xff\u202e é\t\\\u00a0\r\n", `\x1b[2J\a\x9b\xff\u202e é` + "\t" + `\\u00a0` + "\n"},
		{text(100_000), strings.ReplaceAll(text(100_000), "\r\n", "\n")},
	} {
		out.Reset()
		envelope(p)
		ask(p, "RCPT TO:<pat@example.org>", "250 2.1.5 Ok")
		p.Say("DATA\r\n" + stuffed(x.is))
		require.Regexp(t, "^354 .*\r\n250 ", p.Read())
		require.Equal(t, "---------- MESSAGE FOLLOWS ----------\n"+x.want+"------------ END MESSAGE ------------\n", out.String())
	}
	out.Reset()
	envelope(p)
	p.Say("BDAT 3 LAST\r\na\rb")
	require.Regexp(t, "^250 ", p.Read())
	require.Contains(t, out.String(), "\na\\rb\n---")

	s = newScene(t, sim.Config{}, &smtp.Server{Backend: &smtp.Print{W: broken{}}, Domains: domains})
	p = s.hello()
	envelope(p)
	p.Say("DATA\r\n.\r\n")
	require.Regexp(t, "^354 .*\r\n451 ", p.Read())
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestDiscard(t *testing.T) {
	d := new(smtp.Discard)
	s := newScene(t, sim.Config{}, &smtp.Server{Backend: d, Domains: domains, NoReceived: true})
	p := s.hello()
	for _, n := range []int{2, 100_000} {
		envelope(p)
		p.Say("DATA\r\n" + stuffed(text(n)))
		require.Regexp(t, "^354 .*\r\n250 ", p.Read())
	}
	envelope(p)
	p.Say("DATA\r\nnot counted")
	p.Reset()
	s.Settle()
	require.EqualValues(t, 2, d.Messages())
	require.EqualValues(t, 100_002, d.Octets())
}

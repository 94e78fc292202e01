package mailbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 7, 5, 12, 0, 1, 0, time.FixedZone("", 7200))

const fromNoon = "From a@b Sun Jul  5 10:00:01 2026\n"

// inMbox is a message as it stands in the file.
func inMbox(text string) string { return fromNoon + strings.ReplaceAll(text, "\r\n", "\n") + "\n" }

func (m *memFS) text(name string) string {
	n, err := m.find(name)
	if err != nil {
		return err.Error()
	}
	return string(n.data)
}

func (m *Mbox) add(text string) error {
	return m.Append(background, "a@b", noon, strings.NewReader(text))
}

func TestMboxFormat(t *testing.T) {
	for _, x := range []struct{ is, want string }{
		{"", "\n"},
		{"Subject: x\r\n\r\ntext\r\n", "Subject: x\n\ntext\n\n"},
		{"no end", "no end\n\n"},
		{"a CR\r", "a CR\r\n\n"},
		{"bare\rCR, bare\nLF\r\r\n", "bare\rCR, bare\nLF\r\n\n"},
		{"From x\r\n>From y\r\n>>>From z\r\n", ">From x\n>>From y\n>>>>From z\n\n"},
		{"From: x\r\nFrom\r\n From x\r\n> From x\r\nx From y\r\nfrom z\r\n", "From: x\nFrom\n From x\n> From x\nx From y\nfrom z\n\n"},
		{"x\r\nFrom", "x\nFrom\n\n"},
		{"x\r\nFro\r\n>Fr", "x\nFro\n>Fr\n\n"},
		{"From ", ">From \n\n"},
		{">>", ">>\n\n"},
		{"x\r\n\r\n\r\n", "x\n\n\n\n"},
	} {
		for n := range len(x.is) + 1 {
			m := newMemFS()
			box := &Mbox{Path: "mbox", fs: m}
			in := io.MultiReader(strings.NewReader(x.is[:n]), strings.NewReader(x.is[n:]))
			require.NoError(t, box.Append(background, "a@b", noon, in))
			require.NoError(t, box.Append(background, "a@b", noon, iotest.OneByteReader(strings.NewReader(x.is))))
			require.Equal(t, fromNoon+x.want+fromNoon+x.want, m.text("mbox"), "%q at %d", x.is, n)
		}
	}
	for sender, want := range map[string]string{"": "MAILER-DAEMON", "\"a b\"@c": "\"a-b\"@c", "x\ny\x7f\t": "x-y--", "jürgen@ö": "jürgen@ö"} {
		require.Equal(t, "From "+want+" Sun Jul  5 10:00:01 2026\n", fromLine(sender, noon))
	}
	before := time.Now().UTC().Truncate(time.Second)
	at, err := time.Parse("From x Mon Jan _2 15:04:05 2006\n", fromLine("x", time.Time{}))
	require.NoError(t, err)
	require.WithinRange(t, at, before, time.Now())
}

// readMbox takes messages out of an mboxrd file.
func readMbox(text string) (messages []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, from) {
			messages = append(messages, "")
			continue
		}
		if strings.HasPrefix(strings.TrimLeft(line, ">"), from) {
			line = line[1:]
		}
		messages[len(messages)-1] += line
	}
	for i, m := range messages {
		messages[i] = strings.TrimSuffix(m, "\n")
	}
	return messages
}

// FuzzMbox: whatever a message is, it can be had back, and the one behind it, too.
func FuzzMbox(f *testing.F) {
	for _, s := range []string{"From x\r\n", "\n\nFrom x\n\n>From ", ">>>From \r\r\nFrom", "\x00\nFro"} {
		f.Add([]byte(s), []byte("x"), uint8(3))
	}
	f.Fuzz(func(t *testing.T, a, b []byte, cut uint8) {
		m := newMemFS()
		box := &Mbox{Path: "mbox", fs: m}
		var want []string
		for _, p := range [][]byte{a, b} {
			n := min(int(cut), len(p))
			require.NoError(t, box.Append(background, "", noon, io.MultiReader(bytes.NewReader(p[:n]), bytes.NewReader(p[n:]))))
			text := strings.ReplaceAll(string(p), "\r\n", "\n")
			if text != "" && !strings.HasSuffix(text, "\n") {
				text += "\n"
			}
			want = append(want, text)
		}
		require.Equal(t, want, readMbox(m.text("mbox")))
	})
}

// A message begins behind an empty line, whatever others left there.
func TestMboxGap(t *testing.T) {
	for before, gap := range map[string]string{"": "", "x": "\n\n", "\n": "", "x\n": "\n", "x\n\n": "", "\n\n": ""} {
		m := newMemFS()
		m.put("mbox", before)
		require.NoError(t, (&Mbox{Path: "mbox", fs: m}).add("y"))
		require.Equal(t, before+gap+inMbox("y\r\n"), m.text("mbox"), "%q", before)
	}
}

func TestMboxOrderOfSteps(t *testing.T) {
	m := newMemFS()
	box := &Mbox{Path: "mbox", fs: m}
	require.NoError(t, box.add("x"))
	require.Equal(t, []string{"create mbox", "lock mbox", "create mbox.lock", "write mbox.lock", "sync mbox.lock", "syncdir .",
		"write mbox", "sync mbox", "write mbox.lock", "sync mbox.lock", "close mbox.lock", "remove mbox.lock", "close mbox"}, m.log)
	require.Empty(t, gates.of)
}

// Whichever step fails, the file is as it was, and not locked; and so it is if the process ends or the power fails then.
func TestMboxFailureAtEachStep(t *testing.T) {
	long := strings.Repeat("0123456789\r\n", 10_000)
	for _, op := range []string{"create", "lock", "write", "sync", "syncdir"} {
		for nth := range 10 {
			m := newMemFS()
			box := &Mbox{Path: "mbox", fs: m}
			require.NoError(t, box.add("before"))
			n := nth
			m.fail = func(is, _ string) error {
				if is == op {
					if n--; n == -1 {
						return syscall.ENOSPC
					}
				}
				return nil
			}
			err := box.add(long)
			m.fail = nil
			if n >= 0 { // there are no more of these steps
				require.NoError(t, err)
				require.Equal(t, inMbox("before\r\n")+inMbox(long), m.text("mbox"))
				break
			}
			require.ErrorIs(t, err, syscall.ENOSPC, "%s %d", op, nth)
			require.ErrorIs(t, err, ErrFull)
			require.Equal(t, inMbox("before\r\n"), m.text("mbox"), "%s %d", op, nth)
			require.Equal(t, "file does not exist", m.text("mbox.lock"))
			require.NoError(t, box.add("after"))
			require.Equal(t, inMbox("before\r\n")+inMbox("after\r\n"), m.text("mbox"))
		}
	}
	require.Empty(t, gates.of)
}

// The message cannot be read, or the caller gives up.
func TestMboxGivesUp(t *testing.T) {
	m := newMemFS()
	box := &Mbox{Path: "mbox", fs: m}
	require.NoError(t, box.add("before"))
	why := errors.New("why")
	in := io.MultiReader(strings.NewReader(strings.Repeat("0123456789\r\n", 10_000)), iotest.ErrReader(why))
	require.ErrorIs(t, box.Append(background, "x", noon, in), why)
	require.Equal(t, inMbox("before\r\n"), m.text("mbox"))
	ctx, cancel := context.WithCancelCause(background)
	cancel(why)
	require.ErrorIs(t, box.Append(ctx, "x", noon, strings.NewReader("x")), why)
	require.Equal(t, inMbox("before\r\n"), m.text("mbox"))
}

// If the file cannot be cut back either, the next one does it.
func TestMboxUndoFails(t *testing.T) {
	if !kernelLocks {
		t.Skip("a lock that was left counts for a while here")
	}
	m := newMemFS()
	box := &Mbox{Path: "mbox", fs: m}
	require.NoError(t, box.add("before"))
	broken := errors.New("broken")
	m.fail = func(op, name string) error {
		if (op == "sync" || op == "truncate") && name == "mbox" {
			return broken
		}
		return nil
	}
	require.ErrorIs(t, box.add("half"), broken)
	require.Equal(t, inMbox("before\r\n")+inMbox("half\r\n"), m.text("mbox"))
	require.ErrorIs(t, box.add("no"), broken)
	m.fail = nil
	require.NoError(t, box.add("after"))
	require.Equal(t, inMbox("before\r\n")+inMbox("after\r\n"), m.text("mbox"))
	require.Equal(t, "file does not exist", m.text("mbox.lock"))
}

// elsewhere is the file that is called mbox in another machine's memory, so that this one's locks do not count there.
const elsewhere = "/mbox"

// A loss of power at each step, with nothing left but what was synced, and with any more: the next message finds those
// before it that were committed, and nothing else.
func TestMboxLossOfPower(t *testing.T) {
	if !kernelLocks {
		t.Skip("a lock that was left counts for a while here")
	}
	m := newMemFS()
	r := rand.New(rand.NewPCG(1, 2))
	committed, crashes := "", 0
	m.after = func(op string) {
		for i := range 6 {
			how := r
			if i == 0 {
				how = nil
			}
			after := m.crashed(how)
			err := (&Mbox{Path: elsewhere, fs: after}).add("next")
			if want := committed + inMbox("next\r\n"); !t.Failed() && (err != nil || after.text("mbox") != want) {
				t.Errorf("%v, %q instead of %q after %q", err, after.text("mbox"), want, m.log)
			}
			crashes++
		}
	}
	for n := range 20 {
		box := &Mbox{Path: "mbox", fs: m} // as another process would have it
		text := letter(n) + strings.Repeat("0123456789\r\n", n%4*2000)
		m.log = nil
		if err := appendAndNote(box, text, func() { committed += inMbox(text) }, m); err != nil {
			t.Fatal(err)
		}
	}
	require.Greater(t, crashes, 1000)
}

// appendAndNote notes that a message is committed as soon as that is written down: from there on it stays, though Append
// has not returned yet.
func appendAndNote(box *Mbox, text string, note func(), m *memFS) error {
	syncs, after := 0, m.after
	m.after = func(op string) {
		if op == "sync" {
			if syncs++; syncs == 3 { // of the record, the message, the record
				note()
			}
		}
		if syncs == 2 && op == "write" {
			return // the record that is being written counts from one moment on, which is the disk's
		}
		after(op)
	}
	defer func() { m.after = after }()
	return box.add(text)
}

// In that moment it is there or not, but never half.
func TestMboxLossOfPowerWhenDone(t *testing.T) {
	if !kernelLocks {
		t.Skip("a lock that was left counts for a while here")
	}
	r := rand.New(rand.NewPCG(5, 6))
	m := newMemFS()
	writes, kept := 0, 0
	m.after = func(op string) {
		if op != "write" {
			return
		}
		if writes++; writes != 3 {
			return
		}
		for range 200 {
			after := m.crashed(r)
			err := (&Mbox{Path: elsewhere, fs: after}).add("next")
			switch got := after.text("mbox"); {
			case err != nil:
				t.Error(err)
			case got == inMbox("message\r\n")+inMbox("next\r\n"):
				kept++
			case got != inMbox("next\r\n"):
				t.Errorf("%q", got)
			}
		}
	}
	require.NoError(t, (&Mbox{Path: "mbox", fs: m}).add("message"))
	require.NotZero(t, kept)
	require.Less(t, kept, 200)
}

// What others wrote behind a message that was not finished is not cut off.
func TestMboxForeignTail(t *testing.T) {
	if !kernelLocks {
		t.Skip("a lock that was left counts for a while here")
	}
	before := inMbox("before\r\n")
	for tail, cut := range map[string]bool{
		"":                            true,
		"\n":                          true,
		"Fro":                         true,
		"\n\nFrom x":                  true,
		"From x\nhalf a mess":         true,
		"From x\nhalf\n\n":            true,
		"From x\n\x00\x00\x00":        true,
		"\x00\x00\x00\x00":            true,
		"From x\nhalf\nFrom y\n\ny\n": false,
		"more of a message\n\n":       false,
		"Fromage\n":                   false,
		"From x\n" + strings.Repeat("y", 10_000) + "From z\n": true,
		"From x\n" + strings.Repeat("y", 10_000) + "\nFrom z": false,
	} {
		m := newMemFS()
		m.put("mbox", before+tail)
		m.put("mbox.lock", fmt.Sprintf("1\nparley %d\n", len(before)))
		require.NoError(t, (&Mbox{Path: "mbox", fs: m}).add("next"))
		if cut {
			require.Equal(t, before+inMbox("next\r\n"), m.text("mbox"), "%q", tail)
		} else {
			require.True(t, strings.HasPrefix(m.text("mbox"), before+tail), "%q", tail)
			require.True(t, strings.HasSuffix(m.text("mbox"), "\n\n"+inMbox("next\r\n")))
		}
	}
	for record, pending := range map[string]bool{"": false, "1": false, "1\n": false, "1\nparley": false, "1\nparley 5": false,
		"1\nparley 5\n": true, "1\nparley 5\ndo": true, "1\nparley 5\ndone\n": false, "1\nparley -5\n": false, "1\nparley x\n": false, "0\nother 5\n": false} {
		_, is, _ := readRecord(record)
		require.Equal(t, pending, is, "%q", record)
	}
}

// The file is put in place of another while it is waited for: the message goes to the new one.
func TestMboxReplaced(t *testing.T) {
	m := newMemFS()
	m.put("mbox", "")
	replaced := false
	m.after = func(op string) {
		if op == "lock" && !replaced {
			replaced = true
			m.root.entries["old"] = m.root.entries["mbox"]
			delete(m.root.entries, "mbox")
		}
	}
	require.NoError(t, (&Mbox{Path: "mbox", fs: m}).add("x"))
	require.Equal(t, inMbox("x\r\n"), m.text("mbox"))
	require.Empty(t, m.text("old"))
}

// Who has it locked is waited for, in each way that there is, and not for ever.
func TestMboxLocked(t *testing.T) {
	for name, lock := range map[string]func(*memFS) (unlock func()){
		"kernel": func(m *memFS) func() {
			f, err := m.open("mbox", os.O_RDWR)
			require.NoError(t, err)
			ok, err := f.tryLock()
			require.True(t, ok)
			require.NoError(t, err)
			return func() { f.Close() }
		},
		"dotlock": func(m *memFS) func() {
			m.put("mbox.lock", "0")
			return func() { _ = m.remove("mbox.lock") }
		},
		"goroutine": func(*memFS) func() {
			l := &mboxLock{m: &Mbox{Path: "mbox"}}
			require.NoError(t, l.enter(background, nil))
			return l.leave
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemFS()
			m.put("mbox", "")
			unlock := lock(m)
			began := time.Now()
			took := func(err error, d time.Duration) {
				require.InDelta(t, d, time.Since(began), float64(200*time.Millisecond), "%s: %v", name, err)
				began = time.Now()
			}
			err := (&Mbox{Path: "mbox", fs: m}).add("x")
			require.ErrorIs(t, err, ErrLocked, name)
			took(err, 30*time.Second)
			err = (&Mbox{Path: "mbox", fs: m, LockTimeout: time.Second}).add("x")
			require.ErrorIs(t, err, ErrLocked, name)
			took(err, time.Second)
			err = (&Mbox{Path: "mbox", fs: m, LockTimeout: -1}).add("x")
			require.ErrorIs(t, err, ErrLocked, name)
			took(err, 0)
			ctx, cancel := context.WithTimeout(background, 2*time.Second)
			err = (&Mbox{Path: "mbox", fs: m}).Append(ctx, "", noon, strings.NewReader("x"))
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			took(err, 2*time.Second)
			require.Empty(t, m.text("mbox"))
			time.AfterFunc(3*time.Second, unlock)
			err = (&Mbox{Path: "mbox", fs: m}).add("x")
			require.NoError(t, err, name)
			took(err, 3*time.Second)
			require.Equal(t, inMbox("x\r\n"), m.text("mbox"))
			require.Empty(t, gates.of)
		})
	}
}

// A dotlock file that another program forgot is in the way for StaleLock.
func TestMboxStaleLock(t *testing.T) {
	for stale, want := range map[time.Duration]time.Duration{0: 5 * time.Minute, time.Minute: time.Minute, -1: 0} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemFS()
			m.put("mbox.lock", "0")
			began := time.Now()
			err := (&Mbox{Path: "mbox", fs: m, LockTimeout: 10 * time.Minute, StaleLock: stale}).add("x")
			if stale < 0 {
				require.ErrorIs(t, err, ErrLocked)
				return
			}
			require.NoError(t, err)
			require.InDelta(t, want, time.Since(began), float64(time.Second))
		})
	}
}

// On the system's own file system, many goroutines at a time.
func TestMboxOnDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mbox")
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			box := &Mbox{Path: path}
			for i := range 5 {
				if err := box.add(letter(100*g + i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var want []string
	for g := range 4 {
		for i := range 5 {
			want = append(want, strings.ReplaceAll(letter(100*g+i), "\r\n", "\n"))
		}
	}
	require.ElementsMatch(t, want, readMbox(string(text)))
	require.NoFileExists(t, path+".lock")

	require.Error(t, (&Mbox{Path: filepath.Dir(path)}).add("x"), "a directory")
	require.ErrorIs(t, (&Mbox{Path: filepath.Join(path, "x")}).add("x"), syscall.ENOTDIR)
}

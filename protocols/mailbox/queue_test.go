package mailbox

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func queued(t *testing.T) (*memFS, *Queue) {
	t.Helper()
	m := newMemFS()
	q, err := openQueue(m, "queue")
	require.NoError(t, err)
	q.box.host = "host"
	return m, q
}

// enqueue puts a message into a queue.
func enqueue(q *Queue, text string) (string, error) {
	d, err := q.Begin()
	if err != nil {
		return "", err
	}
	fmt.Fprint(d, text)
	err = d.Commit(background)
	return d.Name(), err
}

func content(q *Queue, name string) (string, error) {
	r, f, err := q.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(r)
	return string(text), err
}

func TestQueue(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	q, err := OpenQueue(dir)
	require.NoError(t, err)
	require.Equal(t, dir, q.Dir())
	one, err := enqueue(q, "one\r\n")
	require.NoError(t, err)
	two, err := enqueue(q, "two\r\n")
	require.NoError(t, err)
	names, err := q.List()
	require.NoError(t, err)
	require.ElementsMatch(t, []string{one, two}, names)
	text, err := content(q, two)
	require.NoError(t, err)
	require.Equal(t, "two\r\n", text)

	note, err := q.Note(one)
	require.NoError(t, err)
	require.Nil(t, note)
	require.NoError(t, q.SetNote(one, []byte("first")))
	require.NoError(t, q.SetNote(one, []byte("second")))
	note, err = q.Note(one)
	require.NoError(t, err)
	require.Equal(t, "second", string(note))

	// It belongs to one at a time.
	for _, other := range []string{dir, dir + "/", dir + "/../queue"} {
		_, err = OpenQueue(other)
		require.ErrorIs(t, err, ErrLocked)
	}
	require.NoError(t, q.Close())
	require.NoError(t, q.Close())
	_, err = q.Begin()
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorIs(t, q.SetNote(one, nil), os.ErrClosed)

	require.NoError(t, os.WriteFile(filepath.Join(dir, "tmp", "half"), []byte("x"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes", "left"), []byte("x"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "new", ".hidden"), []byte("x"), 0o600))
	q, err = OpenQueue(dir)
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(dir, "tmp", "half"))
	require.NoFileExists(t, filepath.Join(dir, "notes", "left"))
	note, err = q.Note(one)
	require.NoError(t, err)
	require.Equal(t, "second", string(note))
	require.NoError(t, q.Remove(one, "not there"))
	require.NoFileExists(t, filepath.Join(dir, "notes", one))
	names, err = q.List()
	require.NoError(t, err)
	require.Equal(t, []string{two}, names)
	_, _, err = q.Open(one)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, q.Close())
}

// A name leads nowhere but into the queue.
func TestQueueNames(t *testing.T) {
	_, q := queued(t)
	for _, name := range []string{"", ".", "..", "../lock", "/etc/passwd", `..\x`, "a/b", ".x"} {
		_, _, err := q.Open(name)
		require.ErrorIs(t, err, fs.ErrInvalid, name)
		_, err = q.Note(name)
		require.ErrorIs(t, err, fs.ErrInvalid, name)
		require.ErrorIs(t, q.SetNote(name, nil), fs.ErrInvalid, name)
		require.ErrorIs(t, q.Remove(name), fs.ErrInvalid, name)
	}
}

// What makes a note survive is the order of the steps; and a message goes before its note does.
func TestQueueOrderOfSteps(t *testing.T) {
	m, q := queued(t)
	name, err := enqueue(q, "x")
	require.NoError(t, err)
	m.log = nil
	require.NoError(t, q.SetNote(name, []byte("y")))
	require.Equal(t, []string{"create queue/tmp/N", "write queue/tmp/N", "sync queue/tmp/N", "close queue/tmp/N",
		"rename queue/tmp/N queue/notes/N", "syncdir queue/notes"}, steps(m))
	m.log = nil
	require.NoError(t, q.Remove(name))
	require.Equal(t, []string{"remove queue/new/N", "syncdir queue/new", "remove queue/notes/N"}, steps(m))
	_, err = openQueue(m, "queue")
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, q.Close())
	_, err = openQueue(m, "queue")
	require.NoError(t, err)
}

// A loss of power at each step: what was committed is there until it is removed, with the last note or the one that was being
// set; what was removed does not come back.
func TestQueueLossOfPower(t *testing.T) {
	m := newMemFS()
	r := rand.New(rand.NewPCG(5, 6))
	type state struct{ committed, removing, removed bool }
	states := make(map[string]*state) // by text
	notes := make(map[string][]string)
	crashes := 0
	check := func(with *rand.Rand) {
		crashes++
		after := m.crashed(with)
		if d, err := after.find("queue"); err != nil || d == nil {
			return // not begun
		}
		q, err := openQueue(after, "queue")
		if err != nil {
			t.Fatal(err)
		}
		names, err := q.List()
		if err != nil {
			t.Fatal(err)
		}
		there := make(map[string]string)
		for _, name := range names {
			text, err := content(q, name)
			if err != nil {
				t.Fatal(err)
			}
			note, err := q.Note(name)
			if err != nil {
				t.Fatal(err)
			}
			there[text] = string(note)
		}
		for text, s := range states {
			note, ok := there[text]
			delete(there, text)
			switch {
			case ok && s.removed:
				t.Fatalf("%q is there again, after %q", text, m.log)
			case !ok && s.committed && !s.removing:
				t.Fatalf("%q is lost, after %q", text, m.log)
			case ok && len(notes[text]) > 0 && note != notes[text][len(notes[text])-1] &&
				note != append([]string{""}, notes[text]...)[len(notes[text])-1]:
				t.Fatalf("%q has the note %q of %q, after %q", text, note, notes[text], m.log)
			}
		}
		if len(there) > 0 {
			t.Fatalf("not whole: %q, after %q", there, m.log)
		}
	}
	m.after = func(string) {
		for range 10 {
			check(nil)
			check(r)
		}
	}
	q, err := openQueue(m, "queue")
	require.NoError(t, err)
	for n := range 6 {
		text := letter(n)
		states[text] = new(state)
		name, err := enqueue(q, text)
		require.NoError(t, err)
		states[text].committed = true
		for i := range n % 3 {
			notes[text] = append(notes[text], fmt.Sprint("note ", i))
			require.NoError(t, q.SetNote(name, []byte(notes[text][i])))
		}
		if n != 4 {
			states[text].removing = true
			require.NoError(t, q.Remove(name))
			states[text].removed = true
		}
	}
	require.Greater(t, crashes, 500)
	require.Equal(t, []string{letter(4)}, m.files("queue/new"))
	require.Len(t, m.files("queue/notes"), 1)
	require.Empty(t, m.files("queue/tmp"))
}

// Whichever step fails, the caller is told, and message and note are as before, or as they were to be.
func TestQueueFailures(t *testing.T) {
	for _, fail := range []string{"create", "write", "sync", "close", "rename", "syncdir", "remove"} {
		m, q := queued(t)
		name, err := enqueue(q, "x")
		require.NoError(t, err)
		require.NoError(t, q.SetNote(name, []byte("old")))
		broken := true
		m.fail = func(op, path string) error {
			if op == fail && broken && !(fail == "remove" && strings.Contains(path, "tmp")) {
				return syscall.ENOSPC
			}
			return nil
		}
		err = q.SetNote(name, []byte("new"))
		want := "old"
		switch fail {
		case "remove":
			require.NoError(t, err)
			want = "new"
		case "syncdir":
			require.ErrorIs(t, err, ErrFull)
			want = "new"
		default:
			require.ErrorIs(t, err, ErrFull, fail)
		}
		note, err := q.Note(name)
		require.NoError(t, err)
		require.Equal(t, want, string(note), fail)
		require.Empty(t, m.files("queue/tmp"))
		err = q.Remove(name)
		switch fail {
		case "remove", "syncdir":
			require.ErrorIs(t, err, syscall.ENOSPC)
			require.Len(t, m.files("queue/notes"), 1)
			broken = false
			require.NoError(t, q.Remove(name))
		default:
			require.NoError(t, err)
		}
		require.Empty(t, m.files("queue/new"))
		require.Empty(t, m.files("queue/notes"))
	}
	for _, fail := range []string{"mkdir", "create", "lock", "readdir", "syncdir"} {
		m := newMemFS()
		m.fail = func(op, _ string) error {
			if op == fail {
				return syscall.ENOSPC
			}
			return nil
		}
		_, err := openQueue(m, "queue")
		require.ErrorIs(t, err, ErrFull, fail)
		m.fail = nil
		_, err = openQueue(m, "queue")
		require.NoError(t, err, "%s: the lock was given back", fail)
	}
}

// Many goroutines put in and take out.
func TestQueueAtOnce(t *testing.T) {
	m, q := queued(t)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 10 {
				name, err := enqueue(q, letter(100*g+i))
				if err == nil {
					err = q.SetNote(name, []byte("x"))
				}
				if err == nil && i > 0 {
					err = q.Remove(name)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.Len(t, m.files("queue/new"), 8)
	require.Len(t, m.files("queue/notes"), 8)
}

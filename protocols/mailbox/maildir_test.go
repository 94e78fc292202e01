package mailbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var background = context.Background()

// opened is a Maildir in memory.
func opened(t *testing.T) (*memFS, *Maildir) {
	t.Helper()
	m := newMemFS()
	box, err := openMaildir(m, "box")
	require.NoError(t, err)
	box.host = "host"
	return m, box
}

var uniqueName = regexp.MustCompile(`\d+\.M\d{6}P\d+Q\d+R[0-9a-f]{16}\.host`)

// steps is what was asked of the file system, with N for names.
func steps(m *memFS) []string {
	all := slices.Clone(m.log)
	for i, s := range all {
		all[i] = uniqueName.ReplaceAllString(s, "N")
	}
	return all
}

// What makes a delivery survive a loss of power is the order of its steps.
func TestOrderOfSteps(t *testing.T) {
	m, box := opened(t)
	require.Equal(t, []string{"mkdir box", "syncdir .", "mkdir box/tmp", "mkdir box/new", "mkdir box/cur", "syncdir box"}, steps(m))
	m.log = nil
	_, err := openMaildir(m, "box")
	require.NoError(t, err)
	require.Empty(t, m.log, "nothing is made anew")

	d, err := box.Begin()
	require.NoError(t, err)
	fmt.Fprint(d, "one\r\n")
	fmt.Fprint(d, "two\r\n")
	require.NoError(t, d.Commit(background))
	require.Equal(t, []string{"create box/tmp/N", "write box/tmp/N", "write box/tmp/N", "sync box/tmp/N", "close box/tmp/N",
		"link box/tmp/N box/new/N", "remove box/tmp/N", "syncdir box/new"}, steps(m))

	m.log, m.noLinks = nil, true
	_, err = box.Deliver(background, []byte("x"))
	require.NoError(t, err)
	require.Equal(t, []string{"create box/tmp/N", "write box/tmp/N", "sync box/tmp/N", "close box/tmp/N",
		"rename box/tmp/N box/new/N", "syncdir box/new"}, steps(m))
	require.Equal(t, []string{"one\r\ntwo\r\n", "x"}, m.files("box/new"))
	require.Empty(t, m.files("box/tmp"))
}

// letter is a message that shows whether it is whole.
func letter(n int) string {
	return fmt.Sprintf("begin %d\r\n%send %d\r\n", n, strings.Repeat("a line\r\n", n%7), n)
}

// checkCrash tells whether what is in new after a loss of power is what was promised: what was committed, once; nothing
// that is not whole.
func checkCrash(t *testing.T, m *memFS, sent, committed []int, r *rand.Rand) {
	after := m.crashed(r)
	count := make(map[string]int)
	for _, text := range after.files("box/new") {
		count[text]++
	}
	for _, n := range committed {
		if count[letter(n)] != 1 && !t.Failed() {
			t.Errorf("message %d is there %d times after %q", n, count[letter(n)], m.log)
		}
	}
	for _, n := range sent {
		if count[letter(n)] == 1 {
			delete(count, letter(n))
		}
	}
	if len(count) > 0 && !t.Failed() {
		t.Errorf("not whole, or there twice: %v, after %q", count, m.log)
	}
}

// A loss of power at each step, with nothing left but what was synced, and with any more.
func TestLossOfPower(t *testing.T) {
	for _, noLinks := range []bool{false, true} {
		m := newMemFS()
		m.noLinks = noLinks
		r := rand.New(rand.NewPCG(1, 2))
		var sent, committed []int
		crashes := 0
		m.after = func(string) {
			for range 20 {
				checkCrash(t, m, sent, committed, nil)
				checkCrash(t, m, sent, committed, r)
				crashes++
			}
		}
		box, err := openMaildir(m, "box")
		require.NoError(t, err)
		for n := range 12 {
			d, err := box.Begin()
			require.NoError(t, err)
			sent = append(sent, n)
			text := letter(n)
			fmt.Fprint(d, text[:len(text)/2])
			fmt.Fprint(d, text[len(text)/2:])
			if n%4 == 3 {
				d.Abort()
				continue
			}
			require.NoError(t, d.Commit(background))
			committed = append(committed, n)
		}
		require.Greater(t, crashes, 1000)
		require.Len(t, m.files("box/new"), 9)
		require.Empty(t, m.files("box/tmp"))
	}
}

// The same while deliveries share syncs of new.
func TestLossOfPowerAtOnce(t *testing.T) {
	m := newMemFS()
	r := rand.New(rand.NewPCG(3, 4))
	var sent, committed []int
	syncs := 0
	m.after = func(op string) {
		if op == "syncdir" {
			syncs++
		}
		checkCrash(t, m, sent, committed, nil)
		checkCrash(t, m, sent, committed, r)
	}
	box, err := openMaildir(m, "box")
	require.NoError(t, err)
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for i := range 10 {
				n := 100*g + i
				m.mu.Lock()
				sent = append(sent, n)
				m.mu.Unlock()
				if _, err := box.Deliver(background, []byte(letter(n))); err != nil {
					t.Error(err)
				}
				m.mu.Lock()
				committed = append(committed, n)
				m.mu.Unlock()
			}
		})
	}
	all.Wait()
	require.Len(t, m.files("box/new"), 160)
	t.Logf("%d syncs of new for 160 messages", syncs-2)
	require.LessOrEqual(t, syncs-2, 160)
}

// Whichever step fails, the caller is told, and nothing is left.
func TestFailureAtEachStep(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		for _, noLinks := range []bool{false, true} {
			for _, fail := range []string{"create", "write", "sync", "close", "link", "rename", "syncdir"} {
				if fail == "link" && noLinks || fail == "rename" && !noLinks {
					continue
				}
				m, box := opened(t)
				m.noLinks = noLinks
				before, err := box.Deliver(background, []byte("before"))
				require.NoError(t, err)
				failed := 0
				m.fail = func(op, _ string) error {
					if op == fail {
						failed++
						return cause
					}
					return nil
				}
				name, err := box.Deliver(background, []byte("Subject: x\r\n\r\nx\r\n"))
				require.ErrorIs(t, err, cause, fail)
				require.Equal(t, cause == syscall.ENOSPC, errors.Is(err, ErrFull))
				require.Empty(t, name)
				require.Equal(t, 1, failed)
				require.Equal(t, []string{"before"}, m.files("box/new"), fail)
				require.Empty(t, m.files("box/tmp"), fail)
				m.fail = nil
				after, err := box.Deliver(background, []byte("after"))
				require.NoError(t, err)
				require.NotEqual(t, before, after)
			}
		}
	}
	for _, fail := range []string{"mkdir", "syncdir"} {
		for n := range 4 {
			m := newMemFS()
			m.fail = func(op, _ string) error {
				if op != fail {
					return nil
				}
				if n--; n == -1 {
					return syscall.EIO
				}
				return nil
			}
			_, err := openMaildir(m, "box")
			if fail == "syncdir" && n > 1 {
				require.NoError(t, err)
				continue
			}
			require.Equal(t, n < 0, errors.Is(err, syscall.EIO))
		}
	}
}

// A tmp file that cannot be removed does not unmake a message that is in new; one of new that cannot be removed is said.
func TestRemoveFails(t *testing.T) {
	m, box := opened(t)
	broken := errors.New("broken")
	m.fail = func(op, _ string) error {
		if op == "remove" {
			return broken
		}
		return nil
	}
	_, err := box.Deliver(background, []byte("x"))
	require.NoError(t, err)
	require.Equal(t, []string{"x"}, m.files("box/new"))
	m.fail = func(op, name string) error {
		if op == "syncdir" {
			return syscall.EIO
		}
		if op == "remove" && strings.HasPrefix(name, "box/new") {
			return broken
		}
		return nil
	}
	_, err = box.Deliver(background, []byte("y"))
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorIs(t, err, broken)
	m.fail = func(op, name string) error { // a reader has taken it already
		if op == "syncdir" {
			return syscall.EIO
		}
		if op == "remove" && strings.HasPrefix(name, "box/new") {
			return fs.ErrNotExist
		}
		return nil
	}
	_, err = box.Deliver(background, []byte("z"))
	require.ErrorIs(t, err, syscall.EIO)
	require.NotErrorIs(t, err, fs.ErrNotExist)
}

// A name that is taken is left alone, and another is tried, though not for ever.
func TestNameTaken(t *testing.T) {
	for _, noLinks := range []bool{false, true} {
		for _, fail := range []string{"create", "link"} {
			m, box := opened(t)
			m.noLinks = noLinks && fail == "create"
			var names []string
			m.fail = func(op, name string) error {
				if op == fail && len(names) < 3 {
					names = append(names, name)
					return fs.ErrExist
				}
				return nil
			}
			name, err := box.Deliver(background, []byte("x"))
			require.NoError(t, err)
			require.Len(t, names, 3)
			require.NotEqual(t, names[0], names[1])
			require.Regexp(t, uniqueName, name)
			require.NotContains(t, strings.Join(names, " "), name)
			text, err := m.stat("box/new/" + name)
			require.NoError(t, err)
			require.EqualValues(t, 1, text.Size())

			n := 0
			m.fail = func(op, _ string) error {
				if op == fail {
					n++
					return fs.ErrExist
				}
				return nil
			}
			_, err = box.Deliver(background, []byte("y"))
			require.ErrorIs(t, err, fs.ErrExist)
			require.Equal(t, tries, n)
			require.Len(t, m.files("box/new"), 1)
			require.Empty(t, m.files("box/tmp"))
		}
	}
	// Where there are no links, a file that is there is not replaced either.
	m, box := opened(t)
	m.noLinks = true
	m.put("box/new/x", "theirs")
	m.put("box/tmp/x", "mine")
	require.Error(t, box.move("box/tmp/x", "box/new/x"))
	require.Equal(t, []string{"theirs"}, m.files("box/new"))
}

func TestNames(t *testing.T) {
	require.Equal(t, `a\057b\072c.example`, escapeHost("a/b:c.example"))
	_, box := opened(t)
	box.now = func() time.Time { return time.Unix(1700000000, 42_000) }
	seen := make(map[string]bool)
	for range 1000 {
		name := box.name()
		require.Regexp(t, `^1700000000\.M000042P`+fmt.Sprint(os.Getpid())+`Q[0-9]+R[0-9a-f]{16}\.host$`, name)
		require.False(t, seen[name])
		seen[name] = true
	}
}

func TestEndOfDelivery(t *testing.T) {
	m, box := opened(t)
	d, err := box.Begin()
	require.NoError(t, err)
	fmt.Fprint(d, "x")
	d.Abort()
	d.Abort()
	require.Empty(t, m.files("box/tmp"))
	_, err = d.Write([]byte("y"))
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorIs(t, d.Commit(background), os.ErrClosed)

	d, err = box.Begin()
	require.NoError(t, err)
	require.NoError(t, d.Commit(background))
	d.Abort()
	require.ErrorIs(t, d.Commit(background), os.ErrClosed)
	require.Equal(t, []string{""}, m.files("box/new"), "an empty message is one, too")

	require.NoError(t, d.Withdraw())
	require.ErrorIs(t, d.Withdraw(), fs.ErrNotExist)
	require.Empty(t, m.files("box/new"))
	d, err = box.Begin()
	require.NoError(t, err)
	require.ErrorIs(t, d.Withdraw(), fs.ErrNotExist)
	require.NoError(t, d.Commit(background))

	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(background)
	cancel(why)
	_, err = box.Deliver(ctx, []byte("x"))
	require.ErrorIs(t, err, why)
	require.Len(t, m.files("box/new"), 1)
	require.Empty(t, m.files("box/tmp"))

	d, err = box.Begin()
	require.NoError(t, err)
	m.fail = func(op, _ string) error {
		if op == "write" {
			return syscall.EIO
		}
		return nil
	}
	_, err = d.Write([]byte("lost"))
	require.ErrorIs(t, err, syscall.EIO)
	m.fail = nil
	_, err = d.Write([]byte("more"))
	require.ErrorIs(t, err, syscall.EIO, "what is behind the gap is not written")
	require.ErrorIs(t, d.Commit(background), syscall.EIO)
	require.Len(t, m.files("box/new"), 1)
	require.Empty(t, m.files("box/tmp"))
}

// Octets are kept as they are, or CRLF becomes LF, wherever the message is cut.
func TestLineEnds(t *testing.T) {
	const text = "\r\na\r\n\r\nb\r\r\nc\rd\ne\n\r\r"
	const lf = "\na\n\nb\r\nc\rd\ne\n\r\r"
	for i := range len(text) + 1 {
		for j := i; j <= len(text); j++ {
			m, box := opened(t)
			for range 2 {
				d, err := box.Begin()
				require.NoError(t, err)
				for _, p := range []string{text[:i], text[i:j], text[j:]} {
					n, err := d.Write([]byte(p))
					require.NoError(t, err)
					require.Equal(t, len(p), n)
				}
				require.NoError(t, d.Commit(background))
				box.LF = true
			}
			require.Equal(t, []string{lf, text}, m.files("box/new"))
		}
	}
}

// Those who come while a round is under way share the next one, and its error.
func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g group
		release := make(chan error)
		rounds, failed := 0, 0
		var mu sync.Mutex
		work := func() error {
			mu.Lock()
			rounds++
			mu.Unlock()
			return <-release
		}
		for range 20 {
			go func() {
				if g.do(work) != nil {
					mu.Lock()
					failed++
					mu.Unlock()
				}
			}()
			synctest.Wait()
		}
		require.Equal(t, 1, rounds)
		release <- nil
		synctest.Wait()
		require.Equal(t, 2, rounds)
		require.Zero(t, failed)
		go g.do(work)
		release <- syscall.EIO
		synctest.Wait()
		require.Equal(t, 19, failed)
		require.Equal(t, 3, rounds)
		release <- nil
	})
}

func TestClean(t *testing.T) {
	box, err := OpenMaildir(filepath.Join(t.TempDir(), "box"))
	require.NoError(t, err)
	put := func(name string, age time.Duration) {
		name = filepath.Join(box.Dir(), "tmp", name)
		require.NoError(t, os.WriteFile(name, nil, 0o600))
		at := time.Now().Add(-age)
		require.NoError(t, os.Chtimes(name, at, at))
	}
	put("old", TmpAge+time.Minute)
	put("young", TmpAge-time.Minute)
	put("fresh", 0)
	require.NoError(t, os.Mkdir(filepath.Join(box.Dir(), "tmp", "dir"), 0o700))
	n, err := box.Clean(0)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	n, err = box.Clean(time.Hour)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	left, err := os.ReadDir(filepath.Join(box.Dir(), "tmp"))
	require.NoError(t, err)
	require.Len(t, left, 2)

	m, inMemory := opened(t)
	m.put("box/tmp/a", "")
	m.put("box/tmp/b", "")
	inMemory.now = func() time.Time { return time.Now().Add(TmpAge + time.Minute) }
	m.fail = func(op, name string) error {
		switch {
		case op == "remove" && name == "box/tmp/a":
			return syscall.EIO
		case op == "remove":
			return fs.ErrNotExist
		}
		return nil
	}
	n, err = inMemory.Clean(0)
	require.ErrorIs(t, err, syscall.EIO)
	require.NotErrorIs(t, err, fs.ErrNotExist)
	require.Zero(t, n)
	m.fail = func(op, _ string) error { return syscall.EIO }
	_, err = inMemory.Clean(0)
	require.ErrorIs(t, err, syscall.EIO)
}

// On the system's own file system: many at once, and nobody else may read.
func TestMaildirOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "box")
	box, err := OpenMaildir(dir)
	require.NoError(t, err)
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 5 {
				if _, err := box.Deliver(background, []byte(letter(100*g+i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	entries, err := os.ReadDir(filepath.Join(dir, "new"))
	require.NoError(t, err)
	var got, want []string
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, "new", e.Name()))
		require.NoError(t, err)
		got = append(got, string(text))
		if runtime.GOOS != "windows" {
			info, err := e.Info()
			require.NoError(t, err)
			require.Equal(t, fs.FileMode(0o600), info.Mode())
		}
	}
	for g := range 8 {
		for i := range 5 {
			want = append(want, letter(100*g+i))
		}
	}
	require.ElementsMatch(t, want, got)
	for _, name := range []string{"", "tmp", "new", "cur"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		if runtime.GOOS != "windows" {
			require.Equal(t, fs.ModeDir|0o700, info.Mode())
		}
	}
	tmp, err := os.ReadDir(filepath.Join(dir, "tmp"))
	require.NoError(t, err)
	require.Empty(t, tmp)

	_, err = OpenMaildir(filepath.Join(dir, "absent", "box"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = OpenMaildir(file)
	require.Error(t, err)
}

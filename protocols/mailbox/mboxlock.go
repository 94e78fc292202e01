package mailbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// mboxLock is a locked mbox file.
//
// The dotlock file has two lines before anything is appended: the process, as other programs have it, and how long the mbox
// file was. Both files are on the disk by then. When the message is there, too, a third line says so. So whoever finds a
// dotlock file that was left behind knows whether there is half a message to be cut off, also after a loss of power.
type mboxLock struct {
	m    *Mbox
	fs   fsys
	dot  file
	f    file
	size int64 // before the message
	gate string
	keep bool // the dotlock file, for the next to find
}

const (
	recordWord = "parley "
	recordDone = "done\n"
)

// lock waits for others.
func (m *Mbox) lock(ctx context.Context) (*mboxLock, error) {
	l := &mboxLock{m: m, fs: m.fs}
	if l.fs == nil {
		l.fs = osFS{}
	}
	patience := m.LockTimeout
	if patience == 0 {
		patience = 30 * time.Second
	}
	deadline := time.NewTimer(max(patience, 0))
	defer deadline.Stop()
	if err := l.enter(ctx, deadline.C); err != nil {
		return nil, err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		ok, err := l.try()
		if ok && err == nil {
			return l, nil
		}
		if err == nil && patience < 0 {
			err = ErrLocked
		}
		if err == nil {
			wait := time.NewTimer(pause)
			select {
			case <-wait.C:
			case <-deadline.C:
				err = ErrLocked
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
			wait.Stop()
		}
		if err != nil {
			l.leave()
			return nil, err
		}
	}
}

// unlock is for a lock that was got.
func (l *mboxLock) unlock() {
	_ = l.dot.Close()
	if !l.keep {
		_ = l.fs.remove(l.dotName())
	}
	_ = l.f.Close()
	l.leave()
}

func (l *mboxLock) dotName() string { return l.m.Path + ".lock" }

// try gets both locks, or neither: then somebody else has one. Whoever waits for one has nothing that others wait for.
func (l *mboxLock) try() (ok bool, err error) {
	l.f, err = l.fs.open(l.m.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND)
	if err != nil {
		return false, err
	}
	defer func() {
		if !ok || err != nil {
			_ = l.f.Close()
		}
	}()
	info, err := l.f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, &fs.PathError{Op: "lock", Path: l.m.Path, Err: errors.New("not a regular file")}
	}
	if ok, err = l.f.tryLock(); !ok || err != nil {
		return false, err
	}
	if ok, err = l.isCurrent(info); !ok || err != nil {
		return false, err
	}
	l.dot, err = l.openDot()
	if errors.Is(err, fs.ErrExist) {
		if ok, err = l.forgotten(); !ok || err != nil {
			return false, err
		}
		if l.dot, err = l.openDot(); errors.Is(err, fs.ErrExist) {
			return false, nil
		}
	}
	if err != nil {
		return false, err
	}
	if err = l.record(); err != nil {
		_ = l.dot.Close()
		_ = l.fs.remove(l.dotName())
	}
	return err == nil, err
}

func (l *mboxLock) openDot() (file, error) {
	return l.fs.open(l.dotName(), os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND)
}

// isCurrent tells whether the open file is still the one of that name: mail readers put others in its place.
func (l *mboxLock) isCurrent(info fs.FileInfo) (bool, error) {
	now, err := l.fs.stat(l.m.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && l.fs.same(info, now), err
}

// record writes down how long the file is.
func (l *mboxLock) record() error {
	info, err := l.f.Stat()
	if err != nil {
		return err
	}
	l.size = info.Size()
	if _, err := fmt.Fprintf(l.dot, "%d\n%s%d\n", os.Getpid(), recordWord, l.size); err != nil {
		return err
	}
	if err := l.dot.Sync(); err != nil {
		return err
	}
	return l.fs.syncDir(filepath.Dir(l.dotName()))
}

// done writes down that the message is there. If that cannot be made sure, the message must not stay.
func (l *mboxLock) done() error {
	if _, err := io.WriteString(l.dot, recordDone); err != nil {
		return err
	}
	return l.dot.Sync()
}

// forgotten removes the dotlock file if nobody has it, after cutting off what stands half in the mbox file because of that.
func (l *mboxLock) forgotten() (bool, error) {
	dot, err := l.fs.open(l.dotName(), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // just removed: try again
	}
	if err != nil {
		return false, err
	}
	text := make([]byte, 200)
	n, err := dot.ReadAt(text, 0)
	info, statErr := dot.Stat()
	_ = dot.Close()
	if err != nil && err != io.EOF {
		return false, err
	}
	if statErr != nil {
		return false, statErr
	}
	size, pending, ours := readRecord(string(text[:n]))
	if !ours || !kernelLocks {
		stale := l.m.StaleLock
		if stale == 0 {
			stale = 5 * time.Minute
		}
		if stale < 0 || time.Since(info.ModTime()) < stale {
			return false, nil
		}
	}
	if pending {
		if err := l.cutBack(size); err != nil {
			return false, err
		}
	}
	if err := l.fs.remove(l.dotName()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, nil
}

// readRecord reads a dotlock file. pending: whether the message is all there was not written down.
func readRecord(text string) (size int64, pending, ours bool) {
	_, record, _ := strings.Cut(text, "\n")
	record, ours = strings.CutPrefix(record, recordWord)
	number, rest, whole := strings.Cut(record, "\n")
	size, err := strconv.ParseInt(number, 10, 64)
	pending = ours && whole && err == nil && size >= 0 && rest != recordDone
	return size, pending, ours
}

// cutBack takes off what was appended and not finished. A program that locks in another way may have written since: unless
// there is one message at most, which may end anywhere, nothing is touched.
func (l *mboxLock) cutBack(size int64) error {
	info, err := l.f.Stat()
	if err != nil || info.Size() <= size {
		return err
	}
	one, err := oneMessage(io.NewSectionReader(l.f, size, info.Size()-size))
	if err != nil || !one {
		return err
	}
	l.size = size
	return l.undo()
}

// oneMessage tells whether there is a message or the beginning of one, as append writes it. Zeros stand for what did not
// come to the disk.
func oneMessage(in io.Reader) (bool, error) {
	r := bufio.NewReader(in)
	begun, lineBegins := false, true
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
			return false, err
		}
		text, _, lost := strings.Cut(string(line), "\x00")
		isFrom := lineBegins && strings.HasPrefix(text, from)
		switch {
		case begun:
			if isFrom {
				return false, nil
			}
		case text == "\n": // the gap
		case isFrom, (lost || err == io.EOF) && strings.HasPrefix(from, text):
			begun = true
		default:
			return false, nil
		}
		if err == io.EOF {
			return true, nil
		}
		lineBegins = err == nil
	}
}

// gates are for goroutines of this process, which the locks of the kernel do not keep apart everywhere.
var gates = struct {
	sync.Mutex
	of map[string]*gate
}{of: make(map[string]*gate)}

type gate struct {
	open  chan struct{} // has a token if nobody is in
	users int           // who is in or waits
}

// enter waits until no other goroutine is at work on the file.
func (l *mboxLock) enter(ctx context.Context, deadline <-chan time.Time) error {
	l.gate = filepath.Clean(l.m.Path)
	if real, err := filepath.EvalSymlinks(filepath.Dir(l.gate)); err == nil {
		l.gate = filepath.Join(real, filepath.Base(l.gate))
	}
	if abs, err := filepath.Abs(l.gate); err == nil {
		l.gate = abs
	}
	gates.Lock()
	g := gates.of[l.gate]
	if g == nil {
		g = &gate{open: make(chan struct{}, 1)}
		g.open <- struct{}{}
		gates.of[l.gate] = g
	}
	g.users++
	gates.Unlock()
	var err error
	select {
	case <-g.open:
		return nil
	default:
	}
	select {
	case <-g.open:
		return nil
	case <-deadline:
		err = ErrLocked
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	g.leave(l.gate)
	return err
}

func (l *mboxLock) leave() {
	gates.Lock()
	g := gates.of[l.gate]
	gates.Unlock()
	g.open <- struct{}{}
	g.leave(l.gate)
}

func (g *gate) leave(name string) {
	gates.Lock()
	if g.users--; g.users == 0 {
		delete(gates.of, name)
	}
	gates.Unlock()
}

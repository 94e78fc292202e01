package room_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/room"
)

// FuzzSession: whatever bytes somebody sends, cut in whatever way, nothing panics, only text reaches the others, and what
// the house keeps is bounded.
func FuzzSession(f *testing.F) {
	for _, said := range clientSides(f) {
		f.Add([]byte(said), uint64(1))
	}
	f.Add([]byte("bob\n/join a\n/join b\n/nick x\n/msg watcher hi\n/quit\x00"), uint64(7))
	f.Add([]byte("\xff\xfd\x06x\r\x00\xff\xfa\x1f\xff\xf0/me \x1b[31m\xe2\x80\xae\xc2\x9b1m\n"), uint64(3))
	f.Fuzz(func(t *testing.T, said []byte, cuts uint64) {
		whole, quit := fuzzed(t, said, sim.Config{Seed: cuts, Untraced: true}, room.Config{FloodBurst: -1, SkipAbove: 1 << 20, DropAbove: 8 << 20})
		cut, quitToo := fuzzed(t, said, sim.Config{Seed: cuts, MaxRecv: 1 + int(cuts%100), RandomCuts: true, Again: 0.1, Spurious: 0.1},
			room.Config{FloodBurst: -1, SkipAbove: 1 << 20, DropAbove: 8 << 20})
		require.Equal(t, whole, cut)
		require.Equal(t, quit, quitToo)
		fuzzed(t, said, sim.Config{Seed: cuts, Window: 50 + int(cuts%300)}, room.Config{MaxLine: 20, MaxRooms: 3, History: 2, SkipAbove: 500, DropAbove: 2000})
	})
}

// fuzzed has somebody say something to a house in which somebody else listens, and returns what that one heard, and
// whether the first one was disconnected.
func fuzzed(t *testing.T, said []byte, net sim.Config, c room.Config) (heard string, ended bool) {
	s := newScene(t, net, c)
	watcher := s.enter("watcher")
	p := s.Dial("tcp", address)
	p.Say("fuzz\n" + string(said))
	text := p.Read()
	heard = watcher.Read()
	require.Empty(t, harmless(heard), "%q", heard)
	require.False(t, strings.Contains(text, "\x1b"))
	require.False(t, watcher.Ended())

	c = s.House.Config() // with the defaults
	line := 2*c.MaxLine + 3*c.NameLength + 32
	require.LessOrEqual(t, len(s.House.Rooms()), c.MaxRooms)
	for _, r := range s.House.Rooms() {
		require.LessOrEqual(t, len(r.History()), max(c.History, 0))
		for _, m := range r.History() {
			require.LessOrEqual(t, len(m.Line()), line)
		}
	}
	require.LessOrEqual(t, s.queued(), c.DropAbove)
	require.LessOrEqual(t, s.loop.Stats().Channels, 3)
	return heard, p.Ended()
}

// clientSides are what the client says in the dialog files.
func clientSides(t testing.TB) (said []string) {
	files, err := filepath.Glob("../../testdata/room/*.dialog")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var b strings.Builder
		for line := range strings.SplitSeq(string(raw), "\n") {
			if text, ok := strings.CutPrefix(line, "C: "); ok {
				b.WriteString(text + "\r\n")
			}
		}
		said = append(said, b.String())
	}
	return said
}

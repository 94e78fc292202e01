package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRooms has every server of the table that is a room do what the scenario asks of it, with people who come and go.
func TestRooms(t *testing.T) {
	rooms := slices.DeleteFunc(slices.Clone(servers), func(s server) bool { return s.kind != telling })
	built, err := build(t.Context(), rooms, found{}, t.TempDir(), os.Stderr)
	require.NoError(t, err)
	for _, s := range built.servers {
		t.Run(s.name, func(t *testing.T) {
			p, err := start(t.Context(), s, -1)
			require.NoError(t, err)
			defer p.stop()
			var members []client
			enter := func() {
				members = append(members, dial(t, p))
				tell(t, members, len(members)-1, "hello\n") // so that it is in before the next one comes
			}
			leave := func(i int) {
				require.NoError(t, members[i].CloseWrite())
				rest, err := io.ReadAll(members[i])
				require.NoError(t, err)
				require.Empty(t, rest)
				members = slices.Delete(members, i, i+1)
			}
			for range 5 {
				enter()
			}
			leave(2)
			tell(t, members, 0, "one is gone\n")
			leave(len(members) - 1)
			leave(0)
			enter()
			for i := range members {
				tell(t, members, i, strings.Repeat("\r\x00", 31)+"x\n")
			}
			for len(members) > 0 {
				leave(0)
			}
			enter()
			require.False(t, p.ended())
			t.Run("SIGTERM", func(t *testing.T) { testTerm(t, p) })
		})
	}
}

// tell has a member say something, which all of them hear.
func tell(t *testing.T, members []client, speaker int, line string) {
	put(t, members[speaker], line)
	for _, m := range members {
		expect(t, m, line)
	}
}

// What keeps nothing ends when somebody is behind, so that no figure is of less work.
func TestBareRoomsEndWhenSomebodyIsBehind(t *testing.T) {
	bare := slices.DeleteFunc(slices.Clone(servers), func(s server) bool { return s.kind != telling || s.name == "parleyroom" })
	built, err := build(t.Context(), bare, found{}, t.TempDir(), os.Stderr)
	require.NoError(t, err)
	for _, s := range built.servers {
		t.Run(s.name, func(t *testing.T) {
			p, err := start(t.Context(), s, -1)
			require.NoError(t, err)
			defer p.stop()
			speaker := dial(t, p) // who does not read, either
			line := make([]byte, 64<<10)
			for err == nil {
				_, err = speaker.Write(line)
			}
			<-p.gone
			require.Contains(t, p.last, "a member is behind")
		})
	}
}

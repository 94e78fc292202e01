package smtp_test

import (
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/internal/race"
	"github.com/parley-go/parley/protocols/smtp"
)

// discard is a Backend that keeps nothing but how much came.
type discard struct{ n, committed int64 }

func (d *discard) Begin(*smtp.Session, *smtp.Envelope) (smtp.Message, error) { return d, nil }
func (d *discard) HandleRcpt(*smtp.Session, smtp.Path, smtp.Params) error    { return nil }
func (d *discard) Write(p []byte) (int, error)                               { d.n += int64(len(p)); return len(p), nil }
func (d *discard) Commit() error                                             { d.committed++; return nil }
func (d *discard) Abort()                                                    {}

func heap() int64 {
	runtime.GC()
	runtime.GC() // pools give up what they keep in two steps
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A message of 50 MB holds less than 256 KiB, however it comes. What is counted has the test's own network in it.
func TestMemoryOfALargeMessage(t *testing.T) {
	const piece = 32 << 10
	total := 50 << 20
	if testing.Short() || race.Enabled {
		total = 5 << 20
	}
	text := strings.Repeat(strings.Repeat("x", 62)+"\r\n", piece/64)
	for name, long := range map[string]string{"lines": text, "one line": strings.Repeat("y", piece), "dots": strings.Repeat(".."+strings.Repeat("x", 60)+"\r\n", piece/64)} {
		for _, chunked := range []bool{false, true} {
			d := new(discard)
			s := newScene(t, sim.Config{}, &smtp.Server{Backend: d, Limits: smtp.Limits{MessageSize: -1, TextLine: -1}})
			p := s.hello()
			envelope(p)
			before := heap()
			if chunked {
				p.Say("BDAT " + strconv.Itoa(total) + " LAST\r\n")
			} else {
				ask(p, "DATA", "354 End the message with a dot on a line by itself")
			}
			most := int64(0)
			for n := 0; n < total; n += piece {
				p.Say(long)
				s.Settle()
				if n%(total/5) == 0 {
					most = max(most, heap()-before)
				}
			}
			if !chunked {
				p.Say("\r\n.\r\n")
			}
			require.Regexp(t, "^250 2.0.0 ", p.Read(), name)
			require.EqualValues(t, 1, d.committed)
			require.Greater(t, d.n, int64(total/2-1))
			t.Logf("%s, chunked %v: %d bytes", name, chunked, most)
			require.Less(t, most, int64(256<<10), name)
		}
	}
}

// A command without an end, or a message of one line that is refused, is not collected.
func TestMemoryOfEndlessLines(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{})
	p := s.hello()
	for _, begin := range []string{"", "AUTH PLAIN ", "MAIL FROM:<", "MAIL FROM:<a@b>\r\nRCPT TO:<user@c>\r\nDATA\r\n"} {
		p.Say(begin)
		p.Read()
		before := heap()
		most := int64(0)
		for n := range 256 {
			p.Say(strings.Repeat("z", 32<<10))
			s.Settle()
			if n%100 == 10 {
				most = max(most, heap()-before)
			}
		}
		require.Less(t, most, int64(128<<10), "%q", begin)
		if strings.Contains(begin, "DATA") {
			p.Say("\r\n.")
		}
		p.Say("\r\n")
		require.Regexp(t, "^(500 5.5.[26] Line too long|554 5.6.0 A line of the message is too long)\r\n$", p.Read())
	}
	ask(p, "NOOP", "250 2.0.0 Ok")
}

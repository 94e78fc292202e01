package sim

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/internal/race"
)

const (
	dialogSeeds    = 40   // random worlds per file; a quarter of that with -short or under the race detector
	dialogRaceCuts = 100  // under the race detector streams are cut at about so many places
	dialogAllCuts  = 4096 // streams up to that many bytes are cut everywhere
	dialogSomeCuts = 512  // longer ones at so many places at either end, and as many in between
)

// Dialog runs the transcripts that match the pattern as subtests. serve attaches a conversation to the given socket, for
// instance with chat.Attach; it is called once for each run. A transcript is run
//
//   - as written;
//   - with the client's bytes cut in two, at every place (under the race detector at some);
//   - one byte at a time;
//   - in many random worlds: latency, jitter, cuts, short writes, spurious readiness, interrupts.
//
// In each the server must say exactly what is written, no more, with a trace hook and without one (Config.Untraced). A
// failure prints the smallest cut that fails and the ladder of that run.
//
// A transcript is a text file with one step a line:
//
//	# a comment; empty lines are skipped too
//	C: EHLO client.example     the client says this line
//	S: 250 server.example      the server says this line
//	S~ ^220 .* ready$          the server says a line that matches the expression
//	c: a\x00b                  the client says this without a line end
//	s: > \s                    the server says this without a line end
//	C*3: NOOP                  the line three times (also S*, c*, s*)
//	C! shut                    the client ends its stream, or: close, reset
//	S! closed                  the server ends the connection, or: reset
//	T: 5m                      so much time passes
//	eol: lf                    from here on lines end in LF; crlf: in CRLF, as at the beginning
//
// In text \r, \n, \t, \s (a space), \\ and \xHH are escapes. Steps of the client in a row go out together: written apart
// they would be cut apart. Without S! the client closes at the end.
func Dialog(t testing.TB, pattern string, serve func(*core.Loop, core.Socket) error) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialog files match %q: %v", pattern, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".dialog")
		run := func(t testing.TB) {
			t.Helper()
			if err := RunDialog(string(raw), serve); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
		if tt, ok := t.(*testing.T); ok {
			tt.Run(name, func(t *testing.T) { run(t) })
		} else {
			run(t)
		}
	}
}

// RunDialog is Dialog for one transcript; the error is the first failure, with its ladder.
func RunDialog(transcript string, serve func(*core.Loop, core.Socket) error) error {
	steps, err := parseDialog(transcript)
	if err != nil {
		return err
	}
	d := &dialog{steps: steps, serve: serve}
	for _, s := range steps {
		d.bytes += len(s.say)
	}
	if err := d.run(Config{}, nil); err != nil {
		return fmt.Errorf("as written: %w", err)
	}
	for _, cut := range d.cuts() {
		if err := d.run(Config{}, []int{cut}); err != nil {
			return fmt.Errorf("cut after %d bytes: %w", cut, err)
		}
	}
	if err := d.run(Config{MaxRecv: 1}, nil); err != nil {
		return fmt.Errorf("one byte at a time: %w", err)
	}
	seeds := dialogSeeds
	if testing.Testing() && testing.Short() || race.Enabled {
		seeds /= 4
	}
	for seed := range seeds {
		if err := d.run(dialogWorld(uint64(seed)), nil); err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
	}
	return nil
}

// dialogWorld is a random world.
func dialogWorld(seed uint64) Config {
	r := rand.New(rand.NewPCG(seed, 1))
	return Config{
		Seed:       seed,
		Latency:    time.Duration(r.IntN(50)) * time.Millisecond,
		Jitter:     time.Duration(r.IntN(20)) * time.Millisecond,
		MaxRecv:    r.IntN(30),
		RandomCuts: r.IntN(2) == 0,
		Window:     1 + r.IntN(200),
		Again:      float64(r.IntN(3)) / 10,
		Spurious:   float64(r.IntN(3)) / 10,
		Interrupt:  float64(r.IntN(3)) / 10,
		Work:       time.Duration(r.IntN(100)) * time.Millisecond,
	}
}

// step is one line of a transcript.
type step struct {
	line    int
	say     string         // the client's
	want    string         // the server's
	match   *regexp.Regexp // or a line like this
	action  string         // "shut", "close", "reset", "closed", "server reset"
	advance time.Duration
}

type dialog struct {
	steps []step
	serve func(*core.Loop, core.Socket) error
	bytes int
}

// cuts are the places to cut at, ascending.
func (d *dialog) cuts() (cuts []int) {
	if race.Enabled {
		for i := 1; i < d.bytes; i += 1 + d.bytes/dialogRaceCuts {
			cuts = append(cuts, i)
		}
		return cuts
	}
	if d.bytes <= dialogAllCuts {
		for i := 1; i < d.bytes; i++ {
			cuts = append(cuts, i)
		}
		return cuts
	}
	for i := 1; i <= dialogSomeCuts; i++ {
		cuts = append(cuts, i)
	}
	stride := (d.bytes - 2*dialogSomeCuts) / dialogSomeCuts
	for i := range dialogSomeCuts {
		cuts = append(cuts, dialogSomeCuts+1+i*stride)
	}
	for i := d.bytes - dialogSomeCuts; i < d.bytes; i++ {
		cuts = append(cuts, i)
	}
	return cuts
}

// errDialog carries a failure out of a World, which knows only T.Fatalf.
type errDialog struct{ err error }

func (errDialog) Helper() {}

func (errDialog) Fatalf(format string, args ...any) { panic(errDialog{fmt.Errorf(format, args...)}) }

// run plays the transcript with a trace hook, which gives a failure its ladder, and without.
func (d *dialog) run(c Config, cuts []int) error {
	if err := d.play(c, cuts); err != nil {
		return err
	}
	c.Untraced = true
	if err := d.play(c, cuts); err != nil {
		return fmt.Errorf("without a trace hook: %w", err)
	}
	return nil
}

// play plays the transcript once.
func (d *dialog) play(c Config, cuts []int) (err error) {
	at := &step{}
	defer func() {
		if v := recover(); v != nil {
			e, ok := v.(errDialog)
			if !ok {
				panic(v)
			}
			err = fmt.Errorf("line %d: %w", at.line, e.err)
		}
	}()
	c.T = errDialog{}
	w := New(c)
	l := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)}) // a failure comes with the ladder
	defer l.Close()
	sock, peer := w.Pair()
	if err := d.serve(l, sock); err != nil {
		return err
	}
	said := 0
	for i := range d.steps {
		at = &d.steps[i]
		switch {
		case at.say != "":
			said = d.say(w, peer, at.say, said, cuts)
		case at.want != "":
			peer.Want(at.want)
		case at.match != nil:
			line := peer.WantLine()
			if !at.match.MatchString(strings.TrimRight(line, "\r\n")) {
				w.fatalf("%q does not match %s", line, at.match)
			}
		case at.advance > 0:
			w.Advance(at.advance)
		default:
			d.act(peer, at.action)
		}
	}
	if last := d.steps[len(d.steps)-1]; last.action == "" {
		peer.WantNothing()
		peer.CloseWrite()
		peer.WantClosed()
	}
	return nil
}

// say sends a step's bytes, in pieces if a cut falls into them.
func (d *dialog) say(w *World, peer *Peer, text string, said int, cuts []int) int {
	for _, cut := range cuts {
		if n := cut - said; n > 0 && n < len(text) {
			peer.Say(text[:n])
			w.Settle()
			text = text[n:]
			said += n
		} else if n == len(text) {
			peer.Say(text)
			w.Settle()
			return said + len(text)
		}
	}
	peer.Say(text)
	return said + len(text)
}

func (d *dialog) act(peer *Peer, action string) {
	switch action {
	case "shut":
		peer.CloseWrite()
	case "close":
		peer.Close()
	case "reset":
		peer.Reset()
	case "closed":
		peer.WantClosed()
	case "server reset":
		peer.WantReset()
	}
}

var stepForm = regexp.MustCompile(`^([CScs])(?:\*(\d+))?([:~!]) ?(.*)$`)

func parseDialog(text string) (steps []step, err error) {
	eol := "\r\n"
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		s, err := parseStep(line, &eol)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if s == nil {
			continue
		}
		s.line = i + 1
		if n := len(steps); n > 0 && s.say != "" && steps[n-1].say != "" {
			steps[n-1].say += s.say
			continue
		}
		steps = append(steps, *s)
	}
	if len(steps) == 0 {
		return nil, errors.New("the transcript is empty")
	}
	return steps, nil
}

// parseStep returns nil for a line that is no step.
func parseStep(line string, eol *string) (*step, error) {
	switch {
	case strings.TrimSpace(line) == "" || line[0] == '#':
		return nil, nil
	case strings.HasPrefix(line, "eol:"):
		switch strings.TrimSpace(line[4:]) {
		case "lf":
			*eol = "\n"
		case "crlf":
			*eol = "\r\n"
		default:
			return nil, fmt.Errorf("%q: lf or crlf", line)
		}
		return nil, nil
	case strings.HasPrefix(line, "T:"):
		d, err := time.ParseDuration(strings.TrimSpace(line[2:]))
		if err == nil && d <= 0 {
			err = fmt.Errorf("%q: no time", line)
		}
		return &step{advance: d}, err
	}
	m := stepForm.FindStringSubmatch(line)
	if m == nil {
		return nil, fmt.Errorf("%q is no step of a dialog", line)
	}
	who, times, form, rest := m[1], 1, m[3], m[4]
	if m[2] != "" {
		times, _ = strconv.Atoi(m[2])
	}
	switch who + form {
	case "C:", "c:", "S:", "s:":
		text, err := unescape(rest)
		if err != nil {
			return nil, err
		}
		if who == "C" || who == "S" {
			text += *eol
		}
		text = strings.Repeat(text, times)
		if text == "" {
			return nil, fmt.Errorf("%q says nothing", line)
		}
		if who == "C" || who == "c" {
			return &step{say: text}, nil
		}
		return &step{want: text}, nil
	case "S~":
		re, err := regexp.Compile(rest)
		return &step{match: re}, err
	case "C!":
		if rest == "shut" || rest == "close" || rest == "reset" {
			return &step{action: rest}, nil
		}
	case "S!":
		switch rest {
		case "closed":
			return &step{action: rest}, nil
		case "reset":
			return &step{action: "server reset"}, nil
		}
	}
	return nil, fmt.Errorf("%q is no step of a dialog", line)
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return "", fmt.Errorf("%q ends in a backslash", s)
		}
		switch s[i] {
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 's':
			b.WriteByte(' ')
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if i+3 > len(s) {
				return "", fmt.Errorf("%q: \\x wants two digits", s)
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf("%q: \\x wants two hexadecimal digits", s)
			}
			b.WriteByte(byte(n))
			i += 2
		default:
			return "", fmt.Errorf("%q: unknown escape \\%c", s, s[i])
		}
	}
	return b.String(), nil
}

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-go/parley/core"
)

const (
	displayInterval = 200 * time.Millisecond
	displayWidth    = 79
	nameWidth       = 24
)

// display shows on a terminal how far the downloads are: a line each for those that are under way.
type display struct {
	w     io.Writer // nil: nobody looks
	job   *job
	loop  *core.Loop
	lines int // that are on the screen
	rates map[*download]*rate
}

// rate is how fast a download is.
type rate struct {
	at     time.Time
	have   int64
	speed  float64 // octets a second, of late
	sample bool
}

func newDisplay(j *job, loop *core.Loop) *display {
	s := &display{job: j, loop: loop, rates: make(map[*download]*rate)}
	toScreen := j.downloads[0].name == "" && terminal(os.Stdout)
	if !j.quiet && !toScreen && terminal(os.Stderr) {
		s.w = os.Stderr
		loop.AfterFunc(displayInterval, s.tick)
	}
	return s
}

func (s *display) tick() {
	s.draw(s.loop.Now())
	s.loop.AfterFunc(displayInterval, s.tick)
}

// draw writes the lines anew, over those that are there.
func (s *display) draw(now time.Time) {
	var b strings.Builder
	s.back(&b)
	for _, d := range s.job.downloads {
		if !d.begun || d.over {
			delete(s.rates, d)
			continue
		}
		r := s.rates[d]
		if r == nil {
			r = &rate{at: now, have: d.have}
			s.rates[d] = r
		}
		r.measure(now, d.have)
		b.WriteString(bar(d.label(), d.have, d.total, r.speed))
		b.WriteString("\x1b[K\n")
		s.lines++
	}
	b.WriteString("\x1b[J")
	_, _ = io.WriteString(s.w, b.String())
}

// back goes to where the first line is.
func (s *display) back(b *strings.Builder) {
	if s.lines > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r", s.lines)
	}
	s.lines = 0
}

// close makes room for what comes after it.
func (s *display) close() {
	if s.w != nil {
		var b strings.Builder
		s.back(&b)
		_, _ = io.WriteString(s.w, b.String()+"\x1b[J")
	}
}

func (r *rate) measure(now time.Time, have int64) {
	past := now.Sub(r.at).Seconds()
	if past <= 0 {
		return
	}
	speed := max(float64(have-r.have), 0) / past
	if r.sample {
		speed = 0.7*r.speed + 0.3*speed
	}
	r.at, r.have, r.speed, r.sample = now, have, speed, true
}

func (d *download) label() string {
	if d.name == "" {
		return "-"
	}
	return d.name
}

// bar is a line: a name, how much there is of how much, how fast, and when it will be done.
func bar(name string, have, total int64, speed float64) string {
	if n := utf8.RuneCountInString(name); n > nameWidth {
		runes := []rune(name)
		name = "…" + string(runes[n-nameWidth+1:])
	}
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, name)
	name += strings.Repeat(" ", nameWidth-utf8.RuneCountInString(name))
	numbers := fmt.Sprintf("%9s %9s/s", size(float64(have)), size(speed))
	if total < 0 {
		return name + " " + numbers
	}
	part := 1.0
	if total > 0 {
		part = min(float64(have)/float64(total), 1)
	}
	numbers = fmt.Sprintf("%3d%% %s %8s", int(100*part), numbers, left(total-have, speed))
	width := displayWidth - nameWidth - len(numbers) - 4
	full := int(part * float64(width))
	return name + " [" + strings.Repeat("#", full) + strings.Repeat("-", width-full) + "] " + numbers
}

// size writes a number of octets.
func size(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for n >= 1000 && i < len(units)-1 {
		n /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%.0f B", n)
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}

// left is how long it will take.
func left(octets int64, speed float64) string {
	if octets <= 0 {
		return "0s"
	}
	if speed < 1 || float64(octets)/speed > 99*3600 {
		return "?"
	}
	return time.Duration(float64(octets) / speed * float64(time.Second)).Round(time.Second).String()
}

// terminal tells whether somebody looks at f.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Mode()&os.ModeDevice != 0
}

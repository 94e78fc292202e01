package core

// yieldHabit decides whether a back end that was woken by few events gives the CPU to others, by sched_yield(2), before it
// hands these on.
//
// Where several threads are busy on few CPUs, the loops of a Group and clients on the same machine say, a loop that is woken
// interrupts one of them, serves the one event that is there, and sleeps again, and so for each event. If the others go on
// first, it finds all that they had to send, and serves it in one pass: less CPU for a line, and more lines (bench/NOTES.md).
// With a CPU to spare there is nobody to go on; then it gains nothing, and costs a microsecond. What it gained lately tells.
type yieldHabit struct {
	credit  int // how many more times it may gain nothing
	skipped int // wake-ups without it, since there is no credit
}

const (
	fewEvents   = 16 // with as many or more a pass is worth its wake-up as it is
	yieldCredit = 8
	yieldProbe  = 16 // without credit, one of so many wake-ups
)

// due tells whether to yield now.
func (y *yieldHabit) due() bool {
	if y.credit > 0 {
		return true
	}
	y.skipped++
	return y.skipped >= yieldProbe
}

// done is told whether there were more events afterwards.
func (y *yieldHabit) done(gained bool) {
	y.skipped = 0
	switch {
	case gained:
		y.credit = yieldCredit
	case y.credit > 0:
		y.credit--
	}
}

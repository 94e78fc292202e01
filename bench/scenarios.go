package main

// scenario is one kind of load.
type scenario struct {
	name   string
	conns  int // that speak
	depth  int // lines that each has on its way
	length int // of a line in bytes, with its "\n"
	idle   int // connections that say nothing
	memory bool

	shortConns, shortIdle int // with -short
}

// scenarios is the table of all there are, in the order in which they run.
var scenarios = []scenario{
	{name: "a", conns: 50, depth: 1, length: 32, shortConns: 10},
	{name: "b", conns: 50, depth: 64, length: 32, shortConns: 10},
	{name: "c", conns: 1000, depth: 1, length: 32, shortConns: 100},
	{name: "d", conns: 50, depth: 1, length: 32, idle: 10_000, shortConns: 10, shortIdle: 200},
	{name: "e", conns: 4, depth: 1, length: 1_000_000, shortConns: 2},
	{name: "idle", length: 32, idle: 15_000, memory: true, shortIdle: 500},
}

// short returns the scenario as -short runs it.
func (s scenario) short() scenario {
	s.conns, s.idle = s.shortConns, s.shortIdle
	return s
}

// fit returns the scenario with no more idle connections than a limit of open files leaves room for, in the server and in the
// generator: an eighth stays free, because a server keeps some for itself.
func (s scenario) fit(files int) scenario {
	s.idle = max(min(s.idle, files/8*7-s.conns-32), 0)
	return s
}

package main

import "time"

// kind is what a server serves; a scenario measures those of one kind.
type kind string

const (
	plain   kind = "line"  // lines, echoed in the clear
	secured kind = "tls"   // lines, echoed over TLS
	mail    kind = "smtp"  // mail, taken in and dropped
	several kind = "loops" // lines, echoed in the clear by as many loops as there are CPUs
	web     kind = "http"  // requests, each answered with the same short text
	polling kind = "poll"  // lines as plain, by Parley alone, with each of its back ends
	telling kind = "room"  // whatever one connection sends, to all of them
)

// unpinned tells whether servers of the kind, and the generator with them, may run on every CPU, Go's on two at a time.
func (k kind) unpinned() bool { return k == several }

var kinds = []kind{plain, secured, mail, several, web, polling, telling}

// scenario is one kind of load.
type scenario struct {
	name   string
	kind   kind
	conns  int // that speak
	depth  int // lines, or requests, that each has on its way
	length int // of a line in bytes, with its "\n"; of a message, without its header
	idle   int // connections that say nothing
	memory bool
	work   time.Duration // that the handler has with each line
	calls  bool          // a connection sends one line and ends, and another is opened
	flood  bool          // the idle connections are opened at once, and send one line each
	paced  bool          // lines are sent at a fixed rate, to see how long they take

	tls    string // version
	settle bool   // memory is measured without garbage, too

	reuse    bool // a connection carries all messages that it can
	messages int  // of which memory is measured; their length is length
	large    int  // as many are sent then
	larger   int  // of this length

	shortConns, shortIdle, shortMessages, shortLarge int // with -short
}

// scenarios is the table of all there are, in the order in which they run.
var scenarios = []scenario{
	{name: "a", kind: plain, conns: 50, depth: 1, length: 32, shortConns: 10},
	{name: "b", kind: plain, conns: 50, depth: 64, length: 32, shortConns: 10},
	{name: "c", kind: plain, conns: 1000, depth: 1, length: 32, shortConns: 100},
	{name: "d", kind: plain, conns: 50, depth: 1, length: 32, idle: 10_000, shortConns: 10, shortIdle: 200},
	{name: "e", kind: plain, conns: 4, depth: 1, length: 1_000_000, shortConns: 2},
	{name: "idle", kind: plain, length: 32, idle: 15_000, memory: true, shortIdle: 500},

	{name: "latency", kind: plain, conns: 50, depth: 1, length: 32, paced: true, shortConns: 10},
	{name: "accept", kind: plain, conns: 50, depth: 1, length: 32, calls: true, shortConns: 10},
	{name: "flood", kind: plain, length: 32, idle: 15_000, flood: true, shortIdle: 500},

	{name: "tls", kind: secured, tls: "1.3", conns: 50, depth: 1, length: 32, shortConns: 10},
	{name: "tls12", kind: secured, tls: "1.2", conns: 50, depth: 1, length: 32, shortConns: 10},
	{name: "tlsidle", kind: secured, tls: "1.3", length: 32, idle: 5000, memory: true, settle: true, shortIdle: 200},
	{name: "tls12idle", kind: secured, tls: "1.2", length: 32, idle: 5000, memory: true, settle: true, shortIdle: 200},

	{name: "loops1", kind: several, conns: 50, depth: 1, length: 32, shortConns: 10},
	{name: "loops64", kind: several, conns: 50, depth: 64, length: 32, shortConns: 10},
	{name: "loops1000", kind: several, conns: 1000, depth: 1, length: 32, shortConns: 100},
	{name: "loops64000", kind: several, conns: 1000, depth: 64, length: 32, shortConns: 100},
	{name: "loopswork", kind: several, conns: 50, depth: 1, length: 32, work: 100 * time.Microsecond, shortConns: 10},

	{name: "smtp", kind: mail, conns: 10, length: 4096, shortConns: 10},
	{name: "smtpd", kind: mail, conns: 10, length: 4096, reuse: true, shortConns: 10},
	{name: "smtpmem", kind: mail, conns: 10, length: 4096, memory: true, messages: 5000, large: 3, larger: 50 << 20,
		shortConns: 10, shortMessages: 500, shortLarge: 1},

	{name: "http", kind: web, conns: 50, depth: 1, shortConns: 10},
	{name: "httppipe", kind: web, conns: 50, depth: 16, shortConns: 10},

	{name: "broadcast", kind: telling, conns: 10_000, depth: 1, length: 64, shortConns: 200},

	{name: "fds10", kind: polling, conns: 1, depth: 1, length: 32, idle: 10, shortConns: 1, shortIdle: 10},
	{name: "fds100", kind: polling, conns: 1, depth: 1, length: 32, idle: 100, shortConns: 1, shortIdle: 100},
	{name: "fds1000", kind: polling, conns: 1, depth: 1, length: 32, idle: 1000, shortConns: 1, shortIdle: 300},
	{name: "fds10000", kind: polling, conns: 1, depth: 1, length: 32, idle: 10_000, shortConns: 1, shortIdle: 400},
}

// unit is what is counted.
func (s scenario) unit() string {
	switch {
	case s.kind == web:
		return "request"
	case s.kind == mail:
		return "message"
	case s.kind == telling:
		return "delivery"
	case s.calls:
		return "connection"
	}
	return "line"
}

// short returns the scenario as -short runs it.
func (s scenario) short() scenario {
	s.conns, s.idle, s.messages, s.large = s.shortConns, s.shortIdle, s.shortMessages, s.shortLarge
	return s
}

// units is more than one of what is counted.
func (s scenario) units() string {
	if s.kind == telling {
		return "deliveries"
	}
	return s.unit() + "s"
}

// fit returns the scenario with no more idle connections, or members of a room, than a limit of open files leaves room for,
// in the server and in the generator: an eighth stays free, because a server keeps some for itself.
func (s scenario) fit(files int) scenario {
	room := files/8*7 - 32
	if s.kind == telling {
		s.conns = max(min(s.conns, room), 1)
	}
	s.idle = max(min(s.idle, room-s.conns), 0)
	return s
}

package main

// server is a program that is measured. It is started with -listen, says "listening on HOST:PORT" on standard error, and
// ends on SIGTERM. smtp-sink and nginx have ways of their own: see sinkArgs and nginxConf.
type server struct {
	name   string // on the command line, in tables and in JSON
	kind   kind
	title  string
	parley bool   // pkg lies in Parley's own module
	pkg    string // a Go program: its package, relative to its module
	source string // a C program: its file beside servers/epoll.h, relative to this module
	define string // and what is defined when it is compiled
	sink   bool   // Postfix's smtp-sink
	nginx  bool
	binary string   // a program that is there already
	args   []string // beside -listen
	env    []string // that it needs
	most   int      // idle connections that it can have; 0: as many as there may be open files
	counts bool     // it says at its end how much mail it took
	hasty  bool     // when its peer has ended its side it closes, whatever it owes
	dir    string   // where it may put what it needs to run
}

// servers is the table of all there are, in the order in which they take turns.
var servers = []server{
	{name: "parley", kind: plain, title: "Parley: examples/echo", parley: true, pkg: "./examples/echo"},
	{name: "goroutine", kind: plain, title: "Go net and bufio, a goroutine per connection", pkg: "./servers/goroutine"},
	{name: "netpoll", kind: plain, title: "netpoll (cloudwego)", pkg: "./servers/netpoll", hasty: true},
	{name: "goepoll", kind: plain, title: "a bare Go epoll loop, raw system calls", pkg: "./servers/goepoll"},
	{name: "c", kind: plain, title: "a C epoll loop", source: "servers/cepoll/cepoll.c"},

	{name: "parleytls", kind: secured, title: "Parley: chat.ListenTLS", pkg: "./servers/parleytls"},
	{name: "goroutinetls", kind: secured, title: "Go crypto/tls and bufio, a goroutine per connection", pkg: "./servers/goroutinetls"},

	{name: "oneloop", kind: several, title: "Parley: one loop", pkg: "./servers/parleyloops"},
	{name: "twoloops", kind: several, title: "Parley: a Group of two loops", pkg: "./servers/parleyloops", args: []string{"-loops", "2"}},
	{name: "coneloop", kind: several, title: "a C epoll loop", source: "servers/cepoll/cepoll.c"},
	{name: "ctwoloops", kind: several, title: "two threads with a C epoll loop each", source: "servers/cepoll/cepoll.c", define: "LOOPS=2"},

	{name: "parleysmtp", kind: mail, title: "Parley: protocols/smtp, mail is dropped", pkg: "./servers/parleysmtp", counts: true},
	{name: "gosmtp", kind: mail, title: "go-smtp, mail is dropped", pkg: "./servers/gosmtp", counts: true},
	{name: "smtp-sink", kind: mail, title: "Postfix's smtp-sink", sink: true},

	{name: "parleyhttp", kind: web, title: "Parley: protocols/http1", pkg: "./servers/parleyhttp"},
	{name: "nethttp", kind: web, title: "Go net/http", pkg: "./servers/nethttp"},
	{name: "fasthttp", kind: web, title: "fasthttp", pkg: "./servers/fasthttp"},
	{name: "nginx", kind: web, title: "nginx, one worker", nginx: true},
	{name: "chttp", kind: web, title: "a C epoll loop that parses nothing", source: "servers/chttp/chttp.c"},

	{name: "parleyroom", kind: telling, title: "Parley: chat.Conn, PushShared", pkg: "./servers/parleyroom"},
	{name: "gosend", kind: telling, title: "Go, write(2) for each member and nothing else", pkg: "./servers/gosend"},
	{name: "csend", kind: telling, title: "C, send(2) for each member and nothing else", source: "servers/csend/csend.c"},

	{name: "select", kind: polling, title: "Parley: examples/echo -backend select", parley: true, pkg: "./examples/echo",
		args: []string{"-backend", "select"}, most: 1000}, // FD_SETSIZE is 1024
	{name: "poll", kind: polling, title: "Parley: examples/echo -backend poll", parley: true, pkg: "./examples/echo",
		args: []string{"-backend", "poll"}},
	{name: "epoll", kind: polling, title: "Parley: examples/echo -backend epoll", parley: true, pkg: "./examples/echo",
		args: []string{"-backend", "epoll"}},
}

// references are the servers that the others are compared with, where they take part.
var references = []string{
	"c", "goroutine", "goroutinetls", "oneloop", "coneloop", "smtp-sink", "nginx", "fasthttp", "epoll", "gosend", "csend",
}

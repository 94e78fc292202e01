package main

// server is a program that is measured. It is started with -listen, says "listening on HOST:PORT" on standard error, and
// ends on SIGTERM.
type server struct {
	name   string // on the command line, in tables and in JSON
	title  string
	parley bool   // pkg lies in Parley's own module
	pkg    string // a Go program: its package, relative to its module
	source string // a C program: its only file, relative to this module
	binary string // a program that is there already
}

// servers is the table of all there are, in the order in which they take turns.
var servers = []server{
	{name: "parley", title: "Parley: examples/echo", parley: true, pkg: "./examples/echo"},
	{name: "goroutine", title: "Go net and bufio, a goroutine per connection", pkg: "./servers/goroutine"},
	{name: "goepoll", title: "a bare Go epoll loop, raw system calls", pkg: "./servers/goepoll"},
	{name: "c", title: "a C epoll loop", source: "servers/cepoll/cepoll.c"},
}

// references are the servers that the others are compared with, where they take part.
var references = []string{"c", "goroutine"}

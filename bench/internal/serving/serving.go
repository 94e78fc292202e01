// Package serving is what the servers of this benchmark that are written in Go have in common, as programs.
package serving

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// MaxLine is the longest line that an echo takes, without its end; a longer one ends the connection.
const MaxLine = 2 << 20

// Main is main: it parses the flags, serves on the address that -listen says, and ends the program with status 1 if serve
// has an error.
func Main(serve func(address string) error) {
	listen := flag.String("listen", "127.0.0.1:7000", "`address` to listen on, as IP:PORT; port 0 takes a free one")
	flag.Parse()
	if err := serve(*listen); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

// At says where a server listens, which is what those who started it wait for.
func At(addr fmt.Stringer) { fmt.Fprintf(os.Stderr, "listening on %s\n", addr) }

// Each calls f for each connection that a listener accepts, on a goroutine of its own, until it can accept no more.
func Each(ln net.Listener, f func(net.Conn)) error {
	At(ln.Addr())
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go f(conn)
	}
}

// Goroutine is a line echo as most Go servers are written: package net, a goroutine for each connection, bufio on both
// sides: see package bufecho.
//
//	goroutine -listen 127.0.0.1:0
package main

import (
	"flag"
	"fmt"
	"net"
	"os"

	"github.com/parley-go/parley/bench/internal/bufecho"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:7000", "`address` to listen on; port 0 takes a free one")
	flag.Parse()
	fmt.Fprintln(os.Stderr, "goroutine:", serve(*listen))
	os.Exit(1)
}

// serve returns when it can accept no more: the program ends by a signal.
func serve(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening on %s\n", ln.Addr())
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go bufecho.Serve(conn)
	}
}

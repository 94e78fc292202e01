// Goroutinetls is a line echo over TLS as most Go servers are written: crypto/tls, a goroutine for each connection, bufio on
// both sides: see package bufecho.
//
//	goroutinetls -listen 127.0.0.1:0
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"os"

	"github.com/parley-go/parley/bench/internal/bufecho"
	"github.com/parley-go/parley/bench/internal/settle"
	"github.com/parley-go/parley/core/tlslayer"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:7000", "`address` to listen on; port 0 takes a free one")
	flag.Parse()
	settle.WhenAsked()
	fmt.Fprintln(os.Stderr, "goroutinetls:", serve(*listen))
	os.Exit(1)
}

// serve returns when it can accept no more: the program ends by a signal.
func serve(address string) error {
	cert, err := tlslayer.SelfSigned("localhost", "127.0.0.1") // the kind of key that the other server has
	if err != nil {
		return err
	}
	ln, err := tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{cert}})
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

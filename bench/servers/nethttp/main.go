// Nethttp answers every request with a short text: package net/http.
//
//	nethttp -listen 127.0.0.1:0
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	flag.Parse()
	fmt.Fprintln(os.Stderr, "nethttp:", serve(*listen))
	os.Exit(1)
}

// serve returns when it can accept no more: the program ends by a signal.
func serve(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening on %s\n", ln.Addr())
	return http.Serve(ln, http.HandlerFunc(hello))
}

func hello(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "Hello, World!\n")
}

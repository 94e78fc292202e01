// Nethttp answers every request with a short text: package net/http.
//
//	nethttp -listen 127.0.0.1:0
package main

import (
	"io"
	"net"
	"net/http"

	"github.com/parley-go/parley/bench/internal/serving"
)

func main() { serving.Main(serve) }

// serve returns when it can accept no more: the program ends by a signal.
func serve(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	serving.At(ln.Addr())
	return http.Serve(ln, http.HandlerFunc(hello))
}

func hello(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "Hello, World!\n")
}

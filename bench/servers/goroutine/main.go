// Goroutine is a line echo as most Go servers are written: package net, a goroutine for each connection, bufio on both
// sides: see package bufecho.
//
//	goroutine -listen 127.0.0.1:0
package main

import (
	"net"

	"github.com/parley-go/parley/bench/internal/bufecho"
	"github.com/parley-go/parley/bench/internal/serving"
)

func main() { serving.Main(serve) }

// serve returns when it can accept no more: the program ends by a signal.
func serve(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return serving.Each(ln, bufecho.Serve)
}

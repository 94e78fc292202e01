// Goroutinetls is a line echo over TLS as most Go servers are written: crypto/tls, a goroutine for each connection, bufio on
// both sides: see package bufecho.
//
//	goroutinetls -listen 127.0.0.1:0
package main

import (
	"crypto/tls"

	"github.com/parley-go/parley/bench/internal/bufecho"
	"github.com/parley-go/parley/bench/internal/serving"
	"github.com/parley-go/parley/bench/internal/settle"
	"github.com/parley-go/parley/core/tlslayer"
)

func main() {
	settle.WhenAsked()
	serving.Main(serve)
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
	return serving.Each(ln, bufecho.Serve)
}

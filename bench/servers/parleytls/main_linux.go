// Parleytls is a line echo over TLS: the handler of examples/echo, and package tlslayer.
//
//	parleytls -listen 127.0.0.1:0
package main

import (
	"context"
	"crypto/tls"

	"github.com/parley-go/parley/bench/internal/serving"
	"github.com/parley-go/parley/bench/internal/settle"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/protocols/echo"
)

func main() {
	settle.WhenAsked()
	serving.Main(serve)
}

// serve returns when the loop cannot go on: the program ends by a signal.
func serve(address string) error {
	cert, err := tlslayer.SelfSigned("localhost", "127.0.0.1")
	if err != nil {
		return err
	}
	loop, err := core.NewLoop(core.Options{})
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	ln, err := chat.ListenTLS(loop, "tcp", address, config, echo.Lines(serving.MaxLine))
	if err != nil {
		return err
	}
	serving.At(ln.Addr())
	return loop.Run(context.Background())
}

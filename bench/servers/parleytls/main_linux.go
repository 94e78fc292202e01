// Parleytls is a line echo over TLS: the handler of examples/echo, and package tlslayer.
//
//	parleytls -listen 127.0.0.1:0
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"

	"github.com/parley-go/parley/bench/internal/settle"
	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/protocols/echo"
)

// maxLine is the longest line, without its end; a longer one ends the connection.
const maxLine = 2 << 20

func main() {
	listen := flag.String("listen", "127.0.0.1:7000", "`address` to listen on; port 0 takes a free one")
	flag.Parse()
	settle.WhenAsked()
	fmt.Fprintln(os.Stderr, "parleytls:", serve(*listen))
	os.Exit(1)
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
	ln, err := chat.ListenTLS(loop, "tcp", address, config, echo.Lines(maxLine))
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening on %s\n", ln.Addr())
	return loop.Run(context.Background())
}

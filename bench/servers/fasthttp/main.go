// Fasthttp answers every request with a short text: github.com/valyala/fasthttp.
//
//	fasthttp -listen 127.0.0.1:0
package main

import (
	"flag"
	"fmt"
	"net"
	"os"

	"github.com/valyala/fasthttp"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	flag.Parse()
	fmt.Fprintln(os.Stderr, "fasthttp:", serve(*listen))
	os.Exit(1)
}

// serve returns when it can accept no more: the program ends by a signal.
func serve(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening on %s\n", ln.Addr())
	return fasthttp.Serve(ln, hello)
}

func hello(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.SetBodyString("Hello, World!\n")
}

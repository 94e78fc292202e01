// Fasthttp answers every request with a short text: github.com/valyala/fasthttp.
//
//	fasthttp -listen 127.0.0.1:0
package main

import (
	"net"

	"github.com/valyala/fasthttp"

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
	return fasthttp.Serve(ln, hello)
}

func hello(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.SetBodyString("Hello, World!\n")
}

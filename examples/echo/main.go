// Echo sends every line back, byte for byte.
//
//	go run ./examples/echo -listen 127.0.0.1:7000
//	nc 127.0.0.1 7000
//
// With -tls-self-signed: openssl s_client -quiet -connect 127.0.0.1:7000
package main

import (
	"fmt"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
	"github.com/parley-go/parley/examples/internal/cli"
	"github.com/parley-go/parley/protocols/echo"
)

// mostLine is the largest limit that a conversation takes.
const mostLine = 1 << 30

func main() {
	fs := cli.Flags(`echo [flags]

Echoes each line that ends in "\n", a "\r" before it included. SIGINT and SIGTERM end it.`)
	listen := fs.String("listen", "127.0.0.1:7000", "`address` to listen on; port 0 takes a free one")
	loops := cli.LoopFlags(fs)
	raw := fs.Bool("raw", false, "echo bytes as they come, as RFC 862 has it, without waiting for lines")
	maxLine := fs.Int("max-line", 2<<20, "longest line in `bytes`; a longer one ends the connection")
	maxConns := fs.Int("max-conns", 0, "most connections at a time; 0: what the limit of open files leaves room for")
	secure := cli.TLSFlags(fs)
	cli.Parse(fs, 0)
	if *maxLine < 1 || *maxLine > mostLine {
		cli.Usage(fmt.Errorf("-max-line %d: at least 1 and at most %d", *maxLine, mostLine))
	}
	if *maxConns < 0 {
		cli.Usage(fmt.Errorf("-max-conns %d: at least 0", *maxConns))
	}

	loop, err := loops.New()
	if err != nil {
		cli.Exit(err)
	}
	newHandler := echo.Lines(*maxLine) // package chat logs why it closes a connection whose line is too long
	if *raw {
		newHandler = echo.Stream
	}
	config := core.ListenConfig{Limit: core.Limit{Total: *maxConns}}
	tlsConfig, err := secure.Config()
	if err != nil {
		cli.Exit(err)
	}
	if tlsConfig != nil {
		config.Wrap = tlslayer.WrapServer(tlsConfig)
	}
	ln, err := config.Listen(loop, "tcp", *listen, chat.Accept(newHandler))
	if err != nil {
		cli.Exit(err)
	}
	cli.Listening(ln.Addr())
	cli.Exit(cli.Serve(loop))
}

// Webchat is the chat room in the browser, and for nc and telnet in the same rooms.
//
//	go run ./examples/webchat -listen 127.0.0.1:8080 -lines 127.0.0.1:6667
//
// Open http://127.0.0.1:8080/ in a browser; others come with: nc 127.0.0.1 6667
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/parley-go/parley/examples/internal/cli"
	"github.com/parley-go/parley/examples/internal/webroom"
	"github.com/parley-go/parley/protocols/http1"
	"github.com/parley-go/parley/protocols/room"
)

func main() {
	fs := cli.Flags(`webchat [flags]

A chat room for browsers, and with -lines for nc, telnet and examples/chatclient, too: they meet in the same rooms.`)
	listen := fs.String("listen", "127.0.0.1:8080", "`address` to listen on for browsers; port 0 takes a free one")
	lines := fs.String("lines", "", "another `address`, for people who send lines")
	backend := fs.String("backend", "auto", "auto, select, poll, epoll or kqueue")
	var c room.Config
	fs.StringVar(&c.Name, "name", "Parley chat", "what the server calls itself")
	fs.IntVar(&c.History, "history", 20, "how many `lines` a newcomer is shown")
	fs.IntVar(&c.MaxConns, "max-conns", 1000, "most people in browsers at a time, and most others")
	fs.IntVar(&c.MaxPerAddr, "max-per-addr", 32, "most of them from one address")
	secure := cli.TLSFlags(fs)
	cli.Parse(fs, 0)
	if c.MaxConns < 1 || c.MaxPerAddr < 1 || c.History < 0 {
		cli.Usage(errors.New("-max-conns and -max-per-addr: at least 1; -history: at least 0"))
	}
	if c.History == 0 {
		c.History = -1
	}

	loop, err := cli.NewLoop(*backend)
	if err != nil {
		cli.Exit(err)
	}
	house := room.New(loop, c)
	srv := &http1.Server{Handler: webroom.New(loop, house), Limits: http1.Limits{Conns: 4 * c.MaxConns, ConnsPerAddr: 4 * c.MaxPerAddr}}
	if srv.TLSConfig, err = secure.Config("localhost"); err != nil {
		cli.Exit(err)
	}
	listener := srv.Listen
	if srv.TLSConfig != nil {
		listener = srv.ListenTLS
	}
	ln, err := listener(loop, "tcp", *listen)
	if err != nil {
		cli.Exit(err)
	}
	cli.Listening(ln.Addr())
	if *lines != "" {
		ln, err := house.Listen("tcp", *lines)
		if err != nil {
			cli.Exit(err)
		}
		fmt.Fprintf(os.Stderr, "listening on %s, for lines\n", ln.Addr())
	}
	cli.Exit(cli.Serve(loop))
}

// All is everything in one program, on one loop: a chat room for browsers and for telnet, mail that is announced in it, an echo.
//
//	go run ./examples/all
//
// Open http://127.0.0.1:8080/ in a browser, and meet there who comes with: nc 127.0.0.1 6667
//
//	curl --crlf smtp://127.0.0.1:2525 --mail-from me@localhost --mail-rcpt you@localhost -T message
//	nc 127.0.0.1 7000
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/examples/internal/cli"
	"github.com/parley-go/parley/examples/internal/webroom"
	"github.com/parley-go/parley/protocols/echo"
	"github.com/parley-go/parley/protocols/http1"
	"github.com/parley-go/parley/protocols/room"
	"github.com/parley-go/parley/protocols/smtp"
)

func main() {
	fs := cli.Flags(`all [flags]

A chat room for browsers and for telnet, mail that is announced in it, and an echo: one program, one loop, no locks.
An address that is empty is not served. SIGINT and SIGTERM end it.`)
	web := fs.String("listen", "127.0.0.1:8080", "`address` for browsers; port 0 takes a free one, here and below")
	lines := fs.String("chat", "127.0.0.1:6667", "`address` for nc, telnet and examples/chatclient")
	mail := fs.String("smtp", "127.0.0.1:2525", "`address` for mail")
	echoes := fs.String("echo", "127.0.0.1:7000", "`address` of the echo")
	domain := fs.String("domain", "localhost", "`domain` whose mail is taken")
	maildir := fs.String("maildir", "", "`directory` of the Maildir for it; a new one if empty")
	backend := fs.String("backend", "auto", "auto, select, poll, epoll or kqueue")
	cli.Parse(fs, 0)
	if *web == "" && *lines == "" && *mail == "" && *echoes == "" {
		cli.Usage(errors.New("there is nothing to serve"))
	}

	loop, err := cli.NewLoop(*backend)
	if err != nil {
		cli.Exit(err)
	}
	house := room.New(loop, room.Config{})
	serve(*web, "the chat room, in a browser: http://%s/", func() (*core.Listener, error) {
		srv := &http1.Server{Handler: webroom.New(loop, house)}
		return srv.Listen(loop, "tcp", *web)
	})
	serve(*lines, "the chat room: nc %h %p", func() (*core.Listener, error) { return house.Listen("tcp", *lines) })
	serve(*mail, "mail for "+*domain+": smtp://%s", func() (*core.Listener, error) {
		dir, err := mailDir(*maildir)
		if err != nil {
			return nil, err
		}
		backend, err := newNotices(dir, house)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "mail goes to %s\n", dir)
		srv := &smtp.Server{Hostname: *domain, Domains: []string{*domain}, Backend: backend}
		return srv.Listen(loop, "tcp", *mail)
	})
	serve(*echoes, "an echo: nc %h %p", func() (*core.Listener, error) {
		return chat.Listen(loop, "tcp", *echoes, echo.Lines(64<<10))
	})
	cli.Exit(cli.Serve(loop))
}

// serve begins with a service, unless its address is empty, and says how it is reached.
func serve(address, how string, listen func() (*core.Listener, error)) {
	if address == "" {
		return
	}
	ln, err := listen()
	if err != nil {
		cli.Exit(err)
	}
	host, port, _ := net.SplitHostPort(ln.Addr().String())
	cli.Listening(ln.Addr())
	fmt.Fprintln(os.Stderr, "  "+strings.NewReplacer("%s", ln.Addr().String(), "%h", host, "%p", port).Replace(how))
}

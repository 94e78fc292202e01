// Chatclient joins a chat room: what is typed is sent line by line, what comes is shown. Terminal and socket are two
// conversations on one loop.
//
//	go run ./examples/chatclient -nick alice 127.0.0.1:6667
//	printf 'bob\nhi\n/quit\n' | go run ./examples/chatclient 127.0.0.1:6667
package main

import (
	"errors"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/examples/internal/cli"
	"github.com/parley-go/parley/protocols/room"
)

func main() {
	fs := cli.Flags(`chatclient [flags] HOST:PORT

Joins a chat room. The end of the input, /quit and Ctrl-C leave it; if the server ends it, the exit status is 1.`)
	nick := fs.String("nick", "", "`nickname` to introduce oneself with; without it the server asks")
	backend := fs.String("backend", "auto", "auto, select, poll, epoll or kqueue")
	cli.Parse(fs, 1)
	if fs.NArg() == 0 {
		cli.Usage(errors.New("where to? HOST:PORT is missing"))
	}

	loop, err := cli.NewLoop(*backend)
	if err != nil {
		cli.Exit(err)
	}
	client := &room.Client{
		Nick: *nick,
		OpenTerminal: func(newHandler func(*chat.Conn) chat.Handler) (*chat.Conn, error) {
			return chat.StdioConn(loop, newHandler)
		},
	}
	if _, err := chat.Dial(loop, "tcp", fs.Arg(0), client.Server); err != nil {
		cli.Exit(err)
	}
	if err := cli.Serve(loop); err != nil {
		cli.Exit(err)
	}
	cli.Exit(client.Err())
}

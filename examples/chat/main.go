// Chat is a chat room for nc, telnet and examples/chatclient.
//
//	go run ./examples/chat -listen 127.0.0.1:6667
//	nc 127.0.0.1 6667
package main

import (
	"fmt"
	"time"

	"github.com/parley-go/parley/examples/internal/cli"
	"github.com/parley-go/parley/protocols/room"
)

func main() {
	fs := cli.Flags(`chat [flags]

A chat room. People come by nc, by telnet or by examples/chatclient, choose a nickname and talk.`)
	var c room.Config
	listen := fs.String("listen", "127.0.0.1:6667", "`address` to listen on; port 0 takes a free one")
	loops := cli.LoopFlags(fs)
	fs.StringVar(&c.Name, "name", "Parley chat", "what the server calls itself")
	fs.StringVar(&c.Motd, "motd", "", "`text` that newcomers see; may have several lines")
	fs.StringVar(&c.Lobby, "lobby", "lobby", "`room` that everybody enters first")
	fs.IntVar(&c.History, "history", 20, "how many `lines` a newcomer is shown")
	fs.IntVar(&c.MaxLine, "max-line", 1024, "longest line in `bytes`; of a longer one nothing is said")
	fs.IntVar(&c.NameLength, "max-name", 20, "most `characters` of a nickname or the name of a room")
	fs.IntVar(&c.MaxRooms, "max-rooms", 100, "most rooms at a time")
	fs.IntVar(&c.MaxConns, "max-conns", 1000, "most connections at a time")
	fs.IntVar(&c.MaxPerAddr, "max-per-addr", 32, "most of them from one address")
	fs.IntVar(&c.FloodBurst, "flood-burst", 20, "how many `lines` somebody may send at once")
	fs.Float64Var(&c.FloodRate, "flood-rate", 2, "how many `lines` a second after that")
	fs.DurationVar(&c.NickTimeout, "nick-timeout", time.Minute, "how long one has to choose a nickname")
	fs.DurationVar(&c.IdleTimeout, "idle", 30*time.Minute, "how long one may be silent; there is a warning before")
	fs.IntVar(&c.SkipAbove, "skip-above", 128<<10, "`bytes` waiting for a slow reader above which it misses messages")
	fs.IntVar(&c.DropAbove, "drop-above", 1<<20, "`bytes` that a reader may be behind before it is disconnected")
	fs.DurationVar(&c.StallTimeout, "stall", 2*time.Minute, "how long a reader may take nothing before it is disconnected")
	fs.Int64Var(&c.StallRate, "stall-rate", 5, "how many `bytes` a second a reader has to take of what waits for it, in a minute")
	cli.Parse(fs, 0)
	if err := check(&c); err != nil {
		cli.Usage(err)
	}

	loop, err := loops.New()
	if err != nil {
		cli.Exit(err)
	}
	ln, err := room.New(loop, c).Listen("tcp", *listen)
	if err != nil {
		cli.Exit(err)
	}
	cli.Listening(ln.Addr())
	cli.Exit(cli.Serve(loop))
}

// check looks for values that make no sense. 0 would be the default of package room, which is not what was asked for here,
// but for the history.
func check(c *room.Config) error {
	for _, f := range []struct {
		name string
		n    int
	}{
		{"max-line", c.MaxLine}, {"max-name", c.NameLength}, {"max-rooms", c.MaxRooms}, {"max-conns", c.MaxConns},
		{"max-per-addr", c.MaxPerAddr}, {"flood-burst", c.FloodBurst}, {"skip-above", c.SkipAbove}, {"drop-above", c.DropAbove},
	} {
		if f.n < 1 {
			return fmt.Errorf("-%s %d: at least 1", f.name, f.n)
		}
	}
	for _, f := range []struct {
		name string
		d    time.Duration
	}{
		{"nick-timeout", c.NickTimeout}, {"idle", c.IdleTimeout}, {"stall", c.StallTimeout},
	} {
		if f.d <= 0 {
			return fmt.Errorf("-%s %v: more than 0", f.name, f.d)
		}
	}
	switch {
	case c.StallRate < 1:
		return fmt.Errorf("-stall-rate %d: at least 1", c.StallRate)
	case c.FloodRate <= 0:
		return fmt.Errorf("-flood-rate %v: more than 0", c.FloodRate)
	case c.History < 0:
		return fmt.Errorf("-history %d: at least 0", c.History)
	case c.History == 0:
		c.History = -1
	}
	if err := room.CheckName(c.Lobby, c.NameLength); err != nil {
		return fmt.Errorf("-lobby %q: %w", c.Lobby, err)
	}
	return nil
}

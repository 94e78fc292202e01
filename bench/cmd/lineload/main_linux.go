// Lineload keeps a line echo server busy, or a room, or an HTTP server, compares every byte that comes back, and prints
// what it counted as JSON.
//
//	lineload -connect 127.0.0.1:7000 -conns 50 -depth 64 -pid $(pidof echo)
//	lineload -connect 127.0.0.1:7000 -tls 1.3 -pid $(pidof parleytls)
//	lineload -connect 127.0.0.1:8080 -http -depth 16 -pid $(pidof parleyhttp)
//	lineload -connect 127.0.0.1:7000 -rate 100000 -pid $(pidof echo)
//	lineload -connect 127.0.0.1:7000 -broadcast -conns 10000 -length 64 -pid $(pidof parleyroom)
//	lineload -connect 127.0.0.1:7000 -idle 10000 -memory -pid $(pidof echo)
//	lineload -connect 127.0.0.1:7000 -calls -pid $(pidof echo)
//	lineload -connect 127.0.0.1:7000 -idle 15000 -flood -pid $(pidof echo)
//
// It has one thread that works: pin it to another CPU than the server's. The exit status is 1 if any byte was wrong, missing
// or too many.
package main

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/parley-go/parley/bench/internal/load"
)

func main() {
	var c load.Config
	flag.StringVar(&c.Addr, "connect", "127.0.0.1:7000", "`address` of the server, as IP:PORT")
	flag.IntVar(&c.Conns, "conns", 50, "connections that speak")
	flag.IntVar(&c.Depth, "depth", 1, "lines that each of them has on their way at a time")
	flag.IntVar(&c.Length, "length", 32, `length of a line in bytes, with its "\n"`)
	flag.IntVar(&c.Idle, "idle", 0, "connections beside them that say nothing")
	flag.Float64Var(&c.Rate, "rate", 0, "lines per second, at fixed moments, to see how long they take; 0: at once")
	flag.DurationVar(&c.Warmup, "warmup", 500*time.Millisecond, "how long to run before counting")
	flag.DurationVar(&c.Interval, "interval", 2*time.Second, "how long to count")
	flag.DurationVar(&c.Patience, "patience", 5*time.Second, "how long to wait for an answer that is due")
	flag.IntVar(&c.PID, "pid", 0, "the server's process, to read what it uses; 0: do not")
	flag.Func("tls", "`version` of TLS, 1.2 or 1.3; any certificate will do; empty: in the clear", func(s string) error {
		version, ok := map[string]uint16{"": 0, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[s]
		if !ok {
			return errors.New("neither 1.2 nor 1.3")
		}
		c.TLS = version
		return nil
	})
	flag.BoolVar(&c.Settle, "settle", false, "with -memory: ask the server to give its garbage back, with SIGUSR1, and measure again")
	flag.BoolVar(&c.HTTP, "http", false, "ask an HTTP server for a short text instead; -length and -idle are not for that")
	flag.BoolVar(&c.Broadcast, "broadcast", false, "the connections are members of a room: what one of them says is due on all")
	memory := flag.Bool("memory", false, "measure what the idle connections cost the server, and nothing else")
	calls := flag.Bool("calls", false, "have each connection send one line and end, and open another then")
	flood := flag.Bool("flood", false, "open the idle connections at once, have a line echoed on each, and nothing else")
	flag.Parse()
	if c.HTTP {
		c.Length = 0
	}
	if err := run(c, *memory, *calls, *flood); err != nil {
		fmt.Fprintln(os.Stderr, "lineload:", err)
		os.Exit(1)
	}
}

func run(c load.Config, memory, calls, flood bool) error {
	out := json.NewEncoder(os.Stdout)
	if memory {
		m, err := load.MeasureMemory(c)
		if err != nil {
			return err
		}
		return out.Encode(m)
	}
	if flood {
		f, err := load.MeasureFlood(c)
		if err != nil {
			return err
		}
		return out.Encode(f)
	}
	generate := load.Run
	if calls {
		generate = load.RunCalls
	}
	r, err := generate(c)
	if err != nil {
		return err
	}
	if err := out.Encode(r); err != nil {
		return err
	}
	return r.Err()
}

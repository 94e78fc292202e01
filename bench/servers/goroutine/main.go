// Goroutine is a line echo as most Go servers are written: package net, a goroutine for each connection, bufio on both
// sides. Lines of what one read brought go out in one write.
//
//	goroutine -listen 127.0.0.1:0
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
)

// maxLine is the longest line, without its end; a longer one ends the connection.
const maxLine = 2 << 20

func main() {
	listen := flag.String("listen", "127.0.0.1:7000", "`address` to listen on; port 0 takes a free one")
	flag.Parse()
	fmt.Fprintln(os.Stderr, "goroutine:", serve(*listen))
	os.Exit(1)
}

// serve returns when it can accept no more: the program ends by a signal.

func serve(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening on %s\n", ln.Addr())
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go echo(conn)
	}
}

// flusher is a connection that sends what was gathered before it waits for more. Asking the bufio.Reader whether it is
// empty would not do: what it holds may be the beginning of a line whose end the peer sends after our answer.
type flusher struct {
	net.Conn
	w *bufio.Writer
}

func (f *flusher) Read(p []byte) (int, error) {
	if err := f.w.Flush(); err != nil {
		return 0, err
	}
	return f.Conn.Read(p)
}

func echo(conn net.Conn) {
	defer conn.Close()
	w := bufio.NewWriter(conn)
	r := bufio.NewReader(&flusher{conn, w})
	var long []byte // the beginning of a line that the reader's buffer does not hold
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) && len(long)+len(line) <= maxLine {
			long = append(long, line...)
			continue
		}
		if err != nil {
			return
		}
		if len(long) > 0 {
			if len(long)+len(line) > maxLine+1 {
				return
			}
			long = append(long, line...)
			line, long = long, long[:0]
		}
		if _, err := w.Write(line); err != nil {
			return
		}
	}
}

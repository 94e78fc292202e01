// Gosmtp takes mail for everybody and drops it: github.com/emersion/go-smtp, which has a goroutine for each connection, with a
// backend that keeps nothing. SIGTERM ends it; then it says how much mail that was.
//
//	gosmtp -listen 127.0.0.1:0
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"
)

const (
	size    = 64 << 20        // the largest message: 50 MB go through, with their header
	timeout = 5 * time.Minute // what the server beside it has
)

func main() {
	listen := flag.String("listen", "127.0.0.1:2525", "`address` to listen on; port 0 takes a free one")
	flag.Parse()
	if err := serve(*listen); err != nil {
		fmt.Fprintln(os.Stderr, "gosmtp:", err)
		os.Exit(1)
	}
}

func serve(address string) error {
	b := new(backend)
	srv := smtp.NewServer(b)
	srv.Domain = "localhost"
	srv.MaxMessageBytes = size
	srv.ReadTimeout, srv.WriteTimeout = timeout, timeout
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		_ = srv.Close()
	}()
	fmt.Fprintf(os.Stderr, "listening on %s\n", ln.Addr())
	if err := srv.Serve(ln); err != nil && !errors.Is(err, smtp.ErrServerClosed) {
		return err
	}
	fmt.Fprintf(os.Stderr, "took %d messages, %d octets\n", b.messages.Load(), b.octets.Load())
	return nil
}

// backend counts what comes.
type backend struct{ messages, octets atomic.Int64 }

func (b *backend) NewSession(*smtp.Conn) (smtp.Session, error) { return &session{b}, nil }

// session takes everything and drops it.
type session struct{ b *backend }

func (*session) Mail(string, *smtp.MailOptions) error { return nil }
func (*session) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (*session) Reset()                               {}
func (*session) Logout() error                        { return nil }

func (s *session) Data(r io.Reader) error {
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		return err
	}
	s.b.messages.Add(1)
	s.b.octets.Add(n)
	return nil
}

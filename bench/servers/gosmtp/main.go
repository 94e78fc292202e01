// Gosmtp takes mail for everybody and drops it: github.com/emersion/go-smtp, which has a goroutine for each connection, with a
// backend that keeps nothing. SIGTERM ends it; then it says how much mail that was.
//
//	gosmtp -listen 127.0.0.1:0
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/parley-go/parley/bench/internal/serving"
)

const (
	size    = 64 << 20        // the largest message: 50 MB go through, with their header
	timeout = 5 * time.Minute // what the server beside it has
)

func main() { serving.Main(serve) }

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
	serving.At(ln.Addr())
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

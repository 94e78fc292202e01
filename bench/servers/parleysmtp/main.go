// Parleysmtp takes mail for everybody and drops it: protocols/smtp with a Backend that keeps nothing. SIGTERM ends it; then
// it says how much mail that was.
//
//	parleysmtp -listen 127.0.0.1:0
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/parley-go/parley/bench/internal/serving"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/smtp"
)

// size is the largest message: 50 MB go through, with their header.
const size = 64 << 20

func main() { serving.Main(serve) }

func serve(address string) error {
	loop, err := core.NewLoop(core.Options{})
	if err != nil {
		return err
	}
	srv := &smtp.Server{
		Hostname: "localhost",
		Backend:  backend{},
		Limits: smtp.Limits{
			MessageSize:  size,
			ConnsPerAddr: 1000, // all clients have one address
			Transactions: -1,   // and may send all of their messages on one connection
			Commands:     -1,
		},
	}
	ln, err := srv.Listen(loop, "tcp", address)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { loop.Shutdown(time.Second) })
	serving.At(ln.Addr())
	if err := loop.Run(context.Background()); err != nil {
		return err
	}
	took := srv.Counters()
	fmt.Fprintf(os.Stderr, "took %d messages, %d octets\n", took.Messages, took.Octets)
	return nil
}

// backend takes every recipient.
type backend struct{}

func (backend) HandleRcpt(*smtp.Session, smtp.Path, smtp.Params) error { return nil }

func (backend) Begin(*smtp.Session, *smtp.Envelope) (smtp.Message, error) { return dropped{}, nil }

// dropped is a message that nobody keeps.
type dropped struct{}

func (dropped) Write(p []byte) (int, error) { return len(p), nil }
func (dropped) Commit() error               { return nil }
func (dropped) Abort()                      {}

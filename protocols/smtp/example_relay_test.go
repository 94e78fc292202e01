package smtp_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	parley "github.com/parley-go/parley/protocols/smtp"
)

// relayed has a Relay deliver one message, to a server that knows nobody who is called nobody.
func relayed(r *parley.Relay, to ...string) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	w := sim.New(sim.Config{})
	loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	defer loop.Close()
	next := &parley.Server{Hostname: "mail.example.org", Backend: new(recorder)}
	if _, err := next.Listen(loop, "tcp", "server:25"); err != nil {
		fmt.Println(err)
		return
	}

	r.Dir, r.Hostname = dir, "relay.example.org"
	if err := r.Start(loop); err != nil {
		fmt.Println(err)
		return
	}
	e := &parley.Envelope{From: parley.Path{Local: "tim", Domain: "client.example"}}
	for _, local := range to {
		e.To = append(e.To, parley.Recipient{Path: parley.Path{Local: local, Domain: "example.org"}})
	}
	if _, err := r.Submit(context.Background(), e, strings.NewReader("Subject: hello\n\nhello\n")); err != nil {
		fmt.Println(err)
	}
	w.Advance(time.Minute)
}

func ExampleRelay() {
	relay := &parley.Relay{Address: "server:25"}
	relayed(relay, "pat")
	fmt.Println(relay.Len(), "left")
	// Output:
	// 0 left
}

func ExampleRelayReport() {
	relayed(&parley.Relay{Address: "server:25", Report: func(r *parley.RelayReport) {
		if r.Event != parley.RelayDelivered {
			fmt.Println(r.Event, r.From.Address(), "->", r.To[0].Address(), "by", r.Hop+":", r.Reply.Error())
		}
	}}, "pat", "nobody")
	// Output:
	// failed tim@client.example -> nobody@example.org by server:25: 550 5.1.1 No such user here
}

func ExampleRelayEvent() {
	relayed(&parley.Relay{Address: "nowhere:25", Report: func(r *parley.RelayReport) {
		if r.Event == parley.RelayDeferred {
			fmt.Println(r.Event, r.Next.Truncate(time.Minute).Format("15:04"))
		}
	}}, "pat")
	// Output:
	// deferred 00:01
}

func ExampleRelayCounters() {
	relay := &parley.Relay{Address: "server:25"}
	relayed(relay, "pat", "kim", "nobody")
	c := relay.Counters()
	fmt.Println(c.Queued, c.Delivered, c.Failed, c.Reports) // the report was delivered, too
	// Output:
	// 1 3 1 1
}

func ExampleRelayLimits() {
	relayed(&parley.Relay{Address: "server:25", Limits: parley.RelayLimits{Recipients: 2}}, "pat", "kim", "sam")
	// Output:
	// 452 4.3.1 The queue is full, try again later
}

// exchangers knows the mail exchangers of one domain.
type exchangers struct{}

func (exchangers) LookupMX(_ context.Context, domain string) ([]*net.MX, error) {
	if domain != "example.org." {
		return nil, &net.DNSError{Err: "no such host", Name: domain, IsNotFound: true}
	}
	return []*net.MX{{Host: "server.", Pref: 10}}, nil
}

func ExampleMXResolver() {
	relayed(&parley.Relay{Resolver: exchangers{}, Report: func(r *parley.RelayReport) {
		fmt.Println(r.Event, r.Hop)
	}}, "pat")
	// Output:
	// delivered server:25
}

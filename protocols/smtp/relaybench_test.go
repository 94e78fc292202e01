//go:build unix

package smtp_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/smtp"
)

// BenchmarkRelay is a message of 1 KiB through the queue, on this machine's disk, to a server on loopback: from 16 goroutines
// that submit at a time, until it is delivered and removed.
func BenchmarkRelay(b *testing.B) {
	loop, err := core.NewLoop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	sink := &smtp.Server{Hostname: "next.example", Backend: new(smtp.Discard), Domains: domains}
	l, err := sink.Listen(loop, "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	delivered := make(chan struct{}, b.N)
	r := &smtp.Relay{
		Dir: filepath.Join(b.TempDir(), "queue"), Hostname: "relay.example", Address: l.Addr().String(),
		Report: func(*smtp.RelayReport) { delivered <- struct{}{} }, Limits: smtp.RelayLimits{Messages: -1},
	}
	if err := r.Start(loop); err != nil {
		b.Fatal(err)
	}
	var run sync.WaitGroup
	run.Go(func() { _ = loop.Run(context.Background()) })
	body := strings.Repeat("0123456789abcde\n", 64)
	e := &smtp.Envelope{From: smtp.Path{Local: "a", Domain: "b"}, To: []smtp.Recipient{{Path: smtp.Path{Local: "user", Domain: "example.org"}}}}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.ResetTimer()
	next := make(chan struct{}, b.N)
	for range b.N {
		next <- struct{}{}
	}
	close(next)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range next {
				if _, err := r.Submit(context.Background(), e, strings.NewReader(body)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	for range b.N {
		<-delivered
	}
	b.StopTimer()
	r.Stop()
	loop.Shutdown(0)
	run.Wait()
}

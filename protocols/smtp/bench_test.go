//go:build !race && (darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package smtp_test

import (
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/smtp"
)

// script is a connection whose client says the same pieces over and over, one for each read, and takes every answer: what
// is left is the server's own work.
type script struct {
	core.Socket
	hello  string
	pieces []string
	next   int
	rest   string
}

func (s *script) Recv(p []byte) (int, error) {
	if s.rest == "" {
		if s.rest = s.hello; s.rest != "" {
			s.hello = ""
		} else {
			s.rest = s.pieces[s.next]
			s.next = (s.next + 1) % len(s.pieces)
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *script) Send(p []byte) (int, error) { return len(p), nil }

func (s *script) RemoteAddr() net.Addr { return peerOfScript }

var peerOfScript = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 40000}

// alwaysReadable is a socket with something to read that nobody reads.
func alwaysReadable(t testing.TB) core.Socket {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { syscall.Close(fds[1]) })
	_, err = syscall.Write(fds[1], []byte("x"))
	require.NoError(t, err)
	f := os.NewFile(uintptr(fds[0]), "pair")
	defer f.Close()
	s, err := core.FileSocket(f)
	require.NoError(t, err)
	return s
}

// tally is a Backend that counts, and keeps nothing.
type tally struct {
	discard
	commands int
}

func (d *tally) Begin(*smtp.Session, *smtp.Envelope) (smtp.Message, error) { return d, nil }

func (d *tally) HandleVrfy(*smtp.Session, string) error {
	d.commands++
	return nil
}

// scripted returns a loop with a session that has said EHLO.
func scripted(t testing.TB, srv *smtp.Server, pieces ...string) *core.Loop {
	l, err := core.NewLoop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	srv.Hostname = "mx.example.org"
	srv.Limits = smtp.Limits{Transactions: -1, Commands: -1, Junk: -1}
	_, err = chat.Attach(l, &script{Socket: alwaysReadable(t), hello: "EHLO client.example\r\n", pieces: pieces}, srv.NewSession)
	require.NoError(t, err)
	return l
}

func step(t testing.TB, l *core.Loop) {
	_, err := l.Step(0)
	require.NoError(t, err)
}

// measure reports the process's CPU time, which a busy machine does not make longer, and allocations.
func measure(b *testing.B, f func()) {
	b.ReportAllocs()
	b.ResetTimer()
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	f()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N), "cpu-ns/op")
}

const benchEnvelope = "MAIL FROM:<sender@client.example> SIZE=4096\r\nRCPT TO:<user@example.org>\r\nDATA\r\n"

// benchText is a message of so many octets, with its end.
func benchText(octets int) string {
	head := "From: <sender@client.example>\r\nTo: <user@example.org>\r\nSubject: a test\r\n\r\n"
	line := strings.Repeat("x", 62) + "\r\n"
	return head + strings.Repeat(line, (octets-len(head))/len(line)) + ".\r\n"
}

// lockstep is what a client without PIPELINING sends.
func lockstep(text string) []string {
	return append(strings.SplitAfter(benchEnvelope, "\r\n")[:3], text)
}

func BenchmarkCommand(b *testing.B) {
	d := new(tally)
	l := scripted(b, &smtp.Server{Backend: d}, "VRFY user\r\n")
	measure(b, func() {
		for d.commands < b.N {
			step(b, l)
		}
	})
}

func BenchmarkMessage(b *testing.B) {
	for _, x := range []struct {
		name   string
		pieces []string
		octets int
	}{
		{"4K", lockstep(benchText(4 << 10)), 4 << 10},
		{"4K/pipelined", []string{benchEnvelope + benchText(4<<10)}, 4 << 10},
		{"1M", lockstep(benchText(1 << 20)), 1 << 20},
		{"1M/dots", lockstep(strings.Repeat("..\r\n", 1<<18) + ".\r\n"), 1 << 20},
		{"1M/short", lockstep(strings.Repeat("a\r\n", (1<<20)/3) + ".\r\n"), 1 << 20},
	} {
		b.Run(x.name, func(b *testing.B) {
			d := new(tally)
			l := scripted(b, &smtp.Server{Backend: d}, x.pieces...)
			b.SetBytes(int64(x.octets))
			measure(b, func() {
				for d.committed < int64(b.N) {
					step(b, l)
				}
			})
		})
	}
}

// A connection that brings one message, from its beginning to its end.
func BenchmarkConnection(b *testing.B) {
	d := new(tally)
	l, err := core.NewLoop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	defer l.Close()
	srv := &smtp.Server{Backend: d, Hostname: "mx.example.org"}
	socket := alwaysReadable(b)
	pieces := append(lockstep(benchText(4<<10)), "QUIT\r\n")
	measure(b, func() {
		for range b.N {
			_, err := chat.Attach(l, &script{Socket: kept{socket}, hello: "EHLO client.example\r\n", pieces: pieces}, srv.NewSession)
			require.NoError(b, err)
			for srv.Open() > 0 {
				step(b, l)
			}
		}
	})
	require.EqualValues(b, b.N, d.committed)
}

// kept is a socket that is used again.
type kept struct{ core.Socket }

func (kept) Close() error { return nil }

// What a message costs in allocations: its commands, its parameters, its transaction, its name.
func TestAllocationsPerMessage(t *testing.T) {
	d := new(tally)
	l := scripted(t, &smtp.Server{Backend: d}, lockstep(benchText(4<<10))...)
	message := func() {
		for n := d.committed; d.committed == n; {
			step(t, l)
		}
	}
	message() // EHLO
	require.LessOrEqual(t, testing.AllocsPerRun(500, message), 12.0)
}

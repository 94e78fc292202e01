package smtp_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// Servers that refuse, hang up and go away at random, and a Relay that is started anew now and then: each recipient has each
// message in the end, or is reported to its sender, and the queue is empty. What arrives twice was not answered, or not
// written down.
func TestRelayChaos(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			got := make(map[string]int)      // recipient and message
			lost := make(map[string]int)     // of these, those whose 250 did not arrive
			reported := make(map[string]int) // by reports
			serve := func(o *office) {
				var listeners []*core.Listener
				for i, host := range []string{"next", "other"} {
					rec := &recorder{}
					rec.hooks = map[string]func(*smtp.Session, string) error{
						"rcpt": func(_ *smtp.Session, to string) error {
							switch n := rng.IntN(10); {
							case strings.HasPrefix(to, "<a@"): // takes the reports
								return nil
							case n == 0:
								return smtp.Replyf(450, "4.2.0", "Perhaps later")
							case strings.HasPrefix(to, "<never"):
								return smtp.Replyf(451, "4.2.0", "Never, but we do not say so")
							}
							return nil
						},
						"mail": func(s *smtp.Session, _ string) error {
							switch rng.IntN(12) {
							case 0:
								return smtp.Replyf(421, "4.3.2", "Enough")
							case 1:
								_ = s.Conn().Core().Abort()
							case 2:
								return smtp.Replyf(452, "4.3.1", "No room")
							}
							return nil
						},
					}
					rec.commit = func(s *smtp.Session, m *mail) error {
						n := rng.IntN(12)
						if n == 0 {
							return smtp.Replyf(451, "4.3.0", "Try again")
						}
						text := m.text.String()
						if m.envelope.From.IsNull() {
							for line := range strings.SplitSeq(text, "\r\n") {
								if to, ok := strings.CutPrefix(line, "Final-Recipient: rfc822;"); ok {
									_, subject, _ := strings.Cut(text, "\r\nSubject: message ")
									subject, _, _ = strings.Cut(subject, "\r\n")
									reported[to+" "+subject]++
								}
							}
							return nil
						}
						subject, _, _ := strings.Cut(strings.TrimPrefix(text, "Subject: message "), "\r\n")
						for _, to := range m.envelope.To {
							got[to.Address()+" "+subject]++
							if n == 1 {
								lost[to.Address()+" "+subject]++
							}
						}
						if n == 1 { // taken, and nobody hears of it
							_ = s.Conn().Core().Abort()
						}
						return nil
					}
					_, l := o.serve(host+":25", &smtp.Server{Backend: rec, Limits: smtp.Limits{Recipients: 3 + i, ConnsPerAddr: 3}})
					listeners = append(listeners, l)
				}
				o.loop.AfterFunc(2*time.Hour, func() { // one of them goes away
					_ = listeners[1].Close()
					o.loop.AfterFunc(3*time.Hour, func() { o.serve("other:25", &smtp.Server{Backend: listenersBackend(got)}) })
				})
			}
			relay := func() *smtp.Relay {
				return &smtp.Relay{
					Route: func(domain string) (string, string, error) {
						return "tcp", map[bool]string{true: "other:25", false: "next:25"}[strings.HasPrefix(domain, "other")], nil
					},
					Limits: smtp.RelayLimits{Lifetime: 24 * time.Hour, Conns: 3, ConnsPerHop: 2, MessagesPerConn: 3, IdleTimeout: time.Second},
				}
			}
			net := sim.Config{Seed: seed, Latency: time.Millisecond, Jitter: 5 * time.Millisecond, RandomCuts: true, Work: 4 * time.Millisecond, Window: 500}
			o := newOffice(t, net, relay())
			serve(o)
			var want []string
			restarts := 0
			for i := range 25 {
				var to []string
				for j := range 1 + rng.IntN(6) {
					domain := []string{"example.org", "other.example"}[rng.IntN(2)]
					to = append(to, fmt.Sprintf("%s%d@%s", []string{"user", "user", "user", "never"}[rng.IntN(4)], j, domain))
				}
				body := fmt.Sprintf("Subject: message %d\n\n%s\n", i, strings.Repeat("text\n", rng.IntN(300)))
				o.submit(body, to...)
				for _, a := range to {
					want = append(want, fmt.Sprintf("%s %d", a, i))
				}
				o.Advance(time.Duration(rng.IntN(20)) * time.Millisecond)
				if i%6 == 5 {
					o.Advance(time.Duration(rng.Int64N(int64(2 * time.Minute))))
				}
				if i%10 == 9 {
					restarts++
					o.Settle()
					o = o.again(relay())
					serve(o)
				}
			}
			o.Advance(36 * time.Hour)
			o.empty()
			twice := 0
			for _, w := range want {
				never := strings.HasPrefix(w, "never")
				require.Equal(t, never, reported[w] > 0, "%s: reported %d times, got %d", w, reported[w], got[w])
				if never {
					require.Zero(t, got[w], w)
					continue
				}
				require.GreaterOrEqual(t, got[w], 1, w)
				require.LessOrEqual(t, got[w], 1+lost[w], w)
				twice += got[w] - 1
			}
			require.Zero(t, o.r.Counters().Dropped)
			t.Logf("%d recipients, %d restarts, %d twice", len(want), restarts, twice)
		})
	}
}

// listenersBackend is that of a server that has come back: it takes what there is, but for never.
func listenersBackend(got map[string]int) smtp.Backend {
	r := &recorder{hooks: map[string]func(*smtp.Session, string) error{"rcpt": func(_ *smtp.Session, to string) error {
		if strings.HasPrefix(to, "<never") {
			return smtp.Replyf(451, "4.2.0", "Never")
		}
		return nil
	}}}
	r.commit = func(_ *smtp.Session, m *mail) error {
		subject, _, _ := strings.Cut(strings.TrimPrefix(m.text.String(), "Subject: message "), "\r\n")
		for _, to := range m.envelope.To {
			got[to.Address()+" "+subject]++
		}
		return nil
	}
	return r
}

package smtp_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// zone is what is known of domains.
type zone struct {
	mx    map[string][]*net.MX
	err   error
	asked []string
}

func (z *zone) LookupMX(_ context.Context, domain string) ([]*net.MX, error) {
	domain, rooted := strings.CutSuffix(domain, ".")
	if !rooted {
		return nil, errors.New("no dot")
	}
	z.asked = append(z.asked, domain)
	if z.err != nil {
		return nil, z.err
	}
	if all := z.mx[domain]; all != nil {
		return all, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: domain, IsNotFound: true}
}

// servers has one on each of these addresses.
func (o *office) servers(hosts ...string) map[string]*recorder {
	all := make(map[string]*recorder)
	for i, host := range hosts {
		o.Host(host, fmt.Sprintf("198.51.100.%d", i+1))
		all[host], _ = o.serve(host+":25", &smtp.Server{})
	}
	return all
}

// Where mail for a domain goes. RFC 5321 section 5.1, RFC 7505
func TestRelayExchangers(t *testing.T) {
	for _, x := range []struct {
		name, domain string
		mx           []*net.MX
		want         string
	}{
		{"the one that is preferred", "example.org", []*net.MX{{Host: "two.", Pref: 20}, {Host: "one.", Pref: 10}}, "delivered user@example.org one:25"},
		{"the next one, if that cannot be reached", "example.org", []*net.MX{{Host: "gone.", Pref: 0}, {Host: "down.", Pref: 10}, {Host: "two.", Pref: 20}}, "delivered user@example.org two:25"},
		{"none can be reached", "example.org", []*net.MX{{Host: "down.", Pref: 10}, {Host: "gone.", Pref: 20}}, "deferred user@example.org example.org 451 4.4.1"},
		{"the domain itself", "one", nil, "delivered user@one one:25"},
		{"the domain itself, and it is down", "down", nil, "deferred user@down down 451 4.4.1"},
		{"no such domain", "gone.example", nil, "failed user@gone.example gone.example 550 5.1.2"},
		{"null MX", "example.org", []*net.MX{{Host: ".", Pref: 0}}, "failed user@example.org example.org 556 5.1.10"},
		{"before us", "example.org", []*net.MX{{Host: "one.", Pref: 10}, {Host: "RELAY.example.", Pref: 20}, {Host: "two.", Pref: 30}}, "delivered user@example.org one:25"},
		{"with us", "example.org", []*net.MX{{Host: "one.", Pref: 10}, {Host: "relay.example.", Pref: 10}}, "failed user@example.org example.org 554 5.4.6"},
		{"behind us", "example.org", []*net.MX{{Host: "relay.example.", Pref: 10}, {Host: "one.", Pref: 20}}, "failed user@example.org example.org 554 5.4.6"},
		{"an address", "[198.51.100.1]", nil, "delivered user@[198.51.100.1] 198.51.100.1:25"},
		{"an address that is down", "[198.51.100.9]", nil, "deferred user@[198.51.100.9] [198.51.100.9] 451 4.4.1"},
		{"in capitals", "EXAMPLE.org", []*net.MX{{Host: "one.", Pref: 10}}, "delivered user@EXAMPLE.org one:25"},
	} {
		t.Run(x.name, func(t *testing.T) {
			z := &zone{mx: map[string][]*net.MX{"example.org": x.mx}}
			if x.mx == nil {
				z.mx = nil
			}
			o := newOffice(t, sim.Config{}, &smtp.Relay{Resolver: z})
			o.Host("down", "198.51.100.9")
			o.servers("one", "two")
			o.submitFrom("", "x\n", "user@"+x.domain)
			o.Settle()
			require.Len(t, o.reports, 1)
			require.True(t, strings.HasPrefix(o.reports[0], x.want), "%s, not %s", o.reports[0], x.want)
			for _, domain := range z.asked {
				require.Equal(t, strings.ToLower(x.domain), domain)
			}
		})
	}
}

// Among those of one preference chance decides; all are used.
func TestRelayExchangersShare(t *testing.T) {
	all := []*net.MX{{Host: "one.", Pref: 10}, {Host: "two.", Pref: 10}}
	z := &zone{mx: map[string][]*net.MX{}}
	for i := range 20 {
		z.mx[fmt.Sprintf("d%d.example", i)] = all
	}
	o := newOffice(t, sim.Config{}, &smtp.Relay{Resolver: z})
	recs := o.servers("one", "two")
	for i := range 20 {
		o.submit("x\n", fmt.Sprintf("user@d%d.example", i))
	}
	o.Settle()
	require.Equal(t, 20, len(recs["one"].mails)+len(recs["two"].mails))
	require.Greater(t, len(recs["one"].mails), 4)
	require.Greater(t, len(recs["two"].mails), 4)
	o.empty()
}

// A look-up that fails is done again, and one that does not is kept for a while.
func TestRelayLookUps(t *testing.T) {
	z := &zone{err: errors.New("no answer"), mx: map[string][]*net.MX{"example.org": {{Host: "one.", Pref: 10}}}}
	o := newOffice(t, sim.Config{}, &smtp.Relay{Resolver: z, Limits: smtp.RelayLimits{IdleTimeout: time.Second}})
	recs := o.servers("one")
	o.submit("x\n", "user", "later")
	o.Settle()
	require.Equal(t, []string{"deferred user@example.org example.org 451 4.4.3 The mail exchangers of the domain cannot be looked up now",
		"deferred later@example.org example.org 451 4.4.3 The mail exchangers of the domain cannot be looked up now"}, o.reports)
	z.err = nil
	o.Advance(70 * time.Second)
	require.Len(t, recs["one"].mails, 1)
	require.Len(t, z.asked, 2)
	o.submit("x\n", "user") // later still waits: the place is known
	o.Advance(10 * time.Second)
	require.Len(t, recs["one"].mails, 2)
	require.Len(t, z.asked, 2)
	o.Advance(10 * time.Minute)
	o.submit("x\n", "user")
	o.Settle()
	require.Len(t, recs["one"].mails, 3)
	require.Greater(t, len(z.asked), 2)
}

// A server that takes no more connections keeps those that it has, and mail goes over these.
func TestRelayConnectionRefused(t *testing.T) {
	o := newOffice(t, sim.Config{Latency: time.Millisecond}, &smtp.Relay{})
	srv := &smtp.Server{Limits: smtp.Limits{ConnsPerAddr: 1}}
	next, _ := o.serve(nextAddress, srv)
	for range 30 {
		o.submit("x\n", "user")
	}
	o.Advance(10 * time.Second)
	require.Len(t, next.mails, 30)
	require.Zero(t, o.r.Counters().Deferred)
	o.empty()
}

// What a server says to the connection defers the mail, also if it is a refusal.
func TestRelayGreetings(t *testing.T) {
	for greeting, want := range map[string]string{
		"554 5.7.1 Not you\r\n": "deferred user@example.org next:25 454 4.7.1 Not you",
		"554 Not you\r\n":       "deferred user@example.org next:25 454 Not you",
		"421 4.3.2 Closed\r\n":  "deferred user@example.org next:25 421 4.3.2 Closed",
		"HTTP/1.1 400 Bad\r\n":  "deferred user@example.org next:25 451 4.5.0 The server does not keep to the protocol",
	} {
		o := newOffice(t, sim.Config{}, &smtp.Relay{})
		ln := o.Listen("tcp", nextAddress)
		o.submit("x\n", "user")
		p := ln.Accept()
		p.Say(greeting)
		o.Settle()
		if strings.HasPrefix(greeting, "554") {
			p.Want("QUIT\r\n")
			p.Say("221 Bye\r\n")
			o.Settle()
		}
		require.Equal(t, []string{want}, o.reports)
		require.Len(t, o.files("new"), 1)
	}
}

// To an LMTP server each recipient has an answer of its own to the message.
func TestRelayLMTP(t *testing.T) {
	o := newOffice(t, sim.Config{}, &smtp.Relay{
		NewClient: func(_, _ string) *smtp.Client { return &smtp.Client{LMTP: true} }, Limits: smtp.RelayLimits{ConnsPerHop: 1},
	})
	ln := o.Listen("tcp", nextAddress)
	to := []smtp.Recipient{
		{Path: addr(t, "one@example.org"), Params: smtp.Params{"NOTIFY": "SUCCESS"}}, {Path: addr(t, "two@example.org")}, {Path: addr(t, "three@example.org")},
	}
	_, err := o.r.Submit(t.Context(), &smtp.Envelope{From: addr(t, "a@b"), To: to}, strings.NewReader("x\n"))
	require.NoError(t, err)
	p := ln.Accept()
	p.Say("220 next\r\n")
	reply(p, "LHLO relay.example", "250 next")
	reply(p, "MAIL FROM:<a@b>", "250 Ok")
	reply(p, "RCPT TO:<one@example.org>", "250 Ok")
	reply(p, "RCPT TO:<two@example.org>", "250 Ok")
	reply(p, "RCPT TO:<three@example.org>", "250 Ok")
	reply(p, "DATA", "354 Go on")
	reply(p, "x\r\n.", "250 Ok\r\n452 4.2.2 Full\r\n550 5.2.1 Disabled")
	o.Settle()
	require.ElementsMatch(t, []string{"delivered one@example.org next:25 250 Ok", "deferred two@example.org next:25 452 4.2.2 Full",
		"failed three@example.org next:25 550 5.2.1 Disabled"}, o.reports)
	reply(p, "RSET", "250 Ok")
	for _, want := range []string{"Final-Recipient: rfc822;one@example.org\r\nAction: delivered\r\n", "Final-Recipient: rfc822;three@example.org\r\nAction: failed\r\n"} {
		reply(p, "MAIL FROM:<>", "250 Ok")
		reply(p, "RCPT TO:<a@b>", "250 Ok")
		reply(p, "DATA", "354 Go on")
		o.Settle()
		text := p.Read()
		require.Contains(t, text, want)
		checkReport(t, strings.TrimSuffix(text, ".\r\n"))
		p.Say("250 Ok\r\n")
	}
	o.Settle()
	require.EqualValues(t, 2, o.r.Counters().Reports)
	o.Advance(70 * time.Second)
	p = ln.Accept()
	p.Say("220 next\r\n")
	reply(p, "LHLO relay.example", "250 next")
	reply(p, "MAIL FROM:<a@b>", "250 Ok")
	reply(p, "RCPT TO:<two@example.org>", "250 Ok")
	reply(p, "DATA", "354 Go on")
	reply(p, "x\r\n.", "250 Ok")
	o.Settle()
	o.empty()
}

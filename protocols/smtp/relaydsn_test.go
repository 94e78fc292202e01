package smtp_test

import (
	"bufio"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

var updateReports = flag.Bool("update-reports", false, "write testdata/relay-*.txt anew")

// queueID is what a message is called that was submitted.
var queueID = regexp.MustCompile(`[0-9A-Z]+\.Q\d+`)

const original = "Received: from x\r\nFrom: a@client.example\r\nSubject: =?utf-8?q?x?=\r\n\r\nThe text.\r\n"

// Reports, as they were when they were looked at.
func TestRelayReports(t *testing.T) {
	path := func(s string) smtp.Path { return addr(t, s) }
	rcpt := func(s string, params smtp.Params) smtp.Recipient {
		return smtp.Recipient{Path: path(s), Params: params}
	}
	for _, x := range []struct {
		name string
		e    smtp.Envelope
		body string
		wait time.Duration
	}{
		{name: "failed", body: original, e: smtp.Envelope{From: path("a@client.example"), To: []smtp.Recipient{rcpt("nobody@example.org", nil), rcpt("user@example.org", nil), rcpt("Green@example.org", nil)}}},
		{name: "dsn", body: original, e: smtp.Envelope{
			From: path("a@client.example"), Params: smtp.Params{"RET": "FULL", "ENVID": "QQ+2B314+0D+0ABcc:x"},
			To: []smtp.Recipient{
				rcpt("nobody@example.org", smtp.Params{"NOTIFY": "FAILURE,DELAY", "ORCPT": "rfc822;no+2Bbody@elsewhere.example+0D+0A+0D+0AX"}),
				rcpt("nobody@example.org", smtp.Params{"NOTIFY": "NEVER"}),
				rcpt("nobody@example.org", smtp.Params{"NOTIFY": "SUCCESS"}),
			},
		}},
		{name: "relayed", body: original, e: smtp.Envelope{
			From: path("a@client.example"), Params: smtp.Params{"RET": "FULL"},
			To: []smtp.Recipient{rcpt("user@example.org", smtp.Params{"NOTIFY": "SUCCESS,FAILURE"}), rcpt("other@example.org", nil)},
		}},
		{name: "utf8", body: "Subject: \u00fc\n\nx\n", e: smtp.Envelope{
			From: path("a@client.example"), Params: smtp.Params{"SMTPUTF8": ""},
			To: []smtp.Recipient{rcpt("nobody@\u00fc.example", smtp.Params{"ORCPT": "utf-8;n\u00fc@x"})},
		}},
		{name: "expired", body: original, wait: 3 * time.Hour, e: smtp.Envelope{From: path(`"a b"@client.example`), To: []smtp.Recipient{rcpt("later@example.org", nil)}}},
		{name: "hostile", body: strings.Repeat("X", 100_000), e: smtp.Envelope{From: path("a@client.example"), To: []smtp.Recipient{rcpt("hostile@example.org", nil)}}},
	} {
		t.Run(x.name, func(t *testing.T) {
			o := newOffice(t, sim.Config{}, &smtp.Relay{Limits: smtp.RelayLimits{Lifetime: 2 * time.Hour}})
			rec := &recorder{hooks: map[string]func(*smtp.Session, string) error{"rcpt": func(_ *smtp.Session, to string) error {
				if strings.Contains(to, "hostile") {
					return &smtp.Reply{Code: 550, Enhanced: "5.7.1", Lines: []string{"", "\r\n", "Subject: no", strings.Repeat("x", 600), "", "--=_", "\x80\x00end"}}
				}
				return nil
			}}}
			o.serve(nextAddress, &smtp.Server{Backend: rec})
			_, err := o.r.Submit(t.Context(), &x.e, strings.NewReader(x.body))
			require.NoError(t, err)
			o.Settle()
			o.Advance(x.wait)
			o.Settle()
			var report *mail
			for _, m := range rec.mails {
				if m.envelope.From.IsNull() {
					require.Nil(t, report, "one report")
					report = m
				}
			}
			require.NotNil(t, report)
			require.Equal(t, x.e.From, report.envelope.To[0].Path)
			require.Len(t, report.envelope.To, 1)
			o.empty()
			got := report.text.String()
			checkReport(t, got)

			got = queueID.ReplaceAllString(strings.ReplaceAll(got, "\r\n", "\n"), "ID.Q1")
			file := filepath.Join("testdata", "relay-"+x.name+".txt")
			if *updateReports {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o600))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(want), got)
		})
	}
}

// checkReport reads a report as programs do.
func checkReport(t *testing.T, text string) {
	t.Helper()
	require.NotContains(t, strings.ReplaceAll(text, "\r\n", ""), "\n")
	for line := range strings.SplitSeq(text, "\r\n") {
		require.LessOrEqual(t, len(line), 998)
		if len(line) > 900 {
			break
		}
	}
	m, err := netmail.ReadMessage(strings.NewReader(text))
	require.NoError(t, err)
	require.Equal(t, "auto-replied", m.Header.Get("Auto-Submitted"))
	_, err = m.Header.AddressList("From")
	require.NoError(t, err)
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, "multipart/report", kind)
	require.Equal(t, "delivery-status", params["report-type"])
	parts := multipart.NewReader(m.Body, params["boundary"])
	var kinds []string
	for {
		p, err := parts.NextRawPart()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		all, err := io.ReadAll(p)
		require.NoError(t, err)
		kinds = append(kinds, p.Header.Get("Content-Type"))
		if len(kinds) != 2 {
			continue
		}
		groups := strings.Split(strings.TrimRight(string(all), "\r\n"), "\r\n\r\n")
		for i, g := range groups {
			h, err := textproto.NewReader(newLineReader(g + "\r\n\r\n")).ReadMIMEHeader()
			require.NoError(t, err)
			if i == 0 {
				require.Equal(t, "dns; relay.example", h.Get("Reporting-MTA"))
			} else {
				require.NotEmpty(t, h.Get("Final-Recipient"))
				require.Contains(t, []string{"failed", "relayed", "delivered"}, h.Get("Action"))
				require.Regexp(t, `^[245]\.\d+\.\d+$`, h.Get("Status"))
			}
			require.Empty(t, h.Get("Subject"))
			require.Empty(t, h.Get("X"))
		}
		require.GreaterOrEqual(t, len(groups), 2)
	}
	require.Len(t, kinds, 3)
}

// Who sends from the null path is not told, nor who does not want to be; and nobody is told of that.
func TestRelayDropped(t *testing.T) {
	o := newOffice(t, sim.Config{}, &smtp.Relay{})
	next, _ := o.serve(nextAddress, &smtp.Server{})
	o.submitFrom("", "x\n", "nobody", "user")
	o.Settle()
	require.Len(t, next.mails, 1)
	_, err := o.r.Submit(t.Context(), &smtp.Envelope{From: addr(t, "a@b"), To: []smtp.Recipient{{Path: addr(t, "nobody@c"), Params: smtp.Params{"NOTIFY": "NEVER"}}}}, strings.NewReader("x"))
	require.NoError(t, err)
	o.Settle()
	require.Len(t, next.mails, 1)
	o.empty()
	o.submitFrom("nobody@example.org", "x\n", "nobody") // the report fails, too
	o.Settle()
	o.empty()
	require.Len(t, next.mails, 1)
	require.Equal(t, smtp.RelayCounters{Queued: 3, Delivered: 1, Failed: 4, Reports: 1, Dropped: 3}, o.r.Counters())
	require.Equal(t, 3, strings.Count(o.log.String(), "dropped, and nobody is told"))
}

// Bounce decides whether there is a report.
func TestRelayBounce(t *testing.T) {
	var asked []string
	o := newOffice(t, sim.Config{}, &smtp.Relay{Bounce: func(from smtp.Path, failed []*smtp.RelayReport) bool {
		asked = append(asked, from.Address()+" "+failed[0].To[0].Address()+" "+failed[0].Reply.Error())
		if strings.HasPrefix(from.Local, "panic") {
			panic("no")
		}
		return from.Local == "yes"
	}})
	next, _ := o.serve(nextAddress, &smtp.Server{})
	for _, from := range []string{"yes@x", "no@x", "panic@x"} {
		o.submitFrom(from, "x\n", "nobody")
		o.Settle()
	}
	require.Equal(t, []string{"yes@x nobody@example.org 550 5.1.1 No such user here", "no@x nobody@example.org 550 5.1.1 No such user here",
		"panic@x nobody@example.org 550 5.1.1 No such user here"}, asked)
	require.Len(t, next.mails, 2)
	o.empty()
	require.Contains(t, o.log.String(), "a func of the caller's panicked")
}

// Where the next server reports deliveries, that is left to it.
func TestRelayLeavesReports(t *testing.T) {
	o := newOffice(t, sim.Config{}, &smtp.Relay{})
	next, _ := o.serve(nextAddress, &smtp.Server{Extensions: smtp.AllExtensions})
	to := []smtp.Recipient{{Path: addr(t, "user@example.org"), Params: smtp.Params{"NOTIFY": "SUCCESS", "ORCPT": "rfc822;x@y"}}}
	_, err := o.r.Submit(t.Context(), &smtp.Envelope{From: addr(t, "a@b"), To: to, Params: smtp.Params{"RET": "HDRS", "ENVID": "e", "AUTH": "<>", "SIZE": "99"}}, strings.NewReader("x\n"))
	require.NoError(t, err)
	o.submitFrom("a@b", "x\n", "nobody")
	o.Settle()
	require.Len(t, next.mails, 2)
	e := next.mails[0].envelope
	require.Equal(t, to[0].Params, e.To[0].Params)
	require.Equal(t, smtp.Params{"RET": "HDRS", "ENVID": "e", "BODY": "8BITMIME", "SIZE": "3"}, e.Params)
	require.Equal(t, smtp.Params{"NOTIFY": "NEVER"}, next.mails[1].envelope.To[0].Params)
	o.empty()
}

func newLineReader(s string) *bufio.Reader { return bufio.NewReader(strings.NewReader(s)) }

package smtp_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// The tests of CPython's test_smtpd, by their ids in the inventory of the project; each a table row where it is a dialog.
// What differs on purpose says so. Not here: S2 to S6 and S15 (the servers that print, and text mode: messages are bytes),
// S38 (there is no unknown state), S77 (old names), S82 and S83 (text mode), S89 (a list of names).

const (
	helloed = "HELO example"
	ehloed  = "EHLO example"
)

func repeat(s string, n int) string { return strings.Repeat(s, n) }

func TestReference(t *testing.T) {
	size := &smtp.Server{Extensions: []string{"SIZE"}, Limits: smtp.Limits{ExactCommandLine: true, MessageSize: 33554432}}
	utf8 := &smtp.Server{Extensions: []string{"SIZE", "8BITMIME", "SMTPUTF8"}, Limits: smtp.Limits{ExactCommandLine: true, MessageSize: 33554432}}
	wide := &smtp.Server{Extensions: []string{"SIZE", "SMTPUTF8"}, Limits: smtp.Limits{ExactCommandLine: true}}
	full := &smtp.Server{}
	small := &smtp.Server{Limits: smtp.Limits{MessageSize: 32}}
	from, to := "MAIL FROM:<eggs@example>", "RCPT TO:<spam@example>"
	exact := func(n int, tail string) string {
		head := "MAIL FROM:<a@example> "
		return head + repeat(" ", n-2-len(head)-len(tail)) + tail
	}
	for _, tt := range []struct {
		id     string
		srv    *smtp.Server
		before []string
		say    string
		want   string // the beginning of the last line of the answer
	}{
		{"S9_params_rejected", full, []string{ehloed, from}, to + " foo=bar", "555"},
		{"S10_nothing_accepted", full, []string{ehloed, from}, to, "250"},
		{"S11_SMTPUTF8", size, []string{ehloed}, from + " size=20 SMTPUTF8", "555"},
		{"S11_BODY_and_SMTPUTF8", size, []string{ehloed}, from + " size=20 SMTPUTF8 BODY=8BITMIME", "555"},
		{"S11_BODY", size, []string{ehloed}, from + " size=20 BODY=8BITMIME", "555"},
		{"S11_SIZE", size, []string{ehloed}, from + " size=20", "250"},
		{"S12_SMTPUTF8", &smtp.Server{Extensions: []string{"SIZE", "8BITMIME"}}, []string{ehloed}, from + " size=20 SMTPUTF8", "555"},
		{"S12_BODY_comes_first", &smtp.Server{Extensions: []string{"SIZE", "8BITMIME"}}, []string{ehloed}, from + " SMTPUTF8 BODY=bad", "501"},
		{"S12_lower_case", &smtp.Server{Extensions: []string{"SIZE", "8BITMIME"}}, []string{ehloed}, from + " size=20 body=8bitmime", "250"},
		{"S13_all_three", utf8, []string{ehloed}, from + " size=20 body=8BITMIME smtputf8", "250"},
		{"S17_missing_data", full, nil, "", "500"},
		{"S18_EHLO", full, nil, ehloed, "250 HELP"},
		{"S19_EHLO_bad_syntax", full, nil, "EHLO", "501"},
		{"S20_EHLO_duplicate_resets", full, []string{ehloed, from}, ehloed, "250 HELP"},    // Python: 503; RFC 5321 section 4.1.4
		{"S21_HELO_after_EHLO_resets", full, []string{ehloed}, helloed, "250 mx"},          // Python: 503
		{"S22_HELO", full, nil, helloed, "250 mx.example.org"},                             //
		{"S23_EHLO_after_HELO_resets", full, []string{helloed}, ehloed, "250 HELP"},        // Python: 503
		{"S24_HELP", full, nil, "HELP", "214 "},                                            // Python: 250
		{"S25_HELP_MAIL", full, nil, "HELP MAIL", "214 2.0.0 Syntax: MAIL FROM:<address>"}, // Python: 250
		{"S25_HELP_MAIL_extended", full, []string{ehloed}, "HELP MAIL", "214 2.0.0 Syntax: MAIL FROM:<address> [SP parameters]"},
		{"S26_HELP_unknown", full, nil, "HELP SPAM", "501 5.5.4 Commands: EHLO HELO MAIL"},
		{"S27_HELO_bad_syntax", full, nil, "HELO", "501"},
		{"S28_HELO_duplicate_resets", full, []string{helloed}, helloed, "250 mx"}, // Python: 503
		{"S29_parameter_needs_EHLO", full, []string{helloed}, from + " SIZE=1234", "501"},
		{"S30_space_after_colon", full, []string{helloed}, "MAIL from:   <foo@example.com>", "250"},
		{"S31_space_after_colon_extended", full, []string{ehloed}, "MAIL from:   <foo@example.com> size=20", "250"},
		{"S32_NOOP", full, nil, "NOOP", "250"},
		{"S33_HELO_NOOP", full, []string{helloed}, "NOOP", "250"},
		{"S34_NOOP_ignores_its_argument", full, nil, "NOOP hi", "250"}, // Python: 501; RFC 5321 section 4.1.1.9
		{"S35_QUIT", full, nil, "QUIT", "221"},
		{"S36_HELO_QUIT", full, []string{helloed}, "QUIT", "221"},
		{"S37_QUIT_argument_ignored", full, nil, "QUIT bye bye", "221"},
		{"S39_command_too_long", size, []string{helloed}, "MAIL from:<" + repeat("a", 512) + "@example>", "500"},
		{"S40_MAIL_of_512_and_26", size, []string{ehloed}, exact(512+26, "size=1234"), "250"},
		{"S40_MAIL_longer", size, []string{ehloed}, exact(512+26+1, "size=1234"), "500"},
		{"S40_MAIL_of_512_after_HELO", size, []string{helloed}, exact(512, ""), "250"},
		{"S40_MAIL_longer_after_HELO", size, []string{helloed}, exact(512+1, ""), "500"},
		{"S41_SMTPUTF8_not_offered", size, []string{ehloed}, from + " BODY=8BITMIME SMTPUTF8", "555"},
		{"S43_SIZE", full, []string{ehloed}, from + " SIZE=512", "250"},
		{"S44_SIZE_invalid", full, []string{ehloed}, from + " SIZE=invalid", "501"},
		{"S45_MAIL_unknown_parameter", full, []string{ehloed}, from + " ham=green", "555"},
		{"S45_RCPT_unknown_parameter", full, []string{ehloed, from}, to + " ham=green", "555"},
		{"S46_SIZE_too_large", size, []string{ehloed}, from + " SIZE=33554433", "552"},
		{"S47_need_MAIL", full, []string{helloed}, to, "503"},
		{"S48_MAIL_syntax_HELO", full, []string{helloed}, "MAIL from eggs@example", "501 5.5.4 Syntax: MAIL FROM:<address>\r"},
		{"S49_MAIL_syntax_EHLO", full, []string{ehloed}, "MAIL from eggs@example", "501 5.5.4 Syntax: MAIL FROM:<address> [SP parameters]\r"},
		{"S50_MAIL_missing_address", full, []string{helloed}, "MAIL from:", "501"},
		{"S51_MAIL_chevrons", full, []string{helloed}, from, "250"},
		{"S52_MAIL_empty_chevrons", full, []string{ehloed}, "MAIL from:<>", "250"},
		{"S54_MAIL_quoted_no_chevrons", full, []string{ehloed}, `MAIL from: "Fred Blogs"@example.com`, "501"},        // Python: 250
		{"S56_MAIL_quoted_no_chevrons", full, []string{ehloed}, `MAIL from: "Fred Blogs"@example.com SIZE=9`, "501"}, // Python: 250
		{"S57_nested_MAIL", full, []string{helloed, from}, from, "503"},
		{"S58_VRFY", full, []string{helloed}, "VRFY eggs@example", "252"},
		{"S59_VRFY_syntax", full, []string{helloed}, "VRFY", "501"},
		{"S60_EXPN_not_implemented", &smtp.Server{Backend: bare{}}, []string{helloed}, "EXPN", "502"},
		{"S61_no_HELO_MAIL", full, nil, from, "503"},
		{"S62_need_RCPT", full, []string{helloed, from}, "DATA", "503"},
		{"S63_RCPT_syntax_HELO", full, []string{helloed, from}, "RCPT to eggs@example", "501 5.5.4 Syntax: RCPT TO:<address>\r"},
		{"S64_RCPT_syntax_EHLO", full, []string{ehloed, from}, "RCPT to eggs@example", "501 5.5.4 Syntax: RCPT TO:<address> [SP parameters]\r"},
		{"S65_RCPT_lower_case", full, []string{helloed, from}, "rcpt to:<spam@example>", "250"},
		{"S66_no_HELO_RCPT", full, nil, to, "503"},
		{"S68_DATA_syntax", full, []string{helloed, from, to}, "DATA spam", "501"},
		{"S69_no_HELO_DATA", full, nil, "DATA", "503"},
		{"S74_HELO_RSET", full, []string{helloed}, "RSET", "250"},
		{"S75_RSET_syntax", full, []string{helloed}, "RSET hi", "501"},
		{"S76_unknown_command", full, []string{helloed}, "UNKNOWN_CMD", "500"},
		{"S76_unknown_command_is_named", full, []string{helloed}, "UNKNOWN cmd", `500 5.5.2 Unknown command "UNKNOWN"`},
		{"S79_too_much_data", small, []string{helloed, from, to, "DATA", "data\r\nmore", "this is longer than that"}, ".", "552"},
		{"S84_SMTPUTF8", utf8, []string{ehloed}, "MAIL from:<na\xc3\xafve@example.com> BODY=8BITMIME SMTPUTF8", "250"},
		{"S87_exactly", wide, []string{ehloed}, exact(512+26+10, "SIZE=1 SMTPUTF8"), "250"},
		{"S87_one_more", wide, []string{ehloed}, exact(512+26+10+1, "SIZE=1 SMTPUTF8"), "500"},
	} {
		t.Run(tt.id, func(t *testing.T) {
			srv := &smtp.Server{Backend: tt.srv.Backend, Extensions: tt.srv.Extensions, Limits: tt.srv.Limits}
			s := newScene(t, sim.Config{}, srv)
			p := s.client()
			for _, line := range tt.before {
				p.Say(line + "\r\n")
			}
			p.Read()
			p.Say(tt.say + "\r\n")
			answer := strings.SplitAfter(p.Read(), "\r\n")
			require.GreaterOrEqual(t, len(answer), 2)
			require.True(t, strings.HasPrefix(answer[len(answer)-2], tt.want), "%q", answer)
		})
	}
}

// bare is a Backend without any hook.
type bare struct{}

func (bare) Begin(*smtp.Session, *smtp.Envelope) (smtp.Message, error) { return nil, nil }

// deliver sends a message and returns what came of it.
func (s *scene) deliver(p *sim.Peer, from, to, text, answer string) *mail {
	s.t.Helper()
	n := len(s.rec.mails)
	p.Say("MAIL FROM:" + from + "\r\n")
	for rcpt := range strings.SplitSeq(to, ",") {
		p.Say("RCPT TO:" + rcpt + "\r\n")
	}
	p.Say("DATA\r\n")
	s.Settle()
	require.Contains(s.t, p.Read(), "\r\n354 ")
	p.Say(text + "\r\n.\r\n")
	require.Regexp(s.t, "^"+answer, p.Read())
	if len(s.rec.mails) == n {
		return nil
	}
	return s.rec.mails[n]
}

func TestS7S8Listen(t *testing.T) {
	for network, addr := range map[string]string{"tcp6": "[::1]:25", "tcp4": "127.0.0.1:25"} {
		w := sim.New(sim.Config{T: t})
		loop := w.Loop(core.Options{})
		srv := &smtp.Server{Backend: new(recorder), Hostname: "mx.example.org"}
		l, err := srv.Listen(loop, network, addr)
		require.NoError(t, err)
		require.Equal(t, addr, l.Addr().String())
		loop.Close()
	}
}

// S14: the error of Listen is the caller's. S1: a server without a Backend is refused.
func TestS1S14BadServers(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{})
	_, err := (&smtp.Server{Backend: bare{}, Hostname: "x"}).Listen(s.loop, "tcp", address)
	require.Error(t, err, "the address is in use")
	for _, srv := range []*smtp.Server{
		{},
		{Backend: bare{}, Hostname: "bad name"},
		{Backend: bare{}, Extensions: []string{"pipelining"}},
		{Backend: bare{}, Extensions: []string{"BINARYMIME"}},
		{Backend: bare{}, Auth: &smtp.ServerAuth{}},
		{Backend: bare{}, Auth: &smtp.ServerAuth{Mechanisms: []smtp.ServerMechanism{{Name: "x"}}}},
	} {
		_, err := srv.Listen(s.loop, "tcp", "server:26")
		require.Error(t, err)
		sock, p := s.Pair()
		_, err = srv.Serve(s.loop, sock)
		require.Error(t, err)
		_ = sock.Close()
		p.WantClosed()
	}
	_, err = (&smtp.Server{Backend: bare{}}).ListenTLS(s.loop, "tcp", "server:465")
	require.Error(t, err)
}

func TestS16Accept(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{})
	s.client()
	require.Equal(t, []string{"connect"}, s.rec.log)
	require.Equal(t, 1, s.srv.Open())
}

func TestS42DefaultDataSizeLimit(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Limits: smtp.Limits{MessageSize: 1048}})
	p := s.hello()
	require.Nil(t, s.deliver(p, "<eggs@example>", "<spam@example>", strings.Repeat("A", 1047), "552"))
	require.NotNil(t, s.deliver(p, "<eggs@example>", "<spam@example>", strings.Repeat("A", 1046), "250"))
}

func TestS53S55QuotedLocalPart(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{})
	p := s.hello()
	m := s.deliver(p, ` <"Fred Blogs"@example.com>`, "<spam@example>", "", "250")
	require.Equal(t, smtp.Path{Local: "Fred Blogs", Domain: "example.com"}, m.envelope.From) // Python keeps the quotes
	require.Equal(t, `<"Fred Blogs"@example.com>`, m.envelope.From.String())
	m = s.deliver(p, ` <"Fred Blogs"@example.com> SIZE=1000`, "<spam@example>", "", "250")
	require.Equal(t, smtp.Params{"SIZE": "1000"}, m.envelope.Params)
}

// S67, S78: a dialog; S70: transparency; S71: recipients in order; S80, S81: the body is bytes, and its lines end in CRLF
// (Python: LF).
func TestS67S70S71S78S80S81Data(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Limits: smtp.Limits{MessageSize: 64}})
	p := s.client()
	p.Say("HELO example\r\n")
	p.Read()
	m := s.deliver(p, "<eggs@example>", "<spam@example>", "data\r\nmore", "250")
	require.Equal(t, "data\r\nmore\r\n", m.body())
	require.Equal(t, "eggs@example", m.envelope.From.Address())
	require.Equal(t, "192.0.2.2:49152", m.s.RemoteAddr().String())
	m = s.deliver(p, "<eggs@example>", "<spam@example>,<ham@example>", "..Line one\r\n..\r\nutf8 \xc3\xa4\xff", "250")
	require.Equal(t, ".Line one\r\n.\r\nutf8 \xc3\xa4\xff\r\n", m.body())
	require.Equal(t, "spam@example", m.envelope.To[0].Address())
	require.Equal(t, "ham@example", m.envelope.To[1].Address())
}

func TestS72ManualStatus(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{})
	s.rec.commit = func(*smtp.Session, *mail) error { return smtp.Replyf(250, "", "Custom status") }
	require.NotNil(t, s.deliver(s.hello(), "<eggs@example>", "<spam@example>", "x", "250 Custom status\r\n"))
}

func TestS73RSET(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{})
	p := s.hello()
	envelope(p)
	ask(p, "RSET", "250 2.0.0 Ok")
	m := s.deliver(p, "<foo@example>", "<eggs@example>", "x", "250")
	require.Equal(t, "foo@example", m.envelope.From.Address())
	require.Len(t, m.envelope.To, 1)
	require.Contains(t, s.rec.log, "reset")
}

// S85: the parameters are those of their message. S86: what is not ASCII comes as it was sent. S88: the limit of the
// command stays what it was.
func TestS85S86S88MessagesInARow(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{Extensions: []string{"SIZE", "8BITMIME", "SMTPUTF8"}, Limits: smtp.Limits{ExactCommandLine: true}})
	p := s.hello()
	for i := range 3 {
		m := s.deliver(p, "<eggs@example>", "<spam@example>", "x", "250")
		require.Empty(t, m.envelope.Params)
		pad := strings.Repeat(" ", 512+26+10+17-2-len("MAIL FROM:<n\xc3\xa4@b\xc3\xbc.example> SMTPUTF8 BODY=8BITMIME"))
		m = s.deliver(p, "<n\xc3\xa4@b\xc3\xbc.example>"+pad+" SMTPUTF8 BODY=8BITMIME", "<sp\xc3\xa4m@example>", fmt.Sprint("\xe2\x82\xac", i), "250")
		require.Equal(t, smtp.Params{"SMTPUTF8": "", "BODY": "8BITMIME"}, m.envelope.Params)
		require.Equal(t, "<n\xc3\xa4@b\xc3\xbc.example>", m.envelope.From.String())
		require.Equal(t, "sp\xc3\xa4m@example", m.envelope.To[0].Address())
		require.Equal(t, fmt.Sprint("\xe2\x82\xac", i, "\r\n"), m.body())
		require.Contains(t, m.text.String(), " with UTF8SMTP id ")
	}
	p.Say("MAIL FROM:<a@b>" + strings.Repeat(" ", 600) + "\r\n")
	require.Regexp(t, "^500 ", p.Read())
}

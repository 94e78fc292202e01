package smtp_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

func TestParsePath(t *testing.T) {
	for _, tt := range []struct {
		in   string
		utf8 bool
		want smtp.Path
		rest string
		err  error
	}{
		{in: "<>", want: smtp.Path{}},
		{in: "<> SIZE=1", rest: " SIZE=1"},
		{in: "<a@b>", want: smtp.Path{Local: "a", Domain: "b"}},
		{in: "<a.b+c@d-e.f>x", want: smtp.Path{Local: "a.b+c", Domain: "d-e.f"}, rest: "x"},
		{in: "<!#$%&'*+-/=?^_`{|}~@b>", want: smtp.Path{Local: "!#$%&'*+-/=?^_`{|}~", Domain: "b"}},
		{in: `<"a@b>"@c>`, want: smtp.Path{Local: "a@b>", Domain: "c"}},
		{in: `<"a\"\\\a"@c>`, want: smtp.Path{Local: `a"\a`, Domain: "c"}},
		{in: "<@x:a@b>", want: smtp.Path{Local: "a", Domain: "b"}},
		{in: "<@x,@y.z:a@b>", want: smtp.Path{Local: "a", Domain: "b"}},
		{in: "<PostMaster>", want: smtp.Path{Local: "PostMaster"}},
		{in: "<Postmaster@b>", want: smtp.Path{Local: "Postmaster", Domain: "b"}},
		{in: "<a@[192.0.2.1]>", want: smtp.Path{Local: "a", Domain: "[192.0.2.1]"}},
		{in: "<a@[ipv6:2001:db8::1]>", want: smtp.Path{Local: "a", Domain: "[ipv6:2001:db8::1]"}},
		{in: "<a@[X-y:z!]>", want: smtp.Path{Local: "a", Domain: "[X-y:z!]"}},
		{in: "<ä@ü.de>", utf8: true, want: smtp.Path{Local: "ä", Domain: "ü.de"}},
		{in: `<"ä b"@c>`, utf8: true, want: smtp.Path{Local: "ä b", Domain: "c"}},
		{in: "<ä@b>", err: smtp.ErrPathUTF8},
		{in: "<aä@b>", err: smtp.ErrPathUTF8},
		{in: "<a@ü.de>", err: smtp.ErrPathUTF8},
		{in: "<a@b.ü>", err: smtp.ErrPathUTF8},
		{in: `<"ä"@b>`, err: smtp.ErrPathUTF8},
		{in: "<\xff@b>", utf8: true, err: smtp.ErrPath},
		{in: "<a@b\xff>", utf8: true, err: smtp.ErrPath},
		{in: "", err: smtp.ErrPath}, {in: "a@b", err: smtp.ErrPath}, {in: "<", err: smtp.ErrPath}, {in: "<a@b", err: smtp.ErrPath},
		{in: "<a>", err: smtp.ErrPath}, {in: "<@b>", err: smtp.ErrPath}, {in: "<a@>", err: smtp.ErrPath}, {in: "<a@@b>", err: smtp.ErrPath},
		{in: "<.a@b>", err: smtp.ErrPath}, {in: "<a.@b>", err: smtp.ErrPath}, {in: "<a..b@c>", err: smtp.ErrPath}, {in: "<a b@c>", err: smtp.ErrPath},
		{in: "<a@b.>", err: smtp.ErrPath}, {in: "<a@.b>", err: smtp.ErrPath}, {in: "<a@-b>", err: smtp.ErrPath}, {in: "<a@b->", err: smtp.ErrPath},
		{in: "<a@b_c>", err: smtp.ErrPath}, {in: "<a@b c>", err: smtp.ErrPath}, {in: `<""@b>`, err: smtp.ErrPath}, {in: `<"a@b>`, err: smtp.ErrPath},
		{in: `<"a"b@c>`, err: smtp.ErrPath}, {in: "<\"a\nb\"@c>", err: smtp.ErrPath}, {in: "<\"a\\\nb\"@c>", err: smtp.ErrPath}, {in: `<"a\`, err: smtp.ErrPath},
		{in: "<a@[1.2.3]>", err: smtp.ErrPath}, {in: "<a@[1.2.3.4>", err: smtp.ErrPath}, {in: "<a@[IPv6:1.2.3.4]>", err: smtp.ErrPath},
		{in: "<a@[IPv6:fe80::1%eth0]>", err: smtp.ErrPath}, {in: "<a@[x-:y]>", err: smtp.ErrPath}, {in: "<a@[x y:z]>", err: smtp.ErrPath},
		{in: "<a@[x:y z]>", err: smtp.ErrPath}, {in: "<@x>", err: smtp.ErrPath}, {in: "<@x,y:a@b>", err: smtp.ErrPath}, {in: "<@x;a@b>", err: smtp.ErrPath},
		{in: "<@:a@b>", err: smtp.ErrPath}, {in: "<a@b\r\n>", err: smtp.ErrPath},
	} {
		p, rest, err := smtp.ParsePath(tt.in, tt.utf8)
		require.ErrorIs(t, err, tt.err, tt.in)
		require.Equal(t, tt.want, p, tt.in)
		if err == nil {
			require.Equal(t, tt.rest, rest, tt.in)
			require.Equal(t, p.Local == "" && p.Domain == "", p.IsNull())
		}
	}
	require.Empty(t, smtp.Path{}.Address())
	require.Equal(t, "postmaster", smtp.Path{Local: "postmaster"}.Address())
	_, err := smtp.ParseMailbox("a@b ", false)
	require.ErrorIs(t, err, smtp.ErrPath)
}

func TestParseParams(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want smtp.Params
		bad  bool
	}{
		{in: ""},
		{in: " ", want: nil},
		{in: " a=1  B", want: smtp.Params{"A": "1", "B": ""}},
		{in: " x-y=<>", want: smtp.Params{"X-Y": "<>"}},
		{in: "a", bad: true}, {in: " a=", bad: true}, {in: " =a", bad: true}, {in: " a a", bad: true}, {in: " a=b=c", bad: true},
		{in: " -a", bad: true}, {in: " a_b", bad: true}, {in: " a=\xc3\xa4", bad: true}, {in: " a=\x01", bad: true},
		{in: strings.Repeat(" a", 30), bad: true},
	} {
		params, err := smtp.ParseParams(tt.in, false)
		require.Equal(t, tt.bad, err != nil, tt.in)
		require.Equal(t, tt.want, params, tt.in)
	}
	params, err := smtp.ParseParams(" a=\xc3\xa4", true)
	require.NoError(t, err)
	require.Equal(t, smtp.Params{"A": "ä"}, params)
	many := ""
	for c := 'a'; c <= 'z'; c++ {
		many += " " + string(c)
	}
	_, err = smtp.ParseParams(many, true)
	require.ErrorIs(t, err, smtp.ErrParams)
}

// What is wrong with a message does not depend on how it comes, at every cut.
func TestBodyAtEveryCut(t *testing.T) {
	for text, answer := range map[string]string{
		"a\r\nb\r\n":                          "250",
		"":                                    "250",
		"\r\n":                                "250",
		"a\nb\x00":                            "550 5.5.2",
		"a\x00b\n":                            "550 5.6.0",
		"a\rb\x00\r\n":                        "550 5.5.2",
		"a\r\x00\r\n":                         "550 5.5.2",
		"\r\r\n":                              "550 5.5.2",
		"aaaaaaaaa\r\n":                       "554 5.6.0",
		"aaaaaaaa\r\n":                        "250",
		"aaaaaaaa\r\nbbbbbbbb\rX\n":           "550 5.5.2",
		"aaaaaaaa\r\nbbbbbbbb\r\ncccccc\r\nd": "552",
		"aaaaaaaa\r\nbbbbbbbb\r\ncccccc\r\n":  "250",
		"\r\nReceived: a\r\n":                 "554 5.6.0",
	} {
		limits := smtp.Limits{TextLine: 10, MessageSize: 28, Hops: 1, Errors: -1, Transactions: -1}
		s := newScene(t, sim.Config{}, &smtp.Server{Limits: limits})
		p := s.hello()
		for i := 0; i <= len(text); i++ {
			envelope(p)
			p.Say("BDAT " + string(rune('0'+i/10)) + string(rune('0'+i%10)) + "\r\n" + text[:i])
			p.Read()
			n := len(text) - i
			p.Say("BDAT " + string(rune('0'+n/10)) + string(rune('0'+n%10)) + " LAST\r\n" + text[i:])
			got := p.Read()
			require.True(t, strings.HasPrefix(got, answer), "%q after %d: %q", text, i, got)
			require.Zero(t, s.rec.open)
		}
	}
}

// AllowBare passes on what is no line end, and takes it for none.
func TestAllowBare(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{AllowBare: true, NoReceived: true})
	p := s.hello()
	m := s.deliver(p, "<a@b>", "<user@c>", "x\n.\ny\r.\r\nz\n.\r\n", "250")
	require.Equal(t, "x\n.\ny\r.\r\nz\n.\r\n\r\n", m.text.String())
	require.Nil(t, s.deliver(p, "<a@b>", "<user@c>", "x\x00", "550 5.6.0"))
}

// Received: where the message comes from, in all its forms.
func TestReceived(t *testing.T) {
	s := newScene(t, sim.Config{}, &smtp.Server{})
	s.Host("six", "2001:db8::1")
	l, err := s.srv.Listen(s.loop, "tcp6", "[::1]:25")
	require.NoError(t, err)
	defer l.Close()
	p := s.DialFrom("tcp6", "[2001:db8::1]:0", "[::1]:25")
	p.Say("EHLO [IPv6:2001:db8::1]\r\n")
	p.Read()
	m := s.deliver(p, "<a@b>", "<user@c>", "x", "250")
	require.Regexp(t, `^Received: from \[IPv6:2001:db8::1\] \(\[IPv6:2001:db8::1\]\)\r\n\tby mx\.example\.org with ESMTP id `, m.text.String())

	none := newScene(t, sim.Config{}, &smtp.Server{NoReceived: true})
	require.Equal(t, "x\r\n", none.deliver(none.hello(), "<a@b>", "<user@c>", "x", "250").text.String())

	lmtp := newScene(t, sim.Config{}, &smtp.Server{LMTP: true})
	sock, q := lmtp.UnixPair()
	_, err = lmtp.srv.Serve(lmtp.loop, sock)
	require.NoError(t, err)
	q.Say("LHLO local\r\n")
	q.Read()
	m = lmtp.deliver(q, "<a@b>", "<user@c>", "x", "250")
	require.Regexp(t, `^Received: from local\r\n\tby mx\.example\.org with LMTP id `, m.text.String())
}

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/protocols/room"
	"github.com/parley-go/parley/protocols/smtp"
)

func TestSubject(t *testing.T) {
	for text, want := range map[string]string{
		"Subject: lunch\r\n\r\nSubject: no\r\n":             "lunch",
		"From: a\r\nSUBJECT:  a\r\n\tb\r\n\r\n":             "a b",
		"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\n":      "Grüße",
		"Subject: =?utf-8?q?a=1B[2Jb=0D=0Ac?=\r\n\r\n":      "ab c",
		"Subject: =?x-unknown?q?abc?=\r\n\r\n":              "=?x-unknown?q?abc?=",
		"From: a\r\n\r\nhello\r\n":                          "(no subject)",
		"hello":                                             "(no subject)",
		"no header\r\n\r\n":                                 "(a message)",
		"Subject: cut\r\nX: " + strings.Repeat("x", 100):    "cut",
		"Subject: " + strings.Repeat("ü", 300) + "\r\n\r\n": strings.Repeat("ü", 200) + "…",
	} {
		require.Equal(t, want, subject([]byte(text)), "%q", text)
	}
}

func TestSender(t *testing.T) {
	for local, want := range map[string]string{
		"tim": "tim", "j.doe+x": "j-doe-x", "": "somebody", "<b>": "b", "üüü": "somebody", "--a": "a",
		strings.Repeat("x", 30): strings.Repeat("x", 20),
	} {
		name := sender(smtp.Path{Local: local, Domain: "example.org"})
		require.Equal(t, want, name)
		require.NoError(t, room.CheckName(name, 20))
	}
}

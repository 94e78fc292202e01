package smtp_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/protocols/smtp"
)

// What is read as an envelope is what would be written for it, and what is behind it is not looked at.
func FuzzRelayEnvelope(f *testing.F) {
	for _, s := range []string{
		"Parley-Queue: 1\nTime: 2000-01-01T00:00:00Z\nID: DBZKPC00.1.1\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\n\n",
		"Parley-Queue: 1\nTime: 2000-01-01T00:00:00.123456789Z\nID: X.Q1\nMAIL FROM:<> ENVID=x+20y RET=HDRS\nRCPT TO:<Postmaster> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;c@d\nRCPT TO:<\"a b\"@[192.0.2.1]>\n\nSubject: x\r\n\r\n",
		"Parley-Queue: 1\nTime: 2000-01-01T00:00:00Z\nID: 1\nMAIL FROM:<\u00e4@\u00f6> SMTPUTF8\nRCPT TO:<\u00fc@\u00df>\n\n",
		"Parley-Queue: 2\n\n", "Subject: x\r\n\r\n", "\n\n", "",
		"Parley-Queue: 1\nTime: 2000-01-01T00:00:00+01:00\nID: 1\nMAIL FROM:<@x:a@b>  X\nRCPT TO:<c@d>\n\n",
		"Parley-Queue: 1\nTime: 2000-01-01T00:00:00Z\nID: 1\nMAIL FROM:<a@b>\n\n",
		"Parley-Queue: 1\nTime: 2000-01-01T00:00:00Z\nID: 1\nMAIL FROM:<a@b>\nRCPT TO:<>\n\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		head, err := smtp.ReadHead(io.NewSectionReader(bytes.NewReader(file), 0, int64(len(file))))
		if err != nil {
			return
		}
		require.True(t, bytes.HasPrefix(file, head))
		require.Equal(t, 1, bytes.Count(head, []byte("\n\n")))
		back, err := smtp.ParseHead(head)
		if err == nil {
			require.Equal(t, string(head), string(back))
		}
	})
}

// The same for notes.
func FuzzRelayNote(f *testing.F) {
	for _, s := range []string{"Parley-Done: 1\n", "Parley-Done: 1\n0\n2\n", "Parley-Done: 1\n2\n0\n", "Parley-Done: 1\n3\n", "Parley-Done: 1\n-1\n", "Parley-Done: 1\n00\n", "Parley-Done: 1\n0\n0\n", "x", "Parley-Done: 1\n1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, note []byte) {
		back, err := smtp.ParseNote(3, note)
		if err != nil || len(note) == 0 {
			return
		}
		again, err := smtp.ParseNote(3, back)
		require.NoError(t, err)
		require.Equal(t, string(back), string(again))
		require.Len(t, back, len(note))
	})
}

// What is taken reads back as it was.
func FuzzRelayQueued(f *testing.F) {
	f.Add("a", "b", "c d", "e", "ENVID", "x+20y", "X.1")
	f.Add("", "", "postmaster", "", "RET", "HDRS", "X.1")
	f.Add("a\n", "b", "c", "d\nRCPT TO:<x@y>", "A\nB", "x\ny", "X\n")
	f.Fuzz(func(t *testing.T, local, domain, toLocal, toDomain, key, value, id string) {
		e := &smtp.Envelope{
			From: smtp.Path{Local: local, Domain: domain}, Params: smtp.Params{key: value},
			To: []smtp.Recipient{{Path: smtp.Path{Local: toLocal, Domain: toDomain}, Params: smtp.Params{key: value}}, {Path: smtp.Path{Local: "x", Domain: "y"}}},
		}
		head, err := smtp.MakeHead(id, time.Unix(1e9, 5), e)
		if err != nil {
			return
		}
		got, err := smtp.ReadEnvelope(head)
		require.NoError(t, err, "%q", head)
		require.Equal(t, e.From, got.From)
		require.Equal(t, e.To, got.To)
		if key != "SIZE" && key != "AUTH" {
			require.Equal(t, e.Params, got.Params)
		}
	})
}

package main

import (
	"bytes"
	"mime"
	"net/mail"
	"os"
	"strings"

	"github.com/parley-go/parley/protocols/mailbox"
	"github.com/parley-go/parley/protocols/room"
	"github.com/parley-go/parley/protocols/smtp"
)

// mostHeader is how much of a message is looked at for its Subject.
const mostHeader = 16 << 10

// notices is a Backend that delivers into a Maildir, and has a notice of each message in the room.
type notices struct {
	smtp.Maildir
	house   *room.House
	headers map[*smtp.Session]*header // of the message that came in last
}

func newNotices(dir string, house *room.House) (*notices, error) {
	box, err := mailbox.OpenMaildir(dir)
	if err != nil {
		return nil, err
	}
	return &notices{smtp.Maildir{Box: box}, house, make(map[*smtp.Session]*header)}, nil
}

// header is a Message, the beginning of which is kept.
type header struct {
	smtp.Message
	begin bytes.Buffer
}

// Begin begins a message.
func (n *notices) Begin(s *smtp.Session, e *smtp.Envelope) (smtp.Message, error) {
	m, err := n.Maildir.Begin(s, e)
	if m == nil {
		return nil, err
	}
	h := &header{Message: m}
	n.headers[s] = h
	return h, err
}

func (h *header) Write(p []byte) (int, error) {
	h.begin.Write(p[:min(len(p), mostHeader-h.begin.Len())])
	return h.Message.Write(p)
}

// HandleAccepted: the message is on the disk.
func (n *notices) HandleAccepted(s *smtp.Session, e *smtp.Envelope) {
	_ = n.house.Post(n.house.Config().Lobby, sender(e.From), "mail", subject(n.headers[s].begin.Bytes()))
}

// HandleQuit: the session is over.
func (n *notices) HandleQuit(s *smtp.Session, _ error) { delete(n.headers, s) }

// subject is the Subject of a message.
func subject(text []byte) string {
	if head, _, whole := bytes.Cut(text, []byte("\r\n\r\n")); whole {
		text = head
	} else { // more than is kept: up to the last whole line
		text = text[:bytes.LastIndexByte(text, '\n')+1]
	}
	m, err := mail.ReadMessage(bytes.NewReader(append(bytes.Clone(text), "\r\n\r\n"...)))
	if err != nil {
		return "(a message)"
	}
	s := m.Header.Get("Subject")
	if decoded, err := new(mime.WordDecoder).DecodeHeader(s); err == nil {
		s = decoded
	}
	if s = room.Clean(s); strings.TrimSpace(s) == "" {
		return "(no subject)"
	}
	const most = 200
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return s
}

// sender is what the room calls somebody who sent a mail: what of the local part can be a name.
func sender(from smtp.Path) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		case r == '.' || r == '+' || r == '-' || r == '_':
			return '-'
		}
		return -1
	}, from.Local)
	name = strings.TrimLeft(name[:min(len(name), 20)], "-")
	if name == "" {
		return "somebody"
	}
	return name
}

// mailDir is where the mail goes: a new folder, if none was asked for.
func mailDir(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	return os.MkdirTemp("", "parley-mail-")
}

package smtp

import (
	"net"
	"net/netip"
	"strings"
	"time"
)

// received is the Received field of a message: RFC 5321 section 4.4, and RFC 3848, 6531 section 4.3 for the words behind
// "with". What the client said in it was looked at when it said so.
func (s *Session) received() []byte {
	var b strings.Builder
	b.WriteString("Received: from ")
	b.WriteString(s.hello)
	if a := addressLiteral(s.RemoteAddr()); a != "" {
		b.WriteString(" (" + a + ")")
	}
	b.WriteString("\r\n\tby " + s.srv.hostname + " with " + s.protocol() + " id " + s.ID() + ";\r\n\t")
	b.WriteString(s.c.Loop().Now().Format(time.RFC1123Z))
	b.WriteString("\r\n")
	return []byte(b.String())
}

// protocol is how the message came.
func (s *Session) protocol() string {
	p := "SMTP"
	switch {
	case s.srv.LMTP:
		p = "LMTP"
	case s.tx.utf8:
	case s.esmtp:
		p = "ESMTP"
	}
	if s.tx.utf8 {
		p = "UTF8" + p
	}
	if s.tls != nil {
		p += "S"
	}
	if s.user != "" {
		p += "A"
	}
	return p
}

// addressLiteral is an address as RFC 5321 section 4.1.3 has it; "" if it is none of the Internet's.
func addressLiteral(a net.Addr) string {
	if a == nil {
		return ""
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return ""
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is6() {
		return "[IPv6:" + ip.String() + "]"
	}
	return "[" + ip.String() + "]"
}

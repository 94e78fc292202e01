package smtp

import (
	"net"
	"net/netip"
	"time"
)

// appendReceived appends the Received field of a message: RFC 5321 section 4.4, and RFC 3848, 6531 section 4.3 for the words
// behind "with". What the client said in it was looked at when it said so.
func (s *Session) appendReceived(p []byte) []byte {
	p = append(append(p, "Received: from "...), s.hello...)
	bare := len(p)
	p = append(p, " ("...)
	if literal := appendLiteral(p, s.RemoteAddr()); len(literal) > len(p) {
		p = append(literal, ')')
	} else {
		p = p[:bare]
	}
	p = append(append(p, "\r\n\tby "...), s.srv.hostname...)
	p = s.appendProtocol(append(p, " with "...))
	p = append(append(p, " id "...), s.ID()...)
	p = s.c.Loop().Now().AppendFormat(append(p, ";\r\n\t"...), time.RFC1123Z)
	return append(p, "\r\n"...)
}

// appendProtocol appends how the message came.
func (s *Session) appendProtocol(p []byte) []byte {
	if s.tx.utf8 {
		p = append(p, "UTF8"...)
	}
	switch {
	case s.srv.LMTP:
		p = append(p, "LMTP"...)
	case s.esmtp && !s.tx.utf8:
		p = append(p, "ESMTP"...)
	default:
		p = append(p, "SMTP"...)
	}
	if s.tls != nil {
		p = append(p, 'S')
	}
	if s.user != "" {
		p = append(p, 'A')
	}
	return p
}

// appendLiteral appends an address as RFC 5321 section 4.1.3 has it; nothing if it is none of the Internet's.
func appendLiteral(p []byte, a net.Addr) []byte {
	var ip netip.Addr
	switch a := a.(type) {
	case nil:
	case interface{ AddrPort() netip.AddrPort }:
		ip = a.AddrPort().Addr()
	default:
		if ap, err := netip.ParseAddrPort(a.String()); err == nil {
			ip = ap.Addr()
		}
	}
	if !ip.IsValid() {
		return p
	}
	ip = ip.Unmap().WithZone("")
	p = append(p, '[')
	if ip.Is6() {
		p = append(p, "IPv6:"...)
	}
	return append(ip.AppendTo(p), ']')
}

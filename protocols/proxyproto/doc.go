// Package proxyproto lets a server behind a proxy know its clients: the PROXY protocol of HAProxy, versions 1 and 2. The
// proxy (HAProxy, nginx, a load balancer of a cloud, an SMTP front) opens a connection for each client and sends a header
// in front of everything else, which says who the client is. The specification is HAProxy's doc/proxy-protocol.txt.
//
//	lc := new(core.ListenConfig)
//	lc.Listen(loop, "tcp", ":25", proxyproto.Accept(newHandler, proxyproto.Options{
//		From: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
//	}))
//
// The parts:
//
//   - [Accept] is chat.Accept for such connections: the conversation begins when the header is there. So what newHandler
//     pushes is not sent before, and what Conn.RemoteAddr answers is the client's address from the beginning.
//   - [Layer] is the core.Layered socket below it, for channels of other packages. After the header it passes everything
//     through. [From] finds the [Header] of a socket: chat.Conn.Core().Socket().
//   - [Parse] is the parser, a pure func. [AppendV1] and [AppendV2] make headers, for clients and for tests.
//
// # Whom to believe
//
// Whoever can send a header can be anybody. Options.From says which machines are proxies; a connection from elsewhere is
// closed before anything is read from it. On a listener that expects headers a connection without one is closed as well:
// it is never guessed whether there is one, as the specification demands (section 5). A server that is reached both ways
// listens on two addresses.
//
// A listener's core.Limit.PerAddr counts the addresses of the connections, which are the proxies' here. Leave it 0 and
// use Options.PerClient, which counts by what the headers say.
//
// # What is read
//
// Version 1 exactly as it is specified, and nothing else: single spaces, no leading zeros, no signs, CR LF, addresses of
// the family that is named. In IPv6 addresses the last 32 bits may be written as an IPv4 address (RFC 5952 section 5), as
// inet_ntop does. Of version 2 PROXY and LOCAL; IPv4, IPv6, unix and unspecified; streams and datagrams. TLVs that are
// known here become fields of the Header, a CRC32C is verified, further TLVs are kept as they are; one that has a meaning
// and occurs twice, or one that does not end where the header ends, is an error. In LOCAL and with an unspecified family or
// protocol the whole block behind the first 16 bytes is dropped.
//
// A header may come in any number of pieces, until Options.Timeout. It is read without taking a byte of what follows it: a
// TLS handshake behind it needs no special care. A channel above a Layer cannot be taken off its loop by Detach.
package proxyproto

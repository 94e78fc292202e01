package proxyproto

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/parley-go/parley/core"
)

// Causes with which a channel closes whose header did not come.
var (
	// ErrHeader: what came is no header, or one that is not right, or too long; what is wrong is wrapped with it.
	ErrHeader = errors.New("proxyproto: bad header")

	// ErrTimeout: the header took too long. It is a core.ErrTimeout, too.
	ErrTimeout = fmt.Errorf("proxyproto: header: %w", core.ErrTimeout)

	// ErrUntrusted: the connection is not from one of Options.From.
	ErrUntrusted = errors.New("proxyproto: not a trusted proxy")

	// ErrTooMany: the client has Options.PerClient conversations open already.
	ErrTooMany = errors.New("proxyproto: too many connections of one client")
)

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrHeader}, args...)...)
}

// Header is what a proxy says about a connection. Its strings are the proxy's, and some of them the client's, as they came:
// quote them in logs.
type Header struct {
	// Version is 1 or 2. AppendV2 does not look at it.
	Version int

	// Local tells that nobody is behind the connection but the proxy itself: a health check. (LOCAL, version 2 only.)
	Local bool

	// Network is "tcp", "udp", "unix" or "unixgram", "" if the proxy does not say who the client is: then Source and
	// Destination are zero, and the connection's own addresses hold.
	Network string

	// Source is the client, Destination what it connected to. An abstract unix socket has a Path with an @ in front.
	Source, Destination core.Endpoint

	// Version 2 only. ALPN is the protocol that client and proxy agreed on, Authority the host that the client asked for
	// (SNI), UniqueID the proxy's name for the connection, at most MaxUniqueID octets; NetNS a name space of the proxy's
	// machine; SSL what the client's TLS was like, nil if the proxy does not say.
	ALPN      string
	Authority string
	UniqueID  string
	NetNS     string
	SSL       *SSL

	// TLVs are those without a field here, in their order; of a cloud, for instance.
	TLVs []TLV

	// Checksum tells that there was a CRC32C, which was right; AppendV2 adds one.
	Checksum bool
}

// SSL is what the proxy says about the client's TLS, if the client came by TLS and the proxy ended it.
type SSL struct {
	// Secure: the client uses TLS. CertConn: it showed a certificate on this connection; CertSession: at least once in
	// the TLS session that this connection belongs to.
	Secure, CertConn, CertSession bool

	// Verify is 0 if the certificate was verified; otherwise it is the proxy's reason. Some proxies also say 0 if there is
	// none: see Verified.
	Verify uint32

	// Version is that of TLS, CommonName the client certificate's, Cipher the name of the cipher, SigAlg and KeyAlg the
	// algorithms of the proxy's certificate. "" if the proxy does not say.
	Version, CommonName, Cipher, SigAlg, KeyAlg string
}

// Verified tells whether the client has a certificate that the proxy verified.
func (s *SSL) Verified() bool { return s != nil && (s.CertConn || s.CertSession) && s.Verify == 0 }

// TLV is a further piece of a header. Types from 0xE0 to 0xEF belong to applications.
type TLV struct {
	Type  byte
	Value string
}

// The types: section 2.2 of the specification.
const (
	typeALPN      = 0x01
	typeAuthority = 0x02
	typeCRC32C    = 0x03
	typeNoop      = 0x04
	typeUniqueID  = 0x05
	typeSSL       = 0x20
	typeNetNS     = 0x30

	subVersion = 0x21
	subCN      = 0x22
	subCipher  = 0x23
	subSigAlg  = 0x24
	subKeyAlg  = 0x25

	clientSSL      = 0x01
	clientCertConn = 0x02
	clientCertSess = 0x04
)

// MaxUniqueID is how long a UniqueID can be.
const MaxUniqueID = 128

// known tells whether the header says who the client is.
func (h *Header) known() bool { return h != nil && h.Network != "" }

// client is the client's IP address; invalid if the header does not say one.
func (h *Header) client() netip.Addr {
	if !h.known() {
		return netip.Addr{}
	}
	return h.Source.AddrPort.Addr().Unmap()
}

// netAddr is an address as package net has it. An IPv4 address is one, whichever family it was sent in.
func netAddr(network string, e core.Endpoint) net.Addr {
	ip := netip.AddrPortFrom(e.AddrPort.Addr().Unmap(), e.AddrPort.Port())
	switch network {
	case "tcp":
		return net.TCPAddrFromAddrPort(ip)
	case "udp":
		return net.UDPAddrFromAddrPort(ip)
	}
	return &net.UnixAddr{Name: e.Path, Net: network}
}

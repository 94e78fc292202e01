package proxyproto

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/parley-go/parley/core"
)

// AppendV1 appends a header of version 1 for a TCP connection. If one of the addresses is an IPv6 one, so is the other; if
// one is missing, the header is that of an unknown client.
func AppendV1(b []byte, source, destination netip.AddrPort) []byte {
	from, to := source.Addr().Unmap(), destination.Addr().Unmap()
	if !from.IsValid() || !to.IsValid() {
		return append(b, "PROXY UNKNOWN\r\n"...)
	}
	family := "TCP4"
	if from.Is6() || to.Is6() {
		family, from, to = "TCP6", as16(from), as16(to)
	}
	return fmt.Appendf(b, "PROXY %s %s %s %d %d\r\n", family, from, to, source.Port(), destination.Port())
}

// as16 is an address as one of IPv6.
func as16(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }

// AppendV2 appends a header of version 2. With h.Local, or without h.Network, there are no addresses and nothing else.
// The TLVs of h.TLVs stand behind those that have fields. Errors: a network that there is not, addresses that are not of it,
// fields or a header that are too long.
func AppendV2(b []byte, h *Header) ([]byte, error) {
	start := len(b)
	b = append(b, signature...)
	if h.Local || h.Network == "" {
		command := byte(0x21)
		if h.Local {
			command = 0x20
		}
		return append(b, command, 0, 0, 0), nil
	}
	family, addrs, err := h.addresses()
	if err != nil {
		return b[:start], err
	}
	b = append(b, 0x21, family, 0, 0)
	b = append(b, addrs...)
	if len(h.UniqueID) > MaxUniqueID {
		return b[:start], fmt.Errorf("proxyproto: a unique id of %d octets", len(h.UniqueID))
	}
	list := []TLV{{typeALPN, h.ALPN}, {typeAuthority, h.Authority}, {typeUniqueID, h.UniqueID}, {typeNetNS, h.NetNS}}
	for _, t := range list {
		if t.Value != "" {
			b = appendTLV(b, t)
		}
	}
	if h.SSL != nil {
		b = appendTLV(b, TLV{typeSSL, h.SSL.value()})
	}
	for _, t := range h.TLVs {
		if t.Type == typeNoop || hasMeaning(t.Type) {
			return b[:start], fmt.Errorf("proxyproto: TLVs has one of type %#02x, which has a meaning", t.Type)
		}
		b = appendTLV(b, t)
	}
	sum := len(b) + 3
	if h.Checksum {
		b = appendTLV(b, TLV{typeCRC32C, "\x00\x00\x00\x00"})
	}
	n := len(b) - start - fixedV2
	if n > 0xffff { // then some value was too long, or all together
		return b[:start], fmt.Errorf("proxyproto: a header of %d bytes", n+fixedV2)
	}
	binary.BigEndian.PutUint16(b[start+fixedV2-2:], uint16(n))
	if h.Checksum {
		binary.BigEndian.PutUint32(b[sum:], checksum(b[start:], sum-start))
	}
	return b, nil
}

func appendTLV(b []byte, t TLV) []byte {
	b = append(b, t.Type, byte(len(t.Value)>>8), byte(len(t.Value)))
	return append(b, t.Value...)
}

func (s *SSL) value() string {
	var client byte
	if s.Secure {
		client |= clientSSL
	}
	if s.CertConn {
		client |= clientCertConn
	}
	if s.CertSession {
		client |= clientCertSess
	}
	b := binary.BigEndian.AppendUint32([]byte{client}, s.Verify)
	for kind := byte(subVersion); kind <= subKeyAlg; kind++ {
		if v := *s.sub(kind); v != "" {
			b = appendTLV(b, TLV{kind, v})
		}
	}
	return string(b)
}

// addresses is the byte of the family, and the block of the addresses.
func (h *Header) addresses() (family byte, block []byte, err error) {
	from, to := h.Source.AddrPort.Addr(), h.Destination.AddrPort.Addr()
	switch h.Network {
	case "tcp", "udp":
		if !from.IsValid() || !to.IsValid() {
			return 0, nil, fmt.Errorf("proxyproto: %s without addresses", h.Network)
		}
		family = 0x10
		if from.Is6() || to.Is6() {
			family, from, to = 0x20, as16(from), as16(to)
		}
		block = append(from.AsSlice(), to.AsSlice()...)
		block = binary.BigEndian.AppendUint16(block, h.Source.AddrPort.Port())
		block = binary.BigEndian.AppendUint16(block, h.Destination.AddrPort.Port())
	case "unix", "unixgram":
		family = 0x30
		block = make([]byte, 2*unixPath)
		for i, e := range []core.Endpoint{h.Source, h.Destination} {
			p := e.Path
			abstract := strings.HasPrefix(p, "@")
			if len(p) > unixPath || !abstract && strings.Contains(p, "\x00") {
				return 0, nil, fmt.Errorf("proxyproto: path %q", p)
			}
			copy(block[i*unixPath:], p)
			if abstract {
				block[i*unixPath] = 0
			}
		}
	default:
		return 0, nil, fmt.Errorf("proxyproto: there is no network %q", h.Network)
	}
	family |= 1
	if h.Network == "udp" || h.Network == "unixgram" {
		family ^= 3
	}
	return family, block, nil
}

package proxyproto

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"strconv"
	"strings"

	"github.com/parley-go/parley/core"
)

const (
	// MaxV1 is the longest header of version 1, with its CR LF.
	MaxV1 = 107

	// DefaultMaxV2 bounds a header of version 2 unless told otherwise: what fits the smallest packet of TCP.
	DefaultMaxV2 = 536

	begin     = "PROXY " // of version 1
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	fixedV2   = len(signature) + 4
	unixPath  = 108
)

// Parse reads the header at the beginning of p. With a header, n is its length. With an error, which is an ErrHeader, no
// input that begins with p has one. Otherwise more bytes are needed, and n is how many there have to be at least, with those
// in p: so many can be received without taking what follows the header. maxV2 bounds a header of version 2;
// DefaultMaxV2 if it is not positive.
func Parse(p []byte, maxV2 int) (h *Header, n int, err error) {
	switch {
	case len(p) == 0:
		return nil, shortestV1, nil
	case p[0] == signature[0]:
		if maxV2 <= 0 {
			maxV2 = DefaultMaxV2
		}
		return parseV2(p, maxV2)
	}
	return parseV1(p)
}

// field is one of the four behind the protocol of version 1.
type field struct {
	least int               // bytes
	part  func(string) bool // can it become one?
	whole func(string) bool // is it one?
}

var (
	ipv4 = field{len("0.0.0.0"), charset("0123456789.", len("255.255.255.255")), func(s string) bool {
		a, err := netip.ParseAddr(s) // knows of no leading zeros
		return err == nil && a.Is4()
	}}
	ipv6 = field{len("::"), charset("0123456789abcdefABCDEF:.", len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")), func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is6() && a.Zone() == ""
	}}
	port = field{len("0"), func(s string) bool { return s == "" || goodPort(s) }, goodPort}

	lines = map[string][]field{
		"TCP4":    {ipv4, ipv4, port, port},
		"TCP6":    {ipv6, ipv6, port, port},
		"UNKNOWN": {},
	}
)

var shortestV1 = least("UNKNOWN")

// least is how long a header with this protocol is at least.
func least(protocol string) int { return len(begin+protocol) + missing(lines[protocol]) }

// missing is how many bytes these fields take at least, with the spaces before them and the end of the line.
func missing(fields []field) int {
	n := len("\r\n")
	for _, f := range fields {
		n += 1 + f.least
	}
	return n
}

func charset(of string, longest int) func(string) bool {
	return func(s string) bool { return len(s) <= longest && strings.Trim(s, of) == "" }
}

// goodPort: decimal, without sign and leading zeros.
func goodPort(s string) bool {
	if len(s) > 1 && s[0] == '0' || !charset("0123456789", 5)(s) {
		return false
	}
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// parseV1: section 2.1 of the specification.
func parseV1(p []byte) (*Header, int, error) {
	end := bytes.IndexAny(p, "\r\n")
	switch {
	case end < 0 && len(p) > MaxV1-2, end > MaxV1-2:
		return nil, 0, bad("no line of %d bytes", MaxV1)
	case end < 0:
		n, err := partOfLine(string(p))
		return nil, n, err
	case p[end] == '\n':
		return nil, 0, bad("LF without CR")
	}
	h, err := parseLine(string(p[:end]))
	switch {
	case err != nil:
		return nil, 0, err
	case len(p) == end+1:
		return nil, end + 2, nil
	case p[end+1] != '\n':
		return nil, 0, bad("CR without LF")
	}
	return h, end + 2, nil
}

// partOfLine looks at a line whose end has not come, and returns how long the header is at least.
func partOfLine(line string) (n int, err error) {
	if len(line) <= len(begin) {
		if !strings.HasPrefix(begin, line) {
			return 0, badBegin(line)
		}
		return shortestV1, nil
	}
	protocol, rest, more := strings.Cut(strings.TrimPrefix(line, begin), " ")
	if !more {
		return partOfProtocol(line, protocol)
	}
	fields, err := fieldsOf(line, protocol)
	if err != nil || protocol == "UNKNOWN" {
		return len(line) + len("\r\n"), err
	}
	parts := strings.Split(rest, " ")
	if len(parts) > len(fields) {
		return 0, bad("more than %d fields behind %s", len(fields), protocol)
	}
	last := len(parts) - 1
	for i, part := range parts {
		if i < last && !fields[i].whole(part) || !fields[i].part(part) {
			return 0, bad("field %q", part)
		}
	}
	return len(line) + max(fields[last].least-len(parts[last]), 0) + missing(fields[last+1:]), nil
}

// partOfProtocol is partOfLine where the line ends in the protocol.
func partOfProtocol(line, protocol string) (n int, err error) {
	for name := range lines {
		if strings.HasPrefix(name, protocol) && (n == 0 || least(name) < n) {
			n = least(name)
		}
	}
	if n == 0 || !strings.HasPrefix(line, begin) {
		return 0, badBegin(line)
	}
	return n, nil
}

func badBegin(line string) error { return bad("it begins with %q", line[:min(len(line), 20)]) }

func fieldsOf(line, protocol string) ([]field, error) {
	fields, ok := lines[protocol]
	if !ok || !strings.HasPrefix(line, begin) {
		return nil, badBegin(line)
	}
	return fields, nil
}

// parseLine reads a line without its CR LF.
func parseLine(line string) (*Header, error) {
	protocol, rest, _ := strings.Cut(strings.TrimPrefix(line, begin), " ")
	fields, err := fieldsOf(line, protocol)
	if err != nil {
		return nil, err
	}
	h := &Header{Version: 1}
	if protocol == "UNKNOWN" { // whatever follows is to be ignored
		return h, nil
	}
	parts := strings.Split(rest, " ")
	if len(parts) != len(fields) {
		return nil, bad("%d fields behind %s", len(parts), protocol)
	}
	for i, part := range parts {
		if !fields[i].whole(part) {
			return nil, bad("field %q", part)
		}
	}
	h.Network = "tcp"
	h.Source.AddrPort = addrPort(parts[0], parts[2])
	h.Destination.AddrPort = addrPort(parts[1], parts[3])
	return h, nil
}

// addrPort is for what was looked at already.
func addrPort(ip, port string) netip.AddrPort {
	n, _ := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(n))
}

// families are the byte of family and protocol.
var families = map[byte]struct {
	network string
	addr    int // bytes of an address without its port
}{
	0x11: {"tcp", 4}, 0x12: {"udp", 4},
	0x21: {"tcp", 16}, 0x22: {"udp", 16},
	0x31: {"unix", unixPath}, 0x32: {"unixgram", unixPath},
}

// parseV2: section 2.2 of the specification.
func parseV2(p []byte, limit int) (*Header, int, error) {
	if s := p[:min(len(p), len(signature))]; !strings.HasPrefix(signature, string(s)) {
		return nil, 0, bad("it begins with %q", s)
	}
	at := len(signature)
	local := false
	if len(p) > at {
		switch p[at] {
		case 0x20:
			local = true
		case 0x21:
		default:
			return nil, 0, bad("version and command %#02x", p[at])
		}
	}
	if len(p) > at+1 && !local && (p[at+1]>>4 > 3 || p[at+1]&15 > 2) {
		return nil, 0, bad("family and protocol %#02x", p[at+1])
	}
	if len(p) < fixedV2 {
		return nil, fixedV2, nil
	}
	n := fixedV2 + int(binary.BigEndian.Uint16(p[at+2:]))
	family, known := families[p[at+1]]
	known = known && !local
	addrs := 2 * family.addr
	if family.addr != unixPath {
		addrs += 4
	}
	switch {
	case n > limit:
		return nil, 0, bad("%d bytes", n)
	case known && n < fixedV2+addrs:
		return nil, 0, bad("%d bytes are too few for the addresses", n)
	case len(p) < n:
		return nil, n, nil
	}
	h := &Header{Version: 2, Local: local}
	if !known {
		return h, n, nil
	}
	h.Network = family.network
	h.Source, h.Destination = endpoints(p[fixedV2:], family.addr)
	if err := h.parseTLVs(p[:n], fixedV2+addrs); err != nil {
		return nil, 0, err
	}
	return h, n, nil
}

func endpoints(p []byte, size int) (source, destination core.Endpoint) {
	if size == unixPath {
		return core.Endpoint{Path: path(p[:size])}, core.Endpoint{Path: path(p[size : 2*size])}
	}
	from, _ := netip.AddrFromSlice(p[:size])
	to, _ := netip.AddrFromSlice(p[size : 2*size])
	source.AddrPort = netip.AddrPortFrom(from, binary.BigEndian.Uint16(p[2*size:]))
	destination.AddrPort = netip.AddrPortFrom(to, binary.BigEndian.Uint16(p[2*size+2:]))
	return source, destination
}

// path reads sun_path: a name that ends at the first NUL, or an abstract one, which begins with it.
func path(p []byte) string {
	if p[0] == 0 {
		name := bytes.TrimRight(p[1:], "\x00")
		if len(name) == 0 {
			return ""
		}
		return "@" + string(name)
	}
	name, _, _ := bytes.Cut(p, []byte{0})
	return string(name)
}

// eachTLV calls f for each of the TLVs that p consists of. A type that has a meaning occurs once: two could contradict each
// other.
func eachTLV(p []byte, meaning func(kind byte) bool, f func(kind byte, value []byte) error) error {
	var seen [256]bool
	for len(p) > 0 {
		if len(p) < 3 || len(p)-3 < int(binary.BigEndian.Uint16(p[1:])) {
			return bad("a TLV goes beyond its end")
		}
		kind, value := p[0], p[3:3+int(binary.BigEndian.Uint16(p[1:]))]
		p = p[3+len(value):]
		if seen[kind] && meaning(kind) {
			return bad("two TLVs of type %#02x", kind)
		}
		seen[kind] = true
		if err := f(kind, value); err != nil {
			return err
		}
	}
	return nil
}

// hasMeaning tells whether TLVs of this type become fields.
func hasMeaning(kind byte) bool {
	switch kind {
	case typeALPN, typeAuthority, typeCRC32C, typeUniqueID, typeSSL, typeNetNS:
		return true
	}
	return false
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseTLVs reads those that begin at an offset of the header.
func (h *Header) parseTLVs(header []byte, at int) error {
	return eachTLV(header[at:], hasMeaning, func(kind byte, v []byte) error {
		at += 3
		defer func() { at += len(v) }()
		switch kind {
		case typeNoop:
		case typeALPN:
			h.ALPN = string(v)
		case typeAuthority:
			h.Authority = string(v)
		case typeNetNS:
			h.NetNS = string(v)
		case typeUniqueID:
			if len(v) > MaxUniqueID {
				return bad("a unique id of %d octets", len(v))
			}
			h.UniqueID = string(v)
		case typeCRC32C:
			if len(v) != 4 {
				return bad("a checksum of %d octets", len(v))
			}
			if binary.BigEndian.Uint32(v) != checksum(header, at) {
				return bad("wrong checksum")
			}
			h.Checksum = true
		case typeSSL:
			return h.parseSSL(v)
		default:
			h.TLVs = append(h.TLVs, TLV{kind, string(v)})
		}
		return nil
	})
}

// checksum is that of a header with zeros where the checksum stands.
func checksum(header []byte, at int) uint32 {
	sum := crc32.Update(0, castagnoli, header[:at])
	sum = crc32.Update(sum, castagnoli, make([]byte, 4))
	return crc32.Update(sum, castagnoli, header[at+4:])
}

func (h *Header) parseSSL(p []byte) error {
	if len(p) < 5 {
		return bad("TLS in %d octets", len(p))
	}
	s := &SSL{
		Secure: p[0]&clientSSL != 0, CertConn: p[0]&clientCertConn != 0, CertSession: p[0]&clientCertSess != 0,
		Verify: binary.BigEndian.Uint32(p[1:]),
	}
	h.SSL = s
	return eachTLV(p[5:], func(kind byte) bool { return s.sub(kind) != nil }, func(kind byte, v []byte) error {
		if f := s.sub(kind); f != nil {
			*f = string(v)
		}
		return nil
	})
}

// sub is the field for one of the TLVs inside of the one for TLS.
func (s *SSL) sub(kind byte) *string {
	switch kind {
	case subVersion:
		return &s.Version
	case subCN:
		return &s.CommonName
	case subCipher:
		return &s.Cipher
	case subSigAlg:
		return &s.SigAlg
	case subKeyAlg:
		return &s.KeyAlg
	}
	return nil
}

package proxyproto_test

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/proxyproto"
)

const sig = "\r\n\r\n\x00\r\nQUIT\n"

// v2 is a header of version 2 with its length filled in.
func v2(command, family byte, block string) string {
	return sig + string([]byte{command, family}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(block)))) + block
}

func tlv(kind byte, value string) string {
	return string([]byte{kind}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(value)))) + value
}

// withSum puts a CRC32C behind a block that has a TLV of it at its end.
func withSum(header string) string {
	b := []byte(header)
	clear(b[len(b)-4:])
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return string(b)
}

const (
	inet  = "\xc0\x00\x02\x4d\xc6\x33\x64\x01\xdc\x04\x00\x19" // 192.0.2.77:56324 to 198.51.100.1:25
	inet6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\xff\xff\x00\x19"
)

func unixAddrs(from, to string) string {
	return from + strings.Repeat("\x00", 108-len(from)) + to + strings.Repeat("\x00", 108-len(to))
}

func ip(s string) core.Endpoint { return core.Endpoint{AddrPort: netip.MustParseAddrPort(s)} }

func header(version int, network, from, to string) *proxyproto.Header {
	return &proxyproto.Header{Version: version, Network: network, Source: ip(from), Destination: ip(to)}
}

// good are headers and what they say.
var good = []struct {
	name, in string
	want     *proxyproto.Header
}{
	// Version 1: section 2.1.
	{"the example of the specification", "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", header(1, "tcp", "192.168.0.1:56324", "192.168.0.11:443")},
	{"the longest of TCP4", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", header(1, "tcp", "255.255.255.255:65535", "255.255.255.255:65535")},
	{"the shortest of TCP4", "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", header(1, "tcp", "0.0.0.0:0", "0.0.0.0:0")},
	{"the longest of TCP6", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
		header(1, "tcp", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")},
	{"the shortest of TCP6", "PROXY TCP6 :: :: 0 0\r\n", header(1, "tcp", "[::]:0", "[::]:0")},
	{"TCP6 in upper case, with zeros", "PROXY TCP6 2001:0DB8::00Ab 2001:db8:0:0:0:0:0:1 1 2\r\n", header(1, "tcp", "[2001:db8::ab]:1", "[2001:db8::1]:2")},
	{"an IPv4 address in TCP6", "PROXY TCP6 ::ffff:192.0.2.77 ::ffff:198.51.100.1 1 2\r\n", header(1, "tcp", "[::ffff:192.0.2.77]:1", "[::ffff:198.51.100.1]:2")},
	{"UNKNOWN", "PROXY UNKNOWN\r\n", &proxyproto.Header{Version: 1}},
	{"UNKNOWN with the longest addresses", "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", &proxyproto.Header{Version: 1}},
	{"UNKNOWN with anything", "PROXY UNKNOWN  \x00\xff what, ever 1 \r\n", &proxyproto.Header{Version: 1}},

	// Version 2: section 2.2.
	{"LOCAL", v2(0x20, 0x00, ""), &proxyproto.Header{Version: 2, Local: true}},
	{"LOCAL with a block", v2(0x20, 0x11, "whatever"), &proxyproto.Header{Version: 2, Local: true}},
	{"LOCAL of an unknown family", v2(0x20, 0xff, ""), &proxyproto.Header{Version: 2, Local: true}},
	{"UNSPEC", v2(0x21, 0x00, ""), &proxyproto.Header{Version: 2}},
	{"UNSPEC with a block", v2(0x21, 0x00, "whatever"), &proxyproto.Header{Version: 2}},
	{"IPv4, unspecified protocol", v2(0x21, 0x10, inet), &proxyproto.Header{Version: 2}},
	{"unspecified family, STREAM", v2(0x21, 0x01, ""), &proxyproto.Header{Version: 2}},
	{"TCP over IPv4", v2(0x21, 0x11, inet), header(2, "tcp", "192.0.2.77:56324", "198.51.100.1:25")},
	{"UDP over IPv4", v2(0x21, 0x12, inet), header(2, "udp", "192.0.2.77:56324", "198.51.100.1:25")},
	{"TCP over IPv6", v2(0x21, 0x21, inet6), header(2, "tcp", "[2001:db8::1]:65535", "[2001:db8::2]:25")},
	{"UDP over IPv6", v2(0x21, 0x22, inet6), header(2, "udp", "[2001:db8::1]:65535", "[2001:db8::2]:25")},
	{"unix stream", v2(0x21, 0x31, unixAddrs("/run/a", "\x00abstract")),
		&proxyproto.Header{Version: 2, Network: "unix", Source: core.Endpoint{Path: "/run/a"}, Destination: core.Endpoint{Path: "@abstract"}}},
	{"unix datagram", v2(0x21, 0x32, unixAddrs(strings.Repeat("x", 108), "")),
		&proxyproto.Header{Version: 2, Network: "unixgram", Source: core.Endpoint{Path: strings.Repeat("x", 108)}}},
	{"garbage behind a path", v2(0x21, 0x31, unixAddrs("/a\x00b", "/b")),
		&proxyproto.Header{Version: 2, Network: "unix", Source: core.Endpoint{Path: "/a"}, Destination: core.Endpoint{Path: "/b"}}},
	{"every TLV", withSum(v2(0x21, 0x11, inet+tlv(0x01, "h2")+tlv(0x04, "\x00\x00")+tlv(0x02, "mail.example.org")+tlv(0xea, "\x01vpce-1")+
		tlv(0x05, "id \xff")+tlv(0x30, "blue")+tlv(0x04, "")+tlv(0xea, "again")+tlv(0x20, "\x07\x00\x00\x00\x13"+tlv(0x21, "TLSv1.3")+
		tlv(0x22, "Jane Doe")+tlv(0x23, "TLS_AES_128_GCM_SHA256")+tlv(0x24, "RSA-SHA256")+tlv(0x25, "RSA2048")+tlv(0x26, "later"))+
		tlv(0x03, "\x00\x00\x00\x00"))),
		&proxyproto.Header{Version: 2, Network: "tcp", Source: ip("192.0.2.77:56324"), Destination: ip("198.51.100.1:25"),
			ALPN: "h2", Authority: "mail.example.org", UniqueID: "id \xff", NetNS: "blue", Checksum: true,
			TLVs: []proxyproto.TLV{{Type: 0xea, Value: "\x01vpce-1"}, {Type: 0xea, Value: "again"}},
			SSL: &proxyproto.SSL{Secure: true, CertConn: true, CertSession: true, Verify: 19, Version: "TLSv1.3", CommonName: "Jane Doe",
				Cipher: "TLS_AES_128_GCM_SHA256", SigAlg: "RSA-SHA256", KeyAlg: "RSA2048"}}},
	{"the longest unique id", v2(0x21, 0x11, inet+tlv(0x05, strings.Repeat("u", 128))),
		&proxyproto.Header{Version: 2, Network: "tcp", Source: ip("192.0.2.77:56324"), Destination: ip("198.51.100.1:25"), UniqueID: strings.Repeat("u", 128)}},
	{"TLS without anything", v2(0x21, 0x11, inet+tlv(0x20, "\x00\x00\x00\x00\x01")),
		&proxyproto.Header{Version: 2, Network: "tcp", Source: ip("192.0.2.77:56324"), Destination: ip("198.51.100.1:25"), SSL: &proxyproto.SSL{Verify: 1}}},
	{"the longest of version 2", v2(0x21, 0x11, inet+tlv(0x04, strings.Repeat("\x00", 536-16-12-3))), header(2, "tcp", "192.0.2.77:56324", "198.51.100.1:25")},
}

// wrong are no headers, and after how many bytes that is seen.
var wrong = []struct {
	name, in string
	at       int
}{
	{"something else", "EHLO client.example\r\n", 1},
	{"something else that begins alike", "PRINT x\r\n", 3},
	{"nothing", "\r\n", 0},
	{"lower case", "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", 1},
	{"a space before it", " PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", 1},
	{"no protocol", "PROXY\r\n", 6},
	{"no protocol, with the space", "PROXY \r\n", 7},
	{"an unknown protocol", "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", 8},
	{"protocol in lower case", "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", 7},
	{"UNKNOWN goes on", "PROXY UNKNOWNS\r\n", 14},
	{"two spaces before the protocol", "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", 7},
	{"a tab", "PROXY\tTCP4 1.2.3.4 1.2.3.4 1 2\r\n", 6},
	{"two spaces before the source", "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", 12},
	{"two spaces before the port", "PROXY TCP4 1.2.3.4 1.2.3.4  1 2\r\n", 28},
	{"a space at the end", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", 31},
	{"a space between CR and LF", "PROXY UNKNOWN\r \n", 15},
	{"protocol alone", "PROXY TCP4\r\n", 11},
	{"no ports", "PROXY TCP4 1.2.3.4 1.2.3.4\r\n", 27},
	{"one port", "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", 29},
	{"three ports", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", 31},
	{"an empty port", "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", 30},
	{"port 65536", "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", 32},
	{"port 65536 at the end", "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", 34},
	{"port 99999999999999999999", "PROXY TCP4 1.2.3.4 1.2.3.4 99999999999999999999 2\r\n", 32},
	{"a port with a leading zero", "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", 29},
	{"port 00", "PROXY TCP4 1.2.3.4 1.2.3.4 1 00\r\n", 31},
	{"a port with a sign", "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", 28},
	{"a negative port", "PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", 28},
	{"a port in hexadecimal", "PROXY TCP4 1.2.3.4 1.2.3.4 0x1 2\r\n", 29},
	{"a port with an underscore", "PROXY TCP4 1.2.3.4 1.2.3.4 1_0 2\r\n", 29},
	{"an octet with a leading zero", "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", 20},
	{"an octet above 255", "PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n", 21},
	{"three octets", "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", 17},
	{"five octets", "PROXY TCP4 1.2.3.4.5 1.2.3.4 1 2\r\n", 21},
	{"an octet with a sign", "PROXY TCP4 1.2.3.+4 1.2.3.4 1 2\r\n", 18},
	{"an address in hexadecimal", "PROXY TCP4 0x01020304 1.2.3.4 1 2\r\n", 13},
	{"a name", "PROXY TCP4 localhost 1.2.3.4 1 2\r\n", 12},
	{"IPv6 in TCP4", "PROXY TCP4 ::1 ::1 1 2\r\n", 12},
	{"IPv6 in TCP4 as destination", "PROXY TCP4 1.2.3.4 ::1 1 2\r\n", 20},
	{"IPv4 in TCP6", "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", 19},
	{"IPv4 in TCP6 as destination", "PROXY TCP6 ::1 1.2.3.4 1 2\r\n", 23},
	{"a zone", "PROXY TCP6 fe80::1%1 fe80::1 1 2\r\n", 19},
	{"brackets", "PROXY TCP6 [::1] ::1 1 2\r\n", 12},
	{"two double colons", "PROXY TCP6 1::2::3 ::1 1 2\r\n", 19},
	{"five digits", "PROXY TCP6 00001::1 ::1 1 2\r\n", 20},
	{"seven groups", "PROXY TCP6 1:2:3:4:5:6:7 ::1 1 2\r\n", 25},
	{"nine groups", "PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2\r\n", 29},
	{"a bare LF", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", 31},
	{"a bare LF behind UNKNOWN", "PROXY UNKNOWN\n", 14},
	{"a bare LF in UNKNOWN", "PROXY UNKNOWN a\nb\r\n", 16},
	{"a bare CR", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx", 32},
	{"a bare CR in UNKNOWN", "PROXY UNKNOWN a\rb\r\n", 17},
	{"two CR", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r\n", 32},
	{"a NUL", "PROXY TCP4 1.2.3.4\x00 1.2.3.4 1 2\r\n", 19},
	{"108 bytes", "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", 106},
	{"no end", "PROXY UNKNOWN " + strings.Repeat("x", 200), 106},

	{"another signature", "\r\n\r\n\x00\r\nQUIT\r\n", 12},
	{"version 1 in binary", v2(0x11, 0x11, inet), 13},
	{"version 3", v2(0x31, 0x11, inet), 13},
	{"an unknown command", v2(0x22, 0x11, inet), 13},
	{"an unknown family", v2(0x21, 0x41, inet), 14},
	{"an unknown protocol in binary", v2(0x21, 0x13, inet), 14},
	{"both unknown", v2(0x21, 0xff, inet), 14},
	{"too short for IPv4", v2(0x21, 0x11, inet[:11]), 16},
	{"too short for IPv6", v2(0x21, 0x21, inet6[:35]), 16},
	{"too short for unix", v2(0x21, 0x31, unixAddrs("", "")[:215]), 16},
	{"too long", v2(0x21, 0x11, inet+tlv(0x04, strings.Repeat("\x00", 536-16-12-2))), 16},
	{"LOCAL, too long", v2(0x20, 0x00, strings.Repeat("\x00", 521)), 16},
	{"as long as can be", v2(0x21, 0x11, strings.Repeat("\x00", 65535)), 16},
	{"a byte behind the addresses", v2(0x21, 0x11, inet+"\x01"), 29},
	{"half a TLV", v2(0x21, 0x11, inet+"\x04\x00"), 30},
	{"a TLV beyond the end", v2(0x21, 0x11, inet+"\x04\x00\x01"), 31},
	{"an unknown TLV beyond the end", v2(0x21, 0x11, inet+"\xe0\xff\xffxx"), 33},
	{"wrong checksum", v2(0x21, 0x11, inet+tlv(0x03, "\x00\x00\x00\x00")), 35},
	{"short checksum", v2(0x21, 0x11, inet+tlv(0x03, "\x00\x00\x00")), 34},
	{"two checksums", v2(0x21, 0x11, inet+tlv(0x03, "\x00\x00\x00\x00")+tlv(0x03, "\x00\x00\x00\x00")), 42},
	{"two ALPN", v2(0x21, 0x11, inet+tlv(0x01, "a")+tlv(0x01, "b")), 36},
	{"two authorities", v2(0x21, 0x11, inet+tlv(0x02, "a")+tlv(0x02, "a")), 36},
	{"a unique id that is too long", v2(0x21, 0x11, inet+tlv(0x05, strings.Repeat("u", 129))), 160},
	{"TLS in four octets", v2(0x21, 0x11, inet+tlv(0x20, "\x01\x00\x00\x00")), 35},
	{"a TLV in TLS beyond its end", v2(0x21, 0x11, inet+tlv(0x20, "\x01\x00\x00\x00\x00\x22\x00\x05CN")+tlv(0x04, "")), 44},
	{"two common names", v2(0x21, 0x11, inet+tlv(0x20, "\x01\x00\x00\x00\x00"+tlv(0x22, "a")+tlv(0x22, "b"))), 44},
}

// parse reads like a layer does: as many bytes as are certain to belong to the header, in reads of at most so many. It
// returns how many bytes were taken.
func parse(t testing.TB, in string, most int) (h *proxyproto.Header, taken int, err error) {
	t.Helper()
	var buf []byte
	for {
		h, n, err := proxyproto.Parse(buf, 0)
		if h != nil {
			require.Equal(t, len(buf), n, "bytes of what follows were taken")
		}
		if h != nil || err != nil {
			return h, len(buf), err
		}
		require.Greater(t, n, len(buf), "what is missing is more than nothing: %q", buf)
		m := min(n-len(buf), most, len(in)-len(buf))
		if m == 0 {
			return nil, len(buf), nil
		}
		buf = append(buf, in[len(buf):len(buf)+m]...)
	}
}

func TestGoodHeaders(t *testing.T) {
	for _, tt := range good {
		t.Run(tt.name, func(t *testing.T) {
			for _, behind := range []string{"", "\r\nEHLO x\r\n", tt.in} {
				h, n, err := proxyproto.Parse([]byte(tt.in+behind), 0)
				require.NoError(t, err)
				require.Equal(t, len(tt.in), n)
				require.Equal(t, tt.want, h)
				for _, most := range []int{1, 2, 7, 1000} {
					h, n, err = parse(t, tt.in+behind, most)
					require.NoError(t, err)
					require.Equal(t, len(tt.in), n)
					require.Equal(t, tt.want, h)
				}
			}
			for i := range len(tt.in) {
				h, n, err := proxyproto.Parse([]byte(tt.in[:i]), 0)
				require.NoError(t, err)
				require.Nil(t, h)
				require.Greater(t, n, i)
				require.LessOrEqual(t, n, len(tt.in))
			}
		})
	}
}

func TestWrongHeaders(t *testing.T) {
	for _, tt := range wrong {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := proxyproto.Parse([]byte(tt.in), 0)
			if tt.at == 0 { // the beginning of one
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, proxyproto.ErrHeader)
			for i := range len(tt.in) {
				h, _, err := proxyproto.Parse([]byte(tt.in[:i]), 0)
				require.Nil(t, h)
				require.Equal(t, i >= tt.at, err != nil, "after %d bytes: %v", i, err)
			}
		})
	}
}

// A line is read in few reads although none may go beyond its end.
func TestFewReads(t *testing.T) {
	for _, in := range []string{
		"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
		"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	} {
		reads := 0
		for n, buf := 0, ""; len(buf) < len(in); reads++ {
			_, n, _ = proxyproto.Parse([]byte(buf), 0)
			buf = in[:n]
		}
		require.Less(t, reads, 20)
		t.Logf("%d bytes in %d reads", len(in), reads)
	}
}

func TestMaxV2(t *testing.T) {
	in := []byte(v2(0x21, 0x11, inet+tlv(0x04, strings.Repeat("\x00", 65535-12-3))))
	h, n, err := proxyproto.Parse(in, len(in))
	require.NoError(t, err)
	require.Equal(t, len(in), n)
	require.Equal(t, "192.0.2.77:56324", h.Source.AddrPort.String())
	_, _, err = proxyproto.Parse(in, len(in)-1)
	require.ErrorIs(t, err, proxyproto.ErrHeader)
	_, _, err = proxyproto.Parse([]byte(v2(0x20, 0, "")), 15)
	require.ErrorIs(t, err, proxyproto.ErrHeader)
}

func TestVerified(t *testing.T) {
	require.False(t, (*proxyproto.SSL)(nil).Verified())
	require.False(t, (&proxyproto.SSL{Secure: true}).Verified(), "no certificate")
	require.False(t, (&proxyproto.SSL{Secure: true, CertConn: true, Verify: 1}).Verified())
	require.True(t, (&proxyproto.SSL{Secure: true, CertConn: true}).Verified())
	require.True(t, (&proxyproto.SSL{Secure: true, CertSession: true}).Verified())
}

func TestAppendV1(t *testing.T) {
	var none netip.AddrPort
	v4, v6 := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("[2001:db8::1%eth0]:2")
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.2]:3")
	for _, tt := range []struct {
		from, to netip.AddrPort
		want     string
	}{
		{v4, v4, "PROXY TCP4 192.0.2.1 192.0.2.1 1 1\r\n"},
		{v4, mapped, "PROXY TCP4 192.0.2.1 192.0.2.2 1 3\r\n"},
		{v4, v6, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1 2\r\n"},
		{v6, v4, "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 2 1\r\n"},
		{none, v4, "PROXY UNKNOWN\r\n"},
		{v4, none, "PROXY UNKNOWN\r\n"},
	} {
		got := string(proxyproto.AppendV1([]byte("x"), tt.from, tt.to))
		require.Equal(t, "x"+tt.want, got)
		_, n, err := proxyproto.Parse([]byte(tt.want), 0)
		require.NoError(t, err)
		require.Equal(t, len(tt.want), n)
	}
}

func TestAppendV2(t *testing.T) {
	for _, tt := range good {
		if tt.want.Version == 1 && tt.want.Network == "" {
			continue
		}
		b, err := proxyproto.AppendV2([]byte("x"), tt.want)
		require.NoError(t, err, tt.name)
		h, n, err := proxyproto.Parse(b[1:], 0)
		require.NoError(t, err, tt.name)
		require.Equal(t, len(b)-1, n, tt.name)
		want := *tt.want
		want.Version = 2
		require.Equal(t, &want, h, tt.name)
	}
	b, err := proxyproto.AppendV2(nil, header(2, "tcp", "192.0.2.77:56324", "198.51.100.1:25"))
	require.NoError(t, err)
	require.Equal(t, v2(0x21, 0x11, inet), string(b))
	b, err = proxyproto.AppendV2(nil, header(2, "udp", "192.0.2.77:1", "[2001:db8::1]:2"))
	require.NoError(t, err)
	h, _, err := proxyproto.Parse(b, 0)
	require.NoError(t, err)
	require.Equal(t, "[::ffff:192.0.2.77]:1", h.Source.AddrPort.String())

	tcp := func(change func(h *proxyproto.Header)) *proxyproto.Header {
		h := header(2, "tcp", "192.0.2.77:56324", "198.51.100.1:25")
		change(h)
		return h
	}
	for name, h := range map[string]*proxyproto.Header{
		"an unknown network":    {Network: "sctp"},
		"no addresses":          {Network: "tcp"},
		"no destination":        {Network: "udp", Source: ip("192.0.2.1:1")},
		"a long path":           {Network: "unix", Source: core.Endpoint{Path: strings.Repeat("x", 109)}},
		"a NUL in a path":       {Network: "unix", Destination: core.Endpoint{Path: "a\x00b"}},
		"a long unique id":      tcp(func(h *proxyproto.Header) { h.UniqueID = strings.Repeat("x", 129) }),
		"a long value":          tcp(func(h *proxyproto.Header) { h.ALPN = strings.Repeat("x", 65536) }),
		"a long value in TLS":   tcp(func(h *proxyproto.Header) { h.SSL = &proxyproto.SSL{CommonName: strings.Repeat("x", 65536)} }),
		"too long together":     tcp(func(h *proxyproto.Header) { h.ALPN, h.NetNS = strings.Repeat("x", 33000), strings.Repeat("x", 33000) }),
		"a TLV that has a name": tcp(func(h *proxyproto.Header) { h.TLVs = []proxyproto.TLV{{Type: 0x02, Value: "x"}} }),
		"NOOP":                  tcp(func(h *proxyproto.Header) { h.TLVs = []proxyproto.TLV{{Type: 0x04}} }),
	} {
		b, err := proxyproto.AppendV2([]byte("x"), h)
		require.Error(t, err, name)
		require.Equal(t, "x", string(b), name)
	}
}

// Any cuts give the same header or the same refusal, nothing behind a header is looked at or taken, and what is read can be
// written and read again.
func FuzzHeader(f *testing.F) {
	for _, tt := range good {
		f.Add([]byte(tt.in), uint8(1))
	}
	for _, tt := range wrong {
		f.Add([]byte(tt.in), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, most uint8) {
		h, n, err := proxyproto.Parse(in, 0)
		if err != nil {
			require.ErrorIs(t, err, proxyproto.ErrHeader)
			require.Nil(t, h)
		}
		inPieces, taken, errInPieces := parse(t, string(in), int(most)+1)
		require.Equal(t, h, inPieces)
		require.Equal(t, err == nil, errInPieces == nil)
		if err != nil {
			return
		}
		if h == nil {
			require.Greater(t, n, len(in))
			require.Equal(t, len(in), taken)
			return
		}
		require.Equal(t, n, taken)
		require.LessOrEqual(t, n, max(proxyproto.MaxV1, proxyproto.DefaultMaxV2))
		other, m, err := proxyproto.Parse(append(in[:n:n], "\r\n something else"...), 0)
		require.NoError(t, err)
		require.Equal(t, n, m)
		require.Equal(t, h, other)

		b, err := proxyproto.AppendV2(nil, h)
		require.NoError(t, err)
		again, m, err := proxyproto.Parse(b, 0)
		require.NoError(t, err)
		require.Equal(t, len(b), m)
		version := h.Version
		h.Version = 2
		require.Equal(t, h, again)
		if version == 1 {
			again, _, err = proxyproto.Parse(proxyproto.AppendV1(nil, h.Source.AddrPort, h.Destination.AddrPort), 0)
			require.NoError(t, err)
			require.Equal(t, unmap(h.Source.AddrPort), unmap(again.Source.AddrPort))
			require.Equal(t, unmap(h.Destination.AddrPort), unmap(again.Destination.AddrPort))
		}
	})
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

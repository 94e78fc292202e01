package webroom

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// Who has a network of IPv6 has as many addresses as he likes, and counts as one.
func TestClient(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:80":                "192.0.2.1",
		"[::ffff:192.0.2.1]:80":       "192.0.2.1",
		"[2001:db8::1]:80":            "2001:db8::/64",
		"[2001:db8::ffff:0:0:1]:8080": "2001:db8::/64",
		"[2001:db8:0:1::1]:80":        "2001:db8:0:1::/64",
		"[fe80::1%eth0]:80":           "fe80::/64",
	} {
		require.Equal(t, want, client(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))), addr)
	}
	require.Empty(t, client(nil))
	require.Empty(t, client(&net.UnixAddr{Name: "socket", Net: "unix"}))
}

//go:build unix

package clients

import (
	"net"
	"testing"
)

// TLS by OpenSSL: both versions, and new keys in the middle of the conversation, asked for by either end (RFC 8446 section
// 4.6.3).
func TestOpenSSL(t *testing.T) {
	openssl := need(t, "openssl")
	host, port := serve(t, "echo", "-tls-self-signed")
	addr := net.JoinHostPort(host, port)
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		t.Run(version, func(t *testing.T) {
			c := start(t, openssl, "s_client", version, "-connect", addr)
			c.want("---\n")
			c.say("hello\n")
			c.want("hello\n")
			if version == "-tls1_3" {
				for _, command := range []string{"k\n", "K\n"} { // K asks for the server's new key, too
					c.say(command)
					c.want("KEYUPDATE")
					c.say("after " + command)
					c.want("after " + command)
				}
			}
			c.say("Q\n")
			c.wantEnd()
		})
	}
}

package proxyproto_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/proxyproto"
)

// certificate makes one that signs itself, with its key, as one PEM text.
func certificate(t *testing.T, name string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, text
}

// HAProxy itself in front of a server that greets: each of its ways to send a header, and its health check.
func TestHAProxy(t *testing.T) {
	program, err := exec.LookPath("haproxy")
	switch {
	case len(core.Backends()) == 0:
		t.Skip("no back end")
	case err != nil && os.Getenv("PARLEY_REQUIRE_CLIENTS") != "":
		t.Fatal("haproxy is not installed")
	case err != nil:
		t.Skip("haproxy is not installed")
	}
	headers := make(chan *proxyproto.Header, 1000)
	addr := kernel(t, "", "tcp", "127.0.0.1:0", func(c *chat.Conn) chat.Handler {
		h, _ := proxyproto.From(c.Core().Socket())
		headers <- h
		_ = c.Printf("220 %v at %v\n", c.RemoteAddr(), c.LocalAddr())
		return chat.Lines(func(c *chat.Conn, line []byte) error { return c.Printf("250 %s\n", line) })
	})

	dir := t.TempDir()
	_, serverPEM := certificate(t, "mail.example.org")
	clientCert, clientPEM := certificate(t, "Jane Doe")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "server.pem"), serverPEM, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "client.pem"), clientPEM, 0o600))
	config := "global\n maxconn 100\ndefaults\n mode tcp\n timeout connect 30s\n timeout client 30s\n timeout server 30s\n"
	proxied := make(map[string]string)
	cmd := exec.Command(program, "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	for _, p := range []struct{ name, bind, send string }{
		{"v1", "", "send-proxy"},
		{"v2", "", "send-proxy-v2 proxy-v2-options crc32c,unique-id"},
		{"tls", fmt.Sprintf("ssl crt %s ca-file %s verify optional alpn smtp", filepath.Join(dir, "server.pem"), filepath.Join(dir, "client.pem")),
			"send-proxy-v2-ssl-cn proxy-v2-options cert-cn,ssl-cipher,cert-sig,cert-key,crc32c,authority"},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		f, err := ln.(*net.TCPListener).File()
		require.NoError(t, err)
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		proxied[p.name] = ln.Addr().String()
		config += fmt.Sprintf("listen %s\n bind fd@%d %s\n unique-id-format %%ci_%%cp\n server s %s %s\n", p.name, 2+len(cmd.ExtraFiles), p.bind, addr, p.send)
	}
	config += fmt.Sprintf("backend checked\n server s %s check check-send-proxy send-proxy-v2 inter 100ms\n", addr)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "haproxy.cfg"), []byte(config), 0o600))
	output, err := os.Create(filepath.Join(dir, "output"))
	require.NoError(t, err)
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(output.Name())
			t.Logf("%s\n%s", config, text)
		}
	})

	talk := func(name string, cfg *tls.Config) (h *proxyproto.Header, client string) {
		conn, err := net.Dial("tcp", proxied[name])
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
		client = conn.LocalAddr().String()
		if cfg != nil {
			conn = tls.Client(conn, cfg)
		}
		_, err = conn.Write([]byte("hello\n"))
		require.NoError(t, err)
		answers := bufio.NewReader(conn)
		line, err := answers.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("220 %s at %s\n", client, proxied[name]), line)
		line, err = answers.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "250 hello\n", line)
		for h == nil || h.Local {
			h = <-headers
		}
		require.Equal(t, client, h.Source.AddrPort.String())
		require.Equal(t, proxied[name], h.Destination.AddrPort.String())
		return h, client
	}

	h, _ := talk("v1", nil)
	require.Equal(t, 1, h.Version)

	h, client := talk("v2", nil)
	require.Equal(t, 2, h.Version)
	require.True(t, h.Checksum)
	host, port, err := net.SplitHostPort(client)
	require.NoError(t, err)
	require.Equal(t, host+"_"+port, h.UniqueID)
	require.Nil(t, h.SSL)

	h, _ = talk("tls", &tls.Config{InsecureSkipVerify: true, ServerName: "mail.example.org", MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{clientCert}})
	require.Equal(t, "mail.example.org", h.Authority)
	require.True(t, h.Checksum)
	require.NotNil(t, h.SSL)
	require.True(t, h.SSL.Secure)
	require.True(t, h.SSL.CertConn)
	require.True(t, h.SSL.Verified())
	require.Equal(t, "TLSv1.3", h.SSL.Version)
	require.Equal(t, "Jane Doe", h.SSL.CommonName)
	require.Contains(t, h.SSL.Cipher, "TLS_")
	require.NotEmpty(t, h.SSL.SigAlg)
	require.NotEmpty(t, h.SSL.KeyAlg)
	t.Logf("%+v %+v", h, h.SSL)

	h, _ = talk("tls", &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12})
	require.Empty(t, h.Authority)
	require.Equal(t, "TLSv1.2", h.SSL.Version)
	require.False(t, h.SSL.CertConn)
	require.False(t, h.SSL.Verified(), "no certificate")
	t.Logf("%+v %+v", h, h.SSL)

	for !(<-headers).Local { // health checks
	}
}

package cli

import (
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"os"

	"github.com/parley-go/parley/core/tlslayer"
)

// TLS are the flags of a server that can speak TLS.
type TLS struct {
	cert, key  string
	selfSigned bool
}

// TLSFlags adds -tls-cert, -tls-key and -tls-self-signed.
func TLSFlags(fs *flag.FlagSet) *TLS {
	t := new(TLS)
	fs.StringVar(&t.cert, "tls-cert", "", "`file` with the certificate for TLS, and those up to the root's, in PEM")
	fs.StringVar(&t.key, "tls-key", "", "`file` with its key, in PEM; without it the key is in -tls-cert")
	fs.BoolVar(&t.selfSigned, "tls-self-signed", false, "make a certificate for TLS that clients cannot verify: to try things out")
	return t
}

// Config returns what the flags ask for, nil if that is no TLS. names are those of a self-signed certificate.
func (t *TLS) Config(names ...string) (*tls.Config, error) {
	var cert tls.Certificate
	var err error
	switch {
	case t.selfSigned && (t.cert != "" || t.key != ""):
		Usage(fmt.Errorf("-tls-self-signed and -tls-cert exclude each other"))
	case t.key != "" && t.cert == "":
		Usage(fmt.Errorf("-tls-key needs -tls-cert"))
	case t.selfSigned:
		cert, err = tlslayer.SelfSigned(append(names, localNames()...)...)
	case t.cert != "":
		key := t.key
		if key == "" {
			key = t.cert
		}
		cert, err = tls.LoadX509KeyPair(t.cert, key)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}, nil
}

// localNames are names by which this machine is reached from itself.
func localNames() []string {
	names := []string{"localhost", "127.0.0.1", net.IPv6loopback.String()}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	return names
}

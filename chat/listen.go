package chat

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/tlslayer"
)

// Listen accepts connections on an address, with a handler of newHandler's for each: see core.Listen for networks and
// addresses, Attach for newHandler. On a Group newHandler is called on the goroutines of all its loops.
func Listen(r core.Runner, network, address string, newHandler func(*Conn) Handler) (*core.Listener, error) {
	return core.Listen(r, network, address, Accept(newHandler))
}

// Accept returns what a core.ListenConfig needs to make conversations of its connections.
func Accept(newHandler func(*Conn) Handler) core.AcceptedHandler { return accepter(newHandler) }

type accepter func(*Conn) Handler

func (newHandler accepter) HandleAccepted(l *core.Listener, s core.Socket) error {
	_, err := Attach(l.Loop(), s, newHandler)
	return err
}

// Dial connects to an address: see core.Dial. newHandler is called once, from here; what it pushes waits for the
// connection. HandleConnect follows, or HandleClose.
func Dial(l *core.Loop, network, address string, newHandler func(*Conn) Handler) (*Conn, error) {
	return DialWith(new(core.Dialer), l, network, address, newHandler)
}

// DialWith is Dial with settings.
func DialWith(d *core.Dialer, l *core.Loop, network, address string, newHandler func(*Conn) Handler) (*Conn, error) {
	c := new(Conn)
	if err := d.Attach(&c.b.Dispatcher, l, network, address, (*driver)(c)); err != nil {
		return nil, err
	}
	if err := c.begin(newHandler); err != nil {
		return nil, err
	}
	return c, nil
}

// ListenTLS is Listen for connections that begin with TLS: see package tlslayer. newHandler is called before the handshake;
// what it pushes waits for that, and HandleSecure follows.
func ListenTLS(r core.Runner, network, address string, cfg *tls.Config, newHandler func(*Conn) Handler) (*core.Listener, error) {
	if err := tlslayer.CheckServer(cfg); err != nil {
		return nil, err
	}
	lc := core.ListenConfig{Wrap: tlslayer.WrapServer(cfg)}
	return lc.Listen(r, network, address, Accept(newHandler))
}

// DialTLS is Dial for connections that begin with TLS. HandleConnect comes before the handshake, HandleSecure after it.
// Without cfg.ServerName the host of the address is the name that the server has to prove; nil is a cfg of the defaults.
func DialTLS(l *core.Loop, network, address string, cfg *tls.Config, newHandler func(*Conn) Handler) (*Conn, error) {
	if cfg == nil {
		cfg = new(tls.Config)
	}
	if cfg.ServerName == "" {
		if host, _, err := net.SplitHostPort(address); err == nil {
			cfg = cfg.Clone()
			cfg.ServerName = host
		}
	}
	return DialWith(&core.Dialer{Wrap: tlslayer.WrapClient(cfg)}, l, network, address, newHandler)
}

// ListenAndServe serves conversations on an address until ctx is done, and returns its cause: a whole server in one call.
// Use a core.Loop and Listen for a graceful shutdown, limits, or more than one listener.
func ListenAndServe(ctx context.Context, network, address string, newHandler func(*Conn) Handler) error {
	l, err := core.NewLoop(core.Options{})
	if err != nil {
		return err
	}
	defer l.Close()
	if _, err := Listen(l, network, address, newHandler); err != nil {
		return err
	}
	return l.Run(ctx)
}

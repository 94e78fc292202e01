package chat_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/core/tlslayer"
)

// tlsConfigs is a pair that trusts each other.
func tlsConfigs() (server, client *tls.Config) {
	cert, err := tlslayer.SelfSigned("server")
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	return &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: roots, ServerName: "server"}
}

// starting is a server of lines with a command STLS, and what a client of it does.
type starting struct {
	chat.Buffer
	cfg     *tls.Config
	client  bool
	inject  string // what the client sends behind its STLS, in the clear
	log     []string
	dropped int
}

func (s *starting) HandleSecure(c *chat.Conn, state tls.ConnectionState) error {
	_, ok := c.TLS()
	s.log = append(s.log, fmt.Sprintf("secure %v %s", ok, state.ServerName))
	if s.client {
		return c.PushString("inside\r\n")
	}
	return nil
}

func (s *starting) FoundTerminator(c *chat.Conn) (err error) {
	line := string(s.Take())
	s.log = append(s.log, line)
	switch {
	case s.client && line == "go":
		s.dropped, err = c.StartTLSClient(s.cfg)
	case s.client:
		c.CloseWhenDone()
	case line == "STLS":
		if err = c.PushString("go\r\n"); err == nil {
			s.dropped, err = c.StartTLS(s.cfg)
		}
	default:
		err = c.PushString("ok " + line + "\r\n")
	}
	return err
}

func (s *starting) attach(c *chat.Conn) chat.Handler {
	c.SetTerminator(chat.CRLF)
	if s.client {
		if _, ok := c.TLS(); ok {
			panic("not yet")
		}
		_ = c.PushString("STLS\r\n" + s.inject)
	}
	return s
}

func TestStartTLS(t *testing.T) {
	for seed := range uint64(30) {
		c := sim.Config{T: t, Seed: seed}
		if seed > 0 {
			c.Latency, c.Jitter, c.Window, c.MaxRecv, c.RandomCuts = time.Millisecond, time.Millisecond, 1<<(seed%12), 1<<(seed%10), true
		}
		w := sim.New(c)
		loop := w.Loop(core.Options{})
		server, client := &starting{}, &starting{client: true}
		server.cfg, client.cfg = tlsConfigs()
		_, err := chat.Listen(loop, "tcp", "server:1", server.attach)
		require.NoError(t, err)
		_, err = chat.Dial(loop, "tcp", "server:1", client.attach)
		require.NoError(t, err)
		w.Advance(time.Minute)
		require.Equal(t, []string{"STLS", "secure true server", "inside"}, server.log, "seed %d", seed)
		require.Equal(t, []string{"go", "secure true server", "ok inside"}, client.log)
		require.Zero(t, server.dropped+client.dropped)
		require.NoError(t, loop.Close())
	}
}

// What was put behind the command in the clear is dropped, and never worked on (CVE-2011-0411).
func TestStartTLSDropsPlaintext(t *testing.T) {
	server, _ := tlsConfigs()
	s := &starting{cfg: server}
	w := sim.New(sim.Config{T: t})
	loop := w.Loop(core.Options{})
	sock, peer := w.Pair()
	conn, err := chat.Attach(loop, sock, s.attach)
	require.NoError(t, err)
	peer.Say("STLS\r\ninjected\r\nmore")
	peer.Want("go\r\n")
	require.Equal(t, []string{"STLS"}, s.log)
	require.Equal(t, len("injected\r\nmore"), s.dropped)
	require.False(t, conn.Closed())
	peer.Say("injected\r\n") // later, it is no TLS
	w.Settle()
	require.Equal(t, []string{"STLS"}, s.log)
	require.ErrorIs(t, conn.Core().Cause(), tlslayer.ErrHandshake)
}

func TestStartTLSRefused(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	loop := w.Loop(core.Options{})
	sock, peer := w.Pair()
	conn, err := chat.Attach(loop, sock, func(c *chat.Conn) chat.Handler {
		return chat.Lines(func(c *chat.Conn, line []byte) error {
			_, err := c.StartTLS(&tls.Config{})
			if err == nil {
				return errors.New("without a certificate")
			}
			return c.PushString(string(line) + "\n")
		})
	})
	require.NoError(t, err)
	peer.Say("a\nb\n")
	peer.Want("a\nb\n") // nothing was dropped, and nothing is encrypted
	require.False(t, conn.Closed())
}

// A certificate that the client does not accept closes both ends: nothing goes on in the clear.
func TestStartTLSFails(t *testing.T) {
	w := sim.New(sim.Config{T: t})
	loop := w.Loop(core.Options{})
	server, client := &starting{}, &starting{client: true}
	server.cfg, _ = tlsConfigs()
	_, client.cfg = tlsConfigs()
	var conns []*chat.Conn
	_, err := chat.Listen(loop, "tcp", "server:1", func(c *chat.Conn) chat.Handler {
		conns = append(conns, c)
		return server.attach(c)
	})
	require.NoError(t, err)
	c, err := chat.Dial(loop, "tcp", "server:1", client.attach)
	require.NoError(t, err)
	w.Settle()
	require.Equal(t, []string{"STLS"}, server.log)
	require.Equal(t, []string{"go"}, client.log)
	require.ErrorContains(t, c.Core().Cause(), "certificate signed by unknown authority")
	require.ErrorContains(t, conns[0].Core().Cause(), "bad certificate")
}

// A Talker goes on through the change.
func TestTalkStartTLS(t *testing.T) {
	serverConfig, clientConfig := tlsConfigs()
	w := sim.New(sim.Config{T: t, MaxRecv: 5})
	loop := w.Loop(core.Options{})
	_, err := chat.Listen(loop, "tcp", "server:1", func(c *chat.Conn) chat.Handler {
		return chat.Talk(func(t *chat.Talker) error {
			for {
				line, err := t.ReadLine()
				switch {
				case err != nil:
					return err
				case line == "STLS":
					if err := t.Printf("go\r\n"); err != nil {
						return err
					}
					if _, err := c.StartTLS(serverConfig); err != nil {
						return err
					}
				default:
					_ = t.Printf("ok %s\r\n", strings.ToUpper(line))
				}
			}
		})
	})
	require.NoError(t, err)
	client := &starting{client: true, cfg: clientConfig}
	_, err = chat.Dial(loop, "tcp", "server:1", client.attach)
	require.NoError(t, err)
	w.Settle()
	require.Equal(t, []string{"go", "secure true server", "ok INSIDE"}, client.log)
}

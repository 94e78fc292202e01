// Smtpd takes mail in and puts it into a Maildir or mbox, prints it, drops it, or relays it.
//
//	go run ./examples/smtpd -listen 127.0.0.1:2525 -accept-domain example.org
//	swaks --server 127.0.0.1:2525 --to pat@example.org
//
//	go run ./examples/smtpd -listen :25 -smtps :465 -maildir mail -accept-domain example.org -tls-cert cert.pem
//	go run ./examples/smtpd -listen :587 -relay mail.example.org:25 -auth-file users -tls-cert cert.pem
//	go run ./examples/smtpd -listen :587 -relay mail.example.org:25 -auth-file users -tls-cert cert.pem -queue /var/spool/smtpd
//
// Recipients of an -accept-domain are taken, whatever stands before the "@", and any others from who has authenticated.
// Without either, and to everybody else, it is closed: it never relays for strangers.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/parley-go/parley/examples/internal/cli"
	"github.com/parley-go/parley/protocols/mailbox"
	"github.com/parley-go/parley/protocols/smtp"
)

// options are the flags.
type options struct {
	listen, smtps, hostname string
	runner                  *cli.Loops
	maildir, mbox, relay    string
	queue                   string
	discard, print, lmtp    bool
	insecureAuth            bool
	domains, users          list
	userFile                string
	maxSize                 int64
	idle                    time.Duration
	conns, perAddr          int
	tls                     *cli.TLS
}

// list is a flag that can be repeated.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func parse() *options {
	o := new(options)
	fs := cli.Flags(`smtpd [flags]

Takes mail in. Where it goes is said by one of -maildir, -mbox, -print (the default), -discard and -relay; whose mail is
taken by -accept-domain, -auth and -auth-file. SIGINT and SIGTERM end it: a message that is on its way may still come.`)
	fs.StringVar(&o.listen, "listen", "127.0.0.1:2525", "`address` to listen on; port 0 takes a free one; one with a \"/\" is a unix socket's")
	fs.StringVar(&o.smtps, "smtps", "", "another `address`, for connections that begin with TLS (usually port 465)")
	o.runner = cli.LoopFlags(fs)
	fs.StringVar(&o.hostname, "hostname", "", "what the server calls itself; the machine's name if empty")
	fs.BoolVar(&o.lmtp, "lmtp", false, "speak LMTP (RFC 2033) instead of SMTP")
	fs.StringVar(&o.maildir, "maildir", "", "`directory` of a Maildir, made if there is none: a message is on the disk before it is accepted")
	fs.StringVar(&o.mbox, "mbox", "", "`file` in mbox format, to which messages are appended")
	fs.BoolVar(&o.print, "print", false, "print messages to standard output")
	fs.BoolVar(&o.discard, "discard", false, "drop messages")
	fs.StringVar(&o.relay, "relay", "", "`address` of the server that gets the messages; its answers are handed back")
	fs.StringVar(&o.queue, "queue", "", "with -relay: `directory` of a queue, made if there is none: messages are accepted when they are there, and handed on later")
	fs.Var(&o.domains, "accept-domain", "`domain` whose recipients are taken; can be repeated")
	fs.Var(&o.users, "auth", "`user:password` that may send to anybody; can be repeated (others on this machine see it; better use -auth-file)")
	fs.StringVar(&o.userFile, "auth-file", "", "`file` with a user:password in each line")
	fs.BoolVar(&o.insecureAuth, "allow-insecure-auth", false, "take passwords without TLS, too")
	fs.Int64Var(&o.maxSize, "max-size", 25<<20, "largest message in `bytes`")
	fs.DurationVar(&o.idle, "idle-timeout", 5*time.Minute, "how long a client may say nothing; RFC 5321 asks for 5 minutes")
	fs.IntVar(&o.conns, "max-conns", 1000, "most connections at a time")
	fs.IntVar(&o.perAddr, "max-conns-per-addr", 50, "most connections of one client; 0: any number")
	o.tls = cli.TLSFlags(fs)
	cli.Parse(fs, 0)
	if err := o.check(fs); err != nil {
		cli.Usage(err)
	}
	return o
}

// check looks at what does not go together.
func (o *options) check(fs *flag.FlagSet) error {
	var destinations []string
	fs.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "maildir", "mbox", "print", "discard", "relay":
			if f.Value.String() != "false" {
				destinations = append(destinations, "-"+f.Name)
			}
		}
	})
	switch {
	case len(destinations) > 1:
		return fmt.Errorf("%s exclude each other", strings.Join(destinations, " and "))
	case o.queue != "" && o.relay == "":
		return errors.New("-queue goes with -relay")
	case o.maxSize < 1:
		return fmt.Errorf("-max-size %d: at least 1", o.maxSize)
	case o.idle <= 0:
		return fmt.Errorf("-idle-timeout %s: more than 0", o.idle)
	case o.conns < 1, o.perAddr < 0:
		return errors.New("-max-conns: at least 1; -max-conns-per-addr: at least 0")
	}
	return nil
}

// destination is where the mail goes.
func (o *options) destination() (smtp.Backend, error) {
	switch {
	case o.maildir != "":
		box, err := mailbox.OpenMaildir(o.maildir)
		return &smtp.Maildir{Box: box}, err
	case o.mbox != "":
		return &smtp.Mbox{Box: &mailbox.Mbox{Path: o.mbox}}, nil
	case o.queue != "":
		return &smtp.Relay{Dir: o.queue, Hostname: o.hostname, Network: network(o.relay), Address: o.relay}, nil
	case o.relay != "":
		return &smtp.Proxy{Network: network(o.relay), Address: o.relay}, nil
	case o.discard:
		return new(smtp.Discard), nil
	}
	return new(smtp.Print), nil
}

// server is the server that the flags describe.
func (o *options) server() (*smtp.Server, error) {
	srv := &smtp.Server{
		Hostname: o.hostname, LMTP: o.lmtp, Domains: o.domains,
		Limits: smtp.Limits{MessageSize: o.maxSize, IdleTimeout: o.idle, Conns: o.conns, ConnsPerAddr: o.perAddr},
	}
	if o.perAddr == 0 {
		srv.Limits.ConnsPerAddr = -1
	}
	name := o.hostname
	if name == "" {
		name = "localhost"
	}
	var err error
	if srv.TLSConfig, err = o.tls.Config(name); err != nil {
		return nil, err
	}
	if o.smtps != "" && srv.TLSConfig == nil {
		cli.Usage(errors.New("-smtps needs -tls-cert or -tls-self-signed"))
	}
	if srv.Auth, err = o.auth(); err != nil {
		return nil, err
	}
	if o.queue != "" { // which keeps what DSN promises
		srv.Extensions = append(slices.Clone(smtp.DefaultExtensions), "DSN")
	}
	srv.Backend, err = o.destination()
	return srv, err
}

func main() {
	o := parse()
	srv, err := o.server()
	if err != nil {
		cli.Exit(err)
	}
	loop, err := o.runner.New()
	if err != nil {
		cli.Exit(err)
	}
	if relay, ok := srv.Backend.(*smtp.Relay); ok {
		if err := relay.Start(loop.Loops()[0]); err != nil {
			cli.Exit(err)
		}
	}
	ln, err := srv.Listen(loop, network(o.listen), o.listen)
	if err != nil {
		cli.Exit(err)
	}
	cli.Listening(ln.Addr())
	if o.smtps != "" {
		smtps, err := srv.ListenTLS(loop, network(o.smtps), o.smtps)
		if err != nil {
			cli.Exit(err)
		}
		fmt.Fprintf(os.Stderr, "listening on %s, with TLS from the beginning\n", smtps.Addr())
	}
	err = cli.Serve(loop)
	c := srv.Counters()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if relay, ok := srv.Backend.(*smtp.Relay); ok {
		c := relay.Counters()
		log.Info("relayed", "queued", c.Queued, "delivered", c.Delivered, "deferred", c.Deferred, "failed", c.Failed, "left", relay.Len())
	}
	log.Info("served", "sessions", c.Sessions, "messages", c.Messages, "recipients", c.Recipients,
		"octets", c.Octets, "refused", c.Refused, "aborted", c.Aborted)
	cli.Exit(err)
}

// network is what an address belongs to.
func network(address string) string {
	if strings.Contains(address, "/") {
		return "unix"
	}
	return "tcp"
}

// Sendmail hands a message to a mail server: smtp.Client from the command line.
//
//	printf 'Subject: hello\n\nHow are you?\n' | go run ./examples/sendmail -server localhost:2525 -from a@example.org -to b@example.org
//	go run ./examples/sendmail -server mail.example.org:587 -starttls -auth tim:secret -from tim@example.org -to b@example.net,c@example.net -file letter
//
// The message is sent as it is, header and all; only its lines get the ends that the protocol demands, and dots what they
// need. What it leaves out:
//
//   - It writes no header: who wants From, Date and Message-ID puts them into the message.
//   - It tries once. A mail server has a queue for what is refused for now.
//   - It goes to the server that is named, and does not ask the DNS who takes mail for a domain (MX).
package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/examples/internal/cli"
	"github.com/parley-go/parley/protocols/smtp"
)

// passwordVariable has the password for a -auth without one: a command line can be seen by everybody on the machine.
const passwordVariable = "SENDMAIL_PASSWORD"

// job is what the command line asks for.
type job struct {
	network, address string
	client           smtp.Client
	message          smtp.Outgoing
}

func main() {
	fs := cli.Flags(`sendmail [flags] -server HOST:PORT -from ADDRESS -to ADDRESS[,ADDRESS...]

Sends the message on standard input, or that of -file. The exit status is 0 only if the server has taken it over for every
recipient; for each other one a line says why not.`)
	parsed := flags(fs)
	cli.Parse(fs, 0)
	backend, j, err := parsed()
	if err != nil {
		cli.Usage(err)
	}
	loop, err := cli.NewLoop(backend)
	if err != nil {
		cli.Exit(err)
	}
	failed := j.run(loop, terminal(os.Stderr))
	for len(failed) > 1 {
		cli.Warn(failed[0])
		failed = failed[1:]
	}
	cli.Exit(errors.Join(failed...))
}

// flags are those of the command line. What it returns reads them when they are parsed.
func flags(fs *flag.FlagSet) func() (backend string, j *job, err error) {
	server := fs.String("server", "", "`HOST:PORT` of the server, or the path of a unix socket")
	from := fs.String("from", "", "`address` of the sender; <> is that of a report")
	to := fs.String("to", "", "`addresses` of the recipients, with commas between them")
	file := fs.String("file", "-", "`name` of a file with the message; - is standard input")
	starttls := fs.Bool("starttls", false, "demand STARTTLS; otherwise it is used where it is offered")
	implicit := fs.Bool("tls", false, "begin with TLS, as on port 465")
	skip := fs.Bool("insecure-skip-verify", false, "take any certificate: whoever is on the way can read everything")
	auth := fs.String("auth", "", "`USER:PASSWORD` to authenticate with; without :PASSWORD it is in "+passwordVariable)
	lmtp := fs.Bool("lmtp", false, "speak LMTP, as mail stores do")
	helo := fs.String("helo", "", "`name` to introduce ourselves with; otherwise our address")
	timeout := fs.Duration("timeout", 0, "how long to wait for the connection and at each step; 0: 30s, and the minutes of RFC 5321")
	backend := fs.String("backend", "auto", "auto, select, poll, epoll or kqueue")
	return func() (string, *job, error) {
		j := &job{network: "tcp", address: *server}
		c := &j.client
		c.Hostname, c.LMTP = *helo, *lmtp
		switch {
		case *server == "":
			return "", nil, errors.New("-server is missing")
		case *starttls && *implicit:
			return "", nil, errors.New("-starttls and -tls: one of them")
		case *timeout < 0:
			return "", nil, fmt.Errorf("-timeout %v: not less than 0", *timeout)
		case *implicit:
			c.StartTLS = smtp.TLSImplicit
		case *starttls:
			c.StartTLS = smtp.TLSRequired
		}
		if strings.HasPrefix(*server, "/") {
			j.network = "unix"
		} else if _, _, err := net.SplitHostPort(*server); err != nil {
			return "", nil, fmt.Errorf("-server: %w", err)
		}
		if *skip {
			c.TLSConfig = &tls.Config{InsecureSkipVerify: true}
		}
		setTimeouts(c, *timeout)
		if *auth != "" {
			user, password, ok := strings.Cut(*auth, ":")
			if !ok {
				password = os.Getenv(passwordVariable)
			}
			c.Auth = &smtp.ClientAuth{User: user, Password: password}
		}
		if err := j.envelope(*from, *to); err != nil {
			return "", nil, err
		}
		return *backend, j, j.open(*file)
	}
}

// setTimeouts sets all of them.
func setTimeouts(c *smtp.Client, d time.Duration) {
	c.Dialer = core.Dialer{Timeout: d}
	c.Timeouts = smtp.ClientTimeouts{Greeting: d, Hello: d, StartTLS: d, Handshake: d, Auth: d, Mail: d, Rcpt: d, Data: d, Block: d, End: d}
}

// envelope reads the addresses.
func (j *job) envelope(from, to string) error {
	if from == "" {
		return errors.New("-from is missing")
	}
	if to == "" {
		return errors.New("-to is missing")
	}
	if from != "<>" {
		p, err := address(from)
		if err != nil {
			return fmt.Errorf("-from: %w", err)
		}
		j.message.From = p
	}
	for a := range strings.SplitSeq(to, ",") {
		p, err := address(a)
		if err != nil {
			return fmt.Errorf("-to: %w", err)
		}
		j.message.To = append(j.message.To, smtp.Recipient{Path: p})
	}
	return nil
}

// address reads one as people write it, with or without angle brackets.
func address(s string) (smtp.Path, error) {
	s = strings.TrimSpace(s)
	bare := s
	if strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") {
		bare = s[1 : len(s)-1]
	}
	p, err := smtp.ParseMailbox(bare, true)
	if err != nil {
		return p, fmt.Errorf("%q is no address", s)
	}
	return p, nil
}

// open opens the message.
func (j *job) open(name string) error {
	if name == "-" {
		j.message.Body = os.Stdin
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("-file: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	if err != nil {
		return fmt.Errorf("-file: %w", err)
	}
	j.message.Body = f // closed with the process
	return nil
}

// Httpd serves a directory by HTTP/1.1, and some resources to try things out with.
//
//	go run ./examples/httpd -listen 127.0.0.1:8080 -root . -list
//	curl http://127.0.0.1:8080/hello
//
//	go run ./examples/httpd -listen :443 -root /srv/www -tls-cert cert.pem -access-log access.log -loops 4
//
// Besides the files of -root there are /hello, /echo (what is posted comes back), /stream (64 pieces of unknown length),
// /events (server-sent events), /metrics (for Prometheus), and below /std/ a mux of net/http.
package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/parley-go/parley/examples/internal/cli"
	"github.com/parley-go/parley/protocols/http1"
)

// options are the flags.
type options struct {
	listen, root, accessLog string
	runner                  *cli.Loops
	list, precompressed     bool
	header, idle            time.Duration
	maxBody                 int64
	conns, perAddr          int
	tls                     *cli.TLS
}

func parse() *options {
	o := new(options)
	fs := cli.Flags(`httpd [flags]

Serves the files of -root, and besides /hello, /echo, /stream, /events, /metrics and /std/. With one of the -tls flags it
speaks https. SIGINT and SIGTERM end it: what is under way is answered.`)
	fs.StringVar(&o.listen, "listen", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one; one with a \"/\" is a unix socket's")
	o.runner = cli.LoopFlags(fs)
	fs.StringVar(&o.root, "root", "", "`directory` whose files are served; none if empty")
	fs.BoolVar(&o.list, "list", false, "list directories that have no index.html")
	fs.BoolVar(&o.precompressed, "precompressed", false, "serve name.br, name.zst or name.gz in place of name to those who accept that")
	fs.StringVar(&o.accessLog, "access-log", "", "`file` for a line in the combined format for each request; \"-\" is standard output")
	fs.DurationVar(&o.header, "header-timeout", 10*time.Second, "how long the head of a request may take")
	fs.DurationVar(&o.idle, "idle-timeout", time.Minute, "how long a connection may be silent between requests")
	fs.Int64Var(&o.maxBody, "max-body", 10<<20, "largest body of a request, in `bytes`")
	fs.IntVar(&o.conns, "max-conns", 10_000, "most connections at a time")
	fs.IntVar(&o.perAddr, "max-conns-per-addr", 512, "most connections of one client; 0: any number")
	o.tls = cli.TLSFlags(fs)
	cli.Parse(fs, 0)
	if err := o.check(); err != nil {
		cli.Usage(err)
	}
	return o
}

// check looks at what cannot be meant.
func (o *options) check() error {
	switch {
	case o.header <= 0 || o.idle <= 0:
		return errors.New("-header-timeout, -idle-timeout: more than 0")
	case o.maxBody < 1:
		return fmt.Errorf("-max-body %d: at least 1", o.maxBody)
	case o.conns < 1 || o.perAddr < 0:
		return errors.New("-max-conns: at least 1; -max-conns-per-addr: at least 0")
	case o.list && o.root == "":
		return errors.New("-list needs -root")
	}
	return nil
}

// network is what the address belongs to.
func (o *options) network() string {
	if strings.Contains(o.listen, "/") {
		return "unix"
	}
	return "tcp"
}

// server is the server that the flags describe.
func (o *options) server() (*http1.Server, error) {
	s := &site{metrics: new(http1.Metrics), std: http1.Std(stdMux())}
	if o.root != "" {
		dir, err := http1.Dir(o.root)
		if err != nil {
			return nil, err
		}
		s.files = &http1.Files{FS: dir, List: o.list, Precompressed: o.precompressed}
	}
	srv := &http1.Server{Handler: s, Limits: http1.Limits{
		FirstByteTimeout: o.header, HeadTimeout: o.header, IdleTimeout: o.idle, Body: o.maxBody, Conns: o.conns, ConnsPerAddr: o.perAddr,
	}}
	if o.perAddr == 0 {
		srv.Limits.ConnsPerAddr = -1
	}
	s.metrics.Server = srv
	log, err := o.log()
	if err != nil {
		return nil, err
	}
	srv.Log = http1.Logs(s.metrics.Log, log)
	srv.TLSConfig, err = o.tls.Config()
	return srv, err
}

// log is where requests are logged; nil: nowhere.
func (o *options) log() (func(*http1.Entry), error) {
	var w io.Writer = os.Stdout
	switch o.accessLog {
	case "":
		return nil, nil
	case "-":
	default:
		f, err := os.OpenFile(o.accessLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, err
		}
		w = f
	}
	return http1.CombinedLog(w), nil
}

func main() {
	o := parse()
	srv, err := o.server()
	if err != nil {
		cli.Exit(err)
	}
	listen := srv.Listen
	if srv.TLSConfig != nil {
		listen = srv.ListenTLS
	}
	loop, err := o.runner.New()
	if err != nil {
		cli.Exit(err)
	}
	ln, err := listen(loop, o.network(), o.listen)
	if err != nil {
		cli.Exit(err)
	}
	cli.Listening(ln.Addr())
	err = cli.Serve(loop)
	c := srv.Counters()
	slog.New(slog.NewTextHandler(os.Stderr, nil)).Info("served", "connections", c.Conns, "responses", c.Responses[1]+c.Responses[2]+c.Responses[3]+
		c.Responses[4]+c.Responses[5], "octets", c.Octets, "refused", c.Refused)
	cli.Exit(err)
}

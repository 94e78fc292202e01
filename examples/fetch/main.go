// Fetch gets what URLs name: http1.Client from the command line.
//
//	go run ./examples/fetch http://www.example.com/ | less
//	go run ./examples/fetch -o page.html https://www.example.com/
//	go run ./examples/fetch -L -c https://www.example.com/a.iso https://www.example.com/b.iso
//	go run ./examples/fetch -X PUT -H 'Content-Type: text/plain' -d 'some text' http://localhost:8080/note
//
// One URL goes to standard output unless -o names a file. Several are fetched at once, on one loop, each to a file in -dir
// that is named after the end of its URL (index.html after a slash), in place of one that was there. A file is written as
// NAME.part and renamed when all of it has come; a NAME.part that is left behind is gone on with by -c, if the server can
// say that it is still a part of the same thing (NAME.part.from keeps what is needed for that).
//
// Redirections are followed with -L only, and up to ten: without, that one leads elsewhere is a failure, as is every other
// status than 2xx. To standard output the body of such a response is written all the same.
package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/examples/internal/cli"
	"github.com/parley-go/parley/protocols/http1"
)

const maxRedirects = 10

// job is what the command line asks for.
type job struct {
	backend   string
	client    http1.Client
	method    string
	host      string
	header    http.Header
	data      []byte // nil: no body
	resume    bool
	maxSize   int64
	parallel  int
	quiet     bool
	downloads []*download
}

func main() {
	fs := cli.Flags(`fetch [flags] URL...

One URL goes to standard output, several each to a file that is named after it. The exit status is 0 only if all of them came
whole; for each other one a line says why not.`)
	parsed := flags(fs)
	cli.Parse(fs, 1<<20)
	j, err := parsed(fs.Args())
	if err != nil {
		cli.Usage(err)
	}
	loop, err := cli.NewLoop(j.backend)
	if err != nil {
		cli.Exit(err)
	}
	failed := j.run(loop)
	if len(failed) > 0 && errors.Is(failed[0], http1.ErrHeader) {
		cli.Usage(failed[0])
	}
	for len(failed) > 1 {
		cli.Warn(failed[0])
		failed = failed[1:]
	}
	cli.Exit(errors.Join(failed...))
}

// flags are those of the command line. What it returns reads them when they are parsed.
func flags(fs *flag.FlagSet) func(urls []string) (*job, error) {
	output := fs.String("o", "", "`file` to write to, for one URL; - is standard output")
	dir := fs.String("dir", ".", "`folder` for the files of several URLs")
	resume := fs.Bool("c", false, "go on with what an earlier run left as NAME.part")
	follow := fs.Bool("L", false, fmt.Sprintf("follow redirections, up to %d", maxRedirects))
	var headers list
	fs.Var(&headers, "H", "`'Name: value'` of a header field; as often as there are some")
	method := fs.String("X", "", "`method`; otherwise GET, or POST with -d")
	data := fs.String("d", "", "`text` of the request's body; @NAME is that of a file, @- that of standard input")
	insecure := fs.Bool("k", false, "take any certificate: whoever is on the way can read and change everything")
	proxy := fs.String("proxy", "", "`URL` of a proxy, http://[USER:PASSWORD@]HOST:PORT or https://; env: those of the environment")
	timeout := fs.Duration("timeout", 30*time.Second, "how long to wait for the connection, and then whenever nothing comes")
	maxTime := fs.Duration("max-time", 0, "how long one URL may take; 0: any time")
	maxSize := fs.Int64("max-size", 0, "how many `octets` one URL may have; 0: any number")
	parallel := fs.Int("parallel", 4, "how many URLs are fetched at a time")
	quiet := fs.Bool("q", false, "show no progress; it is shown on a terminal only")
	backend := fs.String("backend", "auto", "auto, select, poll, epoll or kqueue")
	return func(urls []string) (*job, error) {
		j := &job{backend: *backend, method: *method, resume: *resume, maxSize: *maxSize, parallel: *parallel, quiet: *quiet}
		switch {
		case *timeout <= 0:
			return nil, fmt.Errorf("-timeout %v: more than 0", *timeout)
		case *maxTime < 0:
			return nil, fmt.Errorf("-max-time %v: not less than 0", *maxTime)
		case *maxSize < 0:
			return nil, fmt.Errorf("-max-size %d: not less than 0", *maxSize)
		case *parallel < 1 || *parallel > 1000:
			return nil, fmt.Errorf("-parallel %d: from 1 to 1000", *parallel)
		}
		j.client = http1.Client{
			Dialer:    core.Dialer{Timeout: *timeout},
			UserAgent: "fetch (parley)",
			Timeouts:  http1.ClientTimeouts{TLS: *timeout, Head: *timeout, Read: *timeout, Write: *timeout, Total: *maxTime},
			Limits:    http1.ClientLimits{ConnsPerHost: *parallel, IdlePerHost: *parallel, Conns: max(256, *parallel)},
		}
		if *follow {
			j.client.Redirects = maxRedirects
		}
		if *insecure {
			j.client.TLSConfig = &tls.Config{InsecureSkipVerify: true}
		}
		if err := j.setProxy(*proxy); err != nil {
			return nil, err
		}
		if err := j.setRequest(headers, *data); err != nil {
			return nil, err
		}
		return j, j.plan(urls, *output, *dir)
	}
}

// list is a flag that can be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ", ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func (j *job) setProxy(text string) error {
	switch text {
	case "":
		return nil
	case "env":
		j.client.Proxy = func(u *url.URL) (*url.URL, error) { return http.ProxyFromEnvironment(&http.Request{URL: u}) }
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errors.New("-proxy: no http:// or https:// URL") // it may have a password
	}
	j.client.Proxy = func(*url.URL) (*url.URL, error) { return u, nil }
	return nil
}

// setRequest reads what is to be sent.
func (j *job) setRequest(headers []string, data string) error {
	j.header = make(http.Header)
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return fmt.Errorf("-H %q: no colon", h)
		}
		if value = strings.Trim(value, " \t"); strings.EqualFold(name, "Host") {
			j.host = value
			continue
		}
		j.header.Add(name, value)
	}
	if data == "" {
		return nil
	}
	var err error
	switch name, isFile := strings.CutPrefix(data, "@"); {
	case data == "@-":
		j.data, err = io.ReadAll(os.Stdin)
	case isFile:
		j.data, err = os.ReadFile(name)
	default:
		j.data = []byte(data)
	}
	if err != nil {
		return fmt.Errorf("-d: %w", err)
	}
	if j.data = append([]byte{}, j.data...); j.method == "" {
		j.method = http.MethodPost
	}
	if j.header["Content-Type"] == nil {
		j.header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return nil
}

// plan says where what goes.
func (j *job) plan(urls []string, output, dir string) error {
	switch {
	case len(urls) == 0:
		return errors.New("which page? The URL is missing")
	case len(urls) > 1 && output != "":
		return errors.New("-o is for one URL")
	case len(urls) == 1 && (output == "" || output == "-") && j.resume:
		return errors.New("-c: there is no file to go on with: see -o")
	}
	if info, err := os.Stat(output); output != "" && err == nil && info.IsDir() {
		return fmt.Errorf("-o %s is a directory", output)
	}
	names := make(map[string]string)
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			return fmt.Errorf("argument: %w", err)
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return fmt.Errorf("argument %q is no http:// or https:// URL", text)
		}
		d := &download{job: j, url: u}
		switch {
		case len(urls) > 1:
			d.name = filepath.Join(dir, fileName(u))
			if other, taken := names[d.name]; taken {
				return fmt.Errorf("%s and %s would both be %s", other, u.Redacted(), d.name)
			}
			names[d.name] = u.Redacted()
		case output != "-":
			d.name = output
		}
		j.downloads = append(j.downloads, d)
	}
	return nil
}

// request makes what is sent for a URL.
func (j *job) request(u *url.URL) *http1.Outgoing {
	out := &http1.Outgoing{Method: j.method, URL: u, Host: j.host, Header: j.header.Clone()}
	if j.data != nil {
		out.Body = bytes.NewReader(j.data)
	}
	return out
}

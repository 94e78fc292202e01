// Httpget fetches a page: the HTTP client of Python's asyncore documentation.
//
//	go run ./examples/httpget http://www.example.com/
//
// It is a client of a few lines, not of the whole of HTTP. What it leaves out:
//
//   - It speaks HTTP/1.0 and asks for one page on one connection, so that the answer ends where the connection does.
//   - It follows no redirect and keeps no connection; there is no TLS, no proxy, no cookie, no encoding to undo.
//   - It writes to standard output on the loop. While that is slow everything waits, which is no harm with one channel.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/examples/internal/cli"
)

// client is the handler: it writes the request and copies what comes. Python's has the same methods.
type client struct {
	request []byte // what is left of it to send
	answer  answer
	err     error // why the answer is not whole
}

// Writable is asked before each pass of the loop: is there something to write? [writable]
func (c *client) Writable() bool { return len(c.request) > 0 }

// HandleWrite is called when the socket takes output, first when the connection is there. It may take less than all;
// the loop comes again then. [handle_write]
func (c *client) HandleWrite(d *core.Dispatcher) error {
	n, err := d.Send(c.request)
	c.request = c.request[n:]
	return err
}

// HandleRead is called when input, or its end, is there. [handle_read]
func (c *client) HandleRead(d *core.Dispatcher) error {
	p, err := d.RecvShared()
	if err != nil {
		return err // of the connection, or its end: HandleClose is told
	}
	if _, err := c.answer.Write(p); err != nil {
		return err
	}
	if c.answer.complete() {
		return d.Close() // the server might keep the connection
	}
	return nil
}

// HandleError is told what HandleRead returned. By default it would also be logged; one line is enough. [handle_error]
func (c *client) HandleError(d *core.Dispatcher, err error) { _ = d.CloseWith(err) }

// HandleClose comes once and last, also when there never was a connection. [handle_close]
func (c *client) HandleClose(_ *core.Dispatcher, cause error) {
	if c.err = cause; cause == io.EOF {
		c.err = c.answer.finish()
	}
}

func main() {
	fs := cli.Flags(`httpget [flags] http://HOST[:PORT][/PATH]

Writes the page to standard output. The exit status is 0 only if it came whole.`)
	head := fs.Bool("head", false, "write the header, too")
	fail := fs.Bool("fail", false, "a status of 400 or more is an error; the page is written all the same")
	timeout := fs.Duration("timeout", 30*time.Second, "how long to wait for the connection, and then for each piece of the answer")
	backend := fs.String("backend", "auto", "auto, select, poll, epoll or kqueue")
	cli.Parse(fs, 1)
	if fs.NArg() == 0 {
		cli.Usage(errors.New("which page? The URL is missing"))
	}
	if *timeout <= 0 {
		cli.Usage(fmt.Errorf("-timeout %v: more than 0", *timeout))
	}
	u, err := parse(fs.Arg(0))
	if err != nil {
		cli.Usage(err)
	}
	loop, err := cli.NewLoop(*backend)
	if err != nil {
		cli.Exit(err)
	}
	c, err := fetch(loop, u, *timeout, answer{out: os.Stdout, head: *head})
	switch {
	case errors.Is(err, core.ErrTimeout):
		err = fmt.Errorf("%s: timeout after %v", u.Host, *timeout)
	case err == nil && *fail && c.answer.status >= 400:
		err = fmt.Errorf("%s: %s", u, c.answer.reason)
	}
	cli.Exit(err)
}

// parse checks a URL.
func parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme == "https":
		return nil, fmt.Errorf("%s: https is not supported", text)
	case u.Scheme != "http" || u.Opaque != "":
		return nil, fmt.Errorf("%q does not begin with http://", text)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q names no host", text)
	case u.User != nil:
		return nil, fmt.Errorf("%s: user names are not supported", u.Redacted())
	}
	return u, nil
}

// fetch runs the loop until the page is there; the error is why it is not.
func fetch(loop *core.Loop, u *url.URL, timeout time.Duration, a answer) (*client, error) {
	defer loop.Close()
	port := u.Port()
	if port == "" {
		port = "80"
	}
	c := &client{answer: a}
	c.request = fmt.Appendf(nil, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", u.RequestURI(), u.Host)
	d := new(core.Dispatcher)
	dialer := core.Dialer{Timeout: timeout}
	if err := dialer.Attach(d, loop, "tcp", net.JoinHostPort(u.Hostname(), port), c); err != nil {
		return c, err
	}
	d.SetIdleTimeout(timeout)
	if err := loop.Run(context.Background()); err != nil { // returns when the channel is gone
		return c, err
	}
	return c, c.err
}

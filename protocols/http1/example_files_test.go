package http1_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing/fstest"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// answer has a server answer to what a client says.
func answer(srv *http1.Server, says string) string {
	w := sim.New(sim.Config{T: exampleT{}})
	loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	defer loop.Close()
	sock, p := w.Pair()
	if _, err := srv.Serve(loop, sock); err != nil {
		return err.Error()
	}
	p.Say(says)
	w.Settle()
	return p.Read()
}

func ExampleFileServer() {
	// A directory: fsys, err := http1.Dir("/srv/www").
	fsys := fstest.MapFS{"index.html": {Data: []byte("<p>Hello\n")}}
	srv := &http1.Server{Handler: http1.FileServer(fsys)}
	exchange(srv, "GET / HTTP/1.1\nHost: www.example.com\nRange: bytes=3-7\n\n")
	// Output:
	// HTTP/1.1 206 Partial Content
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Content-Type: text/html; charset=utf-8
	// Accept-Ranges: bytes
	// Content-Range: bytes 3-7/9
	// Content-Length: 5
	//
	// Hello
}

func ExampleFiles() {
	fsys := fstest.MapFS{
		"app.css":    {Data: []byte("p { color: red }\n")},
		"app.css.gz": {Data: []byte("(the same, smaller)\n")},
	}
	srv := &http1.Server{Handler: &http1.Files{
		FS:            fsys,
		Prefix:        "/static/",
		Precompressed: true,
		Header:        func(w *http1.ResponseWriter, _ string) { w.Set("Cache-Control", "max-age=3600") },
	}}
	exchange(srv, "GET /static/app.css HTTP/1.1\nHost: www.example.com\nAccept-Encoding: gzip, deflate\n\n")
	// Output:
	// HTTP/1.1 200 OK
	// Date: Sat, 01 Jan 2000 00:00:00 GMT
	// Vary: Accept-Encoding
	// Cache-Control: max-age=3600
	// Content-Type: text/css; charset=utf-8
	// Content-Encoding: gzip
	// Accept-Ranges: bytes
	// Content-Length: 20
	//
	// (the same, smaller)
}

func ExampleCombinedLog() {
	srv := handle(func(w *http1.ResponseWriter, _ *http1.Request) error {
		_, err := w.WriteString("Hello\n")
		return err
	})
	srv.Log = func(e *http1.Entry) {
		var line strings.Builder
		http1.CombinedLog(&line)(e)
		_, rest, _ := strings.Cut(line.String(), " ") // the client's address
		fmt.Print(rest)
	}
	answer(srv, "GET /?q=a HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: \"example\"\r\n\r\n")
	// Output:
	// - - [01/Jan/2000:00:00:00 +0000] "GET /?q=a HTTP/1.1" 200 6 "-" "\x22example\x22"
}

func ExampleMetrics() {
	metrics := new(http1.Metrics)
	srv := &http1.Server{Log: metrics.Log}
	srv.Handler = http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
		if string(r.Path()) == "/metrics" {
			return metrics.ServeHTTP(w, r)
		}
		return &http1.Error{Status: http.StatusNotFound}
	})
	metrics.Server = srv
	for line := range strings.Lines(answer(srv, "GET /none HTTP/1.1\r\nHost: a\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")) {
		if strings.HasPrefix(line, "parley_http_requests") || strings.HasPrefix(line, "parley_http_connections_open") {
			fmt.Print(line)
		}
	}
	// Output:
	// parley_http_requests_total{method="GET",code="4xx"} 1
	// parley_http_connections_open 1
}

func ExampleDir() {
	top, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(top)
	_ = os.Mkdir(top+"/www", 0o700)
	_ = os.WriteFile(top+"/secret", []byte("secret"), 0o600)
	_ = os.WriteFile(top+"/www/page", []byte("page"), 0o600)
	_ = os.Symlink("../secret", top+"/www/link")

	fsys, err := http1.Dir(top + "/www")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range []string{"page", "link"} {
		f, err := fsys.Open(name)
		fmt.Println(name, err == nil)
		if err == nil {
			f.Close()
		}
	}
	// Output:
	// page true
	// link false
}

//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package http1_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/http1"
)

func ExampleStd() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "Hello, %s!\n", r.PathValue("name"))
	})

	loop, err := core.NewLoop(core.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer loop.Close()
	srv := &http1.Server{Handler: http1.Std(mux)}
	ln, err := srv.Listen(loop, "tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		defer loop.Shutdown(0)
		a, err := http.Get("http://" + ln.Addr().String() + "/hello/World")
		if err != nil {
			fmt.Println(err)
			return
		}
		defer a.Body.Close()
		body, _ := io.ReadAll(a.Body)
		fmt.Print(string(body))
	}()
	if err := loop.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output: Hello, World!
}

func ExampleStdHandler() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := http.MaxBytesReader(w, r.Body, 1<<30) // uploads may be large here
		_, _ = io.Copy(io.Discard, body)
	})
	srv := &http1.Server{Handler: &http1.StdHandler{Handler: handler, MaxWorkers: 100, BodyLimit: -1}}
	fmt.Println(srv.Open(), "connections")
	// Output: 0 connections
}

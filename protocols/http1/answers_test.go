package http1_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// various answers in the way that the path says.
func various(w *http1.ResponseWriter, r *http1.Request) error {
	for _, step := range string(r.Path()) {
		switch step {
		case 'a':
			w.Set("Content-Type", "text/plain")
		case 'b':
			w.Set("Etag", "b")
		case 'B':
			w.Add("Etag", "B")
		case 'd':
			w.Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
		case 'e':
			return &http1.Error{Status: 404}
		case 'f':
			_ = w.Flush()
		case 'l':
			w.SetLength(w.Written())
		case 'L':
			w.SetLength(9)
		case 'n':
			w.SetStatus(204)
		case 's':
			w.SetStatus(201)
		case 't':
			_, _ = w.WriteString("text")
		case 'T':
			_, _ = w.WriteString(strings.Repeat("long ", 300))
		case 'w':
			w.Defer()
			r.Conn().AfterFunc(time.Millisecond, func() { w.Finish(nil) })
		case 'x':
			w.Set("X", "y\r\nz") // which is 500
		}
	}
	return nil
}

// What a request gets does not depend on the requests before it.
func TestAnswersDoNotDependOnEarlierOnes(t *testing.T) {
	const steps = "aaaabbbbBdeflLnstttttTwx"
	r := rand.New(rand.NewPCG(3, 4))
	s := newScene(t, handle(various), sim.Config{})
	fresh := newScene(t, handle(various), sim.Config{}) // whose client gets a server of its own each time
	var said []string
	answered := 0
	for range 2000 {
		if len(said) == 0 || r.IntN(2) > 0 {
			path := "/"
			for range r.IntN(5) {
				path += string(steps[r.IntN(len(steps))])
			}
			method := []string{"GET", "GET", "GET", "HEAD", "POST"}[r.IntN(5)]
			minor := min(r.IntN(8), 1)
			fields := []string{"", "", "Connection: close\r\n", "X: y\r\nZ: z\r\n"}[r.IntN(4)]
			said = append(said, fmt.Sprintf("%s %s HTTP/1.%d\r\nHost: a\r\n%s\r\n", method, path, minor, fields))
		}
		request := said[len(said)-1-r.IntN(min(len(said), 3))]
		if r.IntN(3) == 0 {
			d := time.Duration(r.IntN(1500)) * time.Millisecond
			s.Advance(d)
			fresh.Advance(d)
		}
		s.p.Say(request)
		s.Advance(2 * time.Millisecond)
		got := s.p.Read()

		fresh.srv = handle(various)
		p := fresh.client()
		p.Say(request)
		fresh.Advance(2 * time.Millisecond)
		require.Equal(t, p.Read(), got, "%q", request)
		if got != "" { // or else it was cut off in the middle, by a reset
			require.Equal(t, 1, strings.Count(got, "\r\nDate: "), "%q", got)
			answered++
		}
		if p.Ended() {
			s.p = s.client()
		}
		p.Close()
	}
	require.Greater(t, answered, 1800)
}

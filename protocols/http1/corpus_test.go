package http1_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// tell answers with what it got.
func tell(w *http1.ResponseWriter, r *http1.Request) error {
	return r.ReadAll(0, func(body []byte) error {
		w.Set("Content-Type", "text/plain")
		text := r.Method() + " " + string(r.Path())
		if len(r.RawQuery()) > 0 {
			text += "?" + string(r.RawQuery())
		}
		text += " host=" + string(r.Host()) + " body=" + string(body)
		if t := r.Trailers(); t != nil {
			for name, value := range t.All() {
				text += " " + string(name) + "=" + string(value)
			}
		}
		_, err := w.WriteString(text + "\n")
		return err
	})
}

var corpusLimits = http1.Limits{RequestLine: 500, FieldLine: 600, FieldBytes: 1000, Fields: 20, ChunkExtensions: 1000, Trailers: 800,
	Body: 100_000, HeadTimeout: time.Hour} // some networks are slow

func serve(server func() *http1.Server) func(*core.Loop, core.Socket) error {
	return func(l *core.Loop, sock core.Socket) error {
		_, err := server().Serve(l, sock)
		return err
	}
}

// The corpus: what must be refused and what must be accepted, and the examples of RFC 9112, each whole, at every cut and in
// random pieces.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("../../testdata/http/*.dialog")
	require.NoError(t, err)
	require.Greater(t, len(files), 250)
	for i, file := range files {
		if underRace && i%5 != 0 { // core/sim has one goroutine: some are enough for the race detector
			continue
		}
		sim.Dialog(t, file, serve(func() *http1.Server {
			return &http1.Server{Handler: http1.HandlerFunc(tell), Limits: corpusLimits}
		}))
	}
}

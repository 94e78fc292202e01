package http1_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/http1"
)

// clientSides are what the clients say in the corpus.
func clientSides(t testing.TB) (says []string) {
	files, err := filepath.Glob("../../testdata/http/*.dialog")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var b strings.Builder
		for line := range strings.Lines(string(raw)) {
			who, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			if !ok || who == "" || who[0] != 'C' && who[0] != 'c' {
				continue
			}
			text = strings.TrimPrefix(text, " ")
			text = strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\t`, "\t", `\s`, " ", `\\`, `\`, `\x00`, "\x00").Replace(text)
			if _, n, ok := strings.Cut(who, "*"); ok {
				times, err := strconv.Atoi(n)
				require.NoError(t, err)
				text = strings.Repeat(text, times)
			}
			b.WriteString(text)
			if who[0] == 'C' {
				b.WriteString("\r\n")
			}
		}
		says = append(says, b.String())
	}
	return says
}

// reading is how a request was read.
type reading struct {
	Method, Target, Host, Proto, Body string
	Header, Trailer                   http.Header
}

// fuzzServer tells what it read.
func fuzzServer(read *[]reading) *http1.Server {
	return &http1.Server{AllowConnect: true, AllowOptions: true, Limits: corpusLimits,
		Handler: http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
			return r.ReadAll(0, func(body []byte) error {
				x := reading{Method: r.Method(), Target: string(r.Target()), Host: string(r.Host()), Proto: r.Proto(), Body: string(body), Header: r.Header()}
				if t := r.Trailers(); t != nil {
					x.Trailer = t.Header()
				}
				*read = append(*read, x)
				_, err := fmt.Fprintf(w, "%s %d", r.Target(), len(body))
				return err
			})
		})}
}

// served returns what a server read and answered.
func served(t *testing.T, said []byte, net sim.Config) (read []reading, answers string) {
	net.T = t
	w := sim.New(net)
	loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler)})
	defer loop.Close()
	srv := fuzzServer(&read)
	sock, p := w.Pair()
	_, err := srv.Serve(loop, sock)
	require.NoError(t, err)
	p.Say(string(said))
	p.CloseWrite()
	w.Advance(time.Minute)
	answers = p.Read()
	require.Zero(t, srv.Open())
	return read, answers
}

// FuzzAgainstNetHTTP gives one stream to this server and to net/http's ReadRequest. Whatever both accept, both have to read
// alike, up to where the next request begins; and what this server accepts, net/http has to accept, but for
//
//   - one empty line before a request: RFC 9112 section 2.2 says that a server should skip it.
//   - blanks between a chunk's size and the ";" of an extension: RFC 9112 section 7.1.1, RFC 9110 section 5.6.3.
//   - trailer fields whose names net/http does not want there: RFC 9110 section 6.5.1 leaves that to who uses them.
func FuzzAgainstNetHTTP(f *testing.F) {
	for _, said := range clientSides(f) {
		f.Add([]byte(said))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, _ := served(t, said, sim.Config{Window: 1 << 20})
		r := bufio.NewReaderSize(bytes.NewReader(said), 1<<20)
		for i, x := range ours {
			if empty, err := r.Peek(2); err == nil && string(empty) == "\r\n" {
				_, _ = r.Discard(2)
			}
			req, err := http.ReadRequest(r)
			require.NoError(t, err, "request %d, which was read as %+v", i, x)
			require.Equal(t, x.Method, req.Method)
			require.Equal(t, x.Target, req.RequestURI)
			require.Equal(t, x.Host, req.Host)
			require.Equal(t, x.Proto, req.Proto)
			body, err := io.ReadAll(req.Body)
			if err != nil && x.Trailer != nil && strings.Contains(err.Error(), "trailer") {
				return
			}
			if err != nil && blankBeforeExtension.Match(said) {
				return
			}
			require.NoError(t, err, "the body of request %d, which was read as %+v", i, x)
			require.Equal(t, x.Body, string(body))
			require.Equal(t, unframed(x.Header), unframed(req.Header))
		}
	})
}

var blankBeforeExtension = regexp.MustCompile(`[0-9A-Fa-f][ \t]+;`)

// unframed is a header without what net/http takes out, puts in or says elsewhere.
func unframed(h http.Header) http.Header {
	h = h.Clone()
	if len(h["Pragma"]) > 0 && h["Pragma"][0] == "no-cache" {
		delete(h, "Cache-Control")
	}
	for _, name := range []string{"Transfer-Encoding", "Content-Length", "Trailer"} {
		delete(h, name)
	}
	return h
}

// FuzzSession: whatever a client says, cut in whatever way, nothing panics, what is read and what is answered does not
// depend on the cuts, and each answer is a response that net/http takes, as long as it says.
func FuzzSession(f *testing.F) {
	for i, said := range clientSides(f) {
		f.Add([]byte(said), uint64(i))
	}
	f.Fuzz(func(t *testing.T, said []byte, cuts uint64) {
		read, answers := served(t, said, sim.Config{Seed: cuts, Window: 1 << 20})
		read2, answers2 := served(t, said, sim.Config{Seed: cuts, MaxRecv: 1 + int(cuts%100), RandomCuts: true, Again: 0.1, Spurious: 0.1})
		require.Equal(t, read, read2)
		require.Equal(t, answers, answers2)
		r := bufio.NewReader(strings.NewReader(answers))
		finals := 0
		for {
			method := http.MethodGet
			if finals < len(read) {
				method = read[finals].Method
			} else if bytes.Contains(said, []byte("HEAD ")) {
				return // refused before it was known whether the answer may have a body
			}
			if _, err := r.Peek(1); err == io.EOF {
				break
			}
			resp, err := http.ReadResponse(r, &http.Request{Method: method})
			require.NoError(t, err, "%q", answers)
			if resp.StatusCode == http.StatusContinue {
				continue
			}
			finals++
			if method != http.MethodConnect { // net/http takes what follows as a tunnel's
				_, err = io.ReadAll(resp.Body)
				require.NoError(t, err, "%q", answers)
				require.Positive(t, resp.ContentLength)
			} else {
				return
			}
			require.NotEmpty(t, resp.Header.Get("Date"))
		}
		require.GreaterOrEqual(t, finals, len(read))
		require.LessOrEqual(t, finals, len(read)+1)
	})
}

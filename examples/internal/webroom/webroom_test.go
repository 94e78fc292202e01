package webroom_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/examples/internal/webroom"
	"github.com/parley-go/parley/protocols/http1"
	"github.com/parley-go/parley/protocols/room"
)

// scene is a house with a door for browsers, on a simulated network.
type scene struct {
	*sim.World
	t     *testing.T
	loop  *core.Loop
	house *room.House
	srv   *http1.Server
}

func newScene(t *testing.T, c room.Config) *scene {
	w := sim.New(sim.Config{T: t})
	loop := w.Loop(core.Options{Logger: slog.New(slog.DiscardHandler), Strict: true})
	t.Cleanup(func() { _ = loop.Close() })
	house := room.New(loop, c)
	return &scene{w, t, loop, house, &http1.Server{Handler: webroom.New(loop, house), Limits: http1.Limits{IdleTimeout: -1}}}
}

// ask sends one request on a connection of its own, and returns the status and the body.
func (s *scene) ask(method, target, body string, fields ...string) (int, string) {
	s.t.Helper()
	p := s.begin(method, target, body, append(fields, "Connection: close")...)
	text := p.Read()
	p.WantClosed()
	head, rest, ok := strings.Cut(text, "\r\n\r\n")
	require.True(s.t, ok, text)
	var status int
	_, err := fmt.Sscanf(head, "HTTP/1.1 %d ", &status)
	require.NoError(s.t, err)
	return status, rest
}

func (s *scene) begin(method, target, body string, fields ...string) *sim.Peer {
	s.t.Helper()
	sock, p := s.Pair()
	_, err := s.srv.Serve(s.loop, sock)
	require.NoError(s.t, err)
	text := method + " " + target + " HTTP/1.1\r\nHost: chat.example\r\n"
	if body != "" {
		text += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	for _, f := range fields {
		text += f + "\r\n"
	}
	p.Say(text + "\r\n" + body)
	return p
}

// do does something as a visitor.
func (s *scene) do(session, action string, args ...string) (int, string) {
	s.t.Helper()
	in := map[string]string{"session": session}
	for i := 0; i < len(args); i += 2 {
		in[args[i]] = args[i+1]
	}
	text, err := json.Marshal(in)
	require.NoError(s.t, err)
	return s.ask("POST", action, string(text))
}

func (s *scene) enter(nick string) string {
	s.t.Helper()
	status, body := s.do("", "/enter", "nick", nick)
	require.Equal(s.t, http.StatusCreated, status, body)
	var in struct{ Session, Nick string }
	require.NoError(s.t, json.Unmarshal([]byte(body), &in))
	require.Equal(s.t, nick, in.Nick)
	return in.Session
}

// events opens a stream; its beginning is read.
func (s *scene) events(session string, fields ...string) *sim.Peer {
	s.t.Helper()
	p := s.begin("GET", "/events?session="+session, "", fields...)
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		head += p.WantLine()
	}
	require.Regexp(s.t, `(?s)^HTTP/1\.1 200 OK\r\n.*\r\nContent-Type: text/event-stream\r\n(.*\r\n)?Transfer-Encoding: chunked\r\n`, head)
	return p
}

var chunk = regexp.MustCompile(`(?m)^[0-9a-f]+\r\n|\r\n`)

// heard returns what came on a stream, without the framing, the times and the heartbeats.
func heard(p *sim.Peer) string {
	text := chunk.ReplaceAllString(p.Read(), "")
	text = regexp.MustCompile(`"time":"[^"]*",`).ReplaceAllString(text, "")
	return strings.ReplaceAll(strings.ReplaceAll(text, ":\n\n", ""), "retry: 1000\n", "")
}

func (s *scene) log(p *sim.Peer) string { s.Settle(); return heard(p) }

func TestTalk(t *testing.T) {
	s := newScene(t, room.Config{})
	alice, bob := s.enter("alice"), s.enter("bob")
	status, body := s.do("", "/enter", "nick", "Alice")
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "That name is taken\n", body)

	a, b := s.events(alice), s.events(bob)
	require.Equal(t, `event: place
id: 1
data: {"history":[],"members":["alice"],"nick":"alice","room":"lobby"}

event: message
id: 2
data: {"kind":"joined","room":"lobby","from":"bob","text":""}

`, s.log(a))
	s.log(b)
	for _, x := range [][]string{{"/say", "text", "<hi>\u202e"}, {"/act", "text", "waves"}, {"/tell", "to", "bob", "text", "psst"},
		{"/nick", "name", "al"}, {"/join", "name", "attic"}, {"/leave", "text", "bye"}} {
		status, body := s.do(alice, x[0], x[1:]...)
		require.Equal(t, http.StatusNoContent, status, body)
	}
	require.Equal(t, `event: message
id: 2
data: {"kind":"said","room":"lobby","from":"alice","text":"\u003chi\u003e"}

event: message
id: 3
data: {"kind":"acted","room":"lobby","from":"alice","text":"waves"}

event: message
id: 4
data: {"kind":"told","from":"alice","text":"psst"}

event: message
id: 5
data: {"kind":"renamed","room":"lobby","from":"alice","text":"al"}

event: message
id: 6
data: {"kind":"left","room":"lobby","from":"al","text":"gone to attic"}

`, s.log(b))
	require.Contains(t, s.log(a), `{"history":[],"members":["al"],"nick":"al","room":"attic"}`)
	status, _ = s.do(alice, "/say", "text", "x")
	require.Equal(t, http.StatusGone, status, "who has left is not here")
	status, body = s.ask("GET", "/rooms?session="+bob, "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, `[{"name":"lobby","members":1}]`, body)
}

// A browser that loses its connection goes on where it was.
func TestGoOn(t *testing.T) {
	s := newScene(t, room.Config{})
	alice, bob := s.enter("alice"), s.enter("bob")
	a := s.events(alice)
	s.log(a)
	a.Reset()
	s.Settle()
	for i := range 3 {
		s.do(bob, "/say", "text", fmt.Sprint("line ", i))
	}
	a = s.events(alice, "Last-Event-ID: 3")
	require.Equal(t, `event: message
id: 4
data: {"kind":"said","room":"lobby","from":"bob","text":"line 1"}

event: message
id: 5
data: {"kind":"said","room":"lobby","from":"bob","text":"line 2"}

`, s.log(a))

	other := s.events(alice, "Last-Event-ID: 5")
	require.Equal(t, "0\r\n\r\n", a.Read())
	require.Empty(t, s.log(other), "there is one stream")

	// Nonsense is from the beginning, of what is still there.
	other = s.events(alice, "Last-Event-ID: 99")
	require.Contains(t, s.log(other), "event: place\nid: 1\n")
}

// A browser that does not take what is said misses some of it, and is told how much.
func TestSlowBrowser(t *testing.T) {
	s := newScene(t, room.Config{FloodBurst: -1})
	alice, bob := s.enter("alice"), s.enter("bob")
	a := s.events(alice)
	s.log(a)
	a.Reset()
	s.Settle()
	for i := range 300 {
		s.do(bob, "/say", "text", fmt.Sprint("line ", i))
	}
	status, body := s.do(bob, "/tell", "to", "alice", "text", "x")
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, body, "Not delivered")
	text := s.log(s.events(alice, "Last-Event-ID: 2"))
	require.True(t, strings.HasPrefix(text, "event: missed\nid: 47\ndata: 45\n\nevent: message\nid: 48\n"), "%.200q", text)
	require.Contains(t, text, `"line 299"`)
}

// What waits for a browser that is away is bounded by its size, too.
func TestLargeEvents(t *testing.T) {
	s := newScene(t, room.Config{FloodBurst: -1})
	alice, bob := s.enter("alice"), s.enter("bob")
	for range 20 {
		s.do(bob, "/say", "text", strings.Repeat("<", 1000))
	}
	for i := range 100 {
		status, _ := s.do(alice, "/join", "name", []string{"other", "lobby"}[i%2])
		require.Equal(t, http.StatusNoContent, status)
	}
	text := s.log(s.events(alice))
	require.Less(t, len(text), 300<<10)
	require.Contains(t, text, "event: missed\n")
	require.Contains(t, text[len(text)-200<<10:], `"room":"lobby"`)
}

// Who is away for too long has left; who says nothing for too long, too.
func TestAbsence(t *testing.T) {
	s := newScene(t, room.Config{IdleTimeout: 10 * time.Minute})
	never, gone, silent, present := s.enter("never"), s.enter("gone"), s.enter("silent"), s.enter("present")
	a, b, c := s.events(gone), s.events(silent), s.events(present)
	s.Advance(20 * time.Second)
	a.Reset()
	s.Advance(29 * time.Second)
	status, _ := s.do(gone, "/say", "text", "still here")
	require.Equal(t, http.StatusNoContent, status)
	status, _ = s.do(never, "/say", "text", "x")
	require.Equal(t, http.StatusGone, status)
	s.Advance(time.Minute)
	status, _ = s.do(gone, "/say", "text", "x")
	require.Equal(t, http.StatusGone, status)
	s.Advance(5 * time.Minute)
	status, _ = s.do(present, "/say", "text", "x")
	require.Equal(t, http.StatusNoContent, status)
	s.Advance(5 * time.Minute)
	require.Regexp(t, `(?s)^.*:\n\n.*0\r\n\r\n$`, b.Read())
	require.Contains(t, s.log(c), `"from":"silent","text":"idle"`)
	require.Equal(t, []string{"present"}, s.house.Room("lobby").Members())
}

func TestLimits(t *testing.T) {
	s := newScene(t, room.Config{MaxConns: 2, FloodBurst: 3, FloodRate: 0.1, MaxLine: 10})
	alice := s.enter("alice")
	for i := range 4 {
		status, body := s.do(alice, "/say", "text", "x")
		if i < 3 {
			require.Equal(t, http.StatusNoContent, status)
		} else {
			require.Equal(t, http.StatusTooManyRequests, status, body)
		}
	}
	s.Advance(10 * time.Second)
	status, body := s.do(alice, "/say", "text", "eleven long")
	require.Equal(t, http.StatusRequestEntityTooLarge, status, body)
	s.enter("bob")
	status, _ = s.do("", "/enter", "nick", "carol")
	require.Equal(t, http.StatusServiceUnavailable, status)
	status, _ = s.ask("POST", "/say", `{"text":"`+strings.Repeat("x", 9000)+`"}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
}

// What is no request of this page.
func TestRefused(t *testing.T) {
	s := newScene(t, room.Config{})
	alice := s.enter("alice")
	in := `{"session":"` + alice + `","text":"x"}`
	for _, x := range []struct {
		name, method, target, body, field string
		want                              int
	}{
		{"another site's page", "POST", "/say", in, "Sec-Fetch-Site: cross-site", 403},
		{"a neighbour's page", "POST", "/say", in, "Sec-Fetch-Site: same-site", 403},
		{"another origin", "POST", "/say", in, "Origin: http://evil.example", 403},
		{"this origin", "POST", "/say", in, "Origin: http://chat.example", 204},
		{"this page", "POST", "/say", in, "Sec-Fetch-Site: same-origin", 204},
		{"events for another site", "GET", "/events?session=" + alice, "", "Sec-Fetch-Site: cross-site", 403},
		{"no such session", "GET", "/events?session=x", "", "X: y", 410},
		{"no session", "GET", "/rooms", "", "X: y", 410},
		{"no JSON", "POST", "/say", "x", "X: y", 400},
		{"GET where POST is due", "GET", "/say", "", "X: y", 405},
		{"POST where GET is due", "POST", "/", in, "X: y", 405},
		{"nothing there", "GET", "/nothing", "", "X: y", 404},
		{"a way out", "GET", "/../webroom.go", "", "X: y", 404},
		{"a way in", "GET", "/page/index.html", "", "X: y", 404},
		{"the page", "GET", "/", "", "X: y", 200},
		{"its script", "GET", "/chat.js", "", "X: y", 200},
		{"its style", "HEAD", "/chat.css", "", "X: y", 200},
	} {
		status, body := s.ask(x.method, x.target, x.body, x.field)
		require.Equal(t, x.want, status, "%s: %s", x.name, body)
	}
	p := s.begin("POST", "/say", "", "Content-Type: text/plain", "Content-Length: 2", "Connection: close")
	p.Say("{}")
	require.Regexp(t, `(?s)^HTTP/1\.1 415 .*$`, p.Read())
}

// A shutdown ends streams in order.
func TestShutdown(t *testing.T) {
	s := newScene(t, room.Config{})
	a := s.events(s.enter("alice"))
	s.log(a)
	s.loop.Shutdown(time.Minute)
	require.Regexp(t, `(?s)0\r\n\r\n$`, a.Read())
	a.WantClosed()
	require.Empty(t, s.house.Room("lobby").Members())
}

// Package webroom brings protocols/room into the browser: one page, what is said as server-sent events one way, and what
// somebody does as POST requests the other. People with telnet and with a browser are in the same rooms, on one loop.
//
//	GET  /          the page, and what it is made of
//	POST /enter     {"nick"}: 201 {"session", "nick", "limit"}, or 409
//	GET  /events    ?session=…: events, until the member leaves; Last-Event-ID goes on where a connection broke
//	GET  /rooms     ?session=…: [{"name", "members"}]
//	POST /say       {"session", "text"}; likewise /act; /tell with "to", /join and /nick with "name", /leave: 204
//
// The events are "place" (a room, who is there, and what was said before), "message" and "missed" (how many messages the
// browser was too slow for). A session is a random number that only the page has that entered. Requests of other sites'
// pages are refused.
package webroom

import (
	"crypto/rand"
	"embed"
	"encoding/json"
	"errors"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/http1"
	"github.com/parley-go/parley/protocols/room"
)

// Bounds of what one visitor can ask for, besides those of room.Config.
const (
	maxBody    = 8 << 10   // octets of a POST
	maxPending = 256       // events that wait for a browser; older ones are missed
	maxHeld    = 256 << 10 // octets of these: a "place" is large, and can be asked for at will
	keepalive  = 15 * time.Second
	absence    = 30 * time.Second // a browser that is away for longer has left
)

//go:embed page
var page embed.FS

// Web is a http1.Handler. It lives on the loop of its house.
type Web struct {
	house    *room.House
	loop     *core.Loop
	sessions map[string]*visitor
	perAddr  map[string]int

	last    *room.Message // rendered
	encoded []byte
}

// New returns the handler for a house on a loop.
func New(l *core.Loop, h *room.House) *Web {
	return &Web{house: h, loop: l, sessions: make(map[string]*visitor), perAddr: make(map[string]int)}
}

// Errors for people.
var (
	errMethod   = &http1.Error{Status: http.StatusMethodNotAllowed}
	errForeign  = &http1.Error{Status: http.StatusForbidden, Text: "This is for this site's own page"}
	errSession  = &http1.Error{Status: http.StatusGone, Text: "You are not here any more"}
	errTooFast  = &http1.Error{Status: http.StatusTooManyRequests, Text: "Not so fast! That was not said"}
	errFull     = &http1.Error{Status: http.StatusServiceUnavailable, Text: "There are too many visitors at the moment"}
	errNotJSON  = &http1.Error{Status: http.StatusUnsupportedMediaType, Text: "application/json is wanted"}
	errBadInput = &http1.Error{Status: http.StatusBadRequest, Text: "That is not what was expected"}
)

// ServeHTTP serves the page and what it asks for.
func (web *Web) ServeHTTP(w *http1.ResponseWriter, r *http1.Request) error {
	w.Set("X-Content-Type-Options", "nosniff")
	w.Set("Cache-Control", "no-store")
	p := string(r.Path())
	if f, ok := actions[p]; ok {
		return web.post(w, r, f)
	}
	if r.Method() != http.MethodGet && r.Method() != http.MethodHead {
		w.Set("Allow", "GET, HEAD")
		return errMethod
	}
	switch p {
	case "/events":
		return web.events(w, r)
	case "/rooms":
		return web.rooms(w, r)
	}
	return file(w, p)
}

// file serves what the page is made of.
func file(w *http1.ResponseWriter, p string) error {
	name := strings.TrimPrefix(p, "/")
	if name == "" {
		name = "index.html"
	}
	text, err := page.ReadFile(path.Join("page", name))
	if err != nil || strings.Contains(name, "/") {
		return &http1.Error{Status: http.StatusNotFound}
	}
	w.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	w.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	w.Set("Referrer-Policy", "no-referrer")
	w.SetLength(int64(len(text)))
	_, err = w.Write(text)
	return err
}

// own tells whether a request comes from this site's page, or from a program.
func own(r *http1.Request) bool {
	site := string(r.Field("Sec-Fetch-Site"))
	if site == "" { // an old browser: Origin is of the page
		origin := r.Field("Origin")
		if origin == nil {
			return true
		}
		u, err := url.Parse(string(origin))
		return err == nil && u.Host == string(r.Host())
	}
	return site == "same-origin" || site == "none"
}

// input is the body of a POST.
type input struct {
	Session string `json:"session"`
	Nick    string `json:"nick"`
	Text    string `json:"text"`
	To      string `json:"to"`
	Name    string `json:"name"`
}

// actions are what can be done, by path.
var actions = map[string]func(*Web, *http1.ResponseWriter, *http1.Request, *input) error{
	"/enter": (*Web).enter,
	"/say":   act(func(v *visitor, in *input) error { return v.member.Say(in.Text) }),
	"/act":   act(func(v *visitor, in *input) error { return v.member.Act(in.Text) }),
	"/tell":  act(func(v *visitor, in *input) error { _, err := v.member.Tell(in.To, in.Text); return err }),
	"/nick":  act(func(v *visitor, in *input) error { return v.member.Rename(in.Name) }),
	"/join": act(func(v *visitor, in *input) error {
		was := v.member.Room()
		err := v.member.Join(in.Name)
		if err == nil && v.member.Room() != was {
			v.place()
		}
		return err
	}),
	"/leave": act(func(v *visitor, in *input) error { v.leave(in.Text); return nil }),
}

// act makes an action of what a member does.
func act(f func(*visitor, *input) error) func(*Web, *http1.ResponseWriter, *http1.Request, *input) error {
	return func(web *Web, w *http1.ResponseWriter, _ *http1.Request, in *input) error {
		v := web.sessions[in.Session]
		if v == nil {
			return errSession
		}
		v.heard = web.loop.Now()
		if !v.inTime() {
			return errTooFast
		}
		if err := f(v, in); err != nil {
			return said(err)
		}
		w.SetStatus(http.StatusNoContent)
		return nil
	}
}

// said makes a response of an error whose text is for people.
func said(err error) error {
	status := http.StatusConflict
	if errors.Is(err, core.ErrTooLong) {
		status = http.StatusRequestEntityTooLarge
	}
	text := err.Error()
	return &http1.Error{Status: status, Text: strings.ToUpper(text[:1]) + text[1:]}
}

func (web *Web) post(w *http1.ResponseWriter, r *http1.Request, f func(*Web, *http1.ResponseWriter, *http1.Request, *input) error) error {
	if r.Method() != http.MethodPost {
		w.Set("Allow", "POST")
		return errMethod
	}
	if t, _, err := mime.ParseMediaType(string(r.Field("Content-Type"))); err != nil || t != "application/json" {
		return errNotJSON
	}
	if !own(r) {
		return errForeign
	}
	return r.ReadAll(maxBody, func(body []byte) error {
		in := new(input)
		if err := json.Unmarshal(body, in); err != nil {
			return errBadInput
		}
		return f(web, w, r, in)
	})
}

func answer(w *http1.ResponseWriter, status int, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.SetStatus(status)
	w.Set("Content-Type", "application/json")
	_, err = w.Write(text)
	return err
}

// enter lets somebody in.
func (web *Web) enter(w *http1.ResponseWriter, r *http1.Request, in *input) error {
	c := web.house.Config()
	addr := client(r.RemoteAddr())
	if c.MaxConns > 0 && len(web.sessions) >= c.MaxConns || c.MaxPerAddr > 0 && web.perAddr[addr] >= c.MaxPerAddr {
		w.Set("Retry-After", "60")
		return errFull
	}
	v := &visitor{web: web, id: rand.Text(), addr: addr, heard: web.loop.Now(), level: float64(c.FloodBurst), levelAt: web.loop.Now()}
	m, err := web.house.Enter(in.Nick, v)
	if err != nil {
		return said(err)
	}
	v.member = m
	web.sessions[v.id] = v
	web.perAddr[addr]++
	v.timer = web.loop.AfterFunc(absence, v.look)
	v.away = web.loop.Now()
	web.loop.Logger().Info("joined", "nick", m.Nick(), "peer", addr, "via", "web")
	v.place()
	return answer(w, http.StatusCreated, map[string]any{"session": v.id, "nick": m.Nick(), "limit": c.MaxLine})
}

// client is what MaxPerAddr counts by: an address, of IPv6 the network of 64 bits, as core.Limit has it.
func client(a net.Addr) string {
	if a == nil {
		return ""
	}
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return ""
	}
	addr := p.Addr().Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}

// visitor of the request.
func (web *Web) visitor(r *http1.Request) (*visitor, error) {
	if !own(r) {
		return nil, errForeign
	}
	q, err := url.ParseQuery(string(r.RawQuery()))
	if err != nil {
		return nil, errBadInput
	}
	if v := web.sessions[q.Get("session")]; v != nil {
		return v, nil
	}
	return nil, errSession
}

// rooms lists them.
func (web *Web) rooms(w *http1.ResponseWriter, r *http1.Request) error {
	if _, err := web.visitor(r); err != nil {
		return err
	}
	type one struct {
		Name    string `json:"name"`
		Members int    `json:"members"`
	}
	list := []one{}
	for _, r := range web.house.Rooms() {
		list = append(list, one{r.Name(), len(r.Members())})
	}
	return answer(w, http.StatusOK, list)
}

// events begins a stream. A later one of the same visitor takes its place.
func (web *Web) events(w *http1.ResponseWriter, r *http1.Request) error {
	v, err := web.visitor(r)
	if err != nil {
		return err
	}
	if r.Method() == http.MethodHead {
		return nil
	}
	v.hangUp()
	v.sent = 0
	if n, err := strconv.ParseUint(string(r.Field("Last-Event-ID")), 10, 64); err == nil && n <= v.made {
		v.sent = n
	}
	stream, err := w.EventStream(keepalive)
	if err != nil {
		return err
	}
	v.stream, v.w, v.retry = stream, w, time.Second
	w.OnDone(func(error) {
		if v.stream == stream {
			v.stream, v.waiting, v.away = nil, false, web.loop.Now()
		}
	})
	w.OnShutdown(func() { v.leave("") })
	v.pump()
	return nil
}

// message is a room.Message in JSON.
type message struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"`
	Room string    `json:"room,omitempty"`
	From string    `json:"from"`
	Via  string    `json:"via,omitempty"`
	Text string    `json:"text"`
}

var kinds = map[room.Kind]string{
	room.Said: "said", room.Acted: "acted", room.Told: "told", room.Joined: "joined", room.Left: "left", room.Renamed: "renamed",
}

func inJSON(m *room.Message) message {
	return message{m.Time.UTC(), kinds[m.Kind], m.Room, m.From, m.Via, m.Text}
}

// encode renders a message, once for all who hear it.
func (web *Web) encode(m *room.Message) []byte {
	if web.last != m {
		text, err := json.Marshal(inJSON(m))
		if err != nil {
			panic(err) // there is nothing in it that could fail
		}
		web.last, web.encoded = m, text
	}
	return web.encoded
}

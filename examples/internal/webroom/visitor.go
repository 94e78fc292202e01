package webroom

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/http1"
	"github.com/parley-go/parley/protocols/room"
)

// visitor is somebody with a browser: the room.Outlet of a member, and the stream of events to the page, when there is one.
type visitor struct {
	web    *Web
	id     string
	addr   string
	member *room.Member
	stream *http1.EventStream // nil: the browser is away
	w      *http1.ResponseWriter
	retry  time.Duration // what the browser is to be told of that, once
	away   time.Time     // since when
	heard  time.Time     // when it last did something
	timer  *core.Timer

	// Events that the page may not have yet: it says what it has when it comes back.
	pending []event
	held    int    // octets of these
	made    uint64 // how many there were; the number of the last one
	sent    uint64 // the number of the last one that was sent
	waiting bool   // the stream is full

	level   float64 // of a bucket of lines that can be said at once
	levelAt time.Time
}

type event struct {
	kind string
	data []byte
}

// inTime tells whether the visitor may do one thing more.
func (v *visitor) inTime() bool {
	c := v.web.house.Config()
	if c.FloodBurst < 0 {
		return true
	}
	now := v.web.loop.Now()
	v.level = min(float64(c.FloodBurst), v.level+c.FloodRate*now.Sub(v.levelAt).Seconds())
	v.levelAt = now
	if v.level < 1 {
		return false
	}
	v.level--
	return true
}

// Hear queues a message.
func (v *visitor) Hear(m *room.Message) bool {
	v.queue("message", v.web.encode(m))
	return v.made-v.sent < maxPending
}

// place tells where the visitor is, and with whom.
func (v *visitor) place() {
	r := v.member.Room()
	history := []message{}
	for _, m := range r.History() {
		history = append(history, inJSON(m))
	}
	text, err := json.Marshal(map[string]any{"room": r.Name(), "nick": v.member.Nick(), "members": r.Members(), "history": history})
	if err != nil {
		panic(err)
	}
	v.queue("place", text)
}

// queue puts an event behind the others. It is written when this event is over: it may come from within another's.
func (v *visitor) queue(kind string, data []byte) {
	drop := 0
	v.held += len(data)
	for drop < len(v.pending) && (len(v.pending)-drop >= maxPending || v.held > maxHeld) {
		v.held -= len(v.pending[drop].data)
		drop++
	}
	v.pending = append(slices.Delete(v.pending, 0, drop), event{kind, data})
	v.made++
	v.pump()
}

// pump sends what the stream takes.
func (v *visitor) pump() {
	if v.stream == nil || v.waiting {
		return
	}
	oldest := v.made - uint64(len(v.pending)) + 1
	if v.sent+1 < oldest && !v.send(oldest-1, event{"missed", strconv.AppendUint(nil, oldest-1-v.sent, 10)}) {
		return
	}
	for v.sent < v.made && v.send(v.sent+1, v.pending[v.sent+1-oldest]) {
	}
}

// send sends an event. If it answers false the stream is full, and pump is called again; or it is over.
func (v *visitor) send(id uint64, e event) bool {
	switch err := v.stream.Send(http1.Event{ID: strconv.FormatUint(id, 10), Name: e.kind, Data: string(e.data), Retry: v.retry}); err {
	case nil:
		v.sent, v.retry = id, 0
		return true
	case core.ErrWouldBlock:
		v.waiting = true
		stream := v.stream
		v.w.OnDrain(func() error {
			if v.stream == stream {
				v.waiting = false
				v.pump()
			}
			return nil
		})
	}
	return false
}

// look is called by the timer: it takes those out who are gone.
func (v *visitor) look() {
	c := v.web.house.Config()
	now := v.web.loop.Now()
	switch {
	case v.member.Room() == nil:
		return
	case v.stream == nil && now.Sub(v.away) >= absence:
		v.leave("connection lost")
		return
	case c.IdleTimeout > 0 && now.Sub(v.heard) >= c.IdleTimeout:
		v.leave("idle")
		return
	}
	v.timer.Reset(keepalive)
}

// leave takes the visitor out of the house.
func (v *visitor) leave(why string) {
	if v.web.sessions[v.id] == nil {
		return
	}
	delete(v.web.sessions, v.id)
	if v.web.perAddr[v.addr]--; v.web.perAddr[v.addr] == 0 {
		delete(v.web.perAddr, v.addr)
	}
	v.timer.Stop()
	v.web.loop.Logger().Info("left", "nick", v.member.Nick(), "peer", v.addr, "via", "web", "cause", why)
	v.member.Leave(why)
	v.hangUp()
}

// hangUp ends the stream, if there is one.
func (v *visitor) hangUp() {
	if stream := v.stream; stream != nil {
		v.stream, v.waiting, v.away = nil, false, v.web.loop.Now()
		stream.Close()
	}
}

package smtp

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/parley-go/parley/core"
)

// hop is a place where mail goes: a server, or the mail exchangers of a domain.
type hop struct {
	r       *Relay
	key     string
	network string
	address string // "": the exchangers of domain
	domain  string
	refusal *Reply // there is no way: what goes there fails

	parts   int     // of messages, that are not over
	waiting []*part // for a connection
	conns   []*relayConn
	fails   int       // in a row
	until   time.Time // it is left alone
	timer   *core.Timer
	starved bool // in Relay.starved

	looking bool      // exchangers are looked up
	found   time.Time // when they were
	targets []target
	next    int // which of these is tried
}

// target is one server of a hop.
type target struct {
	address string
	only    bool // the domain itself, for want of exchangers
}

// part is a message on its way to one hop.
type part struct {
	m        *held
	h        *hop
	which    []int // recipients
	attempts int
}

// relayConn is a connection to a hop.
type relayConn struct {
	h       *hop
	client  *Client
	target  target
	opened  bool
	busy    bool
	carried int
}

// Replies of a Relay to itself.
var (
	errNoRoute   = Replyf(550, "5.4.4", "There is no way to this domain")
	errRouting   = Replyf(451, "4.4.0", "The way to this domain cannot be found now")
	errNoReading = Replyf(451, "4.3.0", "The message cannot be read from the queue")
	errMisset    = Replyf(451, "4.3.5", "The next server cannot be used as it is configured")
)

// enqueue begins with a message.
func (r *Relay) enqueue(m *held) {
	if r.stopping {
		return // it is in the queue
	}
	if m.open == 0 { // it was to be removed
		r.soil(m)
		return
	}
	byHop := make(map[*hop]*part)
	byDomain := make(map[string]*hop)
	var parts []*part
	for i, to := range m.to {
		if m.done[i] {
			continue
		}
		domain := strings.ToLower(to.Domain)
		h := byDomain[domain]
		if h == nil {
			h = r.route(domain)
			byDomain[domain] = h
		}
		p := byHop[h]
		if p == nil {
			p = &part{m: m, h: h}
			byHop[h] = p
			parts = append(parts, p)
		}
		p.which = append(p.which, i)
	}
	for _, p := range parts {
		p.h.parts++
	}
	for _, p := range parts {
		p.h.add(p)
	}
}

// route finds the hop of a domain.
func (r *Relay) route(domain string) *hop {
	network, address := r.Network, r.Address
	if r.Route != nil {
		err := error(errRouting)
		r.call("Route", func() { network, address, err = r.Route(domain) })
		if err != nil {
			return r.noRoute(domain, err)
		}
	}
	if network == "" {
		network = "tcp"
	}
	h := &hop{r: r, network: network, address: address}
	switch {
	case address != "":
		h.key = network + " " + address
	case r.Resolver == nil || domain == "":
		return r.noRoute(domain, errNoRoute)
	default:
		h.domain, h.key = domain, network+" MX "+domain
	}
	return r.keep(h)
}

// noRoute is a hop of its own kind, where nothing goes.
func (r *Relay) noRoute(domain string, err error) *hop {
	reply := errRouting
	var x *Reply
	if errors.As(err, &x) && !x.Positive() {
		reply = x
	} else {
		r.log.Error("smtp relay: Route", "domain", domain, "error", err)
	}
	return r.keep(&hop{r: r, domain: domain, key: "none " + domain + " " + reply.Error(), refusal: reply})
}

// keep returns the hop that is known by this key, or else this one.
func (r *Relay) keep(h *hop) *hop {
	if known := r.hops[h.key]; known != nil {
		return known
	}
	r.hops[h.key] = h
	return h
}

// String is what reports say.
func (h *hop) String() string {
	switch {
	case h.address != "":
		return h.address
	case h.refusal != nil:
		return ""
	}
	return h.domain
}

// add has a part wait for a connection.
func (h *hop) add(p *part) {
	h.waiting = append(h.waiting, p)
	h.pump()
}

// putBack is add for a part that was tried in vain through no fault of its own.
func (h *hop) putBack(p *part) { h.waiting = slices.Insert(h.waiting, 0, p) }

// pump hands parts to connections, and makes connections.
func (h *hop) pump() {
	r := h.r
	for len(h.waiting) > 0 && !r.stopping && !r.ch.Closed() {
		if h.refusal != nil {
			h.fail(h.refusal, true)
			return
		}
		if c := h.idle(); c != nil {
			p := h.waiting[0]
			h.waiting[0] = nil
			h.waiting = h.waiting[1:]
			r.send(c, p)
			continue
		}
		switch {
		case h.looking || h.opening() || exceeds(len(h.conns)+1, r.limits.ConnsPerHop):
			return
		case r.loop.Now().Before(h.until):
			h.wake()
			return
		case exceeds(len(r.conns)+1, r.limits.Conns):
			if !h.starved {
				h.starved = true
				r.starved = append(r.starved, h)
			}
			r.evict()
			return
		}
		h.dial()
		if !h.looking && !h.opening() { // it has failed, and waits
			return
		}
	}
}

// wake has the hop looked at when it is not left alone any more.
func (h *hop) wake() {
	d := h.until.Sub(h.r.loop.Now())
	if h.timer == nil {
		h.timer = h.r.ch.AfterFunc(d, h.pump)
	} else {
		h.timer.Reset(d)
	}
}

func (h *hop) idle() *relayConn {
	for _, c := range h.conns {
		if c.idle() {
			return c
		}
	}
	return nil
}

func (c *relayConn) idle() bool { return c.opened && !c.busy && c.client.Open() }

// opening tells whether a connection is being made: a further one waits for what becomes of that.
func (h *hop) opening() bool {
	return slices.ContainsFunc(h.conns, func(c *relayConn) bool { return !c.opened })
}

// evict has a connection end that does nothing, so that another one can be made.
func (r *Relay) evict() {
	for _, c := range r.conns {
		if c.idle() {
			c.client.Quit()
			return
		}
	}
}

// feed lets those have a connection that have waited for one.
func (r *Relay) feed() {
	for len(r.starved) > 0 && !exceeds(len(r.conns)+1, r.limits.Conns) {
		h := r.starved[0]
		r.starved[0] = nil
		r.starved = r.starved[1:]
		h.starved = false
		h.pump()
	}
}

// dial begins a connection.
func (h *hop) dial() {
	r := h.r
	if h.address == "" && (h.targets == nil || r.loop.Now().Sub(h.found) > mxKeep) {
		h.lookUp()
		return
	}
	t := target{address: h.address}
	if h.address == "" {
		t = h.targets[h.next]
	}
	c := &relayConn{h: h, target: t, client: new(Client)}
	if r.NewClient != nil {
		c.client = nil
		r.call("NewClient", func() { c.client = r.NewClient(h.network, t.address) })
		if c.client == nil {
			h.fail(errMisset, true)
			return
		}
	}
	if c.client.Hostname == "" {
		c.client.Hostname = r.hostname
	}
	or(&c.client.Timeouts.Idle, r.limits.IdleTimeout)
	c.client.opened = c.open
	c.client.Closed = c.closed
	h.conns, r.conns = append(h.conns, c), append(r.conns, c)
	if err := c.client.Dial(r.loop, h.network, t.address); err != nil {
		h.drop(c)
		r.log.Error("smtp relay", "hop", h.String(), "error", err)
		h.fail(errMisset, true)
	}
}

// drop forgets a connection.
func (h *hop) drop(c *relayConn) {
	is := func(x *relayConn) bool { return x == c }
	h.conns, h.r.conns = slices.DeleteFunc(h.conns, is), slices.DeleteFunc(h.r.conns, is)
}

// open: messages can be sent.
func (c *relayConn) open() {
	c.opened = true
	if c.h.r.stopping {
		c.leave()
		return
	}
	c.h.pump()
	c.spare()
}

// spare has a connection end that has nothing to do while others wait for one.
func (c *relayConn) spare() {
	if c.idle() && len(c.h.r.starved) > 0 {
		c.client.Quit()
	}
}

// leave has a connection end when it has done what it does.
func (c *relayConn) leave() {
	if c.opened {
		c.client.Quit()
	} else {
		c.client.Close()
	}
}

// closed: the connection is over.
func (c *relayConn) closed(cause error) {
	h := c.h
	r := h.r
	h.drop(c)
	if !c.opened && !r.stopping && !r.ch.Closed() {
		reply, own := c.lastWord()
		if c.target.only && isNoSuchHost(cause) {
			reply, own = errNoSuchDomain, true
		}
		h.unreachable(c.target, reply, own)
	}
	r.feed() // others have waited for longer
	h.pump()
	h.tidy()
}

// lastWord is why the connection has ended, of the server or our own: for now, in any case.
func (c *relayConn) lastWord() (reply *Reply, own bool) {
	reply, own = lostReply, true
	if f := c.client.verdict; f != nil {
		reply, own = f.reply, f.err != nil
	}
	if reply.Code/100 == 5 { // what it thinks of us is not what becomes of the mail
		reply = &Reply{Code: 450 + reply.Code%10, Enhanced: "4" + strings.TrimPrefix(reply.Enhanced, "5"), Lines: reply.Lines}
		if len(reply.Enhanced) == 1 {
			reply.Enhanced = ""
		}
	}
	return reply, own
}

// unreachable: there is no connection to a target. If there is another one, that is next.
func (h *hop) unreachable(t target, reply *Reply, own bool) {
	if h.next+1 < len(h.targets) {
		h.next++
		h.pump()
		return
	}
	h.next = 0
	if h.live() { // it is only that there is none more to be had
		h.until = h.r.loop.Now().Add(h.r.backOff(0))
		h.pump()
		return
	}
	h.fail(reply, own)
}

// live tells whether there is a connection that can be used.
func (h *hop) live() bool {
	return slices.ContainsFunc(h.conns, func(c *relayConn) bool { return c.opened && c.client.Open() })
}

// fail has everything fail that waits here, for now or for good. For now it is left alone for a while.
func (h *hop) fail(reply *Reply, own bool) {
	r := h.r
	var next time.Time
	if reply.Temporary() {
		next = r.loop.Now().Add(r.backOff(h.fails))
		h.fails++
		h.until = next
	}
	all := h.waiting
	h.waiting = nil
	for _, p := range all {
		p.attempts++
		switch {
		case !reply.Temporary():
			r.lost(p, p.which, reply, own, h.String())
		case r.expired(p.m):
			r.lost(p, p.which, expired(reply), true, h.String())
		default:
			r.report(&RelayReport{ID: p.m.id, Event: RelayDeferred, From: p.m.from, To: p.recipients(p.which), Hop: h.String(),
				Reply: reply, Own: own, Next: next})
			h.waiting = append(h.waiting, p)
		}
	}
	if len(h.waiting) > 0 {
		if h.refusal != nil { // look for the way again
			h.reroute()
			return
		}
		h.wake()
	}
	h.tidy()
}

// reroute has those that found no way look for one later.
func (h *hop) reroute() {
	for _, p := range h.waiting {
		h.r.later(p, h.until.Sub(h.r.loop.Now()))
	}
	h.waiting = nil
}

// later has a part tried again, by the way that there is then.
func (r *Relay) later(p *part, d time.Duration) {
	r.ch.AfterFunc(d, func() {
		h := p.h
		if h.refusal == nil {
			h.add(p)
			return
		}
		h.parts--
		h.tidy()
		byHop := make(map[*hop]*part)
		for _, i := range p.which {
			to := r.route(strings.ToLower(p.m.to[i].Domain))
			q := byHop[to]
			if q == nil {
				q = &part{m: p.m, h: to, attempts: p.attempts}
				byHop[to] = q
				to.parts++
				defer to.add(q)
			}
			q.which = append(q.which, i)
		}
	})
}

// tidy forgets a hop where nothing goes any more.
func (h *hop) tidy() {
	if h.parts == 0 && len(h.conns) == 0 && !h.looking {
		if h.timer != nil {
			h.timer.Stop()
		}
		if h.r.hops[h.key] == h {
			delete(h.r.hops, h.key)
		}
	}
}

// backOff is how long something is left alone after so many failures before this one.
func (r *Relay) backOff(failures int) time.Duration {
	d := r.retry[min(failures, len(r.retry)-1)]
	return d + time.Duration(r.rng.Int64N(int64(d)/10+1))
}

func (r *Relay) expired(m *held) bool {
	return r.limits.Lifetime >= 0 && r.loop.Now().Sub(m.at) >= r.limits.Lifetime
}

// expired is what is said of a message that has become too old.
func expired(reply *Reply) *Reply {
	return &Reply{Code: 554, Enhanced: "4.4.7", Lines: []string{"It was tried for too long; the last answer: " + reply.Error()}}
}

func (p *part) recipients(which []int) []Recipient {
	to := make([]Recipient, len(which))
	for i, n := range which {
		to[i] = p.m.to[n]
	}
	return to
}

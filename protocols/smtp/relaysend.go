package smtp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/parley-go/parley/core"
)

// This file is how a Relay sends a message, and what follows from the answers.

// send sends a part over a connection that has nothing to do.
func (r *Relay) send(c *relayConn, p *part) {
	c.busy = true
	r.sending++
	var out *Outgoing
	var f io.Closer
	r.work(func(context.Context) (err error) {
		out, f, err = p.outgoing(r.q)
		return err
	}, func(err error) {
		if err == nil {
			if err = c.client.Send(out, func(res *Result) { r.sent(c, p, res, f) }); err == nil {
				return
			}
			if f != nil {
				_ = f.Close()
			}
		}
		c.busy = false
		r.sending--
		if errors.Is(err, core.ErrClosed) { // the connection has ended meanwhile
			p.h.putBack(p)
			if c.carried == 0 && !r.stopping { // it was of no use, and the next one may be of none
				reply, own := c.lastWord()
				p.h.unreachable(c.target, reply, own)
				return
			}
			p.h.pump()
			return
		}
		r.log.Error("smtp relay: message cannot be read", "id", p.m.id, "file", p.m.name, "error", err)
		r.deferred(p, p.which, errNoReading, true)
		p.h.pump()
	})
}

// fileBody hides what it is from the Client, which then reads it off the loop.
type fileBody struct{ io.Reader }

// outgoing opens a message. One that is not large is read at once.
func (p *part) outgoing(q relayQueue) (*Outgoing, io.Closer, error) {
	m := p.m
	text, f, err := q.Open(m.name)
	if err != nil {
		return nil, nil, err
	}
	out := &Outgoing{From: m.from, To: p.recipients(p.which), Params: m.params, RefuseBare: true}
	body := io.NewSectionReader(text, m.head, text.Size()-m.head)
	if body.Size() > bodyBlock {
		out.Body, out.Size = fileBody{body}, body.Size()
		return out, f, nil
	}
	defer f.Close()
	all := make([]byte, body.Size())
	_, err = io.ReadFull(body, all)
	out.Body = bytes.NewReader(all)
	return out, nil, err
}

// sent: a message has come to its end on a connection.
func (r *Relay) sent(c *relayConn, p *part, res *Result, f io.Closer) {
	if f != nil {
		_ = f.Close()
	}
	first := c.carried == 0
	c.carried++
	c.busy = false
	r.sending--
	h := c.h
	defer r.end()
	step := stepOf(res)
	switch {
	case errors.Is(res.Err, core.ErrShutdown), r.ch.Closed(), r.stopping && errors.Is(res.Err, core.ErrClosed):
		return // it is in the queue
	case step < stepRcpt && stale(res) && !first: // it has hung up while nothing was to do
		h.putBack(p)
		h.pump()
		return
	case step < stepRcpt && stale(res):
		h.putBack(p)
		h.unreachable(c.target, res.Reply, res.Err != nil)
		return
	}
	r.judge(c, p, res)
	if exceeds(c.carried+1, r.limits.MessagesPerConn) || r.stopping {
		c.client.Quit()
		return
	}
	h.pump()
	c.spare()
}

// stepOf is where a message ended.
func stepOf(res *Result) step {
	for s := stepConnect; s < stepQuit; s++ {
		if stepNames[s] == res.Step {
			return s
		}
	}
	return stepQuit
}

// judge does what follows from a result for each recipient.
func (r *Relay) judge(c *relayConn, p *part, res *Result) {
	h := c.h
	own := res.Err != nil
	_, reports := c.client.Offers("DSN")
	var delivered, again, temporary, permanent []int
	var told []*RelayReport
	for k, i := range p.which {
		reply := res.To[k]
		x := &RelayReport{ID: p.m.id, From: p.m.from, To: p.recipients([]int{i}), Hop: c.target.address, Reply: reply, Own: own && reply == res.Reply}
		switch {
		case reply.Positive():
			delivered = append(delivered, i)
			x.relayed, x.final = !reports, c.client.LMTP
		case reply.Code == 452 && (reply.Enhanced == "" || reply.Enhanced == "4.5.3") && res.Accepted() > 0:
			again = append(again, i) // too many at a time: RFC 5321 section 4.5.3.1.10
			continue
		case reply.Temporary() && r.expired(p.m):
			x.Event, x.Reply, x.Own = RelayFailed, expired(reply), true
			permanent = append(permanent, i)
		case reply.Temporary():
			x.Event = RelayDeferred
			temporary = append(temporary, i)
		default:
			x.Event = RelayFailed
			permanent = append(permanent, i)
		}
		told = append(told, x)
	}
	if len(delivered) > 0 {
		h.fails = 0
	}
	var wait time.Duration
	switch {
	case len(temporary) > 0:
		wait = r.backOff(p.attempts)
		p.attempts++
	case len(again) == 0 && len(permanent) == 0: // all is well
		h.parts--
	}
	var failed, succeeded []*RelayReport
	for _, x := range told {
		switch x.Event {
		case RelayDeferred:
			x.Next = r.loop.Now().Add(wait)
		case RelayFailed:
			failed = append(failed, x)
		default:
			succeeded = append(succeeded, x)
		}
	}
	if len(again)+len(temporary)+len(permanent) > 0 {
		r.split(p, again, temporary, permanent, wait)
	}
	r.notify(p.m, succeeded, delivered)
	r.notify(p.m, failed, permanent)
	for _, x := range told {
		r.report(x)
	}
}

// split goes on with what is left of a part.
func (r *Relay) split(p *part, again, temporary, permanent []int, wait time.Duration) {
	h := p.h
	h.parts--
	if len(temporary) > 0 {
		h.parts++
		r.later(&part{m: p.m, h: h, which: temporary, attempts: p.attempts}, wait)
	}
	if len(again) > 0 {
		h.parts++
		h.putBack(&part{m: p.m, h: h, which: again, attempts: p.attempts})
	}
}

// deferred is for all of a part that failed for now, by itself.
func (r *Relay) deferred(p *part, which []int, reply *Reply, own bool) {
	if r.expired(p.m) {
		r.lost(p, which, expired(reply), true, p.h.String())
		return
	}
	wait := r.backOff(p.attempts)
	p.attempts++
	r.later(p, wait)
	r.report(&RelayReport{ID: p.m.id, Event: RelayDeferred, From: p.m.from, To: p.recipients(which), Hop: p.h.String(), Reply: reply,
		Own: own, Next: r.loop.Now().Add(wait)})
}

// lost is for all of a part that failed for good.
func (r *Relay) lost(p *part, which []int, reply *Reply, own bool, hop string) {
	p.h.parts--
	x := &RelayReport{ID: p.m.id, Event: RelayFailed, From: p.m.from, To: p.recipients(which), Hop: hop, Reply: reply, Own: own}
	r.notify(p.m, []*RelayReport{x}, which)
	r.report(x)
}

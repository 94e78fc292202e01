package smtp

import (
	"errors"
	"io"
)

// mailing is a message on its way.
type mailing struct {
	c      *Client
	out    *Outgoing
	from   Path
	params Params
	to     []Recipient
	done   func(*Result)

	// A relay adds recipients, and the message later, and learns of each answer when it comes: relayed.
	open  bool
	relay relayed

	utf8     bool   // SMTPUTF8
	chunking bool   // BDAT
	binary   bool   // BODY=BINARYMIME
	only7    *Reply // what an octet above 127 amounts to; nil: nothing

	mail     string   // the command
	begun    bool     // MAIL was sent
	asked    int      // recipients that were asked for, or refused without
	pending  int      // of these, without an answer
	good     []int    // of these, accepted
	each     []*Reply // the last word on each; nil: none yet
	own      *Reply   // that on the first one, if it is ours
	sent     bool     // DATA, or the first chunk
	answers  int      // to the message that are to come; more than one with LMTP
	complete bool     // the connection has all of the message
	over     bool     // nothing more is to be sent of it
	body     *bodyProducer

	result Result
	last   *failure // how it ended
}

// relayed are told what was accepted; each may be nil. What ends the message is told by its result.
type relayed struct {
	mailed func(r *Reply)
	rcpted func(i int, r *Reply) // also refused
	dataed func()                // the message can be sent
}

// errStopped is the cause when a message cannot be given up in another way.
var errStopped = errors.New("smtp: closed within a message, to give it up")

// begin begins the transaction.
func (j *mailing) begin() {
	_, chunking := j.c.Offers("CHUNKING")
	j.chunking = chunking && !j.c.NoChunking
	j.each = make([]*Reply, len(j.to))
	line, r := j.mailLine()
	if r == nil && len(j.to) == 0 && !j.open {
		r = noRecipients
	}
	if r != nil && !j.over {
		j.end(stepMail, r, r)
	}
	j.mail = line
	j.advance()
}

// end has nothing more sent of the message. r is the last word on the recipients that have no other; err: it is our own.
func (j *mailing) end(s step, r *Reply, err error) {
	j.over = true
	if j.last == nil {
		j.last = &failure{s, r, err}
	}
}

// advance sends what can be sent.
func (j *mailing) advance() {
	c := j.c
	for c.job == j && !c.conn.Closed() {
		switch {
		case j.over:
			if len(c.pending) == 0 && j.body == nil {
				j.finish()
			}
			return
		case j.sent, len(c.pending) > 0 && (!c.pipelining() || c.ahead >= clientAhead):
			return
		case c.dirty: // the one before was refused
			c.dirty = false
			c.command(stepReset, c.timeouts.Mail, "RSET")
		case !j.begun:
			j.begun = true
			c.command(stepMail, c.timeouts.Mail, j.mail)
		case j.asked < len(j.to):
			j.ask()
		case j.open:
			return
		case len(j.good)+j.pending == 0:
			j.nobody()
		case !j.chunking:
			j.sent = true
			c.command(stepData, c.timeouts.Data, "DATA")
		case len(c.pending) > 0: // chunks are not sent for nobody
			return
		default:
			j.sendBody()
		}
	}
}

// pipelining tells whether commands may be sent ahead.
func (c *Client) pipelining() bool {
	_, ok := c.Offers("PIPELINING")
	return ok && !c.NoPipelining
}

// ask is RCPT for the next one.
func (j *mailing) ask() {
	i := j.asked
	j.asked++
	line, r := j.rcptLine(j.to[i])
	if r == nil {
		j.pending++
		j.c.commandFor(stepRcpt, j.c.timeouts.Rcpt, line, i)
		return
	}
	j.each[i] = r
	if i == 0 {
		j.own = r
	}
	if j.relay.rcpted != nil {
		j.relay.rcpted(i, r)
	}
}

// add is another recipient of an open message.
func (j *mailing) add(to Recipient) {
	j.to = append(j.to, to)
	j.each = append(j.each, nil)
	j.advance()
}

// nobody: no recipient was accepted.
func (j *mailing) nobody() {
	var err error
	if j.own != nil {
		err = j.own
	}
	j.end(stepRcpt, j.each[0], err)
}

// answered takes the answer to a command.
func (j *mailing) answered(cmd command, r *Reply) {
	class := r.Code / 100
	if class == 3 && cmd.step != stepData || class == 2 && cmd.step == stepData {
		j.c.misplaced(r)
		return
	}
	switch cmd.step {
	case stepMail:
		if !r.Positive() {
			j.end(stepMail, r, nil)
		} else if j.relay.mailed != nil && !j.over {
			j.relay.mailed(r)
		}
	case stepRcpt:
		j.rcptAnswered(cmd.rcpt, r)
	case stepData:
		j.dataAnswered(r)
	case stepChunk:
		if !r.Positive() {
			j.end(stepChunk, r, nil)
		}
		j.c.conn.ResumeProducer()
	case stepEnd:
		j.endAnswered(cmd.rcpt, r)
	}
}

func (j *mailing) rcptAnswered(i int, r *Reply) {
	j.pending--
	if r.Positive() {
		j.good = append(j.good, i)
	}
	if j.over { // MAIL was refused, and the rest follows from that
		return
	}
	if !r.Positive() {
		j.each[i] = r
	}
	if j.relay.rcpted != nil {
		j.relay.rcpted(i, r)
	}
}

func (j *mailing) dataAnswered(r *Reply) {
	c := j.c
	switch {
	case !r.Positive() && len(j.good) > 0:
		j.end(stepData, r, nil)
	case !r.Positive() && !j.over:
		j.nobody()
	case !r.Positive():
	case len(j.good) > 0 && !j.over:
		j.sendBody()
	case len(j.good) > 0 || c.LMTP: // the end of it would be a message, or have nobody knows how many answers
		c.lose(nil, errStopped)
	default: // the server wants a message for nobody: RFC 2920 section 3.1
		if !j.over {
			j.nobody()
		}
		c.command(stepVoid, c.timeouts.End, ".")
	}
}

// sendBody hands the message to the connection.
func (j *mailing) sendBody() {
	c := j.c
	j.sent = true
	c.step = stepBody
	j.body = newBody(j)
	c.conn.SetWriteTimeout(max(c.timeouts.Block, 0))
	_ = c.conn.PushProducer(j.body)
	_ = c.conn.PushProducer((*bodyEnd)(j))
	if j.relay.dataed != nil {
		j.relay.dataed()
	}
}

// bodyEnd is a producer behind that of the message: it is asked when the connection has all of it, and closed then, or when
// everything is dropped.
type bodyEnd mailing

func (e *bodyEnd) More(int) ([]byte, error) {
	j := (*mailing)(e)
	if !j.over && !j.c.conn.Closed() {
		j.complete = true
		if !j.chunking {
			j.awaitEnd()
		}
	}
	return nil, io.EOF
}

func (e *bodyEnd) Close() error {
	j := (*mailing)(e)
	j.body = nil
	if j.c.conn.Closed() {
		return nil
	}
	j.c.conn.SetWriteTimeout(0)
	if j.over { // a flush is under way
		j.c.conn.AfterFunc(0, j.advance)
	}
	return nil
}

// awaitEnd expects the answer to the message.
func (j *mailing) awaitEnd() {
	good := j.good
	if !j.c.LMTP { // RFC 2033 section 4.2
		good = good[:1]
	}
	j.answers = len(good)
	for _, i := range good {
		j.c.expect(command{step: stepEnd, timeout: j.c.timeouts.End, rcpt: i})
	}
}

// endAnswered is an answer to the message.
func (j *mailing) endAnswered(i int, r *Reply) {
	j.answers--
	if j.c.LMTP && j.last == nil {
		j.each[i] = r
	}
	if j.answers == 0 {
		j.end(stepEnd, r, nil)
	}
}

// cancel ends a message of a relay that is not to be sent after all.
func (j *mailing) cancel(r *Reply) {
	switch {
	case j.over:
	case j.c.job != j || j.body == nil:
		j.end(j.c.now(), r, r)
	default:
		j.stop(r, r)
	}
	j.advance()
}

// stop gives the message up while it is being sent.
func (j *mailing) stop(r *Reply, err error) {
	j.end(stepBody, r, err)
	if j.chunking { // without LAST it is no message
		j.c.conn.ResumeProducer()
		return
	}
	j.c.lose(nil, errStopped) // nothing else keeps the server from taking it for a message
}

// fail is the end because the connection is lost.
func (j *mailing) fail(f *failure) {
	if j.last == nil {
		j.result.Uncertain = j.complete && f.err != nil
		j.last = f
	}
	j.settle()
}

// finish is the end in good order.
func (j *mailing) finish() {
	if j.begun {
		j.c.dirty = j.last.step != stepEnd || !j.last.reply.Positive()
	}
	j.settle()
	j.c.finished(j)
}

// settle makes the result.
func (j *mailing) settle() {
	r := &j.result
	r.Outgoing, r.Reply, r.Err, r.Step = j.out, j.last.reply, j.last.err, j.last.step.String()
	r.To = make([]*Reply, len(j.to))
	copy(r.To, j.each)
	for i := range r.To {
		if r.To[i] == nil {
			r.To[i] = r.Reply
		}
	}
	if p, ok := j.out.Body.(*Pipe); ok {
		p.abandon(j.c, r)
	}
}

// deliver tells the caller.
func (j *mailing) deliver() {
	if j.done != nil {
		j.done(&j.result)
	}
}

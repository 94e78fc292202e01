// Package telnet takes the telnet protocol (RFC 854) out of a stream, so that a line protocol above it need not know
// whether a person came by telnet, by nc or by a program of their own.
//
// [Layer] is a core.Layered socket: put it under a conversation with chat.Conn.Upgrade. It shows how a protocol becomes a
// filter below the terminators, as TLS does.
//
//	c.Upgrade(telnet.Wrap, true)
package telnet

import "github.com/parley-go/parley/core"

const (
	// MaxSubnegotiation is how many bytes a subnegotiation may have. One that is longer ends there: what follows is
	// data again, so that a stray beginning of one cannot swallow a conversation.
	MaxSubnegotiation = 512

	// MaxAnswers is how many bytes of answers wait for a peer that does not take them. Requests beyond that get none.
	MaxAnswers = 512
)

// The commands: RFC 854 section "TELNET command structure", and RFC 1184 for those below SE.
const (
	eof  = 236 // the first one there is
	se   = 240
	dm   = 242
	ayt  = 246
	sb   = 250
	will = 251
	wont = 252
	do   = 253
	dont = 254
	iac  = 255
)

// Layer is a socket without telnet. What is received through it is data alone:
//
//   - Commands and subnegotiations are taken out, whatever reads they were cut into.
//   - A line ends in LF: CR LF, CR NUL, and a CR by itself become one.
//   - Two IAC are one octet of 255.
//   - What is left of an IAC DM (data mark) is dropped: clients send one half of it as urgent data, which half depends on
//     the client. So an IAC in front of an octet that is no command is dropped, and an octet of 242 by itself, which in
//     UTF-8 could only begin a character that is not assigned.
//
// Every option is refused: WONT answers a DO, DONT a WILL, as RFC 1123 section 3.2.1 asks for. This ends every negotiation,
// and the peer stays in the state of a plain terminal with lines and a local echo. It matters: after an interrupt some
// clients drop all output until their DO TIMING-MARK is answered. AYT ("are you there?") is answered in words. Other
// commands, such as IP (Ctrl-C), mean nothing here.
//
// What is sent passes as it is: end lines in CR LF, and send no octet of 255, which UTF-8 has not.
type Layer struct {
	core.Socket
	answers []byte // not taken yet
	sub     int    // bytes of this subnegotiation
	state   state
	verb    byte // DO, DONT, WILL or WONT, whose option comes next
	cr      bool // the last octet of data was a CR
}

type state uint8

const (
	inData state = iota
	inCommand
	inOption
	inSub
	inSubCommand
)

// New returns a layer on a socket.
func New(s core.Socket) *Layer { return &Layer{Socket: s} }

// Wrap is New in the shape that chat.Conn.Upgrade wants.
func Wrap(s core.Socket) (core.Layered, error) { return New(s), nil }

// Recv receives data. Where only commands came it reads on, because core.ErrWouldBlock means that nothing is left to
// read; but not beyond len(p) bytes, so that a peer that sends nothing else has no more than its turn.
func (l *Layer) Recv(p []byte) (int, error) {
	for read := 0; read < len(p); {
		n, err := l.Socket.Recv(p)
		if n == 0 {
			return 0, err
		}
		read += n
		n = l.filter(p[:n])
		l.flush()
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, core.ErrWouldBlock
}

// Send sends p behind the answers that wait.
func (l *Layer) Send(p []byte) (int, error) {
	if !l.flush() {
		return 0, core.ErrWouldBlock
	}
	return l.Socket.Send(p)
}

// flush sends the answers and tells whether all are out. They may go out between any two octets of the text: the peer
// takes commands out before it looks at the text. (That of AYT is text, and may for once part a line.)
func (l *Layer) flush() bool {
	if len(l.answers) == 0 {
		return true
	}
	n, err := l.Socket.Send(l.answers)
	if err != nil && err != core.ErrWouldBlock {
		n = len(l.answers) // the next Recv or Send meets the error
	}
	l.answers = l.answers[n:]
	if len(l.answers) == 0 {
		l.answers = nil
	}
	return l.answers == nil
}

// Interest asks for room while answers wait.
func (l *Layer) Interest(want core.Interest) core.Interest {
	if len(l.answers) > 0 {
		want |= core.Write
	}
	return want
}

// Ready sends answers when there is room.
func (l *Layer) Ready(got core.Interest) core.Interest {
	if got&core.Write != 0 {
		l.flush()
	}
	return got
}

// Pending is false: the layer holds no input.
func (l *Layer) Pending() bool { return false }

// Inner returns the socket below.
func (l *Layer) Inner() core.Socket { return l.Socket }

// filter takes telnet out of p, in place, and returns how much data is left.
func (l *Layer) filter(p []byte) int {
	n := 0
	for _, b := range p {
		switch l.state {
		case inData:
			switch b {
			case iac:
				l.state = inCommand
			case dm:
			default:
				n = l.data(p, n, b)
			}
		case inCommand:
			l.state = inData
			switch {
			case b == iac, b < eof:
				n = l.data(p, n, b)
			case b == sb:
				l.state, l.sub = inSub, 0
			case b >= will:
				l.state, l.verb = inOption, b
			case b == ayt:
				l.answer("\r\n[yes]\r\n")
			}
		case inOption:
			l.state = inData
			switch l.verb {
			case do:
				l.answer(string([]byte{iac, wont, b}))
			case will:
				l.answer(string([]byte{iac, dont, b}))
			}
		case inSub, inSubCommand:
			l.subnegotiation(b)
		}
	}
	return n
}

// data appends an octet of data to p[:n]. A line ends at its CR; the LF or NUL behind it is dropped, so that nothing need
// be held back.
func (l *Layer) data(p []byte, n int, b byte) int {
	if l.cr && (b == '\n' || b == 0) {
		l.cr = false
		return n
	}
	l.cr = false
	if b == '\r' {
		l.cr = true
		b = '\n'
	}
	p[n] = b
	return n + 1
}

func (l *Layer) subnegotiation(b byte) {
	l.sub++
	switch {
	case l.sub > MaxSubnegotiation, l.state == inSubCommand && b == se:
		l.state = inData
	case l.state == inSub && b == iac:
		l.state = inSubCommand
	default:
		l.state = inSub
	}
}

func (l *Layer) answer(s string) {
	if len(l.answers)+len(s) <= MaxAnswers {
		l.answers = append(l.answers, s...)
	}
}

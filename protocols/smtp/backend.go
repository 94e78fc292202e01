package smtp

import (
	"io"
)

// Backend says what becomes of messages. One Backend serves all sessions of a server; what it is to be asked besides is
// said by the optional interfaces of this file. All methods are called on the loop's goroutine and must not block: what
// has to wait is given to [Session.Later]. A hook that panics costs its client the connection.
type Backend interface {
	// Begin is called when the client may send its message: the answer to DATA, or to the first BDAT. envelope is good
	// for as long as the message. An error refuses the message: *Reply says how, any other is 451 4.3.0 and is logged. A
	// Message returned together with s.Later is used if the work has no error; otherwise it is aborted.
	Begin(s *Session, envelope *Envelope) (Message, error)
}

// Message takes one message in. Either Commit or Abort is called, once, and nothing after it; never while work that a
// method gave to s.Later is under way (if the loop ends before such work does, neither is).
type Message interface {
	// Write is given the message as it arrives, in pieces of at most 64 KiB: first the Received field, then what the client
	// sends, dots un-stuffed, lines ended by CRLF (but for the last one that came by BDAT, and BODY=BINARYMIME). p is
	// borrowed until it returns; work for s.Later needs a copy. An error is the answer at the end of the message, the rest
	// of which is read and dropped. s.Later may be returned: the client is not read from until the work is done.
	io.Writer

	// Commit is called when the whole message has come. nil: it is accepted, 250, and whoever sent it may forget it. s.Later
	// may be returned; if the connection is lost meanwhile, the context of the work is cancelled, and what the work returns
	// is not told to anybody. After an error nothing may be kept.
	Commit() error

	// Abort is called instead when the message will not be complete: the connection is lost, or the message refused (too
	// large, a bare LF in it), or the work of Commit could not be begun. Nothing may be kept. Abort is also called after an
	// error of Write.
	Abort()
}

// Envelope is what MAIL and RCPT said. RFC 5321 section 2.3.1
type Envelope struct {
	From   Path // the null path, "<>", for a report
	To     []Recipient
	Params Params // of MAIL: SIZE, BODY, SMTPUTF8, RET, ENVID, REQUIRETLS, AUTH
}

// Recipient is one RCPT.
type Recipient struct {
	Path
	Params Params // NOTIFY, ORCPT
}

// Params are the parameters of MAIL or RCPT, by upper-case keyword. They are known and well-formed; values are as they were
// sent (xtext is not decoded), but for BODY, RET and NOTIFY, which are in upper case.
type Params map[string]string

// Path is a mailbox in angle brackets, without source route; String is how it is sent. RFC 5321 section 4.1.2
type Path struct {
	Local  string // as it was sent, quotes removed; "" with Domain "": the null path
	Domain string // as it was sent; an address literal with its brackets; "": only for Postmaster
}

// Optional interfaces of a Backend, each asked before the command takes effect. nil accepts; *Reply answers so (a
// positive one accepts with that text; 421 closes the connection); another error is 451 4.3.0 and is logged; s.Later
// decides later.
type (
	// ConnectHandler judges the connection, before the greeting. A refusal for now is 421, and closes it; one for ever is
	// 554, after which the client can only QUIT.
	ConnectHandler interface{ HandleConnect(s *Session) error }

	// HelloHandler judges HELO, EHLO and LHLO.
	HelloHandler interface {
		HandleHello(s *Session, domain string) error
	}

	// MailHandler judges MAIL.
	MailHandler interface {
		HandleMail(s *Session, from Path, params Params) error
	}

	// RcptHandler judges RCPT. A server whose Backend has none accepts no recipient but those of Server.Domains, and any
	// from a client that has authenticated itself.
	RcptHandler interface {
		HandleRcpt(s *Session, to Path, params Params) error
	}

	// VrfyHandler answers VRFY; without it the answer is 252.
	VrfyHandler interface {
		HandleVrfy(s *Session, what string) error
	}

	// ExpnHandler answers EXPN; without it the answer is 502.
	ExpnHandler interface {
		HandleExpn(s *Session, list string) error
	}

	// AcceptedHandler is told of each message that was taken over, when the answer goes out: for a notice, or a log. With LMTP it
	// is enough that one recipient's was. Of a message that is stored after its client has gone away nothing is told.
	AcceptedHandler interface {
		HandleAccepted(s *Session, e *Envelope)
	}

	// ResetHandler is told that a transaction ended without a message: RSET, a second EHLO, STARTTLS, a last chunk that is
	// refused because of what it follows.
	ResetHandler interface{ HandleReset(s *Session) }

	// QuitHandler is told that the session is over, once: after QUIT with cause nil, otherwise with why.
	QuitHandler interface{ HandleQuit(s *Session, cause error) }
)

// EachMessage is a Message whose recipients may fare differently: for LMTP, which answers for each (RFC 2033 section 4.2).
type EachMessage interface {
	Message

	// CommitEach is Commit with an answer for each recipient, in the order of Envelope.To: nil, *Reply, or another error, as
	// Commit's. For those that are not answered by its return, the error counts. With s.Later, answer may also be called by
	// the work, up to its end. A 421 closes the connection when all are answered.
	CommitEach(answer func(i int, err error)) error
}

// Package smtp is ESMTP (RFC 5321) and LMTP (RFC 2033) on package chat: a server, a client and a relay. It is smtpd for Go.
//
//	type backend struct{}
//
//	func (backend) Begin(*smtp.Session, *smtp.Envelope) (smtp.Message, error) { return new(message), nil }
//
//	type message struct{ bytes.Buffer } // Write
//
//	func (m *message) Commit() error { _, err := os.Stdout.Write(m.Bytes()); return err }
//	func (m *message) Abort()        {}
//
//	srv := &smtp.Server{Backend: backend{}, Domains: []string{"example.org"}}
//	listener, err := srv.Listen(loop, "tcp", "localhost:2525")
//
// The parts:
//
//   - [Server]: what is configured, and where it listens. [Limits] and [Counters] belong to it.
//   - [Backend] says what becomes of messages; a [Message] takes one in as it arrives, however large it is. What else a
//     Backend wants to judge, it says by having the hook: [ConnectHandler], [HelloHandler], [MailHandler], [RcptHandler],
//     [VrfyHandler], [ExpnHandler]; [AcceptedHandler], [ResetHandler] and [QuitHandler] only tell.
//   - [Session] is one client: its name, its user, its [Envelope]. [Reply] is an answer, and as an error a refusal.
//   - [ServerAuth]: PLAIN, LOGIN, CRAM-MD5, and mechanisms of one's own.
//   - [ParsePath], [ParseParams], [DecodeXtext] and their kind read what stands in commands.
//   - [Client] sends mail over one connection: an [Outgoing] has a [Result] with a Reply for each recipient. [ClientAuth] and
//     [ClientTimeouts] belong to it; a [Pipe] is a message that is written while it is sent.
//   - [Proxy] is a Backend that hands each message on to another server while it comes; [Relay] one that takes it into a queue
//     on disk, and delivers it later, as often as it takes. [RelayLimits], [RelayReport] and [RelayCounters] belong to it.
//
// # Who may wait
//
// Nobody: all methods of a Backend run on the loop's goroutine, and one that blocks holds up every client of the loop. A
// hook that needs a file, a database or another server returns [Session.Later] with the work, which runs on another
// goroutine, and whose error is the hook's answer; with [Session.Deferred] the answer comes from elsewhere on the loop.
// Meanwhile this client is not read from, so that answers stay in the order of the commands, and others are served.
//
// # Line ends
//
// A command ends in CRLF, a message in CRLF.CRLF, and nothing else ends either. A CR or LF by itself, or a control octet,
// in a command refuses the whole line; in a message a CR or LF by itself, or a NUL, refuses the message at its true end.
// Nothing is repaired: two servers that repair differently see different messages in the same octets (CVE-2023-51764 to
// 51766). Server.AllowBare is for those that hand nothing on. A Message gets lines with their CRLF, dots un-stuffed.
//
// # Whose message it is
//
// A client that got 250 for a message may forget it, so Commit must have it in safety first; without that answer it will
// send it again. Exactly one of Commit and Abort is called for each Message that Begin returned: Abort when the connection
// is lost, a limit is passed or the message refused. The Received field (RFC 5321 section 4.4) is written in front.
//
// # Limits
//
// Whatever a client can make longer, slower or more has a bound in [Limits], with a default for the open internet. One that
// is passed is answered in step (500, 552, 554, 452), or with 421 and the end of the connection if it is a matter of
// patience. A session holds the command that comes in, the envelope, and nothing of the message.
//
// Who may relay is the Backend's decision: without a [RcptHandler] mail is taken for Server.Domains, and for others only
// from clients that have authenticated.
package smtp

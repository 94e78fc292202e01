// Package tlslayer puts TLS between a channel and its socket: the standard library's crypto/tls, without a goroutine for each
// connection and without blocking the loop.
//
// A [Layer] is a core.Layered socket. It stands on any stream: tcp, unix, another layer, or a socket of core/sim.
//
//	lc := core.ListenConfig{Wrap: tlslayer.WrapServer(cfg)}
//	lc.Listen(loop, "tcp", ":993", chat.Accept(newHandler))
//
// Package chat has shorter forms: chat.ListenTLS, chat.DialTLS, and Conn.StartTLS for protocols that change to TLS on the
// way. When the handshake is over the handler's HandleSecure is called, if it has one, before any input. What is sent
// earlier waits. When it fails, or takes longer than [DefaultHandshakeTimeout], or a client says more in it than
// [DefaultHandshakeLimit], the channel closes: HandleClose gets the cause, which is [ErrHandshake] with the reason of
// crypto/tls or core.ErrTooLong, or [ErrHandshakeTimeout].
//
// # How it works
//
// crypto/tls reads and writes a net.Conn and expects it to block. In the handshake it is given one whose Read parks: the
// handshake runs as a coroutine (iter.Pull) on the loop's goroutine, which goes on with other channels while it is parked
// and resumes it when there is input. After the handshake no coroutine is needed: a Read of crypto/tls that fails with a
// temporary error can be repeated, so that each is given what has come, and answers core.ErrWouldBlock when that is used
// up. What crypto/tls writes is gathered and sent in one piece for each event.
//
// A handshake of which the client has said its ClientHello and nothing more costs a stack of 8 KB, which the key exchange
// needs, and 5 KB (TLS 1.2), 7 KB (TLS 1.3 with X25519) or 11 KB (with X25519MLKEM768) of heap. Before that there is no
// stack.
//
// The funcs of a tls.Config (GetCertificate, GetConfigForClient, VerifyConnection, …) are called on the loop's goroutine,
// so they must not block; after [Layer.SetOffLoop] on a worker's.
//
// # The end of a stream
//
// A stream of TLS ends with close_notify (RFC 8446 section 6.1): it is io.EOF, and CloseWrite and Close send it. One that
// ends without was cut, by the peer's crash or by somebody on the way: that is [ErrTruncated], and the channel closes with
// it.
//
// Renegotiation (TLS 1.2) is not supported: leave tls.Config.Renegotiation alone.
package tlslayer

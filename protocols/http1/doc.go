// Package http1 is HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112) on the conversation layer: a head is a token that ends in
// an empty line, a body one of so many octets, or one chunk after the other.
//
//	srv := &http1.Server{Handler: http1.HandlerFunc(func(w *http1.ResponseWriter, r *http1.Request) error {
//		w.Set("Content-Type", "text/plain; charset=utf-8")
//		_, err := w.WriteString("Hello, World!\n")
//		return err
//	})}
//	_, err := srv.Listen(loop, "tcp", ":8080")
//
// What there is:
//
//   - [Server]: listeners, limits, counters, a hook for logs. [Server.NewSession] serves a connection that comes from
//     elsewhere.
//   - [Handler]: answers requests on the loop's goroutine, and must not block.
//   - [Request]: the head in place, without copies: [Request.Path], [Request.Field]; as package net/http has it when asked:
//     [Request.Header], [Request.URL]. The body as it comes ([Request.OnBody]) or in one piece ([Request.ReadAll]).
//   - [ResponseWriter]: what is short is sent in one piece, what is long in chunks, or from a producer or a file; now,
//     or later ([ResponseWriter.Defer]). [ResponseWriter.Upgrade] makes another protocol of the connection.
//   - [EventStream]: server-sent events.
//   - [Limits], with defaults for the open internet.
//
// Method and status constants, http.Header, cookies, URLs and the like are those of package net/http and its neighbours; the
// names of this package stand beside theirs in one file.
//
// # What is refused
//
// Requests are read to the letter of RFC 9112: whatever could be read in two ways, so that a proxy in front sees other
// requests than the server (request smuggling), is answered with 400, and the connection is closed. Among these: a line
// that ends in a bare LF; folded fields; a blank before a field's colon; controls anywhere; Content-Length that is more
// than digits, is there twice, or beside Transfer-Encoding; Transfer-Encoding that is not chunked alone; chunks and
// their extensions that are malformed; a Host that is missing, there twice or no host. The corpus in testdata/http has
// each case.
//
// One empty line before a request is skipped. Trailer fields are kept apart from the header's. Methods are for the
// Handler to judge, but for CONNECT (501) and "OPTIONS *", see [Server].
//
// # Connections
//
// Requests of one connection are answered in turn. While one is answered the client is read ahead, at most
// chat.ReadAhead octets and what one read brings more, so that it is noticed when it goes away; what it sent waits. A
// client that does not take its answers is not read from either.
//
// A body that no handler asks for is read and dropped if it is short, see Limits.Drain; otherwise the connection is
// closed behind the response. A connection that is closed with input on its way is closed in two steps, so that the
// response is not lost.
//
// When the loop shuts down, idle connections are closed, and what is under way is answered with "Connection: close".
package http1

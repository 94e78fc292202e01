// Package chat is the conversation layer: it cuts the input of a connection into tokens, and queues its output. It is
// asynchat for Go.
//
// A [Handler] collects data until the terminator is found, decides, and sets the next terminator:
//
//	type session struct{ chat.Buffer }
//
//	func (s *session) FoundTerminator(c *chat.Conn) error {
//		return c.Printf("you said %q\n", s.Take())
//	}
//
//	chat.Listen(loop, "tcp", "localhost:7000", func(c *chat.Conn) chat.Handler {
//		c.SetTerminator(chat.Line)
//		return &session{}
//	})
//
// What there is:
//
//   - [Conn]: a conversation; [Attach], [Listen], [Dial], [ListenAndServe], [StdioConn] make them.
//   - [Terminator]: [Literal], [CRLF], [Line], [Count], [Dot], [Split], [None].
//   - Adapters: [Lines] and [Data] make a handler of a func, [Buffer] collects, [Talk] runs a conversation that is written
//     in straight lines.
//   - Producers for large output: package buffered.
//
// The rules of package core hold. Those that concern a conversation most:
//
//   - Data is handed on at once and borrowed: copy what is to be kept.
//   - What a handler does in FoundTerminator does not depend on how the input was cut into reads.
//   - Parsing stops at Close, CloseWhenDone and Pause, also in the middle of a buffer.
//   - When the peer does not take its output, it is not read from either, until the queue is down to its low mark.
package chat

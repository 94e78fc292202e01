// Package core is a reactor: one goroutine that waits for readiness on many descriptors and calls the handler of
// each channel that is ready. It is asyncore for Go. The conversation layer (asynchat) stands on it in package chat.
//
// The parts, with the names that POSA2 gives them:
//
//   - [Loop] is the reactor (initiation dispatcher): a table of channels, a [Poller], timers, posts.
//   - [Dispatcher] is a channel: a [Socket] (handle), a handler and the interest in events. asyncore.dispatcher.
//   - [Group] is several loops, for more than one CPU; a [Runner] is one or the other.
//   - [Listener] accepts connections; [Listen], [Dial], [Attach], [OpenFile] and [ListenPacket] make channels.
//   - [Poller] is the synchronous event demultiplexer: select, poll, epoll or kqueue, one file each.
//   - Handlers are small optional interfaces ([ReadHandler], [CloseHandler], …), detected when one is attached.
//
// # The rules
//
//  1. One loop, one goroutine. Everything is called on it, except [Loop.Post], [Loop.Stop], [Loop.Shutdown] and what
//     says otherwise. A channel stays on its loop; loops of a Group talk by posts, and no handler needs a lock.
//  2. No handler is ever called from inside a call that a handler makes. Send, Close and Push record; what follows
//     from them runs when the event is over, before the next one.
//  3. After Close no event reaches that handler but HandleClose. An event is matched by slot and generation, so a
//     descriptor that is reused within a pass never gets its predecessor's event.
//  4. HandleClose(c, cause) comes exactly once for every attached channel, also after a local Close. The cause is nil,
//     io.EOF, a system error, [ErrTimeout], [ErrTooLong], [ErrOverflow], [ErrShutdown], [ErrDetached], a [*PanicError]
//     or the error that a handler returned.
//  5. A []byte that a handler gets is borrowed until it returns; a []byte that it passes in is copied (or sent) before
//     the call returns.
//  6. An error or panic of a handler goes to its HandleError; the default logs and closes that one channel.
//  7. Read interest is on by default; write interest only while there is something to write, while connecting, or
//     while Writable says so.
//  8. Fair by construction: at most [ReadBudget] bytes are read per channel and pass, at most [AcceptBudget]
//     connections accepted per listener and pass, and a flush has a budget too.
//  9. Every queue has a limit with a default and says what happens there.
//  10. The result of a conversation does not depend on how its bytes were cut into reads (package chat).
//
// A handler that returns [ErrWouldBlock] has not failed, one that returns the error of a failed Recv or Send hands on
// what the loop knows already (the channel closes with that cause), and [ExitNow] ends the loop.
//
// # Half-close, hang-up, failure
//
// When the peer has sent its last byte, a handler with HandleEOF is told and may go on writing; otherwise the channel
// closes with io.EOF. A hang-up is acted on only after the input is drained. A channel that wants nothing is not told
// of a hang-up: it is noted, the descriptor leaves the poller, and comes back when the channel wants something again.
//
// # Testing
//
// Package core/sim runs the same loop on a network, a clock and a poller in memory: deterministic, seeded, with
// faults.
package core

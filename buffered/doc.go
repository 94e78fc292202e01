// Package buffered puts an output queue between a channel and its socket: asyncore's dispatcher_with_send, and the
// output side of asynchat.
//
//   - [Output] is the queue alone: operations in, sends out. It owns no socket, and no memory while the peer keeps up.
//   - [Dispatcher] is a core.Dispatcher whose Send never falls short, with CloseWhenDone and back-pressure.
//
// What a handler writes during an event is collected and sent once, when the event is over. What the socket does not take
// then waits in a ring until it does. Three marks say what happens when it waits for long, see [Marks].
package buffered

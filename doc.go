// Package parley is asyncore and asynchat for Go: a reactor, and conversations on it. This folder holds no code; see
//
//   - core: the loop, dispatchers, listeners, timers, on epoll, kqueue, poll or select
//   - core/sim: the same loop on a network and a clock in memory, for tests
//   - core/trace: what a loop did, as a ladder
//   - buffered: the output queue
//   - chat: terminators and conversations
//   - protocols/…: protocols that stand on it
//   - examples/…: programs
package parley

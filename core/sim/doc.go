// Package sim is a network, a clock and a poller in memory under the production loop of package core: a program that runs
// on it is deterministic, takes no real time, and meets every fault that it is told to meet.
//
// A [World] holds loops, also those of a core.Group, addresses and a calendar of what will happen. A [Peer] is the other end of
// a connection, driven by a test:
//
//	w := sim.New(sim.Config{T: t, Latency: 5 * time.Millisecond})
//	loop := w.Loop(core.Options{})
//	chat.Listen(loop, "tcp", "server:25", newHandler)
//
//	client := w.Dial("tcp", "server:25")
//	client.Want("220 ready\r\n")
//	client.Say("EHLO x\r\n")
//	client.Want("250 x\r\n")
//	w.Advance(5 * time.Minute)
//	client.WantClosed()
//
// Everything runs on the test's goroutine: Want makes the world go round until what it waits for has come, and fails if
// nothing that could still happen would bring it. [Dialog] does the same from transcript files, at every cut.
//
// One seed decides everything that is left open: the order in which ready channels are served, jitter, cuts, faults, how
// long work off the loop takes. Loops of a World are strict (core.Options.Strict): borrowed bytes are overwritten after
// each event, misspelt handler methods are an error, and cached interest is audited.
//
// What is simulated: tcp (also tcp4, tcp6), unix, udp and unixgram; names by [World.Host]. A connection keeps order in
// each direction, is bounded by [Config.Window], can be half-closed and reset. It is harsher than most kernels in one
// point: a reset destroys what the receiver has not read yet, as RFC 9293 section 3.5.3 permits; a server that closes
// with unread input loses its last reply here in the first test.
package sim

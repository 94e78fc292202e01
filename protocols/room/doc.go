// Package room is a chat room for people with telnet, nc or any program that sends lines, on one loop or on several, and
// without a lock.
//
//	house := room.New(loop, room.Config{Name: "Parley chat"})
//	listener, err := house.Listen("tcp", "localhost:6667")
//
// The parts:
//
//   - [House]: rooms, and the members in them. [Member] and [Room] are what it is made of, [Message] is what is said.
//   - [Outlet] is the cut between the house and the protocols by which people reach it: one method, which hears messages.
//   - [House.NewSession] is the protocol of lines, for chat.Listen and its kind. Another protocol enters its people with
//     [House.Enter], or says a single line with [House.Post], and meets everybody else in the same rooms.
//   - [Client] is the other side: a terminal and a server in one loop.
//
// # What people see
//
// The first line that somebody sends is a nickname. After that a line goes to everybody else in the room, one that begins
// with a slash is a command (/help lists them), and with two it is said with one. Lines that come are
//
//	[15:04] <alice> hello        said
//	[15:04] * alice waves        done, with /me
//	[15:04] -- alice has left    what happened
//	-- …                         from the server to this member alone
//
// Everything that is shown went through [Clean]: text is valid UTF-8 without any control characters, so that nobody can
// reach into the terminal of another one. Package telnet keeps the negotiation of telnet clients out of it.
//
// # Nobody waits for anybody
//
// A message is rendered once, and the same bytes are queued to each member, by reference (buffered.Shared); a loop of a Group
// gets it once for all of its members. A member that does not read only fills its own
// queue: above Config.SkipAbove messages to it are skipped, and it is told how many as soon as it catches up; when it is
// Config.DropAbove behind, or has taken nothing for Config.StallTimeout, or next to nothing (Config.StallRate), it is
// dropped, and the others and the log are told why. Every other limit is a field of [Config], too.
package room

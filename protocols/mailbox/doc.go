// Package mailbox puts messages into mailboxes: Maildir and mbox. It knows of no mail protocol.
//
// [Maildir] is a directory with a file for each message. Nothing is locked, a reader never sees a message that is not whole,
// and what Commit has taken survives a power cut. It is the one to choose.
//
// [Mbox] is one file with all messages, as mail readers have known it for fifty years. It has to be locked, and messages are
// changed on their way into it: lines end in LF, and a ">" stands before lines that look like the beginning of a message.
//
// [Queue] is a Maildir for messages that only wait, as those of smtp.Relay: it belongs to one process, which keeps a note with
// each of them.
//
// All functions block until the disk has done what is asked of it. They are not for the goroutine of a loop: core.Go, or
// Session.Later in protocols/smtp, which has backends for both kinds of mailbox.
//
// What is promised rests on fsync, of files and of directories. On Windows directories cannot be synced, and mbox files are
// locked by their dotlock file only; file systems that answer fsync before the disk has it promise less, too.
package mailbox

import (
	"errors"
	"fmt"
)

var (
	// ErrFull: the disk, or a quota on it, is full. The system's own error is wrapped beside it.
	ErrFull = errors.New("mailbox: no room")

	// ErrLocked: somebody else had the mailbox locked for all of Mbox.LockTimeout.
	ErrLocked = errors.New("mailbox: locked by somebody else")
)

// full adds ErrFull to errors that say so.
func full(err error) error {
	if err != nil && noRoom(err) && !errors.Is(err, ErrFull) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

package core

import (
	"errors"
	"fmt"
	"os"
)

// Errors that the loop and its layers report; compare with errors.Is.
var (
	// ErrClosed: the channel or the loop is closed; nothing was done.
	ErrClosed = errors.New("parley: closed")

	// ErrWouldBlock: nothing can be read or written now. Wait for the next event. A handler that returns it has not
	// failed.
	ErrWouldBlock = errors.New("parley: operation would block")

	// ErrTooLong: a token, line or block is longer than its limit.
	ErrTooLong = errors.New("parley: token too long")

	// ErrOverflow: a queue is at its limit.
	ErrOverflow = errors.New("parley: queue limit exceeded")

	// ErrTimeout: a connect, idle, write or close timeout. It is a net.Error whose Timeout is true, and
	// errors.Is(ErrTimeout, os.ErrDeadlineExceeded) holds.
	ErrTimeout error = timeoutError{}

	// ErrShutdown: the loop shuts down.
	ErrShutdown = errors.New("parley: shutdown")

	// ErrDetached is the cause that HandleClose gets when a channel was given away by Detach.
	ErrDetached = errors.New("parley: detached")

	// ErrRunning: Run or Step was called while the loop runs, for instance from one of its handlers.
	ErrRunning = errors.New("parley: loop is running")

	// ErrUnsupported: the platform, the back end or the socket cannot do this. It is errors.ErrUnsupported.
	ErrUnsupported = errors.ErrUnsupported

	// ErrAlwaysReady is what a Poller's Add answers for a descriptor that it cannot watch because it never blocks
	// (epoll and regular files). The loop then delivers what the channel wants in every pass.
	ErrAlwaysReady = errors.New("parley: descriptor is always ready")

	// ExitNow ends the loop when a handler returns it: Run returns ExitNow, the channel stays open. [asyncore.ExitNow]
	//lint:ignore ST1012 the name is asyncore's
	ExitNow = errors.New("parley: exit now")
)

type timeoutError struct{}

func (timeoutError) Error() string        { return "parley: timeout" }
func (timeoutError) Timeout() bool        { return true }
func (timeoutError) Temporary() bool      { return false }
func (timeoutError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// PanicError is the cause of a channel whose handler panicked.
type PanicError struct {
	Value any    // what was given to panic
	Stack []byte // the stack of the panic, as runtime/debug.Stack prints it
}

func (e *PanicError) Error() string { return fmt.Sprintf("parley: handler panicked: %v", e.Value) }

// Unwrap returns the panic's value if it was an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

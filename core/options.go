package core

import (
	"log/slog"
	"time"
)

// Options configures a Loop; the zero value is good.
type Options struct {
	// Backend names the poller: "auto" (or ""), or one of Backends.
	Backend string

	// Logger gets what the loop has to say; slog.Default if nil.
	Logger *slog.Logger

	// Trace is called for every event of the loop, on its goroutine; see Event. It must not call back into the loop.
	Trace func(*Event)

	// SlowHandler is how long a handler may keep the loop before that is logged, once per handler type and minute:
	// 100 ms if 0, never if negative.
	SlowHandler time.Duration

	// MaxPosts bounds the posts that wait; 65,536 if 0. Post answers false above it.
	MaxPosts int

	// MaxWorkers bounds the goroutines that Go and name resolution use at a time; 64 if 0. Further work waits its
	// turn, up to MaxPosts.
	MaxWorkers int

	// Strict looks for mistakes of handlers and of layers: misspelt methods are an error when a handler is attached,
	// borrowed bytes are overwritten after each event, cached interest is audited. core/sim sets it.
	Strict bool

	// System is the world that the loop lives in; the operating system if nil. core/sim has one in memory.
	System System
}

const (
	// ReadBudget is the most that one channel can Recv in one pass, and the size of the loop's read buffer.
	ReadBudget = 64 << 10

	// AcceptBudget is the most connections that one listener accepts in one pass.
	AcceptBudget = 64

	defaultSlow       = 100 * time.Millisecond
	defaultMaxPosts   = 1 << 16
	defaultMaxWorkers = 64
	readyBatch        = 512 // events taken from the poller in one wait
)

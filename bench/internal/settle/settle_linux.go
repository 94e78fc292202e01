// Package settle lets a server be asked to give its garbage back, so that what is left is what its connections hold. Without
// that, a collector does so every two minutes when nothing else happens, which is longer than a measurement wants to wait.
package settle

import (
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// Signal asks for it.
const Signal = syscall.SIGUSR1

// WhenAsked collects all garbage and returns it to the system for each Signal from now on.
func WhenAsked() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, Signal)
	go func() {
		for range asked {
			debug.FreeOSMemory()
		}
	}()
}

package echo_test

import (
	"testing"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/echo"
)

// The limits that the dialog files are written for.
const (
	lineLimit    = 16
	chargenLimit = 5*74 + 10
)

// TestDialogs runs the transcripts of testdata/echo: each is a page of the protocol's RFC in action.
func TestDialogs(t *testing.T) {
	for _, service := range []struct {
		name       string
		newHandler func(*chat.Conn) chat.Handler
	}{
		{"lines", echo.Lines(lineLimit)},
		{"stream", echo.Stream},
		{"discard", echo.Discard},
		{"chargen", echo.Chargen(chargenLimit)},
		{"daytime", echo.Daytime},
	} {
		sim.Dialog(t, "../../testdata/echo/"+service.name+"*.dialog", func(l *core.Loop, s core.Socket) error {
			_, err := chat.Attach(l, s, service.newHandler)
			return err
		})
	}
}

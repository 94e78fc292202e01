//go:build !darwin && !dragonfly && !freebsd && !linux && !netbsd && !openbsd

package core

import (
	"io"
	"net"
	"os"
)

// On other platforms there is no poller, and so no socket of the operating system; core/sim works everywhere.

var backends []backend

const haveSendFile = false

func (osSystem) Listen(string, string, *ListenConfig) (Socket, error) { return nil, ErrUnsupported }
func (osSystem) ListenPacket(string, string) (Socket, error)          { return nil, ErrUnsupported }
func (osSystem) Connect(string, Endpoint, *Dialer) (Socket, error)    { return nil, ErrUnsupported }
func (osSystem) Reserve() (io.Closer, error)                          { return nil, ErrUnsupported }
func (osSystem) MaxFiles() int                                        { return 0 }

// Adopt, AdoptListener, FileSocket, OpenFile and Inherited answer ErrUnsupported on this platform.
func Adopt(net.Conn) (Socket, error)                     { return nil, ErrUnsupported }
func AdoptListener(net.Listener) (Socket, error)         { return nil, ErrUnsupported }
func FileSocket(*os.File) (Socket, error)                { return nil, ErrUnsupported }
func OpenFile(*Loop, *os.File, any) (*Dispatcher, error) { return nil, ErrUnsupported }
func Inherited(unset bool) ([]InheritedSocket, error)    { return nil, ErrUnsupported }

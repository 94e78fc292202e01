package core

// InheritedSocket is one of the sockets that the process was started with.
type InheritedSocket struct {
	// Name is the socket's FileDescriptorName= in systemd's unit, or "unknown".
	Name string

	// Socket is a listening one, for ListenConfig.ListenSocket, or a datagram or connected one, for Attach.
	Socket Socket

	// Listening tells which.
	Listening bool
}

package smtp

// Session is one client's conversation with a Server.
type Session struct{}

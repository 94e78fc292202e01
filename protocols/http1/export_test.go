package http1

import "time"

// Workers is how many loops srv knows.
func (srv *Server) Workers() int { return len(srv.workers) }

// SetMostFile changes how much of a file goes out at a time, and returns what it was.
func SetMostFile(n int64) int64 {
	was := mostFile
	mostFile = n
	return was
}

// Refusal is what a connection over a bound gets.
func (srv *Server) Refusal(now time.Time) string { return srv.refusal(now) }

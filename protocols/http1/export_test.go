package http1

import "time"

// Workers is how many loops srv knows.
func (srv *Server) Workers() int { return len(srv.workers) }

// Refusal is what a connection over a bound gets.
func (srv *Server) Refusal(now time.Time) string { return srv.refusal(now) }

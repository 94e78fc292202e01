package http1

// Workers is how many loops srv knows.
func (srv *Server) Workers() int { return len(srv.workers) }

package buffered

// Refs is how many references there are.
func (s *Shared) Refs() int { return int(s.refs.Load()) }

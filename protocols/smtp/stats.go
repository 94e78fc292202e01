package smtp

import "sync/atomic"

// Counters count what happened, in one Session or in all of a Server.
type Counters struct {
	Sessions     int64 // connections; 1 for a Session
	Secured      int64 // of these, with TLS
	Commands     int64
	Errors       int64 // wrong commands
	Messages     int64 // accepted
	Recipients   int64 // of these
	Octets       int64 // of these, as sent by clients without dot-stuffing
	Refused      int64 // messages that were refused after DATA or BDAT
	Aborted      int64 // messages that did not come to their end: the connection was lost, RSET between chunks
	Injected     int64 // octets that stood behind STARTTLS and were dropped
	AuthFailures int64
}

// totals are the Counters of a Server, which loops may share.
type totals struct {
	open   atomic.Int64
	counts [numCounters]atomic.Int64
}

type counter uint8

const (
	cSessions counter = iota
	cSecured
	cCommands
	cErrors
	cMessages
	cRecipients
	cOctets
	cRefused
	cAborted
	cInjected
	cAuthFailures
	numCounters
)

func counters(get func(counter) int64) Counters {
	return Counters{
		Sessions: get(cSessions), Secured: get(cSecured), Commands: get(cCommands), Errors: get(cErrors),
		Messages: get(cMessages), Recipients: get(cRecipients), Octets: get(cOctets), Refused: get(cRefused),
		Aborted: get(cAborted), Injected: get(cInjected), AuthFailures: get(cAuthFailures),
	}
}

// Counters returns what happened in all sessions so far. From any goroutine.
func (srv *Server) Counters() Counters {
	return counters(func(i counter) int64 { return srv.totals.counts[i].Load() })
}

// Open returns how many sessions there are at the moment. From any goroutine.
func (srv *Server) Open() int { return int(srv.totals.open.Load()) }

// Counters returns what happened in this session so far.
func (s *Session) Counters() Counters {
	return counters(func(i counter) int64 { return s.counts[i] })
}

func (s *Session) count(i counter, n int64) {
	s.counts[i] += n
	s.srv.totals.counts[i].Add(n)
}

package http1

import (
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Metrics count the requests of a Server, for Prometheus. It is a Handler that answers with the counters in its text
// format, and Log counts:
//
//	m := &http1.Metrics{}
//	srv := &http1.Server{Log: m.Log, Handler: …} // which gives requests for "/metrics" to m
//	m.Server = srv
//
// Who may see them is for whoever calls it to decide. It may be used by several loops; a Server without one counts nothing
// of this.
//
// There are parley_http_requests_total by method and class of status, parley_http_request_duration_seconds,
// parley_http_response_bytes_total, parley_http_incomplete_total, and if Server is set those of Server.Counters:
// parley_http_connections_total, parley_http_connections_open, parley_http_request_bytes_total,
// parley_http_refused_total, parley_http_timeouts_total.
type Metrics struct {
	// Server is whose Counters are told as well; nil: nobody's.
	Server *Server

	requests   [len(countedMethods) + 1][6]atomic.Int64 // by method and the first digit of the status
	durations  [len(durationBounds) + 1]atomic.Int64
	duration   atomic.Int64 // all of them, in nanoseconds
	octets     atomic.Int64
	incomplete atomic.Int64
}

// countedMethods have a label of their own: with any token that clients make up there would be no bound.
var countedMethods = [...]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	http.MethodConnect, http.MethodOptions, http.MethodTrace}

// durationBounds are those of the histogram.
var durationBounds = [...]time.Duration{
	100 * time.Microsecond, 500 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second, 10 * time.Second, time.Minute,
}

// Log counts a request: it is for Server.Log.
func (m *Metrics) Log(e *Entry) {
	method := 0
	for name := e.Request.Method(); method < len(countedMethods) && countedMethods[method] != name; method++ {
	}
	class := e.Status / 100
	if class >= len(m.requests[0]) {
		class = 0
	}
	m.requests[method][class].Add(1)
	bucket := 0
	for bucket < len(durationBounds) && e.Duration > durationBounds[bucket] {
		bucket++
	}
	m.durations[bucket].Add(1)
	m.duration.Add(int64(e.Duration))
	m.octets.Add(e.Octets)
	if e.Err != nil {
		m.incomplete.Add(1)
	}
}

// ServeHTTP answers with the counters.
func (m *Metrics) ServeHTTP(w *ResponseWriter, r *Request) error {
	if r.Method() != http.MethodGet && r.Method() != http.MethodHead {
		err := w.Error(http.StatusMethodNotAllowed, "")
		w.Set("Allow", "GET, HEAD")
		return err
	}
	w.Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Set("Cache-Control", "no-store")
	p := m.appendTo(nil)
	w.SetLength(int64(len(p)))
	_, err := w.Write(p)
	return err
}

// appendTo appends the counters in text format 0.0.4.
func (m *Metrics) appendTo(p []byte) []byte {
	about := func(name, kind, help string) {
		p = fmt.Appendf(p, "# HELP parley_http_%s %s\n# TYPE parley_http_%[1]s %[3]s\n", name, help, kind)
	}
	about("requests_total", "counter", "Requests that are over, by method and class of status; 0xx: without a response.")
	for i := range m.requests {
		method := "other"
		if i < len(countedMethods) {
			method = countedMethods[i]
		}
		for class := range m.requests[i] {
			if n := m.requests[i][class].Load(); n > 0 {
				p = fmt.Appendf(p, "parley_http_requests_total{method=%q,code=\"%dxx\"} %d\n", method, class, n)
			}
		}
	}
	about("request_duration_seconds", "histogram", "From a request's head to the end of its response.")
	var sum int64
	for i := range m.durations {
		bound := "+Inf"
		if i < len(durationBounds) {
			bound = seconds(durationBounds[i])
		}
		sum += m.durations[i].Load()
		p = fmt.Appendf(p, "parley_http_request_duration_seconds_bucket{le=%q} %d\n", bound, sum)
	}
	p = fmt.Appendf(p, "parley_http_request_duration_seconds_sum %s\nparley_http_request_duration_seconds_count %d\n",
		seconds(time.Duration(m.duration.Load())), sum)
	one := func(name, kind, help string, n int64) {
		about(name, kind, help)
		p = fmt.Appendf(p, "parley_http_%s %d\n", name, n)
	}
	one("response_bytes_total", "counter", "Octets of the bodies of responses.", m.octets.Load())
	one("incomplete_total", "counter", "Requests whose response is not whole, or not the handler's.", m.incomplete.Load())
	if m.Server != nil {
		c := m.Server.Counters()
		one("connections_total", "counter", "Connections.", c.Conns)
		one("connections_open", "gauge", "Connections that are open.", c.Open)
		one("request_bytes_total", "counter", "Octets of the bodies of requests.", c.Received)
		one("refused_total", "counter", "Requests that were malformed, too large or too slow.", c.Refused)
		one("timeouts_total", "counter", "Requests that were too slow.", c.Timeouts)
	}
	return p
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'g', -1, 64) }

package http1

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
)

// CombinedLog returns what Server.Log can be: it writes a line for each request in the combined log format of Apache and
// nginx,
//
//	192.0.2.1 - - [21/Nov/2026:08:50:02 +0000] "GET / HTTP/1.1" 200 14 "https://example.org/" "curl/8.0"
//
// by one Write each, on the loop's goroutine: w should not block. Quotes, backslashes and whatever is not printable ASCII
// are written as \xHH. A part that is missing is "-", and so is the status of a request that got no response. It may be used
// by several loops; errors of w are ignored.
func CombinedLog(w io.Writer) func(*Entry) {
	l := &combinedLog{w: w}
	return l.log
}

type combinedLog struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

func (l *combinedLog) log(e *Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := e.Request
	p := appendClient(l.buf[:0], r.RemoteAddr())
	p = append(p, " - - ["...)
	p = e.Start.AppendFormat(p, "02/Jan/2006:15:04:05 -0700")
	p = append(p, `] "`...)
	if r.Method() == "" {
		p = append(p, '-')
	} else {
		p = appendLogged(p, r.Method())
		p = append(p, ' ')
		p = appendLogged(p, r.Target())
		p = append(p, ' ')
		p = append(p, r.Proto()...)
	}
	p = append(p, `" `...)
	if e.Status == 0 {
		p = append(p, '-')
	} else {
		p = strconv.AppendInt(p, int64(e.Status), 10)
	}
	p = append(p, ' ')
	p = strconv.AppendInt(p, e.Octets, 10)
	for _, name := range [...]string{"Referer", "User-Agent"} {
		p = append(p, ` "`...)
		if v := r.Field(name); len(v) > 0 {
			p = appendLogged(p, v)
		} else {
			p = append(p, '-')
		}
		p = append(p, '"')
	}
	p = append(p, '\n')
	l.buf = p
	_, _ = l.w.Write(p)
}

// appendClient appends an address without its port.
func appendClient(p []byte, addr net.Addr) []byte {
	switch a := addr.(type) {
	case nil:
		return append(p, '-')
	case *net.TCPAddr:
		ip := a.AddrPort().Addr().Unmap()
		if !ip.IsValid() {
			return append(p, '-')
		}
		return ip.AppendTo(p)
	}
	s := addr.String()
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	if s == "" {
		return append(p, '-')
	}
	return appendLogged(p, s)
}

// appendLogged appends what a client said, so that it cannot end its place in the line, or play with a terminal.
func appendLogged[T ~string | ~[]byte](p []byte, s T) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			p = append(p, '\\', 'x', digits[c>>4], digits[c&15])
		} else {
			p = append(p, c)
		}
	}
	return p
}

// SlogLog returns what Server.Log can be: it logs each request as a record "request", at slog.LevelInfo, with the attributes
// client, method, target, proto, status, octets, duration, and referer, agent and error where there is one.
func SlogLog(l *slog.Logger) func(*Entry) {
	return func(e *Entry) {
		ctx := context.Background()
		if !l.Enabled(ctx, slog.LevelInfo) {
			return
		}
		r := e.Request
		attrs := append(make([]slog.Attr, 0, 10),
			slog.String("client", string(appendClient(nil, r.RemoteAddr()))), slog.String("method", r.Method()), slog.String("target", string(r.Target())),
			slog.String("proto", r.Proto()), slog.Int("status", e.Status), slog.Int64("octets", e.Octets), slog.Duration("duration", e.Duration))
		if v := r.Field("Referer"); len(v) > 0 {
			attrs = append(attrs, slog.String("referer", string(v)))
		}
		if v := r.Field("User-Agent"); len(v) > 0 {
			attrs = append(attrs, slog.String("agent", string(v)))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.String("error", e.Err.Error()))
		}
		l.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
	}
}

// Logs returns what Server.Log can be: it calls each of several, but for those that are nil; nil if there is none.
func Logs(logs ...func(*Entry)) func(*Entry) {
	var some []func(*Entry)
	for _, l := range logs {
		if l != nil {
			some = append(some, l)
		}
	}
	switch len(some) {
	case 0:
		return nil
	case 1:
		return some[0]
	}
	return func(e *Entry) {
		for _, l := range some {
			l(e)
		}
	}
}

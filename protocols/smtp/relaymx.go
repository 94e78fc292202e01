package smtp

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"
)

// mxKeep is how long the exchangers of a domain are taken for known.
const mxKeep = 5 * time.Minute

// Replies of a Relay about domains.
var (
	errNullMX       = Replyf(556, "5.1.10", "The domain takes no mail")                        // RFC 7505 section 4
	errNoSuchDomain = Replyf(550, "5.1.2", "There is no such domain, or no mail server of it") // RFC 5321 section 5.1
	errMXLoop       = Replyf(554, "5.4.6", "The mail exchanger of the domain is this server itself")
	errNoLookUp     = Replyf(451, "4.4.3", "The mail exchangers of the domain cannot be looked up now")
)

// lookUp finds the servers of the hop's domain.
func (h *hop) lookUp() {
	r := h.r
	h.looking = true
	if address, ok := literalAddress(h.domain); ok {
		r.work(func(context.Context) error { return nil }, func(error) {
			h.lookedUp([]*net.MX{{Host: address}}, nil, true)
		})
		return
	}
	var found []*net.MX
	r.work(func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, lookUpTimeout)
		defer cancel()
		found, err = r.Resolver.LookupMX(ctx, h.domain+".") // the domain, and none of those that are searched for it
		return err
	}, func(err error) { h.lookedUp(found, err, false) })
}

// lookUpTimeout bounds a look-up.
const lookUpTimeout = 30 * time.Second

// literalAddress is the address that a domain such as [192.0.2.1] consists of.
func literalAddress(domain string) (string, bool) {
	text, ok := strings.CutPrefix(domain, "[")
	text, closed := strings.CutSuffix(text, "]")
	return strings.TrimPrefix(text, "ipv6:"), ok && closed
}

// lookedUp takes the answer. RFC 5321 section 5.1
func (h *hop) lookedUp(found []*net.MX, err error, literal bool) {
	r := h.r
	h.looking = false
	defer h.tidy()
	var dns *net.DNSError
	switch {
	case len(found) > 0: // an error beside them is about others
	case err == nil, errors.As(err, &dns) && dns.IsNotFound:
		h.succeed([]target{{net.JoinHostPort(h.domain, r.port), true}})
		return
	default:
		r.log.Warn("smtp relay: exchangers", "domain", h.domain, "error", err)
		h.fail(errNoLookUp, true)
		return
	}
	found = slices.Clone(found)
	r.rng.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	slices.SortStableFunc(found, func(a, b *net.MX) int { return cmp.Compare(a.Pref, b.Pref) })
	var targets []target
	null := false
	for _, mx := range found {
		host := strings.TrimSuffix(mx.Host, ".")
		if host == "" {
			null = true
			continue
		}
		if !literal && equalFold(host, r.hostname) {
			targets = slices.DeleteFunc(targets, func(t target) bool { return prefOf(found, t.address) >= mx.Pref })
			break
		}
		targets = append(targets, target{address: net.JoinHostPort(host, r.port)})
	}
	switch {
	case len(targets) > 0:
		h.succeed(targets[:min(len(targets), maxTargets)])
	case null:
		h.fail(errNullMX, true)
	default:
		h.fail(errMXLoop, true)
	}
}

// maxTargets is how many servers of a domain are tried.
const maxTargets = 10

// prefOf is the preference of the server at an address.
func prefOf(all []*net.MX, address string) uint16 {
	host, _, _ := net.SplitHostPort(address)
	for _, mx := range all {
		if strings.TrimSuffix(mx.Host, ".") == host {
			return mx.Pref
		}
	}
	return 0
}

func (h *hop) succeed(targets []target) {
	h.targets, h.next, h.found = targets, 0, h.r.loop.Now()
	h.pump()
}

// isNoSuchHost tells whether a connection failed because its name is not known.
func isNoSuchHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

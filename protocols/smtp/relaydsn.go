package smtp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// notify reports what became of recipients to whom the message is from, if he wants it, and settles them when the report is
// in the queue. RFC 3461 section 4.1
func (r *Relay) notify(m *held, all []*RelayReport, which []int) {
	if len(which) == 0 {
		return
	}
	var wanted []*RelayReport
	unwanted := 0
	for _, x := range all {
		y := *x
		y.To = slices.DeleteFunc(slices.Clone(x.To), func(to Recipient) bool { return !x.wanted(to) })
		unwanted += len(x.To) - len(y.To)
		if len(y.To) > 0 {
			wanted = append(wanted, &y)
		}
	}
	failed := len(all) > 0 && all[0].Event == RelayFailed
	if len(wanted) > 0 && m.from.IsNull() {
		for _, x := range wanted {
			unwanted += len(x.To)
		}
		wanted = nil
	}
	if len(wanted) > 0 && failed && r.Bounce != nil {
		send := true
		r.call("Bounce", func() { send = r.Bounce(m.from, wanted) })
		if !send {
			for _, x := range wanted {
				unwanted += len(x.To)
			}
			wanted = nil
		}
	}
	if failed && unwanted > 0 {
		r.counts.dropped.Add(int64(unwanted))
		r.log.Warn("smtp relay: dropped, and nobody is told", "id", m.id, "from", m.from.Address(), "recipients", unwanted,
			"reply", all[0].Reply.Error())
	}
	if len(wanted) == 0 {
		r.settle(m, which)
		return
	}
	n := &notice{
		m: m, failed: failed, all: wanted, host: r.hostname, now: r.loop.Now(), id: r.newID(),
		boundary: fmt.Sprintf("=_%016x%016x", r.rng.Uint64(), r.rng.Uint64()), most: r.limits.ReportedMessage,
	}
	r.tell(n, which)
}

// wanted tells whether the sender wants to know of this recipient.
func (x *RelayReport) wanted(to Recipient) bool {
	words := strings.Split(upper(to.Params["NOTIFY"]), ",")
	if x.Event == RelayFailed {
		return words[0] == "" || slices.Contains(words, "FAILURE")
	}
	return x.relayed && slices.Contains(words, "SUCCESS")
}

// tell puts a report into the queue. As long as it is not there, the recipients are not settled.
func (r *Relay) tell(n *notice, which []int) {
	var report *held
	r.work(func(ctx context.Context) (err error) {
		report, err = r.queueNotice(ctx, n)
		return err
	}, func(err error) {
		switch {
		case err == nil:
			r.counts.reports.Add(1)
			r.enqueue(report)
			r.settle(n.m, which)
		case !r.stopping:
			r.log.Error("smtp relay: the report cannot be queued, and is tried again", "id", n.m.id, "error", err)
			r.ch.AfterFunc(relayPause, func() { r.tell(n, which) })
		}
	})
}

// queueNotice is off the loop.
func (r *Relay) queueNotice(ctx context.Context, n *notice) (*held, error) {
	text, f, err := r.q.Open(n.m.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	e := &Envelope{To: []Recipient{{Path: n.m.from, Params: Params{"NOTIFY": "NEVER"}}}}
	if n.isUTF8() {
		e.Params = Params{"SMTPUTF8": ""}
	}
	report, head, err := newHeld(n.id, n.now, e)
	if err != nil {
		return nil, err
	}
	x, err := r.take(report, head, true)
	if err != nil {
		return nil, err
	}
	defer x.Abort()
	if err := n.write(x, io.NewSectionReader(text, n.m.head, text.Size()-n.m.head)); err != nil {
		return nil, err
	}
	return report, x.Commit(ctx)
}

// notice is a report of RFC 3464.
type notice struct {
	m        *held
	failed   bool // or else: it was delivered, or handed on to where no reports come from
	all      []*RelayReport
	host     string
	id       string
	boundary string
	now      time.Time
	most     int64
}

// maxReportedHeader is how much of a header is sent back, in octets.
const maxReportedHeader = 64 << 10

// isUTF8 tells whether the report has addresses that need SMTPUTF8. RFC 6533
func (n *notice) isUTF8() bool {
	for _, x := range n.all {
		for _, to := range x.To {
			if !to.IsASCII() || !isASCII(to.Params["ORCPT"]) {
				return true
			}
		}
	}
	return !n.m.from.IsASCII()
}

// write writes the report.
func (n *notice) write(w io.Writer, message *io.SectionReader) error {
	returned, whole, err := n.returned(message)
	if err != nil {
		return err
	}
	returned = bytes.ReplaceAll(returned, []byte{0}, nil) // a server that takes such mail may have a report of it refused
	ends := new(stuffer)
	returned = ends.end(ends.append(nil, returned))
	var b bytes.Buffer
	n.header(&b)
	n.text(&b)
	n.status(&b)
	kind := "text/rfc822-headers"
	if whole {
		kind = "message/rfc822"
	}
	if n.isUTF8() {
		kind = "message/global-headers"
		if whole {
			kind = "message/global"
		}
	}
	n.part(&b, kind, !isASCII7(returned))
	b.Write(returned)
	fmt.Fprintf(&b, "\r\n--%s--\r\n", n.boundary)
	_, err = w.Write(b.Bytes())
	return err
}

var crlf = []byte("\r\n")

// returned is what is sent back of the message.
func (n *notice) returned(message *io.SectionReader) (text []byte, whole bool, err error) {
	full := n.failed && upper(n.m.params["RET"]) == "FULL" && n.m.params["BODY"] != "BINARYMIME"
	if full && !exceeds(message.Size(), n.most) {
		text, err = io.ReadAll(message)
		return text, true, err
	}
	text = make([]byte, min(message.Size(), maxReportedHeader))
	if _, err := message.ReadAt(text, 0); err != nil && err != io.EOF {
		return nil, false, err
	}
	if end := bytes.Index(text, []byte("\r\n\r\n")); end >= 0 {
		return text[:end+2], false, nil
	}
	if bytes.HasPrefix(text, crlf) {
		return nil, false, nil
	}
	return text[:bytes.LastIndexByte(text, '\n')+1], false, nil
}

func (n *notice) header(b *bytes.Buffer) {
	subject := "Your mail could not be delivered"
	if !n.failed {
		subject = "Your mail was " + n.success("delivered", "handed on")
	}
	fmt.Fprintf(b, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n", n.host)
	fmt.Fprintf(b, "To: %s\r\n", n.m.from)
	fmt.Fprintf(b, "Date: %s\r\n", n.now.Format(time.RFC1123Z))
	fmt.Fprintf(b, "Message-ID: <%s@%s>\r\n", n.id, n.host)
	fmt.Fprintf(b, "Subject: %s\r\n", subject)
	b.WriteString("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"" + n.boundary + "\"\r\n\r\n")
}

// success is the one if the mail has arrived, the other if it went on to where no reports come from.
func (n *notice) success(arrived, onward string) string {
	if n.all[0].final { // all are of one connection
		return arrived
	}
	return onward
}

// part begins a part.
func (n *notice) part(b *bytes.Buffer, kind string, eight bool) {
	fmt.Fprintf(b, "\r\n--%s\r\nContent-Type: %s\r\n", n.boundary, kind)
	if eight {
		b.WriteString("Content-Transfer-Encoding: 8bit\r\n")
	}
	b.Write(crlf)
}

// text is for people.
func (n *notice) text(b *bytes.Buffer) {
	kind := "text/plain; charset=us-ascii"
	if n.isUTF8() {
		kind = "text/plain; charset=utf-8"
	}
	n.part(b, kind, n.isUTF8())
	fmt.Fprintf(b, "This is the mail server %s.\r\n\r\n", n.host)
	if n.failed {
		b.WriteString("Your mail could not be delivered to these recipients, and is not tried again:\r\n")
	} else {
		b.WriteString(n.success("Your mail was delivered to these recipients:\r\n",
			"Your mail for these recipients was handed on to a server that does not report\r\nwhether it arrives:\r\n"))
	}
	for _, x := range n.all {
		for _, to := range x.To {
			fmt.Fprintf(b, "\r\n  %s\r\n", to.Address())
			if n.failed {
				for _, line := range diagnosis(x.Reply) {
					fmt.Fprintf(b, "    %s\r\n", line)
				}
			}
		}
	}
}

// status is for programs. RFC 3464
func (n *notice) status(b *bytes.Buffer) {
	kind, addressed := "message/delivery-status", "rfc822"
	if n.isUTF8() {
		kind = "message/global-delivery-status"
	}
	n.part(b, kind, n.isUTF8())
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\n", n.host)
	if id, err := DecodeXtext(n.m.params["ENVID"]); err == nil && id != "" {
		fmt.Fprintf(b, "Original-Envelope-Id: %s\r\n", field(id))
	}
	fmt.Fprintf(b, "Arrival-Date: %s\r\n", n.m.at.Format(time.RFC1123Z))
	for _, x := range n.all {
		for _, to := range x.To {
			b.Write(crlf)
			if kind, addr, ok := strings.Cut(to.Params["ORCPT"], ";"); ok {
				if text, err := DecodeXtext(addr); err == nil {
					addr = text
				}
				fmt.Fprintf(b, "Original-Recipient: %s;%s\r\n", field(kind), field(addr))
			}
			addressed = "rfc822"
			if !to.IsASCII() {
				addressed = "utf-8"
			}
			fmt.Fprintf(b, "Final-Recipient: %s;%s\r\n", addressed, to.Address())
			if !n.failed {
				b.WriteString("Action: " + n.success("delivered", "relayed") + "\r\nStatus: 2.0.0\r\n")
				continue
			}
			fmt.Fprintf(b, "Action: failed\r\nStatus: %s\r\n", statusOf(x.Reply))
			if !x.Own {
				fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", field(hostOf(x.Hop)))
				fmt.Fprintf(b, "Diagnostic-Code: smtp; %s\r\n", strings.Join(diagnosis(x.Reply), "\r\n\t"))
			}
		}
	}
}

// hostOf is an address without its port.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return string(appendLiteral(nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))))
	}
	return host
}

// statusOf is the code of RFC 3463 for a reply.
func statusOf(r *Reply) string {
	if goodEnhanced(r.Enhanced, 5) || goodEnhanced(r.Enhanced, 4) {
		return r.Enhanced
	}
	return strconv.Itoa(r.Code/100) + ".0.0"
}

const maxDiagnosis = 20 // lines

// diagnosis is a reply in lines that can stand in a header, and of which none is long.
func diagnosis(r *Reply) (lines []string) {
	code := strconv.Itoa(r.Code)
	if r.Enhanced != "" {
		code += " " + field(r.Enhanced)
	}
	for i, line := range r.Lines[:min(len(r.Lines), maxDiagnosis)] {
		if line = field(line); i == 0 {
			line = strings.TrimRight(code+" "+line, " ")
		}
		if line != "" { // an empty one would end the header
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		lines = []string{code}
	}
	return lines
}

// field is text that can stand in a field of a header: nothing in it ends the line.
func field(s string) string {
	return string(bytes.TrimSpace(appendPrintable(nil, s[:min(len(s), MaxReplyText)])))
}

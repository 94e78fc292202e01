package smtp

import (
	"io"
	"maps"
	"slices"
	"strconv"
)

// Outgoing is a message to send, and its envelope. It must not change until its Result has come.
type Outgoing struct {
	From Path // the null path for a report
	To   []Recipient

	// Params are of MAIL: RET, ENVID, AUTH, REQUIRETLS and others. SIZE follows from Size, SMTPUTF8 from the addresses (set
	// it if there is UTF-8 in the header), and BODY is 8BITMIME where that is offered and nothing else is set: with
	// 8BITMIME set, a server that does not offer it is not sent the message, with 7BIT or nothing an octet above 127 is
	// then an error. BINARYMIME is sent as it is.
	//
	// Parameters of DSN are left out where it is not offered (RFC 3461 section 4: somebody else has to tell then), and so
	// is AUTH (RFC 4954 section 5); any other that is not offered is a refusal. The same holds of Recipient.Params.
	Params Params

	// Body is the message, header and all, up to io.EOF; nil is an empty one. It is read only as far as the server takes
	// it. Lines may end in CRLF, LF or CR; on the wire all end in CRLF, the last one, too. A NUL is refused.
	//
	// What can block is read on a worker (core.Go), in blocks of 64 KiB, so that it does not hold up the loop: anything but
	// a *bytes.Reader, *bytes.Buffer, *strings.Reader, *Pipe or regular *os.File. It is not closed. After a failure a Read
	// that blocks may still be under way when the Result comes.
	Body io.Reader

	// Direct says that Body never blocks for long: it is read on the loop's goroutine.
	Direct bool

	// Size is how large Body is, in octets; 0: not known, or a *bytes.Reader, *bytes.Buffer, *strings.Reader or regular
	// *os.File, which can tell. It is declared where SIZE is offered, and a server that takes less is not sent the message.
	Size int64

	// RefuseBare refuses a message with a CR or LF by itself, instead of making it a CRLF: for one that comes from somebody
	// else, and may not mean the same then.
	RefuseBare bool

	// Progress, if set, is called now and then with how many octets of Body were handed to the connection.
	Progress func(sent int64)
}

// Result is what became of an Outgoing.
type Result struct {
	Outgoing *Outgoing

	// To has the last word on each recipient, in the order of Outgoing.To, never nil: the server has taken the message over
	// for those with a positive one. Either it was said to RCPT, or it is Reply; with LMTP each has its own.
	To []*Reply

	// Reply is the last word on the message: the answer to it, or what kept it from being sent; if no recipient was
	// accepted, that on the first one.
	Reply *Reply

	// Err is nil if the server had the last word. Otherwise it is what kept it from that, such as core.ErrTimeout, io.EOF,
	// core.ErrClosed, a *net.OpError, ErrNoTLS, or the error of Body; and Reply is one of our own (4xx if it may work
	// later), as it is if the message cannot be sent as it is, or not to this server: then Err is that Reply.
	Err error

	// Step is where it ended: "connect", "greeting", "EHLO", "HELO", "STARTTLS", "TLS", "AUTH", "idle", "RSET", "MAIL", "RCPT",
	// "DATA", "BDAT", "message", or "end of message".
	Step string

	// Uncertain: the server had all of the message, and its answer did not come. It may have accepted it all the same:
	// sending again may mean that it arrives twice, not to that it never does. RFC 5321 section 4.5.3.2.6, RFC 1047
	Uncertain bool

	// Sent is how many octets of Body were handed to the connection.
	Sent int64
}

// Accepted returns for how many recipients the server has taken the message over.
func (r *Result) Accepted() (n int) {
	for _, to := range r.To {
		if to.Positive() {
			n++
		}
	}
	return n
}

// OK tells whether the message was accepted for every recipient.
func (r *Result) OK() bool { return len(r.To) > 0 && r.Accepted() == len(r.To) }

// Replies of our own to a message that cannot be sent.
var (
	noRecipients   = Replyf(554, "5.5.1", "The message has no recipients")
	badSender      = Replyf(501, "5.1.7", "The sender's address cannot be sent")
	badRecipient   = Replyf(501, "5.1.3", "The address cannot be sent")
	badParams      = Replyf(501, "5.5.4", "A parameter cannot be sent")
	longCommand    = Replyf(501, "5.5.4", "Address and parameters are too long")
	notUTF8        = Replyf(550, "5.6.7", "The message needs SMTPUTF8, which the server does not offer")
	notUTF8Address = Replyf(553, "5.6.7", "The address needs SMTPUTF8, which the server does not offer")
	not8Bit        = Replyf(550, "5.6.3", "The message needs 8BITMIME, which the server does not offer")
	notBinary      = Replyf(550, "5.6.3", "The message needs BINARYMIME and CHUNKING, which the server does not offer")
	not7Bit        = Replyf(550, "5.6.0", "The message is not 7BIT, as it says")
	bareReply      = Replyf(550, "5.6.0", "The message has a CR or LF by itself")
	noRequireTLS   = Replyf(550, "5.7.30", "The message needs REQUIRETLS, which the server does not offer") // RFC 8689
	nulReply       = Replyf(550, "5.6.0", "The message has a NUL")
)

// maxMailCommand is the longest MAIL or RCPT that is sent, in octets.
const maxMailCommand = 4096

// extensionOf are the extensions of parameters that are not called as they are.
var extensionOf = map[string]string{"RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN", "ORCPT": "DSN", "BODY": "8BITMIME",
	"BY": "DELIVERBY", "HOLDFOR": "FUTURERELEASE", "HOLDUNTIL": "FUTURERELEASE"}

// goodPath tells whether p can be sent: it reads back as it is, so that nothing in it can end the line, or the path.
func goodPath(p Path) bool {
	back, rest, err := ParsePath(p.String(), true)
	return err == nil && rest == "" && back == p
}

// mailLine is MAIL, or why the message cannot be sent to this server.
func (j *mailing) mailLine() (string, *Reply) {
	c, p := j.c, make(Params)
	if !goodPath(j.from) || j.from.Domain == "" && j.from.Local != "" {
		return "", badSender
	}
	maps.Copy(p, j.params)
	_, asked := p["SMTPUTF8"]
	_, offered := c.Offers("SMTPUTF8")
	switch asked = asked || !j.from.IsASCII(); {
	case asked && !offered:
		return "", notUTF8
	case asked || offered && !j.allASCII(): // if it is not offered, those recipients are refused one by one
		p["SMTPUTF8"], j.utf8 = "", true
	}
	if r := j.body8(p); r != nil {
		return "", r
	}
	if r := j.precheck(); r != nil {
		return "", r
	}
	if r := j.size(p); r != nil {
		return "", r
	}
	if _, tls := p["REQUIRETLS"]; tls {
		if _, offered := c.Offers("REQUIRETLS"); !offered || c.tls == nil {
			return "", noRequireTLS
		}
	}
	return j.line("MAIL FROM:"+j.from.String(), p)
}

// allASCII tells whether the recipients can do without SMTPUTF8.
func (j *mailing) allASCII() bool {
	for _, to := range j.to {
		if !to.IsASCII() {
			return false
		}
	}
	return true
}

// body8 decides what BODY says. RFC 6152, RFC 3030
func (j *mailing) body8(p Params) *Reply {
	_, offered := j.c.Offers("8BITMIME")
	_, binary := j.c.Offers("BINARYMIME")
	switch p["BODY"] {
	case "":
		if offered {
			p["BODY"] = "8BITMIME"
		} else {
			j.only7 = not8Bit
		}
	case "7BIT":
		j.only7 = not7Bit
		if !offered {
			delete(p, "BODY")
		}
	case "8BITMIME":
		if !offered {
			return not8Bit
		}
	case "BINARYMIME":
		if !binary || !j.chunking {
			return notBinary
		}
		j.binary = true
	default:
		return badParams
	}
	return nil
}

// size decides what SIZE says. RFC 1870
func (j *mailing) size(p Params) *Reply {
	n, _, _ := parseSize(p["SIZE"])
	if j.out.Size > 0 {
		n = j.out.Size
	} else if n == 0 {
		n = bodySize(j.out.Body)
	}
	delete(p, "SIZE")
	limit, offered := j.c.Offers("SIZE")
	if !offered || n <= 0 {
		return nil
	}
	if most, over, ok := parseSize(limit); ok && !over && most > 0 && n > most {
		return Replyf(552, "5.3.4", "The message has %d octets, and the server takes %d", n, most)
	}
	p["SIZE"] = strconv.FormatInt(n, 10)
	return nil
}

// rcptLine is RCPT, or why the recipient cannot be sent to this server.
func (j *mailing) rcptLine(to Recipient) (string, *Reply) {
	switch {
	case to.IsNull() || !goodPath(to.Path):
		return "", badRecipient
	case !to.IsASCII() && !j.utf8:
		return "", notUTF8Address
	}
	return j.line("RCPT TO:"+to.Path.String(), to.Params)
}

// line appends the parameters that are offered.
func (j *mailing) line(line string, p Params) (string, *Reply) {
	for _, k := range slices.Sorted(maps.Keys(p)) {
		v := p[k]
		if !goodKeyword(k) || v != "" && !goodValue(v, j.utf8) {
			return "", badParams
		}
		extension := k
		if e := extensionOf[k]; e != "" {
			extension = e
		}
		if _, ok := j.c.Offers(extension); !ok {
			if extension == "DSN" || extension == "AUTH" {
				continue
			}
			return "", Replyf(555, "5.5.4", "The server does not offer %s", extension)
		}
		line += " " + k
		if v != "" {
			line += "=" + v
		}
	}
	if len(line)+2 > maxMailCommand {
		return "", longCommand
	}
	return line, nil
}

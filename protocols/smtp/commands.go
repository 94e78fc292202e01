package smtp

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// collect keeps a piece of a command. What is longer than any command may be is forgotten but for its beginning.
func (s *Session) collect(data []byte) {
	if s.over {
		return
	}
	if room := s.room(data); len(s.buf)+len(data) > room {
		s.over = true
		data = data[:max(min(room-len(s.buf), len(data)), 0)]
	}
	s.buf = append(s.buf, data...)
}

// room is how long the command may be, without CRLF, whose beginning is what came of it and data.
func (s *Session) room(data []byte) int {
	l := &s.srv.limits
	if s.mode == modeAuth {
		return l.AuthLine - 2
	}
	var first [5]byte
	n := copy(first[:], s.buf)
	n += copy(first[n:], data)
	verb := first[:n]
	limit := l.CommandLine
	if l.ExactCommandLine {
		limit = rfcCommandLine
	}
	switch {
	case n < len(first):
	case equalFold(verb, "AUTH "):
		limit = max(limit, l.AuthLine)
	case l.ExactCommandLine && s.esmtp && equalFold(verb, "MAIL "):
		limit += s.mailGrowth()
	case l.ExactCommandLine && s.esmtp && equalFold(verb, "RCPT ") && s.srv.offers["DSN"]:
		limit += 500
	}
	return limit - 2
}

// mailGrowth is by how much extensions make MAIL longer: RFC 1870 section 3, 6152 section 2, 6531 section 3.4, 3461
// section 4, 4954 section 3, 8689 section 2.
func (s *Session) mailGrowth() (n int) {
	for _, e := range []struct {
		name string
		n    int
	}{{"SIZE", 26}, {"8BITMIME", 17}, {"SMTPUTF8", 10}, {"DSN", 500}, {"REQUIRETLS", 11}} {
		if s.srv.offers[e.name] {
			n += e.n
		}
	}
	if s.srv.Auth != nil {
		n += 500
	}
	return n
}

// equalFold tells whether a and b are the same but for the case of ASCII letters. Others have none here: what a server
// before this one takes for an unknown word is not to be a command.
func equalFold[A, B string | []byte](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// upper is s with its ASCII letters in upper case.
func upper(s string) string {
	for i := range len(s) {
		if s[i] >= 'a' && s[i] <= 'z' {
			p := []byte(s)
			for i, c := range p {
				if c >= 'a' && c <= 'z' {
					p[i] = c &^ 0x20
				}
			}
			return string(p)
		}
	}
	return s
}

const keepBuffer = 512

// take returns the command and begins the next; it is good until a piece of that is kept.
func (s *Session) take() (line []byte, over bool) {
	line, over = s.buf, s.over
	s.buf, s.over = line[:0], false
	if cap(line) > keepBuffer { // an idle session owns no large buffer
		s.buf = nil
	}
	return line, over
}

// badOctets tells whether a command has what none may have: controls, CR and LF by themselves among them, and in UTF-8
// those from U+0080 to U+009F.
func badOctets(line []byte) bool {
	for i, c := range line {
		if c < 0x20 || c == 0x7f || c&0xe0 == 0x80 && i > 0 && line[i-1] == 0xc2 {
			return true
		}
	}
	return false
}

// foreign are verbs of HTTP: a browser was talked into sending something here.
var foreign = map[string]bool{"GET": true, "POST": true, "HEAD": true, "CONNECT": true, "PUT": true, "OPTIONS": true,
	"DELETE": true, "PATCH": true, "TRACE": true}

// command works on a whole command.
func (s *Session) command() {
	raw, over := s.take()
	s.count(cCommands, 1)
	s.expect(s.srv.limits.IdleTimeout)
	line := string(raw)
	verb, arg, _ := strings.Cut(line, " ")
	verb = upper(verb[:min(len(verb), 20)])
	arg = strings.TrimRight(arg, " ")
	switch {
	case exceeds(int(s.counts[cCommands]), s.srv.limits.Commands):
		s.bye(421, "4.7.0", "Too many commands", ErrTooMuch)
	case s.hello == "" && foreign[verb]:
		s.bye(554, "5.5.0", "This is no HTTP server", ErrNotSMTP)
	case over && verb == "AUTH":
		s.wrong(500, "5.5.6", "Line too long") // RFC 4954 section 4
	case over:
		s.wrong(500, "5.5.2", "Line too long")
	case badOctets(raw):
		s.wrong(500, "5.5.2", "Control characters in a command, or a line that does not end in CRLF")
	case !utf8.Valid(raw):
		s.wrong(500, "5.5.2", "A command that is not UTF-8")
	case verb == "":
		s.wrong(500, "5.5.2", "Empty command")
	case s.unwanted && verb != "QUIT" && verb != "BDAT":
		s.wrong(errUnwanted.Code, errUnwanted.Enhanced, errUnwanted.Lines[0])
	default:
		s.run(verb, arg, len(line) > len(verb))
	}
}

// run runs a command; some need to know whether there was a space.
func (s *Session) run(verb, arg string, space bool) {
	if len(arg) > 0 && !isASCII(arg) && !s.takesUTF8(verb) {
		s.wrong(501, "5.5.4", "An argument that is not ASCII")
		return
	}
	switch verb {
	case "HELO", "EHLO", "LHLO":
		s.greeted(verb, arg)
	case "MAIL":
		s.mail(arg)
	case "RCPT":
		s.rcpt(arg)
	case "DATA":
		s.data(arg)
	case "BDAT":
		s.bdat(arg)
	case "RSET":
		if s.noArgument(arg) && s.idled() {
			s.reset()
			s.say(250, "2.0.0", "Ok")
		}
	case "NOOP": // an argument is ignored: RFC 5321 section 4.1.1.9
		if s.idled() {
			s.say(250, "2.0.0", "Ok")
		}
	case "QUIT":
		s.quit = true
		s.bye(221, "2.0.0", "Goodbye", nil)
	case "VRFY":
		s.vrfy(arg)
	case "EXPN":
		s.expn(arg)
	case "HELP":
		s.help(arg)
	case "STARTTLS":
		s.startTLS(arg)
	case "AUTH":
		s.authenticate(arg)
	case "SEND", "SOML", "SAML", "TURN", "ETRN", "ATRN", "BURL", "XCLIENT", "XFORWARD":
		s.wrong(502, "5.5.1", "Command not implemented")
	default:
		s.wrong(500, "5.5.2", "Unknown command"+named(verb))
	}
}

// named is the verb for a reply, if it could be one.
func named(verb string) string {
	for i := range len(verb) {
		if !isAlnum(verb[i]) {
			return ""
		}
	}
	return ` "` + verb + `"`
}

// takesUTF8 tells for which commands the rest is looked at later.
func (s *Session) takesUTF8(verb string) bool {
	switch verb {
	case "MAIL", "RCPT", "NOOP", "BDAT":
		return true
	case "VRFY", "EXPN":
		return s.srv.offers["SMTPUTF8"]
	}
	return false
}

// noArgument refuses an argument.
func (s *Session) noArgument(arg string) bool {
	if arg != "" {
		s.wrong(501, "5.5.4", "No argument here")
		return false
	}
	return true
}

// idled counts a command that does nothing. It answers false when there were too many.
func (s *Session) idled() bool {
	s.junk++
	if exceeds(s.junk, s.srv.limits.Junk) {
		s.bye(421, "4.7.0", "Too many commands that do nothing", ErrTooMuch)
		return false
	}
	return true
}

// greeted is HELO, EHLO and LHLO.
func (s *Session) greeted(verb, arg string) {
	switch {
	case s.srv.LMTP != (verb == "LHLO"):
		s.wrong(500, "5.5.1", "Say "+s.ehlo())
		return
	case arg == "":
		s.wrong(501, "5.5.4", "Syntax: "+verb+" hostname")
		return
	case !goodHello(arg):
		s.wrong(501, "5.5.4", "That is no host name")
		return
	case s.hello != "" && !s.idled():
		return
	}
	s.arg, s.extend = arg, verb != "HELO"
	var err error
	if h := s.srv.hooks.hello; h != nil {
		err = h.HandleHello(s, arg)
	}
	s.settle(err, (*Session).hailed)
}

// hailed answers HELO, EHLO or LHLO. It forgets a transaction, as RSET does: RFC 5321 section 4.1.4.
func (s *Session) hailed(err error) {
	r := s.verdict(err)
	if r != nil && !r.Positive() {
		s.respond(r, nil)
		return
	}
	s.reset()
	s.hello, s.esmtp = s.arg, s.extend
	greeting := s.srv.hostname
	if r != nil && len(r.Lines) > 0 { // the Backend's own words
		greeting += " " + strings.Join(r.Lines, " ")
	}
	lines := append(make([]string, 0, 16), greeting)
	if s.esmtp {
		lines = s.offers(lines)
	}
	s.send(&Reply{Code: 250, Lines: lines})
}

// offers appends the lines of the answer to EHLO.
func (s *Session) offers(lines []string) []string {
	srv := s.srv
	add := func(keyword, text string) {
		if srv.offers[keyword] {
			lines = append(lines, keyword+text)
		}
	}
	add("PIPELINING", "")
	add("SIZE", " "+strconv.FormatInt(max(srv.limits.MessageSize, 0), 10))
	add("8BITMIME", "")
	add("BINARYMIME", "")
	add("CHUNKING", "")
	add("SMTPUTF8", "")
	add("ENHANCEDSTATUSCODES", "")
	add("DSN", "")
	if text := srv.limits.announced(); text != "" {
		add("LIMITS", text)
	}
	if s.tls != nil { // RFC 8689 section 2: only under TLS
		add("REQUIRETLS", "")
	}
	if s.canStartTLS() {
		lines = append(lines, "STARTTLS")
	}
	if names := s.mechanisms(); names != "" {
		lines = append(lines, "AUTH "+names)
	}
	return append(lines, "HELP")
}

func (s *Session) vrfy(arg string) {
	if !s.idled() || !s.permitted() {
		return
	}
	if arg == "" {
		s.wrong(501, "5.5.4", "Syntax: VRFY address")
		return
	}
	var err error
	if h := s.srv.hooks.vrfy; h != nil {
		err = h.HandleVrfy(s, arg)
	}
	s.settle(err, (*Session).verified)
}

func (s *Session) verified(err error) {
	s.answer(err, &Reply{Code: 252, Enhanced: "2.1.5", Lines: []string{"Send it, and we shall see"}})
}

func (s *Session) expn(arg string) {
	h := s.srv.hooks.expn
	switch {
	case !s.idled() || !s.permitted():
	case h == nil:
		s.wrong(502, "5.5.1", "EXPN not implemented")
	case arg == "":
		s.wrong(501, "5.5.4", "Syntax: EXPN list")
	default:
		s.settle(h.HandleExpn(s, arg), (*Session).verified)
	}
}

// help answers HELP, with the syntax of a command if it is named.
func (s *Session) help(arg string) {
	if !s.idled() {
		return
	}
	verb := upper(arg)
	if verb == "" {
		s.send(&Reply{Code: 214, Enhanced: "2.0.0", Lines: []string{"Commands: " + s.verbs(), "RFC 5321 says what they mean"}})
		return
	}
	if _, ok := syntax[verb]; !ok {
		s.wrong(501, "5.5.4", "Commands: "+s.verbs())
		return
	}
	s.say(214, "2.0.0", "Syntax: "+s.syntax(verb))
}

// syntax is what a command looks like in this session.
func (s *Session) syntax(verb string) string {
	if s.esmtp && (verb == "MAIL" || verb == "RCPT") {
		return syntax[verb] + " [SP parameters]"
	}
	return syntax[verb]
}

// syntax is what each command looks like.
var syntax = map[string]string{
	"HELO": "HELO hostname", "EHLO": "EHLO hostname", "LHLO": "LHLO hostname", "MAIL": "MAIL FROM:<address>", "RCPT": "RCPT TO:<address>",
	"DATA": "DATA", "BDAT": "BDAT size [LAST]", "RSET": "RSET", "NOOP": "NOOP [anything]", "QUIT": "QUIT", "VRFY": "VRFY address",
	"EXPN": "EXPN list", "HELP": "HELP [command]", "STARTTLS": "STARTTLS", "AUTH": "AUTH mechanism [initial response]",
}

// verbs are the commands that there are.
func (s *Session) verbs() string {
	hello := "EHLO HELO"
	if s.srv.LMTP {
		hello = "LHLO"
	}
	text := hello + " MAIL RCPT DATA"
	if s.srv.offers["CHUNKING"] {
		text += " BDAT"
	}
	text += " RSET NOOP QUIT VRFY HELP"
	if s.srv.hooks.expn != nil {
		text += " EXPN"
	}
	if s.canStartTLS() {
		text += " STARTTLS"
	}
	if s.mechanisms() != "" {
		text += " AUTH"
	}
	return text
}

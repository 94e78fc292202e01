package smtp

// What parameters of MAIL and RCPT can say. Values that are known and wrong are found before keywords that are not known,
// the keywords in the order of these lists.
var (
	mailKeywords = []string{"AUTH", "BODY", "ENVID", "REQUIRETLS", "RET", "SIZE", "SMTPUTF8"}
	rcptKeywords = []string{"NOTIFY", "ORCPT"}
)

// knows tells whether the extension to which a parameter belongs is in force.
func (s *Session) knows(keyword string) bool {
	offers := s.srv.offers
	switch keyword {
	case "AUTH":
		return s.srv.Auth != nil
	case "BODY":
		return offers["8BITMIME"] || offers["BINARYMIME"]
	case "REQUIRETLS":
		return offers["REQUIRETLS"] && s.tls != nil
	case "SIZE", "SMTPUTF8":
		return offers[keyword]
	}
	return offers["DSN"]
}

// checkMail judges the parameters of MAIL.
func (s *Session) checkMail() *Reply {
	known := 0
	for _, keyword := range mailKeywords {
		value, has := s.params[keyword]
		if !has || !s.knows(keyword) {
			continue
		}
		known++
		if r := s.checkMailParam(keyword, value); r != nil {
			return r
		}
	}
	if known < len(s.params) {
		return Replyf(555, "5.5.4", "MAIL has a parameter that is not known")
	}
	return nil
}

func (s *Session) checkMailParam(keyword, value string) *Reply {
	switch keyword {
	case "AUTH":
		if !goodMailAuth(value) {
			return Replyf(501, "5.5.4", "AUTH is not xtext of an address")
		}
	case "BODY":
		value = upper(value)
		s.params[keyword] = value
		if value != "7BIT" && (value != "8BITMIME" && value != "BINARYMIME" || !s.srv.offers[value]) {
			return s.wrongBody()
		}
	case "ENVID":
		if _, err := DecodeXtext(value); err != nil || value == "" || len(value) > 100 {
			return Replyf(501, "5.5.4", "ENVID is not xtext")
		}
	case "RET":
		value = upper(value)
		s.params[keyword] = value
		if value != "FULL" && value != "HDRS" {
			return Replyf(501, "5.5.4", "RET can be FULL or HDRS")
		}
	case "SIZE":
		return s.checkSize(value)
	default:
		if value != "" {
			return Replyf(501, "5.5.4", "%s has no value", keyword)
		}
	}
	return nil
}

// checkRcpt judges the parameters of RCPT.
func (s *Session) checkRcpt() *Reply {
	known := 0
	for _, keyword := range rcptKeywords {
		value, has := s.params[keyword]
		if !has || !s.knows(keyword) {
			continue
		}
		known++
		var good bool
		if keyword == "NOTIFY" {
			s.params[keyword] = upper(value)
			good = goodNotify(value)
		} else {
			good = goodORCPT(value, s.tx.utf8)
		}
		if !good {
			return Replyf(501, "5.5.4", "%s has a wrong value", keyword)
		}
	}
	if known < len(s.params) {
		return Replyf(555, "5.5.4", "RCPT has a parameter that is not known")
	}
	return nil
}

func (s *Session) wrongBody() *Reply {
	kinds := "7BIT"
	for _, kind := range []string{"8BITMIME", "BINARYMIME"} {
		if s.srv.offers[kind] {
			kinds += " or " + kind
		}
	}
	return Replyf(501, "5.5.4", "BODY can be %s", kinds)
}

func (s *Session) checkSize(value string) *Reply {
	n, over, ok := parseSize(value)
	switch {
	case !ok:
		return Replyf(501, "5.5.4", "SIZE is a number")
	case over, exceeds(n, s.srv.limits.MessageSize):
		if s.srv.limits.MessageSize < 0 {
			return errTooLarge
		}
		return Replyf(552, "5.3.4", "Message too large: %d octets at most", s.srv.limits.MessageSize)
	}
	return nil
}

// goodMailAuth tells whether s is a value of MAIL's AUTH: xtext of a mailbox, or "<>". RFC 4954 section 5
func goodMailAuth(s string) bool {
	addr, err := DecodeXtext(s)
	if err != nil || addr == "<>" {
		return err == nil
	}
	_, err = ParseMailbox(addr, false)
	return err == nil
}

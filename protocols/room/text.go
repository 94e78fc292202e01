package room

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean returns text as it can be shown on anybody's terminal:
//
//   - Each run of bytes that are not UTF-8 becomes one U+FFFD ("�").
//   - Escape sequences (ECMA-48: those that begin with ESC or with the C1 character CSI) are dropped as a whole.
//   - A tab or a line feed becomes a space. Other control characters (C0, DEL, C1) are dropped, and so are line and paragraph separators.
//   - Format characters (Unicode's category Cf) are dropped: those that change the direction of writing, and those that
//     are not seen, such as the zero-width space. The price is that emoji made of several fall apart.
//
// Text that needs none of this is returned as it is.
func Clean(text string) string {
	i := 0
	for i < len(text) && ' ' <= text[i] && text[i] <= '~' {
		i++
	}
	if i == len(text) {
		return text
	}
	var b strings.Builder
	b.Grow(len(text))
	b.WriteString(text[:i])
	for bad := false; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		wasBad := bad
		bad = r == utf8.RuneError && size == 1
		switch {
		case bad && !wasBad:
			b.WriteRune(utf8.RuneError)
		case bad:
		case r == escape || r == csi:
			i += escapeSequence(text[i:])
			continue
		case r == '\t' || r == '\n':
			b.WriteByte(' ')
		case !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

const (
	escape = 0x1B
	csi    = 0x9B // in its 8-bit form
)

// escapeSequence returns the length of the sequence that s begins with. One that is not complete is only as long as what
// introduces it, so that text behind it is not lost.
func escapeSequence(s string) int {
	if s[0] != escape {
		_, size := utf8.DecodeRuneInString(s)
		return size + controlSequence(s[size:])
	}
	if len(s) == 1 {
		return 1
	}
	switch c := s[1]; {
	case c == '[':
		return 2 + controlSequence(s[2:])
	case strings.IndexByte("]PX^_", c) >= 0: // a string, up to BEL or ESC \
		for i := 2; i < len(s); i++ {
			if s[i] == '\a' {
				return i + 1
			}
			if s[i] == escape && i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
		}
		return 2
	case c == 'O' && len(s) > 2 && 0x40 <= s[2] && s[2] <= 0x7E: // a key, in application mode
		return 3
	}
	i := 1
	for i < len(s) && 0x20 <= s[i] && s[i] <= 0x2F {
		i++
	}
	if i < len(s) && 0x30 <= s[i] && s[i] <= 0x7E {
		return i + 1
	}
	return 1
}

// controlSequence returns the length of the rest of a control sequence, 0 if it is none.
func controlSequence(s string) int {
	i := 0
	for i < len(s) && 0x20 <= s[i] && s[i] <= 0x3F { // parameters and intermediates
		i++
	}
	if i < len(s) && 0x40 <= s[i] && s[i] <= 0x7E {
		return i + 1
	}
	return 0
}

// Errors about names; their texts are written for the person who chose one.
var (
	// ErrName: it is not what a name can be: see CheckName.
	ErrName = errors.New("that is no name")

	// ErrTaken: a member has that nickname, or one that can be mistaken for it.
	ErrTaken = errors.New("that name is taken")
)

// CheckName tells whether a nickname, or the name of a room, can be used: letters and digits of ASCII, - and _, at most
// limit of them, the first one a letter or digit. ErrName if not.
//
// Only ASCII: letters of other scripts look like these (Cyrillic а and Latin a), and no simple rule tells them apart.
func CheckName(name string, limit int) error {
	good := name != "" && len(name) <= limit && name[0] != '-' && name[0] != '_'
	for i := range len(name) {
		c := name[i]
		good = good && (c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	}
	if !good {
		return fmt.Errorf("%w: use letters, digits, - and _, at most %d, a letter or digit first", ErrName, limit)
	}
	return nil
}

// lookalikes are the characters of names that are easily mistaken, after folding to lower case: I, l and 1; O and 0.
var lookalikes = strings.NewReplacer("0", "o", "1", "l", "i", "l", "_", "-")

// skeleton is what two names have in common that can be mistaken for each other. Combinations such as rn and m are not
// looked at.
func skeleton(name string) string { return lookalikes.Replace(strings.ToLower(name)) }

package room_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/protocols/room"
)

func TestClean(t *testing.T) {
	for _, tt := range []struct{ name, in, out string }{
		{"nothing", "", ""},
		{"ASCII", " !~az", " !~az"},
		{"letters", "Grüße, 日本語, עברית, ไทย", "Grüße, 日本語, עברית, ไทย"},
		{"spaces", "a\u00A0b\u3000c", "a\u00A0b\u3000c"},
		{"emoji", "🙂👍🏽", "🙂👍🏽"},
		{"combining", "e\u0301\uFE0F", "e\u0301\uFE0F"},
		{"not UTF-8", "a\xff\xfe\x80b\xc0", "a�b�"},
		{"cut UTF-8", "\xe2\x82", "�"},
		{"surrogates", "\xed\xa0\x80x", "�x"},
		{"a real replacement character", "��", "��"},
		{"C0", "a\x00\x01\x07\x08\x0b\x0c\r\x1fb", "ab"},
		{"DEL", "a\x7fb", "ab"},
		{"C1", "a\u0080\u0085\u009fb", "ab"},
		{"tab, line feed", "a\tb\nc", "a b c"},
		{"separators", "a\u2028b\u2029c", "abc"},
		{"direction", "a\u200E\u200F\u202A\u202B\u202C\u202D\u202E\u2066\u2067\u2068\u2069\u061Cb", "ab"},
		{"invisible", "a\u00AD\u180E\u200B\u200C\u200D\u2060\u2061\uFEFF\uFFF9\U000E0001\U000E0061b", "ab"},
		{"colour", "\x1b[31mred\x1b[0m", "red"},
		{"private parameters", "\x1b[?1049hx\x1b[>0;1cy", "xy"},
		{"intermediates", "\x1b[1 qx\x1b[!py", "xy"},
		{"8-bit", "\u009b31mred\u009bK", "red"},
		{"CSI cut", "a\x1b[31", "a31"},
		{"CSI with something else in it", "\x1b[3\xc3\xa4x", "3äx"},
		{"keys", "\x1b[A\x1b[1;5C\x1bOP\x1bOHx", "x"},
		{"title", "\x1b]0;title\ax\x1b]2;title\x1b\\y", "xy"},
		{"title without an end", "\x1b]0;title", "0;title"},
		{"DCS, PM, APC, SOS", "\x1bPq#0\x1b\\a\x1b^p\x1b\\b\x1b_a\x1b\\c\x1bXs\x1b\\d", "abcd"},
		{"character set", "\x1b(0lqk\x1b(B", "lqk"},
		{"two characters", "\x1bcx\x1b7y\x1b=z", "xyz"},
		{"ESC alone", "a\x1b", "a"},
		{"ESC ESC", "a\x1b\x1b[mb", "ab"},
		{"ESC before a letter of two bytes", "\x1bäx\x1bOäy", "äxäy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.out, room.Clean(tt.in))
			require.Equal(t, tt.out, room.Clean(tt.out), "not stable")
			require.Equal(t, "x"+tt.out, room.Clean("x"+tt.in))
		})
	}
}

// harmless tells what is wrong with a text that is shown to others, or "". It is written without package unicode, so that
// it does not repeat a mistake of Clean.
func harmless(text string) string {
	if !utf8.ValidString(text) {
		return "not UTF-8"
	}
	for _, line := range strings.SplitAfter(text, "\r\n") {
		for _, r := range strings.TrimSuffix(line, "\r\n") {
			switch {
			case r < 0x20, r >= 0x7F && r <= 0x9F, r == 0xAD, r == 0x61C, r == 0x180E, r >= 0x200B && r <= 0x200F,
				r >= 0x2028 && r <= 0x202E, r >= 0x2060 && r <= 0x206F, r == 0xFEFF, r >= 0xFFF9 && r <= 0xFFFB,
				r >= 0xE0000 && r <= 0xE007F:
				return string(r)
			}
		}
	}
	return ""
}

func FuzzClean(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b[31mred\xff\u202e\u009b1m\x1b]0;t\a")
	f.Fuzz(func(t *testing.T, s string) {
		c := room.Clean(s)
		require.Empty(t, harmless(c))
		require.LessOrEqual(t, len(c), 3*len(s))
		require.NotContains(t, c, "\r\n")
	})
}

func TestCheckName(t *testing.T) {
	for name, good := range map[string]bool{
		"a": true, "Z": true, "0": true, "bob": true, "b-o_b-": true, "abcdefghij": true,
		"": false, "abcdefghijk": false, "-bob": false, "_bob": false, "b b": false, "b.b": false, "bób": false,
		"b\x00": false, "b\xff": false, "bоb": false, "@": false, "[": false, "`": false, "{": false, "/": false, ":": false,
	} {
		if err := room.CheckName(name, 10); good {
			require.NoError(t, err, "%q", name)
		} else {
			require.ErrorIs(t, err, room.ErrName, "%q", name)
		}
	}
}

package chat

import (
	"bufio"
	"fmt"
	"strconv"
)

// Terminator says where the next token of a conversation ends. It is a comparable value; the zero value is None.
//
// What it can be:
//
//	None             no token: whatever arrives is handed on, FoundTerminator is never called
//	Literal("\r\n")  up to this sequence of bytes, which is not handed on
//	CRLF             Literal("\r\n")
//	Line             up to "\n" or "\r\n", as net/textproto reads lines
//	Count(n)         exactly n bytes; the terminator is None after that
//	Dot              a dot block: lines up to one that is "." alone, as SMTP, POP3 and NNTP send texts
//	Split(f)         what a bufio.SplitFunc says
//
// At the limit: a token of Literal, Line or Split, or a line of a Dot block, that is longer than Conn.SetLimit allows
// (DefaultLimit unless told) is too long: HandleTooLong is called, or the connection closes with ErrTooLong. The bytes
// up to the limit have been handed on by then. A Dot block as a whole has a limit of its own, Conn.SetBlockLimit. Count
// and None have none.
//
// At the end of the input: what was held back because it could have been the beginning of the terminator is handed on;
// a Split is asked with atEOF. FoundTerminator is not called for a token that did not end.
type Terminator struct {
	lit   string
	n     int64 // >0: Count; otherwise one of the codes
	split *splitter
}

// The codes in Terminator.n where there is neither literal nor count.
const (
	codeNone  = 0
	codeEmpty = -1 // Count(0)
	codeLine  = -2
	codeDot   = -3
)

type splitter struct{ f bufio.SplitFunc }

// The terminators that need no argument.
var (
	None Terminator
	CRLF = Literal("\r\n")
	Line = Terminator{n: codeLine}
	Dot  = Terminator{n: codeDot}
)

// Literal ends a token at a sequence of bytes. An empty one is None. [set_terminator(bytes)]
func Literal(s string) Terminator { return Terminator{lit: s} }

// Count ends a token after exactly n bytes. It is one-shot: the terminator is None afterwards unless FoundTerminator sets
// another. Count(0) is found at once, without any input. It panics if n is negative. [set_terminator(int)]
func Count(n int64) Terminator {
	switch {
	case n < 0:
		panic("chat: negative count")
	case n == 0:
		return Terminator{n: codeEmpty}
	}
	return Terminator{n: n}
}

// Split ends a token where f says. f must not depend on how much it is given at a time; delimiters may be up to 1 KiB
// long. An error of f closes the connection with it; after bufio.ErrFinalToken the terminator is None. Each call of
// Split gives a terminator that equals only itself.
func Split(f bufio.SplitFunc) Terminator { return Terminator{split: &splitter{f}} }

// String shows the terminator as it would be written in a program.
func (t Terminator) String() string {
	switch t.kind() {
	case kindLiteral:
		switch t.lit { // without an allocation, for traces
		case "\n":
			return `"\n"`
		case "\r\n":
			return `"\r\n"`
		}
		return strconv.Quote(t.lit)
	case kindCount:
		return fmt.Sprintf("Count(%d)", max(t.n, 0))
	case kindLine:
		return "Line"
	case kindDot:
		return "Dot"
	case kindSplit:
		return "Split"
	}
	return "None"
}

type kind uint8

const (
	kindNone kind = iota
	kindByte      // a Literal of one byte
	kindLiteral
	kindCount
	kindLine
	kindDot
	kindSplit
)

func (t Terminator) kind() kind {
	switch {
	case t.split != nil:
		return kindSplit
	case t.lit != "":
		return kindLiteral
	case t.n > 0, t.n == codeEmpty:
		return kindCount
	case t.n == codeLine:
		return kindLine
	case t.n == codeDot:
		return kindDot
	}
	return kindNone
}

package tlslayer

import "encoding/binary"

// crypto/tls collects records in one buffer and handshake messages in another. Both grow with what they are given at a time,
// by doubling, and keep their size as long as the connection lives. So it is given whole records, and the server's end
// gives it the ClientHello, which with a key share of X25519MLKEM768 is the largest thing that many conversations ever
// say, in records so small that the first buffer does not grow.

const (
	recordHeader  = 5 // type, version, length: RFC 8446 section 5.1
	messageHeader = 4 // type, length: section 4
	maxPlaintext  = 16 << 10

	typeHandshake = 22
	clientHello   = 1

	// piece is the most that a record that we make holds: with its header that is what crypto/tls makes room for at first,
	// bytes.MinRead more than a header.
	piece = 512
)

// bodyLen is the length that a record's header tells.
func bodyLen(header []byte) int { return int(binary.BigEndian.Uint16(header[3:])) }

// opening tells whether the first record of a client is whole, or nothing that is worth waiting for.
func opening(in []byte) bool {
	if len(in) < recordHeader {
		return false
	}
	n := bodyLen(in)
	return in[0] != typeHandshake || in[1] != 3 || n > maxPlaintext || len(in)-recordHeader >= n
}

// split makes several records of the first one, if that is a large one that holds nothing but a ClientHello or the
// beginning of one. How a message is parted is of no consequence (RFC 8446 section 5.1), and nothing signs or encrypts these
// headers. A record that holds more is left alone, because where a message ends in a record can be of consequence.
func split(in []byte) []byte {
	if !opening(in) || in[0] != typeHandshake || in[1] != 3 {
		return in
	}
	n := bodyLen(in)
	if n <= piece || n > maxPlaintext || in[recordHeader] != clientHello {
		return in
	}
	whole := messageHeader + int(binary.BigEndian.Uint32(in[recordHeader:])&0xffffff)
	if whole < n {
		return in
	}
	size := whole // a power of two of these: the second buffer doubles until the message fits, and should fit it then
	for size > piece {
		size = (size + 1) / 2
	}
	header, body, behind := in[:3], in[recordHeader:recordHeader+n], in[recordHeader+n:]
	out := make([]byte, 0, len(in)+(n-1)/size*recordHeader)
	for len(body) > 0 {
		m := min(size, len(body))
		out = append(out, header...)
		out = binary.BigEndian.AppendUint16(out, uint16(m))
		out = append(out, body[:m]...)
		body = body[m:]
	}
	return append(out, behind...)
}

// next is how much of what came crypto/tls is given now, at most so many bytes: nothing behind the end of a record unless it
// is a record too that is whole, and in a handshake not even that; no part of a header, which does not tell yet where the
// record ends.
func (w *wire) next(most int) int {
	if w.rest == 0 {
		switch {
		case len(w.in) >= recordHeader:
			w.rest = recordHeader + int32(bodyLen(w.in))
		case w.shake != nil && w.shake.inErr != nil:
			w.rest = int32(len(w.in)) // there will be no more of it: crypto/tls finds out where it was cut
		}
	}
	most = min(most, len(w.in))
	n := min(int(w.rest), most)
	w.rest -= int32(n)
	for w.shake == nil && w.rest == 0 && n+recordHeader <= most {
		m := n + recordHeader + bodyLen(w.in[n:])
		if m > most {
			break
		}
		n = m
	}
	return n
}

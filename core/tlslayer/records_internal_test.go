package tlslayer

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// record is a plaintext record.
func record(typ byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{typ, 3, 1}, uint16(len(body))), body...)
}

// hello is a ClientHello of n bytes with its header.
func hello(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	binary.BigEndian.PutUint32(b, clientHello<<24|uint32(n-messageHeader))
	return b
}

// A large ClientHello is parted so that a buffer that doubles fits it; everything else is left as it is.
func TestSplit(t *testing.T) {
	for _, n := range []int{513, 514, 1023, 1024, 1025, 1473, 2048, 2049, 16 << 10} {
		in := append(record(typeHandshake, hello(n)), "more"...)
		out := split(in)
		var sizes []int
		for len(out) > len("more") {
			sizes = append(sizes, bodyLen(out))
			out = out[recordHeader+bodyLen(out):]
		}
		require.Equal(t, "more", string(out))
		require.LessOrEqual(t, sizes[0], piece)
		require.Greater(t, sizes[0], piece/2)
		doubled := sizes[0]
		for doubled < n {
			doubled *= 2
		}
		require.LessOrEqual(t, doubled-n, len(sizes), "%d bytes in %d", n, sizes)
		require.Len(t, sizes, (n+sizes[0]-1)/sizes[0])
	}
	two := append(hello(600), 11, 0, 0, 0)
	old := record(typeHandshake, hello(600))
	old[1] = 2
	for name, in := range map[string][]byte{
		"small":               record(typeHandshake, hello(512)),
		"not whole":           record(typeHandshake, hello(600))[:500],
		"no header":           {typeHandshake, 3, 1},
		"empty":               record(typeHandshake, nil),
		"data":                record(23, hello(600)),
		"another message":     record(typeHandshake, append([]byte{2}, hello(600)[1:]...)),
		"something behind it": record(typeHandshake, two),
		"too long a record":   record(typeHandshake, hello(maxPlaintext+1)),
		"another protocol":    old,
	} {
		require.Equal(t, in, split(bytes.Clone(in)), name)
	}
	in := record(typeHandshake, hello(1000)[:700]) // the rest is to come
	require.Len(t, split(in), len(in)+recordHeader)
}

// Whatever comes: the same bytes in records of the same type and version, and what is no whole record untouched.
func FuzzSplit(f *testing.F) {
	f.Add(record(typeHandshake, hello(1473)))
	f.Add(append(record(typeHandshake, hello(600)), record(20, []byte{1})...))
	f.Add(record(typeHandshake, append(hello(600), 0)))
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		out := split(bytes.Clone(in))
		if bytes.Equal(in, out) {
			return
		}
		body, behind := in[recordHeader:recordHeader+bodyLen(in)], in[recordHeader+bodyLen(in):]
		for len(body) > 0 {
			n := bodyLen(out)
			require.True(t, 0 < n && n <= piece)
			require.Equal(t, in[:3], out[:3])
			require.Equal(t, body[:n], out[recordHeader:recordHeader+n])
			body, out = body[n:], out[recordHeader+n:]
		}
		require.Equal(t, behind, out)
	})
}

package tlslayer_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/chat"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/core/tlslayer"
)

// writer makes a client's records of TLS 1.3 by hand, from its traffic secret: crypto/tls never sends KeyUpdate by itself.
// RFC 8446 sections 5.2, 7.2 and 7.3, with TLS_AES_128_GCM_SHA256.
type writer struct {
	t      testing.TB
	secret []byte
	seq    uint64
}

func newWriter(t testing.TB, keyLog []byte) *writer {
	m := regexp.MustCompile(`CLIENT_TRAFFIC_SECRET_0 \w+ (\w+)`).FindSubmatch(keyLog)
	require.NotNil(t, m)
	secret, err := hex.DecodeString(string(m[1]))
	require.NoError(t, err)
	require.Len(t, secret, sha256.Size, "the suite's hash")
	return &writer{t: t, secret: secret}
}

func (w *writer) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{0, byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(sha256.New, w.secret, string(append(info, 0)), n)
	require.NoError(w.t, err)
	return out
}

// record is one record whose content type is typ.
func (w *writer) record(typ byte, text string) string {
	content := append([]byte(text), typ)
	block, err := aes.NewCipher(w.expand("key", 16))
	require.NoError(w.t, err)
	aead, err := cipher.NewGCM(block)
	require.NoError(w.t, err)
	nonce := w.expand("iv", 12)
	tail := nonce[4:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^w.seq)
	w.seq++

	header := []byte{23, 3, 3, 0, byte(len(content) + aead.Overhead())}
	return string(aead.Seal(header, nonce, content, header))
}

// update is a KeyUpdate, after which further records are made with the next key. RFC 8446 section 4.6.3
func (w *writer) update(requested byte) string {
	r := w.record(22, string([]byte{24, 0, 0, 1, requested}))
	w.secret = w.expand("traffic upd", sha256.Size)
	w.seq = 0
	return r
}

func TestKeyUpdate(t *testing.T) {
	server, client := configs(tls.VersionTLS13)
	var keyLog bytes.Buffer
	client.KeyLogWriter = &keyLog
	s := newScene(t, sim.Config{MaxRecv: 7})
	h := &lines{}
	f := s.serve(server, h)
	c := tls.Client(f, client)
	require.NoError(t, c.Handshake())
	w := newWriter(t, keyLog.Bytes())
	for _, requested := range []byte{0, 1, 1, 0} {
		f.Say(w.record(23, "be") + w.update(requested) + w.record(23, "hind\r\n"))
		got := make([]byte, 8)
		_, err := io.ReadFull(c, got) // which follows the server's own KeyUpdate
		require.NoError(t, err)
		require.Equal(t, "behind\r\n", string(got))
	}
	require.Equal(t, []string{"secure", "behind", "behind", "behind", "behind"}, h.log)
}

// A peer that asks for ever new keys and does not read the answers is not read from any more.
func TestKeyUpdateFlood(t *testing.T) {
	server, client := configs(tls.VersionTLS13)
	var keyLog bytes.Buffer
	client.KeyLogWriter = &keyLog
	s := newScene(t, sim.Config{Window: 1000})
	h := &lines{}
	sock, peer := s.Pair()
	conn, err := chat.Attach(s.loop, tlslayer.Server(sock, server), h.handler)
	require.NoError(t, err)
	f := &far{Peer: peer, w: s.World}
	require.NoError(t, tls.Client(f, client).Handshake())
	w := newWriter(t, keyLog.Bytes())
	f.Stall(true)
	const updates = 4000
	for range updates {
		f.Say(w.update(1) + w.record(23, "x")) // crypto/tls refuses more than 16 without data between them
	}
	f.Say(w.record(23, "\r\nend\r\n"))
	s.Settle()
	require.Greater(t, conn.Core().Unsent(), 16<<10)
	require.Less(t, conn.Core().Unsent(), 18<<10)
	require.Equal(t, []string{"secure"}, h.log)
	f.Stall(false)
	s.Settle()
	require.Equal(t, []string{"secure", strings.Repeat("x", updates), "end"}, h.log)
}

package smtp_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/core/sim"
	"github.com/parley-go/parley/protocols/smtp"
)

// A message that is written while it is sent, no faster than the server takes it.
func TestPipe(t *testing.T) {
	for _, chunking := range []bool{false, true} {
		s := newSender(t, sim.Config{Window: 5000}, &smtp.Server{}, &smtp.Client{NoChunking: !chunking})
		p := new(smtp.Pipe)
		m := outgoing(t, "", "user")
		m.Body = p
		s.send(m)
		piece := strings.Repeat(".0123456789abc\r\n", 2048) // 32 KiB
		const pieces = 40
		n, most, waits := 0, 0, 0
		var write func()
		write = func() {
			for n < pieces {
				k, err := p.Write([]byte(piece))
				require.NoError(t, err)
				require.Equal(t, len(piece), k)
				n++
				most = max(most, p.Len())
				if p.Wait(func(err error) { require.NoError(t, err); write() }) {
					waits++
					return
				}
			}
			require.NoError(t, p.Close())
		}
		write()
		s.all(1)
		require.True(t, s.results[0].OK())
		require.Equal(t, strings.Repeat(piece, pieces), s.rec.mails[0].body())
		require.LessOrEqual(t, most, 96<<10)
		require.Greater(t, waits, 10)
		_, err := p.Write([]byte("x"))
		require.ErrorIs(t, err, core.ErrClosed)
	}
}

// A pipe may be written and closed before it is sent.
func TestPipeBeforehand(t *testing.T) {
	s := newSender(t, sim.Config{}, &smtp.Server{}, &smtp.Client{})
	p := new(smtp.Pipe)
	_, err := p.Write([]byte("x\ny"))
	require.NoError(t, err)
	require.False(t, p.Wait(func(error) { t.Error("it need not wait") }))
	_, err = p.Write(make([]byte, smtp.PipeLimit))
	require.ErrorIs(t, err, core.ErrOverflow)
	require.NoError(t, p.Close())
	require.NoError(t, p.CloseWithError(errDisk))
	_, err = p.Write([]byte("x"))
	require.ErrorIs(t, err, core.ErrClosed)
	m := outgoing(t, "", "user")
	m.Body = p
	s.send(m)
	empty := outgoing(t, "", "user")
	pe := new(smtp.Pipe)
	empty.Body = pe
	s.send(empty)
	s.Settle()
	require.NoError(t, pe.Close())
	s.all(2)
	require.Equal(t, "x\r\ny\r\n", s.rec.mails[0].body())
	require.Equal(t, "", s.rec.mails[1].body())
}

// A writer that gives up leaves nothing behind at the server, and one whose message is refused learns of it.
func TestPipeGivenUp(t *testing.T) {
	for _, chunking := range []bool{false, true} {
		s := newSender(t, sim.Config{}, &smtp.Server{}, &smtp.Client{NoChunking: !chunking})
		p := new(smtp.Pipe)
		m := outgoing(t, "", "user")
		m.Body = p
		s.send(m)
		_, _ = p.Write([]byte("beginning\r\n"))
		s.Settle()
		require.NoError(t, p.CloseWithError(errDisk))
		s.all(1)
		require.ErrorIs(t, s.results[0].Err, errDisk)
		if chunking {
			s.send(outgoing(t, "next", "user")) // the RSET before it ends the transaction
			s.all(2)
		}
		require.Equal(t, 1, s.rec.aborted)
		require.Zero(t, s.rec.open)
		_, err := p.Write([]byte("x"))
		var r *smtp.Reply
		require.ErrorAs(t, err, &r)
		require.Equal(t, 451, r.Code)
	}

	s := newSender(t, sim.Config{}, &smtp.Server{}, &smtp.Client{})
	p := new(smtp.Pipe)
	m := outgoing(t, "", "nobody")
	m.Body = p
	s.send(m)
	_, _ = p.Write(make([]byte, 100<<10))
	var told []error
	require.True(t, p.Wait(func(err error) { told = append(told, err) }))
	s.all(1)
	require.Len(t, told, 1)
	require.EqualError(t, told[0], "550 5.1.1 No such user here")
	require.Zero(t, p.Len())
	_, err := p.Write([]byte("x"))
	require.True(t, errors.Is(err, told[0]))
	require.False(t, p.Wait(nil))

	s = newSender(t, sim.Config{}, &smtp.Server{}, &smtp.Client{}) // the connection is lost
	p = new(smtp.Pipe)
	m.To[0].Local = "user"
	m.Body = p
	s.send(m)
	_, _ = p.Write(make([]byte, 100<<10))
	require.True(t, p.Wait(func(err error) { told = append(told, err) }))
	s.Until(s.c.Conn().Connected)
	s.c.Close()
	s.all(1)
	require.EqualError(t, told[1], "451 4.4.2 The connection was lost")
}

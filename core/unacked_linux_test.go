package core

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What the peer has not acknowledged is known, and less when it was read.
func TestKernelUnacked(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	server, err := ln.Accept()
	require.NoError(t, err)
	require.NoError(t, server.SetReadDeadline(time.Now().Add(10*time.Second)))
	conn, err := server.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	defer server.Close()
	sent, block := 0, make([]byte, 64<<10)
	require.NoError(t, conn.Control(func(fd uintptr) {
		s := &sysSocket{fd: int32(fd), kind: kindTCP}
		require.Zero(t, s.Unacked())
		for {
			n, err := s.Send(block)
			if err == ErrWouldBlock {
				break
			}
			require.NoError(t, err)
			sent += n
		}
		full := s.Unacked()
		require.Positive(t, full)
		require.LessOrEqual(t, full, sent)
		s.kind = kindUnix
		require.Zero(t, s.Unacked())
	}))
	_, err = io.CopyN(io.Discard, client, int64(sent))
	require.NoError(t, err)
	_, err = client.Write(block[:1]) // acknowledges what came before it
	require.NoError(t, err)
	_, err = server.Read(block)
	require.NoError(t, err)
	require.NoError(t, conn.Control(func(fd uintptr) {
		require.Zero(t, (&sysSocket{fd: int32(fd), kind: kindTCP}).Unacked())
		require.Zero(t, testing.AllocsPerRun(100, func() { (&sysSocket{fd: int32(fd), kind: kindTCP}).Unacked() }))
	}))
	require.Zero(t, (&sysSocket{fd: -1, kind: kindTCP}).Unacked())
	var _ unacked = (*sysSocket)(nil)
}

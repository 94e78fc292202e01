//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package room_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-go/parley/core"
	"github.com/parley-go/parley/protocols/room"
)

// TestKernelGroup: people on three loops that run at the same time hear everything, each speaker in order; the race detector
// looks on.
func TestKernelGroup(t *testing.T) {
	const people, says = 12, 20
	g, err := core.NewGroup(3, core.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer g.Close()
	house := room.New(g, room.Config{FloodBurst: -1, History: -1})
	ln, err := house.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- g.Run(context.Background()) }()

	var entered, all sync.WaitGroup
	entered.Add(people)
	talk := func(me int) error {
		here := sync.OnceFunc(entered.Done)
		defer here()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		in := bufio.NewScanner(c)
		fmt.Fprintf(c, "n-%d-x\n", me)
		for in.Scan() && !strings.Contains(in.Text(), "/quit leaves") {
		}
		here()
		entered.Wait()
		for i := range says {
			fmt.Fprintf(c, "%d %d\n", me, i)
		}
		var next [people]int
		for heard := 0; heard < (people-1)*says; heard++ {
			var who, i int
			for {
				if !in.Scan() {
					return fmt.Errorf("%d heard %d: %w", me, heard, errors.Join(in.Err(), net.ErrClosed))
				}
				if _, text, ok := strings.Cut(in.Text(), "> "); ok {
					if _, err := fmt.Sscan(text, &who, &i); err != nil {
						return err
					}
					break
				}
			}
			if i != next[who] {
				return fmt.Errorf("%d heard %d of %d, want %d", me, i, who, next[who])
			}
			next[who]++
		}
		fmt.Fprint(c, "/quit\n")
		for in.Scan() {
		}
		return in.Err()
	}
	errs := make([]error, people)
	for i := range people {
		all.Go(func() { errs[i] = talk(i) })
	}
	all.Wait()
	g.Shutdown(time.Second)
	require.NoError(t, <-ended)
	require.NoError(t, errors.Join(errs...))
	require.Zero(t, g.Stats().Panics)
}

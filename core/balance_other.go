//go:build darwin || dragonfly || netbsd || openbsd

package core

// Here SO_REUSEPORT lets sockets share an address, but one of them gets all connections: no balancer.

func balance(int, bool) error { return nil }
func balanced(int) error      { return nil }

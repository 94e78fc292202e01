//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package core

import "golang.org/x/sys/unix"

var backends = []backend{{"kqueue", newKqueue}, {"poll", newPoll}, {"select", newSelect}}

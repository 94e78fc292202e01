//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package core

var backends = []backend{{"kqueue", newKqueue}, {"poll", newPoll}, {"select", newSelect}}

package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"os"
	"strings"

	"github.com/parley-go/parley/protocols/smtp"
)

// auth is who may authenticate; nil if nobody may.
func (o *options) auth() (*smtp.ServerAuth, error) {
	lines := o.users
	if o.userFile != "" {
		f, err := os.Open(o.userFile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		for s := bufio.NewScanner(f); ; {
			if !s.Scan() {
				if err := s.Err(); err != nil {
					return nil, fmt.Errorf("%s: %w", o.userFile, err)
				}
				break
			}
			if line := strings.TrimSpace(s.Text()); line != "" && line[0] != '#' {
				lines = append(lines, line)
			}
		}
	}
	passwords := make(map[string]string)
	for i, line := range lines {
		user, password, ok := strings.Cut(line, ":")
		if !ok || user == "" || password == "" {
			return nil, fmt.Errorf("user %d of -auth and -auth-file: not of the form user:password", i+1)
		}
		passwords[user] = password
	}
	if len(passwords) == 0 {
		return nil, nil
	}
	return &smtp.ServerAuth{
		AllowInsecure: o.insecureAuth,
		Password: func(_ *smtp.Session, user, password string) error {
			known, ok := passwords[user]
			if !same(known, password) || !ok {
				return smtp.ErrCredentials
			}
			return nil
		},
		Secret: func(_ *smtp.Session, user string) (string, error) {
			if password, ok := passwords[user]; ok {
				return password, nil
			}
			return "", smtp.ErrCredentials
		},
	}, nil
}

// same takes as long whatever differs.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

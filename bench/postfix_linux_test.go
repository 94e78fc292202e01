package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// needPostfix returns Postfix's programs, or skips the test.
func needPostfix(t *testing.T) *postfix {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	pf, err := findPostfix(t.Context(), installed(), filepath.Join(cache, "parley-bench"))
	if err != nil {
		if os.Getenv(requireClients) != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return pf
}

// script writes a program.
func script(t *testing.T, path, text string) {
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o777))
}

func TestFindPostfixInstalled(t *testing.T) {
	dir, cache := t.TempDir(), filepath.Join(t.TempDir(), "cache")
	t.Setenv("PATH", "/nowhere")
	script(t, filepath.Join(dir, "smtp-source"), "echo >&2 usage: smtp-source; exit 1")
	_, err := findPostfix(t.Context(), []string{dir}, cache)
	require.EqualError(t, err, "there is no apt-get to get it with", "one of the two is not enough")

	script(t, filepath.Join(dir, "smtp-sink"), "echo >&2 usage: smtp-sink; exit 1")
	p, err := findPostfix(t.Context(), []string{t.TempDir(), dir}, cache)
	require.NoError(t, err)
	require.Equal(t, &postfix{source: filepath.Join(dir, "smtp-source"), sink: filepath.Join(dir, "smtp-sink")}, p)
	_, err = os.Stat(cache)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// The package is fetched once, and again when what is in the cache does not run.
func TestFindPostfixUnpacks(t *testing.T) {
	tools, cache := t.TempDir(), filepath.Join(t.TempDir(), "cache")
	t.Setenv("PATH", tools+":/usr/bin:/bin")
	script(t, filepath.Join(tools, "apt-get"), `echo a warning; : > postfix_1_all.deb`)
	script(t, filepath.Join(tools, "dpkg"), `
test "$1" = -x && test -f "$2" || exit 1
mkdir -p "$3/usr/sbin" "$3/usr/lib/postfix"
for p in smtp-source smtp-sink; do
	echo '#!/bin/sh' > "$3/usr/sbin/$p"
	echo 'test -d "$LD_LIBRARY_PATH" && echo usage: >&2; exit 1' >> "$3/usr/sbin/$p"
	chmod +x "$3/usr/sbin/$p"
done`)
	want := &postfix{
		source: filepath.Join(cache, "postfix/usr/sbin/smtp-source"),
		sink:   filepath.Join(cache, "postfix/usr/sbin/smtp-sink"),
		env:    []string{"LD_LIBRARY_PATH=" + filepath.Join(cache, "postfix/usr/lib/postfix")},
	}
	p, err := findPostfix(t.Context(), nil, cache)
	require.NoError(t, err)
	require.Equal(t, want, p)

	script(t, want.sink, "echo >&2 error while loading shared libraries; exit 127")
	p, err = findPostfix(t.Context(), nil, cache)
	require.NoError(t, err)
	require.Equal(t, want, p)

	script(t, filepath.Join(tools, "apt-get"), `exit 1`)
	p, err = findPostfix(t.Context(), nil, cache)
	require.NoError(t, err)
	require.Equal(t, want, p)

	left, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func TestFindPostfixFails(t *testing.T) {
	tools, cache := t.TempDir(), t.TempDir()
	t.Setenv("PATH", tools+":/usr/bin:/bin")
	script(t, filepath.Join(tools, "dpkg"), "")
	for _, c := range []struct{ apt, want string }{
		{"echo Reading package lists; echo E: Unable to locate package postfix; exit 100",
			"apt-get download: exit status 100: E: Unable to locate package postfix"},
		{"", "apt-get download left 0 packages"},
		{": > postfix.deb", "no such file or directory"}, // dpkg unpacks nothing
	} {
		script(t, filepath.Join(tools, "apt-get"), c.apt)
		_, err := findPostfix(t.Context(), nil, cache)
		require.ErrorContains(t, err, c.want)
		require.NotContains(t, err.Error(), "\n")
		left, err := os.ReadDir(cache)
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

func TestLeaveOutMail(t *testing.T) {
	var log strings.Builder
	m := &measurement{options: parsed(t), log: &log}
	cause := errors.New("there is no apt-get to get it with")
	t.Setenv(requireClients, "1")
	require.EqualError(t, m.leaveOutMail(cause), "no smtp-source and smtp-sink of Postfix: there is no apt-get to get it with")
	require.Equal(t, servers, m.servers)
	require.Empty(t, log.String())

	t.Setenv(requireClients, "")
	require.NoError(t, m.leaveOutMail(cause))
	require.Equal(t, "without smtp,smtpd,smtpmem: no smtp-source and smtp-sink of Postfix: there is no apt-get to get it with\n",
		log.String())
	for _, s := range m.scenarios {
		require.NotEqual(t, mail, s.kind)
	}
	for _, s := range m.servers {
		require.NotEqual(t, mail, s.kind)
	}
	require.Len(t, m.scenarios, len(scenarios)-3)
	require.Len(t, m.servers, len(servers)-3)
}

package http1

import "io"

// onceReader is a body that can be read once.
func onceReader(s string) io.Reader { return &once{s} }

type once struct{ rest string }

func (o *once) Read(p []byte) (int, error) {
	if o.rest == "" {
		return 0, io.EOF
	}
	n := copy(p, o.rest)
	o.rest = o.rest[n:]
	return n, nil
}

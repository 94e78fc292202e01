module github.com/parley-go/parley

go 1.26.0

require (
	github.com/smallnest/ringbuffer v0.0.0-20250317021400-0da97b586904
	github.com/stretchr/testify v1.12.1
	golang.org/x/sys v0.49.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect

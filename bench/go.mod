module github.com/parley-go/parley/bench

go 1.26.0

// What stands on Parley here is built with the checkout that it lies in.
replace github.com/parley-go/parley => ../

require (
	github.com/parley-go/parley v0.0.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/sys v0.49.0
)

require (
	github.com/smallnest/ringbuffer v0.0.0-20250317021400-0da97b586904 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
